"""A frame's parity message: whichever one of its datagrams is lost can be made again from the others. Room: wire. Pure.

Source: ``docs/FRAMES.md``, "Parity". It is the XOR of the frame's messages as wide as the longest of them, behind a
header like theirs, so that it fits wherever they do.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from gateway.limits import PARITY_FRAMES_MAX, PARITY_MESSAGES_MAX
from gateway.wire.frames import HEADER_BYTES, TYPE_FRAME

TYPE_PARITY: Final = 2

_HEADER: Final = struct.Struct("<BBHHHIIQ")
_Frame = tuple[int, int, int, int]
"""Of all messages of one frame: parts, epoch, tick, sent_at."""


def encode_parity(messages: Sequence[bytes]) -> bytes | None:
    """The parity of these messages; None where they are not, once each, the several parts of one frame."""
    count = len(messages)
    if not 2 <= count <= PARITY_MESSAGES_MAX:
        return None
    first, parts_seen, lengths, total = None, 0, 0, 0
    for message in messages:
        kind, _, part, *frame = _HEADER.unpack_from(message)
        named = (frame[0], *frame[2:])
        first = first or named
        if kind != TYPE_FRAME or named != first or frame[0] != count:
            return None
        parts_seen |= 1 << part
        lengths ^= len(message)
        # As long numbers: the XOR of 1,200 bytes is one loop in C, and shorter messages are padded with zeros at no
        # cost.
        total ^= int.from_bytes(message, "little")
    assert first is not None
    if parts_seen != (1 << count) - 1:
        return None
    body = total.to_bytes(max(map(len, messages)), "little")
    _, flags, _, _, stride, _, _, _ = _HEADER.unpack_from(body)
    parts, epoch, tick, sent_at = first
    head = _HEADER.pack(TYPE_PARITY, flags, lengths, parts, stride, epoch, tick, sent_at)
    return head + body[HEADER_BYTES:]


class _Parts:
    """What came of one frame: its messages by part, and its parity."""

    __slots__ = ("messages", "parity")

    def __init__(self) -> None:
        self.messages: dict[int, bytes] = {}
        self.parity = b""


class Rebuilder:
    """A reader's end: give it every datagram, and take the message that it makes again."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        self._frames: dict[_Frame, _Parts | None] = {}
        """The newest frames of several messages, oldest first; None: nothing is missing any more."""

    def receive(self, message: bytes) -> bytes | None:
        """A datagram, of whatever type. Answers the message that was lost, once it can be known."""
        if len(message) < HEADER_BYTES or message[0] not in (TYPE_FRAME, TYPE_PARITY):
            return None
        kind, _, part, parts, _, epoch, tick, sent_at = _HEADER.unpack_from(message)
        if not 2 <= parts <= PARITY_MESSAGES_MAX:
            return None
        frame = (parts, epoch, tick, sent_at)
        held = self._of(frame)
        if held is None:
            return None
        if kind == TYPE_PARITY:
            held.parity = message
        elif part < parts:
            held.messages[part] = message
        missing = parts - len(held.messages)
        if missing and not (missing == 1 and held.parity):
            return None
        # Kept as done, not deleted: a datagram that comes late or twice would begin the frame again.
        self._frames[frame] = None
        return _rebuilt(held, frame) if missing else None

    def _of(self, frame: _Frame) -> _Parts | None:
        """What is held of a frame; None: it is whole."""
        frames = self._frames
        if frame not in frames:
            frames[frame] = _Parts()
            if len(frames) > PARITY_FRAMES_MAX:
                del frames[next(iter(frames))]
        return frames[frame]


def _rebuilt(held: _Parts, frame: _Frame) -> bytes | None:
    """The one message that is missing; None where what came can't be of one frame."""
    parts, epoch, tick, sent_at = frame
    total = int.from_bytes(held.parity, "little")
    _, flags, length, _, stride, _, _, _ = _HEADER.unpack_from(held.parity)
    for message in held.messages.values():
        total ^= int.from_bytes(message, "little")
        length ^= len(message)
        flags ^= message[1]
        stride ^= message[6] | message[7] << 8
    part = next(n for n in range(parts) if n not in held.messages)
    longest = max(len(held.parity), *map(len, held.messages.values()))
    # Parts of different frames under one name, or a peer that lies: what comes out is no message.
    if not HEADER_BYTES <= length <= longest:
        return None
    body = total.to_bytes(longest, "little")
    head = _HEADER.pack(TYPE_FRAME, flags, part, parts, stride, epoch, tick, sent_at)
    return head + body[HEADER_BYTES:length]
