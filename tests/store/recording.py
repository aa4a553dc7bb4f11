"""Recordings for tests: a publisher's frames as the journal would hand them over."""

from __future__ import annotations

import random
from collections.abc import Iterator

from gateway.core.state import WorldState
from gateway.recordings.verifying import CheckedStretch, Verifier
from gateway.store.world import History
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.journal import Batch, Gap, JournalFrame

SECOND_US = 1_000_000
START_US = 1_700_000_000 * SECOND_US


class Recorder:
    """A world being played: keeps the live state beside every row, for comparison.

    ``states`` holds, per (epoch, tick), the records that a live reader had at that tick.
    """

    def __init__(
        self, *, seed: int = 1, stride: int = 0, hz: int = 20, keys: int = 6, size: int = 20
    ) -> None:
        self.dice = random.Random(seed)
        self.state = WorldState()
        self.stride = stride
        self.tick_us = SECOND_US // hz
        self.hz = hz
        self.keys = keys
        self.size = size
        self.seq = 0
        self.epoch = 1
        self.tick = 0
        self.now_us = START_US
        self.states: dict[tuple[int, int], dict[int, bytes]] = {}
        self.times: dict[int, dict[int, bytes]] = {}
        self._keyframe_us = 0

    def records(self) -> list[Record]:
        found = []
        for key in self.dice.sample(range(self.keys), self.dice.randint(1, self.keys)):
            if not self.stride and self.dice.random() < 0.1:
                found.append(Record(key, None))
            else:
                size = self.stride - 4 if self.stride else self.dice.randint(0, self.size)
                data = self.dice.randbytes(size)
                found.append(Record(key, key.to_bytes(4, "little") + data if self.stride else data))
        return found

    def step(self) -> list[JournalFrame]:
        """The next tick's row, and a keyframe row when one is due."""
        self.tick += 1
        self.now_us += self.tick_us
        frame = Frame(self.epoch, self.tick, self.records(), stride=self.stride, sent_at=self.now_us - 5000)
        return [self.row(frame), *self.keyframe_due()]

    def row(self, frame: Frame) -> JournalFrame:
        message = encode_frame(frame)
        self.state.apply(frame)
        row = JournalFrame(self.seq, frame.epoch, frame.tick, self.now_us, frame.sent_at, False, (message,))
        self.seq += 1
        self._note()
        return row

    def _note(self) -> None:
        snapshot = self.state.snapshot()
        self.states[(self.state.epoch, self.state.tick)] = snapshot
        self.times[self.now_us] = snapshot

    def keyframe_due(self) -> list[JournalFrame]:
        return [self.keyframe()] if self.now_us - self._keyframe_us >= SECOND_US else []

    def wants_keyframe(self) -> None:
        """The next batch begins with one, however short ago the last one was."""
        self._keyframe_us = 0

    def keyframe(self) -> JournalFrame:
        self._keyframe_us = self.now_us
        messages = tuple(self.state.keyframe_messages(65_535))
        row = JournalFrame(
            self.seq, self.state.epoch, self.state.tick, self.now_us, self.state.sent_at, True, messages
        )
        self.seq += 1
        return row

    def batches(self, ticks: int, per_batch: int = 1) -> Iterator[Batch]:
        for _ in range(0, ticks, per_batch):
            yield batch([row for _ in range(per_batch) for row in self.step()])


def batch(rows: list[JournalFrame], gaps: tuple[Gap, ...] = ()) -> Batch:
    last = rows[-1] if rows else None
    size = sum(row.size_bytes for row in rows)
    return Batch(tuple(rows), gaps, last and last.epoch, last and last.tick, size)


def damaged(history: History) -> list[CheckedStretch]:
    """The stretches of a recording that do not add up."""
    verifier = Verifier(history)
    for _ in verifier.stretches():
        pass
    return verifier.report.damaged
