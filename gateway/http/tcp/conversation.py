"""What HTTP/1.1 and HTTP/2 connections have in common: writing, pausing, and the end. Room: http."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import cast

from starlette.types import Scope

from gateway import limits
from gateway.http.tcp.reading import BoundedProtocol
from gateway.http.tcp.service import TcpService
from gateway.http.tcp.slots import Slot
from gateway.http.tcp.wire import Wire


class Conversation(BoundedProtocol):
    """An :class:`gateway.http.tcp.slots.Occupant`. ``deadline`` is in seconds of the loop's clock."""

    def __init__(self, service: TcpService, slot: Slot) -> None:
        self.service = service
        self.slot = slot
        self.loop = asyncio.get_running_loop()
        self.deadline = self.loop.time() + limits.HTTP_HANDSHAKE_S_MAX
        self.is_paused = False
        """The transport's buffer is over its limit."""
        self.is_ending = False
        """Nothing is read any more: what comes is dropped until the peer hangs up."""
        self.transport: asyncio.Transport
        self.common: Scope = {}
        """What every scope of this connection says."""
        self._dropped = 0
        self._linger_until = math.inf
        self._is_reading = True
        self._wants_more = True
        self._unparsed = bytearray()
        """Read while others had their turn."""
        self._is_queued = False

    @property
    def is_idle(self) -> bool:
        raise NotImplementedError

    def expire(self, now: float) -> None:
        raise NotImplementedError

    def go_away(self) -> None:
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        assert self.slot.raw is not None
        self.slot.occupant = self
        tls = self.transport is not self.slot.raw
        self.wire = Wire(self.transport, self.slot.raw, carried=self.service.carried)
        self.common = {
            "scheme": "https" if tls else "http",
            "client": _address(transport.get_extra_info("peername")),
            "server": _address(transport.get_extra_info("sockname")),
            "state": {
                "wire": self.wire,
                "turns": self.service.turns,
                "grant": self.service.grant_by(transport.get_extra_info("ssl_object")),
            },
        }

    def data_received(self, data: bytes) -> None:
        self.service.carried.received += len(data)
        turns = self.service.turns
        # In order: what waits unparsed comes first, whatever time is left in this turn.
        if not self._unparsed and turns.admits(self.slot.peer):
            turns.run(self.guarded, self.receive, data)
        elif self.is_ending:
            self.drop(data)
        else:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        """Wait for a turn, and read no more until then."""
        self._unparsed += data
        if self._holds(len(data)):
            self._read(False)
            self._parse_soon()

    def put_back(self, data: bytes) -> None:
        """Of what was taken, what cannot be parsed for now: it comes again, and counts with what waits until then."""
        # In front: it was read before what waits.
        self._unparsed[:0] = data
        self._holds(len(data))

    def _holds(self, more: int) -> bool:
        """Whether there is room for so many bytes more; else the connection is over."""
        turns = self.service.turns
        turns.held_bytes += more
        if (
            turns.held_bytes > limits.TCP_UNPARSED_BYTES_MAX
            and len(self._unparsed) > limits.TCP_UNPARSED_SMALL_BYTES
        ):
            self.service.count("unparsed")
            self.abort()
            return False
        return True

    def _parse_soon(self) -> None:
        if not self._is_queued and self._wants_more:
            self._is_queued = True
            self.service.turns.soon(self.slot.peer, self._parse)

    def _parse(self) -> None:
        self._is_queued = False
        if not self._unparsed or not self._wants_more:
            return
        # So much a turn, not all that waits: parsing it is what the others' turns are protected from.
        data = bytes(self._unparsed[: limits.TCP_PARSED_BYTES])
        del self._unparsed[: limits.TCP_PARSED_BYTES]
        self.service.turns.held_bytes -= len(data)
        self.guarded(self.receive, data)
        self.read_more(self._wants_more)

    def _forget_unparsed(self) -> None:
        self.service.turns.held_bytes -= len(self._unparsed)
        self._unparsed.clear()

    def guarded(self, call: Callable[..., None], *args: object) -> None:
        """Whatever a peer sends, and whatever a parser makes of it, ends that peer's connection at most."""
        try:
            call(*args)
        except Exception:
            self.service.failed(self.transport.get_extra_info("peername"))
            self.abort()

    def in_turn(self, call: Callable[[], None]) -> None:
        """Call it in a later turn of the loop, when it is this connection's."""
        self.service.turns.soon(self.slot.peer, partial(self.guarded, call))

    def receive(self, data: bytes) -> None:
        """What has come."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self.on_writable()

    def on_writable(self) -> None:
        """The transport takes more."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_ending = True
        self._forget_unparsed()
        self.on_lost()
        self.slot.leave()

    def on_lost(self) -> None:
        """The connection is gone: tell who is served by it."""

    def write(self, data: bytes | memoryview) -> None:
        """Hand to the transport, if it still takes anything."""
        if data:
            self.wire.write(data)

    @property
    def reads_on(self) -> bool:
        """Whether :meth:`read_more` was last told to."""
        return self._wants_more

    def read_more(self, more: bool) -> None:
        """Let the transport read on, or not. What was read and not parsed comes first."""
        self._wants_more = more
        if more and self._unparsed:
            self._parse_soon()
        else:
            self._read(more)

    def _read(self, more: bool) -> None:
        # asyncio raises where it is paused twice, or when it is closing.
        if more is self._is_reading or self.transport.is_closing():
            return
        self._is_reading = more
        if more:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def hang_up(self) -> None:
        """End after what was written. What the peer still sends is dropped for a moment: closing a socket that
        has unread bytes resets it, and the last words would be lost (RFC 9112 section 9.6)."""
        if self.is_ending:
            return
        self.is_ending = True
        now = self.loop.time()
        self.deadline = now + limits.HTTP_LINGER_S_MAX
        self._linger_until = now + limits.HTTP_LINGER_WHOLE_S_MAX
        self._forget_unparsed()
        self.read_more(True)
        if self.transport.can_write_eof():
            try:
                self.transport.write_eof()
            except (OSError, RuntimeError):
                self.abort()

    def close(self) -> None:
        """End after what was written, at once as far as that goes."""
        self.is_ending = True
        self.deadline = self.loop.time() + limits.HTTP_LINGER_S_MAX
        self._forget_unparsed()
        self.transport.close()

    def drop(self, data: bytes) -> None:
        """What comes after the end."""
        self._dropped += len(data)
        turns = self.service.turns
        if self._dropped > limits.HTTP_LINGER_BYTES_MAX or not turns.may_drop(self.slot.peer, len(data)):
            self.abort()
        elif not self.transport.is_closing():
            # Each piece gives it another moment, up to a bound for all of them: a peer that trickles must not hold
            # its place.
            self.deadline = min(self.loop.time() + limits.HTTP_LINGER_S_MAX, self._linger_until)

    def abort(self) -> None:
        self.is_ending = True
        self._forget_unparsed()
        self.deadline = math.inf
        if self.slot.raw is not None:
            # The socket itself, below TLS: closing TLS politely waits for a peer that may never answer.
            self.slot.raw.abort()


def _address(name: object) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
