"""One HTTP/1.1 connection to a store: one request at a time, parsed by llhttp. Room: store.

Answers within bounds, or raises; a request given up takes its connection with it. Nothing is
pipelined: what stands behind a commit on a connection that breaks could not be told from what was served.
Sources: RFC 9110, RFC 9112 (section 9.3 persistence, section 6.3 where a body ends).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from gateway import limits
from gateway.errors import StoreUnavailable
from gateway.store.remote.transport import StoreAnswer


class Broken(StoreUnavailable):
    """The connection ended before the whole answer had come. ``begun``: some of it had."""

    code = "store_connection_broken"

    def __init__(self, message: str, *, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


class NotHttp1(StoreUnavailable):
    """What came is no HTTP/1.1 answer: a server of another protocol, which has served nothing."""

    code = "store_not_http1"


class StoreWire(asyncio.Protocol):
    """Made by ``create_connection``. ``on_lost`` is called when it ended while nothing was asked."""

    def __init__(self, url: str, on_lost: Callable[[StoreWire], None]) -> None:
        self._url = url
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[StoreAnswer] | None = None
        self._keeps_alive = True
        self._was_asked = self._spoke_first = False
        self.idle_since = 0.0
        self._begin(0, 0.0)

    def _begin(self, bytes_max: int, silence_s: float) -> None:
        self._bytes_max = bytes_max
        self._silence_s = silence_s
        self._heard = 0
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._in_body = False
        self._has_length = False
        self._deadline = self._until = 0.0

    # -- asking -------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Whether another request may go on it."""
        transport = self._transport
        return self._keeps_alive and transport is not None and not transport.is_closing()

    async def ask(self, head: bytes, body: bytes, bytes_max: int, timeout_s: float) -> StoreAnswer:
        """Send one request and take its answer. ``timeout_s``: until it begins, and for each silence in it.
        Raises :class:`Broken`, :class:`NotHttp1`, :class:`StoreUnavailable`."""
        if self._spoke_first:
            raise NotHttp1(f"{self._url} speaks before it is asked, which is not HTTP/1.1")
        transport = self._transport
        self._was_asked = True
        if transport is None or transport.is_closing():
            raise Broken(f"{self._url} closed the connection", begun=False)
        # Nothing of the last answer is left: on_message_complete() may have come long before this.
        self._begin(bytes_max, timeout_s)
        self._deadline = self._loop.time() + timeout_s
        waiter: asyncio.Future[StoreAnswer] = self._loop.create_future()
        self._waiter = waiter
        self._timer = self._loop.call_at(self._deadline, self._look)
        try:
            # One write for a small request; a large body is not copied for it.
            transport.write(head + body if len(body) < limits.STORE_JOINED_BYTES_MAX else head)
            if len(body) >= limits.STORE_JOINED_BYTES_MAX:
                transport.write(body)
            return await waiter
        except BaseException:
            # An answer that nobody waits for any more would be taken for the next request's.
            self.abort()
            raise
        finally:
            self._timer.cancel()
            self._waiter = None
            self._parts = []

    def _look(self) -> None:
        """The deadline that stood when this was set is here; another may stand now."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        # The deadline moves with every piece; a timer for each would cost more than one that looks again.
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look)
            return
        self._fail(StoreUnavailable(f"{self._url} did not answer within {self._silence_s:.1f} s"))

    def _fail(self, error: StoreUnavailable) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.abort()

    def abort(self) -> None:
        """Drop the connection. Idempotent."""
        self._keeps_alive = False
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End the connection, which nobody uses. Idempotent."""
        self._keeps_alive = False
        if self._transport is not None:
            self._transport.close()

    # -- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        waiter, parser = self._waiter, self._parser
        if waiter is None or waiter.done() or parser is None:
            self._spoke_first = not self._was_asked
            self.abort()  # an answer to nothing: what it belongs to, nobody knows
            return
        self._heard += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(self._refused(error))
            return
        if self._size > self._bytes_max:
            self._fail(StoreUnavailable(f"{self._url} answered over {self._bytes_max} bytes; is it a store?"))
        elif not self._in_body and self._heard > limits.STORE_ANSWER_HEAD_BYTES_MAX:
            self._fail(
                StoreUnavailable(
                    f"the head of an answer of {self._url} is over {limits.STORE_ANSWER_HEAD_BYTES_MAX} bytes"
                )
            )
        # Each piece renews the time for the next, up to a bound in all: a store that trickles holds nobody
        # for ever.
        elif self._in_body:
            self._deadline = min(self._loop.time() + self._silence_s, self._until)

    def _refused(self, error: Exception) -> StoreUnavailable:
        if not self._status:
            return NotHttp1(f"{self._url} answered what is not HTTP/1.1: {error}")
        return StoreUnavailable(f"{self._url} broke the rules of HTTP/1.1: {error}")

    def eof_received(self) -> bool:
        if self._in_body and not self._has_length:
            self._complete()  # RFC 9112 section 6.3, rule 8: it ends with the connection
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._keeps_alive = False
        self._transport = self._parser = None  # the parser holds this connection in turn
        if self._waiter is None:
            self._on_lost(self)
        elif not self._waiter.done():
            why = str(exc) if exc is not None else "the connection was closed"
            text = f"{self._url} broke off its answer" if self._heard else f"{self._url} gave no answer"
            self._waiter.set_exception(Broken(f"{text}: {why}", begun=self._heard > 0))

    # -- llhttp ---------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins; a second one was not asked for."""
        if self._in_body:
            self._keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which counts for nothing. RFC 9110 section 6.5."""
        if self._in_body:
            return
        name = name.lower()
        self._headers.append((name, value))
        if name in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        """The head is whole."""
        assert self._parser is not None
        self._status = self._parser.get_status_code()
        if self._status >= 200:
            self._in_body = True
            self._until = self._loop.time() + limits.STORE_ANSWER_S_MAX

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._size += len(data)
        self._parts.append(data)

    def on_message_complete(self) -> None:
        """An informational answer (RFC 9110 section 15.2), or the answer."""
        if self._status < 200:
            self._headers.clear()
            return
        self._keeps_alive = (
            self._keeps_alive and self._parser is not None and self._parser.should_keep_alive()
        )
        self._complete()

    def _complete(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done() or self._size > self._bytes_max:
            self._keeps_alive = False
            return
        if self._transport is None or self._transport.get_write_buffer_size():
            self._keeps_alive = False  # it answered before it had the whole request
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._headers}
        parts = self._parts
        waiter.set_result(
            StoreAnswer(self._status, headers, parts[0] if len(parts) == 1 else b"".join(parts))
        )
