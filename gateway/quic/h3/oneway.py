"""The peer's one-way streams: control, QPACK's, a session's, and those that are not known. Room: quic. Pure.

Sources: RFC 9114 section 6.2; RFC 9204 section 4.2; draft-ietf-webtrans-http3-16 section 4.2.
"""

from __future__ import annotations

from typing import Final

import pylsqpack

from gateway.quic.connection.packets import varint
from gateway.quic.h3 import codes
from gateway.quic.h3.codes import ErrorCode, H3Error
from gateway.quic.h3.control import ControlStream
from gateway.quic.h3.told import H3Event, WebTransportStreamDataReceived

CRITICAL: Final = frozenset((codes.CONTROL, codes.QPACK_ENCODER, codes.QPACK_DECODER))


class _Stream:
    """``kind``: what it turned out to be. ``session_id``: whose stream it is. ``head``: what is not read of either yet."""

    __slots__ = ("head", "kind", "session_id")

    def __init__(self) -> None:
        self.kind: int | None = None
        self.session_id: int | None = None
        self.head = b""


class OneWayStreams:
    """``is_client``: we are. ``encoder``, ``decoder``: ours of field sections. ``control``: what the peer says on its control
    stream."""

    __slots__ = ("_decoder", "_encoder", "_is_client", "_open", "_seen", "control")

    def __init__(self, is_client: bool, encoder: pylsqpack.Encoder, decoder: pylsqpack.Decoder) -> None:
        self._is_client, self._encoder, self._decoder = is_client, encoder, decoder
        self._open: dict[int, _Stream] = {}
        self._seen: set[int] = set()
        self.control = ControlStream(is_client=is_client)

    def receive(self, number: int, data: bytes, ended: bool) -> list[H3Event]:
        """More of a stream. Raises :class:`H3Error`. RFC 9114 section 6.2."""
        stream = self._open.get(number)
        if stream is None:
            stream = self._open[number] = _Stream()
        if stream.kind is None:
            data = self._begin(stream, data)
        kind = stream.kind
        told: list[H3Event] = []
        if kind == codes.WEBTRANSPORT_UNI:
            told = self._of_session(number, stream, data, ended)
        elif kind in CRITICAL:
            if ended:
                raise H3Error(ErrorCode.H3_CLOSED_CRITICAL_STREAM, "a critical stream must not end")
            if data:
                self._take_critical(kind, data)
        if ended:
            del self._open[number]
        return told

    def drop(self, number: int) -> None:
        """The peer reset a stream. Raises :class:`H3Error`. RFC 9114 section 6.2.1."""
        stream = self._open.pop(number, None)
        if stream is not None and stream.kind in CRITICAL:
            raise H3Error(ErrorCode.H3_CLOSED_CRITICAL_STREAM, "a critical stream must not be reset")

    def _begin(self, stream: _Stream, data: bytes) -> bytes:
        """Read what the stream is, if it is there; answers what comes behind. Raises :class:`H3Error`."""
        data = stream.head + data
        try:
            kind, at = varint(data, 0)
        except IndexError:
            stream.head = data
            return b""
        # We never send MAX_PUSH_ID, so no push has a number that was allowed.
        if kind == codes.PUSH:
            code = ErrorCode.H3_ID_ERROR if self._is_client else ErrorCode.H3_STREAM_CREATION_ERROR
            raise H3Error(code, "a push stream that nobody allowed")
        if kind in CRITICAL:
            # One of each (RFC 9114 section 6.2.1, RFC 9204 section 4.2), also after the first has gone.
            if kind in self._seen:
                raise H3Error(ErrorCode.H3_STREAM_CREATION_ERROR, f"a second stream of type {kind}")
            self._seen.add(kind)
        stream.kind, stream.head = kind, b""
        return data[at:]

    def _of_session(self, number: int, stream: _Stream, data: bytes, ended: bool) -> list[H3Event]:
        session = stream.session_id
        if session is None:
            data = stream.head + data
            try:
                session, at = varint(data, 0)
            except IndexError:
                stream.head = data
                return []
            if session % 4:
                raise H3Error(ErrorCode.H3_ID_ERROR, "a session is a request of the client")
            stream.session_id, stream.head, data = session, b"", data[at:]
        if not data and not ended:
            return []
        return [WebTransportStreamDataReceived(data, number, ended, session)]

    def _take_critical(self, kind: int | None, data: bytes) -> None:
        if kind == codes.CONTROL:
            self.control.receive(data)
            return
        try:
            if kind == codes.QPACK_ENCODER:
                # Nothing sound can come: with a capacity of 0 every instruction but "capacity 0" is an error,
                # which pylsqpack tells.
                self._decoder.feed_encoder(data)
            else:
                self._encoder.feed_decoder(data)
        except pylsqpack.EncoderStreamError as exc:
            raise H3Error(
                ErrorCode.QPACK_ENCODER_STREAM_ERROR, "an instruction for a table that is off"
            ) from exc
        except pylsqpack.DecoderStreamError as exc:
            raise H3Error(ErrorCode.QPACK_DECODER_STREAM_ERROR, "a report on a table that is off") from exc
