"""The times of a recording without the steps of the clocks that made them. Room: core. Pure.

A frame's time is by a wall clock, of the gateway or of the publisher, which somebody may set while it is
recorded. Ticks know better: where the clock says that a tick took hours, or less than nothing, the rate of the
ticks before rules.
"""

from __future__ import annotations

from typing import Final

from gateway.limits import REPLAY_WAIT_US_MAX, STEADY_US

_LEARNS: Final = 1 / 16
"""How fast the rate follows: a second of ticks at 16 Hz."""

Place = tuple[int, int]
"""(epoch, tick)."""


class SteadyTime:
    """Give it the rows of a recording as they are shown, forwards or backwards. Microseconds throughout."""

    def __init__(self) -> None:
        self._place: Place | None = None
        self._raw_us = 0
        self._steady_us = 0
        self._per_tick_us: float | None = None

    @property
    def now_us(self) -> int:
        """The steady time of the last row."""
        return self._steady_us

    @property
    def shift_us(self) -> int:
        """What to add to a steady time about now for the recorded one."""
        return self._raw_us - self._steady_us

    def start(self, place: Place, raw_us: int) -> None:
        """It begins, or goes on after a jump, here: steady and recorded time are the same."""
        self._place, self._raw_us, self._steady_us = place, raw_us, raw_us

    def follow(self, place: Place, raw_us: int, *, backwards: bool = False) -> int:
        """The steady time of the next row."""
        if self._place is None:
            self.start(place, raw_us)
            return raw_us
        sign = -1 if backwards else 1
        passed_us = sign * (raw_us - self._raw_us)
        is_same_epoch = place[0] == self._place[0]
        ticks = sign * (place[1] - self._place[1]) if is_same_epoch else 0
        self._steady_us += sign * self._wait_us(passed_us, ticks, is_same_epoch)
        self._place, self._raw_us = place, raw_us
        return self._steady_us

    def _wait_us(self, passed_us: int, ticks: int, is_same_epoch: bool) -> int:
        if 0 <= passed_us <= REPLAY_WAIT_US_MAX:
            if ticks > 0:
                self._learn(passed_us / ticks)
            return passed_us
        rate_us = self._per_tick_us
        if rate_us is None or not is_same_epoch or rate_us > STEADY_US:
            return min(max(passed_us, 0), REPLAY_WAIT_US_MAX)
        return min(abs(passed_us), round(rate_us * max(ticks, 0)))

    def _learn(self, per_tick_us: float) -> None:
        known = self._per_tick_us
        self._per_tick_us = per_tick_us if known is None else known + (per_tick_us - known) * _LEARNS
