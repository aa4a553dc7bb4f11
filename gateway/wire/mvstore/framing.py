"""Frames in a body of ``/batch/*``: u32 big-endian length, then the contents. Room: wire. Pure.

Feed a :class:`FrameReader` with what arrived and pull whole frames.
Source: ``docs/STORE.md``; the protocol of mvSQLite 0.3.22.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.errors import MalformedMessage, TooLarge
from gateway.limits import STORE_FRAME_BYTES_MAX

PREFIX_BYTES: Final = 4


COMPLETE: Final = b"\0" * PREFIX_BYTES
"""The empty frame that ends a ``/batch/write`` request."""


class FrameReader:
    """Takes a body's bytes as they come and gives back the frames' contents, as ``bytes``.

    Never holds more than one frame of ``frame_bytes_max`` beyond what was fed last. After an error
    it is of no use any more.
    """

    __slots__ = ("_buffer", "_frame_bytes_max", "_start")

    def __init__(self, frame_bytes_max: int = STORE_FRAME_BYTES_MAX) -> None:
        # ``bytes`` while each piece ends with a whole frame, which is the usual case: nothing is copied into a
        # buffer of ours.
        self._buffer: bytes | bytearray = b""
        self._start = 0
        self._frame_bytes_max = frame_bytes_max

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        # All of it was taken: the new piece becomes the buffer as it is.
        if self._start == len(self._buffer):
            self._buffer = data
        else:
            # a bytearray, so that a frame that comes byte by byte costs no more than its length
            rest = self._buffer if isinstance(self._buffer, bytearray) else bytearray(self._buffer)
            del rest[: self._start]
            rest += data
            self._buffer = rest
        self._start = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits in it."""
        return self._start == len(self._buffer)

    def __iter__(self) -> Iterator[bytes]:
        while (frame := self.pull()) is not None:
            yield frame

    def pull(self) -> bytes | None:
        """The next whole frame's contents (empty: "complete"), or None until more is fed.
        Raises :class:`TooLarge` on a length over the bound."""
        head_end = self._start + PREFIX_BYTES
        length = int.from_bytes(self._buffer[self._start : head_end], "big")
        if head_end > len(self._buffer):
            return None
        # Looked at before the frame is there: a length is believed only up to the bound, so that no peer makes us
        # hold more.
        if length > self._frame_bytes_max:
            raise TooLarge(
                f"a frame of {length} bytes is over the limit of {self._frame_bytes_max}; split the batch",
                limit_bytes=self._frame_bytes_max,
            )
        end = head_end + length
        if end > len(self._buffer):
            return None
        self._start = end
        # A copy if the buffer is a bytearray, which later pieces move; of ``bytes`` the slice is a copy already,
        # and bytes() none more.
        return bytes(self._buffer[head_end:end])

    def finish(self) -> None:
        """The body has ended: raises :class:`MalformedMessage` if it did so inside a frame."""
        rest = len(self._buffer) - self._start
        if rest:
            raise MalformedMessage(f"the body ends inside a frame: {rest} bytes are left over")


def frame(contents: bytes) -> bytes:
    """The contents as they stand in a body: length, then themselves."""
    return len(contents).to_bytes(PREFIX_BYTES, "big") + contents
