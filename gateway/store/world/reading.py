"""SQL that reads a recording: rows in order, where to start, what is missing. Room: store.

Functions of a connection, within its transaction; they serve a world and a film alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import apsw

from gateway.wire.framecodec import FrameDecoder
from gateway.wire.journal import Gap, JournalFrame, order_of

TICK_MASK: Final = 0xFFFF_FFFF
ORDER_MAX: Final = (1 << 63) - 1


class RowHead(NamedTuple):
    """A row without its body."""

    seq: int
    epoch: int
    tick: int
    received_at_us: int

    @property
    def order(self) -> int:
        return order_of(self.epoch, self.tick)


_HEAD_OF: Final = "SELECT seq, epoch, tick, received_at FROM frames "
_KEYFRAME_OF: Final = "SELECT seq, epoch, tick, received_at FROM keyframes "


def _head(connection: apsw.Connection, query: str, bindings: tuple[int, ...] = ()) -> RowHead | None:
    row = connection.execute(query, bindings).fetchone()
    return None if row is None else RowHead(*row)


def first_row(connection: apsw.Connection) -> RowHead | None:
    return _head(connection, _HEAD_OF + "ORDER BY seq LIMIT 1")


def last_row(connection: apsw.Connection) -> RowHead | None:
    return _head(connection, _HEAD_OF + "ORDER BY seq DESC LIMIT 1")


def keyframe_at_tick(connection: apsw.Connection, epoch: int, tick: int) -> RowHead | None:
    """The newest keyframe row at or before (epoch, tick)."""
    # The table of keyframes, of one row a second, and not the frames, of which an index by tick would cost
    # each commit a page.
    order = "WHERE (epoch, tick) <= (?, ?) ORDER BY epoch DESC, tick DESC, seq DESC LIMIT 1"
    return _head(connection, _KEYFRAME_OF + order, (epoch, tick))


def keyframe_at_time(connection: apsw.Connection, at_us: int) -> RowHead | None:
    """The newest keyframe row received at or before ``at_us``."""
    order = "WHERE received_at <= ? ORDER BY received_at DESC, seq DESC LIMIT 1"
    return _head(connection, _KEYFRAME_OF + order, (at_us,))


def last_keyframe(connection: apsw.Connection) -> RowHead | None:
    return _head(connection, _KEYFRAME_OF + "ORDER BY seq DESC LIMIT 1")


def keyframe_at_seq(connection: apsw.Connection, seq: int) -> RowHead | None:
    """The newest keyframe row up to row ``seq``."""
    return _head(connection, _KEYFRAME_OF + "WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (seq,))


def packed_rows(
    connection: apsw.Connection, from_seq: int
) -> Iterator[tuple[int, int, int, int, int, int, int, bytes]]:
    """The rows from ``from_seq`` on, as they are stored."""
    query = (
        "SELECT seq, epoch, tick, received_at, sent_at, keyframe, codec, body FROM frames "
        "WHERE seq >= ? ORDER BY seq"
    )
    yield from connection.execute(query, (from_seq,))


def rows(
    connection: apsw.Connection, from_seq: int, decoder: FrameDecoder | None = None
) -> Iterator[JournalFrame]:
    """The rows from ``from_seq`` on, unpacked. ``from_seq`` must stand alone (a keyframe, or the
    first row), or ``decoder`` must have unpacked the row before it."""
    decoder = decoder or FrameDecoder()
    for seq, epoch, tick, received, sent, keyframe, codec, body in packed_rows(connection, from_seq):
        messages = tuple(decoder.decode(codec, body))
        yield JournalFrame(seq, epoch, tick, received, sent, bool(keyframe), messages)


def gaps_between(
    connection: apsw.Connection, from_order: int, to_order: int, limit: int, *, overlapping: bool = False
) -> list[Gap]:
    """Gaps that begin in (epoch, tick) ``from_order`` to ``to_order``, both included, in order;
    ``overlapping``: also those that began before and reach into it."""
    low, high = (from_order >> 32, from_order & TICK_MASK), (to_order >> 32, to_order & TICK_MASK)
    query = (
        # Row values compare as pairs, and the primary key serves them (https://sqlite.org/rowvalue.html).
        f"SELECT epoch, from_tick, to_tick, reason FROM gaps WHERE (epoch, {'to' if overlapping else 'from'}_tick) "
        ">= (?, ?) AND (epoch, from_tick) <= (?, ?) ORDER BY epoch, from_tick LIMIT ?"
    )
    return [Gap(*row) for row in connection.execute(query, (*low, *high, limit))]


def is_gap(connection: apsw.Connection, epoch: int, first: int, last: int) -> bool:
    """True where ``gaps`` says of all these ticks that they were dropped."""
    query = "SELECT 1 FROM gaps WHERE epoch = ? AND from_tick <= ? AND to_tick >= ? AND reason = 'dropped' LIMIT 1"
    return connection.execute(query, (epoch, first, last)).get is not None


def gaps_before(connection: apsw.Connection, order: int, limit: int) -> list[Gap]:
    """The newest gaps of the same epoch that begin at or before (epoch, tick) ``order``, oldest first."""
    query = (
        "SELECT epoch, from_tick, to_tick, reason FROM gaps WHERE epoch = ? AND from_tick <= ? "
        # Newest first, so that the bound leaves out the oldest; turned round below.
        "ORDER BY from_tick DESC LIMIT ?"
    )
    newest = connection.execute(query, (order >> 32, order & TICK_MASK, limit))
    return [Gap(*row) for row in newest][::-1]
