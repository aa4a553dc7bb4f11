"""Which streams there are, who may open how many, and how they come and go. Room: quic. Pure: no clock.

Sources: RFC 9000 sections 2.1, 3 and 4.6.
"""

from __future__ import annotations

from typing import Final

from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gateway import limits
from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.flow import Allowance, PeerLimits
from gateway.quic.connection.recvhalf import RecvHalf
from gateway.quic.connection.sendhalf import SendHalf

STREAMS_LARGEST: Final = 1 << 60


class Stream:
    """Both halves. Of a one-way stream one of them never does anything; it is shared by all. RFC 9000 section 3.4."""

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


# Shared by all one-way streams of the process: halves that are over do nothing, and each would be some hundred
# bytes.
NO_RECV, NO_SEND = _unused_recv(), _unused_send()


class StreamTable:
    """``by_number``: those that are open. ``queue``: of them those that may have something to say, in the order in which they
    are served; whoever changes a stream touches it (:meth:`touch`). ``gappy``: those that got bytes out of order. ``window``:
    bytes that one may hold unread. ``blocked_due``: it is to be said that we would open more than the peer lets us."""

    __slots__ = (
        "_is_client",
        "_next_bidi",
        "_next_uni",
        "blocked_due",
        "by_number",
        "gappy",
        "peer",
        "queue",
        "theirs_bidi",
        "theirs_uni",
        "window",
    )

    def __init__(self, *, is_client: bool, window: int) -> None:
        self._is_client = is_client
        self.window = window
        self.by_number: dict[int, Stream] = {}
        self.queue: dict[int, Stream] = {}
        self.gappy: dict[int, Stream] = {}
        self.theirs_bidi = Allowance(limits.QUIC_PEER_STREAMS_MAX)
        self.theirs_uni = Allowance(limits.QUIC_PEER_STREAMS_MAX)
        self.peer = PeerLimits()
        self._next_bidi = 0 if is_client else 1
        self._next_uni = 2 if is_client else 3
        self.blocked_due = False

    # -- questions ------------------------------------------------------------------------

    def can_receive(self, number: int) -> bool:
        """Whether the peer may send on such a stream. RFC 9000 section 2.1."""
        return not number & 2 or (number & 1) == self._is_client

    def can_send(self, number: int) -> bool:
        """Whether we may send on such a stream. RFC 9000 section 2.1."""
        return not number & 2 or (number & 1) != self._is_client

    def next_number(self, *, one_way: bool) -> int:
        """The number of the next stream that we open. RFC 9000 section 2.1."""
        return self._next_uni if one_way else self._next_bidi

    def can_open_uni(self) -> bool:
        """Whether the peer lets another one-way stream begin now."""
        return self._next_uni // 4 < self.peer.streams_uni

    def is_within_limit(self, number: int) -> bool:
        """Whether a client may have opened this two-way stream of its own. RFC 9000 section 4.6."""
        opened = self.peer.streams_bidi if self._is_client else self.theirs_bidi.value
        return number // 4 < opened

    def was_opened(self, number: int) -> bool:
        """Whether the stream is, or was, open."""
        if self._is_theirs(number):
            return number // 4 < self._allowance(number).used
        return number < (self._next_uni if number & 2 else self._next_bidi)

    def is_blocked(self, number: int) -> bool:
        """Whether the peer does not let this stream of ours be open yet. RFC 9000 section 4.6."""
        if self._is_theirs(number):
            return False
        return number // 4 >= (self.peer.streams_uni if number & 2 else self.peer.streams_bidi)

    def blocked_at(self) -> tuple[int | None, int | None]:
        """At which limits more two-way, and one-way, streams of ours wait; None: none do. RFC 9000 section 19.14."""
        peer = self.peer
        bidi = peer.streams_bidi if self._next_bidi // 4 > peer.streams_bidi else None
        uni = peer.streams_uni if self._next_uni // 4 > peer.streams_uni else None
        return bidi, uni

    def _is_theirs(self, number: int) -> bool:
        return (number & 1) == self._is_client

    def _allowance(self, number: int) -> Allowance:
        return self.theirs_uni if number & 2 else self.theirs_bidi

    # -- coming and going -----------------------------------------------------------------

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
        # All below it, too: a stream opens those of its kind with lower numbers (RFC 9000 section 3.2). The limit
        # bounds the loop.
        for new in range(allowance.used * 4 + number % 4, number + 4, 4):
            send = NO_SEND if number & 2 else SendHalf(self.peer.stream_bidi_theirs)
            stream = self.by_number[new] = Stream(new, RecvHalf(self.window), send)
            self.queue[new] = stream
        allowance.used = number // 4 + 1
        return stream

    def ours(self, number: int) -> Stream:
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
            stream = Stream(number, RecvHalf(self.window), SendHalf(self.peer.stream_bidi_ours))
        self.by_number[number] = stream
        self.queue[number] = stream
        if self.is_blocked(number):
            self.blocked_due = True
        return stream

    def touch(self, stream: Stream) -> None:
        """Something happened to a stream: look at it before the next packets."""
        if stream.number in self.by_number:
            self.queue.setdefault(stream.number, stream)

    def note_gaps(self, stream: Stream) -> None:
        """Bytes of a stream came, perhaps out of order."""
        recv = stream.recv
        if recv.highest != recv.taken and not recv.is_over:
            self.gappy[stream.number] = stream
        else:
            self.gappy.pop(stream.number, None)

    def forget(self, finished: list[Stream]) -> None:
        """These are over; each of the peer's lets it open another (section 4.6)."""
        for stream in finished:
            self.queue.pop(stream.number, None)
            self.gappy.pop(stream.number, None)
            del self.by_number[stream.number]
            if self._is_theirs(stream.number):
                # One that is over makes room for one: at most QUIC_PEER_STREAMS_MAX are open at a time, however
                # many there were (RFC 9000 section 4.6).
                self._allowance(stream.number).value += 1

    # -- limits of the peer ---------------------------------------------------------------

    def learn(self, bidi_ours: int, bidi_theirs: int, uni: int) -> None:
        """How far the peer lets a stream begin: two-way ones that we open, that it opened, and one-way ones."""
        peer = self.peer
        peer.stream_bidi_ours, peer.stream_bidi_theirs, peer.stream_uni = bidi_ours, bidi_theirs, uni
        self._see_blocked()
        for stream in self.by_number.values():
            if stream.send is NO_SEND:
                continue
            limit = uni if stream.number & 2 else bidi_theirs if self._is_theirs(stream.number) else bidi_ours
            stream.send.limit = max(stream.send.limit, limit)

    def take_limit(self, frame_type: int, limit: int) -> None:
        """MAX_STREAMS. Raises :class:`PeerFault`. RFC 9000 section 19.11."""
        check_streams(frame_type, limit)
        peer = self.peer
        if frame_type == QuicFrameType.MAX_STREAMS_UNI:
            peer.streams_uni = max(peer.streams_uni, limit)
        else:
            peer.streams_bidi = max(peer.streams_bidi, limit)
        self._see_blocked()

    def _see_blocked(self) -> None:
        """The peer lets us open more: nothing is to be said of a limit that is no longer in the way."""
        self.blocked_due = self.blocked_due and self.blocked_at() != (None, None)

    def let_go(self) -> None:
        """Hold nothing any more."""
        self.by_number.clear()
        self.queue.clear()
        self.gappy.clear()


def check_streams(frame_type: int, limit: int) -> None:
    """Raises :class:`PeerFault` for a number of streams that cannot be (section 19.11)."""
    if limit > STREAMS_LARGEST:
        raise PeerFault(QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, "Maximum Streams cannot exceed 2^60")
