"""The streams of a connection and their flow control, both ways. Room: quic. Pure: no clock.

Windows open as the application consumes, not as bytes arrive: what it was given and has not consumed is *held*. Sources:
RFC 9000 sections 2, 3, 4 and 19.4 to 19.14.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aioquic.buffer import encode_uint_var, size_uint_var
from aioquic.quic.events import StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gateway import limits
from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.flow import Allowance, PeerLimits
from gateway.quic.connection.packets import varint
from gateway.quic.connection.recvhalf import RecvHalf
from gateway.quic.connection.sendhalf import SendHalf

FRAME_BYTES_MIN: Final = 40
"""Less room in a packet is left empty rather than cut a frame for it."""
LARGEST_OFFSET: Final = (1 << 62) - 1
STREAMS_LARGEST: Final = 1 << 60

Handler = tuple[Callable[..., None], tuple[Any, ...]]
"""What to call about a frame's fate, and with what behind whether it was acknowledged."""


class Stream:
    """Both halves. Of a one-way stream one of them never does anything; it is shared by all."""

    __slots__ = ("number", "recv", "send")

    def __init__(self, number: int, recv: RecvHalf, send: SendHalf) -> None:
        self.number = number
        self.recv = recv
        self.send = send


def _unused_recv() -> RecvHalf:
    half = RecvHalf(0)
    half.is_over = True
    return half


def _unused_send() -> SendHalf:
    half = SendHalf(0)
    half.is_over = True
    return half


NO_RECV, NO_SEND = _unused_recv(), _unused_send()


class Streams:
    """``window``: bytes that a stream may hold unread; ``data_window``: all streams together. ``emit`` is given the events."""

    __slots__ = (
        "_blocked_due",
        "_data_window",
        "_held",
        "_is_client",
        "_next_bidi",
        "_next_uni",
        "_queue",
        "_window",
        "by_number",
        "data",
        "emit",
        "held_bytes",
        "peer",
        "theirs_bidi",
        "theirs_uni",
    )

    def __init__(
        self, *, is_client: bool, window: int, data_window: int, emit: Callable[[Any], None]
    ) -> None:
        self._is_client = is_client
        self._window, self._data_window = window, data_window
        self.emit = emit
        self.by_number: dict[int, Stream] = {}
        self._queue: list[Stream] = []
        self._held: dict[int, int] = {}
        self.held_bytes = 0
        self.data = Allowance(data_window)
        self.theirs_bidi = Allowance(limits.QUIC_PEER_STREAMS_MAX)
        self.theirs_uni = Allowance(limits.QUIC_PEER_STREAMS_MAX)
        self.peer = PeerLimits()
        self._next_bidi = 0 if is_client else 1
        self._next_uni = 2 if is_client else 3
        self._blocked_due = False

    # -- which streams there are ----------------------------------------------------------

    def can_receive(self, number: int) -> bool:
        """Whether the peer may send on such a stream."""
        return not number & 2 or (number & 1) == self._is_client

    def can_send(self, number: int) -> bool:
        """Whether we may send on such a stream."""
        return not number & 2 or (number & 1) != self._is_client

    def next_number(self, *, one_way: bool) -> int:
        """The number of the next stream that we open."""
        return self._next_uni if one_way else self._next_bidi

    def can_open_uni(self) -> bool:
        """Whether the peer lets another one-way stream begin now."""
        return self._next_uni // 4 < self.peer.streams_uni

    def is_within_limit(self, number: int) -> bool:
        """Whether a client may have opened this two-way stream of its own."""
        opened = self.peer.streams_bidi if self._is_client else self.theirs_bidi.value
        return number // 4 < opened

    def _is_theirs(self, number: int) -> bool:
        return (number & 1) == self._is_client

    def _allowance(self, number: int) -> Allowance:
        return self.theirs_uni if number & 2 else self.theirs_bidi

    def was_opened(self, number: int) -> bool:
        """Whether the stream is, or was, open."""
        if self._is_theirs(number):
            return number // 4 < self._allowance(number).used
        return number < (self._next_uni if number & 2 else self._next_bidi)

    def of_frame(self, frame_type: int, number: int) -> Stream | None:
        """The stream that a frame of the peer's names, opened by it where it is new, with all of its kind below it (section
        2.1). None: it is over and forgotten. Raises :class:`PeerFault`."""
        stream = self.by_number.get(number)
        if stream is not None:
            return stream
        if self.was_opened(number):
            return None
        if not self._is_theirs(number):
            raise PeerFault(QuicErrorCode.STREAM_STATE_ERROR, frame_type, "Wrong stream initiator")
        allowance = self._allowance(number)
        if number // 4 >= allowance.value:
            raise PeerFault(QuicErrorCode.STREAM_LIMIT_ERROR, frame_type, "Too many streams open")
        for new in range(allowance.used * 4 + number % 4, number + 4, 4):
            send = NO_SEND if number & 2 else SendHalf(self.peer.stream_bidi_theirs)
            stream = self.by_number[new] = Stream(new, RecvHalf(self._window), send)
            self._queue.append(stream)
        allowance.used = number // 4 + 1
        return stream

    def _ours(self, number: int) -> Stream:
        """A stream to send on, opened if it is new. Raises ``ValueError``."""
        stream = self.by_number.get(number)
        if stream is not None and self.can_send(number):
            return stream
        if not self.can_send(number) or self._is_theirs(number) or self.was_opened(number):
            raise ValueError(
                "Cannot send data on a stream that is finished, unknown or one-way from the peer"
            )
        if number & 2:
            self._next_uni = number + 4
            stream = Stream(number, NO_RECV, SendHalf(self.peer.stream_uni))
        else:
            self._next_bidi = number + 4
            stream = Stream(number, RecvHalf(self._window), SendHalf(self.peer.stream_bidi_ours))
        self.by_number[number] = stream
        self._queue.append(stream)
        if self._is_blocked(number):
            self._blocked_due = True
        return stream

    def _is_blocked(self, number: int) -> bool:
        """Whether the peer does not let this stream of ours be open yet."""
        if self._is_theirs(number):
            return False
        return number // 4 >= (self.peer.streams_uni if number & 2 else self.peer.streams_bidi)

    def learn(self, bidi_ours: int, bidi_theirs: int, uni: int) -> None:
        """How far the peer lets a stream begin: two-way ones that we open, that it opened, and one-way ones."""
        peer = self.peer
        peer.stream_bidi_ours, peer.stream_bidi_theirs, peer.stream_uni = bidi_ours, bidi_theirs, uni
        for stream in self._queue:
            if stream.send is NO_SEND:
                continue
            limit = uni if stream.number & 2 else bidi_theirs if self._is_theirs(stream.number) else bidi_ours
            stream.send.limit = max(stream.send.limit, limit)

    # -- the application ------------------------------------------------------------------

    def write(self, number: int, data: bytes, *, end: bool) -> None:
        """Data to send. Raises ``ValueError``, ``RuntimeError``."""
        stream = self.by_number.get(number)
        if stream is None or stream.send is NO_SEND:
            stream = self._ours(number)
        stream.send.write(data, end=end)

    def reset(self, number: int, code: int) -> None:
        """Give up sending. Raises ``ValueError`` for a stream that is not ours to send on."""
        if self.can_send(number) and number not in self.by_number and self.was_opened(number):
            return
        self._ours(number).send.reset(code)

    def stop(self, number: int, code: int) -> None:
        """Ask the peer to stop sending. Raises ``ValueError``."""
        stream = self.by_number.get(number)
        if stream is None or not self.can_receive(number):
            raise ValueError("Cannot stop receiving on a stream that is unknown, or one-way to the peer")
        stream.recv.stop(code)

    def abandon_receiving(self, number: int, code: int) -> bool:
        """Ask the peer to stop sending, if it is still at it. Answers whether it was."""
        stream = self.by_number.get(number)
        if stream is None or stream.recv.is_over:
            return False
        stream.recv.stop(code)
        return True

    def hold(self, number: int, size: int) -> None:
        """Bytes that the application was given but has not consumed: windows stay shut for them."""
        self._held[number] = self._held.get(number, 0) + size
        self.held_bytes += size

    def release(self, number: int, size: int) -> None:
        """The application consumed ``size`` held bytes."""
        left = self._held.get(number, 0) - size
        if left > 0:
            self._held[number] = left
        else:
            self._held.pop(number, None)
        self.held_bytes -= size

    # -- questions ------------------------------------------------------------------------

    def unsent_bytes(self, number: int) -> int:
        """Bytes of a stream that are not acknowledged yet; 0 once it is done or gone."""
        stream = self.by_number.get(number)
        return 0 if stream is None else stream.send.unacknowledged

    def unsent_total(self) -> int:
        """Bytes of all streams that are not acknowledged yet."""
        return sum([stream.send.unacknowledged for stream in self.by_number.values()])

    def acked_total(self) -> int:
        """Bytes acknowledged on the streams that are open."""
        return sum([stream.send.start for stream in self.by_number.values()])

    def send_is_over(self, number: int) -> bool:
        """True once all bytes and the end of our side were acknowledged, or it was reset."""
        stream = self.by_number.get(number)
        return stream is None or stream.send.is_over or stream.send.reset_code is not None

    def can_send_on(self, number: int) -> bool:
        """Whether :meth:`write` may be called: not ended, not reset, not discarded."""
        stream = self.by_number.get(number)
        return not self.was_opened(number) if stream is None else stream.send.takes_more

    # -- frames of the peer ---------------------------------------------------------------

    def take_frame(self, kind: int, plain: bytes, at: int) -> int:
        """A STREAM frame of type ``kind`` whose content begins at ``at``; answers where it ends. Raises :class:`PeerFault`,
        and ``IndexError`` if it is cut short. What comes in order is most of it, and handed on from here."""
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
        stream = self.by_number.get(number)
        if stream is not None and not kind & 1:
            recv, data = stream.recv, self.data
            reach = offset + stop - at
            if (
                offset == recv.taken == recv.highest
                and recv.final_size is None
                and offset < reach <= recv.limit
            ):
                used = data.used + reach - offset
                if used <= data.value:
                    data.used = used
                    recv.taken = recv.highest = reach
                    self.emit(StreamDataReceived(plain[at:stop], False, number))
                    return stop
        if offset + stop - at > LARGEST_OFFSET:
            raise PeerFault(
                QuicErrorCode.FRAME_ENCODING_ERROR, kind, "offset + length cannot exceed 2^62 - 1"
            )
        self.take_data(kind, number, offset, plain[at:stop])
        return stop

    def take_data(self, kind: int, number: int, offset: int, data: bytes) -> None:
        """A STREAM frame of type ``kind``. Raises :class:`PeerFault`."""
        if not self.can_receive(number):
            raise PeerFault(QuicErrorCode.STREAM_STATE_ERROR, kind, "Stream is send-only")
        stream = self.by_number.get(number) or self.of_frame(kind, number)
        if stream is None:
            return
        recv = stream.recv
        reach = offset + len(data)
        fresh = self._within(kind, recv, reach)
        try:
            piece = recv.take(offset, data, is_end=bool(kind & 1))
        except PeerFault as fault:
            if fault.code == QuicErrorCode.FINAL_SIZE_ERROR:
                fault.frame_type = kind
            raise
        self.data.used += fresh
        if piece is not None:
            self.emit(StreamDataReceived(piece[0], piece[1], number))
        if recv.reset_code is not None and recv.settles():
            self.emit(StreamReset(error_code=recv.reset_code, stream_id=number))

    def _within(self, frame_type: int, recv: RecvHalf, reach: int) -> int:
        """How many bytes are new to the connection's limit, if they are within both limits. Raises :class:`PeerFault`."""
        if reach > recv.limit:
            raise PeerFault(QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over stream data limit")
        fresh = max(0, reach - recv.highest)
        if self.data.used + fresh > self.data.value:
            raise PeerFault(QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over connection data limit")
        return fresh

    def take_reset(
        self, frame_type: int, number: int, code: int, final_size: int, reliable: int | None
    ) -> None:
        """RESET_STREAM, or RESET_STREAM_AT with the bytes that still come. Raises :class:`PeerFault`."""
        if not self.can_receive(number):
            raise PeerFault(QuicErrorCode.STREAM_STATE_ERROR, frame_type, "Stream is send-only")
        stream = self.of_frame(frame_type, number)
        if stream is None:
            return
        recv = stream.recv
        fresh = self._within(frame_type, recv, final_size)
        if reliable is None:
            counts = recv.take_reset(code, final_size, frame_type)
        else:
            recv.take_partial_reset(code, final_size, reliable, frame_type)
            counts = recv.settles()
        self.data.used += fresh
        if counts:
            self.emit(StreamReset(error_code=code, stream_id=number))

    def take_stop(self, frame_type: int, number: int, code: int) -> bool:
        """STOP_SENDING: the stream is reset with the peer's own code (section 3.5). Answers whether there is one. Raises
        :class:`PeerFault`."""
        stream = self._to_send(frame_type, number)
        if stream is None:
            return False
        stream.send.reset(code)
        return True

    def take_stream_limit(self, frame_type: int, number: int, limit: int) -> None:
        """MAX_STREAM_DATA. Raises :class:`PeerFault`."""
        stream = self._to_send(frame_type, number)
        if stream is not None and limit > stream.send.limit:
            stream.send.limit = limit

    def _to_send(self, frame_type: int, number: int) -> Stream | None:
        if not self.can_send(number):
            raise PeerFault(QuicErrorCode.STREAM_STATE_ERROR, frame_type, "Stream is receive-only")
        return self.of_frame(frame_type, number)

    def take_streams_limit(self, frame_type: int, limit: int) -> None:
        """MAX_STREAMS. Raises :class:`PeerFault`."""
        check_streams(frame_type, limit)
        peer = self.peer
        if frame_type == QuicFrameType.MAX_STREAMS_UNI:
            peer.streams_uni = max(peer.streams_uni, limit)
        else:
            peer.streams_bidi = max(peer.streams_bidi, limit)

    def take_blocked(self, frame_type: int, number: int) -> None:
        """STREAM_DATA_BLOCKED, which may open the stream. Raises :class:`PeerFault`."""
        if not self.can_receive(number):
            raise PeerFault(QuicErrorCode.STREAM_STATE_ERROR, frame_type, "Stream is send-only")
        self.of_frame(frame_type, number)

    # -- what is to be sent ---------------------------------------------------------------

    def look_over(self) -> tuple[bool, bool]:
        """Forget streams that are over, each of which lets the peer open another (section 4.6). Answers whether anything
        but data is to be sent, and whether data is."""
        needs_control = self._blocked_due
        has_data = False
        finished = []
        window = self._window
        for stream in self._queue:
            send, recv = stream.send, stream.recv
            if send.is_over and recv.is_over:
                finished.append(stream)
                continue
            if send.reset_due or recv.stop_due:
                needs_control = True
            elif (
                (send.highest < send.stop or send.end_due or send.is_due)
                and send.reset_code is None
                and not self._is_blocked(stream.number)
            ):
                has_data = True
            if not recv.is_over and (
                recv.limit_said != recv.limit or recv.taken + window - recv.limit >= window // 2
            ):
                needs_control = True
        for stream in finished:
            self._queue.remove(stream)
            del self.by_number[stream.number]
            if self._is_theirs(stream.number):
                self._allowance(stream.number).value += 1
        return needs_control or self._limits_due(), has_data

    def _limits_due(self) -> bool:
        data = self.data
        if data.value != data.said or data.value - data.used < self._data_window // 2:
            return True
        for allowance in (self.theirs_bidi, self.theirs_uni):
            if allowance.value != allowance.said and (
                not allowance.said or allowance.said - allowance.used < allowance.value - allowance.said
            ):
                return True
        return False

    def control_frames(self, room: int, handlers: list[Handler]) -> bytes:
        """Frames that raise limits, stop or reset streams, or say that we are blocked, in at most ``room`` bytes."""
        frames = [self._blocked_frames(), self._limit_frames(handlers)]
        room -= sum(map(len, frames))
        for stream in self._queue:
            if room < FRAME_BYTES_MIN:
                break
            frame = self._stream_control(stream, handlers)
            if frame:
                frames.append(frame)
                room -= len(frame)
        return b"".join(frames)

    def _blocked_frames(self) -> bytes:
        if not self._blocked_due:
            return b""
        self._blocked_due = False
        peer, frames = self.peer, b""
        if self._next_bidi // 4 > peer.streams_bidi:
            frames += b"\x16" + encode_uint_var(peer.streams_bidi)
        if self._next_uni // 4 > peer.streams_uni:
            frames += b"\x17" + encode_uint_var(peer.streams_uni)
        return frames

    def _limit_frames(self, handlers: list[Handler]) -> bytes:
        data = self.data
        if data.value - data.used < self._data_window // 2:
            consumed = data.used - self.held_bytes - self._out_of_order_bytes()
            data.value = max(data.value, consumed + self._data_window)
        frames = b""
        for kind, allowance in ((0x10, data), (0x12, self.theirs_bidi), (0x13, self.theirs_uni)):
            if allowance.value == allowance.said:
                continue
            if (
                allowance is not data
                and allowance.said
                and allowance.said - allowance.used >= allowance.value - allowance.said
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
                for stream in self.by_number.values()
                if not stream.recv.is_over
            ]
        )

    def _stream_control(self, stream: Stream, handlers: list[Handler]) -> bytes:
        send, recv, number = stream.send, stream.recv, encode_uint_var(stream.number)
        frame = b""
        if not recv.is_over:
            consumed = recv.taken - self._held.get(stream.number, 0)
            if consumed + self._window - recv.limit >= self._window // 2:
                recv.limit = consumed + self._window
            if recv.limit_said != recv.limit:
                recv.limit_said = recv.limit
                frame = b"\x11" + number + encode_uint_var(recv.limit)
                handlers.append((_on_stream_limit_fate, (recv,)))
        if recv.stop_due:
            recv.stop_due = False
            frame += b"\x05" + number + encode_uint_var(recv.stop_code or 0)
            handlers.append((recv.on_stop_fate, ()))
        if send.reset_due:
            send.reset_due = False
            frame += b"\x04" + number + encode_uint_var(send.reset_code or 0) + encode_uint_var(send.highest)
            handlers.append((send.on_reset_fate, ()))
        return frame

    def data_frames(self, room: int) -> tuple[bytes, list[Handler]]:
        """STREAM frames of what is to be sent, in at most ``room`` bytes, and whom to tell of their fate."""
        frames: list[bytes] = []
        handlers: list[Handler] = []
        served: list[Stream] = []
        peer = self.peer
        for stream in self._queue:
            send = stream.send
            if not send.is_due or self._is_blocked(stream.number):
                continue
            if room < FRAME_BYTES_MIN:
                break
            overhead = 3 + size_uint_var(stream.number) + size_uint_var(send.next_offset)
            highest = send.highest
            frame = send.take(room - overhead, peer.data - peer.data_used)
            if frame is None:
                continue
            offset, data, is_end = frame
            size = len(data)
            head = b"".join(
                (
                    b"\x0f" if is_end else b"\x0e",
                    encode_uint_var(stream.number),
                    encode_uint_var(offset),
                    (0x4000 | size).to_bytes(2, "big"),
                )
            )
            frames += (head, data)
            room -= len(head) + size
            handlers.append((send.on_fate, (offset, offset + size, is_end)))
            peer.data_used += send.highest - highest
            served.append(stream)
        if served and len(self._queue) > 1:
            queue = self._queue
            for stream in served:
                queue.remove(stream)
            queue.extend(served)
        return b"".join(frames), handlers

    def unsent(self) -> list[Stream]:
        """Streams with data to send, for whoever carries it before the handshake is confirmed."""
        return [stream for stream in self._queue if stream.send.is_due]

    def let_go(self) -> None:
        """Hold nothing any more."""
        self.by_number.clear()
        self._queue.clear()
        self.emit = _nobody


def _nobody(event: Any) -> None:
    """Nobody is told any more."""


def _on_stream_limit_fate(acked: bool, recv: RecvHalf) -> None:
    if not acked:
        recv.limit_said = 0


def check_streams(frame_type: int, limit: int) -> None:
    """Raises :class:`PeerFault` for a number of streams that cannot be (section 19.11)."""
    if limit > STREAMS_LARGEST:
        raise PeerFault(QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, "Maximum Streams cannot exceed 2^60")
