"""Messages of newest values: what repairs a loss and what a slow reader gets. Room: core. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.state import RECORD_HEAD_BYTES, WorldState
from gateway.wire.frames import HEADER_BYTES, Frame, Record, encode_frame, fits_stride


def pick(state: WorldState, urgent: Iterable[int], message_bytes_max: int) -> tuple[int, ...]:
    """The first keys of ``urgent`` whose newest values fit one message; at least one, if any."""
    records = state.records
    left = message_bytes_max - HEADER_BYTES
    picked: list[int] = []
    for key in urgent:
        found = records.get(key)
        left -= RECORD_HEAD_BYTES if found is None else RECORD_HEAD_BYTES + len(found[1])
        if left < 0 and picked:
            break
        picked.append(key)
        if left < 0:
            break
    return tuple(picked)


def encode_newest(state: WorldState, keys: Iterable[int]) -> bytes:
    """One repair message with the newest values of ``keys``. A key that is no longer there goes as
    removed, as of its removal or, where that is forgotten, as of the newest tick."""
    rows = [_row(state, key) for key in keys]
    stride = state.stride
    if stride and not all(fits_stride(row.key, row.data, stride) for row in rows):
        stride = 0
    frame = Frame(
        state.epoch, state.tick, rows, repair=True, ticks=True, parts=0, stride=stride, sent_at=state.sent_at
    )
    return encode_frame(frame)


def _row(state: WorldState, key: int) -> Record:
    found = state.records.get(key)
    if found is not None:
        return Record(key, found[1], state.wire_tick(found[0]))
    return Record(key, None, state.wire_tick(state.tombstones.get(key, state.order)))
