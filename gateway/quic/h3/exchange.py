"""A client's requests: one under way, its response, and how either may fail. Room: quic."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import GatewayError, StoreUnavailable, TooLarge
from gateway.limits import H3_RESPONSE_BYTES_MAX
from gateway.quic.h3.codes import ErrorCode

if TYPE_CHECKING:
    from gateway.quic.clientpeer import ClientPeer


class ConnectFailed(StoreUnavailable):
    """No connection: silence, a refusal, or a certificate that is not trusted."""

    code = "connect_failed"
    title = "No connection"


class RequestFailed(StoreUnavailable):
    """A request ended without a complete response; ``facts["sent"]`` tells whether it may have been served.
    RFC 9114 section 4.1.1."""

    code = "request_failed"
    title = "Request failed"


class SessionRefused(GatewayError):
    """The gateway answered a session's CONNECT with an error. ``status`` and ``document`` are its own."""

    code = "session_refused"
    title = "Session refused"

    def __init__(self, status: int, document: Mapping[str, object]) -> None:
        detail = document.get("detail") or f"the gateway answered {status}"
        super().__init__(str(detail), http_status=status, document=document)
        self.document = document
        self.http_status = status


class Response:
    """A response whose header section has come. Read the body with ``async for`` or :meth:`read`."""

    def __init__(self, exchange: ClientExchange, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = headers
        self._exchange = exchange

    def header(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The body in pieces as they come. Raises :class:`RequestFailed` if it breaks off."""
        while (chunk := await self._exchange.next_chunk()) is not None:
            yield chunk

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.aiter_bytes()

    async def read(self, bytes_max: int = H3_RESPONSE_BYTES_MAX) -> bytes:
        """The whole body. Raises :class:`TooLarge` beyond ``bytes_max``."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self.aiter_bytes():
            size += len(chunk)
            if size > bytes_max:
                self.close()
                raise TooLarge(f"the response is over {bytes_max} bytes")
            parts.append(chunk)
        return b"".join(parts)

    def close(self) -> None:
        """Give up what has not been read."""
        self._exchange.give_up()


class ClientExchange:
    """One request under way."""

    def __init__(self, peer: ClientPeer, stream_id: int) -> None:
        self.peer = peer
        self.stream_id = stream_id
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.is_answered = False
        self.sending: asyncio.Task[None] | None = None
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._error: GatewayError | None = None
        self._wakeup: asyncio.Future[None] | None = None

    def on_headers(self, headers: list[tuple[bytes, bytes]], ended: bool) -> None:
        status = int(dict(headers)[b":status"]) if headers and headers[0][0] == b":status" else 0
        if status >= 200 and not self.is_answered:
            fields = [(name, value) for name, value in headers if name[:1] != b":"]
            self.is_answered = True
            self.response.set_result(Response(self, status, fields))
        if ended:
            self.on_data(b"", True)

    async def answer(self, timeout_s: float) -> Response:
        """The response once its header section is there, which from then on holds this and is not held by it.
        Raises ``TimeoutError``, :class:`RequestFailed`."""
        async with asyncio.timeout(timeout_s):
            # The time-out is the waiter's: cancelled, the future would refuse the response that may still come.
            response = await asyncio.shield(self.response)
        # A new one, and with it no ring of references: exchange and response hold each other no longer, and
        # are freed at once.
        self.response = asyncio.get_running_loop().create_future()
        return response

    def on_data(self, data: bytes, ended: bool) -> None:
        if data:
            # Its window opens again when this is read, not when it comes: a slow reader holds up the
            # sender, and no queue grows.
            self.peer.quic.hold(self.stream_id, len(data))
            self._chunks.append(data)
        if ended:
            self._ended = True
            self.peer.exchanges.pop(self.stream_id, None)
        self._wake()

    def fail(self, error: GatewayError) -> None:
        """It will not come to an end."""
        self.peer.exchanges.pop(self.stream_id, None)
        if self.sending is not None:
            self.sending.cancel()
        if not self._ended:
            self._error = error
            if not self.is_answered and not self.response.done():
                self.response.set_exception(error)
                self.response.exception()  # who gave up waiting does not hear of it
        self._wake()

    async def next_chunk(self) -> bytes | None:
        while not self._chunks:
            if self._ended:
                return None
            if self._error is not None:
                raise self._error
            self._wakeup = asyncio.get_running_loop().create_future()
            await self._wakeup
        data = self._chunks.popleft()
        self.peer.consumed(self.stream_id, len(data))
        return data

    def give_up(self) -> None:
        """Neither send nor read the rest."""
        if self.sending is not None:
            self.sending.cancel()
        # On the connection's window these bytes count as well: unread ones given up would shut it for every
        # other request.
        while self._chunks:
            self.peer.consumed(self.stream_id, len(self._chunks.popleft()))
        self.peer.exchanges.pop(self.stream_id, None)
        if not self._ended:
            self._ended = True
            self.peer.give_up_stream(self.stream_id, ErrorCode.H3_REQUEST_CANCELLED)

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)


class Whole(NamedTuple):
    """A whole response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class WholeExchange:
    """One request whose response is wanted whole: one hand-over when it has all come, and no time-out of its own.

    ``bytes_max``: of the body, which is taken as it comes, so that its stream's window never shuts.
    """

    __slots__ = (
        "_bytes_max",
        "_fields",
        "_loop",
        "_parts",
        "_size",
        "_status",
        "done",
        "heard_at",
        "peer",
        "stream_id",
    )
    sending: asyncio.Task[None] | None = None

    def __init__(self, peer: ClientPeer, stream_id: int, bytes_max: int) -> None:
        self.peer = peer
        self.stream_id = stream_id
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Whole] = self._loop.create_future()
        self.heard_at = 0.0
        """When some of the body came last, by the loop's clock; 0: none has."""
        self._bytes_max = bytes_max
        self._status = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._size = 0

    def on_headers(self, headers: list[tuple[bytes, bytes]], ended: bool) -> None:
        """A header section; interim responses and trailers say nothing here. RFC 9110 section 15.2."""
        if not self._status and headers and headers[0][0] == b":status":
            status = int(headers[0][1])
            if status >= 200:
                self._status = status
                self._fields = [(name, value) for name, value in headers if name[:1] != b":"]
        if ended:
            self.on_data(b"", True)

    def on_data(self, data: bytes, ended: bool) -> None:
        """Some of the body."""
        if data:
            self._parts.append(data)
            self._size += len(data)
            self.heard_at = self._loop.time()
            if self._size > self._bytes_max:
                self.give_up(TooLarge(f"the answer is over {self._bytes_max} bytes"))
                return
        if ended:
            self.peer.exchanges.pop(self.stream_id, None)
            if self.done.done():
                return
            if self._status:
                self.done.set_result(Whole(self._status, self._fields, b"".join(self._parts)))
            else:
                self.done.set_exception(RequestFailed("the response had no status", sent=True))

    def fail(self, error: GatewayError) -> None:
        """It will not come to an end."""
        self.peer.exchanges.pop(self.stream_id, None)
        if not self.done.done():
            self.done.set_exception(error)

    def give_up(self, error: GatewayError) -> None:
        """Neither send nor read the rest. Idempotent."""
        # Over already, or never begun: to reset a stream that has ended would be said to the peer for
        # nothing.
        if self.peer.exchanges.get(self.stream_id) is self:
            self.fail(error)
            self.peer.give_up_stream(self.stream_id, ErrorCode.H3_REQUEST_CANCELLED)
