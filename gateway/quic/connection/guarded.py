"""What a peer may make a connection hold and do, whatever it sends, and rules that aioquic leaves out. Room: quic.

Work for a packet is bounded by its own bytes, not by what came before. Sources: RFC 9000 sections 7.4, 7.5, 13.1,
18, 19.15 and 21.
"""

from __future__ import annotations

from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer, BufferReadError
from aioquic.quic.connection import EPOCHS, QuicConnection, QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.stream import QuicStream

from gateway import limits
from gateway.quic.connection import partial
from gateway.quic.connection.ranges import bound_stream


class Guarded(QuicConnection):
    """aioquic's connection with these bounds and rules."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        handlers: Any = self._QuicConnection__frame_handlers  # type: ignore[attr-defined]
        handlers[partial.RESET_STREAM_AT] = (self._handle_reset_stream_at_frame, EPOCHS("01"))

    def close_for(self, error: QuicConnectionError) -> None:
        """Close the connection with what the peer did."""
        self.close(
            error_code=error.error_code, frame_type=error.frame_type, reason_phrase=error.reason_phrase
        )

    # -- pieces of streams ----------------------------------------------------------------

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        opened = self._stream_limit(stream_id).used
        stream = super()._get_or_create_stream(frame_type, stream_id)
        for new_id in range(opened * 4 + stream_id % 4, stream_id + 4, 4):
            new = self._streams.get(new_id)
            if new is not None and (new_id & 1) == self._is_client:
                bound_stream(new)
        return stream

    def _get_or_create_stream_for_send(self, stream_id: int) -> QuicStream:
        is_new = stream_id not in self._streams
        stream = super()._get_or_create_stream_for_send(stream_id)
        if is_new:
            bound_stream(stream)
        return stream

    # -- the handshake --------------------------------------------------------------------

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        for stream in self._crypto_streams.values():
            bound_stream(stream, crypto=True)

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        """TLS messages are as long as TLS expects them to be, in all: what claims more is not kept (section 7.5)."""
        at = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(at)
        side = limits.QUIC_CLIENT_CRYPTO_BYTES_MAX if self._is_client else limits.QUIC_CRYPTO_BYTES_MAX
        bytes_max = side[_EPOCHS.index(context.epoch)]
        if end > bytes_max:
            raise QuicConnectionError(
                error_code=QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
                frame_type=frame_type,
                reason_phrase=f"TLS messages up to byte {end}, at most {bytes_max} are expected",
            )
        super()._handle_crypto_frame(context, frame_type, buf)

    # -- transport parameters -------------------------------------------------------------

    def _serialize_transport_parameters(self) -> bytes:
        return super()._serialize_transport_parameters() + partial.ANNOUNCED

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        if not from_session_ticket and _says_twice(data):
            raise QuicConnectionError(
                error_code=QuicErrorCode.TRANSPORT_PARAMETER_ERROR,
                frame_type=QuicFrameType.CRYPTO,
                reason_phrase="a transport parameter is there twice",
            )
        super()._parse_transport_parameters(data, from_session_ticket)

    def _handle_reset_stream_at_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        partial.handle(self, context, frame_type, buf)

    # -- acknowledgements -----------------------------------------------------------------

    def _handle_ack_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        at = buf.tell()
        largest = buf.pull_uint_var()
        buf.seek(at)
        if largest >= self._packet_number:
            raise never_sent(largest)
        super()._handle_ack_frame(context, frame_type, buf)

    # -- connection IDs -------------------------------------------------------------------

    def _handle_new_connection_id_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        super()._handle_new_connection_id_frame(context, frame_type, buf)
        known: set[int] = self._peer_cid_sequence_numbers
        if len(known) > limits.QUIC_SEQUENCE_NUMBERS_MAX:
            newest = sorted(known)[-limits.QUIC_SEQUENCE_NUMBERS_MAX // 2 :]
            self._peer_cid_sequence_numbers = set(newest)


def never_sent(number: int) -> QuicConnectionError:
    """Whoever acknowledges a packet that was never sent guesses (RFC 9000 sections 13.1 and 21.4)."""
    return QuicConnectionError(
        error_code=QuicErrorCode.PROTOCOL_VIOLATION,
        frame_type=QuicFrameType.ACK,
        reason_phrase=f"packet {number} was never sent",
    )


def _says_twice(parameters: bytes) -> bool:
    """Whether one of them is there twice (section 7.4). What cannot be read is for aioquic to refuse."""
    buf, seen = Buffer(data=parameters), set()
    try:
        while not buf.eof():
            number = buf.pull_uint_var()
            if number in seen:
                return True
            seen.add(number)
            buf.pull_bytes(buf.pull_uint_var())
    except BufferReadError:
        pass
    return False


_EPOCHS: Any = (tls.Epoch.INITIAL, tls.Epoch.HANDSHAKE, tls.Epoch.ONE_RTT)
