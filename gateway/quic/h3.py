"""HTTP/3 as we speak it: aioquic's ``H3Connection`` with our settings and bounds. Room: quic.

WebTransport is announced as draft 02, which Chromium and Firefox take, and with the settings that
Safari 26.4 asks for. The QPACK dynamic table is off in both directions: it saves bytes that games
do not count, costs packets on two more streams, and lets a small request unpack into a large one.
"""

from __future__ import annotations

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import (
    ErrorCode,
    FrameType,
    H3Connection,
    H3Stream,
    HeadersState,
    ProtocolError,
    QpackDecompressionFailed,
    Setting,
    encode_frame,
)
from aioquic.h3.events import DataReceived, H3Event, Headers, HeadersReceived
from aioquic.quic.connection import stream_is_client_initiated
from aioquic.quic.events import StreamDataReceived

from gateway import limits
from gateway.quic.connection import Connection
from gateway.quic.heads import Heads

SETTINGS_WT_MAX_SESSIONS_SAFARI = 0x14E9CD29
"""WT_MAX_SESSIONS of later drafts: Safari 26.4 opens no session without it."""
SETTINGS_WT_ENABLED_SAFARI = 0x2C7CF000
"""Goes with it. ``0xc671706a`` must not be announced: Chromium would pick a draft we do not speak."""


class ExcessiveLoad(ProtocolError):
    """The peer makes HTTP/3 hold more than it is allowed to."""

    error_code = ErrorCode.H3_EXCESSIVE_LOAD


class Http3(H3Connection):
    """HTTP/3 on a connection of ours, either side. ``heads``: a server's known header sections."""

    def __init__(self, quic: Connection, heads: Heads | None = None) -> None:
        self._heads = heads
        super().__init__(quic, enable_webtransport=True)
        self._decoder = pylsqpack.Decoder(0, 0)

    def _get_local_settings(self) -> dict[int, int]:
        settings = super()._get_local_settings()
        settings[Setting.QPACK_MAX_TABLE_CAPACITY] = 0
        settings[Setting.QPACK_BLOCKED_STREAMS] = 0
        settings[SETTINGS_WT_MAX_SESSIONS_SAFARI] = limits.WT_SESSIONS_PER_CONNECTION_MAX
        settings[SETTINGS_WT_ENABLED_SAFARI] = 1
        return settings

    def _handle_control_frame(self, frame_type: int, frame_data: bytes) -> None:
        super()._handle_control_frame(frame_type, frame_data)
        if frame_type == FrameType.SETTINGS:
            self._encoder.apply_settings(max_table_capacity=0, blocked_streams=0)

    # -- short ways -----------------------------------------------------------------------

    def _receive_stream_data(self, event: StreamDataReceived) -> list[H3Event]:
        """Two kinds of stream data are most of it: more of a DATA frame, and a request that is a header
        section alone. aioquic takes the others."""
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
        frame = self._heads.frame(key)
        if frame is None:
            frame = encode_frame(FrameType.HEADERS, self._encode_headers(stream_id, headers))
            self._heads.know_frame(key, frame)
        return frame

    # -- bounds ---------------------------------------------------------------------------

    def _check_request_or_push_frame_type(self, frame_type: int, stream: H3Stream) -> None:
        super()._check_request_or_push_frame_type(frame_type, stream)
        if frame_type != FrameType.DATA and frame_type != FrameType.WEBTRANSPORT_STREAM:
            size = stream.frame_size or 0
            if frame_type == FrameType.HEADERS and size > limits.H3_HEADER_BYTES_MAX:
                raise ExcessiveLoad(f"header section of {size} bytes, at most {limits.H3_HEADER_BYTES_MAX}")

    def _receive_stream_data_uni(self, stream: H3Stream, data: bytes, stream_ended: bool) -> list[H3Event]:
        events = super()._receive_stream_data_uni(stream, data, stream_ended)
        self._check_buffered(stream)
        return events

    def _receive_request_or_push_data(
        self, stream: H3Stream, data: bytes, stream_ended: bool
    ) -> list[H3Event]:
        events = super()._receive_request_or_push_data(stream, data, stream_ended)
        self._check_buffered(stream)
        return events

    def _check_buffered(self, stream: H3Stream) -> None:
        if len(stream.buffer) > limits.H3_BUFFER_BYTES_MAX:
            raise ExcessiveLoad(f"{len(stream.buffer)} bytes of an incomplete frame")

    def _encode_headers(self, stream_id: int, headers: Headers) -> bytes:
        """Without a dynamic table there is nothing to tell the peer's decoder."""
        return bytes(self._encoder.encode(stream_id, headers)[1])

    def _decode_headers(self, stream_id: int, frame_data: bytes | None) -> Headers:
        try:
            headers: Headers = self._decoder.feed_header(stream_id, frame_data or b"")[1]
        except pylsqpack.DecompressionFailed as exc:
            raise QpackDecompressionFailed from exc
        size = sum(len(name) + len(value) + 32 for name, value in headers)
        if size > 4 * limits.H3_HEADER_BYTES_MAX:
            raise ExcessiveLoad(f"header list of {size} bytes, at most {4 * limits.H3_HEADER_BYTES_MAX}")
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

    def is_request_of_peer(self, stream_id: int) -> bool:
        """Whether the peer began this request stream."""
        return stream_is_client_initiated(stream_id) != self._is_client
