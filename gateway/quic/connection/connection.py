"""One QUIC connection, either end: the owner of its parts. Room: quic. No socket and no clock: bytes and times come in.

Until the handshake is confirmed aioquic sends and receives (:mod:`gateway.quic.connection.seam`), while streams and
connection IDs are kept here already; then its keys, numbers and packets in flight are taken over, and it is let go. The parts
know nothing of each other: keys, packets received, packets in flight with congestion and pacing, streams, datagrams,
connection IDs, paths. What comes by the thousand (datagrams and their ACKs) is done in line on them. Sources: RFC 9000;
RFC 9001 sections 4 and 5; RFC 9002; RFC 9221.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicTransportParameters
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.serialization import Encoding

from gateway import limits
from gateway.core.ports import RoundTrips
from gateway.quic.connection import frames, sending
from gateway.quic.connection.congestion import congestion
from gateway.quic.connection.datagrams import QUEUE_BYTES_MAX, Datagrams
from gateway.quic.connection.faults import PeerFault, Refusal
from gateway.quic.connection.framing import Framing, Run
from gateway.quic.connection.ids import CID_BYTES, TOKEN_BYTES, OurIds, PeerIds
from gateway.quic.connection.keys import Keys
from gateway.quic.connection.pacing import Pacer
from gateway.quic.connection.packets import (
    BYTES,
    full_number,
    last_datagram,
    leading_ack,
    parse,
    parse_ack,
    varint,
)
from gateway.quic.connection.paths import Address, Path, Paths
from gateway.quic.connection.received import ALL, SPAN, Received
from gateway.quic.connection.recovery import FateSink, Recovery
from gateway.quic.connection.seam import Handshake, short_part
from gateway.quic.connection.sendhalf import SendHalf
from gateway.quic.connection.streams import Streams
from gateway.quic.connection.tlsrest import TlsRest

HANDSHAKE, OPEN, CLOSING, DRAINING, ENDED = range(5)
"""States (RFC 9000 section 10.2): the handshake is aioquic's; open; we closed; the peer closed; over."""
TAKEN, QUIET = 1, 2
"""What :meth:`Connection.receive` did with a packet: took it, or dropped it; took it and left only ``recovery.acked`` to see to."""
PACKET_BYTES_MIN: Final = 1 + CID_BYTES + 4 + 16
"""Below it there is no sample for header protection."""
SAMPLE_AT, SAMPLE_STOP = 1 + CID_BYTES + 4, 1 + CID_BYTES + 4 + 16
STREAM_ACK_S: Final = 0.001
"""What asks for an answer by a stream is acknowledged with that answer, or in a millisecond."""
ACK_DELAY_EXPONENT: Final = 3
"""Ours, and the peer's where it says no other."""
CLOSING_PTOS: Final = 3
RESET_BYTES_MIN: Final = 5 + TOKEN_BYTES


class Connection:
    """One connection, client or server. ``reset_key``: see :class:`gateway.quic.options.QuicOptions`.

    ``events``: what happened, to be taken by whoever drives this, in aioquic's form. ``on_payload`` takes the contents of
    DATAGRAM frames, in place of events. ``on_ack`` is told when to acknowledge (:func:`gateway.quic.connection.sending.ack_alone`);
    where it is None, :meth:`packets` sees to it. ``elsewhere``: packets for addresses other than :attr:`address`, to be taken after :meth:`packets`.
    ``calm``: after :meth:`packets`: no deadline of its own lies within the next probe timeout at its shortest.
    """

    __slots__ = (
        "__weakref__",
        "_ack_exponent",
        "_acks_alone",
        "_certificate",
        "_cid_in",
        "_close_pending",
        "_control_due",
        "_doubt",
        "_early_address",
        "_eliciting_sent",
        "_flush_due",
        "_handshake_done_due",
        "_idle_s",
        "_is_complete",
        "_now",
        "_path",
        "_peer_id_limit",
        "_peer_idle_s",
        "_pings_due",
        "_pings_out",
        "_probe_due",
        "_renew_at",
        "_route",
        "_spin",
        "_spin_number",
        "_state",
        "_stream_due",
        "_ticket_handler",
        "_tls",
        "_update_due",
        "calm",
        "close_at",
        "close_event",
        "configuration",
        "content_bytes_max",
        "datagrams",
        "elsewhere",
        "events",
        "excused_bytes",
        "handshake",
        "host_cid",
        "is_client",
        "keys",
        "number",
        "on_ack",
        "on_payload",
        "our_ids",
        "pacing_at",
        "packet_bytes_max",
        "packets_fast",
        "paths",
        "payload_bytes_max",
        "peer_ids",
        "received",
        "recovery",
        "streams",
        "window_before_fade",
    )

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        reset_key: bytes | None = None,
        session_ticket_handler: Callable[[Any], None] | None = None,
        **kwargs: Any,
    ) -> None:
        """``kwargs``: aioquic's, for the handshake."""
        self.configuration = configuration
        self.is_client = bool(configuration.is_client)
        self.packet_bytes_max = configuration.max_datagram_size
        self.events: deque[Any] = deque()
        self.close_event: events.ConnectionTerminated | None = None
        self.elsewhere: list[tuple[bytes, Address]] = []
        self.on_payload: Callable[[bytes], None] | None = None
        self.on_ack: Callable[[float], None] | None = None
        self.calm = False
        self.packets_fast = 0
        self.number = 0
        self.excused_bytes = self.window_before_fade = 0
        """What is in flight but not counted as such (:mod:`gateway.quic.connection.fades`)."""
        self.payload_bytes_max = self.content_bytes_max = 0
        self.close_at: float | None = None
        self.pacing_at: float | None = None

        window, data_window = configuration.max_stream_data, configuration.max_data
        self.streams = Streams(
            is_client=self.is_client, window=window, data_window=data_window, emit=self._emit_early
        )
        self.datagrams = Datagrams()
        self.received = Received()
        control = congestion(configuration.congestion_control_algorithm, self.packet_bytes_max)
        self.recovery = Recovery(control, Pacer(self.packet_bytes_max))
        self.peer_ids = PeerIds()
        self.keys: Keys | None = None
        self.paths: Paths | None = None

        self._state = HANDSHAKE
        self._ticket_handler = session_ticket_handler
        self._tls: TlsRest | None = None
        self._certificate: Any = None
        self._is_complete = self._close_pending = False
        self._early_address: Address = None
        self._control_due = self._doubt = self._stream_due = self._flush_due = False
        self._handshake_done_due = self._probe_due = self._update_due = False
        self._pings_due: list[int] = []
        self._pings_out: list[int] = []
        self._acks_alone = 0
        self._eliciting_sent = False
        self._idle_s = float(configuration.idle_timeout)
        self._peer_idle_s: float | None = None
        self._peer_id_limit = 2
        self._ack_exponent = ACK_DELAY_EXPONENT
        self._renew_at = limits.QUIC_PACKETS_PER_KEY_MAX
        self._spin, self._spin_number = False, -1
        self._route: tuple[Any, ...] | None = None
        self._now = 0.0
        self._path: Path | None = None
        self._cid_in = b""

        kwargs["session_ticket_handler"] = session_ticket_handler
        handshake = Handshake(self, None, configuration=configuration, **kwargs)
        self.handshake: Handshake | None = handshake
        self.host_cid: bytes = handshake.host_cid
        self.our_ids = OurIds(self.host_cid, reset_key)
        if not self.is_client:
            handshake.token = self.our_ids.known[0].token = self.our_ids.token_of(self.host_cid)

    # -- questions ------------------------------------------------------------------------

    @property
    def original_destination_connection_id(self) -> bytes:
        """Of the handshake, while it lasts."""
        assert self.handshake is not None
        original: bytes = self.handshake.original_destination_connection_id
        return original

    @property
    def is_ended(self) -> bool:
        """Whether it is closed or closing, and nothing may be asked of it any more."""
        if self._state == HANDSHAKE:
            return self.close_event is not None
        return self._state >= CLOSING

    @property
    def is_established(self) -> bool:
        return self._is_complete and not self.is_ended and not self._close_pending

    @property
    def is_taken_over(self) -> bool:
        """Whether the handshake is over and its aioquic gone."""
        return self.handshake is None

    @property
    def address(self) -> Address | None:
        """Where packets go."""
        return self._early_address if self.paths is None else self.paths.active.address

    def idle_timeout_s(self) -> float:
        """Silence of so many seconds ends the connection: the smaller of what both ends said (RFC 9000 section 10.1)."""
        idle_s = float(self.configuration.idle_timeout)
        if self._peer_idle_s is not None:
            idle_s = min(idle_s, self._peer_idle_s)
        return max(idle_s, 3 * self.recovery.probe_timeout())

    def silent_s(self, now: float) -> float:
        """For how long nothing came, nor went out that asks for an answer."""
        return 0.0 if self.close_at is None else now + self._idle_s - self.close_at

    def datagram_bytes_max(self) -> int:
        """The largest datagram payload that fits one packet of this connection now; 0: none are taken."""
        return self.payload_bytes_max

    def room_bytes(self) -> int:
        """Congestion window less what is in flight and what is queued."""
        control = self.recovery.control
        return max(0, control.window - control.in_flight - self.datagrams.size)

    def round_trips(self) -> RoundTrips | None:
        """The newest round trip and the smallest, less the delays that the peer says it added; None before the first."""
        recovery = self.recovery
        return RoundTrips(recovery.rtt_latest, recovery.rtt_min) if recovery.has_rtt else None

    def send_buffer_bytes(self, writers: int) -> int:
        """How many unacknowledged bytes of one stream its writer need not wait for, when so many writers wait: two windows
        between them, so that the window can double in the next round trip."""
        wanted = min(2 * int(self.recovery.control.window), limits.H3_SEND_BUFFER_BYTES_MAX)
        return max(wanted // max(writers, 1), limits.H3_SEND_BUFFER_BYTES_MIN)

    def has_unsent(self) -> bool:
        """Whether any stream still has bytes that the peer has not acknowledged."""
        return self.streams.unsent_total() > 0

    def peer_leaf_der(self) -> bytes | None:
        """The server's certificate as a client saw it in this handshake; None when resumed."""
        certificate = self._certificate
        return None if certificate is None else certificate.public_bytes(Encoding.DER)

    @property
    def needs_flush(self) -> bool:
        """Whether input may have left something to send, or a deadline that came closer."""
        return bool(
            self._control_due
            or self._doubt
            or self._flush_due
            or self._stream_due
            or self.datagrams.queue
            or self._state != OPEN
            or self.recovery.loss_at is not None
        )

    def next_event(self) -> Any:
        """Take an event; None: there is none."""
        return self.events.popleft() if self.events else None

    def take_fates(self) -> list[tuple[FateSink, int, bool]]:
        """What has become of datagrams since the last call, in order."""
        return self.recovery.take_fates()

    # -- the application: streams ---------------------------------------------------------

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        """As aioquic's HTTP/3 asks for it."""
        return self.streams.next_number(one_way=is_unidirectional)

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """Send on a stream, which is opened if it is new. Raises ``ValueError``, ``RuntimeError``."""
        self._doubt = True
        self.streams.write(stream_id, data, end=end_stream)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Give up sending on a stream: nothing of it is sent again. Raises ``ValueError``."""
        self._doubt = True
        self.streams.reset(stream_id, error_code)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to stop sending. Raises ``ValueError``."""
        self._doubt = True
        self.streams.stop(stream_id, error_code)

    def abandon_receiving(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to stop sending on a stream, if it is still at it."""
        if not self.is_ended and self.streams.abandon_receiving(stream_id, error_code):
            self._doubt = True

    def hold(self, stream_id: int, size: int) -> None:
        """See :meth:`gateway.quic.connection.streams.Streams.hold`."""
        self.streams.hold(stream_id, size)

    def release(self, stream_id: int, size: int) -> None:
        """See :meth:`gateway.quic.connection.streams.Streams.release`."""
        self._doubt = True
        self.streams.release(stream_id, size)

    # -- the application: datagrams -------------------------------------------------------

    def _refusal(self, size: int) -> Refusal | None:
        """Why a datagram of ``size`` bytes can't be taken, whatever room there is."""
        if self.is_ended or self._close_pending:
            return Refusal.CLOSED
        if size <= self.payload_bytes_max:
            return None
        return Refusal.TOO_LARGE if self.payload_bytes_max else Refusal.UNSUPPORTED

    def offer_datagram(self, payload: bytes, sink: FateSink, token: int) -> Refusal | None:
        """Queue a datagram if the congestion window has room for it now. Else: why not."""
        datagrams = self.datagrams
        if datagrams.burst is not None:
            datagrams.spill()
        control = self.recovery.control
        size = len(payload)
        queued = datagrams.size + size
        if size > self.payload_bytes_max or self._state != OPEN:
            refusal = self._refusal(size)
            if refusal is not None:
                return refusal
        if queued > control.window - control.in_flight or queued > QUEUE_BYTES_MAX:
            return Refusal.BLOCKED
        datagrams.queue.append((payload, sink, token))
        datagrams.size = queued
        return None

    def queue_datagram(self, payload: bytes, sink: FateSink, token: int) -> Refusal | None:
        """Queue a datagram to go out with the next packets; the oldest queued ones make room beyond the bound, and count as
        lost. Else: why not."""
        datagrams = self.datagrams
        datagrams.spill()
        refusal = self._refusal(len(payload))
        if refusal is None:
            datagrams.queue.append((payload, sink, token))
            datagrams.size += len(payload)
            datagrams.drop_beyond(self.recovery.fates)
        return refusal

    def offer_burst(self, framing: Framing, sink: FateSink, token: int) -> Refusal | None:
        """Queue a burst if the congestion window has room for all of it now and nothing waits before it. Else: why not;
        offer its messages one by one."""
        datagrams, control = self.datagrams, self.recovery.control
        size = framing.content_bytes + framing.packets * (sending.HEAD_BYTES + len(self.peer_ids.current.cid))
        if framing.largest > self.content_bytes_max or self._state != OPEN or self._close_pending:
            if self._state != OPEN or self._close_pending:
                return Refusal.UNSUPPORTED if self._state == HANDSHAKE else Refusal.CLOSED
            return Refusal.TOO_LARGE if self.content_bytes_max else Refusal.UNSUPPORTED
        if (
            datagrams.burst is not None
            or datagrams.queue
            or size > control.window - control.in_flight
            or size > QUEUE_BYTES_MAX
        ):
            return Refusal.BLOCKED
        datagrams.burst = (framing, sink, token)
        datagrams.size = framing.payload_bytes
        return None

    def forget_datagrams(self) -> None:
        """At the end: everything queued or in flight counts as lost. Idempotent."""
        self.datagrams.drop_all(self.recovery.fates)
        self.recovery.give_up_datagrams()

    # -- the application: the connection --------------------------------------------------

    def connect(self, address: Address, now: float) -> None:
        """Begin the handshake (clients only)."""
        assert self.handshake is not None
        self._early_address = address
        self.handshake.connect(address, now)
        remembered = self.handshake.remembered_parameters()
        if remembered is not None:
            self._learn(remembered)

    def send_ping(self, uid: int) -> None:
        """Ask for an answer; ``PingAcknowledged`` bears this number."""
        self._doubt = True
        self._pings_due.append(uid)

    def request_key_update(self) -> None:
        """Go on with new keys; once the handshake is confirmed, if it is not yet."""
        if self.keys is None:
            self._update_due = True
        elif self._state == OPEN:
            self.keys.update()
            self._route = None

    def change_connection_id(self) -> None:
        """Go on under another connection ID of the peer's, where it gave one."""
        if self.peer_ids.change():
            self._spin = False
            self._doubt = True

    def close(
        self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        """Close the connection with the next packets. Idempotent."""
        if self.close_event is not None or self._state >= CLOSING:
            return
        self.close_event = events.ConnectionTerminated(error_code, frame_type, reason_phrase)
        if self.handshake is not None:
            self.handshake.close(error_code, frame_type, reason_phrase)
        else:
            self._close_pending = self._control_due = True
            self._route = None

    def close_for(self, fault: PeerFault) -> None:
        """Close the connection with what the peer did."""
        self.close(fault.code, fault.frame_type, fault.reason)

    # -- before the handshake is confirmed ------------------------------------------------

    def _emit_early(self, event: Any) -> None:
        """What aioquic has to tell comes first."""
        self._pump()
        self.events.append(event)

    def _pump(self) -> None:
        """Take over aioquic's events."""
        handshake = self.handshake
        if handshake is None:
            return
        while True:
            event: Any = handshake.next_event()
            if event is None:
                break
            kind = event.__class__
            if kind is events.ProtocolNegotiated:
                self._learn_early(handshake)
            elif kind is events.HandshakeCompleted:
                self._is_complete = True
                self._certificate = handshake.peer_certificate()
                self._learn_early(handshake)
            elif kind is events.PingAcknowledged:
                if event.uid in self._pings_out:
                    self._pings_out.remove(event.uid)
            elif kind is events.ConnectionTerminated:
                self.close_event = self.close_event or event
                self._end()
                return
            self.events.append(event)
        self.close_event = self.close_event or handshake.close_event

    def _learn_early(self, handshake: Handshake) -> None:
        try:
            parameters = handshake.peer_parameters()
        except PeerFault as fault:
            self.close_for(fault)
        else:
            if parameters is not None:
                self._learn(parameters)

    def _learn(self, said: QuicTransportParameters) -> None:
        """Heed what the peer announced (RFC 9000 section 18.2)."""
        peer = self.streams.peer
        peer.data = max(peer.data, said.initial_max_data or 0)
        peer.streams_bidi = max(peer.streams_bidi, said.initial_max_streams_bidi or 0)
        peer.streams_uni = max(peer.streams_uni, said.initial_max_streams_uni or 0)
        self.streams.learn(
            said.initial_max_stream_data_bidi_remote or 0,
            said.initial_max_stream_data_bidi_local or 0,
            said.initial_max_stream_data_uni or 0,
        )
        if said.max_idle_timeout:
            self._peer_idle_s = said.max_idle_timeout / 1_000
        if said.max_ack_delay is not None:
            self.recovery.max_ack_delay_s = said.max_ack_delay / 1_000
        if said.ack_delay_exponent is not None:
            self._ack_exponent = min(said.ack_delay_exponent, 20)
        if said.active_connection_id_limit is not None:
            self._peer_id_limit = said.active_connection_id_limit
        if said.max_udp_payload_size is not None:
            self.packet_bytes_max = min(self.packet_bytes_max, max(said.max_udp_payload_size, 1_200))
        current = self.peer_ids.current
        if current.number == 0 and said.initial_source_connection_id is not None:
            current.cid = said.initial_source_connection_id
            current.token = said.stateless_reset_token or current.token
        room = self.packet_bytes_max - len(current.cid) - sending.DATAGRAM_OVERHEAD_BYTES
        remote = (said.max_datagram_frame_size or 0) - sending.FRAME_HEAD_BYTES
        self.payload_bytes_max = max(0, min(room, remote))

    def _receive_early(self, data: bytes, address: Address, now: float) -> int:
        """A datagram of the handshake, or while it lasts. What follows a server's last message of it in the same datagram
        is already ours to read."""
        handshake = self.handshake
        assert handshake is not None
        self._now, rest = now, b""
        if self.is_client:
            handshake.receive_datagram(data, address, now)
        else:
            short_at = short_part(data)
            if short_at == 0:
                return TAKEN
            data, rest = data[:short_at] + bytes(len(data) - short_at), data[short_at:]
            handshake.receive_datagram(data, address, now)
            self._early_address = address if handshake.has_begun else None
        self._pump()
        self._doubt = True
        is_over = handshake.confirmed if self.is_client else self._is_complete
        if is_over and self._state == HANDSHAKE and self.close_event is None and handshake.has_keys:
            self._take_over(handshake, now)
            if rest:
                self.receive(rest, address, now)
        return TAKEN

    def _packets_early(self, now: float) -> list[bytes]:
        """aioquic's packets, which carry our streams for a while."""
        handshake = self.handshake
        assert handshake is not None
        if self._early_address is None:
            return []
        self._carry_streams(handshake)
        if self._pings_due:
            for uid in self._pings_due:
                handshake.send_ping(uid)
            self._pings_out += self._pings_due
            self._pings_due.clear()
        packets: list[bytes] = []
        for data, address in handshake.datagrams_to_send(now):
            self._early_address = address if not packets else self._early_address
            packets.append(data)
        self._pump()
        self._doubt = False
        return packets

    def _carry_streams(self, handshake: Handshake) -> None:
        """Give aioquic what streams have to send; they keep it until they know that it arrived."""
        for stream in self.streams.unsent():
            send = stream.send
            if (stream.number & 1) == self.is_client and not handshake.knows(stream.number):
                handshake.open_for_answer(stream.number)
            while (frame := send.carry()) is not None:
                handshake.send_stream_data(stream.number, *frame)

    def _take_over(self, handshake: Handshake, now: float) -> None:
        """The handshake is confirmed: go on alone (RFC 9001 section 4.1.2)."""
        over = handshake.hand_over()
        self.keys = Keys(over.receiving, over.sending, over.phase)
        self.number = over.next_number
        if over.received[1] >= 0:
            self.received.adopt(*over.received, now)
        recovery = self.recovery
        self._take_over_flight(over.flying, over.carried)
        recovery.adopt_rtt(*over.rtt)
        self.paths = Paths(Path(self._early_address, is_proved=True))
        self._tls = TlsRest(
            handshake.tls if self.is_client else None, over.heard, over.crypto, self._ticket_handler
        )
        self.handshake = None
        handshake.let_go()
        self.streams.emit = self.events.append
        self._state = OPEN
        self._handshake_done_due = not self.is_client
        self._pings_due, self._pings_out = self._pings_out + self._pings_due, []
        self.our_ids.replenish(self._peer_id_limit)
        self.content_bytes_max = self.payload_bytes_max and self.payload_bytes_max + sending.FRAME_HEAD_BYTES
        self._idle_s = self.idle_timeout_s()
        self.close_at = now + self._idle_s
        self._doubt = self._control_due = True
        if self.received.ranges:
            self.received.ack_at = now
        if self._update_due:
            self.keys.update()

    def _take_over_flight(self, flying: list[Any], carried: dict[int, tuple[int, int]]) -> None:
        """Packets that aioquic sent stay in flight; of streams, what is not in them and not acknowledged is sent again."""
        pieces: dict[int, list[tuple[int, int, bool]]] = {}
        streams = self.streams.by_number
        for packet in flying:
            handlers = []
            for number, start, stop, is_end in packet.pieces:
                stream = streams.get(number)
                if stream is not None:
                    pieces.setdefault(number, []).append((start, stop, is_end))
                    handlers.append((stream.send.on_fate, (start, stop, is_end)))
            self.recovery.add(sending.in_flight(packet.number, packet.size, packet.sent_at, tuple(handlers)))
        for number, stream in streams.items():
            send: SendHalf = stream.send
            if not send.was_carried:
                continue
            if number in carried:
                self.streams.peer.data_used += carried[number][1]
                send.adopt(*carried[number], pieces.get(number, []))
            else:
                self.streams.peer.data_used += send.stop
                send.finish()

    # -- input ----------------------------------------------------------------------------

    def receive(self, data: bytes, address: Address, now: float) -> int:
        """Take one UDP datagram: ``TAKEN``, or ``QUIET`` where ``recovery.acked`` is all there is to see to."""
        route = self._route
        if route is None:
            if self._state != OPEN:
                return self._receive_early(data, address, now) if self._state == HANDSHAKE else TAKEN
            return self._receive_any(data, address, now)
        known, cid, bits, decrypt, iv, mask_of = route
        if data[1:9] != cid or (address is not known and address != known) or len(data) < PACKET_BYTES_MIN:
            return self._receive_any(data, address, now)
        mask = mask_of(data[SAMPLE_AT:SAMPLE_STOP])
        first = data[0] ^ (mask[0] & 0x1F)
        if first & 0xDC != bits:
            return self._receive_any(data, address, now)
        received = self.received
        expected = received.largest + 1
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
            return TAKEN
        behind = expected - 1 - number
        if behind >= 0 and (behind >= SPAN or received.bits >> behind & 1):
            return TAKEN
        payload = None
        ack = leading_ack(plain)
        if ack is None or ack[3] < len(plain):
            payload = last_datagram(plain, 0 if ack is None else ack[3])
            if payload is None:
                return self._take_plain(plain, number, first, now)

        # _note_received, in line
        if number > self._spin_number:
            self._spin = (first & 0x20 != 0) ^ self.is_client
            self._spin_number = number
        self.close_at = now + self._idle_s
        self._eliciting_sent = False
        if behind == -1 and received.bits == ALL and received.ranges and received.ranges[-1].stop == number:
            received.largest, received.largest_at = number, now
            received.ranges[-1] = range(received.ranges[-1].start, number + 1)
            in_order = True
        else:
            in_order = received.add(number, now)

        recovery = self.recovery
        if ack is not None:
            start, stop, encoded, _ = ack
            delay = (encoded << self._ack_exponent) / 1_000_000
            if not recovery.take_oldest(start, stop, delay, now):
                self._take_ack([(start, stop)], delay, now)
        if payload is not None:
            self._want_ack(now, at_once=not in_order)
            if self.on_payload is not None:
                self.on_payload(payload)
            else:
                self.events.append(events.DatagramFrameReceived(data=payload))
        if (
            self.datagrams.queue
            or self._control_due
            or self._doubt
            or self._flush_due
            or self._stream_due
            or recovery.loss_at is not None
            or recovery.fates
            or self.events
        ):
            return TAKEN
        return QUIET

    def _find_route(self) -> None:
        """What a packet must match to be read in line: address, connection ID, the unprotected bits of its first byte; and
        what reads it: decrypt, IV, mask. None: none may."""
        paths, keys = self.paths, self.keys
        if (
            self._state != OPEN
            or self._close_pending
            or paths is None
            or keys is None
            or not paths.active.is_proved
            or not keys.is_settled
            or len(self.host_cid) != CID_BYTES
        ):
            self._route = None
        else:
            self._route = (paths.active.address, self.host_cid, keys.bits | 0x40, *keys.opening)

    def _want_ack(self, now: float, *, at_once: bool) -> None:
        wanted_at = self.received.want_ack(now, at_once=at_once)
        if wanted_at is None:
            return
        if self.on_ack is None:
            self._flush_due = True
        else:
            self.on_ack(wanted_at)

    def _note_received(self, number: int, first: int, now: float) -> bool:
        """What is noted of a packet that came. Answers whether it came in order."""
        if number > self._spin_number:
            self._spin = (first & 0x20 != 0) ^ self.is_client
            self._spin_number = number
        self.close_at = now + self._idle_s
        self._eliciting_sent = False
        return self.received.add(number, now)

    def _take_plain(self, plain: bytes, number: int, first: int, now: float) -> int:
        """The content of a packet on the active path, seen for the first time."""
        read = parse(plain)
        if read is None:
            self._take_on_path(plain, number, first, now, self.paths.active, self.host_cid)  # type: ignore[union-attr]
            return TAKEN
        acks, payloads, eliciting = read
        in_order = self._note_received(number, first, now)
        for ranges, delay in acks:
            self._take_ack(ranges, (delay << self._ack_exponent) / 1_000_000, now)
        if eliciting:
            self._want_ack(now, at_once=not in_order)
        for payload in payloads:
            self.on_datagram(payload, 0x31)
        return TAKEN

    def _receive_any(self, data: bytes, address: Address, now: float) -> int:
        """Any datagram, once the handshake is confirmed."""
        self._doubt = True
        paths, keys = self.paths, self.keys
        assert paths is not None
        assert keys is not None
        if data[:1] >= b"\x80":
            short_at = short_part(data)
            data = data[short_at:]
        if not data or not data[0] & 0x40:
            return TAKEN
        cid = data[1 : 1 + CID_BYTES]
        if len(data) < PACKET_BYTES_MIN or self.our_ids.number_of(cid) is None:
            if self.is_stateless_reset(
                data
            ):  # shorter than what it answers, which may be the shortest there is
                self.close_event = events.ConnectionTerminated(
                    QuicErrorCode.NO_ERROR, None, "stateless reset by the peer"
                )
                self._end()
            return TAKEN
        path = paths.find(address)
        if self.is_client and path is not paths.active and path not in paths.others:
            return TAKEN
        if not path.is_proved:
            path.came_bytes += len(data)
        mask = keys.opening[2](data[SAMPLE_AT:SAMPLE_STOP])
        first = data[0] ^ (mask[0] & 0x1F)
        size = (first & 3) + 1
        truncated = int.from_bytes(data[9 : 9 + size], "big") ^ int.from_bytes(mask[1 : 1 + size], "big")
        number = full_number(truncated, 8 * size, self.received.largest + 1)
        header = BYTES[first] + cid + truncated.to_bytes(size, "big")
        try:
            plain = keys.open(number, header, data[9 + size :], now, self.recovery.probe_timeout())
        except InvalidTag:
            return TAKEN
        if self.received.is_known(number):
            return TAKEN
        if first & 0x18:
            self.close(QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING, "Reserved bits must be zero")
            return TAKEN
        self._take_on_path(plain, number, first, now, path, cid)
        self._find_route()
        return TAKEN

    def _take_on_path(
        self, plain: bytes, number: int, first: int, now: float, path: Path, cid: bytes
    ) -> None:
        """The content of a packet, whatever frames it has and wherever it came from."""
        self._doubt = True
        self._now, self._path, self._cid_in = now, path, cid
        try:
            eliciting, probing, with_stream = self._take_frames(plain)
        except PeerFault as fault:
            self.close_for(fault)
            return
        if self._state != OPEN or self._close_pending:
            return
        if not with_stream:
            self._idle_s = self.idle_timeout_s()
        if path is not self.paths.active or cid != self.host_cid:  # type: ignore[union-attr]
            self._see_to_path(path, cid, number, probing=probing)
        in_order = self._note_received(number, first, now)
        if with_stream:
            if self.received.ack_at is None:
                self.received.ack_at = now + STREAM_ACK_S
        elif eliciting:
            self._want_ack(now, at_once=not in_order)

    def _see_to_path(self, path: Path, cid: bytes, number: int, *, probing: bool) -> None:
        """A packet came from elsewhere, or under another connection ID of ours (RFC 9000 section 9)."""
        paths = self.paths
        assert paths is not None
        if not self.is_client and not probing and cid != self.host_cid:
            self.host_cid = cid
            if path.cid is None and self.peer_ids.change():
                self._spin = False
        evicted = paths.keep(path)
        if evicted is not None and evicted.cid is not None:
            self.peer_ids.retire(evicted.cid)
        if not self.is_client and path is not paths.active and not probing and number > self.received.largest:
            paths.promote(path)
            if path.cid is not None:
                self.peer_ids.use(path.cid)
                path.cid, self._spin = None, False
        self._control_due = True
        self._find_route()

    def _take_frames(self, plain: bytes) -> tuple[bool, bool, bool]:
        """All frames of a packet. Answers whether any asks for an ACK, whether all only probe, and whether there are any of
        streams. Raises :class:`PeerFault`."""
        if not plain:
            raise PeerFault(
                QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING, "Packet contains no frames"
            )
        eliciting = with_stream = False
        probing = True
        at, end = 0, len(plain)
        while at < end:
            kind: int = plain[at]
            at += 1
            try:
                if kind >= 0x40:
                    kind, at = varint(plain, at - 1)
            except IndexError:
                raise PeerFault(QuicErrorCode.FRAME_ENCODING_ERROR, None, "Malformed frame type") from None
            try:
                if kind == 0x02 or kind == 0x03:
                    at = self._take_ack_frame(kind, plain, at)
                elif 0x08 <= kind <= 0x0F:
                    at = self.streams.take_frame(kind, plain, at)
                    with_stream = True
                elif kind == 0x00:
                    at = end - len(plain[at:].lstrip(b"\x00"))
                elif kind != 0x01:
                    reader = frames.READERS.get(kind)
                    if reader is None:
                        raise frames.unknown(kind)
                    at = reader(self, kind, plain, at)
            except IndexError:
                raise frames.cut_short(kind) from None
            eliciting = eliciting or kind not in frames.NOT_ELICITING
            probing = probing and kind in frames.PROBING
        return eliciting, probing, with_stream

    def _take_ack_frame(self, kind: int, plain: bytes, at: int) -> int:
        try:
            ranges, delay, at = parse_ack(plain, at)
        except ValueError as exc:
            raise PeerFault(QuicErrorCode.FRAME_ENCODING_ERROR, kind, str(exc)) from exc
        if kind == 0x03:
            for _ in range(3):
                _, at = varint(plain, at)
        if self.recovery.take(ranges, (delay << self._ack_exponent) / 1_000_000, self._now, self.number):
            self._doubt = True
        return at

    def _take_ack(self, ranges: list[tuple[int, int]], delay_s: float, now: float) -> None:
        try:
            if self.recovery.take(ranges, delay_s, now, self.number):
                self._doubt = True
        except PeerFault as fault:
            self.close_for(fault)

    # -- frames, see gateway.quic.connection.frames ---------------------------------------

    def on_crypto(self, offset: int, data: bytes) -> None:
        """More of TLS's messages."""
        assert self._tls is not None
        self._tls.take(offset, data)

    def on_new_id(self, number: int, below: int, cid: bytes, token: bytes) -> None:
        """The peer gave another connection ID."""
        reserved = self.paths.reserved() if self.paths is not None else []
        current = self.peer_ids.current
        gone = self.peer_ids.take(number, below, cid, token, reserved)
        if self.peer_ids.current is not current:
            self._spin = False
        for path in self.paths.others if gone and self.paths is not None else ():
            if path.cid in gone:
                path.cid = None

    def on_retired_id(self, number: int) -> None:
        """The peer no longer uses one of our connection IDs."""
        gone = self.our_ids.retire(number, self._cid_in or self.host_cid)
        if gone is not None:
            self.streams.emit(events.ConnectionIdRetired(connection_id=gone))
        if self.handshake is None:
            self.our_ids.replenish(self._peer_id_limit)

    def on_challenge(self, data: bytes) -> None:
        """To be answered on the path that it came on."""
        assert self._path is not None
        self._path.take_challenge(data)
        self._control_due = True

    def on_response(self, data: bytes) -> None:
        """The answer to a challenge of ours."""
        assert self.paths is not None
        self.paths.prove(data)

    def on_close(self, code: int, frame_type: int | None, reason: str) -> None:
        """The peer closes: nothing more is sent (RFC 9000 section 10.2.2)."""
        if self.close_event is None:
            self.close_event = events.ConnectionTerminated(code, frame_type, reason)
            self._begin_end(DRAINING, self._now)

    def on_handshake_done(self) -> None:
        """The server confirms the handshake, again."""
        if not self.is_client:
            raise PeerFault(
                QuicErrorCode.PROTOCOL_VIOLATION,
                QuicFrameType.HANDSHAKE_DONE,
                "Clients must not send HANDSHAKE_DONE",
            )

    def on_token(self, token: bytes) -> None:
        """A token for another connection, which is not kept."""
        if not self.is_client:
            raise PeerFault(
                QuicErrorCode.PROTOCOL_VIOLATION,
                QuicFrameType.NEW_TOKEN,
                "Clients must not send NEW_TOKEN frames",
            )

    def on_datagram(self, data: bytes, frame_type: int) -> None:
        """A datagram came."""
        if self.on_payload is not None:
            self.on_payload(data)
        else:
            self.events.append(events.DatagramFrameReceived(data=data))

    def on_stopped(self, number: int, code: int) -> None:
        """The peer does not want what we send on a stream."""
        self.streams.emit(events.StopSendingReceived(error_code=code, stream_id=number))

    # -- output ---------------------------------------------------------------------------

    def packets(self, now: float) -> list[bytes] | Run:
        """The packets that may go to :attr:`address` now; look at ``elsewhere``, ``calm`` and :meth:`deadline` after it."""
        if self._state != OPEN:
            return self._packets_early(now) if self._state == HANDSHAKE else []
        if self.number >= self._renew_at:
            self._renew_keys()
        if self._doubt:
            self._look_over()
        self._flush_due = False
        self.pacing_at = None
        if self._control_due or self._stream_due or self.received.ack_at is not None:
            self.calm = False
            return sending.mixed(self, now)
        datagrams = self.datagrams
        if datagrams.burst is not None:
            run = sending.burst(self, now)
            if run is not None:
                self.calm = self.recovery.loss_at is None and not self.recovery.probes
                return run
        if not datagrams.queue:
            self.calm = False
            return []
        packets = sending.datagrams_alone(self, now)
        self.calm = self.recovery.loss_at is None and self.pacing_at is None and not self.recovery.probes
        return packets

    def _renew_keys(self) -> None:
        """So many packets went under these keys; later, where an update is settling (RFC 9001 section 6.6)."""
        keys = self.keys
        if keys is not None and keys.is_settled:
            self._renew_at = self.number + limits.QUIC_PACKETS_PER_KEY_MAX
            keys.update()
            self._route = None

    def _look_over(self) -> None:
        """Whether anything is to be sent besides datagrams, stream data and a delayed ACK."""
        self._doubt = False
        paths = self.paths
        assert paths is not None
        needs_control, self._stream_due = self.streams.look_over()
        path = paths.active
        self._control_due = bool(
            needs_control
            or self._close_pending
            or self._pings_due
            or self._probe_due
            or self._handshake_done_due
            or self.peer_ids.retiring
            or paths.others
            or not path.is_proved
            or path.challenges_due
            or (self._tls is not None and self._tls.is_due)
        )
        if self.our_ids.is_due and (self._control_due or self._stream_due or not self.is_client):
            self._control_due = True  # a client has the time: its IDs go with the first that it has to say

    def deadline(self) -> float | None:
        """When to call :meth:`on_deadline`, or :meth:`packets` for what waits for its time."""
        deadline = self.close_at
        if self._state != OPEN:
            return self.handshake.get_timer() if self.handshake is not None else deadline
        assert deadline is not None
        recovery, path = self.recovery, self.paths.active  # type: ignore[union-attr]
        allowed = path.allowed_bytes()
        if allowed is not None:
            if path.give_up_at is not None and path.give_up_at < deadline:
                deadline = path.give_up_at
            if allowed < sending.PROBE_BYTES:
                return deadline
        ack_at = self.received.ack_at
        if ack_at is not None and ack_at < deadline:
            deadline = ack_at
        if recovery.loss_at is not None:
            if recovery.loss_at < deadline:
                deadline = recovery.loss_at
        elif recovery.packets:
            probe_at = recovery.last_sent_at + recovery.probe_timeout() * (1 << recovery.probes)
            if probe_at < deadline:
                deadline = probe_at
        if self.pacing_at is not None and self.pacing_at < deadline:
            deadline = self.pacing_at
        return deadline

    def on_deadline(self, now: float) -> None:
        """The deadline has come."""
        if self._state == HANDSHAKE:
            assert self.handshake is not None
            self.handshake.handle_timer(now)
            self._pump()
            self._doubt = True
            return
        if self.close_at is not None and now >= self.close_at:
            self.close_event = self.close_event or events.ConnectionTerminated(
                QuicErrorCode.INTERNAL_ERROR, QuicFrameType.PADDING, "Idle timeout"
            )
            self._end()
            return
        if self._state != OPEN:
            return
        recovery = self.recovery
        due_at = recovery.deadline()
        if due_at is not None and now >= due_at:
            self._probe_due = recovery.on_deadline(now) or self._probe_due
            self._doubt = True
        paths = self.paths
        assert paths is not None
        give_up_at = None if paths.active.is_proved else paths.active.give_up_at
        if give_up_at is not None and now >= give_up_at:
            self._doubt = True
            if not paths.give_up_active():
                self.close_event = events.ConnectionTerminated(
                    QuicErrorCode.NO_VIABLE_PATH, QuicFrameType.PADDING, "No validated network path"
                )
                self._end()

    get_timer = deadline
    handle_timer = on_deadline

    def on_ping_fate(self, acked: bool, uids: tuple[int, ...]) -> None:
        """Pings of the application were answered, or lost."""
        if acked:
            self.events += [events.PingAcknowledged(uid=uid) for uid in uids]
        else:
            self._pings_due += uids

    # -- the end --------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the handshake is over and nobody has closed."""
        return self._state == OPEN and not self._close_pending

    def begin_closing(self, now: float) -> None:
        """What closes the connection is on its way."""
        self._close_pending = False
        self._begin_end(CLOSING, now)

    def is_stateless_reset(self, data: bytes) -> bool:
        """Whether this datagram for no connection ID of ours is the server's notice that it knows nothing of us (RFC 9000
        section 10.3)."""
        if not self.is_client or len(data) < RESET_BYTES_MIN or data[0] & 0x80 or self.is_ended:
            return False
        if any(data.startswith(one.cid, 1) for one in self.our_ids.known):
            return False
        token = self.peer_ids.current.token
        return bool(token) and hmac.compare_digest(data[-TOKEN_BYTES:], token)

    def _begin_end(self, state: int, now: float) -> None:
        """Closing or draining: three probe timeouts of silence."""
        self._state = state
        self._route = None
        self.calm = False
        self.close_at = now + CLOSING_PTOS * self.recovery.probe_timeout()
        self._control_due = self._doubt = self._stream_due = False

    def _end(self) -> None:
        """It is over."""
        if self._state == ENDED:
            return
        self._state = ENDED
        self._route = None
        self.close_at = None
        self.forget_datagrams()
        self.events.append(self.close_event)

    def let_go(self) -> None:
        """At the very end: hold nothing that holds this, so that it is freed with its last reference. Idempotent.

        Left to the garbage collector, which looks rarely (:mod:`gateway.runtime.garbage`), each closed connection would be a
        cycle of some 100 KiB."""
        if self.handshake is not None:
            self.handshake.let_go()
        if self._tls is not None:
            self._tls.let_go()
        self._state, self._certificate = ENDED, None
        self.handshake = self._tls = self.keys = self._route = self._path = None
        self.on_payload = self.on_ack = self._ticket_handler = None
        self.recovery.sent.clear()
        self.streams.let_go()


__all__ = ["ENDED", "HANDSHAKE", "OPEN", "QUIET", "TAKEN", "Connection", "FateSink"]
