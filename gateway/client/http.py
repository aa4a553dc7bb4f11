"""Plain requests to a gateway: HTTP/3 first, HTTP/2 over TCP when UDP is silent. Room: client."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from gateway import limits
from gateway.client.address import Address
from gateway.client.connect import TransportChoice
from gateway.client.problems import error_of
from gateway.client.token import Chances, Token, TokenSource, check_secret
from gateway.client.trust import CertificateRefused, Trust
from gateway.errors import ConfigError, GatewayError, StoreUnavailable, TooLarge
from gateway.quic import Client, ConnectFailed, connect

FRAMES_TYPE = "application/vnd.mvgateway.frames"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response. ``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class HttpClient:
    """Requests to one gateway on one connection. An async context manager.

    ``transport``: ``webtransport`` means HTTP/3 only, ``websocket`` TCP only, ``auto`` either. ``token`` as in
    :class:`gateway.client.live.Live`; a request that is refused for it is sent once more with a fresh one.
    """

    def __init__(
        self,
        url: str,
        *,
        trust: Trust,
        transport: TransportChoice = "auto",
        token: TokenSource | Token | None = None,
    ) -> None:
        self.address = Address.parse(url)
        self._chances = Chances(Token.of(token))
        check_secret(self.address, self._chances.token)
        self._trust = trust
        self._transport = transport
        self._quic: Client | None = None
        self._tcp: httpx.AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._quic is not None:
            self._quic.close()
        if self._tcp is not None:
            await self._tcp.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] = b"",
    ) -> Answer:
        """One request; the answer whole. Raises the problem's own error class for a status of 400 and
        above, :class:`StoreUnavailable` where nothing answers, :class:`ConfigError` for a certificate
        that is not trusted."""
        while True:
            quic = await self._connected()
            credentials = await self._chances.headers()
            told = {**(headers or {}), **credentials}
            call = self._by_quic(quic, method, path, told, body) if quic else None
            answer = await (call or self._by_tcp(method, path, told, body))
            if answer.status < 400:
                self._chances.let_in()
                return answer
            error = error_of(answer.status, answer.body)
            # A stream of bytes has been read by now, and can't be sent a second time.
            if not isinstance(body, bytes) or not await self._chances.renewed(error, credentials):
                raise error

    async def get_json(self, path: str) -> Any:
        """The JSON that ``GET path`` answers."""
        return (await self.request("GET", path, headers={"accept": "application/json"})).json()

    async def post_json(self, path: str, members: Mapping[str, object]) -> Any:
        """The JSON that ``POST path`` answers to ``members``. Raises as :meth:`request`."""
        headers = {"accept": "application/json", "content-type": "application/json"}
        return (await self.request("POST", path, headers=headers, body=json.dumps(members).encode())).json()

    async def _connected(self) -> Client | None:
        # One at a time: of two requests that connect side by side the later one's connection would stand in the
        # other's place, which nobody would close.
        async with self._connecting:
            return await self._connect()

    async def _connect(self) -> Client | None:
        if self._tcp is not None:
            return None
        if self._quic is not None and not self._quic.is_closed:
            return self._quic
        if self.address.secure and self._transport != "websocket":
            try:
                self._quic = await connect(
                    self.address.host,
                    self.address.port,
                    trust=self._trust.for_quic(),
                    timeout_s=limits.CLIENT_UDP_PATIENCE_S,
                )
                return self._quic
            except ConnectFailed:
                if self._transport == "webtransport":
                    raise
        self._tcp = httpx.AsyncClient(
            base_url=self.address.base_url,
            http2=True,
            verify=self._trust.ssl_context() if self.address.secure else False,
            timeout=httpx.Timeout(30.0, connect=limits.CLIENT_CONNECT_S_MAX),
            # No proxy of the environment: it would end TLS, or see the token.
            trust_env=False,
        )
        return None

    async def stream(self, path: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[bytes]:
        """The body of ``GET path`` in pieces as they come. Raises as :meth:`request`."""
        begun = False
        while True:
            credentials = await self._chances.headers()
            try:
                async for piece in self._stream(path, {**(headers or {}), **credentials}):
                    begun = True
                    self._chances.let_in()
                    yield piece
                return
            except GatewayError as error:
                # What was given out already would be given twice.
                if begun or not await self._chances.renewed(error, credentials):
                    raise

    async def _stream(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        quic = await self._connected()
        if quic is not None:
            raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            response = await quic.request("GET", path, raw)
            if response.status >= 400:
                raise error_of(response.status, await response.read())
            async for chunk in response:
                yield chunk
            return
        assert self._tcp is not None
        try:
            async with self._tcp.stream("GET", path, headers=dict(headers)) as answer:
                if answer.status_code >= 400:
                    raise error_of(answer.status_code, await answer.aread())
                async for chunk in answer.aiter_bytes():
                    yield chunk
        except httpx.HTTPError as error:
            raise _unreachable(self.address, error) from error

    async def _by_quic(
        self,
        client: Client,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes],
    ) -> Answer:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        response = await client.request(method, path, raw, body)
        content = await response.read(limits.CLIENT_HTTP_BODY_BYTES_MAX)
        return Answer(
            response.status, {n.decode(): v.decode("latin-1") for n, v in response.headers}, content
        )

    async def _by_tcp(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes]
    ) -> Answer:
        assert self._tcp is not None
        try:
            async with self._tcp.stream(method, path, headers=dict(headers), content=body) as response:
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > limits.CLIENT_HTTP_BODY_BYTES_MAX:
                        raise TooLarge(f"the answer is over {limits.CLIENT_HTTP_BODY_BYTES_MAX} bytes")
                return Answer(response.status_code, dict(response.headers), bytes(content))
        except httpx.HTTPError as error:
            raise _unreachable(self.address, error) from error


def _unreachable(address: Address, error: httpx.HTTPError) -> ConfigError | StoreUnavailable:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CertificateRefused):
            return ConfigError(f"{address.authority}: {cause.args[0]}")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ConfigError(
                f"the certificate of {address.authority} is not trusted ({cause.verify_message}); "
                "give --ca the gateway's ca.pem, or --certificate-sha256"
            )
        # httpx wraps what OpenSSL said, some layers deep, and the pin's own error with it.
        cause = cause.__cause__ or cause.__context__
    return StoreUnavailable(f"no gateway answers at {address.base_url}: {str(error) or type(error).__name__}")
