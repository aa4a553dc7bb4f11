"""HTTP/1.1 to one origin, and HTTP/2 where it speaks nothing else. Room: store.

mvstore and the gateway speak both in clear text; one request costs a fraction by HTTP/1.1, on as many
connections as are under way. What was sent once and may have been served is never sent again as if it were new:
:meth:`Ask.second` is what goes then.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from gateway.errors import BadInput, StoreUnavailable
from gateway.store.remote.http import HttpxTransport
from gateway.store.remote.pool import Pool
from gateway.store.remote.transport import Ask, StoreAnswer
from gateway.store.remote.wire import Broken, NotHttp1, StoreWire


class TcpTransport:
    """A pooled client of one origin (``scheme://host:port``). ``tls``: who is trusted, for https."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None, http2: bool = True) -> None:
        self._url = url.rstrip("/")
        parts = urlsplit(self._url)
        if parts.scheme == "https" and tls is None:
            tls = ssl.create_default_context()
        self._tls = tls if parts.scheme == "https" else None
        self._pool = Pool(self._url, self._tls)
        self._fixed = (
            f" HTTP/1.1\r\nhost: {parts.netloc}\r\nuser-agent: mvgateway\r\naccept-encoding: identity\r\n"
        )
        self._may_be_http2 = http2
        self._by_h2: HttpxTransport | None = None
        self._for_lines: HttpxTransport | None = None

    @property
    def url(self) -> str:
        """The origin."""
        return self._url

    async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        """Ask once; a connection that the server closed just as it was used is no attempt where asking again does
        no harm. Raises :class:`StoreUnavailable`, and :class:`BadInput` for what no header carries. RFC 9112 section 9.3.1."""
        if self._by_h2 is not None:
            return await self._by_h2.request(ask, timeout_s)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        body, again = ask.body, False
        while True:
            # Without a task or a timer where one is at rest: through httpx a request of 8 KB took 1,660 us
            # of CPU, by this way 34 (docs/PERFORMANCE.md, "What a forwarded page costs").
            wire, is_fresh = None if again else self._pool.at_rest(), False
            if wire is None:
                wire, is_fresh = await self._connection(until, fresh=again)
            try:
                answer = await wire.ask(
                    self._head(ask, body), body, ask.answer_bytes_max, max(until - loop.time(), 0.001)
                )
            except Broken as error:
                # A connection at rest that broke was most likely closed by the server's own idle time
                # before this came; a new one that breaks says something of the server, and an answer that
                # had begun says that the request was served.
                if is_fresh or error.begun or not ask.may_be_sent_again:
                    raise
                body, again = ask.second(), True
                continue
            except NotHttp1:
                if not self._may_be_http2:
                    raise
                # Nothing was served: what is no HTTP/1.1 server cannot have read the request.
                return await self._by_http2(ask, max(until - loop.time(), 0.001))
            finally:
                self._pool.give(wire)
            # It has spoken HTTP/1.1: from now on something else is a fault, not another protocol.
            self._may_be_http2 = False
            return answer

    async def _connection(self, until: float, *, fresh: bool) -> tuple[StoreWire, bool]:
        try:
            async with asyncio.timeout_at(until):
                return await self._pool.acquire(fresh=fresh)
        except TimeoutError:
            raise StoreUnavailable(f"{self._url} took no connection in time") from None

    async def _by_http2(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        """The first answer was none of HTTP/1.1: the server may speak HTTP/2 only."""
        other = HttpxTransport(self._url, tls=self._tls, fallback=False)
        try:
            # As one that was sent before: some proxies speak both, and pass on what they then answer badly.
            answer = await other.request(ask.sent(), timeout_s)
        except BaseException:
            await other.aclose()
            raise
        self._by_h2 = other
        return answer

    def _head(self, ask: Ask, body: bytes) -> bytes:
        lines = [ask.method, " ", ask.path, self._fixed]
        for name, value in ask.headers.items():
            lines += (name, ": ", _checked(name, value), "\r\n")
        # A POST without a body says so too (RFC 9110 section 8.6).
        if body or ask.method == "POST":
            lines.append(f"content-length: {len(body)}\r\n")
        lines.append("\r\n")
        return "".join(lines).encode("ascii")

    async def lines(self, ask: Ask, silence_s: float) -> AsyncIterator[str]:
        """The answer's lines as they come: nothing that says lines is in a hurry, so httpx takes them."""
        if self._for_lines is None:
            self._for_lines = HttpxTransport(self._url, tls=self._tls, http2=False)
        async for line in self._for_lines.lines(ask, silence_s):
            yield line

    async def aclose(self) -> None:
        """Close the pool. Idempotent."""
        self._pool.close()
        for other in (self._by_h2, self._for_lines):
            if other is not None:
                await other.aclose()


def _checked(name: str, value: str) -> str:
    """The value, if a header carries it as it is. Raises :class:`BadInput`: a commit names namespaces in its body,
    where any text can stand."""
    if value.isascii() and value.isprintable() and value == value.strip():
        return value
    raise BadInput(f"{name} is {value!r:.200}: no header carries that, so that no client can ask for it")
