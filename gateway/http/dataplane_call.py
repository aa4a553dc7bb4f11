"""One request of the data plane, straight on ASGI. Room: http.

Without a framework's request and response objects, because a page from the cache costs less than
they do, and because a body is read while the answer is being written. A body's pieces come as
they arrive; a refusal is sent after the rest of the body was read to a bound and thrown away, so
that it reaches a peer that sends first and reads later. Source: docs/STORE.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from gateway import limits
from gateway.core.gate import check_current_name
from gateway.core.origins import is_loopback
from gateway.core.ports import ClientGone
from gateway.errors import BadInput, GatewayError, TooLarge
from gateway.http.exchanges import BODY_IS_HERE
from gateway.http.planes import check_page_plane
from gateway.store.base import Namespace
from gateway.wire import strictjson

logger = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]


class Call:
    """A request and its answer: read the body once, answer once."""

    __slots__ = ("_declared", "_ended", "_headers", "_read_bytes", "_receive", "_scope", "_send", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        declared = self._headers.get(b"content-length", b"")
        # Of bytes isdigit() takes ASCII only; longer than any length there is would be slow to read.
        self._declared = int(declared) if declared.isdigit() and len(declared) <= 20 else -1
        self._read_bytes = 0
        self._ended = False
        self.started = False

    # -- the request --------------------------------------------------------------------------

    def namespace(self) -> Namespace:
        """The namespace that the headers name. Raises :class:`BadInput` where they name none, ``GrantRefused`` where it
        is none of whoever asks."""
        key = self._headers.get(b"x-namespace-key")
        if key is None:
            raise BadInput("this operation requires the header x-namespace-key")
        if not key.isascii():
            raise BadInput("x-namespace-key is not ASCII")
        name = key.decode("ascii")
        check_current_name("store", name)
        proof = self._headers.get(b"x-namespace-hashproof")
        return Namespace(name, None if proof is None else proof.decode("latin-1"))

    def query(self) -> dict[str, str]:
        """The query's fields; the last of a name counts."""
        return dict(parse_qsl(self._scope["query_string"].decode("latin-1"), keep_blank_values=True))

    @property
    def is_near(self) -> bool:
        """Whether who asks is on this machine."""
        client = self._scope.get("client")
        return client is not None and is_loopback(client[0])

    @property
    def complete(self) -> bool:
        """True once the whole body has been given out: by its end, or by its declared length."""
        return self._ended or self._read_bytes == self._declared

    async def piece(self) -> bytes | None:
        """The body's next piece as it arrives, None at its end. Raises :class:`ClientGone`, and
        :class:`BadInput` if nothing comes."""
        while not self._ended:
            is_here = self._scope.get(BODY_IS_HERE)
            # What is here already needs no timer: one a request was a tenth of a cached read.
            piece = await (self._next() if is_here is not None and is_here() else self._next_in_time())
            if piece:
                return piece
        return None

    async def _next_in_time(self) -> bytes:
        try:
            async with asyncio.timeout(limits.STORE_BODY_IDLE_S_MAX):
                return await self._next()
        except TimeoutError:
            raise BadInput(
                f"the body was silent for {limits.STORE_BODY_IDLE_S_MAX:.0f} s; send it again"
            ) from None

    async def _next(self) -> bytes:
        message = await self._receive()
        # Not `http.disconnect` alone: whatever else it is, no body comes of it.
        if message["type"] != "http.request":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        self._read_bytes += len(piece)
        self._ended = not message.get("more_body", False)
        return piece

    async def json(self) -> dict[str, object]:
        """The body as one JSON object. Raises :class:`TooLarge` and :class:`BadInput`."""
        whole = bytearray()
        while (piece := await self.piece()) is not None:
            whole += piece
            if len(whole) > limits.STORE_JSON_BYTES_MAX:
                raise TooLarge(f"a JSON body of over {limits.STORE_JSON_BYTES_MAX} bytes is not taken")
        try:
            value = strictjson.loads(whole)
        except ValueError as error:
            raise BadInput(f"the body is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise BadInput("the body is JSON, but not an object")
        return value

    async def drain(self) -> None:
        """Read and throw away the rest of the body, to a bound of bytes and time. An answer waits for
        it: HTTP/2 servers are known to fail on what arrives on a stream after its end. RFC 9112 section 9.3."""
        until = self._read_bytes + limits.STORE_DRAIN_BYTES_MAX
        try:
            async with asyncio.timeout(limits.STORE_DRAIN_S_MAX):
                while not self._ended and self._read_bytes < until:
                    await self._next()
        except TimeoutError:
            pass

    # -- the answer ---------------------------------------------------------------------------

    async def answer(self, status: int, body: bytes = b"", headers: Headers | None = None) -> None:
        """The whole answer at once, after the end of the body."""
        if not self._ended:
            await self.drain()
        await self._start(status, [*(headers or ()), (b"content-length", b"%d" % len(body))])
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def answer_json(self, value: object, status: int = 200, headers: Headers | None = None) -> None:
        """The whole answer, as JSON."""
        body = json.dumps(value, separators=(",", ":")).encode()
        await self.answer(status, body, [(b"content-type", b"application/json"), *(headers or ())])

    async def stream(self, piece: bytes, headers: Headers | None = None) -> None:
        """The next piece of an answer with status 200; end it with :meth:`end`."""
        if not self.started:
            await self._start(200, headers or [])
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        """No more pieces. Waits for the end of the body."""
        if not self._ended:
            await self.drain()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def refuse(self, error: GatewayError, more: Headers | None = None) -> None:
        """Answer with the error's status and problem document (and ``more`` headers); an answer under way just
        ends early."""
        if self.started:
            await self.end()
            return
        body = json.dumps(error.problem()).encode()
        headers = [(b"content-type", b"application/problem+json"), *_lock_owner(error), *(more or ())]
        await self.answer(error.status, body, headers)

    async def _start(self, status: int, headers: Headers) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


def _lock_owner(error: GatewayError) -> Headers:
    """``x-lock-owner`` where the error knows one that a header can carry."""
    owner = error.facts.get("owner")
    if not isinstance(owner, str) or not owner.isprintable() or owner != owner.strip():
        return []
    return [(b"x-lock-owner", owner.encode("utf-8"))]


class PlaneEndpoint:
    """One handler as an ASGI app: whatever it raises becomes an answer, never a traceback."""

    def __init__(self, handler: Callable[[Call], Awaitable[None]]) -> None:
        self._handler = handler
        self.__name__ = getattr(handler, "__name__", "endpoint")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        call = Call(scope, receive, send)
        try:
            await self._guarded(call)
        # ClientGone is one: nobody is there to be answered.
        except OSError:
            return

    async def _guarded(self, call: Call) -> None:
        try:
            check_page_plane(call._scope)
            await self._handler(call)
        except GatewayError as error:
            await call.refuse(error)
        except OSError:
            raise
        except Exception:
            logger.exception("%s failed", self.__name__)
            await call.refuse(GatewayError("the request failed inside the store; it may be sent again"))
