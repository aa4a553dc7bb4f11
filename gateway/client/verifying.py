"""Does a recording add up? Each keyframe against the frames since the one before. Room: client.

Every keyframe row carries a hash of the state at its moment; replaying from one keyframe to the next
must give the next one's hash. Damage in one stretch does not hide the others. Blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import apsw

from gateway.core.state import WorldState
from gateway.errors import MalformedMessage, StoreDamaged, StoreError
from gateway.limits import HISTORY_GAPS_MAX
from gateway.store.world import History, reading, state_hash
from gateway.store.world.history import apply_row
from gateway.store.world.reading import order_of
from gateway.store.world.state import live_records
from gateway.wire.journal import Gap

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stretch:
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
    damaged: list[Stretch] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
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


def _place(place: Place) -> dict[str, int]:
    return {"epoch": place[0], "tick": place[1]}


class Verifier:
    """Goes through a recording keyframe by keyframe: :meth:`stretches` yields as it goes."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.report = Report()

    def keyframes(self) -> list[tuple[int, int, int, bytes]]:
        """(seq, epoch, tick, state hash) of every keyframe row."""
        query = "SELECT seq, epoch, tick, state_hash FROM keyframes ORDER BY seq"
        return self.history.source.read(
            lambda c: cast(list[tuple[int, int, int, bytes]], c.execute(query).fetchall())
        )

    def stretches(self) -> Iterator[Stretch]:
        """Each stretch, checked and counted in :attr:`report`."""
        self.report.gaps = self.history.gaps()
        keyframes = self.keyframes()
        for number, start in enumerate(keyframes):
            after = keyframes[number + 1] if number + 1 < len(keyframes) else None
            stretch = self._check(start, after)
            self._count(stretch)
            yield stretch

    def _check(
        self, start: tuple[int, int, int, bytes], after: tuple[int, int, int, bytes] | None
    ) -> Stretch:
        begin, end = start[1:3], (after or start)[1:3]
        try:
            return self.history.source.read(lambda c: self._replayed(c, start, after))
        except (MalformedMessage, StoreDamaged, apsw.CorruptError, apsw.IOError, StoreError) as error:
            return Stretch(begin, end, 0, f"unreadable: {error}")

    def _replayed(
        self,
        connection: apsw.Connection,
        start: tuple[int, int, int, bytes],
        after: tuple[int, int, int, bytes] | None,
    ) -> Stretch:
        state = cast(WorldState, self.history.make_state())
        end, count, expected = start[1:3], 0, start[0]
        for row in reading.rows(connection, start[0]):
            if row.seq != expected:
                return Stretch(start[1:3], end, count, f"row {expected} is missing before row {row.seq}")
            if after is not None and row.seq >= after[0]:
                break
            apply_row(state, row)
            if row.seq == start[0] and state_hash(live_records(row.messages)) != start[3]:
                return Stretch(start[1:3], end, 1, "the keyframe does not match its own hash")
            end, count, expected = max(end, (row.epoch, row.tick)), count + 1, row.seq + 1
        if after is None:
            return Stretch(start[1:3], end, count)
        if state_hash(state.snapshot()) != after[3] and not self._was_dropped(connection, start, after):
            return Stretch(start[1:3], after[1:3], count, "the frames do not add up to the next keyframe")
        return Stretch(start[1:3], after[1:3], count)

    def _was_dropped(
        self,
        connection: apsw.Connection,
        start: tuple[int, int, int, bytes],
        after: tuple[int, int, int, bytes],
    ) -> bool:
        """Whether rows were let go between the two: only then can they not add up. Ticks that never
        came were never in the state either."""
        low, high = order_of(start[1], start[2]), order_of(after[1], after[2])
        gaps = reading.gaps_between(connection, low, high, HISTORY_GAPS_MAX, overlapping=True)
        found = any(gap.reason == "dropped" for gap in gaps)
        self.report.unchecked += found
        return found

    def _count(self, stretch: Stretch) -> None:
        self.report.rows += stretch.rows
        if stretch.damage is not None:
            self.report.damaged.append(stretch)
        else:
            self.report.ok += 1
