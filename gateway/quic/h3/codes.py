"""Numbers of HTTP/3 and of WebTransport over it, and how a broken rule is told. Room: quic. Pure.

Sources: RFC 9114 sections 7.2, 8.1 and 11.2; RFC 9204 section 8; RFC 9220 section 5; RFC 9297 section 5;
draft-ietf-webtrans-http3 section 9.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

ALPN: Final = "h3"


class ErrorCode(IntEnum):
    """Error codes of HTTP/3, QPACK and HTTP datagrams."""

    H3_DATAGRAM_ERROR = 0x33
    H3_NO_ERROR = 0x100
    H3_GENERAL_PROTOCOL_ERROR = 0x101
    H3_INTERNAL_ERROR = 0x102
    H3_STREAM_CREATION_ERROR = 0x103
    H3_CLOSED_CRITICAL_STREAM = 0x104
    H3_FRAME_UNEXPECTED = 0x105
    H3_FRAME_ERROR = 0x106
    H3_EXCESSIVE_LOAD = 0x107
    H3_ID_ERROR = 0x108
    H3_SETTINGS_ERROR = 0x109
    H3_MISSING_SETTINGS = 0x10A
    H3_REQUEST_REJECTED = 0x10B
    H3_REQUEST_CANCELLED = 0x10C
    H3_REQUEST_INCOMPLETE = 0x10D
    H3_MESSAGE_ERROR = 0x10E
    H3_CONNECT_ERROR = 0x10F
    H3_VERSION_FALLBACK = 0x110
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202


DATA, HEADERS, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID = 0x0, 0x1, 0x3, 0x4, 0x5, 0x7, 0xD
WEBTRANSPORT_STREAM = 0x41
HTTP2_FRAMES: Final = frozenset((0x2, 0x6, 0x8, 0x9))
"""Frames that HTTP/2 has and HTTP/3 must not (RFC 9114 section 7.2.8)."""

CONTROL, PUSH, QPACK_ENCODER, QPACK_DECODER, WEBTRANSPORT_UNI = 0x0, 0x1, 0x2, 0x3, 0x54
"""What a one-way stream is."""

QPACK_MAX_TABLE_CAPACITY, MAX_FIELD_SECTION_SIZE, QPACK_BLOCKED_STREAMS = 0x1, 0x6, 0x7
ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, ENABLE_WEBTRANSPORT = 0x8, 0x33, 0x2B603742
GREASE: Final = 0x21
"""A setting that means nothing, which peers must ignore (RFC 9114 section 7.2.4.1)."""
HTTP2_SETTINGS: Final = frozenset((0x0, 0x2, 0x3, 0x4, 0x5))


class H3Error(Exception):
    """A rule was broken: the connection ends with ``code``. RFC 9114 section 8."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class MessageError(H3Error):
    """A request or response is not sound: its stream ends, the connection goes on (RFC 9114 section 4.1.2)."""

    def __init__(self, reason: str) -> None:
        super().__init__(ErrorCode.H3_MESSAGE_ERROR, reason)


class FieldsTooLarge(MessageError):
    """A field section beyond the bound that was announced (RFC 9114 section 4.2.2)."""

    def __init__(self, size: int, bytes_max: int) -> None:
        super().__init__(f"a field section of {size} bytes, at most {bytes_max}")
