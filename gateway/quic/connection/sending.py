"""A connection's packets numbered and sealed, and the quick ways: bursts, datagrams with nothing beside them, ACKs alone.

Room: quic. Pure: no clock. The quick ways are most of a game's traffic, so they are built in line. Sources: RFC 9000 section 17;
RFC 9001 sections 5.3, 5.4 and 6.6; RFC 9002 section 7; RFC 9221.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from gateway import limits
from gateway.quic.connection.datagrams import HEAD_BYTES_MAX, Datagrams
from gateway.quic.connection.flight import Fates, sent_burst, sent_packet
from gateway.quic.connection.framing import Run
from gateway.quic.connection.ids import PeerIds
from gateway.quic.connection.keys import Keys
from gateway.quic.connection.packets import (
    ACKS_BETWEEN_PINGS,
    HEAD_BYTES,
    PACKET_NUMBER_BYTES,
    datagram_head,
    sealed,
)
from gateway.quic.connection.received import Received
from gateway.quic.connection.recovery import Recovery
from gateway.quic.connection.state import OPEN, State

_run: Callable[[tuple[bytes, int, int]], Run] = partial(tuple.__new__, Run)


class Sending:
    """``number``: of the next packet; ``first_number``: of the first that was made here. ``keys``: from the hand-over on.
    ``bytes_max``: of a packet. The quick ways are to be asked when nothing else is due."""

    __slots__ = (
        "_datagrams",
        "_peer_ids",
        "_received",
        "_recovery",
        "_state",
        "bytes_max",
        "first_number",
        "keys",
        "number",
        "renew_at",
    )
    keys: Keys

    def __init__(
        self,
        bytes_max: int,
        *,
        state: State,
        datagrams: Datagrams,
        recovery: Recovery,
        received: Received,
        peer_ids: PeerIds,
    ) -> None:
        self.bytes_max = bytes_max
        self.number = self.first_number = 0
        self.renew_at = limits.QUIC_PACKETS_PER_KEY_MAX
        self._state, self._datagrams = state, datagrams
        self._recovery, self._received, self._peer_ids = recovery, received, peer_ids

    def begin(self, keys: Keys, number: int) -> None:
        """Go on with these keys from this number."""
        self.keys = keys
        self.number = self.first_number = number

    def seal(self, content: bytes, cid: bytes) -> bytes:
        """A packet of this content with the next number. RFC 9001 section 5."""
        keys, number = self.keys, self.number
        self.number = number + 1
        first = 0x40 | (self._received.spin << 5) | keys.bits | (PACKET_NUMBER_BYTES - 1)
        return sealed((content,), number, first, cid, keys.sealing)

    def renew_keys(self) -> None:
        """So many packets went under these keys; later, where an update is settling (RFC 9001 section 6.6)."""
        if self.keys.is_settled:
            self.renew_at = self.number + limits.QUIC_PACKETS_PER_KEY_MAX
            self.keys.update()

    def burst(self, now: float) -> list[bytes] | Run | None:
        """The packets of the burst that waits. None: they can't go as one; it is in the queue now."""
        datagrams, recovery = self._datagrams, self._recovery
        assert datagrams.burst is not None
        framing, sink, token = datagrams.burst
        control, count, cid = recovery.control, framing.packets, self._peer_ids.cid
        head_bytes = HEAD_BYTES + len(cid)
        total = framing.content_bytes + count * head_bytes
        if (
            total > control.window - control.in_flight
            or framing.largest + head_bytes > self.bytes_max
            or not recovery.pacer.admit_burst(count, now)
        ):
            datagrams.spill()
            return None
        datagrams.burst = None
        datagrams.size = 0
        keys, number = self.keys, self.number
        self.number = number + count
        first = 0x40 | (self._received.spin << 5) | keys.bits | (PACKET_NUMBER_BYTES - 1)
        # Contents are shared by all readers; only nonce, header and so the ciphertext are this connection's own.
        data = sealed(framing.contents, number, first, cid, keys.sealing)
        recovery.add_burst(
            sent_burst((number, total, now, sink, token, framing.shape, framing.count, number + count - 1))
        )
        state = self._state
        # State.on_eliciting_sent, in line.
        if not state.eliciting_sent:
            state.close_at = now + state.idle_s
            state.eliciting_sent = True
        if framing.is_run:
            return _run((data, framing.shape[0][0] + head_bytes, count))
        packets, at = [], 0
        for size, _ in framing.shape:
            packets.append(data[at : at + size + head_bytes])
            at += size + head_bytes
        return packets

    def datagrams_alone(self, now: float) -> list[bytes]:
        """Packets of the datagrams that window and pacer admit: what a reader that is behind gets, so everything is in
        locals."""
        datagrams, recovery = self._datagrams, self._recovery
        queue, pacer, control, keys = datagrams.queue, recovery.pacer, recovery.control, self.keys
        cid = self._peer_ids.cid
        overhead, bytes_max = HEAD_BYTES + len(cid), self.bytes_max
        first = 0x40 | (self._received.spin << 5) | keys.bits | (PACKET_NUMBER_BYTES - 1)
        room = control.window - control.in_flight
        add = recovery.add
        packets: list[bytes] = []
        # Once before the loop: within it every packet may then be one subtraction.
        if pacer.burst_left:
            pacer.forget_old(now)
        while queue:
            payload, sink, token = queue[0]
            taken = len(payload)
            plain = datagram_head(taken) + payload
            size = len(plain) + overhead
            # It was queued when packets had more room, before the peer changed its connection ID.
            if size > bytes_max:
                datagrams.drop_oldest(recovery.fates)
                continue
            if size > room:
                break
            if pacer.burst_left:
                pacer.burst_left -= 1
            else:
                pacing_at = self._state.pacing_at = pacer.admit(now)
                if pacing_at is not None:
                    break
            queue.popleft()
            datagrams.size -= taken
            fates: Fates = ((sink, token, 1),)
            if queue and size + len(queue[0][0]) + HEAD_BYTES_MAX <= min(bytes_max, room):
                plain, fates = datagrams.fill(plain, fates, min(bytes_max, room) - overhead)
                size = len(plain) + overhead
            number = self.number
            self.number = number + 1
            packets.append(sealed((plain,), number, first, cid, keys.sealing))
            add(sent_packet((number, size, now, fates, ())))
            room -= size
        if packets:
            self._state.on_eliciting_sent(now)
        return packets

    def ack_alone(self, now: float) -> bytes | None:
        """The packet for an ACK that is due, accounted for as sent; empty: none is due any more. None: there is more to
        say. What a publisher that hears nothing back is sent all day."""
        received, state, datagrams = self._received, self._state, self._datagrams
        if (
            self._state.phase != OPEN
            or state.control_due
            or state.doubt
            or state.stream_due
            or datagrams.queue
            or datagrams.burst is not None
            or self.number >= self.renew_at
            or received.acks_alone + 1 >= ACKS_BETWEEN_PINGS
        ):
            return None
        # An ACK alone asks for no answer and is not congestion controlled (RFC 9002 section 7), so neither window nor pacer is asked.
        if received.ack_at is None or received.ack_at > now:
            return b""
        packet = self.seal(received.ack_frame(now), self._peer_ids.cid)
        received.acks_alone += 1
        received.acknowledged()
        return packet


class SendingConnection(Protocol):
    """A connection, as its packets concern it."""

    @property
    def sending(self) -> Sending: ...

    @property
    def peer_ids(self) -> PeerIds: ...


def packet_of(quic: SendingConnection, content: bytes) -> bytes:
    """A packet of any content with the next number, which is noted nowhere: for whoever tries what a peer would do."""
    return quic.sending.seal(content, quic.peer_ids.cid)
