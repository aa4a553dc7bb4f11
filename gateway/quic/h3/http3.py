"""HTTP/3 as we speak it: aioquic's ``H3Connection`` with our settings, bounds and rules. Room: quic.

The drafts of WebTransport that clients speak are announced side by side (``docs/CLIENTS.md``). The QPACK dynamic table
is off in both directions: it saves bytes that games do not count, costs packets on two more streams, and lets a small
request unpack into a large one.
"""

from __future__ import annotations

from typing import Any, Final

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import (
    ClosedCriticalStream,
    ErrorCode,
    FrameError,
    FrameType,
    H3Connection,
    H3Stream,
    HeadersState,
    IdError,
    MessageError,
    QpackDecompressionFailed,
    Setting,
    StreamCreationError,
    StreamType,
    encode_frame,
)
from aioquic.h3.events import DataReceived, H3Event, Headers, HeadersReceived
from aioquic.quic.events import StreamDataReceived

from gateway import limits
from gateway.limits import H3_CONTROL_FRAME_BYTES_MAX
from gateway.quic.connection import Connection
from gateway.quic.h3.heads import Heads
from gateway.quic.h3.rules import (
    ExcessiveLoad,
    FieldsTooLarge,
    GoingAway,
    MessageRefused,
    check_cancel_push,
    check_request,
    is_only_malformed,
    leading_number,
)
from gateway.quic.h3.transport import H3Transport

WT_MAX_SESSIONS: Final = 0x14E9CD29
"""Of drafts 13 to 15: Safari 26.4 opens no session without it."""
WT_ENABLED: Final = 0x2C7CF000
"""Of draft 16. ``0xc671706a`` of draft 07 must not be announced: Chromium would pick what we do not speak."""
WT_INITIAL_MAX_DATA, WT_INITIAL_MAX_STREAMS_UNI, WT_INITIAL_MAX_STREAMS_BIDI = 0x2B61, 0x2B64, 0x2B65
"""A session's own flow control, which whoever announces more than one session must have (draft 13 section 5)."""
WT_UNBOUNDED: Final = {
    WT_INITIAL_MAX_DATA: (1 << 62) - 1,
    WT_INITIAL_MAX_STREAMS_UNI: 1 << 60,
    WT_INITIAL_MAX_STREAMS_BIDI: 1 << 60,
}
"""As much as can be said: QUIC's own flow control bounds a connection, so that a session's need not be raised."""
DECODED_FRAMES: Final = (FrameType.SETTINGS, FrameType.MAX_PUSH_ID, FrameType.GOAWAY, FrameType.CANCEL_PUSH)
"""Frames of the control stream that are looked into."""


class Http3(H3Connection):
    """HTTP/3 on a connection of ours, either side. ``heads``: a server's known header sections."""

    def __init__(self, quic: Connection, heads: Heads | None = None) -> None:
        self._heads = heads
        self._connection = quic
        transport: Any = H3Transport(quic)
        super().__init__(transport, enable_webtransport=True)
        self._decoder = pylsqpack.Decoder(0, 0)
        self._goaway = GoingAway(requests=self._is_client)
        self._refused: set[int] = set()
        self._begun: set[int] = set()

    def _get_local_settings(self) -> dict[int, int]:
        settings = super()._get_local_settings()
        settings[Setting.QPACK_MAX_TABLE_CAPACITY] = 0
        settings[Setting.QPACK_BLOCKED_STREAMS] = 0
        settings[Setting.MAX_FIELD_SECTION_SIZE] = limits.H3_HEADER_BYTES_MAX
        settings[WT_MAX_SESSIONS] = limits.WT_SESSIONS_PER_CONNECTION_MAX
        settings[WT_ENABLED] = 1
        return settings | WT_UNBOUNDED

    def session_limits(self) -> tuple[int, int] | None:
        """How many one-way streams, and bytes on streams, a session may begin with by the peer's own flow control of
        sessions; None: the peer has none."""
        settings = self.received_settings or {}
        if not any(settings.get(number) for number in WT_UNBOUNDED):
            return None
        return settings.get(WT_INITIAL_MAX_STREAMS_UNI, 0), settings.get(WT_INITIAL_MAX_DATA, 0)

    def _handle_control_frame(self, frame_type: int, frame_data: bytes) -> None:
        if frame_type == FrameType.GOAWAY:
            self._goaway.take(frame_data)
        elif frame_type == FrameType.CANCEL_PUSH:
            check_cancel_push(frame_data, self._max_push_id, by_client=not self._is_client)
        else:
            super()._handle_control_frame(frame_type, frame_data)
        if frame_type == FrameType.SETTINGS:
            self._encoder.apply_settings(max_table_capacity=0, blocked_streams=0)

    # -- short ways -----------------------------------------------------------------------

    def _receive_stream_data(self, event: StreamDataReceived) -> list[H3Event]:
        """Two kinds of stream data are most of it: more of a DATA frame, and a request that is a header
        section alone. aioquic takes the others."""
        if self._refused and event.stream_id in self._refused:
            if event.end_stream:
                self._refused.discard(event.stream_id)
            return []
        stream = self._stream.get(event.stream_id)
        if stream is not None:
            size = stream.frame_size
            if (
                stream.frame_type == FrameType.DATA
                and size is not None
                and len(event.data) < size
                and not event.end_stream
                and not stream.buffer
                and not stream.blocked
            ):
                stream.frame_size = size - len(event.data)
                stream.content_length += len(event.data)
                return [DataReceived(event.data, event.stream_id, False, stream.push_id)]
        elif self._heads is not None and event.end_stream and not event.stream_id & 3:
            return self._receive_whole_request(event, self._heads)
        return super()._receive_stream_data(event)

    def _receive_whole_request(self, event: StreamDataReceived, heads: Heads) -> list[H3Event]:
        """A request that came at once. What was sound once on its own is sound again."""
        known = heads.request(event.data)
        if known is not None:
            stream = self._stream[event.stream_id] = H3Stream(event.stream_id)
            stream.receiving_ended = True
            stream.headers_recv_state = HeadersState.AFTER_HEADERS
            return [HeadersReceived(known, event.stream_id, True)]
        made = super()._receive_stream_data(event)
        if len(made) == 1 and isinstance(made[0], HeadersReceived) and made[0].stream_ended:
            made[0].headers = heads.know_request(event.data, made[0].headers)
        return made

    def respond(self, stream_id: int, headers: Headers, body: bytes, *, end: bool) -> None:
        """Send a final response's header section with the first piece of its content, in one write."""
        stream = self._stream.get(stream_id)
        if stream is None or stream.headers_send_state is not HeadersState.INITIAL or stream.sending_ended:
            raise RuntimeError("this stream waits for no response")
        frame = self._response_frame(stream_id, headers)
        stream.headers_send_state = HeadersState.AFTER_HEADERS
        if body:
            frame += b"\x00" + encode_uint_var(len(body)) + body
        self._quic.send_stream_data(stream_id, frame, end)
        if end:
            stream.sending_ended = True
            if stream.is_ended():
                del self._stream[stream_id]

    def _response_frame(self, stream_id: int, headers: Headers) -> bytes:
        if self._heads is None:
            return encode_frame(FrameType.HEADERS, self._encode_headers(stream_id, headers))
        key = tuple(headers)
        section = self._heads.section(key)
        if section is None:
            section = bytes(self._encoder.encode(stream_id, headers)[1])
            self._heads.know_section(key, section)
        if not _has_date(headers):
            section += self._heads.date.line()
        return b"\x01" + encode_uint_var(len(section)) + section

    # -- rules and bounds -----------------------------------------------------------------

    def _check_request_or_push_frame_type(self, frame_type: int, stream: H3Stream) -> None:
        super()._check_request_or_push_frame_type(frame_type, stream)
        if frame_type == FrameType.WEBTRANSPORT_STREAM:
            if stream.stream_id in self._begun:
                raise FrameError("WEBTRANSPORT_STREAM in the middle of a stream")
            if (stream.frame_size or 0) % 4:
                raise IdError("a session is a request of the client")
            return
        self._begun.add(stream.stream_id)
        size = stream.frame_size or 0
        if frame_type == FrameType.HEADERS and size > limits.H3_HEADER_BYTES_MAX:
            raise FieldsTooLarge(size, limits.H3_HEADER_BYTES_MAX)

    def _receive_stream_data_uni(self, stream: H3Stream, data: bytes, stream_ended: bool) -> list[H3Event]:
        if stream.stream_type is None and self._is_control(stream, data):
            data, stream.buffer = stream.buffer + data, b""
            data = data[leading_number(data)[1] :]  # type: ignore[index]
        if stream.stream_type == StreamType.CONTROL:
            self._receive_control(stream, data, stream_ended)
            return []
        events = super()._receive_stream_data_uni(stream, data, stream_ended)
        if stream_ended and stream.stream_type in (StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER):
            raise ClosedCriticalStream("a QPACK stream must not end")
        if stream.stream_type == StreamType.WEBTRANSPORT and (stream.session_id or 0) % 4:
            raise IdError("a session is a request of the client")
        self._check_buffered(stream)
        return events

    def _is_control(self, stream: H3Stream, data: bytes) -> bool:
        """Whether this stream turns out to be the peer's control stream with these bytes."""
        kind = leading_number(stream.buffer + data)
        if kind is None or kind[0] != StreamType.CONTROL:
            return False
        if self._peer_control_stream_id is not None:
            raise StreamCreationError("Only one control stream is allowed")
        self._peer_control_stream_id = stream.stream_id
        stream.stream_type = StreamType.CONTROL
        return True

    def _receive_control(self, stream: H3Stream, data: bytes, ended: bool) -> None:
        """More of the peer's control stream: aioquic's reader skips frames that have rules."""
        if ended:
            raise ClosedCriticalStream("Closing control stream is not allowed")
        buffer = stream.buffer + data
        while True:
            if stream.frame_size is None:
                kind = leading_number(buffer)
                size = leading_number(buffer[kind[1] :]) if kind else None
                if kind is None or size is None:
                    break
                stream.frame_type, stream.frame_size = kind[0], size[0]
                buffer = buffer[kind[1] + size[1] :]
                self._check_control_frame_type(kind[0])
                if kind[0] in DECODED_FRAMES and size[0] > H3_CONTROL_FRAME_BYTES_MAX:
                    raise ExcessiveLoad(f"a control frame of {size[0]} bytes")
            if stream.frame_type in DECODED_FRAMES:
                if len(buffer) < stream.frame_size:
                    break
                content, buffer = buffer[: stream.frame_size], buffer[stream.frame_size :]
                self._handle_control_frame(int(stream.frame_type or 0), content)
            else:
                skipped = min(stream.frame_size, len(buffer))
                buffer = buffer[skipped:]
                stream.frame_size -= skipped
                if stream.frame_size:
                    break
            stream.frame_size = stream.frame_type = None
        stream.buffer = buffer

    def _receive_request_or_push_data(
        self, stream: H3Stream, data: bytes, stream_ended: bool
    ) -> list[H3Event]:
        try:
            events = super()._receive_request_or_push_data(stream, data, stream_ended)
        except MessageError as exc:
            return [self._refuse(stream, exc)]
        finally:
            if stream.receiving_ended:
                self._begun.discard(stream.stream_id)
        self._check_buffered(stream)
        return events

    def _handle_request_or_push_frame(
        self, frame_type: int, frame_data: bytes | None, stream: H3Stream, stream_ended: bool
    ) -> list[H3Event]:
        is_request = stream.headers_recv_state is HeadersState.INITIAL and not self._is_client
        events = super()._handle_request_or_push_frame(frame_type, frame_data, stream, stream_ended)
        if is_request and frame_type == FrameType.HEADERS:
            for event in events:
                if isinstance(event, HeadersReceived):
                    check_request(event.headers)
        return events

    def _refuse(self, stream: H3Stream, error: MessageError) -> MessageRefused:
        """One message is not sound: no more is read of its stream. What was asked for can be refused by 431; all
        else is answered by a reset, for whoever sends it is no client of HTTP."""
        stream_id = stream.stream_id
        if not stream.receiving_ended:
            self._refused.add(stream_id)
        stream.receiving_ended, stream.buffer = True, b""
        stream.frame_size = stream.frame_type = None
        too_large = isinstance(error, FieldsTooLarge) and stream.headers_recv_state is HeadersState.INITIAL
        if not too_large or self._is_client:
            stream.sending_ended = True
            self._connection.abandon_receiving(stream_id, ErrorCode.H3_MESSAGE_ERROR)
            if not self._connection.streams.send_is_over(stream_id):
                self._quic.reset_stream(stream_id, ErrorCode.H3_MESSAGE_ERROR)
        return MessageRefused(stream_id, error.reason_phrase, too_large and not self._is_client)

    def _receive_stream_reset(self, stream_id: int) -> None:
        self._begun.discard(stream_id)
        if stream_id in self._refused:
            self._refused.discard(stream_id)  # what was asked to stop has stopped: the refusal still goes out
            self.forget(stream_id)
            return
        super()._receive_stream_reset(stream_id)

    def _check_buffered(self, stream: H3Stream) -> None:
        if len(stream.buffer) > limits.H3_BUFFER_BYTES_MAX:
            raise ExcessiveLoad(f"{len(stream.buffer)} bytes of an incomplete frame")

    def _encode_headers(self, stream_id: int, headers: Headers) -> bytes:
        """Without a dynamic table there is nothing to tell the peer's decoder."""
        section = bytes(self._encoder.encode(stream_id, headers)[1])
        if self._heads is not None and headers and headers[0][0] == b":status" and not _has_date(headers):
            section += self._heads.date.line()
        return section

    def _decode_headers(self, stream_id: int, frame_data: bytes | None) -> Headers:
        try:
            headers: Headers = self._decoder.feed_header(stream_id, frame_data or b"")[1]
        except pylsqpack.DecompressionFailed as exc:
            if is_only_malformed(frame_data or b""):
                raise MessageError("an empty field section, or a field without a name") from exc
            raise QpackDecompressionFailed from exc
        size = sum(len(name) + len(value) + 32 for name, value in headers)
        if size > limits.H3_HEADER_BYTES_MAX:
            raise FieldsTooLarge(size, limits.H3_HEADER_BYTES_MAX)
        return headers

    def forget(self, stream_id: int) -> None:
        """Drop the state of a stream that was given up on our side."""
        stream = self._stream.get(stream_id)
        if stream is not None:
            stream.sending_ended = True
            if stream.is_ended():
                self._stream.pop(stream_id)

    def go_away(self, stream_id: int) -> None:
        """Announce that requests from ``stream_id`` on will not be served (RFC 9114 section 5.2)."""
        if self._local_control_stream_id is not None:
            self._quic.send_stream_data(
                self._local_control_stream_id, encode_frame(FrameType.GOAWAY, encode_uint_var(stream_id))
            )


def _has_date(headers: Headers) -> bool:
    return any(name == b"date" for name, _ in headers)
