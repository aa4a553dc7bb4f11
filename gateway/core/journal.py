"""What still has to go to disk, and how far the store is. Room: core. Pure.

One batch is in flight at a time; what comes meanwhile is the next one, so a fast store commits
every frame and a slow one batches. While the store is away the frames are kept up to a bound;
beyond it they are dropped, the ticks recorded as a gap, and the next batch starts from a keyframe
of the newest state: memory is bounded, and the history says where it has a hole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.core.counters import Counters
from gateway.core.gaps import Coming, GapTracker, never
from gateway.core.keyframes import SharedKeyframe
from gateway.core.ports import Mark
from gateway.limits import (
    JOURNAL_GAPS_MAX,
    JOURNAL_LET_GO_TOLD_MAX,
    JOURNAL_ROW_MESSAGES_MAX,
    JOURNAL_ROW_OVERHEAD_BYTES,
)
from gateway.wire.journal import Batch, Gap, JournalFrame, Tail, order_of

_TICK_MASK: Final = 0xFFFF_FFFF
# Without the keyword arguments of a NamedTuple's constructor: it is made for every message of every publisher.
_row: Final[Callable[[tuple[object, ...]], JournalFrame]] = partial(tuple.__new__, JournalFrame)
"""A row of a tuple of its fields, in their order: one is made for every message."""


class JournalBuffer:
    """Frames in, batches out. ``keyframe`` is called for the state's newest keyframe when one is due."""

    def __init__(
        self,
        keyframe: Callable[[float], SharedKeyframe],
        counters: Counters,
        *,
        next_seq: int,
        durable: Mark | None,
        keyframe_interval_s: float,
        bytes_max: int,
        tail: Tail | None = None,
    ) -> None:
        """``durable``: the newest that was recorded. ``tail``: how the recording ends, of which parts may be missing."""
        self._tracker, self.durable = _going_on(durable, tail)
        """Everything up to here is in the store."""
        self.coming: Coming = never
        """Asked before parts are given up: :meth:`gateway.core.gaps.GapTracker.decide`."""
        self.size_bytes = 0
        self._keyframe = keyframe
        self._counters = counters
        self._next_seq = next_seq
        self._interval_s = keyframe_interval_s
        self._bytes_max = bytes_max
        self._rows: list[JournalFrame] = []
        self._gaps: list[Gap] = []
        self._dropped: dict[int, tuple[int, int]] = {}
        self.let_go: list[Gap] = []
        """Of the durable mark's epoch: what was dropped below the mark, oldest first."""
        self.dropped_upto = -1
        """``epoch << 32 | tick`` of the newest message that was dropped, -1 before the first."""
        self._in_flight: Batch | None = None
        self._retry: Batch | None = None
        self._since: float | None = None
        self._in_flight_since: float | None = None
        self._keyframe_at = float("-inf")
        self._keyframe_due = True
        self._newest = -1
        """``epoch << 32 | tick`` of the newest message, -1 before the first."""
        self._marked = -1
        """The same of the newest batch's mark."""

    @property
    def next_seq(self) -> int:
        return self._next_seq

    @property
    def ready(self) -> bool:
        """True when :meth:`take_batch` would give a batch."""
        if self._in_flight is not None:
            return False
        return bool(self._retry or self._rows or self._gaps or self._dropped) or self.mark_is_behind

    @property
    def mark_is_behind(self) -> bool:
        """True where a batch without anything in it would move the durable mark: what was waited for has come, and
        brought nothing new."""
        return self._marked < self._newest and not self._tracker.awaits

    @property
    def empty(self) -> bool:
        """True when nothing waits and nothing is in flight: the store has everything."""
        return self._in_flight is None and not self.ready

    @property
    def oldest(self) -> float | None:
        """When the oldest message came that the store has not (``mono``); None where it has all. Those that
        were dropped count until their gap is recorded."""
        return self._since if self._in_flight_since is None else self._in_flight_since

    def has_room(self, message_bytes: int) -> bool:
        """True where a message of this length would be kept: who can wait with it waits until then. An
        empty journal takes any."""
        if self._dropped:
            return False
        return (
            not self.size_bytes
            or self.size_bytes + message_bytes + JOURNAL_ROW_OVERHEAD_BYTES <= self._bytes_max
        )

    @property
    def awaits(self) -> bool:
        """True while parts are missing that may still come."""
        return self._newest >= 0 and self._tracker.awaits

    @property
    def is_unsure(self) -> bool:
        """True while there may be gaps to tell before anything comes: call :meth:`note_gaps` before long."""
        return self._newest >= 0 and self._tracker.is_unsure

    def add(
        self,
        epoch: int,
        tick: int,
        part: int,
        parts: int,
        sent_at: int,
        message: bytes,
        mono: float,
        now_us: int,
    ) -> bool:
        """A message that the state took. Parts of one tick that follow each other share a row. False:
        others wait already, so whoever takes the batches has been told."""
        self.saw(epoch, tick, part, parts, mono)
        order, newest = epoch << 32 | tick, self._newest  # `order_of` in line: each message comes here
        if order > newest:
            self._newest = order
        self._counters.journal_frames += 1
        if self._since is None:
            self._since = mono
        size_bytes = self.size_bytes + len(message) + JOURNAL_ROW_OVERHEAD_BYTES
        # Once anything was dropped all is, until a batch has taken the gap along: frames behind a hole could not be
        # replayed.
        if (size_bytes > self._bytes_max and self.size_bytes) or self._dropped:
            self._drop(epoch, tick)
            return True
        self.size_bytes = size_bytes
        rows = self._rows
        is_first = not rows
        # Only the frame that came just before can go on: anything newer has a row of its own, without looking.
        if is_first or order > newest or not self._join(epoch, tick, message, now_us):
            rows.append(_row((self._next_seq, epoch, tick, now_us, sent_at, False, (message,))))
            self._next_seq += 1
        return is_first

    def saw(self, epoch: int, tick: int, part: int, parts: int, mono: float) -> None:
        """A message came, whether it brought anything new or not: it is not missing."""
        if epoch != self._tracker.epoch:
            # Its epoch is over: whatever of it is still on its way is refused from here on.
            self._gaps += self._tracker.finish()
            self._tracker = GapTracker(epoch)
        if self._tracker.saw(tick, part, parts, mono):
            self._counters.frames += 1

    def _join(self, epoch: int, tick: int, message: bytes, now_us: int) -> bool:
        """Put another part of the frame that came just before into its row, if it is one and has room there. The row's
        time is then this part's: nothing in a row may be younger than it says."""
        last = self._rows[-1]
        if (
            (last.epoch, last.tick) != (epoch, tick)
            or last.keyframe
            or len(last.messages) >= JOURNAL_ROW_MESSAGES_MAX
        ):
            return False
        received_us = max(last.received_at_us, now_us)
        self._rows[-1] = last._replace(messages=(*last.messages, message), received_at_us=received_us)
        return True

    def note_gaps(self, mono: float) -> None:
        """Enter the gaps that have become certain."""
        found = self._tracker.decide(mono, self.coming)
        if found:
            self._counters.gaps += len(found)
            self._gaps += found
        if len(self._gaps) > JOURNAL_GAPS_MAX:
            self._gaps = _spanning(self._gaps)

    def _drop(self, epoch: int, tick: int) -> None:
        """The bound is reached: what is buffered goes, and until the store is back so does what comes."""
        for row in self._rows:
            self._span(row.epoch, row.tick)
            self.size_bytes -= row.size_bytes + JOURNAL_ROW_OVERHEAD_BYTES * len(row.messages)
        self._counters.journal_dropped += len(self._rows) + 1
        if self._rows:
            self._next_seq = self._rows[0].seq  # they never left: the rows in the store stay without a hole
            self._rows.clear()
        self._span(epoch, tick)
        # Replay starts from a keyframe: the next row behind the hole must be one.
        self._keyframe_due = True

    def _span(self, epoch: int, tick: int) -> None:
        low, high = self._dropped.get(epoch, (tick, tick))
        self._dropped[epoch] = (min(low, tick), max(high, tick))
        self.dropped_upto = max(self.dropped_upto, order_of(epoch, tick))
        if len(self._dropped) > JOURNAL_GAPS_MAX:
            del self._dropped[min(self._dropped)]

    def take_batch(self, mono: float, now_us: int) -> Batch | None:
        """The next batch, if there is anything to write and none is in flight. Call :meth:`committed`
        or :meth:`failed` with it."""
        if not self.ready:
            return None
        # The same batch, with the same numbers: if it did get there the store finds its rows already written, and
        # nothing is there twice.
        if self._retry is not None:
            self._in_flight, self._retry = self._retry, None
            return self._in_flight
        self.note_gaps(mono)
        dropped: list[Gap] = []
        if self._dropped:
            dropped = [Gap(epoch, low, high, "dropped") for epoch, (low, high) in self._dropped.items()]
            self._dropped.clear()
        if self._newest >= 0 and (self._keyframe_due or mono - self._keyframe_at >= self._interval_s):
            self._add_keyframe(mono, now_us)
        # What waits longest is now in flight; what comes from here on begins to wait anew.
        self._in_flight_since, self._since = self._since, None
        self._in_flight = self._batch(tuple(self._rows), (*self._gaps, *dropped))
        # Remembered when it is taken, not when it is down: mark_is_behind asks whether anything is to be
        # said beyond it.
        if self._in_flight.epoch is not None and self._in_flight.tick is not None:
            self._marked = order_of(self._in_flight.epoch, self._in_flight.tick)
        # The bytes of the batch count until it is down: the bound is of memory, and it is still held.
        self._rows, self._gaps, self.size_bytes = [], [], self._in_flight.size_bytes
        return self._in_flight

    def _batch(self, rows: tuple[JournalFrame, ...], gaps: tuple[Gap, ...]) -> Batch:
        newest, size = self._newest, self.size_bytes
        if newest < 0:
            return Batch(rows, gaps, None, None, size)
        epoch, tick = newest >> 32, self._tracker.whole_up_to(newest & _TICK_MASK)
        return Batch(rows, gaps, epoch, tick, size) if tick >= 0 else Batch(rows, gaps, None, None, size)

    def _add_keyframe(self, mono: float, now_us: int) -> None:
        made = self._keyframe(mono)
        self._keyframe_at, self._keyframe_due = mono, False
        messages = tuple(made.messages)
        place = (self._next_seq, made.order >> 32, made.order & _TICK_MASK)
        self._rows.append(JournalFrame(*place, now_us, made.sent_at, True, messages))
        self.size_bytes += made.size_bytes + JOURNAL_ROW_OVERHEAD_BYTES * len(messages)
        self._next_seq += 1

    @property
    def in_flight(self) -> Batch | None:
        """The batch that was taken last, until its end is told."""
        return self._in_flight

    def committed(self, batch: Batch) -> None:
        """The store has it for good: the durable mark moves."""
        self._settle(batch)
        self._in_flight_since = None
        self.size_bytes -= batch.size_bytes
        if batch.epoch is None or batch.tick is None:
            return
        mark = Mark(batch.epoch, batch.tick)
        if self.durable is None or (mark.epoch, mark.tick) > (self.durable.epoch, self.durable.tick):
            if self.durable is None or mark.epoch > self.durable.epoch:
                self.let_go.clear()
            self.durable = mark
        self._remember_let_go(batch.gaps, mark.epoch)

    def _remember_let_go(self, gaps: tuple[Gap, ...], epoch: int) -> None:
        """Whoever hears of the durable mark hears of these with it; too many are told as wider ones."""
        let_go = self.let_go
        let_go += [gap for gap in gaps if gap.reason == "dropped" and gap.epoch == epoch]
        while len(let_go) > JOURNAL_LET_GO_TOLD_MAX:
            first, second = let_go[:2]
            upto = max(first.to_tick, second.to_tick)
            let_go[:2] = [Gap(epoch, min(first.from_tick, second.from_tick), upto, "dropped")]

    def failed(self, batch: Batch) -> None:
        """It may or may not be there: the same batch is given again."""
        self._settle(batch)
        self._counters.journal_failures += 1
        self._retry = batch

    def _settle(self, batch: Batch) -> None:
        if batch is not self._in_flight:
            raise ValueError("this batch is not the one in flight")
        self._in_flight = None


class Unjournalled(JournalBuffer):
    """Of a world whose frames come from the store: nothing goes there, and only which parts are missing is known."""

    def add(
        self,
        epoch: int,
        tick: int,
        part: int,
        parts: int,
        sent_at: int,
        message: bytes,
        mono: float,
        now_us: int,
    ) -> bool:
        """A message that the state took."""
        self.saw(epoch, tick, part, parts, mono)
        return False

    def saw(self, epoch: int, tick: int, part: int, parts: int, mono: float) -> None:
        super().saw(epoch, tick, part, parts, mono)
        self._gaps.clear()

    def note_gaps(self, mono: float) -> None:
        """They are in the store already."""
        super().note_gaps(mono)
        self._gaps.clear()


def _going_on(durable: Mark | None, tail: Tail | None) -> tuple[GapTracker, Mark | None]:
    """What watches from here on, and up to where nothing is missing that is not told as a gap."""
    if durable is None:
        return GapTracker(0), None
    if tail is None:
        return GapTracker(durable.epoch, durable.tick), durable
    tracker = GapTracker.going_on(durable.epoch, durable.tick, tail)
    whole = tracker.whole_up_to(durable.tick)
    return tracker, Mark(durable.epoch, whole) if whole >= 0 else None


def _spanning(gaps: list[Gap]) -> list[Gap]:
    """One gap for each epoch, over all of its own: too many to tell apart. Of too many epochs the newest."""
    spans: dict[int, Gap] = {}
    for gap in gaps:
        had = spans.get(gap.epoch, gap)
        low, high = min(had.from_tick, gap.from_tick), max(had.to_tick, gap.to_tick)
        spans[gap.epoch] = Gap(gap.epoch, low, high, "dropped")
    return [spans[epoch] for epoch in sorted(spans)][-JOURNAL_GAPS_MAX:]
