"""The capsules of a session's own stream, as they come. Room: quic. Pure.

Only the one that ends the session and those of its flow control are read; all others are passed over, whatever their length.
Sources: RFC 9297 section 3; draft-ietf-webtrans-http3 section 6.
"""

from __future__ import annotations

from collections.abc import Iterator

from aioquic.buffer import encode_uint_var

from gateway import limits
from gateway.quic.buffers import Buffer, BufferReadError
from gateway.quic.h3.credit import CAPSULES

CLOSE_CAPSULE = 0x2843
_CODE_BYTES = 4


class CapsuleReader:
    """Fed with the stream's bytes; never holds more than the longest capsule that is read, beyond what was fed last."""

    __slots__ = ("_buffer", "_skip")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Each capsule that is of use and whole now: its type and its content."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer += data
        while self._buffer:
            # As much as the longest capsule that is read has: of others only the head matters, and the buffer is not
            # copied for it.
            buf = Buffer(data=bytes(self._buffer[: limits.WT_CLOSE_REASON_BYTES_MAX + 32]))
            try:
                kind, length = buf.pull_uint_var(), buf.pull_uint_var()
            except BufferReadError:
                return
            start = buf.tell()
            if _is_read(kind, length):
                if len(self._buffer) < start + length:
                    return
                yield kind, bytes(self._buffer[start : start + length])
            available = len(self._buffer) - start
            self._skip = max(0, length - available)
            del self._buffer[: start + min(length, available)]


def _is_read(kind: int, length: int) -> bool:
    if kind == CLOSE_CAPSULE:
        return _CODE_BYTES <= length <= _CODE_BYTES + limits.WT_CLOSE_REASON_BYTES_MAX
    return kind in CAPSULES and length <= 8


def close_capsule(code: int, reason: str) -> bytes:
    """That the session ends, whole. A reason that is too long is cut."""
    text = reason.encode()[: limits.WT_CLOSE_REASON_BYTES_MAX]
    head = encode_uint_var(CLOSE_CAPSULE) + encode_uint_var(_CODE_BYTES + len(text))
    return head + code.to_bytes(_CODE_BYTES, "big") + text


def closing_of(content: bytes) -> tuple[int, str]:
    """The code and the reason in the content of a closing capsule."""
    return int.from_bytes(content[:_CODE_BYTES], "big"), content[_CODE_BYTES:].decode("utf-8", "replace")
