"""A stream of requests and responses, as its frames come: one message each way. Room: quic. Pure.

What is incomplete is bounded: a field section by its own bound, all else is handed on or thrown away as it comes. Sources:
RFC 9114 sections 4.1, 7.1 and 7.2; draft-ietf-webtrans-http3-16 section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway import limits
from gateway.quic.connection.packets import varint
from gateway.quic.h3 import codes
from gateway.quic.h3.codes import ErrorCode, FieldsTooLarge, H3Error, MessageError
from gateway.quic.h3.fields import check_request, check_response, check_trailers
from gateway.quic.h3.told import (
    DataReceived,
    H3Event,
    Headers,
    HeadersReceived,
    WebTransportStreamDataReceived,
)

NOTHING, HEAD, ALL = 0, 1, 2
"""How far a message is: before its field section, behind it, behind its trailers."""
NOT_HERE: Final = (
    frozenset((codes.CANCEL_PUSH, codes.SETTINGS, codes.GOAWAY, codes.MAX_PUSH_ID)) | codes.HTTP2_FRAMES
)
NO_CONTENT: Final = frozenset((204, 304))

Decode = Callable[[int, bytes], Headers]
"""Of a stream, the bytes of a field section to its fields. Raises :class:`H3Error`."""


class ExchangeStream:
    """``is_client``: we are, so that responses come. ``came``, ``said``: how far the message of either way is.
    ``session_id``: it turned out to be a stream of this session. ``is_bodiless``: the response is to a HEAD."""

    __slots__ = (
        "_buffer",
        "_content_bytes",
        "_has_begun",
        "_is_client",
        "_kind",
        "_left",
        "_promised_bytes",
        "came",
        "is_bodiless",
        "number",
        "receiving_ended",
        "said",
        "sending_ended",
        "session_id",
    )

    def __init__(self, number: int, *, is_client: bool) -> None:
        self.number = number
        self._is_client = is_client
        self._buffer = b""
        self._kind = 0
        self._left: int | None = None
        self._has_begun = False
        self._promised_bytes: int | None = None
        self._content_bytes = 0
        self.came = self.said = NOTHING
        self.is_bodiless = False
        self.session_id: int | None = None
        self.receiving_ended = self.sending_ended = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more goes either way. Streams of sessions are written past this."""
        return self.receiving_ended and (self.sending_ended or self.session_id is not None)

    def forget_rest(self) -> None:
        """Nothing more of it is read."""
        self.receiving_ended = True
        self._buffer, self._left = b"", None

    def receive(self, data: bytes, ended: bool, decode: Decode) -> list[H3Event]:
        """More of the stream. Raises :class:`H3Error`; of a :class:`MessageError` the stream is to end alone.
        RFC 9114 section 4.1."""
        if ended:
            self.receiving_ended = True
        if self.session_id is not None:
            return [WebTransportStreamDataReceived(data, self.number, ended, self.session_id)]
        left = self._left
        # The middle of a large body: handed on as it is, without a copy into the buffer.
        if left is not None and self._kind == codes.DATA and len(data) < left and not ended:
            self._left = left - len(data)
            self._content_bytes += len(data)
            return [DataReceived(data, self.number, False)] if data else []
        return self._take_frames(self._buffer + data if self._buffer else data, ended, decode)

    def _take_frames(self, buffer: bytes, ended: bool, decode: Decode) -> list[H3Event]:
        told: list[H3Event] = []
        at, size = 0, len(buffer)
        while True:
            if self._left is None:
                try:
                    kind, behind = varint(buffer, at)
                    self._left, at = varint(buffer, behind)
                except IndexError:
                    break
                self._kind = kind
                self._begin_frame(kind, self._left)
                if kind == codes.WEBTRANSPORT_STREAM:
                    return self._become_sessions(buffer[at:], ended)
            piece = min(self._left, size - at)
            # A field section is decoded whole; its length was bounded as it began.
            if self._kind == codes.HEADERS and piece < self._left:
                break
            content, at = buffer[at : at + piece], at + piece
            self._left = self._left - piece or None
            is_last = ended and at == size and self._left is None
            if self._kind == codes.HEADERS:
                told.append(self._head(decode(self.number, content), is_last))
            elif self._kind == codes.DATA and content:
                self._content_bytes += piece
                told.append(DataReceived(content, self.number, is_last))
            if self._left is not None:
                break
        self._buffer = buffer[at:]
        if ended:
            self._end(told)
        return told

    def _begin_frame(self, kind: int, size: int) -> None:
        """A frame begins: what must not be there is refused before its content has come."""
        if kind == codes.WEBTRANSPORT_STREAM:
            if self._has_begun or (self._is_client and not self.number & 1):
                raise H3Error(ErrorCode.H3_FRAME_ERROR, "WEBTRANSPORT_STREAM in the middle of a stream")
            # The length's place has the session's number in this frame: the stream of its CONNECT, which a
            # client opened.
            if size % 4:
                raise H3Error(ErrorCode.H3_ID_ERROR, "a session is a request of the client")
            return
        self._has_begun = True
        if self.number & 1:
            raise H3Error(ErrorCode.H3_STREAM_CREATION_ERROR, "a request of a server")
        if kind == codes.PUSH_PROMISE and self._is_client:
            raise H3Error(ErrorCode.H3_ID_ERROR, "a push that was not allowed")
        if kind in NOT_HERE or kind == codes.PUSH_PROMISE:
            raise H3Error(ErrorCode.H3_FRAME_UNEXPECTED, f"frame {kind:#x} on a request stream")
        # Before the head there is no message, and behind the trailers nothing more of it (RFC 9114 section
        # 4.1).
        if kind == codes.DATA and self.came != HEAD:
            raise H3Error(ErrorCode.H3_FRAME_UNEXPECTED, "DATA where no content can be")
        if kind == codes.HEADERS:
            if self.came == ALL:
                raise H3Error(ErrorCode.H3_FRAME_UNEXPECTED, "HEADERS behind the trailers")
            if size > limits.H3_HEADER_BYTES_MAX:
                raise FieldsTooLarge(size, limits.H3_HEADER_BYTES_MAX)

    def _become_sessions(self, rest: bytes, ended: bool) -> list[H3Event]:
        session, self._left, self._buffer = self._left or 0, None, b""
        self.session_id = session
        if not rest and not ended:
            return []
        return [WebTransportStreamDataReceived(rest, self.number, ended, session)]

    def _head(self, fields: Headers, is_last: bool) -> HeadersReceived:
        """A field section. Interim responses come before the response (RFC 9114 section 4.1)."""
        if self.came == HEAD:
            check_trailers(fields)
            self.came = ALL
        elif not self._is_client:
            self._promised_bytes = check_request(fields)
            self.came = HEAD
        else:
            status, length = check_response(fields)
            # Interim responses (1xx) may come before, any number of them, and have no body.
            if status >= 200:
                self.came = HEAD
                self._promised_bytes = None if self.is_bodiless or status in NO_CONTENT else length
        if is_last:
            self._check_whole()
        return HeadersReceived(fields, self.number, is_last)

    def _end(self, told: list[H3Event]) -> None:
        """The stream has ended; the last that was told may not have said so. A request without a field section is left to
        whoever sees that :attr:`came` is ``NOTHING``."""
        if self._buffer or self._left is not None:
            raise H3Error(ErrorCode.H3_FRAME_ERROR, "the stream ends in the middle of a frame")
        if self.came == NOTHING and not self._is_client:
            return
        self._check_whole()
        last = told[-1] if told else None
        if not (isinstance(last, (HeadersReceived, DataReceived)) and last.stream_ended):
            told.append(DataReceived(b"", self.number, True))

    def _check_whole(self) -> None:
        if self.came == NOTHING:
            raise MessageError("the stream ends before a response")
        if self._promised_bytes is not None and self._content_bytes != self._promised_bytes:
            raise MessageError("content-length does not match the content")
