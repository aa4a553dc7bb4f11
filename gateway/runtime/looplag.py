"""How late the event loop is: what every session on it waits for. Room: runtime."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from gateway.limits import LOOP_LOOK_S

BOUNDS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class LoopLag:
    """Asks to be called every ``LOOP_LOOK_S`` and notes how much later it is. Ended by :meth:`stop`."""

    def __init__(self) -> None:
        self.counts: list[int] = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + LOOP_LOOK_S
        self._timer = self._loop.call_at(self._due, self._look)

    @property
    def bounds_s(self) -> Sequence[float]:
        """What :attr:`counts` is counted by."""
        return BOUNDS_S

    def _look(self) -> None:
        now = self._loop.time()
        late = max(0.0, now - self._due)
        self.counts[bisect_left(BOUNDS_S, late)] += 1
        self.seconds += late
        # From now, not from when it was due: after a pause it would be called many times at once, and count one
        # pause many times.
        self._due = now + LOOP_LOOK_S
        self._timer = self._loop.call_at(self._due, self._look)

    def stop(self) -> None:
        """Look no more. Idempotent."""
        self._timer.cancel()
