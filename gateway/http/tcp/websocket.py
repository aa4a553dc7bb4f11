"""One WebSocket as ASGI, over an HTTP/1.1 connection or an HTTP/2 stream. Room: http.

Its end is a conversation (RFC 6455 sections 5.5.1 and 7.1.1): the last message, a moment in which a
game's loop turns (an engine that finds message and Close in one poll may drop the message), the
Close, the peer's Close, and only then the end of the transport. Pings keep quiet sessions alive
behind proxies, and find dead ones. Source: the ASGI WebSocket specification 2.4.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope
from wsproto.frame_protocol import Opcode

from gateway import limits
from gateway.core.admission import bound_name, peer_of
from gateway.core.ports import ClientGone
from gateway.http.tcp.collector import NO_STATUS, Breach, Collector, ReceivedMessage
from gateway.http.tcp.heads import Headers
from gateway.http.tcp.service import TcpService

log = logging.getLogger("mvgateway.http")

_BINARY, _TEXT, _CLOSE, _PING, _PONG = 0x2, 0x1, 0x8, 0x9, 0xA
_FINAL = 0x80
_CLOSE_REASON_BYTES_MAX = 123
_ABNORMAL = 1006
_INTERNAL_ERROR = 1011


class Pipe(Protocol):
    """What carries it."""

    def accept(self, headers: Headers, scope_headers: Headers) -> None:
        """Answer the handshake: it is a WebSocket from now on."""

    def deny(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer the handshake with something else."""

    def send_data(self, data: bytes) -> None:
        """Bytes for the peer, in order."""

    async def drained(self) -> None:
        """Wait until they are on their way. Raises :class:`ClientGone`."""

    def read_on(self, more: bool) -> None:
        """Whether :meth:`WebSocketExchange.feed` may be called again soon."""

    def end(self) -> None:
        """End after what was sent."""

    def abort(self) -> None:
        """End at once."""

    def in_turn(self, call: Callable[[], None]) -> None:
        """Call it when it is the connection's turn, and end the connection if it fails."""

    def wake_at(self, deadline: float) -> None:
        """Call :meth:`WebSocketExchange.expire` at this time of the loop's clock."""


class WebSocketPhase(Enum):
    """Where the conversation is. RFC 6455 section 7.1."""

    HANDSHAKE = auto()
    OPEN = auto()
    LEAVING = auto()
    """The last message is out; the Close follows in a moment."""
    CLOSING = auto()
    """Our Close is out; the peer's is awaited."""
    OVER = auto()


class WebSocketExchange:
    """Made for each handshake; :meth:`run` begins it."""

    def __init__(self, pipe: Pipe, service: TcpService, scope: Scope) -> None:
        self.scope = scope
        self.due = math.inf
        self._pipe = pipe
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._collector = Collector(service.options.message_bytes_max, service.options.unfinished)
        self._phase = WebSocketPhase.HANDSHAKE
        self._events: deque[Message] = deque([{"type": "websocket.connect"}])
        self._wakeup: asyncio.Future[None] | None = None
        self._heard_at = self._loop.time()
        self._is_asked = False
        self._is_turning = False
        self._disconnected = False
        self._denial: tuple[int, Headers] | None = None
        self._parted = asyncio.Event()
        self._given_at = time.perf_counter()
        self._worked_s = 0.0
        self._peer = peer_of(str((scope.get("client") or ("",))[0]))

    def run(self, app: ASGIApp) -> asyncio.Task[None]:
        """Begin to serve it."""
        return self._loop.create_task(self._serve(app))

    async def _serve(self, app: ASGIApp) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except ClientGone:
            pass
        except Exception:
            if not self._disconnected:
                log.exception("the application failed on %s", self.scope["path"])
        if self._phase is WebSocketPhase.HANDSHAKE:
            self._deny(500, [], b"")
        elif self._phase is WebSocketPhase.OPEN:
            self._close(_INTERNAL_ERROR, "the gateway failed")

    # -- from the pipe --------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """What the peer sent."""
        self._heard_at = self._loop.time()
        self._is_asked = False
        if self._phase is WebSocketPhase.OVER:
            return
        self._collector.feed(data)
        # Kept, not parsed: before the answer to its handshake a client has no right to speak, but some send
        # at once.
        if self._phase is WebSocketPhase.HANDSHAKE:
            self._pipe.read_on(False)
        elif not self._is_turning:
            self._turn()

    def _turn(self) -> None:
        """Take whole messages while there is room for them, and so much a turn of the loop."""
        self._is_turning = False
        left = limits.TCP_EVENTS_PER_TURN
        try:
            while left > 0 and not self._is_full() and self._phase is not WebSocketPhase.OVER:
                event = self._collector.pull(self._heard_at, left)
                left -= 1
                if event is None:
                    break
                # More to do than this turn allows: fragments may be one byte each.
                if isinstance(event, bool):
                    left = 0
                else:
                    self._take(event)
        except Breach as breach:
            self._break(breach)
        if left <= 0 and not self._is_full():
            self._turn_soon()
        self._pipe.read_on(not self._is_turning and not self._is_full())

    def _turn_soon(self) -> None:
        if not self._is_turning and self._phase is not WebSocketPhase.OVER:
            self._is_turning = True
            self._pipe.in_turn(self._turn)

    def _is_full(self) -> bool:
        return len(self._events) >= limits.HTTP_APP_QUEUE_ITEMS_MAX

    def _take(self, event: ReceivedMessage) -> None:
        if event.control is Opcode.CLOSE:
            self._take_close(event)
        elif event.control is Opcode.PING:
            if self._phase in (WebSocketPhase.OPEN, WebSocketPhase.LEAVING):
                assert isinstance(event.data, (bytes, bytearray))
                self._pipe.send_data(_frame(_PONG, bytes(event.data)))
        elif event.control is None and self._phase is WebSocketPhase.OPEN:
            kind = "text" if isinstance(event.data, str) else "bytes"
            self._tell({"type": "websocket.receive", kind: event.data})

    def _take_close(self, event: ReceivedMessage) -> None:
        """The peer's Close: the answer to ours, or the first, which is answered with the same code."""
        if self._phase in (WebSocketPhase.OPEN, WebSocketPhase.LEAVING):
            self._pipe.send_data(_close_frame(event.code, ""))
        self._disconnect(event.code, str(event.data))
        self._finish()

    def _break(self, breach: Breach) -> None:
        """The peer broke the protocol or a bound: it is told, and nothing more of it is parsed."""
        self._service.count(f"websocket_{breach.code}")
        if breach.bound:
            self._service.count(bound_name(breach.bound))
        if self._phase in (WebSocketPhase.OPEN, WebSocketPhase.LEAVING):
            self._pipe.send_data(_close_frame(breach.code, breach.reason))
        self._disconnect(breach.code, breach.reason)
        # The Close is on its way: ending the transport at once could take it back out of the peer's socket.
        self._await_end(WebSocketPhase.OVER)

    def disconnect(self) -> None:
        """The transport is gone. Idempotent."""
        self._phase = WebSocketPhase.OVER
        self._collector.release()
        self._parted.set()
        self._disconnect(_ABNORMAL, "")

    def _disconnect(self, code: int, reason: str) -> None:
        if not self._disconnected:
            self._disconnected = True
            self._tell({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _tell(self, event: Message) -> None:
        self._events.append(event)
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def expire(self, now: float) -> None:
        """``due`` has passed: is the peer still there? RFC 6455 section 5.5.2."""
        silent_s = now - self._heard_at
        if self._phase is not WebSocketPhase.OPEN:
            return
        if silent_s < limits.WEBSOCKET_PING_S:
            self._wake_in(limits.WEBSOCKET_PING_S - silent_s)
        elif not self._is_asked:
            self._is_asked = True
            self._pipe.send_data(_frame(_PING, b""))
            self._wake_in(limits.WEBSOCKET_PONG_S)
        else:
            self._service.count("silent")
            self._disconnect(_ABNORMAL, "the peer answers nothing")
            self._pipe.abort()

    def _wake_in(self, seconds: float) -> None:
        self.due = self._loop.time() + seconds
        self._pipe.wake_at(self.due)

    # -- the end --------------------------------------------------------------------------

    def _close(self, code: int, reason: str) -> None:
        self._pipe.send_data(_close_frame(code, reason))
        self._await_end(WebSocketPhase.CLOSING)

    def _await_end(self, phase: WebSocketPhase) -> None:
        self._phase = phase
        self._collector.release()
        self.due = math.inf
        self._pipe.wake_at(math.inf)
        self._loop.call_later(limits.WEBSOCKET_CLOSE_S, self._finish)

    def _finish(self) -> None:
        """Both have said Close, or the peer had its time to."""
        self._phase = WebSocketPhase.OVER
        self._collector.release()
        self._parted.set()
        self._disconnect(NO_STATUS, "")
        self._pipe.end()

    # -- ASGI -----------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next message; waits for it, and for a turn: what the application did with the last one counts, for it may
        be a thousand records, and sixty-four of them may be here."""
        if self._events:
            self._worked_s = time.perf_counter() - self._given_at
        while not self._events:
            self._wakeup = self._loop.create_future()
            await self._wakeup
        await self._service.turns.admitted(self._peer, self._worked_s)
        event = self._events.popleft()
        self._given_at = time.perf_counter()
        # At half and not at one less than full: parsing then goes on for many messages, and not for one
        # each time.
        if len(self._events) == limits.HTTP_APP_QUEUE_ITEMS_MAX // 2:
            self._turn_soon()
        return event

    async def send(self, message: Message) -> None:
        """Take a message of the application; waits while the peer does not keep up. Raises :class:`ClientGone`."""
        # A door that closes as its peer does must not fail for it: ClientGone is what applications expect.
        if self._disconnected or self._phase is WebSocketPhase.OVER:
            raise ClientGone("the client is gone")
        kind = message["type"]
        if kind == "websocket.send" and self._phase is WebSocketPhase.OPEN:
            await self._send_message(message)
        elif kind == "websocket.accept" and self._phase is WebSocketPhase.HANDSHAKE:
            self._accept(message)
        elif kind == "websocket.close" and self._phase is WebSocketPhase.OPEN:
            await self._say_goodbye(message.get("code", 1000), message.get("reason") or "")
        elif kind == "websocket.close" and self._phase is WebSocketPhase.HANDSHAKE:
            self._deny(403, [], b"")
        elif kind == "websocket.http.response.start" and self._phase is WebSocketPhase.HANDSHAKE:
            self._denial = (message["status"], [(bytes(n).lower(), bytes(v)) for n, v in message["headers"]])
        elif kind == "websocket.http.response.body" and self._denial is not None:
            self._deny(*self._denial, message.get("body", b""))
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    def _accept(self, message: Message) -> None:
        headers = [(bytes(n).lower(), bytes(v)) for n, v in message.get("headers", ())]
        if message.get("subprotocol"):
            headers.append((b"sec-websocket-protocol", message["subprotocol"].encode("latin-1")))
        self._phase = WebSocketPhase.OPEN
        self._pipe.accept(headers, self.scope["headers"])
        self._wake_in(limits.WEBSOCKET_PING_S)
        self._turn_soon()

    def _deny(self, status: int, headers: Headers, body: bytes) -> None:
        self._phase = WebSocketPhase.OVER
        self._disconnected = True
        self._pipe.deny(status, headers, body)

    async def _send_message(self, message: Message) -> None:
        data = message.get("bytes")
        if data is None:
            self._pipe.send_data(_frame(_TEXT, message["text"].encode()))
        else:
            self._pipe.send_data(_frame(_BINARY, data))
        await self._pipe.drained()

    async def _say_goodbye(self, code: int, reason: str) -> None:
        self._phase = WebSocketPhase.LEAVING
        try:
            async with asyncio.timeout(limits.WEBSOCKET_LAST_WORD_S):
                # Left early where the peer says Close first: nothing has to be waited for then.
                await self._parted.wait()
        except TimeoutError:
            pass
        if self._phase is WebSocketPhase.LEAVING:
            self._close(code, reason)


def frame_head(opcode: int, length: int) -> bytes:
    """The head of one unmasked, unfragmented frame. RFC 6455 section 5.2."""
    if length < 126:
        return bytes((_FINAL | opcode, length))
    if length < 65_536:
        return bytes((_FINAL | opcode, 126)) + length.to_bytes(2, "big")
    return bytes((_FINAL | opcode, 127)) + length.to_bytes(8, "big")


def _frame(opcode: int, payload: bytes) -> bytes:
    return frame_head(opcode, len(payload)) + payload


def _close_frame(code: int, reason: str) -> bytes:
    if code == NO_STATUS:
        return _frame(_CLOSE, b"")
    # Cut by bytes, and not within a character: half of one would fail the peer's check (RFC 6455 section
    # 5.5.1).
    text = reason.encode()[:_CLOSE_REASON_BYTES_MAX].decode("utf-8", "ignore").encode()
    return _frame(_CLOSE, code.to_bytes(2, "big") + text)
