"""The link checked against itself: what was asked for is what packets get, or no report is made.

Room: bench/link. Three measurements with real packets: round trip (UDP echo), loss (every packet
that the sink misses is one that the model dropped), rate (bytes a second through the bottleneck).
The loss *model* is checked apart over a million packets, because 5 % of a loss of 0.5 % can't be
told from chance in the packets that a check of a few seconds can send.
``python -m bench.link.check`` also measures the link's own capacity.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from bench.link import Link
from bench.link.netem import NetemNetwork
from bench.link.netem import unavailable_because as no_netem_because
from bench.link.network import Host, LinkError, Network, unavailable_because
from gateway.link.model import Direction, LinkPath, Shaper

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
    network: Link, *, packets: int, size_bytes: int, per_second: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Blast from host 0 to host 1; answers (what the sender says, what the sink counted)."""
    receiver = _start(network.hosts[1], "sink")
    sent = _run(network.hosts[0], "blast", network.hosts[1].address, packets, size_bytes, per_second)
    out, _ = receiver.communicate(timeout=60)
    return sent, json.loads(out)


def round_trip(network: Link, *, count: int = 100, interval_s: float = 0.01) -> dict[str, Any]:
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


Opener = Callable[[Sequence[LinkPath]], Link]
"""Makes the link that is checked: the carrier's, or netem's."""


def by_carrier(paths: Sequence[LinkPath]) -> Link:
    """Our own link."""
    return Network(paths)


def by_netem(paths: Sequence[LinkPath]) -> Link:
    """The kernel's."""
    return NetemNetwork(list(paths))


def check_round_trip(path: LinkPath, opened: Opener = by_carrier) -> Finding:
    """The median round trip of 100 packets against the two delays."""
    asked = path.up.delay_ms + path.down.delay_ms
    lossless = LinkPath(replace(path.up, loss=0.0, burst=None), replace(path.down, loss=0.0, burst=None))
    with opened([lossless]) as network:
        measured = round_trip(network)["rtt_ms_median"]
    return Finding("round trip, ms", asked, measured or -1.0, _near(asked, measured or -1.0, RTT_FLOOR_MS))


def check_loss(path: LinkPath, *, packets: int = 10_000, opened: Opener = by_carrier) -> Finding:
    """Packets that the sink misses against packets that the model dropped: equal, to 0.1 % of all.

    netem does not tell what it dropped: there the share is compared with what was asked, to within 5 % or four
    standard deviations of chance.
    """
    rule = replace(path.down, rate_kbps=0.0)
    with opened([LinkPath(path.up, rule)]) as network:
        sent, received = through(network, packets=packets, size_bytes=100, per_second=5_000)
    missed = sent["sent"] - received["packets"]
    dropped = network.report.get("dropped_loss")
    if dropped is not None:
        return Finding("packets lost", dropped, missed, abs(missed - dropped) <= packets // 1000)
    asked = rule.mean_loss * sent["sent"]
    chance = 4 * math.sqrt(asked * (1 - rule.mean_loss))
    return Finding("packets lost", asked, missed, _near(asked, missed, chance))


def check_rate(path: LinkPath, *, seconds: float = 2.0, opened: Opener = by_carrier) -> Finding:
    """Bytes a second that come through a bottleneck offered one and a half times its rate."""
    rule = path.down
    size_bytes = 1000
    per_second = 1.5 * rule.rate_kbps * 125 / size_bytes
    with opened([LinkPath(path.up, replace(rule, loss=0.0, burst=None, jitter_ms=0.0))]) as network:
        _, got = through(
            network, packets=int(per_second * seconds), size_bytes=size_bytes, per_second=per_second
        )
    measured = (got["ip_bytes"] - size_bytes) / got["seconds"] / 125
    return Finding("rate, kbit/s", rule.rate_kbps, measured, _near(rule.rate_kbps, measured, 0.0))


def check(path: LinkPath, *, netem: bool = False) -> list[Finding]:
    """Every check that applies to this path. A caller refuses to report if one is not ``ok``."""
    opened = by_netem if netem else by_carrier
    findings = [check_round_trip(path, opened)]
    if path.down.mean_loss > 0.0:
        findings += [] if netem else [check_model(path.down)]
        findings.append(check_loss(path, opened=opened))
    if path.down.rate_kbps > 0.0:
        findings.append(check_rate(path, opened=opened))
    return findings


def capacity(*, seconds: float = 2.0, size_bytes: int = 1000, opened: Opener = by_carrier) -> dict[str, Any]:
    """Packets a second that the link moves without losing any, and the delay that it adds (µs).

    Offered load doubles until more than 0.1 % is lost; the last lossless rate is the answer.
    """
    best = {"packets_per_s": 0.0, "late_us_mean": 0.0}
    offered = 5_000.0
    while offered <= 160_000:
        with opened([LinkPath.symmetric(Direction())]) as network:
            sent, got = through(
                network, packets=int(offered * seconds), size_bytes=size_bytes, per_second=offered
            )
        reached = sent["sent"] / sent["seconds"]
        if got["packets"] < 0.999 * sent["sent"]:
            break
        best = {"packets_per_s": round(reached), "late_us_mean": network.report.get("late_us_mean", 0.0)}
        if reached < 0.9 * offered:
            break
        offered *= 1.5
    with opened([LinkPath.symmetric(Direction())]) as network:
        best["added_rtt_us"] = round(1000 * round_trip(network)["rtt_ms_median"], 1)
    return best


def _near(asked: float, measured: float, floor: float) -> bool:
    return abs(measured - asked) <= max(TOLERANCE * asked, floor)


def main() -> int:
    """Entry: check, then measure the capacity. ``--netem``: the kernel's link instead of ours."""
    parser = argparse.ArgumentParser(prog="python -m bench.link.check", description=__doc__)
    parser.add_argument("--netem", action="store_true", help="the kernel's netem instead of our own carrier")
    args = parser.parse_args()
    reason = unavailable_because() or (no_netem_because() if args.netem else None)
    if reason:
        print(reason, file=sys.stderr)
        return 1
    findings = check(LinkPath.symmetric(Direction(delay_ms=25.0, loss=0.02)), netem=args.netem)
    findings += check(LinkPath.symmetric(Direction(delay_ms=10.0, rate_kbps=8_000.0)), netem=args.netem)
    for finding in findings:
        print(finding)
    print("capacity:", json.dumps(capacity(opened=by_netem if args.netem else by_carrier)))
    return 0 if all(f.ok for f in findings) else 1


if __name__ == "__main__":
    raise SystemExit(main())
