"""One request and its response as ASGI. The channel feeds it, the application drives it. Room: http.

Source: the ASGI HTTP specification 2.4: after the client has gone ``receive`` says so, and ``send``
raises ``OSError``. What the application has not asked for is told to the channel, which then reads no more.
https://asgi.readthedocs.io/en/latest/specs/www.html.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Scope

from gateway.core.ports import ClientGone
from gateway.errors import GatewayError
from gateway.http.exchanges import BODY_IS_HERE
from gateway.http.tcp.channel import ResponseChannel
from gateway.http.tcp.heads import Headers
from gateway.http.tcp.refusals import problem

log = logging.getLogger("mvgateway.http")

_NO_BODY = frozenset({204, 304})


class HttpExchange:
    """Made for each request; :meth:`run` begins it."""

    def __init__(self, channel: ResponseChannel, scope: Scope) -> None:
        self.scope = scope
        scope[BODY_IS_HERE] = self._is_here
        self.buffered = 0
        """Bytes of the body that the application has not taken."""
        self.is_waiting = False
        """The application waits for the body."""
        self.is_started = False
        self.is_complete = False
        self._channel = channel
        self._chunks: deque[tuple[bytes, int]] = deque()
        self._body_ended = False
        self._body_told = False
        self._gone = False
        self._half_gone = False
        self._wakeup: asyncio.Future[None] | None = None
        self._bodiless = scope["method"] == "HEAD"

    def run(self, app: ASGIApp) -> asyncio.Task[None]:
        """Begin to serve it."""
        return asyncio.get_running_loop().create_task(self._serve(app))

    async def _serve(self, app: ASGIApp) -> None:
        try:
            await app(self.scope, self.receive, self.send)
            if not self.is_complete and not self._gone:
                # Half an answer must not end well: the peer is shown by _end() that it is not whole.
                raise RuntimeError("the application ended without a complete response")
        except (ClientGone, ConnectionAbortedError):
            pass
        except Exception:
            if not self._gone:
                log.exception("the application failed on %s", self.scope["path"])
        finally:
            self._end()

    def _end(self) -> None:
        if self.is_complete or self._gone:
            pass
        elif self.is_started:
            self._channel.give_up()
        else:
            self._fail()
        self._chunks.clear()
        self.scope.pop(BODY_IS_HERE, None)  # it holds this: a cycle a request would wait for the collector
        self._channel.finished()

    def _fail(self) -> None:
        headers, body = problem(GatewayError("the request failed inside the gateway"))
        self._channel.send_head(500, headers)
        self._channel.send_body(b"" if self._bodiless else body, end=True)
        self.is_started = self.is_complete = True

    # -- from the channel -----------------------------------------------------------------

    def feed(self, data: bytes, size: int) -> None:
        """A piece of the body, which holds ``size`` bytes of the channel's window."""
        self._chunks.append((data, size))
        self.buffered += size
        self._wake()

    def feed_end(self) -> None:
        """The body is whole."""
        self._body_ended = True
        self._wake()

    def _is_here(self) -> bool:
        return bool(self._chunks) or (self._body_ended and not self._body_told)

    @property
    def body_ended(self) -> bool:
        """Whether the whole body has come."""
        return self._body_ended

    def half_disconnect(self) -> None:
        """The client sends no more, and may still read."""
        self._half_gone = True
        self._wake()

    def disconnect(self) -> None:
        """The client is gone. Idempotent."""
        self._gone = True
        # receive() may be waiting for the client to go; with the answer complete it need not.
        self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    # -- ASGI -----------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next piece of the body; after its end, waits for the client to go."""
        while True:
            if self._chunks:
                return self._next_piece()
            if self._body_ended and not self._body_told:
                self._body_told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            # A client that only closed its sending half has sent its whole request, or never will; ASGI has
            # no word for "half".
            if self._gone or self._half_gone or self.is_complete:
                return {"type": "http.disconnect"}
            if not self._body_ended:
                self.is_waiting = True
                self._channel.wants_body()
                # Asking may have brought some at once, from what was read already: then there is nothing to
                # wait for.
                if self._chunks or self._body_ended or self._gone:
                    continue
            self._wakeup = asyncio.get_running_loop().create_future()
            await self._wakeup

    def _next_piece(self) -> Message:
        data, size = self._chunks.popleft()
        self.buffered -= size
        self.is_waiting = False
        self._channel.consumed(size)
        more = bool(self._chunks) or not self._body_ended
        # An end that came with the last piece needs no message of its own.
        self._body_told = not more
        return {"type": "http.request", "body": data, "more_body": more}

    async def send(self, message: Message) -> None:
        """Take a response message; waits while the client does not keep up. Raises :class:`ClientGone`."""
        if self._gone:
            raise ClientGone("the client is gone")
        kind = message["type"]
        if kind == "http.response.start" and not self.is_started:
            self.is_started = True
            status, headers = message["status"], message.get("headers", ())
            self._bodiless = self._bodiless or status in _NO_BODY
            self._channel.send_head(status, _lowered(headers))
        elif kind == "http.response.body" and self.is_started and not self.is_complete:
            await self._send_body(message)
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    async def _send_body(self, message: Message) -> None:
        more = message.get("more_body", False)
        self.is_complete = not more
        self._channel.send_body(b"" if self._bodiless else message.get("body", b""), end=not more)
        await self._channel.drained()
        if not more:
            self._wake()


def _lowered(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(bytes(name).lower(), bytes(value)) for name, value in headers]
