"""A recording in which every record is set once and never again: a row that is lost stays lost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gateway.core.state import WorldState
from gateway.recordings.recording import MAKE_STATE
from gateway.store.base import BlockingStore
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import Retention, WorldDatabase
from gateway.wire import Frame, Record, decode_frame, encode_frame
from gateway.wire.journal import Batch, JournalFrame

BEGIN_US = 1_790_000_000_000_000
TICK_US = 16_667
SIZES = (1, 255, 256, 257, 512, 513, 5_000)
Row = tuple[int, int, dict[int, bytes | None]]
"""Epoch, tick, and what it set."""


def record_at(tick: int) -> dict[int, bytes]:
    """What the row of a tick sets."""
    return {tick: b"set at %d" % tick}


def rows_of_once(ticks: int, *, first: int = 1) -> list[Row]:
    """The rows of the table."""
    return [(1, tick, dict(record_at(tick))) for tick in range(first, ticks + 1)]


def write_once(store: BlockingStore, world: str, ticks: int, *, keyframe_ticks: tuple[int, ...] = ()) -> None:
    """Write the recording: one row a tick, in one commit, with a keyframe row behind some."""
    database, _ = WorldDatabase.create(
        store, world, make_state=MAKE_STATE, now_us=BEGIN_US, retention=Retention("record")
    )
    try:
        database.begin_epoch(None, BEGIN_US)
        state, frames = WorldState(), []
        for tick in range(1, ticks + 1):
            at_us = BEGIN_US + tick * TICK_US
            frame = Frame(1, tick, [Record(*item) for item in record_at(tick).items()], sent_at=at_us - 500)
            state.apply(frame)
            message = encode_frame(frame)
            frames.append(JournalFrame(len(frames), 1, tick, at_us, at_us - 500, False, (message,)))
            if tick in keyframe_ticks:
                messages = tuple(state.keyframe_messages(65_535))
                frames.append(JournalFrame(len(frames), 1, tick, at_us, at_us, True, messages))
        database.append(Batch(tuple(frames), (), 1, ticks, sum(frame.size_bytes for frame in frames)))
    finally:
        database.close()


def fill(folder: Path, sizes: Iterable[int] = SIZES) -> None:
    """A store folder with a world ``once-N`` of N rows for each size."""
    store = EmbeddedStore.open(folder)
    try:
        for size in sizes:
            store.engine.create_namespace(f"once-{size}")
            write_once(store.engine, f"once-{size}", size)
    finally:
        store.close()


def rows_in(messages: Iterable[bytes]) -> list[Row]:
    """Frames as rows, the messages of one tick together."""
    rows: list[Row] = []
    for message in messages:
        frame = decode_frame(message)
        keys, values, _ = frame.columns()
        if not rows or rows[-1][:2] != (frame.epoch, frame.tick):
            rows.append((frame.epoch, frame.tick, {}))
        rows[-1][2].update(zip(keys, values, strict=True))
    return rows


def states_add_up(rows: list[Row], ticks: int) -> bool:
    """Whether the state after the row of every tick holds exactly what was set until then."""
    state: dict[int, bytes | None] = {}
    for at, (_, tick, records) in enumerate(rows, 1):
        state.update(records)
        if tick != at or len(state) != tick or state[tick] != record_at(tick)[tick]:
            return False
    return state == {tick: data for at in range(1, ticks + 1) for tick, data in record_at(at).items()}
