"""HTTP/3 requests as ASGI: one exchange a request stream. Room: quic.

The application knows nothing of QUIC. A body streams both ways: what the application has not
asked for keeps the stream's window shut, what the peer has not acknowledged makes ``send`` wait.
Source: the ASGI HTTP specification 2.4, RFC 9114, RFC 8470 (425 Too Early).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from gateway import limits
from gateway.core.gate import challenge_of
from gateway.core.ports import ClientGone
from gateway.errors import GatewayError
from gateway.quic.h3.codes import ErrorCode
from gateway.quic.h3.fields import CONNECTION_SPECIFIC
from gateway.quic.h3.heads import KnownHeaders, RawHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

    from gateway.quic.peer import Peer

logger = logging.getLogger(__name__)

BODY_IS_HERE = "body_is_here"
"""A scope's callable: whether ``receive`` would answer at once."""
BULK = "bulk"
"""A scope's mark for an answer that is large however it is cut: its peer must take it in time."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Malformed(Exception):
    """A request's pseudo-headers make no sense; answered with 400. RFC 9114 section 4.1.2."""


def problem_response(error: GatewayError, status: int | None = None) -> tuple[RawHeaders, bytes]:
    """A refusal as header section and body (RFC 9457)."""
    document = error.problem()
    if status is not None:
        document["status"] = status
    body = json.dumps(document, separators=(",", ":")).encode()
    headers = [
        (b":status", str(document["status"]).encode()),
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if document["status"] == 401:
        headers.append((b"www-authenticate", challenge_of(error).encode()))
    return headers, body


def request_scope(headers: RawHeaders, client: tuple[str, int] | None, server: tuple[str, int]) -> Scope:
    """The ASGI scope of a request. Raises :class:`Malformed`."""
    if isinstance(headers, KnownHeaders):
        if headers.scope is None:
            headers.scope = _scope_of(headers)
        # Copied as far as applications write into it: Starlette and middleware add to the scope, and some edit
        # ``headers``.
        scope: Scope = dict(headers.scope)
        scope["headers"] = scope["headers"].copy()
        scope["asgi"] = scope["asgi"].copy()
        scope["extensions"] = {}
    else:
        scope = _scope_of(headers)
    scope["client"], scope["server"] = client, server
    return scope


def _scope_of(headers: RawHeaders) -> Scope:
    """What of a scope the header section alone says."""
    pseudo: dict[bytes, bytes] = {}
    fields: RawHeaders = []
    for name, value in headers:
        if name[:1] == b":":
            pseudo[name] = value
        else:
            fields.append((name, value))
    target = pseudo.get(b":path", b"")
    method = pseudo.get(b":method", b"")
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        raise Malformed("the :path of a request begins with '/'")
    raw_path, _, query = target.partition(b"?")
    if not any(name == b"host" for name, _ in fields):
        # ASGI wants :authority as Host, in front (the HTTP specification of ASGI, "HTTP Connection Scope"); that
        # both say the same was looked at before (names_two_hosts).
        fields.insert(0, (b"host", pseudo.get(b":authority", b"")))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "3",
        "method": method.decode("ascii", "replace").upper(),
        "scheme": "https",  # what the connection is, not what the peer calls it: rules for loopback ask
        "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": fields,
        "extensions": {},
    }


class Exchange:
    """One request and its response. The peer feeds it, the application drives it."""

    def __init__(
        self, peer: Peer, stream_id: int, scope: Scope, ended: bool, sent: Callable[[int], None]
    ) -> None:
        """``sent`` is told of the bytes that were handed to the stream."""
        self.peer = peer
        self.stream_id = stream_id
        self.scope = scope
        scope[BODY_IS_HERE] = self._is_here
        self.is_over = False
        self._chunks: deque[bytes] = deque()
        self._body_ended = ended
        self._body_told = False
        self._gone = False
        self._wakeup: asyncio.Future[None] | None = None
        self._start: RawHeaders | None = None
        self._started = False
        self._finished = False
        self._task: asyncio.Task[None] | None = None
        self._sent = sent

    def run(self, app: ASGIApp) -> None:
        """Begin to serve it, as a task of the hub."""
        self._task = self.peer.hub.spawn(self._serve(app))

    async def _serve(self, app: ASGIApp) -> None:
        try:
            await app(self.scope, self.receive, self.send)
            if not self._finished and not self._gone:
                raise RuntimeError("the application ended without a complete response")
        except Exception:
            if not self._gone:
                logger.exception("the application failed on %s", self.scope["path"])
                self._fail()
        finally:
            self._end()

    def _fail(self) -> None:
        if self._started:
            self.peer.give_up_stream(self.stream_id, ErrorCode.H3_INTERNAL_ERROR)
        else:
            headers, body = problem_response(GatewayError("the request failed inside the gateway"))
            self._send_now(headers, body, end=True)
        self._finished = True

    def _end(self) -> None:
        """Forget what was not read; the peer need not send the rest."""
        if self.is_over:
            return
        self.is_over = True
        self.scope.pop(BODY_IS_HERE, None)  # it holds this: a cycle a request would wait for the collector
        while self._chunks:
            self.peer.consumed(self.stream_id, len(self._chunks.popleft()))
        if not self._body_ended:
            self.peer.quic.abandon_receiving(self.stream_id, ErrorCode.H3_NO_ERROR)
        self.peer.on_exchange_over(self.stream_id)

    # -- from the peer --------------------------------------------------------------------

    def feed(self, data: bytes, ended: bool) -> None:
        """Content of the request."""
        if data and not self.is_over:
            self.peer.quic.hold(self.stream_id, len(data))
            self._chunks.append(data)
        self._body_ended = self._body_ended or ended
        self._wake()

    def disconnect(self) -> None:
        """The client is gone. A response under way is cancelled; before it, the application is told."""
        if self._gone or self.is_over:
            return
        self._gone = True
        self._wake()
        if self._started and self._task is not None:
            # Before the response began the application is only told: what it does may be half done in the store.
            self._task.cancel()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    # -- ASGI -----------------------------------------------------------------------------

    def _is_here(self) -> bool:
        return bool(self._chunks) or self._gone or (self._body_ended and not self._body_told)

    async def receive(self) -> Message:
        """What has come of the body since the last time, as one piece; after its end, waits for the client to go."""
        while True:
            if self._chunks:
                data = self._chunks.popleft()
                if self._chunks:
                    data = b"".join((data, *self._chunks))
                    self._chunks.clear()
                self.peer.consumed(self.stream_id, len(data))
                more = not self._body_ended
                self._body_told = not more
                return {"type": "http.request", "body": data, "more_body": more}
            if self._body_ended and not self._body_told:
                self._body_told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self._gone or self._finished:
                return {"type": "http.disconnect"}
            self._wakeup = asyncio.get_running_loop().create_future()
            await self._wakeup

    async def send(self, message: Message) -> None:
        """Take a response message; waits while the client does not keep up. Raises :class:`ClientGone`."""
        if self._gone:
            raise ClientGone("the client is gone")
        kind = message["type"]
        if kind == "http.response.start" and self._start is None and not self._started:
            self._start = _response_headers(message)
        elif kind == "http.response.body" and not self._finished:
            await self._send_body(bytes(message.get("body", b"")), bool(message.get("more_body", False)))
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    async def _send_body(self, body: bytes, more: bool) -> None:
        start, self._start = self._start, None
        if start is None and not self._started:
            raise RuntimeError("http.response.body before http.response.start")
        self._started = True
        if self.scope["method"] == "HEAD":
            body = b""
        is_bulk = len(body) > 2 * limits.ANSWER_PIECE_BYTES or BULK in self.scope
        if is_bulk:
            pieces = range(0, len(body), limits.ANSWER_PIECE_BYTES)
            for at in pieces[:-1]:
                self._send_piece(start, body[at : at + limits.ANSWER_PIECE_BYTES], end=False)
                await self._taken()
                start = None
            body = body[pieces[-1] :] if pieces else body
        if not more:
            self._finished = True
            self._wake()
        self._send_piece(start, body, end=not more)
        if is_bulk:
            await self._taken(whole=not more)
        elif more:
            await self.peer.drained(self.stream_id)

    def _send_piece(self, headers: RawHeaders | None, body: bytes, *, end: bool) -> None:
        if not self._send_now(headers, body, end=end):
            self._gone = True
            raise ClientGone("the client no longer wants the response")

    async def _taken(self, *, whole: bool = False) -> None:
        """Wait until the peer has taken enough of a large answer for the next piece, or all of it. A peer that takes
        nothing for long is given up: its answer, and what it was made of, are held for nobody else."""
        try:
            async with asyncio.timeout(limits.ANSWER_STALL_S_MAX):
                await self.peer.drained(self.stream_id, whole=whole)
        except TimeoutError:
            self.peer.hub.counters["answers_stalled"] += 1
            self.peer.give_up_stream(self.stream_id, ErrorCode.H3_REQUEST_CANCELLED)
            self._gone = True
            raise ClientGone("the client did not take the response in time") from None

    def _send_now(self, headers: RawHeaders | None, body: bytes, *, end: bool) -> bool:
        """False: the stream takes no more."""
        peer = self.peer
        if peer.h3 is None or peer.quic.is_ended or not peer.quic.streams.can_send_on(self.stream_id):
            return False
        if headers is not None:
            peer.h3.respond(self.stream_id, headers, body, end=end)
        elif body or end:
            peer.h3.send_data(self.stream_id, body, end_stream=end)
        self._sent(len(body))
        peer.hub.mark(peer)
        return True


def _response_headers(message: Message) -> RawHeaders:
    headers: RawHeaders = [(b":status", b"%d" % message["status"])]
    for name, value in message.get("headers", ()):
        name = bytes(name).lower()
        if name not in CONNECTION_SPECIFIC:
            headers.append((name, bytes(value)))
    return headers
