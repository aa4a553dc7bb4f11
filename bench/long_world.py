"""Days of one world in simulated time: does its memory grow? Room: bench.

``python -m bench.long_world [--hours 24] [--hz 20] [--records 12] [--seed 1] [--no-trace] [--json]``

The real rules (``core/``: world, fan-out, readers, journal) and the real client's sender live through
:mod:`bench.world_life`: eight readers that come and go over links that lose up to 20 %, budgets, TCP,
links that stand still, reconnects and new epochs, a removal and a key that never was each second, a
store that is slow or away. At the end of each hour everything comes to rest, the publisher's, the
gateway's and a client's records are compared, and the memory is read: what ``tracemalloc`` counts
(left out by ``--no-trace``, which halves the time), blocks that Python holds, and the process's.

Exit 1 where the last third's least memory is above that of the first (from hour 2 on) by more than the
bounds below, or records differ. 24 hours at 20 Hz are 1.7 million frames.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.world_life import SEATS, Life
from gateway.limits import KIB, MIB

GROWTH_BYTES_MAX = 512 * KIB
"""Of what Python allocated: spare slots (see below) and a few readers' sets more, as the dice fall. One forgotten
integer per second of 22 hours would be 2.5 MB."""
GROWTH_BLOCKS_MAX = 8_000
"""The same, in allocated blocks: one more or fewer of ``SLOTS_SPARE_MAX`` spare slots, two blocks each."""
GROWTH_RSS_BYTES_MAX = 4 * MIB
"""Of the process: the allocator's arenas come and go by the megabyte."""
FIRST_HOUR = 2


@dataclass(frozen=True)
class Hour:
    """Memory after one hour; ``traced_bytes`` 0 where nothing was traced."""

    hour: int
    traced_bytes: int
    blocks: int
    rss_bytes: int
    records: int
    tombstones: int
    differences: int
    frames: int
    took_s: float


def rss_bytes() -> int:
    """This process's memory, from ``/proc``."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def read(life: Life, hour: int, took_s: float) -> Hour:
    """The memory now, after what is garbage was collected."""
    gc.collect()
    state = life.world.state
    return Hour(
        hour,
        tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0,
        sys.getallocatedblocks(),
        rss_bytes(),
        len(state),
        len(state.tombstones),
        life.differences(),
        life.world.counters.received,
        round(took_s, 1),
    )


def growth(hours: Sequence[Hour], what: str) -> int:
    """How much more the last third of the hours that count holds than the first, least against least: what
    grows raises the least, what is let go from time to time (spare slots, readers' sets) does not."""
    counted = [getattr(hour, what) for hour in hours if hour.hour >= FIRST_HOUR]
    few = min(max(1, len(counted) // 3), len(counted) // 2)
    return min(counted[-few:]) - min(counted[:few]) if few else 0


def faults(hours: Sequence[Hour]) -> list[str]:
    """What is wrong, in sentences; empty: nothing grew, and everybody has the publisher's records."""
    bounds = {
        "traced_bytes": GROWTH_BYTES_MAX,
        "blocks": GROWTH_BLOCKS_MAX,
        "rss_bytes": GROWTH_RSS_BYTES_MAX,
    }
    found = [
        f"{what} grew by {grown:,} from hour {FIRST_HOUR} on; allowed are {bound:,}"
        for what, bound in bounds.items()
        if (grown := growth(hours, what)) > bound
    ]
    found += [f"hour {h.hour}: {h.differences} records differ" for h in hours if h.differences]
    return found


def live(hours: int, hz: int, records: int, seed: int) -> list[Hour]:
    """The whole run; a line on standard error each hour."""
    life, found = Life(seed, hz, records), []
    for hour in range(1, hours + 1):
        began = time.perf_counter()
        life.run(3_600 * hz)
        life.settle()
        found.append(read(life, hour, time.perf_counter() - began))
        print(
            " ".join(f"{name}={value}" for name, value in asdict(found[-1]).items()),
            file=sys.stderr,
            flush=True,
        )
    return found


def main() -> int:
    """Entry. Exit 0: nothing grew."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.long_world", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--hours", type=int, default=24, help="simulated hours")
    parser.add_argument("--hz", type=int, default=20, help="frames a second")
    parser.add_argument("--records", type=int, default=12, help="live records, half of which move in a frame")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-trace", action="store_true", help="without tracemalloc: half the time")
    parser.add_argument("--json", action="store_true", help="the hours as JSON on standard output")
    args = parser.parse_args()
    if not args.no_trace:
        tracemalloc.start()
    began = time.perf_counter()
    hours = live(args.hours, args.hz, args.records, args.seed)
    wrong = faults(hours)
    if args.json:
        print(json.dumps([asdict(hour) for hour in hours]))
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    print(
        f"{args.hours} hours, {hours[-1].frames:,} messages, {len(SEATS)} seats, in {time.perf_counter() - began:.0f} s: "
        + ("memory did not grow" if not wrong else "FAILED")
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
