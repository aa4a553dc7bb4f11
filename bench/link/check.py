"""The link checked against itself: what was asked for is what packets get, or no report is made.

Room: bench/link. Three measurements with real packets: round trip (UDP echo), loss (every packet
that the sink misses is one that the model dropped), rate (bytes a second through the bottleneck).
The loss *model* is checked apart over a million packets, because 5 % of a loss of 0.5 % can't be
told from chance in the packets that a check of a few seconds can send.
``python -m bench.link.check`` also measures the link's own capacity.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from bench.link.model import Direction, Path, Shaper
from bench.link.network import Host, LinkError, Network, unavailable_because

TOLERANCE = 0.05
RTT_FLOOR_MS = 1.0
"""Round trips are compared with at least this much room: scheduling noise is absolute, not relative."""
MODEL_PACKETS = 1_000_000
ROOT = FilePath(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison: what was asked, what was measured, and whether it is within tolerance."""

    what: str
    asked: float
    measured: float
    ok: bool

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "NOT AS ASKED"
        return f"{self.what}: asked {self.asked:g}, measured {self.measured:.4g} ({verdict})"


def _probe(*words: object) -> list[str]:
    return [sys.executable, "-m", "bench.link.probe", *map(str, words)]


def _start(host: Host, *words: object) -> subprocess.Popen[str]:
    process: subprocess.Popen[str] = host.popen(_probe(*words), stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise LinkError(f"the link's probe {words[0]} did not start in {host.name}")
    return process


def _run(host: Host, *words: object) -> dict[str, Any]:
    done = host.run(_probe(*words), capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise LinkError(f"the link's probe failed: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def through(
    network: Network, *, packets: int, size_bytes: int, per_second: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Blast from host 0 to host 1; answers (what the sender says, what the sink counted)."""
    receiver = _start(network.hosts[1], "sink")
    sent = _run(network.hosts[0], "blast", network.hosts[1].address, packets, size_bytes, per_second)
    out, _ = receiver.communicate(timeout=60)
    return sent, json.loads(out)


def round_trip(network: Network, *, count: int = 100, interval_s: float = 0.01) -> dict[str, Any]:
    """Echoed packets from host 1 to host 0 and back."""
    echo = _start(network.hosts[0], "echo")
    try:
        return _run(network.hosts[1], "ping", network.hosts[0].address, count, interval_s)
    finally:
        echo.kill()
        echo.wait()


def check_model(rule: Direction, *, seed: int = 7) -> Finding:
    """The loss model over a million packets, with no kernel in between."""
    shaper = Shaper(replace(rule, rate_kbps=0.0), seed)
    for _ in range(MODEL_PACKETS):
        shaper.admit(100, 0.0)
    measured = shaper.dropped_loss / MODEL_PACKETS
    return Finding("loss of the model", rule.mean_loss, measured, _near(rule.mean_loss, measured, 0.0001))


def check_round_trip(path: Path) -> Finding:
    """The median round trip of 100 packets against the two delays."""
    asked = path.up.delay_ms + path.down.delay_ms
    lossless = Path(replace(path.up, loss=0.0, burst=None), replace(path.down, loss=0.0, burst=None))
    with Network([lossless]) as network:
        measured = round_trip(network)["rtt_ms_median"]
    return Finding("round trip, ms", asked, measured or -1.0, _near(asked, measured or -1.0, RTT_FLOOR_MS))


def check_loss(path: Path, *, packets: int = 10_000) -> Finding:
    """Packets that the sink misses against packets that the model dropped: equal, to 0.1 % of all."""
    rule = replace(path.down, rate_kbps=0.0)
    with Network([Path(path.up, rule)]) as network:
        sent, received = through(network, packets=packets, size_bytes=100, per_second=5_000)
    missed = sent["sent"] - received["packets"]
    dropped = network.report["dropped_loss"]
    return Finding("packets lost", dropped, missed, abs(missed - dropped) <= packets // 1000)


def check_rate(path: Path, *, seconds: float = 2.0) -> Finding:
    """Bytes a second that come through a bottleneck offered one and a half times its rate."""
    rule = path.down
    size_bytes = 1000
    per_second = 1.5 * rule.rate_kbps * 125 / size_bytes
    with Network([Path(path.up, replace(rule, loss=0.0, burst=None, jitter_ms=0.0))]) as network:
        _, got = through(
            network, packets=int(per_second * seconds), size_bytes=size_bytes, per_second=per_second
        )
    measured = (got["ip_bytes"] - size_bytes) / got["seconds"] / 125
    return Finding("rate, kbit/s", rule.rate_kbps, measured, _near(rule.rate_kbps, measured, 0.0))


def check(path: Path) -> list[Finding]:
    """Every check that applies to this path. A caller refuses to report if one is not ``ok``."""
    findings = [check_round_trip(path)]
    if path.down.mean_loss > 0.0:
        findings += [check_model(path.down), check_loss(path)]
    if path.down.rate_kbps > 0.0:
        findings.append(check_rate(path))
    return findings


def capacity(*, seconds: float = 2.0, size_bytes: int = 1000) -> dict[str, Any]:
    """Packets a second that the carrier moves without losing any, and the delay that it adds (µs).

    Offered load doubles until more than 0.1 % is lost; the last lossless rate is the answer.
    """
    best = {"packets_per_s": 0.0, "late_us_mean": 0.0}
    offered = 5_000.0
    while offered <= 160_000:
        with Network([Path.symmetric(Direction())]) as network:
            sent, got = through(
                network, packets=int(offered * seconds), size_bytes=size_bytes, per_second=offered
            )
        reached = sent["sent"] / sent["seconds"]
        if got["packets"] < 0.999 * sent["sent"]:
            break
        best = {"packets_per_s": round(reached), "late_us_mean": network.report["late_us_mean"]}
        if reached < 0.9 * offered:
            break
        offered *= 1.5
    with Network([Path.symmetric(Direction())]) as network:
        best["added_rtt_us"] = round(1000 * round_trip(network)["rtt_ms_median"], 1)
    return best


def _near(asked: float, measured: float, floor: float) -> bool:
    return abs(measured - asked) <= max(TOLERANCE * asked, floor)


def main() -> int:
    """Check the usual paths and print the capacity; exit 1 if anything is not as asked."""
    reason = unavailable_because()
    if reason:
        print(f"no link here: {reason}")
        return 1
    findings = check(Path.symmetric(Direction(delay_ms=25.0, loss=0.02)))
    findings += check(Path.symmetric(Direction(delay_ms=10.0, rate_kbps=8_000.0)))
    for finding in findings:
        print(finding)
    print("capacity:", json.dumps(capacity()))
    return 0 if all(f.ok for f in findings) else 1


if __name__ == "__main__":
    raise SystemExit(main())
