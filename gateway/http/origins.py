"""The rule of :mod:`gateway.core.origins` before the app, and CORS for the pages that it lets in. Room: http.

A page may only read an answer that names its origin, and asks with a preflight before it sends
what a form could not. Sources: the Fetch standard, sections 3.2 and 4.8 (CORS); the ASGI
extension ``websocket.http.response``.
Sources: RFC 6454 (Origin); https://fetch.spec.whatwg.org/ (CORS, ``Sec-Fetch-Site``); RFC 9110 section 15.5.20 (421).
"""

from __future__ import annotations

import logging
import re
import time

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import limits
from gateway.core.origins import Misdirected, Origins
from gateway.errors import GatewayError
from gateway.http.problems import problem_response

log = logging.getLogger("mvgateway.http")

METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_ENTITY = ("class", "owner", "tags", "key", "epoch", "tick", "quantity", "in-transfer", "updated-us")
_FRAMES = ("x-epoch", "x-tick", "x-durable-at", "x-hops", "x-stale-ms")
EXPOSED = ", ".join(["etag", "location", *_FRAMES, *(f"x-entity-{name}" for name in _ENTITY)]).encode()
"""What a script may read of an answer's headers, beyond what the standard always allows."""
PREFLIGHT_S = b"600"
"""How long a browser may remember the answer to a preflight: a restart with other flags shows soon."""

PAGES = frozenset({"/"})
"""What another site's page may link to: the gateway's own pages."""

_RULED = frozenset({b"origin", b"host", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"})
_FIELD_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]*")


class OriginGuard:
    """ASGI: refuses foreign pages with 403 (also those that only say ``Sec-Fetch-Site``) and foreign names with 421, and answers preflights."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins
        self._told_at = -limits.LOG_QUIET_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _asked(scope["headers"])
        origin = asked.pop(b"origin", None)
        host = asked.pop(b"host", b"")
        try:
            named = None if origin is None else origin.decode("latin-1")
            self._origins.check(scope["scheme"], host.decode("latin-1"), named)
            self._origins.check_fetch(_fetch_of(asked), named, page=scope["path"] in PAGES)
        except GatewayError as error:
            if isinstance(error, Misdirected):
                self._tell(error)
            await refuse(error, scope, receive, send)
            return
        if origin is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and _is_preflight(scope):
            await _answer_preflight(origin, scope, receive, send)
        else:
            await self._app(scope, receive, _named(origin, send))

    def _tell(self, error: Misdirected) -> None:
        """Now and then: whoever set up a client by another name of this machine sees nothing that says so."""
        now = time.monotonic()
        if now - self._told_at >= limits.LOG_QUIET_S:
            self._told_at = now
            log.warning(
                '421 Misdirected request: %s. mvSQLite shows this as "database is locked"', error.message
            )


def _asked(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers that the rule looks at; of several, a list that no rule knows, so that none of them slips by."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _RULED:
            found[name] = found[name] + b", " + value if name in found else value
    return found


def _fetch_of(asked: dict[bytes, bytes]) -> dict[str, str]:
    """The headers by which a browser says what it asks for whom (W3C, Fetch Metadata Request Headers)."""
    return {name.decode(): value.decode("latin-1").lower() for name, value in asked.items()} if asked else {}


def _value(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The header's value; of several, a list that no rule knows, so that none of them slips by."""
    values = [value for key, value in headers if key == name]
    return b", ".join(values) if values else None


async def refuse(error: GatewayError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or a WebSocket's opening, with a problem document."""
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
    await problem_response(error, {"vary": "origin"})(scope, receive, send)


def _is_preflight(scope: Scope) -> bool:
    asks = _value(scope["headers"], b"access-control-request-method")
    return scope["method"] == "OPTIONS" and asks is not None


async def _answer_preflight(origin: bytes, scope: Scope, receive: Receive, send: Send) -> None:
    asked = _value(scope["headers"], b"access-control-request-headers") or b""
    headers = [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", METHODS),
        (b"access-control-max-age", PREFLIGHT_S),
        (b"vary", b"origin, access-control-request-headers"),
    ]
    # What the page asks for is repeated, since its Authorization is no cookie that the browser would add by
    # itself; but nothing that is no list of names.
    if asked and _FIELD_NAMES.fullmatch(asked):
        headers.append((b"access-control-allow-headers", asked))
    if _value(scope["headers"], b"access-control-request-private-network") == b"true":
        headers.append((b"access-control-allow-private-network", b"true"))
    answer = Response(status_code=204)
    answer.raw_headers = headers
    await answer(scope, receive, send)


def _named(origin: bytes, send: Send) -> Send:
    """``send`` that tells the browser that this page may read the answer."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (name, value)
                for name, value in message.get("headers", ())
                # Twice counts as none for browsers, and `*` of a public answer would be one of them.
                if bytes(name).lower() != b"access-control-allow-origin"
            ]
            cors = [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", EXPOSED),
                (b"vary", b"origin"),
            ]
            message = {**message, "headers": [*kept, *cors]}
        await send(message)

    return answer
