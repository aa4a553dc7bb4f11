"""One reader's 1-RTT packets, read and acknowledged with as little as a QUIC stack must do. Room: bench/lean.

Sources: RFC 9000 sections 12.3, 13.2 and 17.3; RFC 9001 sections 5.3 and 5.4; RFC 9221. The state is
the connection's own; only the newest run of packet numbers is held here, and put back by
:meth:`LeanReader.settle` before the real connection is asked to do anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from aioquic.buffer import encode_uint_var
from cryptography.exceptions import InvalidTag

from gateway.quic.connection.packets import BYTES, encode_ack, full_number, parse

CID_BYTES = 8
ACK_EVERY = 2
"""Ack-eliciting packets before an ACK; what one read brought is one batch (RFC 9000 section 13.2.2)."""
MAX_ACK_DELAY_S = 0.025
"""What aioquic announces as ``max_ack_delay``."""
ACK_MARGIN_S = 0.001
ACKS_BETWEEN_PINGS = 32
"""With gaps in what came, a PING now and then lets old ranges go (RFC 9000 section 13.2.4)."""
PACKET_BYTES_MIN = 1 + CID_BYTES + 4 + 16

Take = Callable[[bytes, int, int, int], None]
"""A message's packet, where the message begins and ends in it, and when it came (Unix µs)."""


class Driver(Protocol):
    """What a reader needs of its socket's endpoint."""

    def want_ack_at(self, reader: LeanReader, at: float) -> None:
        """Call ``on_ack_due`` at that time."""


class LeanReader:
    """A connection taken over. ``prefix_bytes``: what precedes the message in a DATAGRAM frame."""

    __slots__ = (
        "_acks_alone",
        "_cid",
        "_due_at",
        "_encrypt",
        "_first_in",
        "_idle_s",
        "_iv",
        "_iv_out",
        "_mask_in",
        "_mask_out",
        "_next",
        "_one_run",
        "_open",
        "_start",
        "_unacked",
        "acks_sent",
        "datagrams",
        "driver",
        "packets",
        "peer",
        "prefix_bytes",
        "quic",
        "send",
        "space",
        "take",
    )

    def __init__(self, peer: Any, driver: Driver, send: Callable[[bytes], Any], take: Take) -> None:
        self.peer, self.driver, self.send, self.take = peer, driver, send, take
        self.quic: Any = peer.quic
        self.space = self.quic.received
        self.prefix_bytes = 0
        self.packets = self.datagrams = self.acks_sent = 0
        self._acks_alone = self._unacked = 0
        self._due_at = 0.0
        self.look_at_connection()

    # -- between the two ------------------------------------------------------------------

    def look_at_connection(self) -> None:
        """Take keys and packet numbers from the real connection, which may have changed them."""
        quic, space = self.quic, self.space
        keys = quic.keys
        self._cid = quic.host_cid
        self._open, self._iv, self._mask_in = keys.opening
        self._encrypt, self._iv_out, self._mask_out = keys.sealing
        self._first_in = 0x40 | keys.bits | 1
        self._idle_s = quic.idle_timeout_s()
        runs = space.ranges
        self._next = max(space.largest + 1, runs[-1].stop if runs else 0)
        self._start = runs[-1].start if runs else self._next
        self._one_run = len(runs) <= 1

    def settle(self) -> None:
        """Tell the real connection what came here."""
        space, stop = self.space, self._next
        space.took(self._start, stop)

    # -- packets in -----------------------------------------------------------------------

    def receive(self, data: bytes, segment: int, now: float, now_us: int) -> list[bytes]:
        """Packets of one read, ``segment`` bytes each (0: one packet). Answers those for the real connection."""
        size = len(data)
        if not segment or segment >= size:
            if size < PACKET_BYTES_MIN or not self._take(data, self._mask_in(data[13:29]), now, now_us):
                return [data]
        else:
            starts = range(0, size, segment)
            if size - starts[-1] < PACKET_BYTES_MIN:
                return [data[at : at + segment] for at in starts]
            masks = self._mask_in(b"".join([data[at + 13 : at + 29] for at in starts]))
            left = []
            for index, at in enumerate(starts):
                packet = data[at : at + segment]
                if not self._take(packet, masks[16 * index : 16 * index + 3], now, now_us):
                    left.append(packet)
            if left:
                return left
        if self._unacked >= ACK_EVERY:
            self.acknowledge(now)
        elif self._unacked and not self._due_at:
            self._due_at = now + MAX_ACK_DELAY_S - ACK_MARGIN_S
            self.driver.want_ack_at(self, self._due_at)
        return []

    def _take(self, packet: bytes, mask: bytes, now: float, now_us: int) -> bool:
        """One packet. False: it is the real connection's."""
        first = packet[0] ^ (mask[0] & 0x1F)
        if first & 0xDF != self._first_in or packet[1:9] != self._cid:
            return False
        low = (packet[9] ^ mask[1]) << 8 | (packet[10] ^ mask[2])
        expected = self._next
        number = (expected & ~0xFFFF) | low
        if not -0x8000 < number - expected <= 0x8000:
            number = full_number(low, 16, expected)
        header = BYTES[first] + self._cid + low.to_bytes(2, "big")
        try:
            plain = self._open((self._iv ^ number).to_bytes(12, "big"), packet[11:], header)
        except InvalidTag:
            return False
        size = len(plain)
        if size > 66 and plain[0] == 0x31 and size == 3 + ((plain[1] & 0x3F) << 8 | plain[2]):
            if number == expected:
                self._next = number + 1
            elif not self._out_of_order(number):
                return True
            self._unacked += 1
            self.packets += 1
            self.datagrams += 1
            self.take(plain, 3 + self.prefix_bytes, size, now_us)
            return True
        return self._take_other(plain, number, now_us)

    def _take_other(self, plain: bytes, number: int, now_us: int) -> bool:
        """Several small datagrams, or padding; everything else is the real connection's."""
        frames = parse(plain)
        if frames is None or frames[0] or not frames[1]:
            return False
        if number == self._next:
            self._next = number + 1
        elif not self._out_of_order(number):
            return True
        self._unacked += 1
        self.packets += 1
        for payload in frames[1]:
            self.datagrams += 1
            self.take(payload, self.prefix_bytes, len(payload), now_us)
        return True

    def _out_of_order(self, number: int) -> bool:
        """Note a packet that is not the next; to be acknowledged at once. False: it had come before."""
        self.settle()
        queue = self.space.ranges
        if any(number in one for one in queue):
            return False
        self.space.add(number, 0.0)
        self._next = queue[-1].stop
        self._start = queue[-1].start
        self._one_run = len(queue) == 1
        self._unacked += ACK_EVERY
        return True

    # -- acknowledgements out -------------------------------------------------------------

    def on_ack_due(self, now: float) -> None:
        """The time given to :meth:`Driver.want_ack_at` has come."""
        if self._due_at and self._due_at <= now:
            self.acknowledge(now)

    def acknowledge(self, now: float) -> None:
        """One packet with an ACK frame alone."""
        delay = 0
        if self._due_at:
            delay = int((now - (self._due_at - MAX_ACK_DELAY_S + ACK_MARGIN_S)) * 1e6) >> 3
        self._unacked, self._due_at = 0, 0.0
        quic = self.quic
        if self._one_run:
            last = self._next - 1
            head = b"\x02" + encode_uint_var(last) + encode_uint_var(max(0, delay))
            plain = head + b"\x00" + encode_uint_var(last - self._start)
        else:
            self.settle()
            plain = encode_ack(self.space.ranges, max(0, delay))
            self._acks_alone += 1
            if self._acks_alone >= ACKS_BETWEEN_PINGS:
                self._acks_alone = 0
                self.space.ack_at = self.space.largest_at = now
                quic.send_ping(0)
                self.peer.hub.mark(self.peer)
        number = quic.number
        quic.number = number + 1
        low = (number & 0xFFFF).to_bytes(2, "big")
        head = BYTES[0x41 | (self._first_in & 0x04)] + quic.peer_ids.current.cid
        sealed = self._encrypt((self._iv_out ^ number).to_bytes(12, "big"), plain, head + low)
        mask = self._mask_out(sealed[2:18])
        first = BYTES[head[0] ^ (mask[0] & 0x1F)]
        self.send(first + head[1:] + BYTES[low[0] ^ mask[1]] + BYTES[low[1] ^ mask[2]] + sealed)
        self.acks_sent += 1
        quic.state.close_at = now + self._idle_s
