"""One stream of an HTTP/2 connection: a request, or a WebSocket (RFC 8441). Room: http."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from gateway import limits
from gateway.http.tcp import handshake
from gateway.http.tcp.channel import OutQueue
from gateway.http.tcp.exchange import HttpExchange
from gateway.http.tcp.heads import BadHead, Headers, http_scope, split_target, websocket_scope, with_host
from gateway.http.tcp.refusals import head_problem
from gateway.http.tcp.websocket import WebSocketExchange

if TYPE_CHECKING:
    from gateway.http.tcp.http2 import Http2

_CONNECTION_SPECIFIC = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)


class Http2Stream:
    """Implements :class:`gateway.http.tcp.channel.ResponseChannel` and :class:`gateway.http.tcp.websocket.Pipe`."""

    def __init__(self, connection: Http2, stream_id: int) -> None:
        self.stream_id = stream_id
        self.is_queued = False
        self.is_gone = False
        self._connection = connection
        self._h2 = connection.h2
        self._out = OutQueue(connection.service.options.untaken, self._on_shed)
        self._exchange: HttpExchange | None = None
        self._socket: WebSocketExchange | None = None
        self._head: Headers | None = None
        self._ends = False
        """END_STREAM follows what is queued."""
        self._is_ended = False
        """It has gone out."""
        self._peer_ended = False
        self._is_unanswered = False
        self._untaken = 0
        self._heard_at = 0.0
        self._over_at: float | None = None
        """When the answer had gone out whole, and the peer still sent its request."""
        self._dropped = 0
        self._socket_due = math.inf
        self.is_starved = False
        """What went last was a crumb, for the window had room for no more: such a peer asks for each by a frame."""
        self._unread = 0
        """Bytes of a WebSocket that were read while it had no room."""
        self._reads_on = True

    # -- from the connection --------------------------------------------------------------

    def understand(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Make the exchange of a request's head. False: it was answered already."""
        pseudo = {name: value for name, value in headers if name[:1] == b":"}
        fields: Headers = [(bytes(n), bytes(v)) for n, v in headers if n[:1] != b":"]
        method = pseudo.get(b":method", b"")
        if pseudo.get(b":authority"):
            # Applications know a Host only: HTTP/2 says it as :authority (RFC 9113 section 8.3.1).
            fields = with_host(fields, pseudo[b":authority"])
        try:
            if method == b"CONNECT" and pseudo.get(b":protocol") != b"websocket":
                raise BadHead("CONNECT is taken for WebSocket alone", 501)
            path, query, _ = split_target(pseudo.get(b":path", b""), method)
        except BadHead as error:
            self._answer(error)
            return False
        if method == b"CONNECT":
            return self._understand_websocket(path, query, fields)
        self._exchange = HttpExchange(
            self, http_scope("2", method, path, query, fields, self._connection.common)
        )
        return True

    def _understand_websocket(self, path: bytes, query: bytes, fields: Headers) -> bool:
        refusal = handshake.version_refusal(fields, upgrade=False)
        if refusal is not None:
            status, more, detail = refusal
            self._connection.service.count("websocket_version")
            self._answer(BadHead(detail, status), more)
            return False
        scope = websocket_scope("2", path, query, fields, self._connection.common)
        self._socket = WebSocketExchange(self, self._connection.service, scope)
        return True

    def begin(self) -> None:
        """Let the application have it."""
        service = self._connection.service
        self._is_unanswered = True
        self._heard_at = self._connection.loop.time()
        served = self._exchange or self._socket
        if served is not None:
            service.keep(served.run(service.app))

    def feed(self, data: bytes, size: int) -> None:
        """A DATA frame, which holds ``size`` bytes of both windows until it is consumed. RFC 9113 section 6.1."""
        self._heard_at = self._connection.loop.time()
        if self._exchange is not None and (data or size):
            self._exchange.feed(data, size)
        elif self._socket is not None:
            # The window is given back when the application takes what came, not when it is parsed: that is
            # what holds a peer back.
            self._unread += size
            self._socket.feed(data)
            if self._reads_on:
                self._take_unread()
        else:
            self._drop(size)

    def _drop(self, size: int) -> None:
        """Let the peer go on sending what nobody reads, to a bound: clients of which each waits until it has sent all,
        or takes a reset for a failure whatever its code is, would lose the answer that has come (RFC 9113 section 8.1
        forbids both, and curl 7.88 and httpcore 1.0 do so)."""
        connection = self._connection
        self._dropped += size
        self._acknowledge(size)
        if self._dropped > limits.HTTP_LINGER_BYTES_MAX or not connection.service.turns.may_drop(
            connection.slot.peer, size
        ):
            self._close_if_over(is_late=True)

    def feed_end(self) -> None:
        """END_STREAM came."""
        self._peer_ended = True
        if self._exchange is not None:
            self._exchange.feed_end()
        if self._socket is not None:
            self._socket.disconnect()
            self.end()
        self._close_if_over()

    def disconnect(self) -> None:
        """The stream, or the connection, is gone."""
        self.is_gone = True
        self._out.lose()
        self._account()
        self._is_answered()
        if self._exchange is not None:
            self._exchange.disconnect()
            # The connection's window counts what nobody will read any more: without this all its other
            # streams would stand still.
            self._acknowledge(self._exchange.buffered)
        if self._socket is not None:
            self._socket.disconnect()
            self._take_unread()

    def refuse(self, code: ErrorCodes) -> None:
        """Reset it. RFC 9113 section 6.4."""
        if not self.is_gone:
            self._reset(code)
            self.disconnect()
            self._connection.finished(self)

    def look(self, now: float) -> None:
        """Has anything taken too long?"""
        out, exchange = self._out, self._exchange
        # A WebSocket has no timer of its own here: the door looks at all of a connection's streams.
        if self._socket is not None and now >= self._socket_due:
            self._socket.expire(now)
        if self._over_at is not None and (
            now - self._heard_at >= limits.HTTP_LINGER_S_MAX
            or now - self._over_at >= limits.HTTP_LINGER_WHOLE_S_MAX
        ):
            self._close_if_over(is_late=True)
            return
        if out.size and now - out.moved_at > limits.HTTP_STALL_S_MAX:
            self._connection.service.count("slow_answer")
            self.refuse(ErrorCodes.CANCEL)
        elif exchange is not None and exchange.is_waiting and now - self._heard_at > limits.HTTP_BODY_S_MAX:
            self._connection.service.count("slow_body")
            self._give_up_body(exchange)

    def _give_up_body(self, exchange: HttpExchange) -> None:
        exchange.disconnect()
        if exchange.is_started:
            self.refuse(ErrorCodes.CANCEL)
        else:
            exchange.is_waiting = False
            self._answer(BadHead(f"nothing of the body came for {limits.HTTP_BODY_S_MAX:.0f} s", 408))

    def _answer(self, error: BadHead, more: Headers | None = None) -> None:
        """Answer without the application."""
        self._connection.service.count("bad_request")
        headers, body = head_problem(error)
        self.send_head(error.status, [*(more or []), *headers])
        self.send_body(body, end=True)

    # -- frames out -----------------------------------------------------------------------

    @property
    def has_more(self) -> bool:
        """Whether anything is still to go out."""
        return not self._is_ended and bool(self._out.size or self._ends)

    def send_frame(self) -> int | None:
        """Send one DATA frame. 0: the windows are shut; None: there is nothing to send. RFC 9113 section 6.9."""
        out = self._out
        if self.is_gone or not self.has_more:
            return None
        try:
            sent = self._send_frame(out)
        # The peer has reset it, and h2 knows so before the event is read.
        except ProtocolError:
            self.disconnect()
            self._connection.finished(self)
            return None
        self.settle()
        if self._is_ended:
            self._close_if_over()
        return sent

    def _send_frame(self, out: OutQueue) -> int:
        if not out.size:
            self._h2.end_stream(self.stream_id)
            self._is_ended = True
            return 1
        window = self._h2.local_flow_control_window(self.stream_id)
        size = min(window, limits.H2_FRAME_BYTES_MAX, len(out.pieces[0]))
        if size <= 0:
            return 0
        ends = self._ends and size == out.size
        self.is_starved = size < min(len(out.pieces[0]), limits.H2_CRUMB_BYTES)
        # A frame of a view's bytes: h2 joins it with its head, and a memoryview would be copied there anyway.
        self._h2.send_data(self.stream_id, out.pieces[0][:size].tobytes(), end_stream=ends)
        out.took(size)
        out.moved()
        self._is_ended = ends
        return size

    def settle(self) -> None:
        """Tell who waits how far it is."""
        self._out.settle(not self._out.size)
        self._account()

    def _account(self) -> None:
        # By what it changed: the sum of a connection's streams is never walked through.
        if self._untaken != self._out.size:
            more, self._untaken = self._out.size - self._untaken, self._out.size
            self._connection.untaken(more)

    def _go(self) -> None:
        connection = self._connection
        connection.ready(self)
        connection.pump()
        self.settle()
        connection.flush()

    def _send_headers(self, status: int, headers: Headers, *, end: bool) -> None:
        # Applications write for HTTP/1.1; in HTTP/2 these make a message malformed (RFC 9113 section
        # 8.2.2).
        kept = [pair for pair in headers if pair[0] not in _CONNECTION_SPECIFIC]
        common = self._connection.service.common_headers()
        try:
            self._h2.send_headers(
                self.stream_id, [(b":status", b"%d" % status), *kept, *common], end_stream=end
            )
        except ProtocolError:
            self.disconnect()
        self._is_answered()

    def _is_answered(self) -> None:
        if self._is_unanswered:
            self._is_unanswered = False
            self._connection.answered()

    # -- Channel --------------------------------------------------------------------------

    def send_head(self, status: int, headers: Headers) -> None:
        self._head = [(b":status", b"%d" % status), *headers]

    def send_body(self, data: bytes, *, end: bool) -> None:
        head, self._head = self._head, None
        if head is not None:
            # END_STREAM on the HEADERS saves the empty DATA frame behind them.
            self._is_ended = end and not data
            self._send_headers(int(head[0][1]), head[1:], end=self._is_ended)
        self._ends = end
        self._out.put(data)
        if self.is_gone:
            return
        self._go()
        if self._is_ended:
            self._close_if_over()

    async def drained(self) -> None:
        await self._out.drained()

    def wants_body(self) -> None:
        self._heard_at = self._connection.loop.time()

    def consumed(self, size: int) -> None:
        self._acknowledge(size)
        self._connection.flush()

    def _acknowledge(self, size: int) -> None:
        if size:
            self._connection.guard.flowed()
            try:
                self._h2.acknowledge_received_data(size, self.stream_id)
            except ProtocolError:
                pass  # the connection has ended

    def finished(self) -> None:
        self._close_if_over()

    def give_up(self) -> None:
        self.refuse(ErrorCodes.INTERNAL_ERROR)

    def _close_if_over(self, is_late: bool = False) -> None:
        """After END_STREAM. A peer that still sends is told that it need not (RFC 9113 section 8.1), after a while."""
        if self.is_gone or not self._is_ended:
            return
        if not self._peer_ended and not is_late:
            self._linger()
            return
        exchange = self._exchange
        if not self._peer_ended:
            self._reset(ErrorCodes.NO_ERROR)
        self.is_gone = True
        if self._over_at is None:
            self._connection.guard.answered()
        if exchange is not None:
            exchange.disconnect()
            self._acknowledge(exchange.buffered)
        self._is_answered()
        self._connection.finished(self)
        self._connection.flush()

    def _linger(self) -> None:
        """Wait for the peer's end. :meth:`look` ends it."""
        loop = self._connection.loop
        if self._socket is not None:
            loop.call_later(limits.WEBSOCKET_CLOSE_S, self._close_if_over, True)
        elif self._over_at is None:
            self._over_at = self._heard_at = loop.time()
            self._connection.guard.answered()
            # From here on what comes is dropped as it comes (_drop), and no longer waits for the
            # application.
            exchange, self._exchange = self._exchange, None
            if exchange is not None:
                exchange.disconnect()
                self._drop(exchange.buffered)
                self._connection.flush()

    def _reset(self, code: ErrorCodes) -> None:
        try:
            self._h2.reset_stream(self.stream_id, code)
        except ProtocolError:
            pass  # it has ended meanwhile
        self._connection.flush()

    def _on_shed(self) -> None:
        self._connection.shed()

    # -- Pipe -----------------------------------------------------------------------------

    def accept(self, headers: Headers, scope_headers: Headers) -> None:
        self._send_headers(200, headers, end=False)
        self._connection.flush()

    def deny(self, status: int, headers: Headers, body: bytes) -> None:
        # An answer to a CONNECT that was refused: what its length is says END_STREAM.
        self.send_head(status, [pair for pair in headers if pair[0] != b"content-length"])
        self.send_body(body, end=True)

    def send_data(self, data: bytes) -> None:
        self._out.put(data)
        if not self.is_gone:
            self._go()

    def read_on(self, more: bool) -> None:
        self._reads_on = more
        if more:
            self._take_unread()

    def _take_unread(self) -> None:
        size, self._unread = self._unread, 0
        self._acknowledge(size)

    def end(self) -> None:
        if not self.is_gone and not self._ends:
            self.send_body(b"", end=True)

    def abort(self) -> None:
        self.refuse(ErrorCodes.CANCEL)

    def in_turn(self, call: Callable[[], None]) -> None:
        self._connection.in_turn(call)

    def wake_at(self, deadline: float) -> None:
        self._socket_due = deadline
