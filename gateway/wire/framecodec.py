"""How a recorded frame is packed in its row: against the rows before it. Room: wire. Pure.

A row's *body* is its messages, each after its u32 length. Packing is a chain: some rows (every
keyframe) stand alone, each later one may lean on the rows since. Codecs, as ``docs/SCHEMA.md`` has them:

* 0 the body as it is (it stands alone)
* 1 one zstd frame (it stands alone)
* 2 one zstd frame whose prefix (raw-content dictionary) is the body of the row before
* 3 records of a stride, by columns: each record less what its key's two values before predict
  (16-bit lanes, linear, zigzag), transposed so that like bytes stand together, then one zstd frame

Slowly moving state packs some two times better by 3 than by 2; it is taken wherever it fits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import zstandard

from gateway.errors import MalformedMessage
from gateway.limits import FRAME_BODY_BYTES_MAX, FRAME_CHAIN_KEYS_MAX, ZSTD_WINDOW_BYTES_MAX
from gateway.wire.frames import FLAG_TICKS, FLAG_ZSTD, FLAGS_KNOWN, HEADER_BYTES, TYPE_FRAME
from gateway.wire.streams import prefix

PLAIN: Final = 0
ALONE: Final = 1
PREFIXED: Final = 2
COLUMNS: Final = 3
LEVEL: Final = 3

_HEAD_BYTES: Final = 4 + HEADER_BYTES
_FLAGS: Final = FLAGS_KNOWN & ~FLAG_ZSTD
_U32: Final = struct.Struct("<I")


def join(messages: Sequence[bytes]) -> bytes:
    """The body of a row: each message after its u32 length."""
    return b"".join(map(prefix, messages))


def messages_of(body: bytes) -> list[bytes]:
    """The messages of a body. Raises :class:`MalformedMessage` where it ends inside one."""
    return [body[start:end] for start, end in _spans(body)]


def _spans(body: bytes) -> Iterator[tuple[int, int]]:
    at, end = 0, len(body)
    while at < end:
        start = at + 4
        at = start + int.from_bytes(body[at:start], "little")
        if start > end or at > end:
            raise MalformedMessage(f"a row's body of {end} bytes ends inside a message at byte {start}")
        yield start, at


class _Layout(NamedTuple):
    """A body taken apart: the heads (length and header of each message), and all its records."""

    heads: bytes
    stride: int
    keys: tuple[int, ...]
    records: bytes
    plain: bool
    """False where records have ticks of their own, or make no whole lanes: not packed by columns."""


def _take_apart(body: bytes) -> _Layout | None:
    """None where the body is not whole records of one stride."""
    heads, chunks, stride, flags = [], [], 0, 0
    for start, end in _spans(body):
        if end - start < HEADER_BYTES or body[start] != TYPE_FRAME or body[start + 1] & ~_FLAGS:
            return None
        own = int.from_bytes(body[start + 6 : start + 8], "little")
        ticks_bytes = 4 if body[start + 1] & FLAG_TICKS else 0
        if own < 4 or (stride and own != stride) or (end - start - HEADER_BYTES) % (own + ticks_bytes):
            return None
        stride, flags = own, flags | body[start + 1]
        heads.append(body[start - 4 : start + HEADER_BYTES])
        records = body[start + HEADER_BYTES : end]
        chunks.append(_without_ticks(records, own) if ticks_bytes else records)
    if not stride:
        return None
    records = b"".join(chunks)
    plain = not flags & FLAG_TICKS and len(records) % 2 == 0
    return _Layout(b"".join(heads), stride, _keys(records, stride), records, plain)


def _without_ticks(records: bytes, stride: int) -> bytes:
    return b"".join([records[at : at + stride] for at in range(4, len(records), stride + 4)])


def _keys(records: bytes, stride: int) -> tuple[int, ...]:
    return tuple([key for (key,) in struct.iter_unpack(f"<I{stride - 4}x", records)])


def _put_together(heads: bytes, records: bytes) -> bytes:
    pieces, at = [], 0
    for start in range(0, len(heads), _HEAD_BYTES):
        head = heads[start : start + _HEAD_BYTES]
        end = at + _U32.unpack_from(head)[0] - HEADER_BYTES
        pieces += [head, records[at:end]]
        at = end
    return b"".join(pieces)


class _Lanes:
    """Arithmetic modulo 65,536 on every 16-bit lane of a long integer at once."""

    __slots__ = ("bytes", "high", "low", "ones")

    def __init__(self, size_bytes: int) -> None:
        self.bytes = size_bytes
        self.ones = int.from_bytes(b"\1\0" * (size_bytes // 2), "little")
        self.high = self.ones << 15
        self.low = self.high - self.ones

    def minus(self, a: int, b: int) -> int:
        return ((a | self.high) - (b & self.low)) ^ ((a ^ b ^ self.high) & self.high)

    def plus(self, a: int, b: int) -> int:
        return ((a & self.low) + (b & self.low)) ^ ((a ^ b) & self.high)

    def predicted(self, last: bytes, before: bytes) -> int:
        """``2 * last - before``: what goes on as it went."""
        value = int.from_bytes(last, "little")
        return self.plus(value, self.minus(value, int.from_bytes(before, "little")))

    def residue(self, records: bytes, last: bytes, before: bytes) -> bytes:
        """Zigzag of what the prediction missed: small either way is a small number."""
        missed = self.minus(int.from_bytes(records, "little"), self.predicted(last, before))
        zigzag = ((missed & self.low) << 1) ^ (((missed & self.high) >> 15) * 0xFFFF)
        return zigzag.to_bytes(self.bytes, "little")

    def restored(self, residue: bytes, last: bytes, before: bytes) -> bytes:
        """The inverse of :meth:`residue`."""
        zigzag = int.from_bytes(residue, "little")
        missed = ((zigzag >> 1) & self.low) ^ ((zigzag & self.ones) * 0xFFFF)
        return self.plus(missed, self.predicted(last, before)).to_bytes(self.bytes, "little")


class _Chain:
    """What a row may lean on: the body before it, and per key its last two values in this chain."""

    def __init__(self) -> None:
        self.body = b""
        self.stride = 0
        self.last: dict[int, bytes] = {}
        self.before: dict[int, bytes] = {}

    def restart(self) -> None:
        self.body = b""
        self.last.clear()
        self.before.clear()

    def follow(self, codec: int, body: bytes, layout: _Layout | None) -> None:
        """``body`` is the newest row now; one that leans on nothing starts the chain again."""
        if codec in (PLAIN, ALONE):
            self.restart()
        self.body = body
        if layout is None:
            return
        if layout.stride != self.stride or len(self.last) > FRAME_CHAIN_KEYS_MAX:
            self.last.clear()
            self.before.clear()
        self.stride = stride = layout.stride
        keys, records = layout.keys, layout.records
        last = self.last
        self.before.update([(key, last[key]) for key in keys if key in last])
        last.update(
            zip(keys, [records[at : at + stride] for at in range(0, len(records), stride)], strict=True)
        )

    def guesses(self, keys: Sequence[int], stride: int) -> tuple[bytes, bytes]:
        """Each key's last value and the one before it, joined; zeros where there is none."""
        if stride != self.stride:
            nothing = bytes(len(keys) * stride)
            return nothing, nothing
        zero = bytes(stride)
        last = [self.last.get(key, zero) for key in keys]
        before = [self.before.get(key, value) for key, value in zip(keys, last, strict=True)]
        return b"".join(last), b"".join(before)


class FrameEncoder:
    """Packs rows in the order in which they are written. ``level``: zstd's, 1 to 19; 0 packs nothing.

    Call :meth:`encode` for each row; after a write that failed call :meth:`restart`.
    """

    def __init__(self, level: int = LEVEL) -> None:
        self.level = level
        self._chain = _Chain()
        self._alone = zstandard.ZstdCompressor(level=level or LEVEL)

    def restart(self) -> None:
        """The next row stands alone."""
        self._chain.restart()

    def encode(self, messages: Sequence[bytes], *, fresh: bool = False) -> tuple[int, bytes]:
        """(codec, packed body) of a row. ``fresh``: it leans on nothing (a keyframe)."""
        body = join(messages)
        if not self.level:
            return PLAIN, body
        if fresh:
            self._chain.restart()
        layout = _take_apart(body)
        codec, packed = self._pack(body, layout)
        if len(packed) >= len(body):
            codec, packed = PLAIN, body
        self._chain.follow(codec, body, layout)
        return codec, packed

    def _pack(self, body: bytes, layout: _Layout | None) -> tuple[int, bytes]:
        if not self._chain.body:
            return ALONE, self._alone.compress(body)
        if layout is None or not layout.plain:
            return PREFIXED, _with_prefix(self._chain.body, self.level).compress(body)
        return COLUMNS, self._alone.compress(self._columns(layout))

    def _columns(self, layout: _Layout) -> bytes:
        """u32 length of the heads, the heads, u32 stride, the keys' steps, then the residue by columns."""
        stride, keys = layout.stride, layout.keys
        residue = _Lanes(len(layout.records)).residue(layout.records, *self._chain.guesses(keys, stride))
        steps = [key - before & 0xFFFF_FFFF for key, before in zip(keys, (0, *keys), strict=False)]
        columns = [residue[at::stride] for at in range(stride)]
        head = _U32.pack(len(layout.heads)) + layout.heads + _U32.pack(stride)
        return b"".join([head, struct.pack(f"<{len(steps)}I", *steps), *columns])


class FrameDecoder:
    """Unpacks rows in order, from one that stands alone. After one that failed, go on at the next of those."""

    def __init__(self) -> None:
        self._chain = _Chain()
        self._alone = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)

    def decode(self, codec: int, packed: bytes) -> list[bytes]:
        """The messages of a row. Raises :class:`MalformedMessage` where it is damaged."""
        try:
            body = self._unpack(codec, packed)
            messages = messages_of(body)
            self._chain.follow(codec, body, _take_apart(body))
        except (zstandard.ZstdError, struct.error, ValueError, MemoryError, OverflowError) as error:
            self._chain.restart()
            raise MalformedMessage(
                f"a recorded frame does not unpack (codec {codec}): {error}; go on at the next keyframe"
            ) from None
        return messages

    def _unpack(self, codec: int, packed: bytes) -> bytes:
        if codec == PLAIN:
            return packed
        _check_claim(packed)
        if codec == ALONE:
            return self._alone.decompress(packed)
        if codec == PREFIXED and self._chain.body:
            return _without_prefix(self._chain.body).decompress(packed)
        if codec == COLUMNS and self._chain.body:
            return self._from_columns(self._alone.decompress(packed))
        raise ValueError(f"codec {codec} here needs the row before it, or is not known to this version")

    def _from_columns(self, data: bytes) -> bytes:
        (heads_bytes,) = _U32.unpack_from(data)
        at = 4 + heads_bytes
        heads = data[4:at]
        (stride,) = _U32.unpack_from(data, at)
        count, rest = divmod(len(data) - at - 4, 4 + stride)
        if rest or stride < 4 or heads_bytes % _HEAD_BYTES or (count * stride) % 2:
            raise ValueError(f"columns of {len(data)} bytes are not whole records of {stride} bytes")
        keys = _sum_up(struct.unpack_from(f"<{count}I", data, at + 4))
        residue = bytearray(count * stride)
        columns = memoryview(data)[at + 4 + 4 * count :]
        for column in range(stride):
            residue[column::stride] = columns[column * count : (column + 1) * count]
        restored = _Lanes(len(residue)).restored(bytes(residue), *self._chain.guesses(keys, stride))
        return _put_together(heads, restored)


def _sum_up(steps: Sequence[int]) -> list[int]:
    keys, key = [], 0
    for step in steps:
        key = key + step & 0xFFFF_FFFF
        keys.append(key)
    return keys


def _with_prefix(body: bytes, level: int) -> zstandard.ZstdCompressor:
    raw = zstandard.ZstdCompressionDict(body, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(level=level, dict_data=raw)


def _without_prefix(body: bytes) -> zstandard.ZstdDecompressor:
    raw = zstandard.ZstdCompressionDict(body, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdDecompressor(dict_data=raw, max_window_size=ZSTD_WINDOW_BYTES_MAX)


def _check_claim(packed: bytes) -> None:
    claimed = zstandard.get_frame_parameters(packed).content_size
    if claimed == zstandard.CONTENTSIZE_UNKNOWN or claimed > FRAME_BODY_BYTES_MAX:
        raise ValueError(f"it claims {claimed} bytes and the bound is {FRAME_BODY_BYTES_MAX}")
