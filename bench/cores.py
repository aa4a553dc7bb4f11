"""Which cores the measured server and the load are pinned to. Room: bench.

The server under measurement has the first core to itself (every relay and every store the same), the load generators
have the others. On one core nothing is pinned. The link's carrier is not pinned: it goes before both.
"""

from __future__ import annotations

import os

ALL = sorted(os.sched_getaffinity(0))


def server_cores() -> frozenset[int] | None:
    """Where a server under measurement runs; None: anywhere."""
    return frozenset(ALL[:1]) if len(ALL) > 1 else None


def load_cores() -> frozenset[int] | None:
    """Where load generators run; None: anywhere."""
    return frozenset(ALL[1:]) if len(ALL) > 1 else None


def described() -> str:
    """For the record of a run."""
    if len(ALL) < 2:
        return "not pinned: one core"
    return f"servers on core {ALL[0]}, load on {', '.join(map(str, ALL[1:]))}, link not pinned"
