"""What workers say to each other: frames over a Unix socket. Room: runtime.

A frame is its length (u32, little-endian, without this head), its kind (u8) and its bytes. The first one of whoever connects is
``HELLO``, a JSON object with the group's secret. Source: unix(7).
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final, cast

from gateway.errors import GatewayError, StoreUnavailable
from gateway.limits import WORKER_ASK_S, WORKER_BACKLOG_BYTES_MAX, WORKER_FRAME_BYTES_MAX

HEAD: Final = struct.Struct("<IB")


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 0
    ANSWER = 1
    """JSON: the answer to what was asked, or that a session has begun."""
    FAILED = 2
    """JSON: an error of the tree."""
    MESSAGE = 3
    """Of the frame protocol, in order; of a publisher, one that came whole."""
    DATAGRAM = 4
    """A u32, the token, and a message that may be lost."""
    STREAM = 5
    """Messages with their lengths before them, for a stream of their own."""
    STREAM_DATA = 6
    """A u64, the peer's stream, a u8, whether it ends, and what came of it."""
    STREAM_RESET = 7
    LOST = 8
    """A u32: the token of a message that was lost."""
    CLOSE = 9
    """JSON: code and reason."""
    TOKEN = 10
    """A control message with a fresh token, for the worker that has the session's grant."""
    DURABLE = 11
    """JSON: how far the store has the world."""
    BODY = 12
    """A piece of a body."""
    END = 13
    """The body is over."""


class Channel(asyncio.Protocol):
    """Either end. ``on_frame`` gets what comes, ``on_lost`` is called once at the end."""

    def __init__(self, begun: Callable[[Channel], None] | None = None) -> None:
        self._begun = begun
        self._buffer = bytearray()
        self._after: list[Callable[[], None]] = []
        self._is_reading = False
        self._drained = asyncio.Event()
        self._drained.set()
        self.transport: asyncio.Transport | None = None
        self.is_lost = False
        self.on_frame: Callable[[int, bytes], None] = lambda kind, data: None
        self.on_lost: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        """Called before ``on_lost``: whoever keeps a list of channels."""
        self._finishing: asyncio.TimerHandle | None = None
        self._held: list[tuple[int, bytes]] = []

    # -- asyncio.Protocol -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._begun is not None:
            self._begun(self)

    def data_received(self, data: bytes) -> None:
        buffer, at, head = self._buffer, 0, HEAD.size
        buffer += data
        self._is_reading = True
        try:
            # on_frame() may end the channel: what follows is nobody's.
            while len(buffer) - at >= head and not self.is_lost:
                size, kind = HEAD.unpack_from(buffer, at)
                if size > WORKER_FRAME_BYTES_MAX:
                    self.abort()
                    return
                if len(buffer) - at - head < size:
                    break
                self.on_frame(kind, bytes(buffer[at + head : at + head + size]))
                at += head + size
        finally:
            self._is_reading = False
            # Once for all that came together, whatever on_frame() raises.
            del buffer[:at]
            after, self._after = self._after, []
            for call in after:
                call()

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_lost:
            self.is_lost = True
            if self._finishing is not None:
                self._finishing.cancel()
            self._drained.set()
            self.on_end()
            self.on_lost()

    # -- ours -----------------------------------------------------------------------------

    def hold(self) -> None:
        """Keep what comes until :meth:`listen`: not much of it, then nothing is read."""
        self.on_frame = self._hold

    def _hold(self, kind: int, data: bytes) -> None:
        self._held.append((kind, data))
        if self.transport is not None:
            # Between being asked and being served little can come: a body stays in the kernel, where it holds up
            # its sender.
            self.transport.pause_reading()

    def listen(self, on_frame: Callable[[int, bytes], None]) -> None:
        """Hand over what was held, and what comes from now on."""
        self.on_frame = on_frame
        held, self._held = self._held, []
        if held and self.transport is not None and not self.is_lost:
            self.transport.resume_reading()
        for kind, data in held:
            on_frame(kind, data)

    def after_input(self, call: Callable[[], None]) -> None:
        """Make this call once all that came together was handed over."""
        if self._is_reading:
            self._after.append(call)
        else:
            call()

    def pending_bytes(self) -> int:
        """What the other end has not taken."""
        return 0 if self.transport is None or self.is_lost else self.transport.get_write_buffer_size()

    def write(self, kind: int, *pieces: bytes) -> None:
        """One frame. Nothing goes once it is lost, and where the other end takes nothing for long it is."""
        if self.transport is None or self.is_lost:
            return
        size = sum(map(len, pieces))
        self.transport.write(b"".join((HEAD.pack(size, kind), *pieces)))
        # Besides this frame: a single one over the bound must be able to pass.
        if self.transport.get_write_buffer_size() > WORKER_BACKLOG_BYTES_MAX + size:
            self.abort()

    def write_json(self, kind: int, value: object) -> None:
        """One frame of JSON."""
        self.write(kind, json.dumps(value).encode())

    async def drain(self) -> None:
        """Wait until the other end has taken enough."""
        await self._drained.wait()

    def close(self) -> None:
        """End it after what was written. Idempotent."""
        if self.transport is not None:
            self.transport.close()

    def finish(self) -> None:
        """Say no more, and close once the other end has: a Unix socket that is closed before everything was read from it
        takes back what was not read at the other end (unix(7), ``ECONNRESET``). Idempotent."""
        if self._finishing is None and not self.is_lost:
            self.listen(_ignore)
            self._finishing = asyncio.get_running_loop().call_later(WORKER_ASK_S, self.close)

    def abort(self) -> None:
        """End it now. Idempotent."""
        if self.transport is not None:
            self.transport.abort()
            # asyncio calls it in a later turn of the loop: until then nobody should take this for a channel.
            self.connection_lost(None)


def _ignore(kind: int, data: bytes) -> None:
    """Nobody listens any more."""


class SiblingGone(StoreUnavailable):
    """Another worker does not answer: it has ended, or is about to."""

    code = "worker_gone"
    title = "Worker gone"


def failure(error: GatewayError) -> dict[str, object]:
    """An error as JSON."""
    return {"code": error.code, "message": error.message, "facts": error.facts}


def raised(told: Mapping[str, Any]) -> GatewayError:
    """The error that was told by :func:`failure`."""
    # By the classes there are: an error that the other end has, and this one (of another release) has not, is one
    # of the base.
    kind = _by_code(GatewayError, str(told.get("code"))) or GatewayError
    return kind(str(told.get("message")), **dict(told.get("facts") or {}))


def _by_code(kind: type[GatewayError], code: str) -> type[GatewayError] | None:
    if kind.__dict__.get("code") == code:
        return kind
    for more in kind.__subclasses__():
        found = _by_code(more, code)
        if found is not None:
            return found
    return None
