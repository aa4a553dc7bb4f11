"""Length-prefixed messages on a stream. Room: wire. Pure: feed bytes, then pull messages.

Source: ``docs/FRAMES.md``, "What is said": on a stream each message is preceded by its u32 length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.errors import MalformedMessage, TooLarge
from gateway.limits import STREAM_COMPACT_BYTES, STREAM_MESSAGE_BYTES_MAX

MESSAGE_FLAG: Final = "--max-message-bytes"
"""The setting that bounds a message, unless another does."""
_PREFIX_BYTES: Final = 4


def prefix(message: bytes) -> bytes:
    """The message as it stands on a stream: its u32 length, then itself."""
    return len(message).to_bytes(_PREFIX_BYTES, "little") + message


class MessageStream:
    """Takes a stream's bytes as they come and gives back whole messages.

    Call :meth:`feed` with what arrived, then iterate until it ends; at the end of the stream call
    :meth:`finish`. Never holds more than one message of ``message_bytes_max`` and its prefix
    beyond what was fed last. After an error the stream is of no use any more.
    """

    __slots__ = ("_bound", "_buffer", "_message_bytes_max", "_start")

    def __init__(self, message_bytes_max: int = STREAM_MESSAGE_BYTES_MAX, bound: str = MESSAGE_FLAG) -> None:
        """``bound``: what a refusal names it by."""
        self._bound = bound
        self._buffer = bytearray()
        self._start = 0
        self._message_bytes_max = message_bytes_max

    @property
    def buffered_bytes(self) -> int:
        """Bytes fed and not yet pulled."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._buffer += data

    def clear(self) -> None:
        """Forget what was fed and not pulled: the stream is given up."""
        self._buffer = bytearray()
        self._start = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        message = self.pull()
        if message is None:
            raise StopIteration
        return message

    def pull(self) -> bytes | None:
        """The next whole message, or None until more is fed. Raises :class:`MalformedMessage` on
        an empty message and :class:`TooLarge` on a length over the bound."""
        head_end = self._start + _PREFIX_BYTES
        if len(self._buffer) < head_end:
            return None
        length = int.from_bytes(self._buffer[self._start : head_end], "little")
        self._check(length)
        end = head_end + length
        if len(self._buffer) < end:
            return None
        # Through a view one copy is made; slicing the bytearray would make two.
        message = bytes(memoryview(self._buffer)[head_end:end])
        self._advance(end)
        return message

    def finish(self) -> None:
        """The stream has ended: raises :class:`MalformedMessage` if it did so inside a message."""
        if self.buffered_bytes:
            raise MalformedMessage(
                f"the stream ended inside a message, with {self.buffered_bytes} bytes of it there; "
                "end it after a whole length-prefixed message"
            )

    def _check(self, length: int) -> None:
        if length == 0:
            raise MalformedMessage("a message of length 0 on a stream; the shortest has 1 byte, its type")
        if length > self._message_bytes_max:
            raise TooLarge(
                f"a message of {length} bytes on a stream is over the bound of {self._message_bytes_max}; "
                f"split the frame into several messages (whole records, parts counted){self._way_out()}",
                bound=self._bound,
                limit=self._message_bytes_max,
            )

    def _way_out(self) -> str:
        return f", or raise {self._bound}" if self._bound.startswith("--") else ""

    def _advance(self, end: int) -> None:
        self._start = end
        if end == len(self._buffer):
            self._buffer.clear()
            self._start = 0
        # Or else a stream that always holds the beginning of a next message would keep all that ever came.
        elif end >= STREAM_COMPACT_BYTES:
            del self._buffer[:end]
            self._start = 0
