"""Which ticks are whole, and which never will be. Room: core. Pure.

A frame travels as several messages, any of which may be lost or late. A tick is *partial* when
some of its parts never came, *unseen* when its number never came though the publisher counts by
a smaller step. Both are given :data:`GAP_WAIT_S` to come late; then they are gaps. A tick whose parts keep coming, as
those of a large frame on its stream do for seconds, is not late.

A publisher may count by more than one (every other tick of 60 Hz at 30 frames a second), so what lies between two of
its first ticks is no gap until its step is known. The durable mark does not wait for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.limits import GAP_COMING_S, GAP_DECIDE_S, GAP_STEP_FRAMES, GAP_WAIT_S, GAPS_PENDING_MAX
from gateway.wire.journal import Gap, Tail

_LONG_AGO: Final = float("-inf")
Hole = tuple[int, int, float]


class _Partial:
    """A tick of which some parts have come, the last one at ``since``."""

    __slots__ = ("parts", "seen", "since")
    since: float

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.seen: set[int] = set()


Coming = Callable[[float, bool], bool]


def never(mono: float, is_newest: bool) -> bool:
    """Nothing is on its way."""
    return False


class GapTracker:
    """Watches one epoch's ticks go by; :meth:`decide` gives the gaps that have become certain."""

    __slots__ = (
        *("_follows_on", "_found", "_newest", "_settled", "_step", "_steps_seen", "_undecided"),
        *("epoch", "holes", "partial"),
    )

    def __init__(self, epoch: int, after: int | None = None) -> None:
        """``after``: the newest tick that the store has of the epoch, if any: what comes next should follow it."""
        self.epoch = epoch
        self._newest = after
        self.partial: dict[int, _Partial] = {}
        """Ticks of which parts are missing that may still come."""
        self._settled: dict[int, None] = {}
        self.holes: list[tuple[int, int, float]] = []
        """Ticks that never came yet: first, last, and since when (``mono``)."""
        self._found: list[Gap] = []
        self._undecided: list[tuple[int, int, float]] = []
        """Holes that nothing will fill any more, of a publisher whose step is not known."""
        self._step = 0
        """By how much the publisher counts; 0: not known yet."""
        self._steps_seen: list[int] = []
        self._follows_on = after is not None
        """Until the first tick after what the store has: how far that lies ahead says nothing of the step."""

    @classmethod
    def going_on(cls, epoch: int, tick: int, tail: Tail) -> GapTracker:
        """For an epoch that was recorded up to ``tick``, and ends as ``tail`` tells. What is missing there was on its
        way to a gateway that has ended: it will not come, and is a gap at the next :meth:`decide`."""
        tracker = cls(epoch)
        for of, part, parts in tail.messages:
            tracker.saw(of, part, parts, _LONG_AGO)
        if (
            tracker._newest is not None and tracker._newest < tick
        ):  # a keyframe tells of more, whose frames were dropped
            tracker.holes.append((tracker._newest + 1, tick, _LONG_AGO))
        tracker._forget(tail.gaps)
        tracker._newest, tracker._follows_on = tick, True
        return tracker

    def _forget(self, known: Sequence[Gap]) -> None:
        """These gaps were told before."""
        for gap in known:
            for tick in [tick for tick in self.partial if gap.from_tick <= tick <= gap.to_tick]:
                del self.partial[tick]
                self._settle(tick)
            self.holes = _without(self.holes, gap)
            self._found = [found for found in self._found if found != gap]

    def saw(self, tick: int, part: int, parts: int, mono: float) -> bool:
        """A message of ``tick`` came: part ``part`` of ``parts`` (0: not known). True: the first of its tick."""
        newest, is_first = self._newest, True
        if newest is None:
            self._newest = tick
        elif tick > newest:
            self._went_on(tick - newest, tick, mono)
            self._newest = tick
        else:
            is_first = bool(self.holes) and self._fill(tick)
        if parts > 1:
            self._part(tick, part, parts, mono)
        return is_first

    def _part(self, tick: int, part: int, parts: int, mono: float) -> None:
        partial = self.partial.get(tick)
        if partial is None:
            if tick in self._settled:
                return
            partial = self.partial[tick] = _Partial(parts)
            # The oldest is given up, and so becomes a gap that is told: bounded memory must not be silent loss.
            if len(self.partial) > GAPS_PENDING_MAX:
                self._give_up(next(iter(self.partial)))
        # A part that comes twice is no sign that the others are on their way.
        if part not in partial.seen:
            partial.seen.add(part)
            partial.since = mono
        if len(partial.seen) >= partial.parts:
            self.partial.pop(tick, None)
            self._settle(tick)

    def _settle(self, tick: int) -> None:
        """What is still to come of this tick is a duplicate, or too late."""
        self._settled[tick] = None
        if len(self._settled) > GAPS_PENDING_MAX:
            # A dict as an ordered set: the oldest is the first.
            del self._settled[next(iter(self._settled))]

    def _went_on(self, jump: int, tick: int, mono: float) -> None:
        """Forward by ``jump`` to ``tick``: learn the step, and remember what is missing."""
        if self._follows_on:
            self._follows_on = False
        elif not self._step:
            self._learn(jump)
        # It counts by less than was thought: from here on that is its step.
        if self._step and jump <= self._step:
            self._step = jump
        elif jump > 1:
            self.holes.append((tick - jump + 1, tick - 1, mono))
            self._bound_holes()

    def _learn(self, jump: int) -> None:
        """The smallest of the first steps is the publisher's; none is smaller than 1."""
        self._steps_seen.append(jump)
        if jump == 1 or len(self._steps_seen) == GAP_STEP_FRAMES:
            self._decide()

    def _decide(self) -> None:
        # One jump alone says nothing: that it is known to count by one errs on the side of telling a gap.
        self._step = min(self._steps_seen) if len(self._steps_seen) > 1 else 1
        undecided, self._undecided = self._undecided, []
        for hole in undecided:
            self._close_hole(hole)

    def _fill(self, tick: int) -> bool:
        for at, (first, last, since) in enumerate(self.holes):
            if first <= tick <= last:
                # What is left of the hole keeps its time: a late tick says nothing of those beside it.
                rest = [(first, tick - 1, since), (tick + 1, last, since)]
                self.holes[at : at + 1] = [hole for hole in rest if hole[0] <= hole[1]]
                self._bound_holes()
                if not self._step:  # a late one tells as much of the step as one in its turn
                    self._learn(min(tick - first, last - tick) + 1)
                return True
        return False

    def _bound_holes(self) -> None:
        if len(self.holes) > GAPS_PENDING_MAX:
            self._close_hole(self.holes.pop(0))

    def decide(self, mono: float, coming: Coming = never) -> list[Gap]:
        """The gaps that are certain by now, each told once. ``coming(mono, is_newest)``: whether what began by then,
        of the newest tick or an earlier one, may be on its way in a form that is not lost."""
        if not (self.holes or self.partial or self._found or self._undecided):
            return []
        while self.holes and _is_over(self.holes[0][2], mono, False, coming):
            self._close_hole(self.holes.pop(0))
        newest = self._newest
        # A copy: giving one up takes it out.
        for tick, partial in list(self.partial.items()):
            if _is_over(partial.since, mono, tick == newest, coming):
                self._give_up(tick)
        if self._undecided and mono - self._undecided[0][2] > GAP_DECIDE_S:
            self._decide()
        found, self._found = self._found, []
        return found

    def finish(self) -> list[Gap]:
        """The epoch has ended: what is missing will not come."""
        # At the end of time nothing is on its way any more.
        return self.decide(float("inf"))

    @property
    def is_unsure(self) -> bool:
        """True while :meth:`decide` may have something to tell, though nothing comes any more."""
        return bool(self.partial or self.holes or self._undecided)

    @property
    def awaits(self) -> bool:
        """True while something that is missing may still come."""
        return bool(self.partial or self.holes)

    def whole_up_to(self, tick: int) -> int:
        """The newest tick at or below ``tick`` below which nothing is still awaited."""
        if not self.awaits:
            return tick
        awaited = [*self.partial, *(first for first, _, _ in self.holes)]
        return min(tick, min(awaited) - 1)

    def _close_hole(self, hole: tuple[int, int, float]) -> None:
        first, last, _ = hole
        if not self._step:
            self._undecided.append(hole)  # one at most for each of the frames that the step is learnt from
        elif last - first + 1 >= self._step:
            self._found.append(Gap(self.epoch, first, last, "unseen"))

    def _give_up(self, tick: int) -> None:
        del self.partial[tick]
        self._settle(tick)
        self._found.append(Gap(self.epoch, tick, tick, "partial"))


def _is_over(since: float, mono: float, is_newest: bool, coming: Coming) -> bool:
    """Whether nothing more is waited for of what was last heard of at ``since``."""
    waited_s = mono - since
    return waited_s > GAP_WAIT_S and (waited_s > GAP_COMING_S or not coming(since + GAP_WAIT_S, is_newest))


def _without(holes: Sequence[Hole], gap: Gap) -> list[Hole]:
    """The holes less what the gap tells."""
    rest: list[Hole] = []
    for first, last, since in holes:
        if gap.to_tick < first or last < gap.from_tick:
            rest.append((first, last, since))
            continue
        if first < gap.from_tick:
            rest.append((first, gap.from_tick - 1, since))
        if gap.to_tick < last:
            rest.append((gap.to_tick + 1, last, since))
    return rest
