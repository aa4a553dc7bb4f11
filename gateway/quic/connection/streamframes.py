"""Packets that bring stream data: their frames read in line. Room: quic.

ACK and STREAM frames at the front of a packet are taken here, one after another as aioquic would;
what comes after them, and whatever is doubtful about one of them (a bound overstepped, a stream that
is over), is left to aioquic's own handlers. Source: RFC 9000
sections 19.3 and 19.8.
"""

from __future__ import annotations

from typing import Any

from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicStreamFrame

from gateway.quic.connection.shortpacket import Ranges, parse_ack, varint


def read_ack(plain: bytes) -> tuple[Ranges, int, int] | None:
    """The ACK frame at the front: ranges, encoded delay, where it ends. None: there is none that is sound."""
    if plain[0] != 0x02:
        return None
    try:
        ranges, delay, at = parse_ack(plain, 1)
    except (IndexError, ValueError):
        return None
    return (ranges, delay, at) if at <= len(plain) else None


def take_stream_frames(quic: Any, plain: bytes, at: int) -> int:
    """Take STREAM frames from ``at`` on, and answer where the first frame begins that is not for here."""
    end = len(plain)
    streams, events = quic._streams, quic._events
    credit = quic._local_max_data
    unreadable = 2 if quic._is_client else 3
    while at < end:
        kind = plain[at]
        if kind & 0xF8 != 0x08:
            break
        try:
            stream_id, where = varint(plain, at + 1)
            offset = 0
            if kind & 4:
                offset, where = varint(plain, where)
            if kind & 2:
                length, where = varint(plain, where)
                stop = where + length
            else:
                stop = end
        except IndexError:
            break
        if stop > end:
            break
        stream = streams.get(stream_id) or _next_of_peer(quic, kind, stream_id)
        if stream is None or stream_id & 3 == unreadable:
            break
        data = plain[where:stop]
        reach = offset + len(data)
        receiver = stream.receiver
        fresh = reach - receiver.highest_offset
        if reach > stream.max_stream_data_local or credit.used + fresh > credit.value:
            break
        if receiver._final_size is not None or (kind & 1 and fresh < 0):
            break
        if kind & 1 or not data or receiver._buffer or offset != receiver._buffer_start:
            event = receiver.handle_frame(QuicStreamFrame(data, bool(kind & 1), offset))
            if event is not None:
                events.append(event)
        else:
            receiver._buffer_start = receiver.highest_offset = reach
            events.append(StreamDataReceived(data, False, stream_id))
        if fresh > 0:
            credit.used += fresh
        at = stop
    return at


def _next_of_peer(quic: Any, kind: int, stream_id: int) -> Any:
    """The stream that the peer opens with this frame, if it is the next one of its kind; else None."""
    limit = quic._local_max_streams_uni if stream_id & 2 else quic._local_max_streams_bidi
    if stream_id & 1 != quic._is_client or not limit.used == stream_id // 4 < limit.value:
        return None
    return quic._get_or_create_stream(kind, stream_id)
