"""A recording, followed as it is written: the state of a moment, then each row after it, once. Room: store. Blocks.

One reading takes what came within a stretch of time, so that whoever shows it some seconds later seldom has to read.
Keyframes are passed over unless something is missing before them: they say what the rows before have said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import apsw

from gateway.errors import MalformedMessage
from gateway.store.world import reading
from gateway.store.world.history import History
from gateway.store.world.past import horizon
from gateway.store.world.reading import ORDER_MAX
from gateway.store.world.state import Replayed, StoredState
from gateway.wire.framecodec import FrameDecoder
from gateway.wire.journal import order_of

_KEYFRAME_BEFORE: Final = "SELECT seq FROM main.keyframes WHERE seq <= ? ORDER BY seq DESC LIMIT 1"
_NEWEST_BY: Final = "SELECT seq FROM main.keyframes WHERE +received_at <= ? ORDER BY seq DESC LIMIT 1"
_DROPPED_SINCE: Final = "SELECT 1 FROM gaps WHERE (epoch, to_tick) >= (?, ?) AND reason = 'dropped' LIMIT 1"


class ShownRow(NamedTuple):
    """Messages to be shown, and when they came (µs since 1970). None: a keyframe that need not be."""

    received_at_us: int
    messages: tuple[bytes, ...]


class Stretch(NamedTuple):
    """Rows in their order. ``more``: ``now``: of the time that was asked for; ``later``: of a later time; ``none``: the
    recording ends here so far."""

    rows: list[ShownRow]
    more: Literal["now", "later", "none"]


class TailReader:
    """One reader's place in a recording. Call :meth:`begin`, then :meth:`next` again and again, each with the
    history on its thread."""

    def __init__(self) -> None:
        self._seq = 0
        self._decoder = FrameDecoder()
        self._is_holed = False
        """A row is missing, or could not be unpacked: the next keyframe says what it said."""
        self._keyframe = 0
        """``epoch << 32 | tick`` of the last keyframe."""

    def begin(self, history: History, until_us: int) -> StoredState:
        """The state of what had come by ``until_us`` (empty: nothing had); :meth:`next` goes on after it."""

        def find(connection: apsw.Connection) -> StoredState:
            last = horizon(connection, until_us)[0]
            replayed = Replayed(history.make_state())
            start = connection.execute(_KEYFRAME_BEFORE, (last,)).get if last >= 0 else None
            first = reading.first_row(connection)
            # Row 0 is a row like any other: `or` would take it for none.
            self._seq = start if start is not None else 0 if first is None else first.seq
            for seq, codec, body in self._packed(connection, last):
                self._seq = seq + 1
                try:
                    replayed.apply(self._decoder.unpack(codec, body))
                except MalformedMessage:
                    self._is_holed = True
            return replayed.settle()

        return history.source.read(find)

    def _packed(self, connection: apsw.Connection, last: int) -> Iterator[tuple[int, int, bytes]]:
        query = "SELECT seq, epoch, tick, keyframe, codec, body FROM frames WHERE seq BETWEEN ? AND ? ORDER BY seq"
        for seq, epoch, tick, keyframe, codec, body in connection.execute(query, (self._seq, last)):
            if keyframe:
                self._keyframe = order_of(epoch, tick)
            yield seq, codec, body

    def next(self, history: History, until_us: int, rows_max: int, bytes_max: int) -> Stretch:
        """The rows that had come by ``until_us`` and were not given yet: at most so many, and of so many bytes unless
        it is one. Whatever stands before a row that had come, had come."""
        return history.source.read(lambda connection: self._next(connection, until_us, rows_max, bytes_max))

    def _next(self, connection: apsw.Connection, until_us: int, rows_max: int, bytes_max: int) -> Stretch:
        rows: list[ShownRow] = []
        size, upto = 0, -1
        for row in reading.packed_rows(connection, self._seq):
            seq, _, _, received_us, *_ = row
            # A clock that was set back gives later rows earlier times, and the other way round: a keyframe
            # that had come says that all before it had come too.
            if received_us > until_us and seq > upto:
                upto = connection.execute(_NEWEST_BY, (until_us,)).get or -1
                if seq > upto:
                    return Stretch(rows, "later")
            messages = self._taken(connection, row)
            rows.append(ShownRow(received_us, messages))
            size += sum(map(len, messages))
            if len(rows) >= rows_max or size >= bytes_max:
                return Stretch(rows, "now")
        return Stretch(rows, "none")

    def _taken(
        self, connection: apsw.Connection, row: tuple[int, int, int, int, int, int, int, bytes]
    ) -> tuple[bytes, ...]:
        """The messages that a row adds."""
        seq, epoch, tick, _, _, keyframe, codec, body = row
        if seq != self._seq:
            # What follows may be packed against the row that is missing: a decoder that knows none refuses
            # it, in place of unpacking it wrongly.
            self._is_holed, self._decoder = True, FrameDecoder()
        self._seq = seq + 1
        try:
            unpacked = self._decoder.unpack(codec, body)
            if not keyframe:
                return tuple(unpacked.messages())
            before, self._keyframe = self._keyframe, order_of(epoch, tick)
            # A gap that the journal recorded leaves no hole in the numbers of rows.
            is_needed = self._is_holed or self._has_dropped(connection, before)
            self._is_holed = False
            return tuple(unpacked.messages()) if is_needed else ()
        except MalformedMessage:
            self._is_holed = True
            return ()

    @staticmethod
    def _has_dropped(connection: apsw.Connection, since: int) -> bool:
        since = min(since, ORDER_MAX)
        return connection.execute(_DROPPED_SINCE, (since >> 32, since & 0xFFFF_FFFF)).get is not None
