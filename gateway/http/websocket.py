"""WebSocket sessions: one message per binary WebSocket message, both ways. Room: http.

Over HTTP/1.1 a frame is written straight to the connection's transport: what has not gone out
yet is then known to the byte, and a message costs microseconds. Over HTTP/2 (RFC 8441) it goes
through ASGI's ``send``. Source: RFC 6455 section 5.2; close codes are 4000 + session code.
"""

from __future__ import annotations

import asyncio
import time

from starlette.types import Message, Receive, Scope, Send

from gateway import limits
from gateway.core.closing import close_code
from gateway.core.events import address_text
from gateway.core.ports import CloseCode, Doors, Session
from gateway.errors import GatewayError, TooMany
from gateway.http.asgi_sink import AsgiSink
from gateway.http.links import Sink, TcpLink
from gateway.http.tcp.websocket import frame_head
from gateway.http.tcp.wire import Wire, session_on
from gateway.wire import encode_error

_BINARY = 0x2


class WebSocketSink:
    """Writes binary frames straight to an HTTP/1.1 connection's transport. RFC 6455 section 5.2."""

    def __init__(self, wire: Wire, ended: asyncio.Event) -> None:
        self._wire = wire
        self._ended = ended
        self.close: tuple[CloseCode, str] | None = None

    def write(self, message: bytes) -> None:
        self._wire.write(frame_head(_BINARY, len(message)) + message)

    def pending_bytes(self) -> int:
        return self._wire.unsent_bytes()

    def finish(self, code: CloseCode, reason: str) -> None:
        self.close = (code, reason)
        self._ended.set()


def _sink(scope: Scope, send: Send, ended: asyncio.Event) -> WebSocketSink | AsgiSink:
    wire = scope.get("state", {}).get("wire")
    # Over HTTP/2 the connection's bytes are other streams', too: there only ASGI's send() may write.
    if isinstance(wire, Wire) and scope.get("http_version") == "1.1":
        return WebSocketSink(wire, ended)
    unsent = wire.unsent_bytes if isinstance(wire, Wire) else None
    return AsgiSink(lambda message: send({"type": "websocket.send", "bytes": message}), ended, unsent)


class WebSocketDoor:
    """The ASGI endpoint of every WebSocket path: which session it is, ``doors`` says."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        # Before the session is known to be let in: a browser shows no status of a refused upgrade, but does
        # show a close code.
        await send({"type": "websocket.accept"})
        ended = asyncio.Event()
        sink = _sink(scope, send, ended)
        link = TcpLink("websocket", limits.WEBSOCKET_MESSAGE_BYTES_MAX, sink)
        link.address = address_text(*(scope.get("client") or ("", 0)))
        link.certificate = scope.get("state", {}).get("grant")
        try:
            with session_on(scope.get("state", {}).get("wire")):
                await self._attend(scope, link, receive, ended)
        except TooMany as error:
            _refuse(link, error)
        await _finish(sink, send)

    async def _attend(self, scope: Scope, link: TcpLink, receive: Receive, ended: asyncio.Event) -> None:
        # Listening while it opens: whoever leaves meanwhile would otherwise be noticed after he had the
        # publisher's place.
        early = asyncio.ensure_future(receive())
        try:
            session = await self._open_unless_left(scope, link, early)
            if session is not None:
                await self._attended(session, link, _from(early, receive), ended)
        finally:
            early.cancel()

    async def _attended(
        self, session: Session, link: TcpLink, receive: Receive, ended: asyncio.Event
    ) -> None:
        link.attach(session)
        try:
            await self._converse(session, receive, ended)
        finally:
            link.gone()
            session.on_closed(time.monotonic())

    async def _open_unless_left(
        self, scope: Scope, link: TcpLink, early: asyncio.Future[Message]
    ) -> Session | None:
        """Who leaves before the session is open gets no role: whoever comes next would find it taken."""
        opening = asyncio.ensure_future(self._open(scope, link))
        is_taken = False
        try:
            await asyncio.wait((opening, early), return_when=asyncio.FIRST_COMPLETED)
            has_left = (
                early.done() and not early.cancelled() and early.result()["type"] == "websocket.disconnect"
            )
            if has_left and not opening.done():
                return None
            session = await opening
            is_taken = True
            return session
        finally:
            if not is_taken:
                await _undo(opening)

    async def _open(self, scope: Scope, link: TcpLink) -> Session | None:
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        try:
            return await self._doors.open_at(scope["path"], query, headers, link)
        except GatewayError as error:
            _refuse(link, error)
            return None

    async def _converse(self, session: Session, receive: Receive, ended: asyncio.Event) -> None:
        reading = asyncio.ensure_future(_read(session, receive))
        closing = asyncio.ensure_future(ended.wait())
        try:
            await asyncio.wait((reading, closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            closing.cancel()
            await asyncio.gather(reading, closing, return_exceptions=True)
        if not reading.cancelled():
            reading.result()  # what no session foresaw is told by the guard, and counted


async def _undo(opening: asyncio.Future[Session | None]) -> None:
    """Nobody is there any more for the session that opens, or has just opened."""
    opening.cancel()
    (session,) = await asyncio.gather(opening, return_exceptions=True)
    # A cancellation comes too late for one that is done; it would keep its place for as long as the gateway runs.
    if session is not None and not isinstance(session, BaseException):
        session.on_closed(time.monotonic())


def _refuse(link: TcpLink, error: GatewayError) -> None:
    """Say why, and close."""
    link.control(encode_error(error))
    link.close(close_code(error), error.title)


def _from(early: asyncio.Future[Message], receive: Receive) -> Receive:
    """``receive``, after what it had given already."""
    waiting = [early]

    async def following() -> Message:
        return await (waiting.pop() if waiting else receive())

    return following


async def _read(session: Session, receive: Receive) -> None:
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        data = event.get("bytes")
        if data is None:
            # Text is taken as bytes: some clients send their JSON control messages so.
            data = (event.get("text") or "").encode()
        session.on_message(data, time.monotonic())


async def _finish(sink: Sink, send: Send) -> None:
    close = sink.close
    if isinstance(sink, AsgiSink):
        await sink.drained()
    if close is None:
        return
    try:
        await send({"type": "websocket.close", "code": 4_000 + close[0], "reason": close[1][:120]})
    except OSError:
        pass  # the peer was faster
