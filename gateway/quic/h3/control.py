"""The peer's control stream: its frames, its settings, and what may not be said there. Room: quic. Pure.

Sources: RFC 9114 sections 5.2, 6.2.1 and 7.2; RFC 9297 section 2.1.1; draft-ietf-webtrans-http3 section 3.1.
"""

from __future__ import annotations

from typing import Final

from gateway.limits import H3_CONTROL_FRAME_BYTES_MAX
from gateway.quic.connection.packets import varint
from gateway.quic.h3 import codes
from gateway.quic.h3.codes import ErrorCode, H3Error

LOOKED_INTO: Final = frozenset((codes.SETTINGS, codes.MAX_PUSH_ID, codes.GOAWAY, codes.CANCEL_PUSH))
"""Frames that are waited for; what of others comes is thrown away as it comes."""
NOT_HERE: Final = frozenset((codes.DATA, codes.HEADERS, codes.PUSH_PROMISE)) | codes.HTTP2_FRAMES
SWITCHES: Final = (codes.ENABLE_CONNECT_PROTOCOL, codes.ENABLE_WEBTRANSPORT, codes.H3_DATAGRAM)


class ControlStream:
    """``is_client``: we are. ``settings``: the peer's, once they are there."""

    __slots__ = ("_buffer", "_goaway", "_is_client", "_kind", "_left", "_push_max", "settings")

    def __init__(self, *, is_client: bool) -> None:
        self._is_client = is_client
        self._buffer = b""
        self._kind = 0
        self._left: int | None = None
        self._goaway: int | None = None
        self._push_max = -1
        self.settings: dict[int, int] | None = None

    def receive(self, data: bytes) -> None:
        """More of the stream. Raises :class:`H3Error`. RFC 9114 section 6.2.1."""
        # What is left over is a frame's head or a control frame within its bound: the copy is small.
        buffer, at = self._buffer + data, 0
        while True:
            if self._left is None:
                begin = _frame_head(buffer, at)
                if begin is None:
                    break
                self._kind, self._left, at = begin
                self._check_frame()
            if self._kind not in LOOKED_INTO:
                skipped = min(self._left, len(buffer) - at)
                at += skipped
                self._left -= skipped
                if self._left:
                    break
            elif len(buffer) - at < self._left:
                break
            else:
                content = buffer[at : at + self._left]
                at += self._left
                self._on_frame(self._kind, content)
            self._left = None
        self._buffer = buffer[at:]

    def _check_frame(self) -> None:
        """A frame begins: what must not be there is refused before its content has come."""
        kind, size = self._kind, self._left or 0
        if self.settings is None and kind != codes.SETTINGS:
            raise H3Error(
                ErrorCode.H3_MISSING_SETTINGS, "the control stream begins with something else than SETTINGS"
            )
        # Once a connection (RFC 9114 section 7.2.4).
        if self.settings is not None and kind == codes.SETTINGS:
            raise H3Error(ErrorCode.H3_FRAME_UNEXPECTED, "SETTINGS came before")
        if kind in NOT_HERE or (kind == codes.MAX_PUSH_ID and self._is_client):
            raise H3Error(ErrorCode.H3_FRAME_UNEXPECTED, f"frame {kind:#x} on the control stream")
        if kind in LOOKED_INTO and size > H3_CONTROL_FRAME_BYTES_MAX:
            raise H3Error(ErrorCode.H3_EXCESSIVE_LOAD, f"a control frame of {size} bytes")

    def _on_frame(self, kind: int, content: bytes) -> None:
        if kind == codes.SETTINGS:
            self.settings = _settings_of(content)
            return
        number = _only_number(content, kind)
        if kind == codes.GOAWAY:
            # A server names the last request that it serves, a client a push (RFC 9114 section 5.2).
            if self._is_client and number % 4:
                raise H3Error(ErrorCode.H3_ID_ERROR, "GOAWAY names no request stream")
            # May fall, since a server shuts in steps, and never rise: requests were given up by what it
            # said before.
            if self._goaway is not None and number > self._goaway:
                raise H3Error(ErrorCode.H3_ID_ERROR, f"GOAWAY rose from {self._goaway} to {number}")
            self._goaway = number
        elif kind == codes.MAX_PUSH_ID:
            if number < self._push_max:
                raise H3Error(ErrorCode.H3_ID_ERROR, f"MAX_PUSH_ID fell from {self._push_max} to {number}")
            self._push_max = number
        else:
            raise H3Error(ErrorCode.H3_ID_ERROR, f"push {number} was never promised")


def _frame_head(buffer: bytes, at: int) -> tuple[int, int, int] | None:
    """A frame's type, its length, and where its content begins; None while they are not whole."""
    try:
        kind, at = varint(buffer, at)
        size, at = varint(buffer, at)
    except IndexError:
        return None
    return kind, size, at


def _only_number(content: bytes, kind: int) -> int:
    try:
        number, end = varint(content, 0)
    except IndexError:
        raise H3Error(ErrorCode.H3_FRAME_ERROR, f"frame {kind:#x} is cut short") from None
    if end != len(content):
        raise H3Error(ErrorCode.H3_FRAME_ERROR, f"frame {kind:#x} has something behind its number")
    return number


def _settings_of(content: bytes) -> dict[int, int]:
    """Settings by their number. Raises :class:`H3Error`."""
    settings: dict[int, int] = {}
    at = 0
    while at < len(content):
        try:
            number, at = varint(content, at)
            value, at = varint(content, at)
        except IndexError:
            raise H3Error(ErrorCode.H3_FRAME_ERROR, "SETTINGS are cut short") from None
        # Those numbers mean other things in HTTP/2: whoever sends them speaks the wrong protocol (RFC 9114
        # section 7.2.4.1).
        if number in codes.HTTP2_SETTINGS or number in settings:
            raise H3Error(ErrorCode.H3_SETTINGS_ERROR, f"setting {number:#x} is of HTTP/2, or there twice")
        settings[number] = value
    if any(settings.get(number, 0) > 1 for number in SWITCHES):
        raise H3Error(ErrorCode.H3_SETTINGS_ERROR, "a setting that is on or off is neither 0 nor 1")
    if settings.get(codes.ENABLE_WEBTRANSPORT) and not settings.get(codes.H3_DATAGRAM):
        raise H3Error(ErrorCode.H3_SETTINGS_ERROR, "WebTransport needs datagrams")
    return settings
