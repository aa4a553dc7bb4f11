"""Header sections that come again and again: coded once, then looked up. Room: quic.

With QPACK's dynamic table off (:mod:`gateway.quic.h3`) a header section is coded alike on every
connection, whatever came before. One :class:`Heads` serves all connections of an endpoint. It keeps
small sections only, a bounded number of them, and starts anew when it is full.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING

from gateway import limits

if TYPE_CHECKING:
    from starlette.types import Scope

RawHeaders = list[tuple[bytes, bytes]]


class KnownHeaders(list[tuple[bytes, bytes]]):
    """A request's header section that was checked before. ``scope``: the ASGI scope made of it, for whoever
    serves it to keep here; it must be copied before use. Not to be changed."""

    __slots__ = ("scope",)

    def __init__(self, headers: RawHeaders) -> None:
        super().__init__(headers)
        self.scope: Scope | None = None


Requests = dict[bytes, KnownHeaders]
Sections = dict[tuple[tuple[bytes, bytes], ...], bytes]


class Heads:
    """Requests by the bytes of their stream, and responses' field sections by their headers."""

    __slots__ = ("_requests", "_sections", "date")

    def __init__(self) -> None:
        self._requests: Requests = {}
        self._sections: Sections = {}
        self.date = DateLine()

    def request(self, content: bytes) -> KnownHeaders | None:
        """The headers of a request whose stream holds ``content`` and no more, if they are known."""
        return self._requests.get(content)

    def know_request(self, content: bytes, headers: RawHeaders) -> KnownHeaders:
        """Remember a request that was found sound. Answers its headers in the form to hand on."""
        known = KnownHeaders(headers)
        if len(content) <= limits.H3_KNOWN_HEAD_BYTES_MAX and len(headers) <= limits.H3_KNOWN_HEAD_FIELDS_MAX:
            _make_room(self._requests)
            self._requests[content] = known
        return known

    def section(self, headers: tuple[tuple[bytes, bytes], ...]) -> bytes | None:
        """The encoded field section of a response, if it is known; without ``date``."""
        return self._sections.get(headers)

    def know_section(self, headers: tuple[tuple[bytes, bytes], ...], section: bytes) -> None:
        """Remember a response's encoded field section."""
        if len(section) <= limits.H3_KNOWN_HEAD_BYTES_MAX and len(headers) <= limits.H3_KNOWN_HEAD_FIELDS_MAX:
            _make_room(self._sections)
            self._sections[headers] = section


class DateLine:
    """The ``date`` of responses as a line of a field section, made once a second: a literal with the name of the static
    table's entry 6 (RFC 9110 section 6.6.1; RFC 9204 section 4.5.4). ``clock``: seconds since the Unix epoch."""

    __slots__ = ("_clock", "_line", "_second")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        """The line for now, to follow a section's last one. RFC 9110 section 5.6.7."""
        second = int(self._clock())
        if second != self._second:
            value = formatdate(second, usegmt=True).encode()
            self._second, self._line = second, bytes((0x56, len(value))) + value
        return self._line


def _make_room(known: Requests | Sections) -> None:
    if len(known) >= limits.H3_KNOWN_HEADS_MAX:
        # No order of use is kept, which would cost a step for each request; what is usual is back after one of
        # each.
        known.clear()
