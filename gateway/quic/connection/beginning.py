"""A connection's beginning: aioquic does the handshake, and hands over once it is confirmed. Room: quic. Pure: time comes in.

Meanwhile aioquic sends and receives, and carries what streams have to send; streams and connection IDs are kept by the
connection's own parts already. Sources: RFC 9000 sections 7 and 18.2; RFC 9001 sections 4.1.2 and 4.6.
"""

from __future__ import annotations

from collections.abc import Callable

from aioquic.quic import events
from aioquic.quic.packet import QuicTransportParameters
from aioquic.tls import SessionTicket
from cryptography.x509 import Certificate

from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.handover import Flying
from gateway.quic.connection.ids import OurIds
from gateway.quic.connection.keys import Keys
from gateway.quic.connection.mixed import in_flight
from gateway.quic.connection.packets import DATAGRAM_OVERHEAD_BYTES, FRAME_HEAD_BYTES, short_part
from gateway.quic.connection.parts import Parts
from gateway.quic.connection.paths import NOWHERE, Address
from gateway.quic.connection.seam import Handshake
from gateway.quic.connection.state import HANDSHAKE
from gateway.quic.connection.tlsrest import TlsRest

PACKET_BYTES_LEAST = 1_200
"""What every path carries (RFC 9000 section 14)."""
PACKET_BYTES_MOST = 65_527
"""What a peer takes that says nothing of it (RFC 9000 section 18.2)."""


class Beginning:
    """``certificate``: the peer's, as it was seen in this handshake. ``is_update_due``: keys are to be updated at the hand-over."""

    __slots__ = (
        "_has_learned",
        "_our_ids",
        "_parts",
        "_pings_out",
        "_ticket_handler",
        "certificate",
        "handshake",
        "is_update_due",
    )

    def __init__(
        self,
        parts: Parts,
        handshake: Handshake,
        our_ids: OurIds,
        ticket_handler: Callable[[SessionTicket], None] | None,
    ) -> None:
        self._parts, self._our_ids, self.handshake = parts, our_ids, handshake
        self._ticket_handler = ticket_handler
        self._pings_out: list[int] = []
        self._has_learned = False
        self.certificate: Certificate | None = None
        self.is_update_due = False

    def connect(self, address: Address, now: float) -> None:
        """Send the first packets (clients only), with what the server announced when it gave the ticket.
        RFC 9000 section 7.4.1."""
        self._parts.paths.begin_at(address)
        self.handshake.connect(address, now)
        remembered = self.handshake.remembered_parameters()
        if remembered is not None:
            self._learn(remembered)

    def close(self, code: int, frame_type: int | None, reason: str) -> None:
        """Have aioquic say why."""
        self.handshake.close(code, frame_type, reason)

    # -- input and output -----------------------------------------------------------------

    def receive(self, data: bytes, address: Address, now: float) -> bytes | None:
        """A datagram of the handshake, or while it lasts. Answers None while it goes on; else it is over, and what of the
        datagram is left to be read behind it: a server's last message of it may have more behind it."""
        handshake, parts, rest = self.handshake, self._parts, b""
        if parts.is_client:
            handshake.receive_datagram(data, address, now)
        else:
            short_at = short_part(data)
            # A short header first, before there is a connection: nothing can open it yet, and the peer sends it
            # again.
            if short_at == 0:
                return None
            # aioquic would open a coalesced 1-RTT packet, and its number would count as seen; zeros in its place
            # keep the size, by which the padding of an Initial is judged (RFC 9000 section 14.1).
            data, rest = data[:short_at] + bytes(len(data) - short_at), data[short_at:]
            handshake.receive_datagram(data, address, now)
            parts.paths.begin_at(address if handshake.has_begun else NOWHERE)
        self.pump()
        parts.state.doubt = True
        state = parts.state
        # For a server the handshake is confirmed when it is complete, a client waits for HANDSHAKE_DONE (RFC 9001
        # section 4.1.2).
        is_over = handshake.confirmed if parts.is_client else state.is_complete
        if is_over and state.phase == HANDSHAKE and state.close_event is None and handshake.has_keys:
            return rest
        return None

    def packets(self, now: float) -> list[bytes]:
        """aioquic's packets, which carry our streams for a while."""
        handshake, paths, state = self.handshake, self._parts.paths, self._parts.state
        if paths.address is NOWHERE:
            return []
        self._carry_streams()
        for uid in state.pings:
            handshake.send_ping(uid)
        self._pings_out += state.pings
        state.pings.clear()
        packets: list[bytes] = []
        for data, address in handshake.datagrams_to_send(now):
            if not packets:
                paths.begin_at(address)
            packets.append(data)
        self.pump()
        state.doubt = False
        return packets

    def on_deadline(self, now: float) -> None:
        """aioquic's deadline has come."""
        self.handshake.handle_timer(now)
        self.pump()
        self._parts.state.doubt = True

    def _carry_streams(self) -> None:
        """Give aioquic what streams have to send; they keep it until they know that it arrived."""
        handshake, is_client = self.handshake, self._parts.is_client
        for stream in self._parts.streams.outgoing.unsent():
            send = stream.send
            if (stream.number & 1) == is_client and not handshake.knows(stream.number):
                handshake.open_for_answer(stream.number)
            while (frame := send.carry()) is not None:
                handshake.send_stream_data(stream.number, *frame)

    # -- what aioquic tells ---------------------------------------------------------------

    def emit(self, event: events.QuicEvent) -> None:
        """An event of ours: what aioquic has to tell comes first."""
        self.pump()
        self._parts.events.append(event)

    def pump(self) -> None:
        """Take over aioquic's events."""
        handshake, parts = self.handshake, self._parts
        state = parts.state
        while True:
            event = handshake.next_event()
            if event is None:
                break
            if isinstance(event, events.ProtocolNegotiated):
                self._learn_now()
            elif isinstance(event, events.HandshakeCompleted):
                state.is_complete = True
                self.certificate = handshake.peer_certificate()
                self._learn_now()
            elif isinstance(event, events.PingAcknowledged):
                if event.uid in self._pings_out:
                    self._pings_out.remove(event.uid)
            elif isinstance(event, events.ConnectionTerminated):
                parts.end(event)
                return
            parts.events.append(event)
        state.close_event = state.close_event or handshake.close_event

    def _learn_now(self) -> None:
        if self._has_learned:
            return
        try:
            parameters = self.handshake.peer_parameters()
        except PeerFault as fault:
            if self._parts.close(fault.code, fault.frame_type, fault.reason):
                self.close(fault.code, fault.frame_type, fault.reason)
        else:
            if parameters is not None:
                self._has_learned = True
                self._learn(parameters)

    def _learn(self, said: QuicTransportParameters) -> None:
        """Heed what the peer announced (RFC 9000 section 18.2)."""
        parts = self._parts
        self._learn_limits(said)
        if said.max_idle_timeout:
            parts.state.peer_idle_s = said.max_idle_timeout / 1_000
        if said.max_ack_delay is not None:
            parts.recovery.max_ack_delay_s = said.max_ack_delay / 1_000
        if said.ack_delay_exponent is not None:
            # More than 20 is invalid (RFC 9000 section 18.2) and is aioquic's to refuse: here only the shift is
            # kept small.
            parts.recovery.ack_exponent = min(said.ack_delay_exponent, 20)
        if said.active_connection_id_limit is not None:
            self._our_ids.count_max = said.active_connection_id_limit
        sending = parts.sending
        taken = PACKET_BYTES_MOST
        if said.max_udp_payload_size is not None:
            # Below 1,200 is invalid (RFC 9000 section 18.2).
            taken = max(said.max_udp_payload_size, PACKET_BYTES_LEAST)
            sending.bytes_max = min(sending.bytes_max, taken)
        parts.mtu.learn(taken)
        if said.initial_source_connection_id is not None:
            parts.peer_ids.begin(said.initial_source_connection_id, said.stateless_reset_token)
        room = sending.bytes_max - len(parts.peer_ids.cid) - DATAGRAM_OVERHEAD_BYTES
        remote = (said.max_datagram_frame_size or 0) - FRAME_HEAD_BYTES
        parts.datagrams.payload_bytes_max = max(0, min(room, remote))

    def _learn_limits(self, said: QuicTransportParameters) -> None:
        table = self._parts.streams.table
        peer = table.peer
        # The larger of both: what a ticket remembered may be used already, and a server must not take it back (RFC
        # 9000 section 7.4.1).
        peer.data = max(peer.data, said.initial_max_data or 0)
        peer.streams_bidi = max(peer.streams_bidi, said.initial_max_streams_bidi or 0)
        peer.streams_uni = max(peer.streams_uni, said.initial_max_streams_uni or 0)
        table.learn(
            said.initial_max_stream_data_bidi_remote or 0,
            said.initial_max_stream_data_bidi_local or 0,
            said.initial_max_stream_data_uni or 0,
        )

    # -- the hand-over --------------------------------------------------------------------

    def hand_over(self, now: float) -> TlsRest:
        """The handshake is confirmed: give the parts what goes on without aioquic, and let it go (RFC 9001 section 4.1.2).
        Answers what is left of TLS."""
        parts, handshake = self._parts, self.handshake
        over = handshake.hand_over()
        parts.sending.begin(Keys(over.receiving, over.sending, over.phase), over.next_number)
        received, recovery, datagrams, state = parts.received, parts.recovery, parts.datagrams, parts.state
        if over.received[1] >= 0:
            received.adopt(*over.received, now)
        self._adopt_flight(over.flying, over.carried)
        recovery.adopt_rtt(*over.rtt)
        tls = handshake.tls if parts.is_client else None
        rest = TlsRest(tls, over.heard, over.crypto, self._ticket_handler)
        handshake.let_go()
        # From here on no event of aioquic's has to come before ours.
        parts.streams.incoming.emit = parts.events.append
        state.handshake_done_due = not parts.is_client
        state.pings = self._pings_out + state.pings
        # Not during the handshake: until it is confirmed a client must not move (RFC 9000 section 9), so that
        # nobody would use them.
        self._our_ids.replenish()
        datagrams.content_bytes_max = datagrams.payload_bytes_max and (
            datagrams.payload_bytes_max + FRAME_HEAD_BYTES
        )
        parts.state.begin(now, recovery.probe_timeout())
        state.doubt = state.control_due = True
        if received.ranges:
            received.ack_at = now
        if self.is_update_due:
            parts.sending.keys.update()
        return rest

    def _adopt_flight(self, flying: list[Flying], carried: dict[int, tuple[int, int]]) -> None:
        """Packets that aioquic sent stay in flight; of streams, what is not in them and not acknowledged is sent again."""
        pieces: dict[int, list[tuple[int, int, bool]]] = {}
        streams = self._parts.streams
        by_number, peer = streams.by_number, streams.peer
        for packet in flying:
            handlers = []
            for number, start, stop, is_end in packet.pieces:
                stream = by_number.get(number)
                if stream is not None:
                    pieces.setdefault(number, []).append((start, stop, is_end))
                    handlers.append((streams.outgoing.on_fate, (stream, start, stop, is_end)))
            self._parts.recovery.add(in_flight(packet.number, packet.size, packet.sent_at, tuple(handlers)))
        for number, stream in by_number.items():
            send = stream.send
            if not send.was_carried:
                continue
            if number in carried:
                peer.data_used += carried[number][1]
                send.adopt(*carried[number], pieces.get(number, []))
            else:
                peer.data_used += send.stop
                send.finish()

    def let_go(self) -> None:
        """At the end, if the handshake never was over: hold nothing that holds this."""
        self.handshake.let_go()
        self._ticket_handler = None
