"""A packet that is one ACK and nothing else, built in one go. Room: quic.

What a publisher that hears nothing back is sent all day. Its integers have fixed lengths, which RFC 9000
section 16 allows, so that they are written in one call. Whatever else there is to send, or to doubt,
goes the way of :mod:`gateway.quic.connection.fastsend`.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from gateway.quic.connection.fastsend import ACKS_BETWEEN_PINGS, SHORT_RANGES_MAX
from gateway.quic.connection.shortpacket import encode_ack

_ACK: Final = struct.Struct(">BIIBH")
"""Type, largest and delay of four bytes, no further ranges, the range's length of two."""
_FOUR: Final = 0x8000_0000
_TWO: Final = 0x4000


def _one_range(block: range, delay: int) -> bytes:
    largest = block.stop - 1
    if largest >= 1 << 30 or len(block) > 1 << 14 or not 0 <= delay < 1 << 30:
        return encode_ack([block], max(0, delay))
    return _ACK.pack(0x02, _FOUR | largest, _FOUR | delay, 0, _TWO | largest - block.start)


def ack_alone(quic: Any, now: float) -> bytes | None:
    """The packet for an ACK that is due, to go to ``_network_paths[0].addr``, accounted for as sent; empty: none
    is due any more. None: let ``fast_packets`` see to it. ``quic``: a ``FastSending``."""
    space = quic._space
    if (
        space is None
        or quic._stock_due
        or quic._stock_doubt
        or quic._stream_due
        or quic._queue
        or quic._packet_number >= quic._renew_at
        or quic._acks_alone + 1 >= ACKS_BETWEEN_PINGS
    ):
        return None
    if space.ack_at is None or space.ack_at > now:
        return b""
    ranges = space.ack_queue._RangeSet__ranges
    if len(ranges) > SHORT_RANGES_MAX:
        return None
    delay = int((now - (space.largest_received_time or now)) * 1_000_000) >> quic._local_ack_delay_exponent
    plain = _one_range(ranges[0], delay) if len(ranges) == 1 else encode_ack(ranges, max(0, delay))

    packet: bytes = quic._sealed((plain,))
    quic.packets_fast += 1
    quic._network_paths[0].bytes_sent += len(packet)
    quic._acks_alone += 1
    quic._ack_wanted = 0
    space.ack_at = None
    return packet
