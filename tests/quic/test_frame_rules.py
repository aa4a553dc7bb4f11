"""What no QUIC frame may say: each ends the connection with the error that its rule names. RFC 9000, sections as told."""

from __future__ import annotations

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicErrorCode

from gateway.quic.connection.sending import packet_of
from tests.quic.conftest import Identity
from tests.quic.pair import make_pair

MAX = (1 << 62) - 1
STREAM_COUNT_MAX = 1 << 60
PADDING = 20


def _frame(*numbers: int, tail: bytes = b"") -> bytes:
    return b"".join(map(encode_uint_var, numbers)) + tail


def _connection_id(sequence: int, retire_before: int, size: int) -> bytes:
    return _frame(0x18, sequence, retire_before, size, tail=bytes(size + 16))


FORBIDDEN: dict[str, tuple[bytes, set[QuicErrorCode]]] = {
    "a frame of a type that nobody knows [12.4]": (_frame(0x3F), {QuicErrorCode.FRAME_ENCODING_ERROR}),
    "ACK of a packet that was never sent [13.1]": (
        _frame(0x02, 900_000, 0, 0, 0),
        {QuicErrorCode.PROTOCOL_VIOLATION},
    ),
    "ACK of packets below zero [19.3.1]": (_frame(0x02, 3, 0, 0, 9), {QuicErrorCode.FRAME_ENCODING_ERROR}),
    "RESET_STREAM of the receiver's own one-way stream [19.4]": (
        _frame(0x04, 3, 1, 0),
        {QuicErrorCode.STREAM_STATE_ERROR},
    ),
    "STOP_SENDING of a stream that it only receives [19.5]": (
        _frame(0x05, 2, 1),
        {QuicErrorCode.STREAM_STATE_ERROR},
    ),
    "CRYPTO beyond what can be [19.6]": (
        _frame(0x06, MAX, 5, tail=b"xxxxx"),
        {QuicErrorCode.FRAME_ENCODING_ERROR, QuicErrorCode.CRYPTO_BUFFER_EXCEEDED},
    ),
    "CRYPTO far beyond what is kept [7.5]": (
        _frame(0x06, 100_000, 5, tail=b"xxxxx"),
        {QuicErrorCode.CRYPTO_BUFFER_EXCEEDED},
    ),
    "NEW_TOKEN from a client [19.7]": (_frame(0x07, 1, tail=b"x"), {QuicErrorCode.PROTOCOL_VIOLATION}),
    "STREAM of the receiver's own one-way stream [19.8]": (
        _frame(0x0A, 3, 1, tail=b"x"),
        {QuicErrorCode.STREAM_STATE_ERROR},
    ),
    "STREAM of a stream that its opener never opened [19.8]": (
        _frame(0x0A, 1, 1, tail=b"x"),
        {QuicErrorCode.STREAM_STATE_ERROR},
    ),
    "STREAM of a stream beyond the limit [4.6]": (
        _frame(0x0A, 400_000, 1, tail=b"x"),
        {QuicErrorCode.STREAM_LIMIT_ERROR},
    ),
    "STREAM beyond what can be [19.8]": (
        _frame(0x0E, 0, MAX, 1, tail=b"x"),
        {QuicErrorCode.FRAME_ENCODING_ERROR, QuicErrorCode.FLOW_CONTROL_ERROR},
    ),
    "STREAM beyond the window [4.1]": (
        _frame(0x0E, 0, 1 << 40, 1, tail=b"x"),
        {QuicErrorCode.FLOW_CONTROL_ERROR},
    ),
    "MAX_STREAM_DATA of a stream that it only receives [19.10]": (
        _frame(0x11, 2, 1),
        {QuicErrorCode.STREAM_STATE_ERROR},
    ),
    "MAX_STREAMS of more than can be, two-way [19.11]": (
        _frame(0x12, STREAM_COUNT_MAX + 1),
        {QuicErrorCode.FRAME_ENCODING_ERROR},
    ),
    "MAX_STREAMS of more than can be, one-way [19.11]": (
        _frame(0x13, STREAM_COUNT_MAX + 1),
        {QuicErrorCode.FRAME_ENCODING_ERROR},
    ),
    "STREAM_DATA_BLOCKED of the receiver's own one-way stream [19.13]": (
        _frame(0x15, 3, 0),
        {QuicErrorCode.STREAM_STATE_ERROR},
    ),
    "STREAMS_BLOCKED at more than can be [19.14]": (
        _frame(0x16, STREAM_COUNT_MAX + 1),
        {QuicErrorCode.FRAME_ENCODING_ERROR, QuicErrorCode.STREAM_LIMIT_ERROR},
    ),
    "NEW_CONNECTION_ID of no byte [19.15]": (_connection_id(9, 0, 0), {QuicErrorCode.FRAME_ENCODING_ERROR}),
    "NEW_CONNECTION_ID of 21 bytes [19.15]": (_connection_id(9, 0, 21), {QuicErrorCode.FRAME_ENCODING_ERROR}),
    "NEW_CONNECTION_ID that retires itself [19.15]": (
        _connection_id(9, 10, 8),
        {QuicErrorCode.FRAME_ENCODING_ERROR},
    ),
    "RETIRE_CONNECTION_ID of one that was never given [19.16]": (
        _frame(0x19, 999),
        {QuicErrorCode.PROTOCOL_VIOLATION},
    ),
    "HANDSHAKE_DONE from a client [19.20]": (_frame(0x1E), {QuicErrorCode.PROTOCOL_VIOLATION}),
    "a frame that is cut short [12.4]": (_frame(0x11, 0), {QuicErrorCode.FRAME_ENCODING_ERROR}),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_frame_that_may_not_be_ends_the_connection_with_its_error(identity: Identity, name: str) -> None:
    content, codes = FORBIDDEN[name]
    pair = make_pair(identity)
    pair.connect()
    pair.run_for(0.5)
    pair.give(pair.server.quic, packet_of(pair.client.quic, bytes(PADDING) + content), pair.client.addr)
    event = pair.server.quic.close_event
    assert event is not None
    assert event.error_code in codes
