"""Packed pages back to bytes, within a bound. Room: store. Pure."""

from __future__ import annotations

import zstandard


def unpacked(unpacker: zstandard.ZstdDecompressor, packed: bytes, bytes_max: int) -> bytes:
    """What one zstd frame holds, at most ``bytes_max`` bytes. Raises ``zstandard.ZstdError`` for all else.

    A frame may state how much it holds in 8 bytes (RFC 8878 section 3.1.1.1.4), and python-zstandard gets memory for whatever is
    stated: its ``max_output_size`` binds only frames that state nothing. A bit that flipped there asks for petabytes.
    """
    stated = zstandard.get_frame_parameters(packed).content_size
    if stated > bytes_max and stated != zstandard.CONTENTSIZE_UNKNOWN:
        raise zstandard.ZstdError(f"it says that it holds {stated} bytes, and the bound is {bytes_max}")
    return unpacker.decompress(packed, max_output_size=bytes_max)
