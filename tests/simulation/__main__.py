"""``python -m tests.simulation --seeds 10000``: simulate, and say how to repeat what failed."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.simulation.world import Simulation


def simulate(seed: int) -> Simulation:
    """Run one seed in a folder of its own, in memory where there is such a file system; what became of it."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=memory) as folder:
        simulation = Simulation(seed, Path(folder))
        simulation.run()
        return simulation


def command(seed: int) -> str:
    """What repeats this seed."""
    return f"python -m tests.simulation --seed {seed}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many (default 10000)")
    parser.add_argument("--first", type=int, default=0, help="from this seed on")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--failures", type=int, default=10, help="stop after so many (default 10)")
    asked = parser.parse_args()
    first, count = (asked.first, asked.seeds) if asked.seed is None else (asked.seed, 1)
    began, failed, done = time.monotonic(), list[int](), 0
    for seed in range(first, first + count):
        try:
            trace = simulate(seed).trace.hexdigest()
            if asked.seed is not None:
                print(f"seed {seed}: {trace}")
        except Exception:
            failed.append(seed)
            traceback.print_exc()
            print(f"seed {seed} failed; again: {command(seed)}\n", file=sys.stderr, flush=True)
        done += 1
        if len(failed) >= asked.failures:
            break
    seconds = time.monotonic() - began
    print(f"{done} seeds in {seconds:.0f} s, {len(failed)} failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
