"""The opening handshake of a WebSocket over HTTP/1.1 (RFC 6455 section 4.2). Room: http. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib

from gateway.http.tcp.heads import Headers

VERSION = b"13"
# RFC 6455 section 1.3: the same for everybody.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Refusal = tuple[int, Headers, str]


def _tokens(headers: Headers, name: bytes) -> list[bytes]:
    return [token.strip().lower() for key, value in headers if key == name for token in value.split(b",")]


def _value(headers: Headers, name: bytes) -> bytes:
    return next((value.strip() for key, value in headers if key == name), b"")


def is_asked(headers: Headers) -> bool:
    """Whether a request wants to become a WebSocket. Other upgrades (h2c) are passed over (RFC 9110 section 7.8)."""
    return b"websocket" in _tokens(headers, b"upgrade") and b"upgrade" in _tokens(headers, b"connection")


def refusal(headers: Headers) -> Refusal | None:
    """(status, headers, why) where it cannot; None: it can. RFC 6455 section 4.2.1."""
    return version_refusal(headers, upgrade=True) or _key_refusal(headers)


def version_refusal(headers: Headers, *, upgrade: bool) -> Refusal | None:
    """Another version than 13 is told which one is spoken (RFC 6455 section 4.4)."""
    version = _value(headers, b"sec-websocket-version")
    if version == VERSION:
        return None
    more = [(b"sec-websocket-version", VERSION)]
    if upgrade:
        more += [(b"upgrade", b"websocket"), (b"connection", b"upgrade, close")]
    shown = version[:20].decode("latin-1") or "none"
    return 426, more, f"version 13 of the WebSocket protocol is spoken here, not {shown}"


def _key_refusal(headers: Headers) -> Refusal | None:
    try:
        key = base64.b64decode(_value(headers, b"sec-websocket-key"), validate=True)
    except binascii.Error:
        key = b""
    # The key proves nothing and is not used but for the answer; a wrong length is a client that is none.
    if len(key) == 16:
        return None
    return 400, [(b"connection", b"close")], "Sec-WebSocket-Key is not 16 bytes in base64"


def accepted(headers: Headers) -> Headers:
    """The headers that prove that the handshake was understood. RFC 6455 section 4.2.2."""
    # SHA-1 by RFC 6455 section 4.2.2: it proves that the server speaks WebSocket, and protects nothing.
    digest = hashlib.sha1(_value(headers, b"sec-websocket-key") + _GUID, usedforsecurity=False).digest()
    return [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", base64.b64encode(digest)),
    ]
