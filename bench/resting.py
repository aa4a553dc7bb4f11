"""A gateway that nobody uses: how long until it is ready, and how much memory it holds. Room: bench.

``python -m bench.resting [--runs 5] [--settle 2] [--json]``: starts ``mvgateway serve`` on a store of its own over and
over. Told are the seconds from the start of the process to its line ``ready`` (asked: below 1.5 s), for the first start,
which makes certificates and a store, and for later ones; and the resident memory ``--settle`` seconds after it (asked:
below 90 MB). Exit 1: missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.gateway import Gateway

READY_S_MAX = 1.5
RESTING_MB_MAX = 90.0
MB = 1_000_000


def started(folder: Path, settle_s: float) -> tuple[float, float]:
    """One start: seconds until ready, and MB when it has settled."""
    began = time.perf_counter()
    with Gateway(folder) as gateway:
        ready_s = time.perf_counter() - began
        time.sleep(settle_s)
        return ready_s, gateway.server.rss_bytes() / MB


def main() -> int:
    """Entry."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.resting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=5, help="starts after the first (default 5)")
    parser.add_argument("--settle", type=float, default=2.0, help="seconds before the memory is read")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first_s, _ = started(Path(folder), 0.0)
        runs = [started(Path(folder), args.settle) for _ in range(args.runs)]
    times_s, sizes_mb = [run[0] for run in runs], [run[1] for run in runs]
    if args.json:
        print(json.dumps({"first_s": first_s, "ready_s": times_s, "resting_mb": sizes_mb}))
    else:
        print(f"first start: ready after {first_s:.2f} s")
        shown = f"{median(times_s):.2f} s ({min(times_s):.2f} to {max(times_s):.2f})"
        print(f"later starts: ready after {shown}, asked below {READY_S_MAX} s")
        shown = f"{median(sizes_mb):.0f} MB ({min(sizes_mb):.0f} to {max(sizes_mb):.0f})"
        print(f"resting memory: {shown}, asked below {RESTING_MB_MAX:.0f} MB")
    return 0 if median(times_s) < READY_S_MAX and median(sizes_mb) < RESTING_MB_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
