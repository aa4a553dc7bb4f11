"""RESET_STREAM_AT: a stream given up but for its first bytes, which still come. Room: quic.

WebTransport wants it, so that what is given up can be told apart by the session that stands in its first bytes.
Source: draft-ietf-quic-reliable-stream-reset-09 (and -07, whose number of the transport parameter clients in use know).
"""

from __future__ import annotations

from collections import deque
from typing import Any

from aioquic._buffer import Buffer
from aioquic.buffer import encode_uint_var
from aioquic.quic import events
from aioquic.quic.connection import QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode, QuicStreamFrame
from aioquic.quic.stream import FinalSizeError, QuicStream, QuicStreamReceiver

RESET_STREAM_AT = 0x24
PARAMETERS = (0x1D, 0x17F7586D2CB571)
"""Transport parameters that say that such frames are understood: of the draft, and of the one before."""
ANNOUNCED = b"".join(encode_uint_var(number) + b"\0" for number in PARAMETERS)


class PartialReceiver(QuicStreamReceiver):
    """The receiving half of a stream whose sender gave up all that comes after ``reliable_bytes``. What its stream knew
    before is taken over. The reset counts once those bytes are there."""

    def __init__(
        self, before: QuicStreamReceiver, into: deque[events.QuicEvent], reliable_bytes: int, error_code: int
    ) -> None:
        self.__dict__.update(before.__dict__)
        self.reliable_bytes = reliable_bytes
        self.error_code = error_code
        self._into = into

    def handle_frame(self, frame: QuicStreamFrame) -> events.StreamDataReceived | None:
        """As its base; of what was given up nothing is handed on."""
        final, end = self._final_size, frame.offset + len(frame.data)
        if final is not None and (end > final or (frame.fin and end != final)):
            raise FinalSizeError("Data received beyond final size, or another one")
        kept = self.reliable_bytes - frame.offset
        if self.is_finished or kept <= 0:
            return None
        self._final_size = None
        event = super().handle_frame(QuicStreamFrame(frame.data[:kept], offset=frame.offset))
        self._final_size = final
        if event is not None:
            self._into.append(event)
        self.settle()
        return None

    def settle(self) -> None:
        """The stream is reset, if all is there that was to come."""
        if not self.is_finished and self._buffer_start >= self.reliable_bytes:
            self.is_finished = True
            self._into.append(events.StreamReset(error_code=self.error_code, stream_id=self._stream_id or 0))


def read(frame_type: int, buf: Buffer) -> tuple[int, int, int, int]:
    """A frame's content: stream, error code, final size, reliable size."""
    stream_id, error_code, final_size, reliable_bytes = (buf.pull_uint_var() for _ in range(4))
    if reliable_bytes > final_size:
        raise QuicConnectionError(
            error_code=QuicErrorCode.FRAME_ENCODING_ERROR,
            frame_type=frame_type,
            reason_phrase=f"{reliable_bytes} reliable bytes of a stream of {final_size}",
        )
    return stream_id, error_code, final_size, reliable_bytes


def handle(quic: Any, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
    """Take a RESET_STREAM_AT frame. ``quic``: aioquic's connection, whose own handler of RESET_STREAM checks
    direction, limits and final size, and accounts for them."""
    at = buf.tell()
    stream_id, error_code, final_size, reliable_bytes = read(frame_type, buf)
    after = buf.tell()
    quic._assert_stream_can_receive(frame_type, stream_id)
    stream: QuicStream = quic._get_or_create_stream(frame_type, stream_id)
    receiver = stream.receiver
    if isinstance(receiver, PartialReceiver):
        if error_code != receiver.error_code:
            raise QuicConnectionError(
                error_code=QuicErrorCode.STREAM_STATE_ERROR,
                frame_type=frame_type,
                reason_phrase="another error code for the same reset",
            )
        receiver.reliable_bytes = min(receiver.reliable_bytes, reliable_bytes)
    else:
        receiver = PartialReceiver(receiver, quic._events, reliable_bytes, error_code)
    was_finished, receiver.is_finished = receiver.is_finished, True
    stream.receiver = receiver
    buf.seek(at)
    quic._handle_reset_stream_frame(context, frame_type, buf)
    buf.seek(after)
    receiver.is_finished = was_finished
    if not was_finished:
        receiver._final_size = final_size
        receiver.settle()
