"""How late a publisher's frames are in the store: every one, also those that are not there yet. Room: client. Pure.

Source: ``docs/FRAMES.md``, ``durable`` and its fields ``commits`` and ``dropped``. Times are seconds of a monotonic
clock, so that a step of the wall clock is no lag.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from gateway import limits
from gateway.client.counts import EverySample

_Ticks = list[tuple[int, int]]


class FrameLags:
    """Frames sent and not known to be stored; the others are counted in ``ms`` and ``ticks`` (how many newer
    frames had been sent by then)."""

    def __init__(self, ms: EverySample, ticks: EverySample) -> None:
        self.ms = ms
        self.ticks = ticks
        self._waiting: deque[tuple[int, float]] = deque()
        self._dropped: _Ticks = []
        self.dropped = 0
        """Ticks that the gateway says it let go, of all epochs."""

    def __len__(self) -> int:
        return len(self._waiting)

    def sent(self, tick: int, mono: float) -> None:
        """A frame has left, or should have."""
        if len(self._waiting) >= limits.CLIENT_LAG_TICKS_MAX:
            self._count(self._waiting.popleft()[1], mono, limits.CLIENT_LAG_TICKS_MAX)
        self._waiting.append((tick, mono))

    def stored(self, tick: int, fields: dict[str, object], mono: float) -> None:
        """A ``durable`` notice of this epoch."""
        self._note_dropped(_pairs(fields.get("dropped")))
        for upto, ms_ago in [*_pairs(fields.get("commits")), (tick, 0)]:
            at = mono - ms_ago / 1e3
            newer = sum(1 for _ in self._sent_by(at))
            while self._waiting and self._waiting[0][0] <= min(upto, tick):
                self._count(self._waiting.popleft()[1], at, newer := newer - 1)

    def settle(self, mono: float) -> int:
        """Nothing more will be heard of what waits: it counts as it stands. Answers how many those are."""
        left = len(self._waiting)
        while self._waiting:
            self._count(self._waiting.popleft()[1], mono, len(self._waiting))
        self._dropped = []
        return left

    def so_far(self, mono: float) -> tuple[EverySample, EverySample]:
        """(milliseconds, ticks) of all frames, those that wait with what they have waited."""
        now = FrameLags(EverySample(), EverySample())
        now.ms.merge(self.ms)
        now.ticks.merge(self.ticks)
        now._waiting = self._waiting.copy()
        now.settle(mono)
        return now.ms, now.ticks

    def _sent_by(self, at: float) -> Iterable[int]:
        return (tick for tick, sent in self._waiting if sent <= at)

    def _count(self, sent: float, at: float, newer: int) -> None:
        self.ms.add((at - sent) * 1e3)
        self.ticks.add(max(newer, 0))

    def _note_dropped(self, dropped: _Ticks) -> None:
        """The spans of this epoch, of which some may have become wider ones since."""
        before = sum(last - first + 1 for first, last in self._dropped)
        self._dropped = dropped or self._dropped
        self.dropped += max(0, sum(last - first + 1 for first, last in self._dropped) - before)


def _pairs(value: object) -> _Ticks:
    """A list of pairs of whole numbers; what else a peer says is nothing."""
    if not isinstance(value, list):
        return []
    return [
        (one[0], one[1])
        for one in value
        if isinstance(one, list) and len(one) == 2 and all(type(n) is int and n >= 0 for n in one)
    ]
