"""Whether a reader should be told everything twice: when its path loses, and only then. Room: core. Pure.

A lost frame costs its reader a whole tick. Where loss is being seen the same newest values go again
:data:`REDUNDANCY_AGAIN_S` later, or a parity message at once where that mends enough, so that hardly any loss is noticed. What must not
happen is that a path loses *because* it is full and gets more for it. So nothing is said twice

* while the round trips stand above the smallest that is known: a queue grows, and the loss is its
  (:class:`_Queue`);
* where so much is lost that no radio explains it: then the path is full though its queue is too
  short to be seen, or polices. What was lost less once nothing was said twice must not begin again at
  once, so each such pause is twice as long as the one before;
* beyond the reader's budget and the congestion window, which must have room for the next frame, too.
"""

from __future__ import annotations

import math
from enum import Enum

from gateway.core.ports import RoundTrips
from gateway.limits import (
    REDUNDANCY_BESIDE_LOSSES_MIN,
    REDUNDANCY_BESIDE_SHARE,
    REDUNDANCY_CALM_S,
    REDUNDANCY_FORGOTTEN_LOSSES,
    REDUNDANCY_GONE_SHARE,
    REDUNDANCY_HEAVY_LOSSES_MIN,
    REDUNDANCY_HEAVY_SHARE,
    REDUNDANCY_LEAST_S,
    REDUNDANCY_MEMORY_S,
    REDUNDANCY_PARITY_SHARE,
    REDUNDANCY_PAUSE_S_FIRST,
    REDUNDANCY_PAUSE_S_MAX,
    REDUNDANCY_PROVEN_S,
    REDUNDANCY_QUEUE_S,
    REDUNDANCY_QUEUE_SHARE,
    REDUNDANCY_SEEN_SHARE,
    REDUNDANCY_SPARE_PACKETS,
    REDUNDANCY_STANDING_S,
)


class LossVerdict(Enum):
    """What a path's losses ask for."""

    QUIET = "quiet"
    """No loss is being seen."""
    AGAIN = "again"
    """Say it again."""
    CONGESTED = "congested"
    """Loss is being seen, and is the path's being full."""


def affordable(
    size_bytes: int, next_bytes: int, room_bytes: float, level_bytes: float, packet_bytes: int
) -> bool:
    """Whether so much may go besides what must: congestion window and budget have room for the next frame after it, of
    ``next_bytes``, for that must not wait for what was only said twice. And the window is not full then: a flow that
    fills its window is taken for one that wants more, and gives way at the first loss."""
    needed_bytes = size_bytes + next_bytes
    return (
        needed_bytes + REDUNDANCY_SPARE_PACKETS * packet_bytes <= room_bytes and needed_bytes <= level_bytes
    )


class _Least:
    """The smallest of what was seen within the last one or two spans."""

    __slots__ = ("_before", "_ends_at", "_now", "_span_s")

    def __init__(self, span_s: float, mono: float, first: float = math.inf) -> None:
        self._span_s = span_s
        self._ends_at = mono + span_s
        self._before, self._now = first, math.inf

    def see(self, value: float, mono: float) -> float:
        """Take one value; answers the smallest."""
        if mono >= self._ends_at:
            # Two spans in place of all values: the smallest of between one and two spans, for two numbers.
            self._before = self._now if mono < self._ends_at + self._span_s else math.inf
            self._now, self._ends_at = math.inf, mono + self._span_s
        self._now = min(self._now, value)
        return min(self._now, self._before)


class _Queue:
    """Whether round trips stand above the smallest that is known."""

    __slots__ = ("_calm_at", "_least", "_standing")

    def __init__(self, least_s: float, mono: float) -> None:
        self._least = _Least(REDUNDANCY_LEAST_S, mono, least_s)
        self._standing = _Least(REDUNDANCY_STANDING_S, mono)
        self._calm_at = -math.inf

    def is_calm(self, latest_s: float, mono: float) -> bool:
        """Take the newest round trip. True: there is no queue, and was none lately."""
        least = self._least.see(latest_s, mono)
        standing = self._standing.see(latest_s, mono)
        # The smallest of the last while, not the newest: one late round trip is a scheduler, a smallest that rose
        # is a queue.
        if standing - least > max(REDUNDANCY_QUEUE_S, REDUNDANCY_QUEUE_SHARE * least):
            self._calm_at = mono + REDUNDANCY_CALM_S
        return mono >= self._calm_at


class LossWatch:
    """One reader's losses, from the first one on. ``sent`` is the number of messages that it was sent so far."""

    __slots__ = (
        "_at",
        "_began_at",
        "_beside",
        "_beside_new",
        "_is_seen",
        "_last",
        "_lost",
        "_lost_new",
        "_pause_s",
        "_paused_until",
        "_queue",
        "_sent",
        "_sent_before",
    )

    def __init__(self, sent: int) -> None:
        self._at: float | None = None
        self._sent = float(sent)
        self._sent_before = sent
        self._lost = 0.0
        self._lost_new = 0
        self._last: float = math.nan
        self._beside = 0.0
        self._beside_new = 0
        self._is_seen = False
        self._queue: _Queue | None = None
        self._paused_until = -math.inf
        self._pause_s = REDUNDANCY_PAUSE_S_FIRST
        self._began_at: float | None = None

    def lost(self, number: int = -2) -> None:
        """One more message was lost, the one of this number, if that is known. When, the next :meth:`look` says."""
        self._lost_new += 1
        # Neighbours are lost together where a queue overflows, or by a burst of the radio's: a parity then has two
        # to make again, and can one.
        self._beside_new += number == self._last + 1
        self._last = number

    def doubt(self, count: int) -> None:
        """So many of those were only guessed to be lost: a peer that is slow to answer is no path that loses."""
        self._lost_new = max(0, self._lost_new - count)

    @property
    def share(self) -> float:
        """Of what was sent lately, lost."""
        # Losses are told late, and the sums fade: for a moment there may be more of them than was sent.
        return self._lost / max(self._sent, self._lost, 1.0)

    @property
    def parity_mends(self) -> bool:
        """Whether hardly a frame loses more than the one message that a parity makes again."""
        if self.share > REDUNDANCY_PARITY_SHARE:
            return False
        return (
            self._lost < REDUNDANCY_BESIDE_LOSSES_MIN or self._beside <= REDUNDANCY_BESIDE_SHARE * self._lost
        )

    @property
    def is_over(self) -> bool:
        """Nothing was lost for so long that the watch may be forgotten; but not in a pause, nor soon after one."""
        at = self._at
        return (
            at is not None
            and self._lost < REDUNDANCY_FORGOTTEN_LOSSES
            and not self._lost_new
            and at > self._paused_until
        )

    def look(self, sent: int, round_trips: RoundTrips | None, mono: float, since_s: float) -> LossVerdict:
        """What to do with what was just sent. ``round_trips`` as the link knows them, or None; ``since_s``: within how
        long all was sent."""
        self._count(sent, mono, since_s)
        is_calm = round_trips is None or self._is_calm(round_trips, mono)
        # Two thresholds, or a share that stands at one of them would switch with every message.
        self._is_seen = self.share >= (REDUNDANCY_GONE_SHARE if self._is_seen else REDUNDANCY_SEEN_SHARE)
        if not self._is_seen:
            self._began_at = None
            return LossVerdict.QUIET
        if self._is_heavy(mono) or not is_calm or mono < self._paused_until:
            self._began_at = None
            return LossVerdict.CONGESTED
        if self._began_at is None:
            self._began_at = mono
        elif mono - self._began_at > REDUNDANCY_PROVEN_S:
            self._pause_s = REDUNDANCY_PAUSE_S_FIRST
        return LossVerdict.AGAIN

    def _count(self, sent: int, mono: float, since_s: float) -> None:
        # The first look: of what was sent since the reader came only as much counts as would be left of it by now.
        if self._at is None:
            kept = REDUNDANCY_MEMORY_S / max(REDUNDANCY_MEMORY_S, since_s)
        else:
            kept = math.exp((self._at - mono) / REDUNDANCY_MEMORY_S)
        self._at = mono
        self._sent = self._sent * kept + (sent - self._sent_before)
        self._lost = self._lost * kept + self._lost_new
        self._beside = self._beside * kept + self._beside_new
        self._sent_before, self._lost_new, self._beside_new = sent, 0, 0

    def _is_calm(self, round_trips: RoundTrips, mono: float) -> bool:
        if self._queue is None:
            self._queue = _Queue(round_trips.least_s, mono)
        return self._queue.is_calm(round_trips.latest_s, mono)

    def _is_heavy(self, mono: float) -> bool:
        """Too much is lost to say anything twice. Where that began while things were said twice, pause."""
        if self._lost < REDUNDANCY_HEAVY_LOSSES_MIN or self.share < REDUNDANCY_HEAVY_SHARE:
            return False
        if self._began_at is not None:
            self._paused_until = mono + self._pause_s
            # Doubled, as any retry against a full path: what was wrong about it once may be so again.
            self._pause_s = min(2 * self._pause_s, REDUNDANCY_PAUSE_S_MAX)
        return True
