"""The short way for packets that carry only datagrams and acknowledgements. Room: quic.

A game's traffic is almost only these: DATAGRAM frames one way, ACK frames the other. This subclass
builds (:mod:`gateway.quic.connection.fastsend`) and reads such 1-RTT packets directly, and registers them with
aioquic's own loss recovery, congestion control and pacing, so that RTT, PTO, loss and window stay
what aioquic makes them. Everything else, and every doubt, goes through aioquic untouched: a packet
is parsed to its end before anything of it counts, and whatever this class does not know makes
aioquic read it again.

It reaches into aioquic's internals, so it is used only with the versions of
:data:`SUPPORTED_AIOQUIC`, and after :mod:`gateway.quic.selftest`. Sources: RFC 9000 sections 12,
13, 17.3; RFC 9001 section 5; RFC 9221; RFC 9002 appendix A.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aioquic.quic import events
from aioquic.quic.connection import NetworkAddress, QuicConnectionError, QuicReceiveContext
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from cryptography.exceptions import InvalidTag

from gateway.quic.connection.base import CONNECTED, QUIET, TAKEN
from gateway.quic.connection.fastacked import AckTaking
from gateway.quic.connection.faststate import CID_BYTES, ONE_RTT
from gateway.quic.connection.numbers import ALL, SPAN, NumberWindow
from gateway.quic.connection.shortpacket import BYTES, full_number, last_datagram, leading_ack, parse
from gateway.quic.connection.streamframes import read_ack, take_stream_frames

SUPPORTED_AIOQUIC = frozenset({"1.7.2"})

ACK_DELAY_S = 0.024
"""Just below the 25 ms that aioquic announces as max_ack_delay, for the millisecond of a timer."""
ACK_EVERY = 8
"""Ack-eliciting packets in order before an ACK goes at once (RFC 9000 section 13.2.2 allows more than two)."""
PACKET_BYTES_MIN = 1 + CID_BYTES + 4 + 16
"""Below it there is no sample for header protection."""
SAMPLE_AT, SAMPLE_STOP = 1 + CID_BYTES + 4, 1 + CID_BYTES + 4 + 16
STREAM_FIRST = frozenset((0x02, *range(0x08, 0x10)))
"""First bytes of packets whose frames are given to aioquic as decrypted here: STREAM, or an ACK before it."""


class FastConnection(AckTaking):
    """A connection with the short way. ``on_payload`` takes the content of DATAGRAM frames."""

    __slots__ = ("on_ack",)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.on_ack: Callable[[float], None] | None = None
        """Told when to acknowledge (:mod:`gateway.quic.connection.fastack`); where it is None, a flush sees to it."""

    def receive_short(self, data: bytes, addr: NetworkAddress, now: float) -> int:
        """Take a packet of ACK, DATAGRAM, PING, PADDING and STREAM frames: ``TAKEN``, or ``QUIET``
        where ``acked`` is all there is to see to. 0: nothing was done to it."""
        route = self._route_in or self._find_route_in()
        if route is None:
            return 0
        known, cid, bits, decrypt, iv, mask_of = route
        if data[1:9] != cid or (addr is not known and addr != known) or len(data) < PACKET_BYTES_MIN:
            return 0
        mask = mask_of(data[SAMPLE_AT:SAMPLE_STOP])
        first = data[0] ^ (mask[0] & 0x1F)
        if first & 0xDC != bits:
            return 0
        space: Any = self._space
        expected = space.expected_packet_number
        size = (first & 3) + 1
        if size == 2:
            truncated = (data[9] ^ mask[1]) << 8 | (data[10] ^ mask[2])
            number = (expected & ~0xFFFF) | truncated
            if not -0x8000 < number - expected <= 0x8000:
                number = full_number(truncated, 16, expected)
        else:
            truncated = int.from_bytes(data[9 : 9 + size], "big") ^ int.from_bytes(mask[1 : 1 + size], "big")
            number = full_number(truncated, 8 * size, expected)
        try:
            plain = decrypt(
                (iv ^ number).to_bytes(12, "big"),
                data[9 + size :],
                BYTES[first] + cid + truncated.to_bytes(size, "big"),
            )
        except InvalidTag:
            return 0
        window = space.received_packets
        behind = window.largest - number
        if behind >= 0 and (behind >= SPAN or window.bits >> behind & 1):
            return TAKEN
        payload = None
        ack = leading_ack(plain)
        if ack is None or ack[3] < len(plain):
            payload = last_datagram(plain, 0 if ack is None else ack[3])
            if payload is None:
                return self._take_plain(plain, space, number, first, now)

        # _count_received, in line
        if number > expected:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            self._spin_bit = (first & 0x20 != 0) ^ self._is_client
            self._spin_highest_pn = number
        self._close_at = now + self._idle_s
        self._ack_eliciting_sent_since_receipt = False
        in_order = number == space.largest_received_packet + 1
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        if behind == -1 and window.bits == ALL:
            window.largest = number
        else:
            window.add(number)
        ranges = space.ack_queue._RangeSet__ranges
        if ranges and ranges[-1].stop == number:
            ranges[-1] = range(ranges[-1].start, number + 1)
        else:
            space.ack_queue.add(number)
            if len(ranges) > MAX_ACK_RANGES:
                space.ack_queue.shift()

        if ack is not None:
            start, stop, encoded, _ = ack
            delay = (encoded << self._remote_ack_delay_exponent) / 1_000_000
            if not self._take_oldest_acks(space, start, stop, delay, now):
                self._take_ack(space, [(start, stop)], delay, now)
        if payload is not None:
            self._want_ack(space, now, at_once=not in_order)
            self._deliver(payload)
        if (
            self._queue
            or self._stock_due
            or self._stock_doubt
            or self._flush_due
            or self._stream_due
            or space.loss_time is not None
            or self.fates
            or self._events
        ):
            return TAKEN
        return QUIET

    def let_go(self) -> None:
        super().let_go()
        self.on_ack = None

    def _find_route_in(self) -> tuple[Any, ...] | None:
        space = self._space
        if space is not None and space.received_packets.__class__ is not NumberWindow:
            space.received_packets = NumberWindow(space.received_packets, space.largest_received_packet)
        return super()._find_route_in()

    def _take_plain(self, plain: bytes, space: QuicPacketSpace, number: int, first: int, now: float) -> int:
        """A packet's content, decrypted and seen for the first time."""
        frames = parse(plain)
        if frames is None:
            if not plain or plain[0] not in STREAM_FIRST:
                return 0
            self._take_streams(plain, space, number, first, now)
            return TAKEN
        acks, payloads, eliciting = frames
        in_order = self._count_received(space, number, first, now)
        for ranges, delay in acks:
            self._take_ack(space, ranges, (delay << self._remote_ack_delay_exponent) / 1_000_000, now)
        if eliciting:
            self._want_ack(space, now, at_once=not in_order)
        for payload in payloads:
            self._deliver(payload)
        return TAKEN

    def _deliver(self, payload: bytes) -> None:
        if self.on_payload is not None:
            self.on_payload(payload)
        else:
            self._events.append(events.DatagramFrameReceived(data=payload))

    def _take_streams(
        self, plain: bytes, space: QuicPacketSpace, number: int, first: int, now: float
    ) -> None:
        """A packet with stream data, decrypted already. What :mod:`gateway.quic.connection.streamframes` does not
        take goes to aioquic's frame handlers, and then what its ``receive_datagram`` does after them."""
        self._stock_doubt = True
        at = 0
        ack = read_ack(plain)
        if ack is not None:
            ranges, delay, at = ack
            self._take_ack(space, ranges, (delay << self._remote_ack_delay_exponent) / 1_000_000, now)
        try:
            rest = take_stream_frames(self, plain, at)
        except QuicConnectionError as exc:
            self.close_for(exc)
            return
        eliciting = rest > at
        if rest < len(plain):
            eliciting = self._leave_frames(plain[rest:], now) or eliciting
            if self._state is not CONNECTED or self._close_pending:
                return
            self._idle_s = self._idle_timeout()
        self._count_received(space, number, first, now)
        if eliciting and space.ack_at is None:
            space.ack_at = now + self._ack_delay

    def _leave_frames(self, plain: bytes, now: float) -> bool:
        """Frames for aioquic's handlers. Answers whether any asks for an ACK."""
        context = QuicReceiveContext(ONE_RTT, self.host_cid, self._network_paths[0], None, now, None)
        eliciting = False
        self._take_bursts_apart()
        try:
            eliciting, _ = self._payload_received(context, plain)
        except QuicConnectionError as exc:
            self.close_for(exc)
        self._route_in = None
        return eliciting

    def _count_received(self, space: QuicPacketSpace, number: int, first: int, now: float) -> bool:
        """What ``receive_datagram`` notes of a packet that came. Answers whether it came in order."""
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            self._spin_bit = (first & 0x20 != 0) ^ self._is_client
            self._spin_highest_pn = number
        self._close_at = now + self._idle_s
        self._ack_eliciting_sent_since_receipt = False
        in_order = number == space.largest_received_packet + 1
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        space.received_packets.add(number)
        ranges: list[range] = space.ack_queue._RangeSet__ranges  # type: ignore[attr-defined]
        if ranges and ranges[-1].stop == number:
            ranges[-1] = range(ranges[-1].start, number + 1)
        else:
            space.ack_queue.add(number)
            if len(ranges) > MAX_ACK_RANGES:
                space.ack_queue.shift()
        return in_order

    def _want_ack(self, space: QuicPacketSpace, now: float, *, at_once: bool) -> None:
        """When to acknowledge: at once if out of order, else after some packets or just in time. Where the next
        packet is not to be expected in time, this one is the last for the ACK, which then needs no timer."""
        self._ack_wanted += 1
        ack_at = space.ack_at
        next_at = now + now - self._eliciting_at
        self._eliciting_at = now
        if at_once or self._ack_wanted >= ACK_EVERY or (ack_at is not None and next_at > ack_at):
            space.ack_at = ack_at = now
        elif ack_at is None:
            space.ack_at = ack_at = now + ACK_DELAY_S
        else:
            return
        if self.on_ack is None:
            self._flush_due = True
        else:
            self.on_ack(ack_at)
