"""HTTP/2 and HTTP/1.1 to one origin, by httpx: where HTTP/2 is asked for, or nothing else is spoken. Room: store.

``http://`` is HTTP/2 with prior knowledge (h2c), which mvstore and the gateway both speak; a
server that turns out not to is asked by HTTP/1.1 from then on. ``https://`` negotiates by ALPN. Large
request bodies go by HTTP/1.1, each on a connection of its own; one after the other where HTTP/2 is all there is
(``fallback`` False).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import httpx

from gateway import limits
from gateway.errors import GatewayError, StoreUnavailable
from gateway.store.remote.transport import Ask, StoreAnswer, check

_POOL = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=60.0)


class HttpxTransport:
    """A pooled client of one origin (``scheme://host:port``). ``tls``: who is trusted, for https."""

    def __init__(
        self, url: str, *, tls: ssl.SSLContext | None = None, http2: bool = True, fallback: bool = True
    ) -> None:
        self._url = url.rstrip("/")
        self._tls = tls
        # Whoever allows no fallback knows that HTTP/2 is spoken: its first failure is no question about the
        # protocol.
        self._answered = self._only_h2 = not fallback
        self._large = asyncio.Lock()
        self._by_h1 = self._new_client(http2=False)
        self._by_h2 = self._new_client(http2=True) if http2 else None

    @property
    def url(self) -> str:
        """The origin."""
        return self._url

    def _new_client(self, *, http2: bool) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._url,
            # httpx speaks HTTP/2 with prior knowledge only where HTTP/1.1 is off.
            http1=not (http2 and self._url.startswith("http://")),
            http2=http2,
            verify=self._tls or True,
            limits=_POOL,
            # No proxy of the environment before a store: it would see every page.
            trust_env=False,
            # Pages are compressed already where that helps (docs/STORE.md).
            headers={"accept-encoding": "identity"},
        )

    async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        """Ask once. Raises :class:`StoreUnavailable`."""
        client = self._by_h2
        is_large = len(ask.body) > limits.STORE_H2_BODY_BYTES_MAX
        if client is not None and is_large and self._only_h2:
            # One at a time: httpcore loses wake-ups where several wait for one connection's window
            # (STORE_H2_BODY_BYTES_MAX in gateway/limits.py), and they hang.
            async with self._large:
                return await self._once(client, ask, timeout_s)
        if client is None or is_large:
            return await self._once(self._by_h1, ask, timeout_s)
        now = asyncio.get_running_loop().time
        until = now() + timeout_s
        try:
            answer = await self._once(client, ask, timeout_s)
        except StoreUnavailable:
            if self._answered or now() >= until:
                raise
            # the first request failed by HTTP/2: the server may not speak it in clear text
            answer = await self._once(self._by_h1, ask.sent(), until - now())
            self._by_h2 = None
            await client.aclose()
        self._answered = True
        return answer

    async def _once(self, client: httpx.AsyncClient, ask: Ask, timeout_s: float) -> StoreAnswer:
        scope = asyncio.timeout(timeout_s)
        async with (
            self._foreign_errors(timeout_s),
            scope,
            client.stream(
                ask.method, ask.path, headers=dict(ask.headers), content=ask.body, timeout=timeout_s
            ) as response,
        ):
            # it answers: from here on only its silence counts, which the client below watches
            scope.reschedule(asyncio.get_running_loop().time() + limits.STORE_ANSWER_S_MAX)
            body = await self._body(response, ask.answer_bytes_max)
            return StoreAnswer(response.status_code, response.headers, body)

    async def _body(self, response: httpx.Response, bytes_max: int) -> bytes:
        parts, size = [], 0
        async for part in response.aiter_raw():
            size += len(part)
            if size > bytes_max:
                raise StoreUnavailable(f"{self._url} answered over {bytes_max} bytes; is it a store?")
            parts.append(part)
        return b"".join(parts)

    async def lines(self, ask: Ask, silence_s: float) -> AsyncIterator[str]:
        """The answer's lines as they come."""
        async with (
            self._foreign_errors(silence_s),
            self._by_h1.stream(
                ask.method, ask.path, headers=dict(ask.headers), content=ask.body, timeout=silence_s
            ) as response,
        ):
            if response.status_code >= 300:
                body = await self._body(response, limits.STORE_SMALL_ANSWER_BYTES_MAX)
                check(StoreAnswer(response.status_code, response.headers, body), self._url)
            async for line in response.aiter_lines():
                yield line

    @contextlib.asynccontextmanager
    async def _foreign_errors(self, timeout_s: float) -> AsyncIterator[None]:
        """Whatever breaks in the HTTP client below becomes the one error that says "ask again"."""
        try:
            yield
        # Ours already, or no failure at all: whoever stops waiting must not be told that the store is away.
        except (GatewayError, asyncio.CancelledError, GeneratorExit):
            raise
        except (TimeoutError, httpx.TimeoutException):
            raise StoreUnavailable(f"{self._url} did not answer within {timeout_s:.1f} s") from None
        except Exception as error:
            why = str(error) or type(error).__name__
            raise StoreUnavailable(f"{self._url} cannot be reached: {why}") from error

    async def aclose(self) -> None:
        """Close the pools. Idempotent."""
        for client in (self._by_h1, self._by_h2):
            if client is not None:
                await client.aclose()
