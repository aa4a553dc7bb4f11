"""Two thousand readers of one world on two cores, and what a home pays for an edge that has a thousand of them. Room: bench.

``python -m bench.crowd [--readers 2000] [--hz 20] [--seconds 10] [--json]`` (two minutes on a quiet machine, most of it handshakes): a
store and two gateways, one on each of two cores; one publisher, frames of 1 KB; lean readers (:mod:`bench.lean`), half of them at the
home and half at the edge, which share the cores with the gateways where there are no others. Told are the frames that came of those
that were due, how old what is shown is, and each gateway's share of its core; and, before the home has readers of its own, how many
frames it hands on a tick while the edge has twenty readers and while it has a thousand (asked: one session's, whatever the edge has;
what one session costs beside a reader's tells ``python -m bench.edges``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.ages import merged
from bench.edges import Site, published, site, windows
from bench.payload import records_for
from bench.processes import Station
from bench.scale import WARMUP_S, WORLD, Window

FRAME_BYTES = 1_024
READERS, HZ, SECONDS, FEW = 2_000, 20, 10.0, 20
DELIVERED_MIN = 0.99
"""Of the frames that were due: all, but for what a reader saw of the window's first and last tick."""
ONE_SESSION_MAX = 1.5
"""Frames a tick: one, and what one more lost frame repairs."""
CONNECT_S = 600.0
CORES = sorted(os.sched_getaffinity(0))


@contextlib.contextmanager
def reading(url: dict[str, Any], readers: int, seconds: float) -> Iterator[Station]:
    """So many readers, connected; they are not measured yet."""
    with Station(spread=True) as station:
        told = {"seconds": seconds, "warmup_s": WARMUP_S, "records": records_for(FRAME_BYTES), "windows": 1}
        station.begin(
            "read", {**told, "readers": readers, "door": "webtransport", "lean": True, "target": url}
        )
        station.wait_ready(CONNECT_S)
        yield station


def handed_on(window: Window, hz: int) -> float:
    """Frames a tick."""
    return window.delivered / window.seconds / hz


def measured(gateways: Site, readers: int, hz: int, seconds: float) -> dict[str, Any]:
    """See above."""
    for gateway, core in zip(gateways, (CORES[0], CORES[-1]), strict=True):
        _pin(gateway.server.pid, core)
    home, edge = (gateway.target(WORLD) for gateway in gateways)
    half = readers // 2
    with published(gateways.home, FRAME_BYTES, CONNECT_S, hz=hz):
        with reading(edge, FEW, seconds):
            time.sleep(WARMUP_S)
            few, _ = windows(gateways, FRAME_BYTES, seconds)
        began = time.monotonic()
        with reading(edge, half, seconds) as far:
            time.sleep(WARMUP_S)
            many, _ = windows(gateways, FRAME_BYTES, seconds)
            with reading(home, half, seconds) as near:
                connected_s = time.monotonic() - began - seconds
                for station in (far, near):
                    station.go()
                time.sleep(WARMUP_S)
                both = windows(gateways, FRAME_BYTES, seconds)
                results = [station.result(CONNECT_S) for station in (near, far)]
    seen = [result["frames_seen"] / (result["seconds"] * hz * half) for result in results]
    return {
        "readers": 2 * half,
        "hz": hz,
        "connected_s": connected_s,
        "delivered": dict(zip(("home", "edge"), seen, strict=True)),
        "age_p99_ms": [merged([result["histogram"]]).quantile_ms(0.99) for result in results],
        "cores": [window.cpu_s / window.seconds for window in both],
        "load_cores": [result["cpu_share"] for result in results],
        "handed_on": {str(FEW): handed_on(few, hz), str(half): handed_on(many, hz)},
        "home_core": {str(FEW): few.cpu_s / few.seconds, str(half): many.cpu_s / many.seconds},
    }


def _pin(pid: int, core: int) -> None:
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task), {core})


def main() -> int:
    """Entry."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.crowd",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--readers", type=int, default=READERS)
    parser.add_argument("--hz", type=int, default=HZ)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with site("--connections-per-address-max", str(max(16, 2 * args.readers))) as gateways:
        told = measured(gateways, args.readers, args.hz, args.seconds)
    print(json.dumps(told) if args.json else _text(told))
    is_one = max(told["handed_on"].values()) < ONE_SESSION_MAX
    return 0 if min(told["delivered"].values()) >= DELIVERED_MIN and is_one else 1


def _text(told: dict[str, Any]) -> str:
    shares = ", ".join(f"{share:.1%} at the {where}" for where, share in told["delivered"].items())
    ages = " and ".join(f"{age:.0f}" for age in told["age_p99_ms"])
    cores = " and ".join(f"{share:.0%}" for share in told["cores"])
    load = " and ".join(f"{share:.0%}" for share in told["load_cores"])
    lines = [
        f"{told['readers']} readers, {FRAME_BYTES} bytes at {told['hz']} Hz, half at the home and half at an edge, each gateway on one core; "
        f"connected within {told['connected_s']:.0f} s",
        f"  frames that came of those that were due: {shares} (asked: all; held: {DELIVERED_MIN:.0%})",
        f"  age of what they show, p99: {ages} ms; of it {1e3 / told['hz']:.0f} pass between two frames",
        f"  of its core a gateway uses {cores}; the readers themselves {load} of one",
    ]
    for readers, frames in told["handed_on"].items():
        share = told["home_core"][readers]
        lines.append(
            f"  while the edge has {readers} readers and the home none, the home hands on {frames:.2f} frames a tick (asked: one session's, 1), "
            f"and uses {share:.1%} of its core"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
