"""A recording, asked: the last state, the state at a moment, the frames between two. Room: store.

Works on anything that has ``read(fn(connection))``: a world at its head, a world in the past, or a
film (an ordinary SQLite file). Blocks. Source: docs/RECOVERY.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import apsw

from gateway.errors import NothingRecorded
from gateway.limits import HISTORY_EPOCHS_MAX, HISTORY_GAPS_MAX, HISTORY_PAGE_ROWS, RECOVERED_GAPS_MAX
from gateway.store.world import ending, reading
from gateway.store.world.reading import ORDER_MAX, TICK_MASK, RowHead
from gateway.store.world.schema import WorldInfo, read_info
from gateway.store.world.state import MakeState, Recovered, Replayed, StoredState
from gateway.wire.framecodec import PREFIXED, FrameDecoder
from gateway.wire.frames import decode_frame
from gateway.wire.journal import Gap, JournalFrame, Tail, order_of
from gateway.wire.layouts import kept
from gateway.wire.recorded import KeptMark, ToldRow, ToldSummary

T = TypeVar("T")


class RowSource(Protocol):
    """Where a recording is read from: one snapshot during each ``read``."""

    def read(self, fn: Callable[[apsw.Connection], T]) -> T: ...


class History:
    """The questions that a recording answers."""

    def __init__(self, source: RowSource, make_state: MakeState) -> None:
        self.source = source
        self.make_state = make_state

    def info(self) -> WorldInfo:
        """What the world says of itself."""
        return self.source.read(read_info)

    def last(self) -> Recovered | None:
        """The last synced state; None where nothing was ever recorded."""
        return self.source.read(self._last)

    def _last(self, connection: apsw.Connection) -> Recovered | None:
        start = reading.last_keyframe(connection) or reading.first_row(connection)
        return None if start is None else self._replay(connection, start)

    def to_go_on(self) -> Recovered | None:
        """:meth:`last`, with its ``tail``: what a journal must know that goes on from there."""
        return self.source.read(self._to_go_on)

    def _to_go_on(self, connection: apsw.Connection) -> Recovered | None:
        found = self._last(connection)
        if found is None:
            return None
        messages = ending.newest_messages(connection, found.epoch, found.seq)
        return replace(found, tail=Tail(messages, found.gaps))

    def state_at_tick(self, epoch: int, tick: int, *, exact: bool = True) -> Recovered:
        """The state that a live reader had at that tick: after the last row before the first of a
        greater (epoch, tick). Raises ``NothingRecorded``: before the recording, or (``exact``)
        the tick has no row; the message names its neighbours."""
        return self.source.read(lambda connection: self._at_tick(connection, epoch, tick, exact))

    def _at_tick(self, connection: apsw.Connection, epoch: int, tick: int, exact: bool) -> Recovered:
        order = order_of(epoch, tick)
        start = reading.keyframe_at_tick(connection, epoch, tick) or reading.first_row(connection)
        if start is None or start.order > order:
            raise _too_early(f"tick {tick} of epoch {epoch}", start)
        found = self._replay(connection, start, order_end=order)
        if exact and order_of(found.epoch, found.tick) != order:
            raise self._between(connection, found, epoch, tick)
        return found

    def _between(
        self, connection: apsw.Connection, found: Recovered, epoch: int, tick: int
    ) -> NothingRecorded:
        after = connection.execute(
            "SELECT epoch, tick FROM frames WHERE seq > ? ORDER BY seq LIMIT 1", (found.seq,)
        ).fetchone()
        nearest = f"the nearest before it is tick {found.tick} of epoch {found.epoch}"
        nearest += f", after it tick {after[1]} of epoch {after[0]}" if after else ", and nothing after it"
        return NothingRecorded(
            f"tick {tick} of epoch {epoch} is not recorded: {nearest}",
            before={"epoch": found.epoch, "tick": found.tick},
            after={"epoch": after[0], "tick": after[1]} if after else None,
        )

    def state_at_time(self, at_us: int) -> Recovered:
        """The state at ``at_us`` (microseconds since the Unix epoch, the gateway's clock). A time
        after the last row gives the last state. Raises ``NothingRecorded`` for one before the first."""
        return self.source.read(lambda connection: self._at_time(connection, at_us))

    def _at_time(self, connection: apsw.Connection, at_us: int) -> Recovered:
        start = reading.keyframe_at_time(connection, at_us) or reading.first_row(connection)
        if start is None or start.received_at_us > at_us:
            raise _too_early(f"the time {_shown(at_us)}", start)
        return self._replay(connection, start, us_end=at_us)

    def _replay(
        self,
        connection: apsw.Connection,
        start: RowHead,
        *,
        order_end: int = ORDER_MAX,
        us_end: int = ORDER_MAX,
    ) -> Recovered:
        """The state after the rows from ``start`` to the first one after either end."""
        replayed, decoder = Replayed(self.make_state()), FrameDecoder()
        reached, last = start.order, (start.seq, start.received_at_us, 0)
        for seq, epoch, tick, received, sent, _, codec, body in reading.packed_rows(connection, start.seq):
            order = order_of(epoch, tick)
            if order > order_end or received > us_end:
                break
            replayed.apply(decoder.unpack(codec, body))
            # The greatest so far, not the last: a late part of an earlier tick is recorded behind newer
            # ones.
            reached, last = max(reached, order), (seq, received, sent)
        gaps = reading.gaps_before(connection, reached, RECOVERED_GAPS_MAX)
        return Recovered(reached >> 32, reached & TICK_MASK, *last, replayed.settle(), tuple(gaps))

    def state_at(
        self, epoch: int | None, tick: int | None, at_us: int | None, *, exact: bool = True
    ) -> Recovered:
        """The state at ``at_us``, or at ``tick`` of ``epoch`` (None: the newest recorded)."""
        if tick is None:
            assert at_us is not None
            return self.state_at_time(at_us)
        return self.state_at_tick(self._newest_epoch() if epoch is None else epoch, tick, exact=exact)

    def bounds(
        self, epoch: int | None, from_tick: int | None, to_tick: int | None
    ) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        """(start, end) of :meth:`frames` for a span of ticks of ``epoch`` (None: of the newest one;
        all three None: everything)."""
        if epoch is None:
            if from_tick is None and to_tick is None:
                return None, None
            epoch = self._newest_epoch()
        return (epoch, from_tick or 0), (epoch, TICK_MASK if to_tick is None else to_tick)

    def _newest_epoch(self) -> int:
        newest = self.source.read(reading.last_row)
        return newest.epoch if newest else 0

    def frames(
        self,
        start: tuple[int, int] | None = None,
        end: tuple[int, int] | None = None,
        *,
        keyframes: bool = False,
    ) -> Iterator[JournalFrame | Gap]:
        """Rows and gaps from ``start`` to ``end`` ((epoch, tick), both included), in order.
        ``keyframes``: with those that the gateway made."""
        cursor = FrameCursor(self, start, end, keyframes=keyframes)
        while items := cursor.next():
            yield from items

    def gaps(self) -> list[Gap]:
        """What is known to be missing, oldest first (bounded)."""
        return self.source.read(lambda c: reading.gaps_between(c, 0, ORDER_MAX, HISTORY_GAPS_MAX))

    def marks(self) -> list[KeptMark]:
        """The marks in order: ``{name, epoch, tick, at_us, data (JSON text or None)}``."""
        query = "SELECT name, epoch, tick, at, data FROM marks ORDER BY epoch, tick, name"
        return self.source.read(
            lambda c: [
                {"name": name, "epoch": epoch, "tick": tick, "at_us": at_us, "data": data}
                for name, epoch, tick, at_us, data in c.execute(query)
            ]
        )

    def timeline(self, buckets: int) -> dict[str, object]:
        """What a time line draws: the epochs, and the recording in so many spans of equal time at most, each with the
        rows received in it and where it begins. JSON-ready. Reads the keyframes' index, one row a second."""
        return self.source.read(lambda connection: _timeline(connection, buckets))

    def summary(self) -> ToldSummary:
        """What can be got back, and to when: JSON-ready. Reads a few pages only."""
        return self.source.read(_summary)


def apply_row(state: StoredState, row: JournalFrame) -> None:
    """Put a row's messages into ``state``."""
    for message in row.messages:
        state.apply(decode_frame(message))


def _too_early(asked: str, first: RowHead | None) -> NothingRecorded:
    if first is None:
        return NothingRecorded(f"{asked} is not recorded: nothing is; publish to the world first")
    return NothingRecorded(
        f"{asked} is before the recording, which begins at tick {first.tick} of epoch {first.epoch} "
        f"({_shown(first.received_at_us)}); ask for that or later",
        first={"epoch": first.epoch, "tick": first.tick, "received_at_us": first.received_at_us},
    )


def _shown(at_us: int) -> str:
    """``2026-11-20T21:14:03.250Z``, in the form that may be asked back."""
    try:
        moment = datetime.fromtimestamp(at_us / 1_000_000, UTC)
    except (OverflowError, ValueError):
        return f"{at_us} µs since 1970"
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _timeline(connection: apsw.Connection, buckets: int) -> dict[str, object]:
    first, last = reading.first_row(connection), reading.last_row(connection)
    epochs = [
        dict(zip(("epoch", "started_at", "ended_at"), row, strict=True))
        for row in connection.execute(
            "SELECT epoch, started_at, ended_at FROM epochs ORDER BY epoch DESC LIMIT ?",
            (HISTORY_EPOCHS_MAX,),
        )
    ]
    if first is None or last is None:
        return {"from_us": None, "to_us": None, "epochs": epochs[::-1], "spans": []}
    from_us, to_us = first.received_at_us, max(last.received_at_us, first.received_at_us + 1)
    found = connection.execute(
        "SELECT keyframes.seq, epoch, tick, received_at, most FROM keyframes JOIN "
        "(SELECT min(seq) AS seq, max(records) AS most FROM keyframes WHERE received_at BETWEEN ?1 AND ?2 "
        "GROUP BY (received_at - ?1) * ?3 / (?2 - ?1 + 1)) AS spans ON spans.seq = keyframes.seq ORDER BY 1",
        (from_us, to_us, buckets),
    )
    spans: list[tuple[int, int, int, int, int]] = list(found)
    begun = (first.seq, first.epoch, first.tick, first.received_at_us, spans[0][4] if spans else 0)
    spans[:1] = [begun]  # rows before the first keyframe
    ends = [span[0] for span in spans[1:]] + [last.seq + 1]
    return {
        "from_us": from_us,
        "to_us": to_us,
        "epochs": epochs[::-1],
        "spans": [
            {"at_us": at_us, "epoch": epoch, "tick": tick, "rows": end - seq, "records": records}
            for (seq, epoch, tick, at_us, records), end in zip(spans, ends, strict=True)
        ],
    }


def _told(row: RowHead | None) -> ToldRow | None:
    if row is None:
        return None
    return {"seq": row.seq, "epoch": row.epoch, "tick": row.tick, "received_at_us": row.received_at_us}


def _summary(connection: apsw.Connection) -> ToldSummary:
    info = read_info(connection)
    first, last = reading.first_row(connection), reading.last_row(connection)
    keyframe = reading.last_keyframe(connection)
    count = connection.execute("SELECT count(*) FROM gaps").get
    parent, layout = info.parent, kept(info.layout)
    return {
        "world": info.world,
        "stride": info.stride,
        "retention": info.retention.mode,
        "ring_s": info.retention.ring_s,
        "first": _told(first),
        "last": _told(last),
        "last_keyframe": _told(keyframe),
        "rows": last.seq - first.seq + 1 if first and last else 0,
        "gaps": count,
        "marks": connection.execute("SELECT count(*) FROM marks").get,
        "epochs": connection.execute("SELECT count(*) FROM epochs").get,
        "layout": None if layout is None else dict(layout.document),
        "parent": None
        if parent is None
        else {"world": parent.world, "epoch": parent.epoch, "tick": parent.tick},
    }


class FrameCursor:
    """Reads a recording page by page, each in a short transaction of its own, so that neither the
    journal nor the store's old versions wait for a slow reader. What retention deletes between two
    pages shows as a gap of reason ``dropped``."""

    def __init__(
        self,
        history: History,
        start: tuple[int, int] | None = None,
        end: tuple[int, int] | None = None,
        *,
        keyframes: bool = False,
    ) -> None:
        self.history = history
        self._start = 0 if start is None else order_of(*start)
        self._end = ORDER_MAX if end is None else order_of(*end)
        self._keyframes = keyframes
        self._decoder = FrameDecoder()
        self._seq: int | None = None
        self._told = self._start
        self._reached: int | None = None
        self._done = False

    def next(self, rows_max: int = HISTORY_PAGE_ROWS) -> list[JournalFrame | Gap]:
        """The next rows and gaps; empty at the end."""
        items: list[JournalFrame | Gap] = []
        while not items and not self._done:
            items = self.history.source.read(lambda connection: self._page(connection, rows_max))
        return items

    def _page(self, connection: apsw.Connection, rows_max: int) -> list[JournalFrame | Gap]:
        items: list[JournalFrame | Gap] = []
        taken = 0
        for row in self._packed(connection):
            seq, epoch, tick, received, sent, keyframe, codec, body = row
            order = order_of(epoch, tick)
            # A keyframe, not any row: late parts of ticks within the span may stand behind rows of later
            # ones.
            if keyframe and order > self._end:
                break
            # Packed against a row that retention has removed meanwhile; it is told as a gap by what stands
            # next.
            if codec >= PREFIXED and self._lost(seq):
                continue
            upto = tick if keyframe and not self._keyframes else tick - 1
            self._note_pruned(connection, items, seq, epoch, upto)
            messages = tuple(self._decoder.decode(codec, body))
            # Moved along for every row, though only some are given out: the decoder needs them all in
            # order.
            self._seq = seq + 1
            if self._start <= order <= self._end and (self._keyframes or not keyframe):
                items += self._gaps_up_to(connection, order)
                items.append(JournalFrame(seq, epoch, tick, received, sent, bool(keyframe), messages))
            self._reached = max(order, self._reached or 0)
            taken += 1
            if taken == rows_max:
                return items
        self._done = True
        return items + self._gaps_up_to(connection, self._end)

    def _packed(
        self, connection: apsw.Connection
    ) -> Iterator[tuple[int, int, int, int, int, int, int, bytes]]:
        if self._seq is None:
            epoch, tick = self._start >> 32, self._start & TICK_MASK
            # Not one of that very tick: the frame that it was made after stands before it.
            start = reading.keyframe_at_tick(connection, epoch, tick - 1) or reading.first_row(connection)
            return reading.packed_rows(connection, start.seq if start else 0)
        return reading.packed_rows(connection, self._seq)

    def _lost(self, seq: int) -> bool:
        """True where the row leans on one that is not there any more."""
        return self._seq is None or seq != self._seq

    def _note_pruned(
        self, connection: apsw.Connection, items: list[JournalFrame | Gap], seq: int, epoch: int, upto: int
    ) -> None:
        """What is left begins with a keyframe: the frames up to its own tick are gone. Where the journal
        itself had dropped rows, the recorded gap says so already."""
        if self._seq is None or seq == self._seq or self._reached is None:
            return
        # Of another epoch nothing tells how far it had come, so its ticks count from the first.
        first = (self._reached & TICK_MASK) + 1 if self._reached >> 32 == epoch else 0
        if first <= upto and not reading.is_gap(connection, epoch, first, upto):
            items.append(Gap(epoch, first, upto, "dropped"))

    def _gaps_up_to(self, connection: apsw.Connection, order: int) -> list[JournalFrame | Gap]:
        """The recorded gaps that begin at or before ``order`` and were not told yet."""
        if order < self._told:
            return []
        first = self._told == self._start
        gaps = reading.gaps_between(connection, self._told, order, HISTORY_GAPS_MAX, overlapping=first)
        self._told = order + 1
        return list(gaps)
