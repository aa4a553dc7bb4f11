"""A store's requests with a token: of a gateway whose page plane asks for one. Room: runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gateway.client.address import Address
from gateway.client.problems import error_of
from gateway.client.token import Chances, Token, TokenSource, check_secret
from gateway.errors import GatewayError
from gateway.store.remote import Ask, StoreAnswer, Transport


def authorized(transport: Transport, token: TokenSource | Token | None) -> Transport:
    """``transport``, with the token on each request. Raises :class:`gateway.errors.ConfigError` where it would cross a
    network in clear text; that of the environment is not meant for such a store, and not sent there."""
    by, address = Token.of(token), Address.parse(transport.url)
    if by is None or (token is None and not address.secure and not address.loopback):
        return transport
    check_secret(address, by)
    return AuthorizedTransport(transport, by)


class AuthorizedTransport:
    """A :class:`gateway.store.remote.Transport` over another. What is refused for its token goes once more with a fresh one:
    nothing had been looked at by then."""

    def __init__(self, transport: Transport, token: Token) -> None:
        self._transport = transport
        self._chances = Chances(token)

    @property
    def url(self) -> str:
        """The origin."""
        return self._transport.url

    async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        """Ask once. Raises :class:`StoreUnavailable`."""
        while True:
            credentials = await self._chances.headers()
            # A copy each time: `ask` is the caller's, who may send it to another address with other
            # credentials.
            told = ask._replace(headers={**ask.headers, **credentials})
            answer = await self._transport.request(told, timeout_s)
            if answer.status not in (401, 403):
                self._chances.let_in()
                return answer
            if not await self._chances.renewed(error_of(answer.status, answer.body), credentials):
                return answer

    async def lines(self, ask: Ask, silence_s: float) -> AsyncIterator[str]:
        """The answer's lines as they come."""
        begun = False
        while True:
            credentials = await self._chances.headers()
            told = ask._replace(headers={**ask.headers, **credentials})
            try:
                async for line in self._transport.lines(told, silence_s):
                    begun = True
                    self._chances.let_in()
                    yield line
                return
            except GatewayError as error:
                # Lines that were given on cannot be taken back: asked again they would come twice.
                if begun or not await self._chances.renewed(error, credentials):
                    raise

    async def aclose(self) -> None:
        """Close the connection. Idempotent."""
        await self._transport.aclose()
