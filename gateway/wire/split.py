"""Cutting a frame into messages of whole records. Room: wire. Pure.

Source: ``docs/FRAMES.md``, "What is said": a frame travels as one or more messages, each useful on its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.errors import TooLarge
from gateway.wire.frames import HEADER_BYTES, U16_MAX, Frame, encode_message
from gateway.wire.records import record_chunks


def split(frame: Frame, message_bytes_max: int) -> list[bytes]:
    """``frame`` as messages of at most ``message_bytes_max`` bytes, ``part`` and ``parts`` filled in.

    A record that does not fit by itself stands alone in a longer message: look at the lengths and
    send that one by a stream. A frame without records is one message. Raises :class:`TooLarge`
    above 65,535 parts.
    """
    return split_together([frame], message_bytes_max)


def split_together(frames: Sequence[Frame], message_bytes_max: int) -> list[bytes]:
    """Like :func:`split` for one frame whose records need several headers (a stride for most, none
    for removals): ``part`` and ``parts`` count through all of them."""
    groups = [
        (frame, group) for frame in frames for group in _groups(frame, message_bytes_max - HEADER_BYTES)
    ]
    parts = len(groups)
    if parts > U16_MAX:
        raise TooLarge(
            f"the frame takes {parts} messages of {message_bytes_max} bytes, and the bound is {U16_MAX}; allow longer messages"
        )
    return [encode_message(frame, b"".join(group), part, parts) for part, (frame, group) in enumerate(groups)]


def _groups(frame: Frame, room_bytes: int) -> list[list[bytes]]:
    keys, values, ticks = frame.columns()
    chunks = record_chunks(keys, values, ticks if frame.ticks else None, frame.stride)
    return pack_chunks(chunks, room_bytes)


def pack_chunks(chunks: Sequence[bytes], room_bytes: int) -> list[list[bytes]]:
    """Encoded records in groups of at most ``room_bytes``, in order; one over it stands alone."""
    groups: list[list[bytes]] = [[]]
    filled = 0
    for chunk in chunks:
        # Filled in order, not to the best fit: a reader's keys stay in order, which packs them better where
        # they are recorded.
        if filled and filled + len(chunk) > room_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(chunk)
        filled += len(chunk)
    return groups
