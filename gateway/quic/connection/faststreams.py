"""Stream data in packets that the fast path builds: small answers go out with what is queued. Room: quic.

aioquic's ``QuicStream`` stays the owner of what is pending, in flight and acknowledged; here its
frames are only written (RFC 9000 section 19.8). Resets, limits and the rest are aioquic's.
"""

from __future__ import annotations

from typing import Any

from aioquic import tls
from aioquic.buffer import encode_uint_var, size_uint_var
from aioquic.quic.connection import stream_is_client_initiated
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicSentPacket

FRAME_BYTES_MIN = 40
"""Less room in a packet is left empty rather than cut a frame for it."""

Handlers = list[tuple[Any, tuple[Any, ...]]]


def write_frames(quic: Any, room: int) -> tuple[bytes, Handlers]:
    """STREAM frames of what is pending, at most ``room`` bytes, and what to call about their fate."""
    frames: list[bytes] = []
    handlers: Handlers = []
    served = []
    for stream in quic._streams_queue:
        sender = stream.sender
        if sender.buffer_is_empty or stream.is_blocked or sender.reset_pending:
            continue
        if room < FRAME_BYTES_MIN:
            break
        credit = quic._remote_max_data - quic._remote_max_data_used
        highest = sender.highest_offset
        overhead = 3 + size_uint_var(stream.stream_id) + size_uint_var(sender.next_offset)
        frame = sender.get_frame(room - overhead, min(highest + credit, stream.max_stream_data_remote))
        if frame is None:
            continue
        size = len(frame.data)
        head = (
            bytes((0x0E | frame.fin,))
            + encode_uint_var(stream.stream_id)
            + encode_uint_var(frame.offset)
            + (0x4000 | size).to_bytes(2, "big")
        )
        frames += (head, frame.data)
        room -= len(head) + size
        handlers.append((sender.on_data_delivery, (frame.offset, frame.offset + size, frame.fin)))
        quic._remote_max_data_used += sender.highest_offset - highest
        served.append(stream)
    if served:
        queue = quic._streams_queue
        for stream in served:
            queue.remove(stream)
        queue.extend(served)
    return b"".join(frames), handlers


def sent_packet(number: int, size: int, now: float, handlers: Handlers) -> QuicSentPacket:
    """A packet with stream data, as aioquic's recovery knows it."""
    return QuicSentPacket(
        epoch=tls.Epoch.ONE_RTT,
        in_flight=True,
        is_ack_eliciting=True,
        is_crypto_packet=False,
        packet_number=number,
        packet_type=QuicPacketType.ONE_RTT,
        sent_time=now,
        sent_bytes=size,
        delivery_handlers=handlers,
    )


def look_over(quic: Any) -> tuple[bool, bool]:
    """Discard finished streams (as ``_write_application`` does). Answers whether any stream needs
    aioquic (a reset, a limit to raise, STOP_SENDING), and whether any has data to send."""
    needs_stock = has_data = False
    window = quic._configuration.max_stream_data
    finished = []
    for stream in quic._streams_queue:
        sender, receiver = stream.sender, stream.receiver
        if sender.is_finished and receiver.is_finished:
            finished.append(stream)
            continue
        if sender.reset_pending or receiver.stop_pending:
            needs_stock = True
        elif not sender.buffer_is_empty and not stream.is_blocked:
            has_data = True
        local = stream.max_stream_data_local
        if (
            local
            and not receiver.is_finished
            and (
                stream.max_stream_data_local_sent != local
                or receiver._buffer_start + window - local >= window // 2
            )
        ):
            needs_stock = True
    for stream in finished:
        quic._streams_queue.remove(stream)
        quic._streams.pop(stream.stream_id)
        if stream_is_client_initiated(stream.stream_id) != quic._is_client:
            quic._stream_limit(stream.stream_id).value += 1
    return needs_stock, has_data


def limits_due(quic: Any) -> bool:
    """Whether MAX_DATA or MAX_STREAMS is to be sent (see ``Connection._write_connection_limits``)."""
    data = quic._local_max_data
    if data.value != data.sent or data.value - data.used < quic._configuration.max_data // 2:
        return True
    for limit in (quic._local_max_streams_bidi, quic._local_max_streams_uni):
        if limit.value != limit.sent and limit.sent - limit.used < limit.value - limit.sent:
            return True
    return False
