"""Header sections that come again and again: coded once, then looked up. Room: quic.

With QPACK's dynamic table off (:mod:`gateway.quic.h3`) a header section is coded alike on every
connection, whatever came before. One :class:`Heads` serves all connections of an endpoint. It keeps
small sections only, a bounded number of them, and starts anew when it is full.
"""

from __future__ import annotations

from typing import Any

from gateway import limits

RawHeaders = list[tuple[bytes, bytes]]


class KnownHeaders(list[tuple[bytes, bytes]]):
    """A request's header section that was checked before. ``scope``: the ASGI scope made of it, for whoever
    serves it to keep here; it must be copied before use. Not to be changed."""

    __slots__ = ("scope",)

    def __init__(self, headers: RawHeaders) -> None:
        super().__init__(headers)
        self.scope: dict[str, Any] | None = None


class Heads:
    """Requests by the bytes of their stream, and responses' frames by their headers."""

    __slots__ = ("_frames", "_requests")

    def __init__(self) -> None:
        self._requests: dict[bytes, KnownHeaders] = {}
        self._frames: dict[tuple[tuple[bytes, bytes], ...], bytes] = {}

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

    def frame(self, headers: tuple[tuple[bytes, bytes], ...]) -> bytes | None:
        """The HEADERS frame of a response, if it is known."""
        return self._frames.get(headers)

    def know_frame(self, headers: tuple[tuple[bytes, bytes], ...], frame: bytes) -> None:
        """Remember a response's HEADERS frame."""
        if len(frame) <= limits.H3_KNOWN_HEAD_BYTES_MAX and len(headers) <= limits.H3_KNOWN_HEAD_FIELDS_MAX:
            _make_room(self._frames)
            self._frames[headers] = frame


def _make_room(known: dict[Any, Any]) -> None:
    if len(known) >= limits.H3_KNOWN_HEADS_MAX:
        known.clear()
