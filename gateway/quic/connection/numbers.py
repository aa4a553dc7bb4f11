"""Which packet numbers have been received lately, in a few bytes. Room: quic.

aioquic keeps them in a set of up to 256 integers, 20 KB a connection, of which each packet touches another
part. Here they are the bits of one integer. Source: RFC 9000 section 12.3 (a duplicate is discarded).
"""

from __future__ import annotations

from typing import Final

from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketNumberWindow

SPAN: Final = 2 * MAX_ACK_RANGES
"""Numbers that the window spans, as aioquic's."""
ALL: Final = (1 << SPAN) - 1
"""The bits where nothing is missing."""


class NumberWindow(QuicPacketNumberWindow):
    """aioquic's window: numbers below it count as received. ``largest`` and ``bits`` are for reading in line:
    bit n stands for ``largest - n``."""

    __slots__ = ("bits", "largest")

    def __init__(self, known: QuicPacketNumberWindow, largest: int) -> None:
        """``largest``: the largest number that ``known`` was given, -1 if none."""
        self.largest = max(largest, 0)
        self.bits = 0
        for number in range(self.largest - SPAN + 1, self.largest + 1):
            self.bits = self.bits << 1 | (number < 0 or number in known)

    def add(self, packet_number: int) -> None:
        ahead = packet_number - self.largest
        if ahead > 0:
            self.bits = (self.bits << min(ahead, SPAN) | 1) & ALL
            self.largest = packet_number
        elif ahead > -SPAN:
            self.bits |= 1 << -ahead

    def __contains__(self, packet_number: object) -> bool:
        assert isinstance(packet_number, int)
        behind = self.largest - packet_number
        return behind >= SPAN or (behind >= 0 and bool(self.bits >> behind & 1))
