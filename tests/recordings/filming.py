"""Recordings for tests: written straight into an embedded store, with what a live reader saw."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.core.state import WorldState
from gateway.recordings.recording import MAKE_STATE
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import Retention, WorldDatabase
from gateway.wire import Frame, Record, encode_frame, split
from gateway.wire.journal import Batch, Gap, JournalFrame

Place = tuple[int, int]
BEGIN_US = 1_790_000_000_000_000


@dataclass
class Filmed:
    """A recording and the state that a reader had after each recorded tick."""

    world: str
    states: dict[Place, dict[int, bytes]] = field(default_factory=dict)
    times: dict[Place, int] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def last(self) -> Place:
        return max(self.states)


def film(
    folder: Path,
    *,
    world: str = "w",
    epochs: int = 2,
    ticks: int = 120,
    seed: int = 1,
    loss: float = 0.05,
    steps: Mapping[int, int] | None = None,
) -> Filmed:
    """Random records set and removed at 60 Hz, with restarts, gaps and a keyframe every 30 rows. ``steps``:
    before these ticks somebody sets the clock, so many microseconds ahead."""
    draw, made = random.Random(seed), Filmed(world)
    store = EmbeddedStore.open(folder, auto_create=True)
    database, _ = WorldDatabase.create(
        store.blocking(), world, make_state=MAKE_STATE, now_us=BEGIN_US, retention=Retention("record")
    )
    state, seq, at_us = WorldState(), 0, BEGIN_US
    for epoch in range(1, epochs + 1):
        database.begin_epoch(None, at_us)
        frames: list[JournalFrame] = []
        gaps: list[Gap] = []
        for tick in range(1, ticks + 1):
            at_us += 16_667 + (steps or {}).get(tick, 0)
            if draw.random() < loss:
                gaps.append(Gap(epoch, tick, tick, "unseen"))
                continue
            rows = [
                Record(key, None if draw.random() < 0.1 else draw.randbytes(draw.randrange(1, 30)))
                for key in draw.sample(range(12), draw.randrange(1, 6))
            ]
            frame = Frame(epoch, tick, rows, sent_at=at_us - 500)
            state.apply(frame)
            frames.append(JournalFrame(seq, epoch, tick, at_us, at_us - 500, False, (encode_frame(frame),)))
            made.states[epoch, tick], made.times[epoch, tick] = state.snapshot(), at_us
            seq += 1
            if seq % 30 == 1:
                messages = tuple(split(state.keyframe(), 65_535))
                frames.append(JournalFrame(seq, epoch, tick, at_us, at_us, True, messages))
                seq += 1
        size = sum(frame.size_bytes for frame in frames)
        database.append(Batch(tuple(frames), tuple(gaps), epoch, ticks, size))
        made.gaps += gaps
    database.set_mark("goal", 1, min(made.states)[1] + 0, BEGIN_US, '{"score": 1}')
    database.close()
    store.close()
    return made
