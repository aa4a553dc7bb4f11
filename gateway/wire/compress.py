"""zstd for the records of a message, bounded. Room: wire. Pure: bytes in, bytes out.

A peer may claim any size, so the claim and the window are checked before a byte is unpacked.
Source: RFC 8878; ``docs/FRAMES.md``, flag bit 1.
"""

from __future__ import annotations

import threading
from typing import Final

import zstandard

from gateway.errors import MalformedMessage
from gateway.limits import (
    INFLATED_BYTES_MIN,
    INFLATED_RATIO_MAX,
    INFLATED_RECORDS_MIN,
    INFLATED_RECORDS_RATIO_MAX,
    RECORDS_PER_FRAME_MAX,
    STREAM_MESSAGE_BYTES_MAX,
    ZSTD_WINDOW_BYTES_MAX,
)

LEVEL: Final = 3


class _Contexts(threading.local):
    """zstd contexts are reused, and are not safe to share between threads."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)


_contexts: Final = _Contexts()


def compress(body: bytes) -> bytes:
    """One zstd frame that names its content's size. RFC 8878 section 3.1.1."""
    return _contexts.compressor.compress(body)


def decompress(body: bytes, bytes_max: int = STREAM_MESSAGE_BYTES_MAX) -> bytes:
    """What one zstd frame holds, at most ``bytes_max`` bytes; raises :class:`MalformedMessage`. RFC 8878 section 3.1.1.1."""
    try:
        # The bound is looked at twice: zstandard ignores max_output_size where the frame names its size (RFC 8878
        # section 3.1.1.1.4).
        claimed = zstandard.get_frame_parameters(body).content_size
        if claimed != zstandard.CONTENTSIZE_UNKNOWN and claimed > bytes_max:
            raise _too_long(bytes_max)
        # No extra data: bytes behind the frame would be carried on unseen.
        return _contexts.decompressor.decompress(body, max_output_size=bytes_max, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError, OverflowError) as error:
        raise MalformedMessage(
            f"the records are flagged zstd and do not unpack: {error}; send one zstd frame of at most {bytes_max} bytes"
        ) from None


def inflated_bytes_max(packed_bytes: int) -> int:
    """What a message of so many compressed bytes may unpack to, where a peer pays with its bytes for our work."""
    return min(STREAM_MESSAGE_BYTES_MAX, INFLATED_BYTES_MIN + INFLATED_RATIO_MAX * packed_bytes)


def inflated_records_max(packed_bytes: int) -> int:
    """How many records it may hold."""
    return min(RECORDS_PER_FRAME_MAX, INFLATED_RECORDS_MIN + INFLATED_RECORDS_RATIO_MAX * packed_bytes)


def _too_long(bytes_max: int) -> MalformedMessage:
    return MalformedMessage(
        f"the zstd records unpack to more than the bound of {bytes_max} bytes, which rises with the "
        "message's own; split the frame into parts, or send what packs so far without zstd"
    )
