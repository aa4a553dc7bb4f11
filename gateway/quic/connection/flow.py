"""Streams whose windows open as the application consumes, not as bytes arrive. Room: quic."""

from __future__ import annotations

from typing import Any

from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
)
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from gateway import limits
from gateway.quic.connection.guarded import Guarded


class FlowControlled(Guarded):
    """aioquic's connection with bounds on what the application has not consumed, and questions about streams."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.held_bytes = 0
        self._held: dict[int, int] = {}

    @property
    def is_ended(self) -> bool:
        return self._state in END_STATES

    def idle_timeout_s(self) -> float:
        """Silence of so many seconds ends the connection: the smaller of what both ends said (RFC 9000 section 10.1)."""
        return float(self._idle_timeout())

    def silent_s(self, now: float) -> float:
        """For how long nothing came, nor went out that asks for an answer."""
        return 0.0 if self._close_at is None else now + self.idle_timeout_s() - self._close_at

    def hold(self, stream_id: int, size: int) -> None:
        """Note bytes that the application has been given but not consumed: windows stay shut for them."""
        self._held[stream_id] = self._held.get(stream_id, 0) + size
        self.held_bytes += size

    def release(self, stream_id: int, size: int) -> None:
        """Note that the application consumed ``size`` held bytes."""
        left = self._held.get(stream_id, 0) - size
        if left > 0:
            self._held[stream_id] = left
        else:
            self._held.pop(stream_id, None)
        self.held_bytes -= size

    def can_open_uni_stream(self) -> bool:
        """Whether the peer lets another unidirectional stream begin now."""
        return self._local_next_stream_id_uni // 4 < self._remote_max_streams_uni

    def is_within_limit(self, stream_id: int) -> bool:
        """Whether a client may have opened this two-way stream of its own."""
        opened = self._remote_max_streams_bidi if self._is_client else self._local_max_streams_bidi.value
        return stream_id // 4 < opened

    def unsent_bytes(self, stream_id: int) -> int:
        """Bytes of a stream that are not acknowledged yet; 0 once it is done or gone."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.sender.is_finished or stream.sender._reset_error_code is not None:
            return 0
        return stream.sender._buffer_stop - stream.sender._buffer_start

    def unsent_total(self) -> int:
        """Bytes of all streams that are not acknowledged yet."""
        return sum([self.unsent_bytes(stream_id) for stream_id in self._streams])

    def acked_total(self) -> int:
        """Bytes acknowledged on the streams that are open."""
        return sum([stream.sender._buffer_start for stream in self._streams.values()])

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """As aioquic's, and what was still to be sent is let go: nothing of it is sent again."""
        super().reset_stream(stream_id, error_code)
        stream = self._streams.get(stream_id)
        if stream is not None and stream.sender._reset_error_code is not None:
            stream.sender._buffer = bytearray()

    def send_buffer_bytes(self, writers: int) -> int:
        """How many unacknowledged bytes of one stream its writer need not wait for, when so many writers
        wait: two windows between them, so that the window can double in the next round trip."""
        wanted = min(2 * int(self._loss._cc.congestion_window), limits.H3_SEND_BUFFER_BYTES_MAX)
        return max(wanted // max(writers, 1), limits.H3_SEND_BUFFER_BYTES_MIN)

    def has_unsent(self) -> bool:
        """Whether any stream still has bytes that the peer has not acknowledged."""
        return any(self.unsent_bytes(stream_id) for stream_id in self._streams)

    def send_is_over(self, stream_id: int) -> bool:
        """True once all bytes and the end of our side were acknowledged, or it was reset."""
        stream = self._streams.get(stream_id)
        return stream is None or stream.sender.is_finished or stream.sender._reset_error_code is not None

    def can_send_on(self, stream_id: int) -> bool:
        """Whether ``send_stream_data`` may be called: not ended, not reset, not discarded."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return not self._stream_is_discarded(stream_id)
        sender = stream.sender
        return sender._buffer_fin is None and sender._reset_error_code is None and not sender.is_finished

    def abandon_receiving(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to stop sending on a stream, if it is still at it."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished and not self.is_ended:
            self.stop_stream(stream_id, error_code)

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        local = stream.max_stream_data_local
        if not local or stream.receiver.is_finished:
            return
        window = self._configuration.max_stream_data
        consumed = stream.receiver._buffer_start - self._held.get(stream.stream_id or 0, 0)
        if consumed + window - local >= window // 2:
            stream.max_stream_data_local = local = consumed + window
        if stream.max_stream_data_local_sent != local:
            buf = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buf.push_uint_var(stream.stream_id or 0)
            buf.push_uint_var(local)
            stream.max_stream_data_local_sent = local

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        data = self._local_max_data
        window = self._configuration.max_data
        if data.value - data.used < window // 2:
            consumed = data.used - self.held_bytes - self._out_of_order_bytes()
            data.value = max(data.value, consumed + window)
        for limit in (data, self._local_max_streams_bidi, self._local_max_streams_uni):
            if limit.value == limit.sent:
                continue
            if limit is not data and limit.sent and limit.sent - limit.used >= limit.value - limit.sent:
                continue
            buf = builder.start_frame(
                limit.frame_type,
                capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
                handler=self._on_connection_limit_delivery,
                handler_args=(limit,),
            )
            buf.push_uint_var(limit.value)
            limit.sent = limit.value

    def _out_of_order_bytes(self) -> int:
        return sum(
            stream.receiver.highest_offset - stream.receiver._buffer_start
            for stream in self._streams.values()
            if not stream.receiver.is_finished
        )
