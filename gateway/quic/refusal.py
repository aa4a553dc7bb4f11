"""Refusing a connection before any state is kept for it. Room: quic.
Sources: RFC 9000 sections 5.2.2 and 20.1 (CONNECTION_REFUSED)."""

from __future__ import annotations

from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.connection import TRANSPORT_CLOSE_FRAME_CAPACITY
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicHeader, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder

from gateway.limits import QUIC_REFUSAL_REASON_BYTES_MAX


def encode_refusal(header: QuicHeader, error_code: QuicErrorCode, reason: str = "") -> bytes:
    """An Initial packet that closes the connection which ``header`` asks for (RFC 9000 sections 5.2.2, 8.1.3).
    ``reason``: a bound's name, or a few words."""
    phrase = reason.encode()[:QUIC_REFUSAL_REASON_BYTES_MAX]
    version = header.version or 0
    crypto = CryptoPair()
    # Initial keys come of the connection ID that the client chose (RFC 9001 section 5.2), so no state is needed to
    # seal this.
    crypto.setup_initial(cid=header.destination_cid, is_client=False, version=version)
    builder = QuicPacketBuilder(
        host_cid=header.destination_cid,
        is_client=False,
        max_datagram_size=SMALLEST_MAX_DATAGRAM_SIZE,
        peer_cid=header.source_cid,
        version=version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    buf = builder.start_frame(
        QuicFrameType.TRANSPORT_CLOSE, capacity=TRANSPORT_CLOSE_FRAME_CAPACITY + len(phrase)
    )
    buf.push_uint_var(error_code)
    buf.push_uint_var(QuicFrameType.PADDING)
    buf.push_uint_var(len(phrase))
    buf.push_bytes(phrase)
    datagrams, _ = builder.flush()
    return datagrams[0]
