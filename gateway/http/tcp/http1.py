"""One HTTP/1.1 connection: requests one after the other, or a WebSocket. Room: http.

A request is read and framed in :mod:`ordinary`, or by h11 (:mod:`framing`); what comes is fed to it only when its turn has
come, so that a head is checked strictly (:mod:`heads`) before h11's lenient reading, and a body is read only as far as
the application takes it. Sources: RFC 9110, RFC 9112, RFC 6455 section 4.2.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from enum import Enum
from http import HTTPStatus
from typing import ClassVar

from starlette.types import Scope

from gateway import limits
from gateway.http.tcp import handshake
from gateway.http.tcp.channel import OutQueue
from gateway.http.tcp.conversation import Conversation
from gateway.http.tcp.exchange import HttpExchange
from gateway.http.tcp.framing import BadAnswer, BadBody, ByH11, RequestFraming, RequestHead
from gateway.http.tcp.heads import BadHead, Headers, http_scope, websocket_scope
from gateway.http.tcp.inbox import NotHttp, RequestInbox
from gateway.http.tcp.ordinary import Head, Ordinary
from gateway.http.tcp.refusals import head_problem
from gateway.http.tcp.service import TcpService
from gateway.http.tcp.slots import Slot
from gateway.http.tcp.websocket import WebSocketExchange


class Phase(Enum):
    """What the connection is at, and how long that may take; a body and an answer have times of their own."""

    IDLE = "idle", limits.HTTP_IDLE_S_MAX
    """No request has begun."""
    HEAD = "head", limits.HTTP_HEAD_S_MAX
    """A head has begun to come."""
    EXCHANGE = "exchange", math.inf
    """A request is served; its body may still come."""
    TUNNEL = "tunnel", math.inf
    """A WebSocket."""

    def __init__(self, name: str, seconds: float) -> None:
        self.seconds = seconds


class Http1(Conversation):
    """Implements :class:`gateway.http.tcp.channel.ResponseChannel` for its requests, and
    :class:`gateway.http.tcp.websocket.Pipe` for a WebSocket."""

    version: ClassVar[str] = "1.1"

    def __init__(self, service: TcpService, slot: Slot) -> None:
        super().__init__(service, slot)
        self._framing: RequestFraming | None = None
        self._inbox = RequestInbox(service.heads)
        self._phase = Phase.IDLE
        self._exchange: HttpExchange | None = None
        self._socket: WebSocketExchange | None = None
        self._out = OutQueue(service.options.untaken, self._on_shed)
        self._head = b""
        self._must_close = False
        """This was said in the answer."""
        self._peer_ended = False
        self._is_pulling = False
        self._begun = 0
        """Requests so far."""
        self._ahead: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        return self._phase in (Phase.IDLE, Phase.HEAD)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self.deadline = self.loop.time() + phase.seconds

    # -- what comes -----------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        if self.is_ending:
            self.drop(data)
        elif self._socket is not None:
            self._socket.feed(data)
        else:
            self._inbox.data += data
            if self._phase is Phase.EXCHANGE:
                self._pull()
            else:
                self._read_head()

    def eof_received(self) -> bool:
        is_kept = self._is_kept_half_open()
        return (
            is_kept and self.common["scheme"] == "http"
        )  # TLS ends both ways, and asyncio would log each one

    def _is_kept_half_open(self) -> bool:
        self._peer_ended = True
        if self._phase is Phase.EXCHANGE and not self.is_ending and self._exchange is not None:
            if self._exchange.body_ended:
                self._exchange.half_disconnect()
                return True  # it has asked and still reads: RFC 9112 section 9.6
            self._exchange.disconnect()
        return self._phase is Phase.IDLE and self._inbox.has_begun()  # the next request is about to be read

    def on_lost(self) -> None:
        self._inbox.data.clear()
        if self._ahead is not None:
            self._ahead.cancel()
        self._out.lose()
        if self._exchange is not None:
            self._exchange.disconnect()
        if self._socket is not None:
            self._socket.disconnect()

    def _read_head(self) -> None:
        if not self._inbox.has_begun():
            return
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        try:
            head = self._inbox.head()
            if head is None:
                return
            if isinstance(head, Head):
                self._framing = Ordinary(head)
                self._serve(head.scope_for(self.common))
            else:
                self._begin(head)
        except NotHttp:
            self.service.count("no_http")
            self.close()
        except BadHead as error:
            self._refuse(error)

    def _begin(self, head: bytes) -> None:
        """Whatever is not ordinary."""
        framing = ByH11(head)
        asked = framing.asked
        self._framing = framing
        # RFC 6455 section 4.1 asks for both; any other request with Upgrade is served as if it had none (RFC 9110
        # section 7.8).
        if asked.method == b"GET" and asked.version == b"1.1" and handshake.is_asked(asked.headers):
            self._enter(Phase.EXCHANGE)
            self._shake_hands(asked, framing)
            return
        version = asked.version.decode("ascii")
        self._serve(http_scope(version, asked.method, asked.path, asked.query, asked.headers, self.common))

    def _serve(self, scope: Scope) -> None:
        self._enter(Phase.EXCHANGE)
        self._begun += 1
        # What serving it will cost counts beforehand: else a peer with a thousand small requests in one packet
        # would begin them all in its turn.
        self.service.turns.charge(limits.TCP_REQUEST_S)
        exchange = self._exchange = HttpExchange(self, scope)
        self._pull()
        if not self.is_ending:
            self.service.keep(exchange.run(self.service.app))

    def _pull(self) -> None:
        """Take of the body what the application has room for, so much a turn."""
        exchange, framing = self._exchange, self._framing
        if exchange is None or framing is None or self.is_ending:
            return
        try:
            for _ in range(limits.TCP_EVENTS_PER_TURN):
                if exchange.buffered >= limits.HTTP_BODY_BUFFER_BYTES_MAX or not self._pull_one(
                    exchange, framing
                ):
                    break
            else:
                self._pull_soon()
        except BadBody as error:
            self._break_body(exchange, error)
            return
        full = exchange.buffered >= limits.HTTP_BODY_BUFFER_BYTES_MAX
        ahead = len(self._inbox.data) >= limits.HTTP_INBOX_BYTES_MAX
        self.read_more(not self._is_pulling and not full and not ahead)
        # The next requests are here while this one is served: so many are kept, and the rest is left in the kernel.
        if ahead and exchange.body_ended:
            self._bound_wait()
            if len(self._inbox.data) > 2 * limits.HTTP_INBOX_BYTES_MAX:
                self.put_back(bytes(self._inbox.data[limits.HTTP_INBOX_BYTES_MAX :]))
                del self._inbox.data[limits.HTTP_INBOX_BYTES_MAX :]

    def _bound_wait(self) -> None:
        """Whoever sent so much ahead of its time is not read from, and its leaving would not be seen. One timer a connection,
        which holds no request: thousands are served before it ends."""
        if self._ahead is None:
            self._ahead = self.loop.call_later(limits.HTTP_AHEAD_S_MAX, self._end_wait, self._begun)

    def _end_wait(self, begun: int) -> None:
        self._ahead = None
        if self._exchange is None or len(self._inbox.data) < limits.HTTP_INBOX_BYTES_MAX:
            return
        if self._begun != begun:
            self._bound_wait()
            return
        self.service.count("pipelined")
        self.abort()

    def _pull_one(self, exchange: HttpExchange, framing: RequestFraming) -> bool:
        """Take one piece. False: there is none."""
        if exchange.body_ended:
            return False
        piece = framing.piece(self._inbox.data)
        if piece:
            exchange.feed(piece, len(piece))
            if not framing.has_ended:
                return True
        if framing.has_ended:
            exchange.feed_end()
        return False

    def _pull_soon(self) -> None:
        if not self._is_pulling:
            self._is_pulling = True
            self.in_turn(self._pull_on)

    def _pull_on(self) -> None:
        self._is_pulling = False
        self._pull()

    def _break_body(self, exchange: HttpExchange, error: BadBody) -> None:
        self.service.count("bad_body")
        exchange.disconnect()
        if exchange.is_started:
            self.abort()
        else:
            self._exchange = None
            self._refuse(error)

    def _refuse(self, error: BadHead) -> None:
        """Answer by itself, and hang up."""
        self.service.count("bad_request")
        headers, body = head_problem(error)
        lines = [(b"connection", b"close"), *headers, *self.service.common_headers()]
        self.write(plain_head(error.status, lines) + body)
        self.hang_up()

    # -- Channel --------------------------------------------------------------------------

    def send_head(self, status: int, headers: Headers) -> None:
        if self.service.is_closing or (self._peer_ended and not self._inbox.data):
            headers = [*headers, (b"connection", b"close")]
        try:
            self._head = self._framed.head(status, [*headers, *self.service.common_headers()])
        except BadAnswer:
            self.abort()
            raise

    @property
    def _framed(self) -> RequestFraming:
        assert self._framing is not None
        return self._framing

    def send_body(self, data: bytes, *, end: bool) -> None:
        head, self._head = self._head, b""
        # The whole answer before the whole request: what still comes of its body could not be told from the next
        # request.
        if head and end and not self._framed.has_ended:
            head = self._closing(head)
        try:
            pieces = self._framed.body(data, end=end)
        except BadAnswer:
            self.abort()
            raise
        for piece in (head, *pieces):
            self._out.put(piece)
        self._pump()

    def _closing(self, head: bytes) -> bytes:
        """The head of an answer to a request that is not read to its end: nothing more may be asked on this connection
        (RFC 9112 section 9.6), and over TLS the peer sees no half-close that says so."""
        self._must_close = True
        return (
            head if b"\nconnection: close\r\n" in head.lower() else head[:-2] + b"connection: close\r\n\r\n"
        )

    def _pump(self) -> None:
        """Write as much as the transport takes."""
        out = self._out
        while out.pieces and not self.is_paused:
            # In one write: head and body of a small answer as one TCP segment (and one TLS record); nine writes
            # became one for an answer of 82 KB (docs/PERFORMANCE.md).
            self.wire.write_all(out.pop(limits.HTTP_WRITE_BYTES_MAX))
        out.settle(not out.size and not self.is_paused)
        if self.is_paused:
            self.deadline = min(self.deadline, self.loop.time() + limits.HTTP_STALL_S_MAX)

    def on_writable(self) -> None:
        if self._phase in (Phase.EXCHANGE, Phase.TUNNEL) and not self.is_ending:
            self.deadline = self._socket.due if self._socket is not None else math.inf
        self._pump()

    async def drained(self) -> None:
        await self._out.drained()

    def wants_body(self) -> None:
        if self._framed.awaits_continue and not self._head:
            self.write(self._framed.go_on())
        self.deadline = self.loop.time() + limits.HTTP_BODY_S_MAX
        if not self._is_pulling:
            self._pull()  # else this turn of the loop has had its share

    def consumed(self, size: int) -> None:
        self.deadline = math.inf
        exchange = self._exchange
        if exchange is None or (exchange.body_ended and self.reads_on):
            return
        if exchange.buffered < limits.HTTP_BODY_BUFFER_BYTES_MAX // 2:
            self._pull_soon()

    def _on_shed(self) -> None:
        self.service.count("untaken")
        self.abort()

    def give_up(self) -> None:
        self.abort()

    def finished(self) -> None:
        exchange, self._exchange = self._exchange, None
        if self.is_ending or exchange is None:
            return
        framing = self._framed
        if not framing.has_ended:
            self.hang_up()
        elif framing.must_close or self._must_close or self.service.is_closing:
            self._end_softly()
        else:
            self._next()

    def _end_softly(self) -> None:
        if self._inbox.data:
            self.hang_up()
        else:
            self.close()

    def _next(self) -> None:
        """The connection is free for another request, which may have come already."""
        self._framing = None
        self._enter(Phase.IDLE)
        self.read_more(len(self._inbox.data) < limits.HTTP_INBOX_BYTES_MAX)
        if self._inbox.data:
            self.in_turn(self._read_next)
        elif self._peer_ended:
            self.close()

    def _read_next(self) -> None:
        if self.is_ending or self._phase is not Phase.IDLE:
            return  # what came meanwhile has begun it
        self._read_head()
        if self._peer_ended and self._phase in (Phase.IDLE, Phase.HEAD):
            self.close()

    # -- WebSocket ------------------------------------------------------------------------

    def _shake_hands(self, asked: RequestHead, framing: RequestFraming) -> None:
        # By its head alone: with an empty inbox only a request without a body is whole.
        if framing.piece(bytearray()) != b"":
            raise BadHead("a WebSocket handshake has no body")
        refusal = handshake.refusal(asked.headers)
        if refusal is not None:
            status, more, detail = refusal
            self.service.count("websocket_version" if status == 426 else "bad_request")
            fields, body = head_problem(BadHead(detail, status))
            self.write(plain_head(status, [*more, *fields, *self.service.common_headers()]) + body)
            self.hang_up()
            return
        self._phase = Phase.TUNNEL
        scope = websocket_scope(self.version, asked.path, asked.query, asked.headers, self.common)
        self._socket = WebSocketExchange(self, self.service, scope)
        if self._inbox.data:
            self._socket.feed(bytes(self._inbox.data))
            self._inbox.data.clear()
        self.service.keep(self._socket.run(self.service.app))

    def accept(self, headers: Headers, scope_headers: Headers) -> None:
        """Switch protocols. RFC 9110 section 7.8."""
        answer = handshake.accepted(scope_headers)
        self.write(plain_head(101, [*answer, *headers, *self.service.common_headers()]))

    def deny(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer the handshake as any request, and hang up."""
        kept = [pair for pair in headers if pair[0] != b"content-length"]
        length = (b"content-length", b"%d" % len(body))
        lines = [*kept, length, (b"connection", b"close"), *self.service.common_headers()]
        self.write(plain_head(status, lines) + body)
        self.hang_up()

    def send_data(self, data: bytes) -> None:
        """Bytes of the WebSocket."""
        self.write(data)
        self._out.settle(not self.is_paused)

    def read_on(self, more: bool) -> None:
        """Whether the WebSocket has room for more."""
        self.read_more(more)

    def end(self) -> None:
        """The WebSocket is over."""
        self.close()

    def wake_at(self, deadline: float) -> None:
        """When the WebSocket wants to be looked at."""
        self.deadline = deadline

    # -- Occupant -------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        self.deadline = math.inf
        if self.is_ending:
            self._expire_end(now)
        elif self.is_paused and self._socket is None:
            self.service.count("slow_answer")
            self.abort()
        elif self._socket is not None:
            self._socket.expire(now)
        elif self._phase is Phase.EXCHANGE:
            self._expire_body()
        elif self._phase is Phase.HEAD:
            self._refuse(BadHead(f"the head did not come within {limits.HTTP_HEAD_S_MAX:.0f} s", 408))
        else:
            self.close()

    def _expire_end(self, now: float) -> None:
        if self.transport.is_closing():
            self.abort()
        else:
            self.transport.close()
            self.deadline = now + limits.HTTP_LINGER_S_MAX

    def _expire_body(self) -> None:
        exchange = self._exchange
        if exchange is None or exchange.body_ended or not exchange.is_waiting:
            return
        self.service.count("slow_body")
        exchange.disconnect()
        if exchange.is_started:
            self.abort()
        else:
            self._exchange = None
            seconds = f"{limits.HTTP_BODY_S_MAX:.0f} s"
            self._refuse(BadHead(f"nothing of the body came for {seconds}", 408))

    def go_away(self) -> None:
        if self._phase in (Phase.IDLE, Phase.HEAD):
            self.close()


def plain_head(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A response's head, of headers that are the door's own or were checked by the application."""
    lines = [
        b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()),
        *(b"\r\n%s: %s" % pair for pair in headers),
        b"\r\n\r\n",
    ]
    return b"".join(lines)
