"""HTTP/3 on a connection of ours, either side: who is given what comes on its streams, and what goes out. Room: quic.

Framing is ours and QPACK is pylsqpack's, whose dynamic table is off in both directions: it saves bytes that games do not
count, costs packets on two more streams, and lets a small request unpack into a large one. So nothing is ever said on either
QPACK stream, and no field section waits for another. The drafts of WebTransport that clients speak are announced side by side
(``docs/CLIENTS.md``). Sources: RFC 9114 sections 4 and 6; RFC 9204 sections 2.2.2.2 and 4.2.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.quic.events import QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset

from gateway import limits
from gateway.quic.connection import Connection
from gateway.quic.h3 import codes
from gateway.quic.h3.codes import ErrorCode, FieldsTooLarge, H3Error, MessageError
from gateway.quic.h3.fields import has_date, is_only_malformed
from gateway.quic.h3.heads import Heads
from gateway.quic.h3.messages import ALL, HEAD, NOTHING, ExchangeStream
from gateway.quic.h3.oneway import OneWayStreams
from gateway.quic.h3.told import H3Event, Headers, HeadersReceived, MessageRefused

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
SETTINGS: Final = {
    codes.QPACK_MAX_TABLE_CAPACITY: 0,
    codes.QPACK_BLOCKED_STREAMS: 0,
    codes.MAX_FIELD_SECTION_SIZE: limits.H3_HEADER_BYTES_MAX,
    codes.ENABLE_CONNECT_PROTOCOL: 1,
    codes.GREASE: 1,
    codes.H3_DATAGRAM: 1,
    codes.ENABLE_WEBTRANSPORT: 1,
    WT_MAX_SESSIONS: limits.WT_SESSIONS_PER_CONNECTION_MAX,
    WT_ENABLED: 1,
    **WT_UNBOUNDED,
}
"""What is announced, by either side. No push is ever allowed: MAX_PUSH_ID is not sent."""


def frame(kind: int, content: bytes) -> bytes:
    """A frame (RFC 9114 section 7.1)."""
    return encode_uint_var(kind) + encode_uint_var(len(content)) + content


class Http3:
    """``heads``: a server's known header sections."""

    __slots__ = (
        "_control_stream",
        "_critical",
        "_decoder",
        "_encoder",
        "_heads",
        "_is_client",
        "_is_over",
        "_messages",
        "_one_way",
        "_quic",
        "_refused",
    )

    def __init__(self, quic: Connection, heads: Heads | None = None) -> None:
        self._quic, self._heads = quic, heads
        self._is_client = quic.is_client
        self._is_over = False
        self._encoder = pylsqpack.Encoder()
        # Whatever the peer announces: a section coded alike on every connection can be looked up
        # (gateway.quic.h3.heads).
        self._encoder.apply_settings(max_table_capacity=0, blocked_streams=0)
        self._decoder = pylsqpack.Decoder(0, 0)
        self._messages: dict[int, ExchangeStream] = {}
        self._refused: set[int] = set()
        self._one_way = OneWayStreams(self._is_client, self._encoder, self._decoder)
        self._control_stream = self._open(_opening(tuple(self.settings().items())))
        self._critical = (
            self._control_stream,
            self._open(bytes((codes.QPACK_ENCODER,))),
            self._open(bytes((codes.QPACK_DECODER,))),
        )

    def settings(self) -> dict[int, int]:
        """What this announces. RFC 9114 section 7.2.4."""
        return SETTINGS

    def _open(self, first: bytes) -> int:
        number = self._quic.get_next_available_stream_id(is_unidirectional=True)
        self._quic.send_stream_data(number, first)
        return number

    # -- the peer's settings --------------------------------------------------------------

    @property
    def received_settings(self) -> dict[int, int] | None:
        """The peer's settings; None: they are not there yet. RFC 9114 section 7.2.4."""
        return self._one_way.control.settings

    def session_limits(self) -> tuple[int, int] | None:
        """How many one-way streams, and bytes on streams, a session may begin with by the peer's own flow control of
        sessions; None: the peer has none."""
        settings = self.received_settings or {}
        if not any(settings.get(number) for number in WT_UNBOUNDED):
            return None
        return settings.get(WT_INITIAL_MAX_STREAMS_UNI, 0), settings.get(WT_INITIAL_MAX_DATA, 0)

    # -- what comes -----------------------------------------------------------------------

    def handle_event(self, event: QuicEvent) -> list[H3Event]:
        """What the peer did to a stream. A rule that it broke ends the connection."""
        if self._is_over:
            return []
        try:
            if isinstance(event, StreamDataReceived):
                if event.stream_id & 2:
                    return self._take_one_way(event.stream_id, event.data, event.end_stream)
                return self._take_message(event.stream_id, event.data, event.end_stream)
            if isinstance(event, StreamReset):
                self._take_reset(event.stream_id)
            elif isinstance(event, StopSendingReceived):
                self._take_stop(event.stream_id)
        except H3Error as error:
            self._is_over = True
            self._quic.close(error_code=error.code, reason_phrase=error.reason)
        return []

    def _take_one_way(self, number: int, data: bytes, ended: bool) -> list[H3Event]:
        had_settings = self._one_way.control.settings is not None
        told = self._one_way.receive(number, data, ended)
        if not had_settings and self.received_settings is not None:
            self._check_datagrams(self.received_settings)
        return told

    def _check_datagrams(self, settings: dict[int, int]) -> None:
        if settings.get(codes.H3_DATAGRAM) and not self._quic.datagram_bytes_max():
            # RFC 9297 section 2.1.1.
            raise H3Error(ErrorCode.H3_SETTINGS_ERROR, "H3_DATAGRAM without datagrams in QUIC")

    def _take_message(self, number: int, data: bytes, ended: bool) -> list[H3Event]:
        if number in self._refused:
            if ended:
                self._refused.discard(number)
            return []
        stream = self._messages.get(number)
        if stream is None:
            stream = self._messages[number] = ExchangeStream(number, is_client=self._is_client)
            if ended and self._heads is not None:
                return self._take_whole_request(stream, data, self._heads)
        return self._take_more(stream, data, ended)

    def _take_whole_request(self, stream: ExchangeStream, data: bytes, heads: Heads) -> list[H3Event]:
        """A request that came at once. What was sound once on its own is sound again."""
        known = heads.request(data)
        if known is not None:
            stream.receiving_ended, stream.came = True, HEAD
            return [HeadersReceived(known, stream.number, True)]
        told = self._take_more(stream, data, ended=True)
        if len(told) == 1 and isinstance(told[0], HeadersReceived) and told[0].stream_ended:
            told[0].headers = heads.know_request(data, told[0].headers)
        return told

    def _take_more(self, stream: ExchangeStream, data: bytes, ended: bool) -> list[H3Event]:
        try:
            told = stream.receive(data, ended, self._decode)
        except MessageError as error:
            return [self._refuse(stream, error)]
        if ended:
            # It ended without a request: nobody would ever answer it, so it is answered here.
            if stream.came == NOTHING and stream.session_id is None:
                self._abort(stream.number)
                stream.sending_ended = True
            self._drop_if_over(stream)
        return told

    def _refuse(self, stream: ExchangeStream, error: MessageError) -> MessageRefused:
        """One message is not sound: no more is read of its stream. What was asked for can be refused by 431; all
        else is answered by a reset, for whoever sends it is no client of HTTP."""
        number = stream.number
        if not stream.receiving_ended:
            self._refused.add(number)
        stream.forget_rest()
        too_large = isinstance(error, FieldsTooLarge) and stream.came == NOTHING and not self._is_client
        if not too_large:
            stream.sending_ended = True
            self._quic.abandon_receiving(number, ErrorCode.H3_MESSAGE_ERROR)
            if not self._quic.streams.send_is_over(number):
                self._quic.reset_stream(number, ErrorCode.H3_MESSAGE_ERROR)
        self._drop_if_over(stream)
        return MessageRefused(number, error.reason, too_large)

    def _abort(self, number: int) -> None:
        """A request ended before the application saw it, so that nobody would answer (RFC 9114 section 4.1)."""
        if not self._quic.streams.send_is_over(number):
            self._quic.reset_stream(number, ErrorCode.H3_REQUEST_INCOMPLETE)

    def _take_reset(self, number: int) -> None:
        """The peer gave up sending. Of a refused one, whose reset was asked for, the refusal still goes out."""
        if number & 2:
            self._one_way.drop(number)
            return
        if number in self._refused:
            self._refused.discard(number)
            self.forget(number)
            return
        stream = self._messages.get(number)
        is_unseen = stream is None or (stream.came == NOTHING and stream.session_id is None)
        if is_unseen and not self._is_client:
            self._abort(number)
        if stream is not None:
            stream.forget_rest()
            stream.sending_ended = stream.sending_ended or (is_unseen and not self._is_client)
            self._drop_if_over(stream)

    def _take_stop(self, number: int) -> None:
        """The peer wants no more of a stream, which the connection has reset."""
        if number in self._critical:
            raise H3Error(ErrorCode.H3_CLOSED_CRITICAL_STREAM, "a critical stream must not be stopped")
        self.forget(number)

    def _decode(self, number: int, section: bytes) -> Headers:
        try:
            headers: Headers = self._decoder.feed_header(number, section)[1]
        except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked) as exc:
            if is_only_malformed(section):
                raise MessageError("an empty field section, or a field without a name") from exc
            raise H3Error(
                ErrorCode.QPACK_DECOMPRESSION_FAILED, "a field section that cannot be decoded"
            ) from exc
        # With 32 bytes for each field, as both sides count (RFC 9114 section 4.2.2): many empty fields are bounded,
        # too.
        size = sum([len(name) + len(value) + 32 for name, value in headers])
        if size > limits.H3_HEADER_BYTES_MAX:
            raise FieldsTooLarge(size, limits.H3_HEADER_BYTES_MAX)
        return headers

    # -- what goes ------------------------------------------------------------------------

    def send_headers(self, number: int, headers: Headers, end_stream: bool = False) -> None:
        """A field section: a request's on a new stream, a response's, an interim one's, or trailers. Raises
        ``RuntimeError`` where none can be. RFC 9114 section 4.1."""
        stream = self._messages.get(number)
        if stream is None:
            stream = self._messages[number] = ExchangeStream(number, is_client=self._is_client)
            stream.is_bodiless = headers[:1] == [(b":method", b"HEAD")]
        if stream.sending_ended or stream.said == ALL:
            raise RuntimeError("this stream takes no field section")
        is_interim = stream.said == NOTHING and headers[0][0] == b":status" and headers[0][1][:1] == b"1"
        content = frame(codes.HEADERS, self._section(number, headers))
        if not is_interim:
            stream.said += 1
        self._send(stream, content, end_stream)

    def send_data(self, number: int, data: bytes, end_stream: bool) -> None:
        """Content behind a field section. Raises ``RuntimeError`` where none can be. RFC 9114 section 7.2.1."""
        stream = self._messages.get(number)
        if stream is None or stream.said != HEAD or stream.sending_ended:
            raise RuntimeError("this stream takes no content")
        # The type of DATA, 0, as the one byte that it is; the frame and its content are one write.
        self._send(stream, b"\0" + encode_uint_var(len(data)) + data, end_stream)

    def respond(self, number: int, headers: Headers, body: bytes, *, end: bool) -> None:
        """Send a final response's header section with the first piece of its content, in one write."""
        stream = self._messages.get(number)
        if stream is None or stream.said != NOTHING or stream.sending_ended:
            raise RuntimeError("this stream waits for no response")
        content = self._response_frame(number, headers)
        stream.said = HEAD
        if body:
            content += b"\0" + encode_uint_var(len(body)) + body
        self._send(stream, content, end)

    def _send(self, stream: ExchangeStream, content: bytes, end: bool) -> None:
        self._quic.send_stream_data(stream.number, content, end)
        if end:
            stream.sending_ended = True
            self._drop_if_over(stream)

    def _response_frame(self, number: int, headers: Headers) -> bytes:
        if self._heads is None:
            return frame(codes.HEADERS, self._section(number, headers))
        key = tuple(headers)
        section = self._heads.section(key)
        if section is None:
            section = bytes(self._encoder.encode(number, headers)[1])
            self._heads.know_section(key, section)
        if not has_date(headers):
            section += self._heads.date.line()
        # The date is no part of what is remembered: with it no section would be known for longer than a second.
        return b"\x01" + encode_uint_var(len(section)) + section

    def _section(self, number: int, headers: Headers) -> bytes:
        """Without a dynamic table there is nothing to tell the peer's decoder."""
        section = bytes(self._encoder.encode(number, headers)[1])
        if self._heads is not None and headers and headers[0][0] == b":status" and not has_date(headers):
            section += self._heads.date.line()
        return section

    def create_webtransport_stream(self, session_id: int, is_unidirectional: bool = False) -> int:
        """Open a stream of a session; what is written on it behind this is the session's own."""
        quic = self._quic
        number: int = quic.get_next_available_stream_id(is_unidirectional=is_unidirectional)
        kind = codes.WEBTRANSPORT_UNI if is_unidirectional else codes.WEBTRANSPORT_STREAM
        quic.send_stream_data(number, encode_uint_var(kind) + encode_uint_var(session_id))
        if not is_unidirectional:
            stream = self._messages[number] = ExchangeStream(number, is_client=self._is_client)
            stream.session_id = session_id
        return number

    def go_away(self, number: int) -> None:
        """Announce that requests from ``number`` on will not be served (RFC 9114 section 5.2)."""
        self._quic.send_stream_data(self._control_stream, frame(codes.GOAWAY, encode_uint_var(number)))

    def forget(self, number: int) -> None:
        """Drop the state of a stream that was given up on our side."""
        stream = self._messages.get(number)
        if stream is not None:
            stream.sending_ended = True
            self._drop_if_over(stream)

    def _drop_if_over(self, stream: ExchangeStream) -> None:
        if stream.is_over:
            self._messages.pop(stream.number, None)


@cache
def _opening(settings: tuple[tuple[int, int], ...]) -> bytes:
    """How a control stream begins (RFC 9114 section 6.2.1)."""
    content = b"".join([encode_uint_var(part) for setting in settings for part in setting])
    return bytes((codes.CONTROL,)) + frame(codes.SETTINGS, content)
