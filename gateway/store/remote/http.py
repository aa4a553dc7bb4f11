"""HTTP/2 and HTTP/1.1 to one origin, by httpx. Room: store.

``http://`` is HTTP/2 with prior knowledge (h2c), which mvstore and the gateway both speak; a
server that turns out not to is asked by HTTP/1.1 from then on. ``https://`` negotiates by ALPN.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import httpx

from gateway import limits
from gateway.errors import GatewayError, StoreUnavailable
from gateway.store.remote.transport import Answer, Ask, check

_POOL = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=60.0)


class HttpxTransport:
    """A pooled client of one origin (``scheme://host:port``). ``tls``: who is trusted, for https."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None, http2: bool = True) -> None:
        self._url = url.rstrip("/")
        self._tls = tls
        self._clear = self._url.startswith("http://")
        self._http2 = http2
        self._answered = False
        self._client = self._new_client()

    @property
    def url(self) -> str:
        """The origin."""
        return self._url

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._url,
            http1=not (self._clear and self._http2),
            http2=self._http2,
            verify=self._tls or True,
            limits=_POOL,
            trust_env=False,
            headers={"accept-encoding": "identity"},
        )

    async def request(self, ask: Ask, timeout_s: float) -> Answer:
        """Ask once. Raises :class:`StoreUnavailable`."""
        try:
            answer = await self._once(ask, timeout_s)
        except StoreUnavailable:
            if self._answered or not (self._clear and self._http2):
                raise
            answer = await self._by_http1(ask, timeout_s)
        self._answered = True
        return answer

    async def _by_http1(self, ask: Ask, timeout_s: float) -> Answer:
        """The first request failed by HTTP/2: the server may not speak it in clear text."""
        before, self._http2 = self._client, False
        self._client = self._new_client()
        try:
            answer = await self._once(ask, timeout_s)
        except StoreUnavailable:
            await self._client.aclose()
            self._client, self._http2 = before, True
            raise
        await before.aclose()
        return answer

    async def _once(self, ask: Ask, timeout_s: float) -> Answer:
        async with (
            self._foreign_errors(timeout_s),
            asyncio.timeout(timeout_s),
            self._client.stream(
                ask.method, ask.path, headers=dict(ask.headers), content=ask.body, timeout=timeout_s
            ) as response,
        ):
            body = await self._body(response, ask.answer_bytes_max)
            return Answer(response.status_code, response.headers, body)

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
            self._client.stream(
                ask.method, ask.path, headers=dict(ask.headers), content=ask.body, timeout=silence_s
            ) as response,
        ):
            if response.status_code >= 300:
                body = await self._body(response, limits.STORE_SMALL_ANSWER_BYTES_MAX)
                check(Answer(response.status_code, response.headers, body), self._url)
            async for line in response.aiter_lines():
                yield line

    @contextlib.asynccontextmanager
    async def _foreign_errors(self, timeout_s: float) -> AsyncIterator[None]:
        """Whatever breaks in the HTTP client below becomes the one error that says "ask again"."""
        try:
            yield
        except (GatewayError, asyncio.CancelledError, GeneratorExit):
            raise
        except (TimeoutError, httpx.TimeoutException):
            raise StoreUnavailable(f"{self._url} did not answer within {timeout_s:.1f} s") from None
        except Exception as error:
            why = str(error) or type(error).__name__
            raise StoreUnavailable(f"{self._url} cannot be reached: {why}") from error

    async def aclose(self) -> None:
        """Close the pool. Idempotent."""
        await self._client.aclose()
