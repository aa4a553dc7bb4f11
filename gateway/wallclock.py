"""The wall clock, as everything recorded is stamped with it. Any room but the pure ones may ask it."""

from __future__ import annotations

import time


def now_us() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1_000
