"""Page content: hashed, compressed where it helps, and checked when it comes back. Room: store."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

import zstandard
from blake3 import blake3

from gateway.errors import BadInput, StoreDamaged, TooLarge
from gateway.limits import STORE_CODECS_KEPT, STORE_PAGE_BYTES_MAX
from gateway.store.unpacking import unpacked

RAW: Final = 0
ZSTD: Final = 1
ZSTD_LEVEL: Final = 1
"""5 us for an 8 KiB page that does not compress, 40 us for one of dense records; higher levels gain little."""
ROUND_LEVEL: Final = -1
"""Of the pages of a round of journals, which hold packed frames: half the time, for a twentieth more bytes."""

_MANY: Final = 12
"""One call for so many pages costs less than a call for each; it has 30 us of its own."""

_idle: Final[deque[Codecs]] = deque(maxlen=STORE_CODECS_KEPT)
"""zstandard's objects must not be shared by threads, and one of each a thread would be 350 KiB a thread that has
long done its work: each open world has some."""


class Codecs(NamedTuple):
    """Of pages, and of the pages of rounds. Each takes its memory with its first use."""

    compressor: zstandard.ZstdCompressor
    decompressor: zstandard.ZstdDecompressor
    of_rounds: zstandard.ZstdCompressor


class PackedContent(NamedTuple):
    """One page's content ready for the ``blob`` table."""

    hash: bytes
    enc: int
    data: bytes


def _lent() -> Codecs:
    """Codecs that nobody else uses until they are given back to ``_idle``."""
    try:
        # A deque's pop() and append() are atomic (docs.python.org/3/library/collections.html#deque-objects): no
        # lock of ours.
        return _idle.pop()
    except IndexError:
        return Codecs(
            zstandard.ZstdCompressor(level=ZSTD_LEVEL),
            zstandard.ZstdDecompressor(),
            zstandard.ZstdCompressor(level=ROUND_LEVEL),
        )


def pack(data: bytes, expected: bytes | None = None) -> PackedContent:
    """Hash and compress one page (at most 32,768 bytes). Compressed only if that saves an eighth.

    Raises :class:`TooLarge`, and :class:`BadInput` where ``expected`` is not its BLAKE3-256.
    """
    if len(data) > STORE_PAGE_BYTES_MAX:
        raise TooLarge(f"page of {len(data)} bytes; the bound is {STORE_PAGE_BYTES_MAX}")
    digest = blake3(data).digest()
    if expected is not None and digest != expected:
        raise BadInput(f"inline page's hash {expected.hex()} is not that of its data ({digest.hex()})")
    codecs = _lent()
    try:
        return _smaller(digest, data, codecs.compressor.compress(data))
    finally:
        _idle.append(codecs)


def pack_each(pages: Iterable[tuple[bytes, bytes]]) -> dict[bytes, PackedContent]:
    """Compress many pages of a round, (hash, data) each, by hash. The hashes are trusted: the caller has just made them.

    In one call where that pays, since around each call the interpreter's lock changes hands.
    """
    # By hash: the same page in several journals is compressed once.
    contents, codecs = dict(pages), _lent()
    try:
        if len(contents) >= _MANY:
            many = codecs.of_rounds.multi_compress_to_buffer(list(contents.values()))
            # Copied out: a piece keeps the buffer of all of them alive.
            small = [many[at].tobytes() for at in range(len(many))]
        else:
            small = [codecs.of_rounds.compress(data) for data in contents.values()]
    finally:
        _idle.append(codecs)
    return {
        digest: _smaller(digest, data, packed)
        for (digest, data), packed in zip(contents.items(), small, strict=True)
    }


def _smaller(digest: bytes, data: bytes, small: bytes) -> PackedContent:
    return (
        PackedContent(digest, ZSTD, small)
        if len(small) * 8 <= len(data) * 7
        else PackedContent(digest, RAW, data)
    )


def unpack(digest: bytes, enc: int, data: bytes) -> bytes:
    """The page's bytes. Raises :class:`StoreDamaged`, naming the hash, if they are not what was written."""
    if enc == ZSTD:
        codecs = _lent()
        try:
            data = unpacked(codecs.decompressor, data, STORE_PAGE_BYTES_MAX)
        except zstandard.ZstdError as error:
            raise StoreDamaged(
                f"content {digest.hex()} is damaged on disk: {error}", hash=digest.hex()
            ) from error
        finally:
            _idle.append(codecs)
    # Whatever SQLite and zstd let through: a flipped bit of a raw page has no other guard.
    if blake3(data).digest() != digest:
        raise StoreDamaged(
            f"content {digest.hex()} is damaged on disk: its bytes have another hash", hash=digest.hex()
        )
    return data
