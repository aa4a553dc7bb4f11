"""A recording as what changed, step by step: what every export is made of. Room: recordings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

from gateway.core.state import WorldState
from gateway.wire import decode_frame
from gateway.wire.journal import JournalFrame


@dataclass(frozen=True, slots=True)
class Step:
    """One recorded frame. ``changed``: each key that it brought something newer of, with its bytes, or None where the
    record was removed. ``whole``: the first, with the whole state. Times in microseconds since the Unix epoch."""

    epoch: int
    tick: int
    received_at_us: int
    changed: tuple[tuple[int, bytes | None], ...]
    whole: bool = False


class UnreadRecords:
    """Records of which the layout says what it could not read there: too short for a field, a number that is none, no
    position where a scene needs one. What they leave is an empty cell, or nothing at all."""

    def __init__(self) -> None:
        self.count = 0
        self.first: tuple[int, int, int] | None = None
        """Epoch, tick and key of the first."""

    def look(self, rows: Rows, columns: Sequence[Sequence[object]], none: object = None) -> None:
        """What was read of these rows, by columns: ``none`` stands for what could not be, unless the record was removed."""
        holed = [column for column in columns if none in column]
        if not holed:
            return
        for at, row in enumerate(zip(*holed, strict=True)):
            if none in row and rows.records[at] is not None:
                self.add(rows.epochs[at], rows.ticks[at], rows.keys[at])

    def add(self, epoch: int, tick: int, key: int) -> None:
        self.count += 1
        if self.first is None:
            self.first = (epoch, tick, key)


class Rows:
    """Records of steps one after the other, to be read together: each with its step's epoch, tick and time."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.ticks: list[int] = []
        self.times_us: list[int] = []
        self.keys: list[int] = []
        self.records: list[bytes | None] = []
        self.record_bytes = 0

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, step: Step, changed: Sequence[tuple[int, bytes | None]]) -> None:
        """These of a step's records."""
        many = len(changed)
        self.epochs += repeat(step.epoch, many)
        self.ticks += repeat(step.tick, many)
        self.times_us += repeat(step.received_at_us, many)
        self.keys += [key for key, _ in changed]
        self.records += [record for _, record in changed]
        self.record_bytes += sum([len(record) for _, record in changed if record is not None])

    @classmethod
    def of(cls, step: Step) -> Rows:
        """A step's alone."""
        rows = cls()
        rows.add(step, step.changed)
        return rows


class Steps:
    """The states that a reader of the stretch had, one after the other; holds the newest alone."""

    def __init__(self) -> None:
        self._state = WorldState()

    def begin(self, messages: Iterable[bytes], epoch: int, tick: int, at_us: int) -> Step:
        """The state that a stretch starts from, as a keyframe's messages."""
        for message in messages:
            self._state.apply(decode_frame(message))
        return Step(epoch, tick, at_us, self._of(tuple(self._state.records)), whole=True)

    def add(self, frame: JournalFrame) -> Step | None:
        """The next recorded row; None where it brought nothing new, as a keyframe that the gateway put in."""
        keys: dict[int, None] = {}
        for message in frame.messages:
            applied = self._state.apply(decode_frame(message))
            keys.update(dict.fromkeys((*applied.changed, *applied.dropped)))
        if not keys:
            return None
        return Step(frame.epoch, frame.tick, frame.received_at_us, self._of(keys))

    def _of(self, keys: Iterable[int]) -> tuple[tuple[int, bytes | None], ...]:
        records = self._state.records
        return tuple([(key, records[key][1] if key in records else None) for key in keys])
