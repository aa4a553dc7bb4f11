"""Rules of HTTP/3 for what a peer says: field sections, control frames, and how much an error ends. Room: quic. Pure.

Sources: RFC 9114 sections 4.1.2, 4.3.1, 5.2 and 7.2; RFC 9110 section 5.4; draft-ietf-webtrans-http3 section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aioquic.h3.connection import ErrorCode, FrameError, IdError, MessageError, ProtocolError
from aioquic.h3.events import H3Event

from gateway.quic.buffers import Buffer, BufferReadError

Fields = list[tuple[bytes, bytes]]


class ExcessiveLoad(ProtocolError):
    """The peer makes HTTP/3 hold more than it is allowed to."""

    error_code = ErrorCode.H3_EXCESSIVE_LOAD


class FieldsTooLarge(MessageError):
    """A field section beyond the bound that was announced (RFC 9114 section 4.2.2)."""

    def __init__(self, size: int, bytes_max: int) -> None:
        super().__init__(f"a field section of {size} bytes, at most {bytes_max}")


@dataclass
class MessageRefused(H3Event):
    """A request or response that is not sound: its stream ends, the connection goes on (RFC 9114 section 4.1.2).

    ``too_large``: it can be answered with 431."""

    stream_id: int
    reason: str
    too_large: bool = False


def check_request(fields: Fields) -> None:
    """What aioquic does not ask of a request's field section. Raises ``MessageError``."""
    pseudo = {name: value for name, value in fields if name[:1] == b":"}
    if pseudo.get(b":method") != b"CONNECT" or b":protocol" in pseudo:
        for name in (b":scheme", b":path"):
            if not pseudo.get(name):
                raise MessageError(f"a request has {name.decode()}")
    if any(not name for name, _ in fields):
        raise MessageError("a field has a name")


def names_two_hosts(fields: Fields) -> bool:
    """Whether Host says something else than :authority, or than itself (RFC 9114 section 4.3.1)."""
    named = {value.lower() for name, value in fields if name in (b"host", b":authority")}
    return len(named) > 1


class GoingAway:
    """The peer's GOAWAY frames: identifiers that may only fall. ``requests``: they are of requests, from a server."""

    def __init__(self, *, requests: bool) -> None:
        self._requests = requests
        self.last: int | None = None

    def take(self, content: bytes) -> None:
        """Raises ``FrameError`` or ``IdError``."""
        number = _only_number(content, "GOAWAY")
        if self._requests and number % 4:
            raise IdError("GOAWAY names no request stream")
        if self.last is not None and number > self.last:
            raise IdError(f"GOAWAY rose from {self.last} to {number}")
        self.last = number


def check_cancel_push(content: bytes, push_id_max: int | None, *, by_client: bool) -> None:
    """CANCEL_PUSH of a push that cannot be. Raises ``FrameError`` or ``IdError``."""
    number = _only_number(content, "CANCEL_PUSH")
    if by_client or push_id_max is None or number > push_id_max:
        raise IdError(f"push {number} was never promised")


def _only_number(content: bytes, frame: str) -> int:
    buf = Buffer(data=content)
    try:
        number: int = buf.pull_uint_var()
    except BufferReadError:
        raise FrameError(f"{frame} is cut short") from None
    if not buf.eof():
        raise FrameError(f"{frame} has something behind its number")
    return number


def leading_number(data: bytes) -> tuple[int, int] | None:
    """A variable-length integer at the front, and its bytes; None while it is not whole."""
    buf: Any = Buffer(data=data)
    try:
        return buf.pull_uint_var(), buf.tell()
    except BufferReadError:
        return None


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
