"""The first TLS message, as far as a door must know it before TLS begins. Room: http. Pure.

Python's ``ssl`` goes on where client and server share no application protocol; RFC 7301 section
3.2 asks for the alert ``no_application_protocol``. So the client's list is read here, from the
ClientHello (RFC 8446 section 4.1.2), and nothing is spent on TLS before one has come whole.
"""

from __future__ import annotations

from enum import Enum, auto

from gateway import limits

NO_APPLICATION_PROTOCOL = bytes((21, 3, 3, 0, 2, 2, 120))
"""A fatal alert in a record of its own (RFC 8446 section 6, RFC 7301 section 3.2)."""
_HANDSHAKE, _CLIENT_HELLO, _ALPN = 22, 1, 16
_RECORD_BYTES_MAX = 16_384 + 256


class HelloVerdict(Enum):
    """What the first bytes are."""

    MORE = auto()
    """The beginning of a ClientHello."""
    TLS = auto()
    """A ClientHello: let TLS begin."""
    NO_PROTOCOL = auto()
    """A ClientHello that asks for application protocols, none of which is served."""
    FOREIGN = auto()
    """No TLS at all."""


def judge(data: bytes | bytearray, served: tuple[bytes, ...]) -> HelloVerdict:
    """What the first bytes of a connection are, where ``served`` are the names of the protocols spoken.
    RFC 8446 section 4.1.2; RFC 7301 section 3.2."""
    hello = bytearray()
    at = 0
    while True:
        head = data[at : at + 5]
        if (head and head[0] != _HANDSHAKE) or (len(head) > 1 and head[1] != 3):
            return HelloVerdict.FOREIGN
        if len(head) < 5:
            return HelloVerdict.MORE
        size = int.from_bytes(head[3:5], "big")
        # 2^14 bytes of plain text, and 256 more as a protected record may have (RFC 8446 sections 5.1 and 5.2). One
        # of a handshake is not empty.
        if not 0 < size <= _RECORD_BYTES_MAX:
            return HelloVerdict.FOREIGN
        # A ClientHello may be cut into several records, even into single bytes (RFC 8446 section 5.1).
        hello += data[at + 5 : at + 5 + size]
        if hello and hello[0] != _CLIENT_HELLO:
            return HelloVerdict.FOREIGN
        whole = int.from_bytes(hello[1:4], "big") + 4 if len(hello) >= 4 else limits.TLS_HELLO_BYTES_MAX
        if whole > limits.TLS_HELLO_BYTES_MAX:
            return HelloVerdict.FOREIGN
        if len(hello) >= whole:
            asked = _protocols(memoryview(hello)[4:whole])
            return HelloVerdict.TLS if asked is None or set(asked) & set(served) else HelloVerdict.NO_PROTOCOL
        at += 5 + size
        if at > len(data):
            return HelloVerdict.MORE


def _protocols(body: memoryview) -> list[bytes] | None:
    """The client's list; None where it sent none, or where OpenSSL had better say what is wrong."""
    try:
        # Behind version and random; then session ID, cipher suites and compression methods, each after its length.
        at = 34
        at += 1 + body[at]
        at += 2 + int.from_bytes(body[at : at + 2], "big")
        at += 1 + body[at]
        end = at + 2 + int.from_bytes(body[at : at + 2], "big")
        at += 2
        while at + 4 <= min(end, len(body)):
            kind, size = (
                int.from_bytes(body[at : at + 2], "big"),
                int.from_bytes(body[at + 2 : at + 4], "big"),
            )
            if kind == _ALPN:
                return _names(body[at + 4 : at + 4 + size])
            at += 4 + size
    except IndexError:
        pass
    return None


def _names(value: memoryview) -> list[bytes]:
    names, at = [], 2
    while at < len(value):
        size = value[at]
        names.append(bytes(value[at + 1 : at + 1 + size]))
        at += 1 + size
    return names
