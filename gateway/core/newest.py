"""Messages of newest values: what repairs a loss and what a slow reader gets. Room: core. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.core.state import RECORD_HEAD_BYTES, WorldState
from gateway.wire.frames import HEADER_BYTES, Frame, encode_frame
from gateway.wire.records import Columns, fits_stride


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


def encode_newest(state: WorldState, keys: Sequence[int]) -> bytes:
    """One repair message with the newest values of ``keys``. A key that is no longer there goes as
    removed, as of its removal or, where that is forgotten, as of the newest tick."""
    records, tombstones, base = state.records, state.tombstones, state.epoch << 32
    values: list[bytes | None] = []
    ticks = []
    stride = state.stride
    for key in keys:
        found = records.get(key)
        order, data = found if found is not None else (tombstones.get(key, state.order), None)
        values.append(data)
        ticks.append(order - base if order > base else 0)
        if stride and not fits_stride(key, data, stride):
            stride = 0
    columns = Columns(tuple(keys), values, ticks)
    frame = Frame.of_columns(state.epoch, state.tick, columns, stride=stride, sent_at=state.sent_at)
    frame.repair, frame.parts = True, 0
    return encode_frame(frame)
