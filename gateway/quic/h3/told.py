"""What HTTP/3 tells of a connection's streams. Room: quic. Pure."""

from __future__ import annotations

from dataclasses import dataclass

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class HeadersReceived:
    """A field section: a request's, a response's, or trailers. ``stream_ended``: nothing comes behind it."""

    headers: Headers
    stream_id: int
    stream_ended: bool


@dataclass(slots=True)
class DataReceived:
    """Content of a request or response; empty only where it ends."""

    data: bytes
    stream_id: int
    stream_ended: bool


@dataclass(slots=True)
class WebTransportStreamDataReceived:
    """Bytes on a stream of a WebTransport session, which is the request of ``session_id``."""

    data: bytes
    stream_id: int
    stream_ended: bool
    session_id: int


@dataclass(slots=True)
class MessageRefused:
    """A request or response that is not sound: its stream ends, the connection goes on (RFC 9114 section 4.1.2).

    ``too_large``: it can be answered with 431."""

    stream_id: int
    reason: str
    too_large: bool = False


H3Event = HeadersReceived | DataReceived | WebTransportStreamDataReceived | MessageRefused
