"""What a grant costs a frame, and what holding a view back costs a reader: CPU of the gateway, by turns. Room: bench.

``python -m bench.guarded``: one publisher at 60 Hz and as many WebTransport readers as are asked for, at a gateway
without keys, at one that asks for tokens, and as delayed readers of the first. Each turn is a gateway of its own; turns
alternate, so that a busy machine makes all cases dearer alike. One JSON line a case.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.gateway import Gateway
from bench.payload import records_for
from bench.processes import Station
from gateway.runtime.access.signing import SigningKey

HZ = 60
WARMUP_S = 1.0
SLACK_S = 60.0
DELAY_S = 2.0
CASES = ("open", "granted", "delayed")


@contextlib.contextmanager
def _gateway(case: str, folder: Path) -> Iterator[tuple[Gateway, dict[str, Any]]]:
    if case != "granted":
        with Gateway(folder) as gateway:
            yield gateway, gateway.target("bench")
        return
    key = SigningKey.generate("EdDSA", "bench")
    key.write(folder / "keys")
    token = key.sign({"exp": int(time.time()) + 3_600, "mv": {"sub": ["bench"], "pub": ["bench"]}})
    with Gateway(folder, extra=("--auth-keys", str(folder / "keys"))) as gateway:
        yield gateway, {**gateway.target("bench"), "token": token}


def turn(case: str, readers: int, seconds: float, frame_bytes: int) -> dict[str, float]:
    """CPU microseconds of the gateway: a published frame without readers, and a delivered one."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateway, target = stack.enter_context(_gateway(case, folder))
        publisher, reader = stack.enter_context(Station()), stack.enter_context(Station())
        common = {
            "seconds": seconds,
            "warmup_s": WARMUP_S,
            "records": records_for(frame_bytes),
            "target": target,
        }
        publisher.begin("publish", {**common, "hz": HZ, "door": "webtransport", "steady": True})
        publisher.wait_ready()
        publisher.go()
        time.sleep(WARMUP_S)
        alone_s = _cpu_s(gateway, seconds)
        if case == "delayed":
            common["target"] = {**target, "delay_s": DELAY_S}
        reader.begin(
            "read", {**common, "readers": readers, "door": "webtransport", "lean": True, "windows": 1}
        )
        reader.wait_ready()
        time.sleep(WARMUP_S + (DELAY_S if case == "delayed" else 0.0))
        reader.go()
        time.sleep(WARMUP_S)
        both_s = _cpu_s(gateway, seconds)
        read = reader.result(seconds + SLACK_S)
        delivered = read["frames_seen"] / read["seconds"] * seconds
        return {
            "published_us": 1e6 * alone_s / (HZ * seconds),
            "delivered_us": 1e6 * (both_s - alone_s) / delivered if delivered else float("nan"),
            "delivered_percent": 100 * delivered / (HZ * seconds * readers),
        }


def _cpu_s(gateway: Gateway, seconds: float) -> float:
    before_s = gateway.server.cpu_s()
    time.sleep(seconds)
    return gateway.server.cpu_s() - before_s


def main() -> None:
    """The medians of each case, and the spread."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--frame-bytes", type=int, default=1_024)
    args = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    for _ in range(args.turns):
        for case in CASES:
            found[case].append(turn(case, args.readers, args.seconds, args.frame_bytes))
    for case, turns in found.items():
        line: dict[str, Any] = {"case": case, "readers": args.readers, "turns": args.turns}
        for name in ("published_us", "delivered_us", "delivered_percent"):
            values = sorted(one[name] for one in turns)
            line[name] = round(statistics.median(values), 1)
            line[f"{name}_range"] = [round(values[0], 1), round(values[-1], 1)]
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
