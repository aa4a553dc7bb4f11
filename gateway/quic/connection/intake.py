"""A connection's packets in, once the handshake is confirmed: opened, noted, and handed on. Room: quic. Pure: time comes in.

What comes by the thousand (datagrams and ACKs on the path that is used) is read in line. Sources: RFC 9000 sections 9, 12
and 13; RFC 9001 sections 5.3 to 5.5.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from cryptography.exceptions import InvalidTag

from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.ids import CID_BYTES, TOKEN_BYTES, OurIds
from gateway.quic.connection.keys import Cipherer, Masks
from gateway.quic.connection.packets import (
    BYTES,
    full_number,
    last_datagram,
    leading_ack,
    parse,
    short_part,
)
from gateway.quic.connection.parts import Parts
from gateway.quic.connection.paths import Address, Path
from gateway.quic.connection.received import ALL, SPAN
from gateway.quic.connection.state import ASKED, OPEN
from gateway.quic.connection.taker import Taker

TAKEN, QUIET = 1, 2
"""What :meth:`Intake.receive` did with a packet: took it, or dropped it; took it and left only ``recovery.acked`` to see to."""
PACKET_BYTES_MIN: Final = 1 + CID_BYTES + 4 + 16
"""Below it there is no sample for header protection."""
SAMPLE_AT, SAMPLE_STOP = 1 + CID_BYTES + 4, 1 + CID_BYTES + 4 + 16
STREAM_ACK_S: Final = 0.001
"""What asks for an answer by a stream is acknowledged with that answer, or in a millisecond."""
Route = tuple[Address | None, bytes, int, Cipherer, int, Masks]
"""What packets on the path that is used are opened with: the peer's address, our connection ID, bits of the first byte, and
what :data:`gateway.quic.connection.keys.Sealing` holds."""
RESET_BYTES_MIN: Final = 5 + TOKEN_BYTES


class Intake:
    """``on_ack`` is told when to acknowledge; where it is None, whoever asks for packets sees to it."""

    __slots__ = (
        "_datagrams",
        "_events",
        "_is_client",
        "_our_ids",
        "_parts",
        "_paths",
        "_peer_ids",
        "_received",
        "_recovery",
        "_route",
        "_sending",
        "_state",
        "_taker",
        "on_ack",
    )

    def __init__(self, parts: Parts, our_ids: OurIds, taker: Taker) -> None:
        self._parts, self._our_ids, self._taker = parts, our_ids, taker
        self._is_client, self._state, self._events = (
            parts.is_client,
            parts.state,
            parts.events,
        )
        self._paths, self._peer_ids, self._sending = parts.paths, parts.peer_ids, parts.sending
        self._received, self._recovery, self._datagrams = parts.received, parts.recovery, parts.datagrams
        self._route: Route | None = None
        self.on_ack: Callable[[float], None] | None = None

    def receive(self, data: bytes, address: Address, now: float) -> int:
        """Take one UDP datagram: ``TAKEN``, or ``QUIET`` where ``recovery.acked`` is all there is to see to."""
        route, state = self._route, self._state
        if route is None or state.phase != OPEN:
            return self._receive_any(data, address, now)
        known, cid, bits, decrypt, iv, mask_of = route
        # ``is`` first: the socket gives the same tuple for the same peer (its cache of addresses), and comparing
        # tuples costs more.
        if data[1:9] != cid or (address is not known and address != known) or len(data) < PACKET_BYTES_MIN:
            return self._receive_any(data, address, now)
        mask = mask_of(data[SAMPLE_AT:SAMPLE_STOP])
        first = data[0] ^ (mask[0] & 0x1F)
        # Form, fixed bit, reserved bits and key phase at once; spin (0x20) and the number's length (0x03) may be anything.
        # What differs is read the long way, which says what is wrong with it.
        if first & 0xDC != bits:
            return self._receive_any(data, address, now)
        received = self._received
        expected = received.largest + 1
        size = (first & 3) + 1
        if size == 2:
            truncated = (data[9] ^ mask[1]) << 8 | (data[10] ^ mask[2])
            number = (expected & ~0xFFFF) | truncated
            # The number nearest to the expected one (RFC 9000 appendix A.3); in line, two bytes being what nearly all peers send.
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
        # Dropped without a word: anybody can send such a packet (RFC 9001 section 5.5), and after 2^52 of them,
        # where AES-GCM's bound on forgeries lies (section 6.6), these keys are long gone.
        except InvalidTag:
            return TAKEN
        # Duplicates are dropped only once the packet has opened: before that its number is anybody's claim (RFC 9000 section 12.3).
        behind = expected - 1 - number
        if behind >= 0 and (behind >= SPAN or received.bits >> behind & 1):
            return TAKEN
        payload = None
        ack = leading_ack(plain)
        if ack is None or ack[3] < len(plain):
            payload = last_datagram(plain, 0 if ack is None else ack[3])
            if payload is None:
                return self._take_plain(plain, number, first, now)

        # _note, in line
        if behind < 0:
            # Servers reflect the bit and clients invert it: it turns once a round trip (RFC 9000 section 17.4).
            received.spin = (first & 0x20 != 0) ^ self._is_client
        state.close_at = now + state.idle_s
        state.eliciting_sent = False
        # The next in order, with nothing missing: four stores in place of Received.add.
        if behind == -1 and received.bits == ALL and received.ranges and received.ranges[-1].stop == number:
            received.largest, received.largest_at = number, now
            received.ranges[-1] = range(received.ranges[-1].start, number + 1)
            in_order = True
        else:
            in_order = received.add(number, now)

        recovery = self._recovery
        if ack is not None:
            start, stop, encoded, _ = ack
            # What nearly every ACK of a reader says; everything else takes the long way, which knows all cases.
            if not recovery.take_oldest(start, stop, (encoded << recovery.ack_exponent) / 1_000_000, now):
                self._taker.take_ack([(start, stop)], encoded, now)
            elif payload is None:
                is_due = state.control_due or state.doubt or state.flush_due or state.stream_due
                return TAKEN if is_due or self._datagrams.queue else QUIET
        if payload is not None:
            self._want_ack(now, at_once=not in_order)
            if self._taker.on_payload is not None:
                self._taker.on_payload(payload)
            else:
                self._events.append(events.DatagramFrameReceived(data=payload))
        if (
            self._datagrams.queue
            or state.control_due
            or state.doubt
            or state.flush_due
            or state.stream_due
            or recovery.loss_at is not None
            or recovery.fates
            or self._events
        ):
            return TAKEN
        return QUIET

    @property
    def reads_in_line(self) -> bool:
        """Whether the next packet may be read in line."""
        return self._route is not None

    def find_route(self) -> None:
        """What a packet must match to be read in line: address, connection ID, the unprotected bits of its first byte; and
        what reads it. None: none may."""
        active, keys, cid = self._paths.active, self._sending.keys, self._our_ids.used
        if self._state.phase != OPEN or not active.is_proved or not keys.is_settled or len(cid) != CID_BYTES:
            self._route = None
        else:
            self._route = (active.address, cid, keys.bits | 0x40, *keys.opening)

    def _want_ack(self, now: float, *, at_once: bool) -> None:
        wanted_at = self._received.want_ack(now, at_once=at_once)
        if wanted_at is None:
            return
        if self.on_ack is None:
            self._state.flush_due = True
        else:
            self.on_ack(wanted_at)

    def _note(self, number: int, first: int, now: float) -> bool:
        """What is noted of a packet that came. Answers whether it came in order."""
        state = self._state
        if number > self._received.largest:
            self._received.spin = (first & 0x20 != 0) ^ self._is_client
        state.close_at = now + state.idle_s
        state.eliciting_sent = False
        return self._received.add(number, now)

    def _take_plain(self, plain: bytes, number: int, first: int, now: float) -> int:
        """The content of a packet on the active path, seen for the first time."""
        read = parse(plain)
        if read is None:
            self._take_on_path(plain, number, first, now, self._paths.active, self._our_ids.used)
            return TAKEN
        acks, payloads, eliciting = read
        in_order = self._note(number, first, now)
        for ranges, delay in acks:
            self._taker.take_ack(ranges, delay, now)
        if eliciting:
            self._want_ack(now, at_once=not in_order)
        for payload in payloads:
            self._taker.on_datagram(payload, 0x31)
        return TAKEN

    def _receive_any(self, data: bytes, address: Address, now: float) -> int:
        """Any datagram, once the handshake is confirmed."""
        # Closing and draining answer nothing (RFC 9000 sections 10.2.1 and 10.2.2).
        if self._state.phase not in (OPEN, ASKED):
            return TAKEN
        self._state.doubt = True
        paths, keys = self._paths, self._sending.keys
        if data[:1] >= b"\x80":
            # Long headers may stand before ours in one UDP datagram (RFC 9000 section 12.2); their keys are gone by now.
            data = data[short_part(data) :]
        if not data or not data[0] & 0x40:
            return TAKEN
        cid = data[1 : 1 + CID_BYTES]
        if len(data) < PACKET_BYTES_MIN or self._our_ids.number_of(cid) is None:
            if self.is_stateless_reset(
                data
            ):  # shorter than what it answers, which may be the shortest there is
                self._parts.end(
                    events.ConnectionTerminated(QuicErrorCode.NO_ERROR, None, "stateless reset by the peer")
                )
            return TAKEN
        path = paths.find(address)
        # Servers don't move: packets from an unknown address of theirs are to be discarded (RFC 9000 section 9).
        if self._is_client and path is not paths.active and path not in paths.others:
            return TAKEN
        if not path.is_proved:
            # Counted before it is known to be authentic, as RFC 9000 section 8.1 counts: it is what the address has
            # spent.
            path.came_bytes += len(data)
        mask = keys.opening[2](data[SAMPLE_AT:SAMPLE_STOP])
        first = data[0] ^ (mask[0] & 0x1F)
        size = (first & 3) + 1
        truncated = int.from_bytes(data[9 : 9 + size], "big") ^ int.from_bytes(mask[1 : 1 + size], "big")
        number = full_number(truncated, 8 * size, self._received.largest + 1)
        header = BYTES[first] + cid + truncated.to_bytes(size, "big")
        try:
            plain = keys.open(number, header, data[9 + size :], now, self._recovery.probe_timeout())
        except InvalidTag:
            return TAKEN
        if self._received.is_known(number):
            return TAKEN
        # Only now that it is authentic: an answer to bits that anybody may have set would tell him of the protection
        # (RFC 9000 section 17.3.1, RFC 9001 section 9.5).
        if first & 0x18:
            self._parts.close(
                QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING, "Reserved bits must be zero"
            )
            return TAKEN
        self._take_on_path(plain, number, first, now, path, cid)
        self.find_route()
        return TAKEN

    def _take_on_path(
        self, plain: bytes, number: int, first: int, now: float, path: Path, cid: bytes
    ) -> None:
        """The content of a packet, whatever frames it has and wherever it came from."""
        state = self._state
        state.doubt = True
        try:
            eliciting, probing, with_stream = self._taker.receive(plain, now, path, cid)
        except PeerFault as fault:
            self._parts.close_for(fault)
            return
        if state.phase != OPEN:
            return
        if not with_stream:
            state.idle_s = state.idle_timeout_s(self._recovery.probe_timeout())
        if path is not self._paths.active or cid != self._our_ids.used:
            self._see_to_path(path, cid, number, probing=probing)
        in_order = self._note(number, first, now)
        if with_stream:
            ack_at = self._received.ack_at
            if ack_at is None or ack_at > now + STREAM_ACK_S:
                self._received.ack_at = now + STREAM_ACK_S
        elif eliciting:
            self._want_ack(now, at_once=not in_order)

    def _see_to_path(self, path: Path, cid: bytes, number: int, *, probing: bool) -> None:
        """A packet came from elsewhere, or under another connection ID of ours (RFC 9000 section 9)."""
        paths, ours, peer_ids = self._paths, self._our_ids, self._peer_ids
        if not self._is_client and not probing and cid != ours.used:
            # The peer goes on under another ID of ours; where it moved of its own will another of its own is used,
            # too, so that nobody links both paths (RFC 9000 section 9.5).
            ours.used = cid
            if path.cid is None and peer_ids.change():
                self._received.spin = False
        evicted = paths.keep(path)
        if evicted is not None and evicted.cid is not None:
            peer_ids.retire(evicted.cid)
        if (
            not self._is_client
            and path is not paths.active
            and not probing
            # Of the newest only: a reordered packet from before the move must not have us send to the old address (RFC 9000 section 9.3).
            and number > self._received.largest
        ):
            paths.promote(path)
            self._parts.mtu.begin_anew(self._sending.number)
            if path.cid is not None:
                peer_ids.use(path.cid)
                path.cid, self._received.spin = None, False
        self._state.control_due = True

    def is_stateless_reset(self, data: bytes) -> bool:
        """Whether this datagram for no connection ID of ours is the server's notice that it knows nothing of us (RFC 9000
        section 10.3)."""
        if not self._is_client or len(data) < RESET_BYTES_MIN or data[0] & 0x80 or self._state.is_ended:
            return False
        # A packet for one of our IDs is no reset, whatever its last bytes are.
        if any(data.startswith(one.cid, 1) for one in self._our_ids.known):
            return False
        token = self._peer_ids.current.token
        # In constant time: how far a guess was right must not show (RFC 9000 section 10.3.1).
        return bool(token) and hmac.compare_digest(data[-TOKEN_BYTES:], token)

    def let_go(self) -> None:
        """Hold nothing that holds the connection's owner."""
        self.on_ack = self._route = None
