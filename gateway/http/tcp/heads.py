"""A request's head: strict where the standard lets a server be, and the ASGI scope of it. Room: http. Pure.

Sources: RFC 9112 sections 2.2 (a bare CR or LF), 3.2 (targets), 5.2 (obs-fold) and 6.1 (both
lengths); the ASGI HTTP and WebSocket specifications 2.4.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

Headers = list[tuple[bytes, bytes]]

_BAD_LINES = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]")
_ABSOLUTE = re.compile(rb"https?://([^/?#@\\]+)([^#]*)", re.IGNORECASE)


class BadHead(Exception):
    """A head that is not taken. ``status``: how it is answered. RFC 9112 section 3."""

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


def check_lines(head: bytes | bytearray, start: int = 0) -> None:
    """Raise :class:`BadHead` for line ends and folds that two readers may understand differently. A CR at the
    very end is let pass: its LF may still come. ``start``: what comes before was checked. RFC 9112 section 2.2."""
    # One byte earlier than what is new: a line end may have come in two pieces.
    match = _BAD_LINES.search(head, max(0, start - 1))
    if match is None or (match[0] == b"\r" and match.end() == len(head)):
        return
    if len(match[0]) == 2:
        raise BadHead("a header line is folded (obs-fold), which is not taken; send it on one line")
    raise BadHead("a line of the head does not end with CR LF")


def check_framing(headers: Headers, version: bytes) -> None:
    """Raise :class:`BadHead` where a body's length is said in two ways, or in one that the version has not.
    RFC 9112 section 6.1."""
    names = {name for name, _ in headers}
    if b"transfer-encoding" not in names:
        return
    # Both: RFC 9112 section 6.1 lets a server take it by chunks; two servers in a row that do not agree are how
    # requests are smuggled.
    if b"content-length" in names:
        raise BadHead("a request has Content-Length or Transfer-Encoding, not both")
    if version < b"1.1":
        raise BadHead("HTTP/1.0 has no Transfer-Encoding")


def split_target(target: bytes, method: bytes) -> tuple[bytes, bytes, bytes | None]:
    """(path, query, authority) of a request target; the authority is None unless the target is a whole URI.

    Raises :class:`BadHead`. RFC 9112 section 3.2."""
    authority = None
    if not target.startswith(b"/"):
        match = _ABSOLUTE.fullmatch(target)
        if match is not None:
            authority, rest = match.groups()
            target = rest if rest.startswith(b"/") else b"/" + rest
        elif not (target == b"*" and method == b"OPTIONS"):
            raise BadHead("a request's target is a path that begins with '/', or a whole http URI")
    path, _, query = target.partition(b"?")
    return path.partition(b"#")[0], query, authority


def with_host(headers: Headers, authority: bytes) -> Headers:
    """The headers with this Host alone (RFC 9112 section 3.2.2, RFC 9113 section 8.3.1)."""
    return [(b"host", authority), *(pair for pair in headers if pair[0] != b"host")]


def http_scope(
    version: str,
    method: bytes,
    path: bytes,
    query: bytes,
    headers: Headers,
    common: Scope,
) -> Scope:
    """The ASGI scope of a request. ``common``: scheme, client and server of the connection."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": version,
        # In capitals, as the ASGI specification asks, though methods are case-sensitive (RFC 9110 section 9.1).
        "method": method.decode("ascii", "replace").upper(),
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "extensions": {},
        **common,
        "state": dict(common["state"]),
    }


def websocket_scope(version: str, path: bytes, query: bytes, headers: Headers, common: Scope) -> Scope:
    """The ASGI scope of a WebSocket handshake."""
    scope = http_scope(version, b"GET", path, query, headers, common)
    del scope["method"]
    asked = b",".join(value for name, value in headers if name == b"sec-websocket-protocol")
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if common["scheme"] == "https" else "ws"
    scope["subprotocols"] = [name.strip() for name in asked.decode("latin-1").split(",") if name.strip()]
    scope["extensions"] = {"websocket.http.response": {}}
    return scope
