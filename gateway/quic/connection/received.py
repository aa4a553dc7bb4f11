"""Which packets came, and when to say so. Room: quic. Pure: no clock.

Packet numbers lately received are the bits of one integer, so that duplicates are found in a few bytes; what to acknowledge are
a bounded number of ranges. Sources: RFC 9000 sections 12.3, 13.2 and 21.9.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

from gateway import limits
from gateway.quic.connection.handover import PacketNumbers
from gateway.quic.connection.packets import encode_ack

SPAN: Final = 2 * limits.QUIC_ACK_RANGES_MAX
"""Packet numbers below the largest by as many count as received. A packet within is never of a range that was dropped: a range
and the gap above it span at least two numbers (RFC 9000 section 13.2.3)."""
ALL: Final = (1 << SPAN) - 1
"""The bits where nothing is missing."""
ACK_DELAY_S: Final = 0.024
"""Just below the 25 ms announced as max_ack_delay, for the millisecond of a timer."""
ACK_EVERY: Final = 8
"""Ack-eliciting packets in order before an ACK goes at once (RFC 9000 section 13.2.2 allows more than two)."""

ACK_DELAY_EXPONENT: Final = 3
"""Ours: the default, so it is not announced (RFC 9000 section 18.2)."""
_ACK: Final = struct.Struct(">BIIBH")
"""Type, largest and delay of four bytes, no further ranges, the range's length of two."""
_FOUR: Final = 0x8000_0000
_TWO: Final = 0x4000

_start: Callable[[range], int] = attrgetter("start")
_stop: Callable[[range], int] = attrgetter("stop")


class Received:
    """The packets of one space. ``bits``: bit n stands for ``largest - n``. ``ranges``: to be acknowledged, ascending.
    ``ack_at``: when to acknowledge at the latest; None: nothing is to be. ``wanted``: ack-eliciting packets since the last ACK.
    RFC 9000 section 13.2."""

    __slots__ = (
        "_eliciting_at",
        "ack_at",
        "acks_alone",
        "bits",
        "largest",
        "largest_at",
        "ranges",
        "spin",
        "wanted",
    )

    def __init__(self) -> None:
        self.bits = 0
        self.largest = -1
        self.largest_at = 0.0
        self.ranges: list[range] = []
        self.ack_at: float | None = None
        self.wanted = 0
        self.spin = False
        """The bit that lets others on the path measure, as the next packet has it (RFC 9000 section 17.4)."""
        self.acks_alone = 0
        """Packets of an ACK alone since the last that asked for an answer."""
        self._eliciting_at = 0.0

    def adopt(self, ranges: Iterable[range], largest: int, knows: PacketNumbers, now: float) -> None:
        """Go on from what another kept of the same space: ``knows``: a container of the numbers that came."""
        self.ranges = list(ranges)[-limits.QUIC_ACK_RANGES_MAX :]
        self.largest, self.largest_at = largest, now
        self.bits = 0
        for number in range(largest - SPAN + 1, largest + 1):
            self.bits = self.bits << 1 | (number < 0 or number in knows)

    def is_known(self, number: int) -> bool:
        """Whether it came before, or is too old to tell."""
        behind = self.largest - number
        return behind >= SPAN or (behind >= 0 and bool(self.bits >> behind & 1))

    def took(self, start: int, stop: int) -> None:
        """``start`` to ``stop`` (one past the last) came, as another knows who reads packets in this one's place."""
        for number in range(max(start, self.largest + 1), stop):
            self.add(number, self.largest_at)

    def add(self, number: int, now: float) -> bool:
        """A packet that is not known came. Answers whether it came in order."""
        ahead = number - self.largest
        in_order = ahead == 1
        # Shifting a full window in leaves it full: the big integer need not be made anew for each packet in order.
        if in_order and self.bits == ALL:
            self.largest, self.largest_at = number, now
        elif ahead > 0:
            # A jump of 2^30 numbers, which a peer may make, must not make an integer of 2^30 bits.
            self.bits = (self.bits << min(ahead, SPAN) | 1) & ALL
            self.largest, self.largest_at = number, now
        else:
            self.bits |= 1 << -ahead
        ranges = self.ranges
        if ranges and ranges[-1].stop == number:
            ranges[-1] = range(ranges[-1].start, number + 1)
        else:
            self._add_range(number)
        return in_order

    def _add_range(self, number: int) -> None:
        ranges, start, stop = self.ranges, number, number + 1
        low = bisect_left(ranges, start, key=_stop)
        high = bisect_right(ranges, stop, lo=low, key=_start)
        if low < high:
            start, stop = min(start, ranges[low].start), max(stop, ranges[high - 1].stop)
        ranges[low:high] = (range(start, stop),)
        # The oldest is given up: a peer that leaves gaps on purpose must not make ACKs and this list grow (RFC 9000 section 21.9).
        if len(ranges) > limits.QUIC_ACK_RANGES_MAX:
            del ranges[0]

    def want_ack(self, now: float, *, at_once: bool) -> float | None:
        """An ack-eliciting packet came: when to acknowledge it, if that is news. At once if out of order, else after some
        packets or just in time. Where the next packet is not to be expected in time, this one is the last for the ACK,
        which then needs no timer. RFC 9000 section 13.2.1."""
        self.wanted += 1
        ack_at = self.ack_at
        # Expected as far ahead as this one came after the last. At 60 Hz the third packet would come 34 ms after the first, past the
        # 24: so the ACK goes with the second, and no timer has to wake for it.
        next_at = now + now - self._eliciting_at
        self._eliciting_at = now
        if at_once or self.wanted >= ACK_EVERY or (ack_at is not None and next_at > ack_at):
            self.ack_at = now
        elif ack_at is None:
            self.ack_at = now + ACK_DELAY_S
        else:
            return None
        return self.ack_at

    def ack_frame(self, now: float) -> bytes:
        """An ACK of all that came; its integers have fixed lengths where that is quicker, which RFC 9000 section 16 allows.
        Empty: nothing is to be acknowledged."""
        ranges = self.ranges
        if not ranges:
            return b""
        # Microseconds, shifted (RFC 9000 section 19.3); since the largest came, for that is what the peer measures
        # by.
        delay = max(0, int((now - self.largest_at) * 1_000_000)) >> ACK_DELAY_EXPONENT
        if len(ranges) == 1:
            block = ranges[0]
            largest = block.stop - 1
            if largest < 1 << 30 and len(block) <= 1 << 14 and delay < 1 << 30:
                return _ACK.pack(0x02, _FOUR | largest, _FOUR | delay, 0, _TWO | largest - block.start)
        return encode_ack(ranges, delay)

    def acknowledged(self) -> int:
        """An ACK of all this is on its way: the largest number in it."""
        self.ack_at = None
        self.wanted = 0
        return self.largest

    def on_ack_fate(self, acked: bool, largest: int) -> None:
        """An ACK of ours up to ``largest`` was acknowledged, or lost: what it said need not be said again.
        RFC 9000 section 13.2.4."""
        if not acked:
            return
        ranges = self.ranges
        while ranges and ranges[0].start <= largest:
            if ranges[0].stop > largest + 1:
                # In place: what came since the ACK was sent has yet to be acknowledged.
                ranges[0] = range(largest + 1, ranges[0].stop)
                break
            del ranges[0]
