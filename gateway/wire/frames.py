"""Frame messages of the frame protocol: 24 header bytes, then whole records. Room: wire. Pure.

Source: ``docs/FRAMES.md``, "A frame message". All integers are little-endian. The control messages are in
:mod:`gateway.wire.control`, the length prefix of streams in :mod:`gateway.wire.streams`, cutting
a frame into messages in :mod:`gateway.wire.split`; all of it is exported by :mod:`gateway.wire`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from gateway.errors import MalformedMessage
from gateway.limits import RECORDS_PER_FRAME_MAX, STREAM_MESSAGE_BYTES_MAX
from gateway.wire.compress import compress, decompress, inflated_bytes_max, inflated_records_max
from gateway.wire.control import TYPE_CONTROL, Control, decode_control
from gateway.wire.records import (
    RecordColumns,
    check_stride,
    read_columns,
    read_keys,
    read_records,
    record_chunks,
)

TYPE_FRAME: Final = 1
HEADER_BYTES: Final = 24
FLAG_KEYFRAME: Final = 1
FLAG_ZSTD: Final = 2
FLAG_REPAIR: Final = 4
FLAG_TICKS: Final = 8
FLAGS_KNOWN: Final = FLAG_KEYFRAME | FLAG_ZSTD | FLAG_REPAIR | FLAG_TICKS
STRIDE_MIN: Final = 4
U16_MAX: Final = 0xFFFF
U32_MAX: Final = 0xFFFF_FFFF

_HEADER: Final = struct.Struct("<BBHHHIIQ")
_U32: Final = struct.Struct("<I")


class Record(NamedTuple):
    """One thing's state: ``key`` (u32), its bytes (None: removed), and the tick it was set at
    (None: the frame's). With a stride the bytes include the key, their first u32."""

    key: int
    data: bytes | None
    tick: int | None = None


class Frame:
    """One frame message: the header's fields and its records.

    A decoded frame reads its records when they are first asked for, by :attr:`records` (every one
    with its tick) or :meth:`columns`; the bytes were validated before.
    """

    __slots__ = (
        "_bytes",
        "_columns",
        "_keys",
        "_start",
        "epoch",
        "keyframe",
        "part",
        "parts",
        "repair",
        "sent_at",
        "stride",
        "tick",
        "ticks",
        "zstd",
    )
    _bytes: bytes
    _start: int
    """Of a decoded frame with a stride: what its records are read from, and from where on."""

    def __init__(
        self,
        epoch: int,
        tick: int,
        records: Iterable[Record] = (),
        *,
        keyframe: bool = False,
        repair: bool = False,
        ticks: bool | None = None,
        part: int = 0,
        parts: int = 1,
        stride: int = 0,
        sent_at: int = 0,
        zstd: bool = False,
    ) -> None:
        """``ticks``: records carry their own tick; None: if any has one other than the frame's."""
        self.epoch = epoch
        self.tick = tick
        self.keyframe = keyframe
        self.repair = repair
        self.part = part
        self.parts = parts
        self.stride = stride
        self.sent_at = sent_at
        self.zstd = zstd
        self._keys: tuple[int, ...] | None = None
        rows = tuple(records)
        own = [tick if row.tick is None else row.tick for row in rows]
        self.ticks = any(t != tick for t in own) if ticks is None else ticks
        self._columns: RecordColumns | None = RecordColumns(
            tuple(row.key for row in rows), [row.data for row in rows], own if self.ticks else None
        )

    @classmethod
    def of_columns(
        cls, epoch: int, tick: int, columns: RecordColumns, *, stride: int = 0, sent_at: int = 0
    ) -> Frame:
        """A frame of records given by column, without a detour over :class:`Record`."""
        frame = cls(epoch, tick, (), stride=stride, sent_at=sent_at)
        frame._columns = columns
        frame.ticks = columns.ticks is not None
        return frame

    def columns(self) -> RecordColumns:
        """The records as (keys, values, ticks or None), read from the bytes once."""
        columns = self._columns
        if columns is None:
            columns = self._columns = read_columns(self._bytes, self._start, self.stride, self.ticks)
        return columns

    @property
    def keys(self) -> tuple[int, ...]:
        """The records' keys, without reading more of the bytes than those."""
        if self._columns is not None or self.ticks:
            return self.columns().keys
        keys = self._keys
        if keys is None:
            keys = self._keys = read_keys(self._bytes, self._start, self.stride)
        return keys

    @property
    def records(self) -> list[Record]:
        """The records, each with its tick."""
        keys, values, ticks = self.columns()
        if ticks is None:
            tick = self.tick
            return [Record(key, data, tick) for key, data in zip(keys, values, strict=True)]
        return list(map(Record, keys, values, ticks))

    def __repr__(self) -> str:
        marks = "".join(f" {name}" for name in ("keyframe", "repair", "ticks", "zstd") if getattr(self, name))
        return (
            f"<Frame {self.epoch}:{self.tick} part {self.part}/{self.parts} stride {self.stride}{marks}, "
            f"{len(self.keys)} records>"
        )


_new_frame: Final = Frame.__new__


def encode_frame(frame: Frame) -> bytes:
    """The message's bytes. ``frame.zstd`` compresses the records where that makes them smaller.
    Raises ``ValueError`` where a field or record does not fit the layout."""
    keys, values, ticks = frame.columns()
    body = encode_records(keys, values, ticks if frame.ticks else None, frame.stride)
    return encode_message(frame, body, frame.part, frame.parts)


def encode_message(frame: Frame, body: bytes, part: int, parts: int) -> bytes:
    """A message with the header of ``frame`` but this encoded ``body`` and part numbers."""
    flags = (frame.keyframe and FLAG_KEYFRAME) | (frame.repair and FLAG_REPAIR) | (frame.ticks and FLAG_TICKS)
    if frame.zstd and body:
        packed = compress(body)
        # zstd makes what does not shrink longer by its header: sent as it is, it spares the reader the unpacking,
        # too.
        if len(packed) < len(body):
            body, flags = packed, flags | FLAG_ZSTD
    try:
        head = _HEADER.pack(
            TYPE_FRAME, flags, part, parts, frame.stride, frame.epoch, frame.tick, frame.sent_at
        )
    except struct.error as error:
        raise ValueError(
            f"a header field does not fit: {error}; u16 part, parts, stride; u32 epoch, tick; u64 sent_at"
        ) from None
    return head + body


def encode_repair(epoch: int, tick: int, sent_at: int, stride: int, records: list[bytes]) -> bytes:
    """A repair of records that are encoded already (``u32 tick`` and ``stride`` bytes each)."""
    head = _HEADER.pack(TYPE_FRAME, FLAG_REPAIR | FLAG_TICKS, 0, 0, stride, epoch, tick, sent_at)
    return head + b"".join(records)


def encode_records(
    keys: Sequence[int], values: Sequence[bytes | None], ticks: Sequence[int] | None, stride: int
) -> bytes:
    """The records part of a message, uncompressed."""
    return b"".join(record_chunks(keys, values, ticks, stride))


def decode_message(message: bytes, *, proportionate: bool = False) -> Frame | Control:
    """The frame or control message in ``message``; raises :class:`MalformedMessage` for anything else.
    ``proportionate``: of a peer who must not cause more work than it has sent bytes for."""
    if not message:
        raise MalformedMessage("an empty message; the shortest has 1 byte, its type")
    kind = message[0]
    if kind == TYPE_FRAME:
        return decode_frame(message, proportionate=proportionate)
    if kind == TYPE_CONTROL:
        return decode_control(message)
    raise MalformedMessage(
        f"message type {kind} is unknown; version 1 has {TYPE_FRAME} (frame) and {TYPE_CONTROL} (control)"
    )


def decode_frame(message: bytes, *, proportionate: bool = False) -> Frame:
    """The frame in ``message``, fully validated; raises :class:`MalformedMessage` naming what is wrong.
    ``proportionate`` as for :func:`decode_message`."""
    if len(message) < HEADER_BYTES:
        raise MalformedMessage(
            f"a frame has a header of {HEADER_BYTES} bytes; this message has {len(message)} in all"
        )
    kind, flags, part, parts, stride, epoch, tick, sent_at = _HEADER.unpack_from(message)
    # One condition for all that can be wrong: which of them it was is found out only where one is.
    if kind != TYPE_FRAME or flags & ~FLAGS_KNOWN or (parts and part >= parts) or 0 < stride < STRIDE_MIN:
        raise _header_error(kind, flags, part, parts, stride)
    # Past __init__, which makes columns of records: here they are made when somebody asks, and most messages are
    # only passed on.
    frame = _new_frame(Frame)
    frame.epoch = epoch
    frame.tick = tick
    frame.part = part
    frame.parts = parts
    frame.stride = stride
    frame.sent_at = sent_at
    frame._bytes = message
    frame._start = HEADER_BYTES
    frame._columns = frame._keys = None
    records_max = RECORDS_PER_FRAME_MAX
    if flags:
        frame.keyframe = flags & FLAG_KEYFRAME != 0
        frame.repair = flags & FLAG_REPAIR != 0
        frame.ticks = flags & FLAG_TICKS != 0
        frame.zstd = flags & FLAG_ZSTD != 0
        # The bound of a peer rises with what it has sent: a reader that sends 1 KiB must not have us unpack 16 MiB.
        if flags & FLAG_ZSTD:
            packed = message[HEADER_BYTES:]
            bytes_max = STREAM_MESSAGE_BYTES_MAX
            if proportionate:
                bytes_max, records_max = inflated_bytes_max(len(packed)), inflated_records_max(len(packed))
            frame._bytes, frame._start = decompress(packed, bytes_max), 0
    else:
        frame.keyframe = frame.repair = frame.ticks = frame.zstd = False
    if stride:
        records_bytes, unit = len(frame._bytes) - frame._start, stride + 4 if frame.ticks else stride
        if records_bytes % unit or records_bytes > unit * records_max:
            check_stride(records_bytes, unit, records_max)
    else:
        # Without a stride only reading tells whether the records are whole: so they are read at once.
        frame._columns = read_records(frame._bytes, frame.ticks, records_max, frame._start)
        frame._bytes = b""
    return frame


def _header_error(kind: int, flags: int, part: int, parts: int, stride: int) -> MalformedMessage:
    if kind != TYPE_FRAME:
        return MalformedMessage(
            f"message type {kind} is not a frame; a frame starts with the byte {TYPE_FRAME}"
        )
    if flags & ~FLAGS_KNOWN:
        return MalformedMessage(
            f"flags {flags:#04x} has bits that version 1 does not know; bits 0 to 3 may be set"
        )
    if parts and part >= parts:
        return MalformedMessage(
            f"part {part} of {parts}: parts are counted from 0, and parts is 0 if not known"
        )
    return MalformedMessage(
        f"stride {stride} is too short for a record's key; it is 0 or at least {STRIDE_MIN}"
    )


def with_epoch(message: bytes, epoch: int) -> bytes:
    """The same frame message with this epoch in its header."""
    # A view of the rest: it is copied once, by join().
    return b"".join((message[:8], _U32.pack(epoch), memoryview(message)[12:]))
