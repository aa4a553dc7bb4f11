"""Does a recording add up? Each keyframe against the frames since the one before. Room: recordings.

Every keyframe row carries a hash of the state at its moment; replaying from one keyframe to the next
must give the next one's hash. So must the rows before the first one, which start from nothing: every
row belongs to a stretch. Damage in one does not hide the others. Blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import apsw

from gateway.core.state import WorldState
from gateway.errors import GatewayError
from gateway.limits import HISTORY_GAPS_MAX
from gateway.store.world import History, reading, state_hash
from gateway.store.world.history import apply_row
from gateway.store.world.state import live_records
from gateway.wire.journal import Gap, order_of
from gateway.wire.recorded import ToldPlace, ToldReport

Place = tuple[int, int]


class Start(NamedTuple):
    """Where a stretch begins: a keyframe row and its state's hash, or (None) the very first row."""

    seq: int
    epoch: int
    tick: int
    hash: bytes | None

    @property
    def place(self) -> Place:
        return self.epoch, self.tick


@dataclass(frozen=True, slots=True)
class CheckedStretch:
    """From one keyframe to the next (or the end). ``damage``: what is wrong, None if nothing is."""

    begin: Place
    end: Place
    rows: int
    damage: str | None = None


@dataclass(slots=True)
class Report:
    """What a verification found. ``unchecked``: stretches from which rows were let go,
    which cannot add up."""

    ok: int = 0
    unchecked: int = 0
    rows: int = 0
    damaged: list[CheckedStretch] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def as_json(self) -> ToldReport:
        return {
            "ok": self.ok,
            "damaged": [
                {"from": _place(s.begin), "to": _place(s.end), "why": s.damage} for s in self.damaged
            ],
            "unchecked": self.unchecked,
            "rows": self.rows,
            "gaps": [
                {"epoch": g.epoch, "from": g.from_tick, "to": g.to_tick, "reason": g.reason}
                for g in self.gaps
            ],
        }


def _place(place: Place) -> ToldPlace:
    return {"epoch": place[0], "tick": place[1]}


class Verifier:
    """Goes through a recording keyframe by keyframe: :meth:`stretches` yields as it goes."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.report = Report()
        self._last_seq = -1

    def starts(self) -> list[Start]:
        """Where each stretch begins: the first row, unless it is a keyframe, and every keyframe. What is
        recorded from here on is not looked at."""

        def find(connection: apsw.Connection) -> list[Start]:
            last = reading.last_row(connection)
            self._last_seq = -1 if last is None else last.seq
            query = "SELECT seq, epoch, tick, state_hash FROM keyframes ORDER BY seq"
            starts = [Start(*row) for row in connection.execute(query)]
            first = reading.first_row(connection)
            if first is not None and (not starts or first.seq < starts[0].seq):
                starts.insert(0, Start(first.seq, first.epoch, first.tick, None))
            return starts

        return self.history.source.read(find)

    def stretches(self) -> Iterator[CheckedStretch]:
        """Each stretch, checked and counted in :attr:`report`."""
        self.report.gaps = self.history.gaps()
        starts = self.starts()
        for number, start in enumerate(starts):
            after = starts[number + 1] if number + 1 < len(starts) else None
            stretch = self._check(start, after)
            self._count(stretch)
            yield stretch

    def _check(self, start: Start, after: Start | None) -> CheckedStretch:
        try:
            return self.history.source.read(lambda c: self._replayed(c, start, after))
        except (GatewayError, apsw.CorruptError, apsw.IOError) as error:
            return CheckedStretch(start.place, (after or start).place, 0, f"unreadable: {error}")

    def _replayed(self, connection: apsw.Connection, start: Start, after: Start | None) -> CheckedStretch:
        if _was_pruned(connection, start):
            self.report.unchecked += 1
            return CheckedStretch(start.place, (after or start).place, 0)
        state = cast(WorldState, self.history.make_state())
        end, count, expected = start.place, 0, start.seq
        damage = self._beginning(connection, start)
        for row in reading.rows(connection, start.seq):
            # A recording that goes on: what came since the keyframes were listed would look like damage.
            if row.seq > self._last_seq or (after is not None and row.seq >= after.seq):
                break
            if row.seq != expected:
                return CheckedStretch(
                    start.place, end, count, f"row {expected} is missing before row {row.seq}"
                )
            if row.keyframe and (count or start.hash is None):
                damage = damage or f"the keyframe in row {row.seq} is missing from the index"
            apply_row(state, row)
            if not count and start.hash and state_hash(live_records(row.messages)) != start.hash:
                return CheckedStretch(start.place, end, 1, "the keyframe does not match its own hash")
            # max(): parts that came late have an older tick.
            end, count, expected = max(end, (row.epoch, row.tick)), count + 1, row.seq + 1
        if after is None:
            return CheckedStretch(start.place, end, count, damage)
        if expected != after.seq:
            return CheckedStretch(
                start.place, end, count, f"row {expected} is missing before row {after.seq}"
            )
        # Asked only where they differ: dropped rows excuse that, and need not have changed anything.
        if state_hash(state.snapshot()) != after.hash and not self._was_dropped(connection, start, after):
            damage = damage or "the frames do not add up to the next keyframe"
        return CheckedStretch(start.place, after.place, count, damage)

    def _beginning(self, connection: apsw.Connection, start: Start) -> str | None:
        """What is left of a ring begins with a keyframe, all else with row 0."""
        if start.hash is not None or start.seq == 0 or self._was_dropped(connection, None, start):
            return None
        return f"row {start.seq} is the first, and no keyframe: those before it are missing"

    def _was_dropped(self, connection: apsw.Connection, start: Start | None, after: Start) -> bool:
        """Whether rows were let go between the two: only then can they not add up. Ticks that never
        came were never in the state either."""
        low = 0 if start is None else order_of(*start.place)
        gaps = reading.gaps_between(
            connection, low, order_of(*after.place), HISTORY_GAPS_MAX, overlapping=True
        )
        found = any(gap.reason == "dropped" for gap in gaps)
        self.report.unchecked += found
        return found

    def _count(self, stretch: CheckedStretch) -> None:
        self.report.rows += stretch.rows
        if stretch.damage is not None:
            self.report.damaged.append(stretch)
        else:
            self.report.ok += 1


def _was_pruned(connection: apsw.Connection, start: Start) -> bool:
    """Whether the stretch fell out of the ring while those before it were looked at."""
    query = "SELECT 1 FROM keyframes WHERE seq = ?"
    return start.hash is not None and connection.execute(query, (start.seq,)).get is None
