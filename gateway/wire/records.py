"""The records of a frame message: how they stand in its bytes. Room: wire. Pure.

Source: ``docs/FRAMES.md``, "A frame message". The header before them is in :mod:`gateway.wire.frames`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from gateway.errors import MalformedMessage
from gateway.limits import RECORD_LAYOUTS_CACHED_MAX, RECORDS_AT_ONCE_MAX, RECORDS_PER_FRAME_MAX

REMOVED_LENGTH: Final = 0xFFFF_FFFF

_HEAD: Final = struct.Struct("<II")
_HEAD_TICKS: Final = struct.Struct("<III")
_U32: Final = struct.Struct("<I")


class RecordColumns(NamedTuple):
    """A message's records by column: the fast face of :class:`Frame`. ``ticks``: None = the frame's."""

    keys: tuple[int, ...]
    values: Sequence[bytes | None]
    ticks: Sequence[int] | None


def record_chunks(
    keys: Sequence[int], values: Sequence[bytes | None], ticks: Sequence[int] | None, stride: int
) -> list[bytes]:
    """Each record's bytes as they stand in a message."""
    if stride:
        return _stride_chunks(keys, values, ticks, stride)
    if ticks is None:
        pack = _HEAD.pack
        return [
            pack(key, REMOVED_LENGTH) if data is None else pack(key, len(data)) + data
            for key, data in zip(keys, values, strict=True)
        ]
    pack = _HEAD_TICKS.pack
    return [
        pack(tick, key, REMOVED_LENGTH) if data is None else pack(tick, key, len(data)) + data
        for key, data, tick in zip(keys, values, ticks, strict=True)
    ]


def _stride_chunks(
    keys: Sequence[int], values: Sequence[bytes | None], ticks: Sequence[int] | None, stride: int
) -> list[bytes]:
    pack = _U32.pack
    chunks: list[bytes] = []
    for key, data in zip(keys, values, strict=True):
        if data is None or len(data) != stride or data[:4] != pack(key):
            raise ValueError(
                f"record {key} is not {stride} bytes that start with its key; send it in a message with stride 0"
            )
        chunks.append(data)
    if ticks is None:
        return chunks
    return [pack(tick) + data for tick, data in zip(ticks, chunks, strict=True)]


def fits_stride(key: int, data: bytes | None, stride: int) -> bool:
    """True for a record that a message of this stride can carry."""
    return data is not None and len(data) == stride and data[:4] == _U32.pack(key)


def check_stride(body_bytes: int, unit: int, records_max: int = RECORDS_PER_FRAME_MAX) -> None:
    """Raises :class:`MalformedMessage` unless these are whole records, and not too many."""
    if body_bytes % unit:
        raise MalformedMessage(
            f"{body_bytes} bytes of records are not a multiple of {unit}, the stride (and tick) of each; send whole records"
        )
    _check_count(body_bytes // unit, records_max)


def _check_count(count: int, records_max: int) -> None:
    if count > records_max:
        raise MalformedMessage(
            f"{count} records in one message are over the bound of {records_max}"
            + (
                "; split the frame into parts"
                if records_max == RECORDS_PER_FRAME_MAX
                else " for so few compressed bytes; give each key once, or send them without zstd"
            )
        )


@lru_cache(RECORD_LAYOUTS_CACHED_MAX)
def _all_at_once(unit: int, count: int, record: str) -> Callable[..., tuple[Any, ...]]:
    """What reads ``count`` units of ``unit`` bytes in one call, each as ``record``: the few that a datagram
    holds cost less so than an iteration over them."""
    return struct.Struct("<" + (record + f"{unit - struct.calcsize('<' + record)}x") * count).unpack_from


def read_keys(message: bytes, start: int, stride: int) -> tuple[int, ...]:
    """The keys of records of ``stride`` bytes, from ``start`` to the message's end."""
    count = (len(message) - start) // stride
    if count <= RECORDS_AT_ONCE_MAX:
        # struct caches 100 formats of its own, and only for calls with the format's text; ours are kept as objects.
        return _all_at_once(stride, count, "I")(message, start)
    return tuple([key for (key,) in struct.iter_unpack(f"<I{stride - 4}x", message[start:])])


def read_columns(message: bytes, start: int, stride: int, own_ticks: bool) -> RecordColumns:
    """The records of ``stride`` bytes, each after its tick if they have their own, from ``start`` on."""
    unit = stride + 4 if own_ticks else stride
    count = (len(message) - start) // unit
    if not own_ticks:
        keys = read_keys(message, start, stride)
        if count <= RECORDS_AT_ONCE_MAX:
            return RecordColumns(keys, _all_at_once(stride, count, f"{stride}s")(message, start), None)
        return RecordColumns(
            keys, [message[at : at + stride] for at in range(start, len(message), stride)], None
        )
    heads = list(struct.iter_unpack(f"<II{stride - 4}x", message[start:]))
    values = [message[at : at + stride] for at in range(start + 4, len(message), unit)]
    return RecordColumns(tuple([key for _, key in heads]), values, [tick for tick, _ in heads])


def read_records(
    body: bytes, own_ticks: bool, records_max: int = RECORDS_PER_FRAME_MAX, start: int = 0
) -> RecordColumns:
    """Records that carry their own lengths, at most ``records_max``, from ``start`` on. Raises
    :class:`MalformedMessage`."""
    keys: list[int] = []
    values: list[bytes | None] = []
    ticks: list[int] | None = [] if own_ticks else None
    head = _HEAD_TICKS if own_ticks else _HEAD
    at, end, head_bytes, unpack = start, len(body), head.size, head.unpack_from
    while at < end:
        if at + head_bytes > end:
            raise MalformedMessage(
                f"the record at byte {at - start} ends inside its {head_bytes}-byte head; send whole records"
            )
        if ticks is None:
            key, length = unpack(body, at)
        else:
            tick, key, length = unpack(body, at)
            ticks.append(tick)
        at += head_bytes
        # Looked at before each, not after all: what is over the bound is never made.
        if len(keys) == records_max:
            _check_count(records_max + 1, records_max)
        keys.append(key)
        if length == REMOVED_LENGTH:
            values.append(None)
        elif length > end - at:
            raise MalformedMessage(
                f"record {key} says {length} bytes and {end - at} are left in the message; send whole records"
            )
        else:
            values.append(body[at : at + length])
            at += length
    return RecordColumns(tuple(keys), values, ticks)
