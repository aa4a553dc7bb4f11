"""Rules for field sections: of requests, of responses, of trailers. Room: quic. Pure.

Sources: RFC 9114 sections 4.1.2, 4.2 and 4.3; RFC 9113 section 8.2.1; RFC 9110 sections 5.5, 8.6 and 15; RFC 9220 section 3;
RFC 9204 section 4.5.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.quic.h3.codes import MessageError

Fields = list[tuple[bytes, bytes]]

CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
OF_REQUESTS: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
OF_RESPONSES: Final = frozenset((b":status",))
OF_TRAILERS: Final[frozenset[bytes]] = frozenset()
# Visible ASCII but for capitals and the colon (RFC 9113 section 8.2.1): a capital would be another field to whoever
# compares bytes.
_NAME: Final = re.compile(rb"[!-9;-@\[-~]+")
# NUL, CR and LF would let a value end the line behind it, where it is handed on as HTTP/1.1 (RFC 9113 section
# 8.2.1).
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")
_STATUS: Final = re.compile(rb"[0-9]{3}")
# Digits alone: int() takes a sign, blanks and underscores, too, and what two ends read differently smuggles
# requests.
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


def check_request(fields: Fields) -> int | None:
    """A request's field section; answers the content length it names. Raises :class:`MessageError`. RFC 9114 section 4.3.1."""
    pseudo, length = _check(fields, OF_REQUESTS)
    if b":method" not in pseudo:
        raise MessageError("a request has :method")
    is_connect = pseudo[b":method"] == b"CONNECT"
    if b":authority" not in pseudo and (is_connect or not any(name == b"host" for name, _ in fields)):
        raise MessageError("a request has :authority, or Host")
    if not is_connect or b":protocol" in pseudo:
        for name in (b":scheme", b":path"):
            if not pseudo.get(name):
                raise MessageError(f"a request has {name.decode()}")
    named = [
        value
        for name, value in fields
        if name == b":authority" or (name == b"host" and b":authority" not in pseudo)
    ]
    if pseudo.get(b":scheme") in (b"http", b"https") and not (all(named) and pseudo.get(b":path")):
        raise MessageError("neither :authority, or Host, nor :path may be empty")
    for name, value in fields:
        # The only connection field that may come, with this value alone (RFC 9114 section 4.2).
        if name == b"te" and value.lower() != b"trailers":
            raise MessageError("te says something else than trailers")
    return length


def check_response(fields: Fields) -> tuple[int, int | None]:
    """A response's field section; answers its status and the content length it names. Raises :class:`MessageError`.
    RFC 9114 section 4.3.2."""
    pseudo, length = _check(fields, OF_RESPONSES)
    status = pseudo.get(b":status", b"")
    # 101 has no meaning here, for HTTP/3 has no Upgrade (RFC 9114 section 4.5).
    if not _STATUS.fullmatch(status) or status == b"101":
        raise MessageError(f":status is {status!r}, not one of HTTP/3's")
    if any(name == b"te" for name, _ in fields):
        raise MessageError("a response has no te")
    return int(status), length


def check_trailers(fields: Fields) -> None:
    """Trailers. Raises :class:`MessageError`. RFC 9114 section 4.3."""
    _check(fields, OF_TRAILERS)


def _check(fields: Fields, allowed: frozenset[bytes]) -> tuple[dict[bytes, bytes], int | None]:
    """What all have in common; answers the pseudo-header fields, and the content length. Raises :class:`MessageError`."""
    pseudo: dict[bytes, bytes] = {}
    length: bytes | None = None
    is_behind = False
    for name, value in fields:
        if _BAD_VALUE.search(value):
            raise MessageError(f"the value of {name!r} has a character or white space that no value has")
        if name[:1] == b":":
            if name not in allowed or is_behind or name in pseudo:
                raise MessageError(f"{name!r} is unknown, twice there, or behind other fields")
            pseudo[name] = value
            continue
        is_behind = True
        if not _NAME.fullmatch(name):
            raise MessageError(f"{name!r} names no field")
        if name in CONNECTION_SPECIFIC:
            raise MessageError(f"{name!r} belongs to a connection of HTTP/1.1")
        if name == b"content-length":
            if not _LENGTH.fullmatch(value) or (length is not None and length != value):
                raise MessageError("content-length is no number, or there are two")
            length = value
    return pseudo, None if length is None else int(length)


def names_two_hosts(fields: Fields) -> bool:
    """Whether Host says something else than :authority, or than itself (RFC 9114 section 4.3.1)."""
    named = {value.lower() for name, value in fields if name in (b"host", b":authority")}
    return len(named) > 1


def has_date(fields: Fields) -> bool:
    """Whether a response says when it was made. RFC 9110 section 6.6.1."""
    return any(name == b"date" for name, _ in fields)


STATIC_ENTRIES = 99
"""Of QPACK's static table (RFC 9204 appendix A)."""


def is_only_malformed(section: bytes) -> bool:
    """Whether a field section that the decoder refuses is sound QPACK that says no message: it is empty, or a
    field in it has no name. That ends its stream alone. Source: RFC 9204 sections 4.5.1 to 4.5.6, without a dynamic table."""
    try:
        insert_count, at = _prefixed(section, 0, 8)
        _, at = _prefixed(section, at, 7)
        nameless = at == len(section)
        while at < len(section):
            first = section[at]
            if first >= 0xC0:
                index, at = _prefixed(section, at, 6)
            elif first & 0xD0 == 0x50:
                index, at = _prefixed(section, at, 4)
                at = _after_text(section, at, 7)
            elif first & 0xE0 == 0x20:
                index, named_at = 0, at
                nameless = nameless or _prefixed(section, named_at, 3)[0] == 0
                at = _after_text(section, _after_text(section, at, 3), 7)
            else:
                return False
            if index >= STATIC_ENTRIES:
                return False
    except IndexError:
        return not section
    return nameless and insert_count == 0


def _prefixed(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer with a prefix of so many bits (RFC 7541 section 5.1), and where it ends. Raises ``IndexError``."""
    mask = (1 << bits) - 1
    value, at, shift = data[at] & mask, at + 1, 0
    if value < mask:
        return value, at
    # Four further bytes hold every index and length that a section within its bound can have.
    while shift < 28:
        byte, at = data[at], at + 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IndexError


def _after_text(data: bytes, at: int, bits: int) -> int:
    """Where a string ends whose length has a prefix of so many bits. Raises ``IndexError``."""
    size, at = _prefixed(data, at, bits)
    if at + size > len(data):
        raise IndexError
    return at + size
