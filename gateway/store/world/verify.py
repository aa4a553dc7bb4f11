"""Does a recording hold what it says? Each keyframe against the replay since the one before. Room: store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import apsw

from gateway.errors import MalformedMessage, StoreError
from gateway.limits import HISTORY_GAPS_MAX
from gateway.store.world import reading
from gateway.store.world.history import History, apply_row
from gateway.store.world.reading import ORDER_MAX
from gateway.store.world.state import MakeState, state_hash
from gateway.wire.framecodec import FrameDecoder
from gateway.wire.journal import Gap, JournalFrame


class Span(NamedTuple):
    """From one keyframe row (or the first row) to before the next. ``damage``: None, or what is wrong."""

    from_seq: int
    to_seq: int
    epoch: int
    from_tick: int
    to_tick: int
    rows: int
    damage: str | None


@dataclass(slots=True)
class Verified:
    """What :func:`verify` found."""

    spans: int = 0
    rows: int = 0
    damaged: list[Span] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True where nothing is damaged. Gaps are honest, not damage."""
        return not self.damaged


def verify(history: History, on_span: Callable[[Span], None] | None = None) -> Verified:
    """Replay from each keyframe to the next and compare its state hash; goes on past damage.

    A span in which the journal let go of ticks (gap ``dropped``) ends in a state that the rows cannot
    reach: there only the keyframe's own hash is compared. ``on_span`` hears of each span, for progress.
    """
    found = Verified(
        gaps=history.source.read(lambda c: reading.gaps_between(c, 0, ORDER_MAX, HISTORY_GAPS_MAX))
    )
    seqs = history.source.read(_starts)
    ends: list[int | None] = [*seqs[1:], None]
    for start, end in zip(seqs, ends, strict=False):
        span = _check(history, start, end)
        found.spans += 1
        found.rows += span.rows
        if span.damage is not None:
            found.damaged.append(span)
        if on_span is not None:
            on_span(span)
    return found


def _starts(connection: apsw.Connection) -> list[int]:
    """Where spans begin: the first row, and every keyframe."""
    query = "SELECT seq FROM keyframes UNION SELECT min(seq) FROM frames ORDER BY seq"
    return [seq for (seq,) in connection.execute(query) if seq is not None]


def _check(history: History, start: int, end: int | None) -> Span:
    try:
        return history.source.read(lambda connection: _Check(history.make_state, start, end).run(connection))
    except (StoreError, apsw.Error) as error:
        return Span(start, end or start, 0, 0, 0, 0, f"cannot be read: {error}")


class _Check:
    """One span, and the keyframe row that ends it."""

    def __init__(self, make_state: MakeState, start: int, end: int | None) -> None:
        self._state = make_state()
        self._start = start
        self._end = end
        self._ticks: list[tuple[int, int]] = []

    def run(self, connection: apsw.Connection) -> Span:
        try:
            return self._span(self._damage(connection))
        except (MalformedMessage, apsw.Error) as error:
            return self._span(f"row {self._start + len(self._ticks)}: {error}")

    def _damage(self, connection: apsw.Connection) -> str | None:
        for row in self._rows(connection):
            if row.seq == self._end:
                return self._compare(connection, row)
            if self._ticks and row.seq != self._start + len(self._ticks):
                return f"row {self._start + len(self._ticks)} is missing"
            self._ticks.append((row.epoch, row.tick))
            apply_row(self._state, row)
            if row.keyframe:
                damage = _against(connection, row.seq, self._state.snapshot(), "its own records")
                if damage is not None:
                    return damage
        return None if self._end is None else f"the keyframe row {self._end} is missing"

    def _rows(self, connection: apsw.Connection) -> Iterator[JournalFrame]:
        yield from reading.rows(connection, self._start, FrameDecoder())

    def _compare(self, connection: apsw.Connection, keyframe: JournalFrame) -> str | None:
        first, last = self._ticks[0], (keyframe.epoch, keyframe.tick)
        query = (
            "SELECT count(*) FROM gaps WHERE reason = 'dropped' AND (epoch, to_tick) >= (?, ?) "
            "AND (epoch, from_tick) <= (?, ?)"
        )
        if connection.execute(query, (*first, *last)).get:
            return None
        return _against(
            connection, keyframe.seq, self._state.snapshot(), f"the replay since row {self._start}"
        )

    def _span(self, damage: str | None) -> Span:
        ticks = self._ticks or [(0, 0)]
        rows = len(self._ticks)
        return Span(
            self._start, self._start + max(rows, 1) - 1, ticks[0][0], ticks[0][1], ticks[-1][1], rows, damage
        )


def _against(connection: apsw.Connection, seq: int, records: dict[int, bytes], what: str) -> str | None:
    stored = connection.execute("SELECT state_hash FROM keyframes WHERE seq = ?", (seq,)).get
    if stored == state_hash(records):
        return None
    return f"the state hash of keyframe row {seq} is not that of {what}"
