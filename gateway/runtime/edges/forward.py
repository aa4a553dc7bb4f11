"""Requests that only a world's home can answer, handed on to it where that is another gateway. Room: runtime.

Those that put an entity to sleep and wake it: they read and write the live world. Both gates are asked: the near one has let the
request pass, and the home is asked with this gateway's own token.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.client.address import Address
from gateway.errors import GatewayError, TooLarge
from gateway.limits import EDGE_ANSWER_BYTES_MAX
from gateway.runtime.edges.peers import VIA, Peers

_LIVE: Final = re.compile(r"/v1/worlds/([^/]+)/entities/[^/]+:(?:hibernate|wake)")
_NOT_HANDED_ON: Final = frozenset(
    {
        *(b"host", b"authorization", b"content-length", b"connection", b"transfer-encoding", b"keep-alive"),
        *(b"te", b"upgrade", b"cookie", b"origin", b"expect", b"accept-encoding"),
    }
)
"""Of one connection (RFC 9110 section 7.6.1), of whoever asked here, or made anew."""

HomeOf = Callable[[str], Awaitable[Address | None]]


class PeerForward:
    """ASGI: hands on what is another gateway's, and all the rest to ``app``. ``home_of``: where a world's home is."""

    def __init__(self, app: ASGIApp, peers: Peers, home_of: HomeOf) -> None:
        self._app = app
        self._peers = peers
        self._home_of = home_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = await self._address(scope) if scope["type"] == "http" else None
        if address is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        # Read whole before it is asked: where the home cannot be asked the request is answered here, with
        # the same body.
        body = await _body(request, scope)
        answer = await self._ask(address, request, body)
        if answer is None:
            await self._app(scope, _again(body, receive), send)
            return
        await answer(scope, receive, send)

    async def _address(self, scope: Scope) -> Address | None:
        """None: it is to be answered here, also where it was handed on already."""
        found = _LIVE.fullmatch(scope["path"]) if scope["method"] == "POST" else None
        # Handed on once and never again: two gateways that each take the other for the home would hand it
        # on for ever.
        if found is None or any(name == VIA.encode() for name, _ in scope["headers"]):
            return None
        try:
            return await self._home_of(found[1])
        except GatewayError:
            return None  # whoever serves it here says what is wrong

    async def _ask(self, address: Address, request: Request, body: bytes) -> Response | None:
        """The home's answer; None: it could not be asked."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in request.scope["headers"]
            if name not in _NOT_HANDED_ON
        }
        query = request.scope["query_string"].decode("latin-1")
        path = quote(request.scope["path"], safe="/:") + (f"?{query}" if query else "")
        try:
            status, told, found = await self._peers.ask_whole(
                address, "POST", path, {**headers, VIA: self._peers.id}, body
            )
        except (GatewayError, TimeoutError):
            return None
        kept = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in found
            if name in (b"content-type", b"etag", b"cache-control", b"location")
        }
        return Response(told, status, headers=kept)


async def _body(request: Request, scope: Scope) -> bytes:
    """The whole of it. Raises :class:`TooLarge`: it is the JSON of one command."""
    whole = bytearray()
    async for chunk in request.stream():
        whole += chunk
        if len(whole) > EDGE_ANSWER_BYTES_MAX:
            raise TooLarge(f"the body is over {EDGE_ANSWER_BYTES_MAX} bytes")
    return bytes(whole)


def _again(body: bytes, receive: Receive) -> Receive:
    """What was read, read once more."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> dict[str, object]:
        return messages.pop() if messages else dict(await receive())

    return again
