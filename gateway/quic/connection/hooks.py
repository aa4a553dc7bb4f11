"""Readers of ours in aioquic's table of frames, while it does the handshake. Room: quic. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from gateway.quic.buffers import Buffer
from gateway.quic.connection.frames import Reader

StockReader = Callable[[object, int, Buffer], None]
"""One of aioquic's own: the packet's context, frame type, and the buffer that stands behind it."""
LIMITS: Final = frozenset((0x10, 0x12, 0x13))
"""Limits of the peer that aioquic heeds when it carries streams."""


class FrameReading(Protocol):
    """What has a reader of ours take a frame from aioquic's buffer."""

    def read_frame(self, reader: Reader, frame_type: int, buf: Buffer) -> None: ...


class Hook:
    """A reader of ours in aioquic's table of frames. ``stock``: aioquic's own, for what it must know, too."""

    __slots__ = ("_owner", "_reader", "stock")

    def __init__(self, owner: FrameReading, reader: Reader, stock: StockReader | None) -> None:
        self._owner, self._reader, self.stock = owner, reader, stock

    def __call__(self, context: object, frame_type: int, buf: Buffer) -> None:
        at = buf.tell()
        self._owner.read_frame(self._reader, frame_type, buf)
        if self.stock is not None and frame_type in LIMITS:
            end = buf.tell()
            # Both read the same bytes: aioquic heeds the limit for what it carries, and our reader has already
            # moved the buffer on.
            buf.seek(at)
            self.stock(context, frame_type, buf)
            buf.seek(end)


class Before:
    """A handler of aioquic's, with something before it."""

    __slots__ = ("_hook", "_stock")

    def __init__(self, stock: StockReader, hook: Callable[[StockReader, object, int, Buffer], None]) -> None:
        self._stock, self._hook = stock, hook

    def __call__(self, context: object, frame_type: int, buf: Buffer) -> None:
        self._hook(self._stock, context, frame_type, buf)
