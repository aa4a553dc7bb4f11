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
from collections.abc import Sequence
from typing import Final, NamedTuple

import zstandard

from gateway.errors import MalformedMessage
from gateway.limits import FRAME_BODY_BYTES_MAX, FRAME_CHAIN_KEYS_MAX, ZSTD_WINDOW_BYTES_MAX
from gateway.wire.framechain import (
    MESSAGE_HEAD_BYTES,
    BodyLayout,
    Chain,
    FrameHead,
    join,
    messages_of,
    put_together,
    take_apart,
)
from gateway.wire.frames import U16_MAX
from gateway.wire.streams import prefix

PLAIN: Final = 0
ALONE: Final = 1
PREFIXED: Final = 2
COLUMNS: Final = 3
QUICK: Final = -1
"""No codec of a row: the body is still to be packed by :func:`pack_quick`."""
LEVEL: Final = 1
"""Higher levels make a tenth smaller at best (docs/SCHEMA.md has the figures)."""
QUICK_LEVEL: Final = -1
"""Of frames that are packed one by one: without tables of their own, which a frame of 1 KiB seldom pays for."""

_U32: Final = struct.Struct("<I")
_MANY: Final = 24
"""One call for so many bodies costs less than a call for each; it has 30 us of its own."""


class FrameEncoder:
    """Packs rows in the order in which they are written. ``level``: zstd's, 1 to 19; 0 packs nothing.

    Call :meth:`encode` for each row; after a write that failed call :meth:`restart`. Bodies of up to
    ``quick_bytes_max`` lean on nothing, and come back as they are, as :data:`QUICK`: give those of many rows
    to :func:`pack_quick`. That takes a fifth of the time, and two or three times the bytes.
    """

    def __init__(self, level: int = LEVEL) -> None:
        self.level = level
        self.quick_bytes_max = 0
        self._chain = Chain()
        self._alone = zstandard.ZstdCompressor(level=level or LEVEL)

    def restart(self) -> None:
        """The next row stands alone."""
        self._chain.restart()

    def encode(self, messages: Sequence[bytes], *, fresh: bool = False) -> tuple[int, bytes]:
        """(codec, packed body) of a row. ``fresh``: it leans on nothing (a keyframe)."""
        body = prefix(messages[0]) if len(messages) == 1 else join(messages)
        if not self.level:
            return PLAIN, body
        if 0 < len(body) <= self.quick_bytes_max:
            if self._chain.begun:
                self._chain.restart()
            return QUICK, body
        if fresh:
            self._chain.restart()
        layout = take_apart(body, self._chain.lists)
        codec, packed = self._pack(body, layout)
        # What does not shrink is kept as it is: it opens without zstd, and stands alone.
        if len(packed) >= len(body):
            codec, packed = PLAIN, body
        self._chain.follow(body, layout, alone=codec in (PLAIN, ALONE))
        if self._chain.is_heavy:
            self._chain.restart()
        return codec, packed

    def _pack(self, body: bytes, layout: BodyLayout | None) -> tuple[int, bytes]:
        if not self._chain.begun:
            return ALONE, self._alone.compress(body)
        if layout is None or not layout.plain:
            return PREFIXED, _with_prefix(self._chain.body, self.level).compress(body)
        return COLUMNS, self._alone.compress(self._columns(layout))

    def _columns(self, layout: BodyLayout) -> bytes:
        """u32 length of the heads, the heads, u32 stride, the keys' steps, then the residue by columns."""
        stride, keys = layout.stride, layout.keys
        last, before = self._chain.guesses(keys, stride)
        residue = self._chain.lanes(layout.records.size_bytes).residue(layout.records, last, before)
        # Like bytes side by side, as in columnar files: high bytes of small differences are runs of zeros, which zstd packs to
        # nearly nothing.
        columns = [residue[at::stride] for at in range(stride)]
        head = _U32.pack(len(layout.heads)) + layout.heads + _U32.pack(stride)
        return b"".join([head, keys.steps, *columns])


def pack_quick(bodies: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """(codec, packed body) for each: alone, in one call where they are many, since around each call of zstd
    the interpreter's lock changes hands."""
    codec = zstandard.ZstdCompressor(level=QUICK_LEVEL)
    if len(bodies) >= _MANY:
        many = codec.multi_compress_to_buffer(list(bodies))
        packed = [many[at].tobytes() for at in range(len(many))]
    else:
        packed = [codec.compress(body) for body in bodies]
    return [
        (ALONE, small) if len(small) < len(body) else (PLAIN, body)
        for small, body in zip(packed, bodies, strict=True)
    ]


class Unpacked(NamedTuple):
    """A row: its body, or (None) what to put it together from."""

    body: bytes | None
    layout: BodyLayout | None

    def messages(self) -> list[bytes]:
        """The messages of the row."""
        if self.body is not None or self.layout is None:
            return messages_of(self.body or b"")
        return messages_of(put_together(self.layout.heads, self.layout.records.bytes))

    def one_frame(self) -> FrameHead | None:
        """As :meth:`BodyLayout.one_frame`."""
        return None if self.layout is None else self.layout.one_frame()


class FrameDecoder:
    """Unpacks rows in order, from one that stands alone. After one that failed, go on at the next of those."""

    def __init__(self) -> None:
        self._chain = Chain()
        self._alone = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)

    def decode(self, codec: int, packed: bytes) -> list[bytes]:
        """The messages of a row. Raises :class:`MalformedMessage` where it is damaged."""
        return self.unpack(codec, packed).messages()

    def unpack(self, codec: int, packed: bytes) -> Unpacked:
        """A row whose messages are made when they are asked for. Raises as :meth:`decode`."""
        chain, layout = self._chain, None
        try:
            # No encoder of ours goes so far (is_heavy starts its chain again): it is a file that was made to fill
            # memory.
            if codec in (PREFIXED, COLUMNS) and chain.known_keys > 2 * FRAME_CHAIN_KEYS_MAX:
                raise ValueError(
                    f"more than {2 * FRAME_CHAIN_KEYS_MAX} keys since the last row that stands alone"
                )
            body: bytes | None = None
            if codec == COLUMNS and chain.begun:
                layout = self._from_columns(self._decompress(packed))
            else:
                body = self._unpack(codec, packed)
                # Walked through once here, so that a body which ends inside a message is refused before the
                # chain leans on it.
                messages_of(body)
                layout = take_apart(body, chain.lists)
            chain.follow(body, layout, alone=codec in (PLAIN, ALONE))
        except (
            MalformedMessage,
            zstandard.ZstdError,
            struct.error,
            ValueError,
            MemoryError,
            OverflowError,
        ) as error:
            chain.restart()
            raise MalformedMessage(
                f"a recorded frame does not unpack (codec {codec}): {error}; go on at the next keyframe"
            ) from None
        return Unpacked(body, layout)

    def _unpack(self, codec: int, packed: bytes) -> bytes:
        if codec == PLAIN:
            return packed
        if codec == ALONE:
            return self._decompress(packed)
        if codec == PREFIXED and self._chain.begun:
            _check_claim(packed)
            return _without_prefix(self._chain.body).decompress(packed)
        raise ValueError(f"codec {codec} here needs the row before it, or is not known to this version")

    def _decompress(self, packed: bytes) -> bytes:
        _check_claim(packed)
        return self._alone.decompress(packed)

    def _from_columns(self, data: bytes) -> BodyLayout:
        (heads_bytes,) = _U32.unpack_from(data)
        at = 4 + heads_bytes
        heads = data[4:at]
        (stride,) = _U32.unpack_from(data, at)
        count, rest = divmod(len(data) - at - 4, 4 + stride)
        if rest or not 4 <= stride <= U16_MAX or heads_bytes % MESSAGE_HEAD_BYTES or (count * stride) % 2:
            raise ValueError(f"columns of {len(data)} bytes are not whole records of {stride} bytes")
        start = at + 4 + 4 * count
        keys = self._chain.lists.of_steps(data[at + 4 : start])
        residue = bytearray(count * stride)
        for column in range(stride):
            residue[column::stride] = data[start : start + count]
            start += count
        last, before = self._chain.guesses(keys, stride)
        records = self._chain.lanes(len(residue)).restored(residue, last, before)
        layout = BodyLayout(heads, stride, keys, records, True)
        layout.check()
        return layout


def _with_prefix(body: bytes, level: int) -> zstandard.ZstdCompressor:
    # Raw content, no trained dictionary: the body before is the best sample there is, and needs no tables.
    raw = zstandard.ZstdCompressionDict(body, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(level=level, dict_data=raw)


def _without_prefix(body: bytes) -> zstandard.ZstdDecompressor:
    raw = zstandard.ZstdCompressionDict(body, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdDecompressor(dict_data=raw, max_window_size=ZSTD_WINDOW_BYTES_MAX)


def _check_claim(packed: bytes) -> None:
    # Before a byte is made: a frame of some bytes may say that it holds gigabytes (RFC 8878 section 3.1.1.1, Frame_Content_Size).
    claimed = zstandard.get_frame_parameters(packed).content_size
    if claimed == zstandard.CONTENTSIZE_UNKNOWN or claimed > FRAME_BODY_BYTES_MAX:
        raise ValueError(f"it claims {claimed} bytes and the bound is {FRAME_BODY_BYTES_MAX}")
