"""What is to be sent of streams: their data in turn, and the limits, stops and resets beside it. Room: quic. Pure: no clock.

Windows open as the application consumes, not as bytes arrive: what it was given and has not consumed is *held*. Sources:
RFC 9000 sections 4 and 19.4 to 19.14.
"""

from __future__ import annotations

from typing import Final

from aioquic.buffer import encode_uint_var, size_uint_var

from gateway.limits import QUIC_BULK_BYTES_MIN
from gateway.quic.connection.flight import Handler
from gateway.quic.connection.flow import Allowance, HeldBytes
from gateway.quic.connection.streamtable import Stream, StreamTable

FRAME_BYTES_MIN: Final = 40
"""Less room in a packet is left empty rather than cut a frame for it."""
CONTROL_BYTES_MIN: Final = 3 * (1 + 8 + 8) + 8
"""What one stream may have to say besides data: MAX_STREAM_DATA, STOP_SENDING and RESET_STREAM."""


class StreamsOut:
    """``table``: the streams. ``data``: what the peer may send on all together, ``data_window`` unread. ``held``: what the
    application has not consumed."""

    __slots__ = ("_data", "_data_window", "_held", "_table")

    def __init__(self, table: StreamTable, data: Allowance, data_window: int, held: HeldBytes) -> None:
        self._table, self._data, self._data_window, self._held = table, data, data_window, held

    def look_over(self) -> tuple[bool, bool]:
        """Look at the streams to which something happened since. Forget those that are over, each of which lets the peer open
        another (section 4.6). Answers whether anything but data is to be sent, and whether data is."""
        table = self._table
        # Streams that changed are looked at, not all: a connection may have 128 each way, and this runs for most
        # flushes.
        needs_control, has_data = table.blocked_due, False
        finished, idle = [], []
        for stream in table.queue.values():
            send, recv = stream.send, stream.recv
            if send.is_over and recv.is_over:
                finished.append(stream)
                continue
            control = send.reset_due or recv.stop_due or self._is_limit_due(stream)
            needs_control = needs_control or control
            if send.is_due:
                has_data = has_data or not table.is_blocked(stream.number)
            elif not control:
                idle.append(stream.number)
        for number in idle:
            del table.queue[number]
        if finished:
            table.forget(finished)
        return needs_control or self._limits_due(), has_data

    def _is_limit_due(self, stream: Stream) -> bool:
        """Whether the peer is to be told how much more it may send: half a window of it was consumed."""
        recv, window = stream.recv, self._table.window
        if recv.is_over:
            return False
        if recv.limit_said != recv.limit:
            return True
        room = recv.taken + window - recv.limit
        # Half a window: each raise costs a frame and its fate, and a peer that is told earlier than it has to stop
        # gains nothing (RFC 9000 section 4.2).
        return room >= window // 2 and room - self._held.of(stream.number) >= window // 2

    def _limits_due(self) -> bool:
        data = self._data
        if data.value != data.said or data.value - data.used < self._data_window // 2:
            return True
        return _is_worth_saying(self._table.theirs_bidi) or _is_worth_saying(self._table.theirs_uni)

    def control_frames(self, room: int, handlers: list[Handler]) -> bytes:
        """Frames that raise limits, stop or reset streams, or say that we are blocked, in at most ``room`` bytes.
        RFC 9000 section 4.2."""
        frames = [self._blocked_frames(), self._limit_frames(handlers)]
        room -= sum(map(len, frames))
        for stream in self._table.queue.values():
            if room < CONTROL_BYTES_MIN:
                break
            frame = self._stream_control(stream, handlers)
            if frame:
                frames.append(frame)
                room -= len(frame)
        return b"".join(frames)

    def _blocked_frames(self) -> bytes:
        if not self._table.blocked_due:
            return b""
        self._table.blocked_due = False
        bidi, uni = self._table.blocked_at()
        frames = b"" if bidi is None else b"\x16" + encode_uint_var(bidi)
        return frames if uni is None else frames + b"\x17" + encode_uint_var(uni)

    def _limit_frames(self, handlers: list[Handler]) -> bytes:
        data = self._data
        if data.value - data.used < self._data_window // 2:
            consumed = data.used - self._held.total - self._out_of_order_bytes()
            data.value = max(data.value, consumed + self._data_window)
        frames = b""
        bidi, uni = self._table.theirs_bidi, self._table.theirs_uni
        for kind, allowance in ((0x10, data), (0x12, bidi), (0x13, uni)):
            if allowance.value == allowance.said or (
                allowance is not data and not _is_worth_saying(allowance)
            ):
                continue
            frames += encode_uint_var(kind) + encode_uint_var(allowance.value)
            allowance.said = allowance.value
            handlers.append((allowance.on_fate, ()))
        return frames

    def _out_of_order_bytes(self) -> int:
        return sum(
            [
                stream.recv.highest - stream.recv.taken
                for stream in self._table.gappy.values()
                if not stream.recv.is_over
            ]
        )

    def _stream_control(self, stream: Stream, handlers: list[Handler]) -> bytes:
        send, recv, number = stream.send, stream.recv, encode_uint_var(stream.number)
        frame = b""
        if self._is_limit_due(stream):
            consumed = recv.taken - self._held.of(stream.number)
            if consumed + self._table.window - recv.limit >= self._table.window // 2:
                recv.limit = consumed + self._table.window
            if recv.limit_said != recv.limit:
                recv.limit_said = recv.limit
                frame = b"\x11" + number + encode_uint_var(recv.limit)
                handlers.append((self._on_limit_fate, (stream,)))
        if recv.stop_due:
            recv.stop_due = False
            frame += b"\x05" + number + encode_uint_var(recv.stop_code or 0)
            handlers.append((self._on_stop_fate, (stream,)))
        if send.reset_due:
            send.reset_due = False
            frame += b"\x04" + number + encode_uint_var(send.reset_code or 0) + encode_uint_var(send.highest)
            handlers.append((self._on_reset_fate, (stream,)))
        return frame

    def data_frames(self, room: int) -> tuple[bytes, list[Handler]]:
        """STREAM frames of what is to be sent, in at most ``room`` bytes, and whom to tell of their fate.
        RFC 9000 section 19.8."""
        frames: list[bytes] = []
        handlers: list[Handler] = []
        served: list[Stream] = []
        peer, queue = self._table.peer, self._table.queue
        for stream in queue.values():
            send = stream.send
            if not send.is_due or self._table.is_blocked(stream.number):
                continue
            if room < FRAME_BYTES_MIN:
                break
            overhead = (
                (3 if room < 0x4000 else 5) + size_uint_var(stream.number) + size_uint_var(send.next_offset)
            )
            highest = send.highest
            frame = send.next_frame(room - overhead, peer.data - peer.data_used)
            if frame is None:
                continue
            offset, data, is_end = frame
            size = len(data)
            head = b"".join(
                (
                    b"\x0f" if is_end else b"\x0e",
                    encode_uint_var(stream.number),
                    encode_uint_var(offset),
                    (0x4000 | size).to_bytes(2, "big") if size < 0x4000 else encode_uint_var(size),
                )
            )
            frames += (head, data)
            room -= len(head) + size
            handlers.append((self.on_fate, (stream, offset, offset + size, is_end)))
            peer.data_used += send.highest - highest
            served.append(stream)
        # One alone stays where it is, and a dict that is popped from and written to is rebuilt now and then.
        if len(queue) > 1:
            for stream in served:
                # To the end: streams take turns, as RFC 9000 section 2.3 leaves to us, and none is starved by a
                # large one.
                queue[stream.number] = queue.pop(stream.number)
        return b"".join(frames), handlers

    def has_bulk(self) -> bool:
        """Whether so much was never sent that it is no game's frame."""
        waiting = 0
        for stream in self._table.queue.values():
            send = stream.send
            if send.reset_code is None:
                waiting += send.stop - send.highest
                if waiting >= QUIC_BULK_BYTES_MIN:
                    return True
        return False

    def unsent(self) -> list[Stream]:
        """Streams with data to send, for whoever carries it before the handshake is confirmed."""
        return [stream for stream in self._table.queue.values() if stream.send.is_due]

    # -- what became of it ----------------------------------------------------------------

    def on_fate(self, acked: bool, stream: Stream, start: int, stop: int, is_end: bool) -> None:
        """A frame of data was acknowledged, or lost."""
        send = stream.send
        send.on_fate(acked, start, stop, is_end)
        if not acked or send.is_over:
            self._table.touch(stream)

    def _on_limit_fate(self, acked: bool, stream: Stream) -> None:
        if not acked:
            stream.recv.limit_said = 0
            self._table.touch(stream)

    def _on_stop_fate(self, acked: bool, stream: Stream) -> None:
        stream.recv.on_stop_fate(acked)
        self._table.touch(stream)

    def _on_reset_fate(self, acked: bool, stream: Stream) -> None:
        stream.send.on_reset_fate(acked)
        self._table.touch(stream)


def _is_worth_saying(streams: Allowance) -> bool:
    """Whether the peer is to be told of more streams: what it may still open is less than what is to be added."""
    return streams.said - streams.used < streams.value - streams.said
