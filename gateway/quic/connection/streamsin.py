"""What the peer says of streams: their data put in order, resets, and limits. Room: quic. Pure: no clock.

Sources: RFC 9000 sections 3, 4.1, 4.5 and 19.4 to 19.13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aioquic.quic.events import QuicEvent, StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicErrorCode

from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.flow import Allowance
from gateway.quic.connection.packets import varint
from gateway.quic.connection.recvhalf import RecvHalf
from gateway.quic.connection.streamtable import Stream, StreamTable

LARGEST_OFFSET: Final = (1 << 62) - 1


class StreamsIn:
    """``table``: the streams. ``data``: what the peer may send on all together. ``emit`` is given the events."""

    __slots__ = ("_by_number", "_data", "_queue", "_table", "emit")

    def __init__(self, table: StreamTable, data: Allowance, emit: Callable[[QuicEvent], None]) -> None:
        self._table, self._by_number, self._queue = table, table.by_number, table.queue
        self._data = data
        self.emit = emit

    def take_frame(self, kind: int, plain: bytes, at: int) -> int:
        """A STREAM frame of type ``kind`` whose content begins at ``at``; answers where it ends. Raises :class:`PeerFault`,
        and ``IndexError`` if it is cut short. What comes in order is most of it, and handed on from here.
        RFC 9000 section 19.8."""
        number, at = varint(plain, at)
        offset = 0
        if kind & 4:
            offset, at = varint(plain, at)
        stop = len(plain)
        if kind & 2:
            size, at = varint(plain, at)
            if at + size > stop:
                raise IndexError
            stop = at + size
        stream = self._by_number.get(number)
        if stream is not None and not kind & 1:
            recv, data = stream.recv, self._data
            reach = offset + stop - at
            if (
                # In order, no gap before it, no end known, and within both limits: then nothing of
                # RecvHalf.receive is left to do.
                offset == recv.taken == recv.highest
                and recv.final_size is None
                and offset < reach <= recv.limit
            ):
                used = data.used + reach - offset
                if used <= data.value:
                    data.used = used
                    recv.taken = recv.highest = reach
                    if number not in self._queue:
                        self._queue[number] = stream
                    self.emit(StreamDataReceived(plain[at:stop], False, number))
                    return stop
        if offset + stop - at > LARGEST_OFFSET:
            raise PeerFault(
                QuicErrorCode.FRAME_ENCODING_ERROR, kind, "offset + length cannot exceed 2^62 - 1"
            )
        self.take_data(kind, number, offset, plain[at:stop])
        return stop

    def take_data(self, kind: int, number: int, offset: int, data: bytes) -> None:
        """A STREAM frame of type ``kind``. Raises :class:`PeerFault`. RFC 9000 section 19.8."""
        if not self._table.can_receive(number):
            raise PeerFault(QuicErrorCode.STREAM_STATE_ERROR, kind, "Stream is send-only")
        stream = self._by_number.get(number) or self._table.of_frame(kind, number)
        if stream is None:
            return
        recv = stream.recv
        reach = offset + len(data)
        fresh = self._within(kind, recv, reach)
        try:
            piece = recv.receive(offset, data, is_end=bool(kind & 1))
        except PeerFault as fault:
            if fault.code == QuicErrorCode.FINAL_SIZE_ERROR:
                fault.frame_type = kind
            raise
        self._data.used += fresh
        self._table.touch(stream)
        self._table.note_gaps(stream)
        if piece is not None:
            self.emit(StreamDataReceived(piece[0], piece[1], number))
        if recv.reset_code is not None and recv.settles():
            self.emit(StreamReset(error_code=recv.reset_code, stream_id=number))

    def _within(self, frame_type: int, recv: RecvHalf, reach: int) -> int:
        """How many bytes are new to the connection's limit, if they are within both limits. Raises :class:`PeerFault`."""
        if reach > recv.limit:
            raise PeerFault(QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over stream data limit")
        fresh = max(0, reach - recv.highest)
        if self._data.used + fresh > self._data.value:
            raise PeerFault(QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over connection data limit")
        return fresh

    def take_reset(
        self, frame_type: int, number: int, code: int, final_size: int, reliable: int | None
    ) -> None:
        """RESET_STREAM, or RESET_STREAM_AT with the bytes that still come. Raises :class:`PeerFault`. RFC 9000 section 19.4."""
        if not self._table.can_receive(number):
            raise PeerFault(QuicErrorCode.STREAM_STATE_ERROR, frame_type, "Stream is send-only")
        stream = self._table.of_frame(frame_type, number)
        # It is over and forgotten: a repeated frame that was late, which is no error (RFC 9000 section 3.2).
        if stream is None:
            return
        recv = stream.recv
        fresh = self._within(frame_type, recv, final_size)
        if reliable is None:
            counts = recv.take_reset(code, final_size, frame_type)
        else:
            recv.take_partial_reset(code, final_size, reliable, frame_type)
            counts = recv.settles()
        self._data.used += fresh
        self._table.touch(stream)
        self._table.note_gaps(stream)
        if counts:
            self.emit(StreamReset(error_code=code, stream_id=number))

    def take_stop(self, frame_type: int, number: int, code: int) -> bool:
        """STOP_SENDING: the stream is reset with the peer's own code (section 3.5). Answers whether there is one. Raises
        :class:`PeerFault`."""
        stream = self._to_send(frame_type, number)
        if stream is None:
            return False
        stream.send.reset(code)
        self._table.touch(stream)
        return True

    def take_stream_limit(self, frame_type: int, number: int, limit: int) -> None:
        """MAX_STREAM_DATA. Raises :class:`PeerFault`. RFC 9000 section 19.10."""
        stream = self._to_send(frame_type, number)
        if stream is not None:
            stream.send.limit = max(stream.send.limit, limit)

    def _to_send(self, frame_type: int, number: int) -> Stream | None:
        if not self._table.can_send(number):
            raise PeerFault(QuicErrorCode.STREAM_STATE_ERROR, frame_type, "Stream is receive-only")
        return self._table.of_frame(frame_type, number)

    def take_blocked(self, frame_type: int, number: int) -> None:
        """STREAM_DATA_BLOCKED, which may open the stream. Raises :class:`PeerFault`. RFC 9000 section 19.13."""
        if not self._table.can_receive(number):
            raise PeerFault(QuicErrorCode.STREAM_STATE_ERROR, frame_type, "Stream is send-only")
        self._table.of_frame(frame_type, number)

    def let_go(self) -> None:
        """Tell nobody any more."""
        self.emit = _nobody


def _nobody(event: QuicEvent) -> None:
    """Nobody is told any more."""
