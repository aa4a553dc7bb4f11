"""One QUIC connection, either end: the owner of its parts. Room: quic. No socket and no clock: bytes and times come in.

Until the handshake is confirmed aioquic sends and receives (:mod:`gateway.quic.connection.beginning`); then what comes goes to
:class:`Intake`, which gives the frames to :class:`Taker`, and what is to be sent is made by :class:`Sending` and
:class:`Mixed`. They work on the :class:`Parts`, which know nothing of each other. Sources: RFC 9000; RFC 9001 sections 4 and
5; RFC 9002; RFC 9221.
"""

from __future__ import annotations

from collections.abc import Callable

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import SessionTicket
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from gateway.core.ports import Refusal, RoundTrips
from gateway.quic.connection.beginning import Beginning
from gateway.quic.connection.deadlines import Deadlines
from gateway.quic.connection.flight import FateSink
from gateway.quic.connection.framing import Framing, Run
from gateway.quic.connection.ids import OurIds
from gateway.quic.connection.intake import QUIET, TAKEN, Intake
from gateway.quic.connection.keys import Keys
from gateway.quic.connection.minting import ALONE, Mint
from gateway.quic.connection.mixed import Mixed
from gateway.quic.connection.parts import Parts
from gateway.quic.connection.paths import Address
from gateway.quic.connection.seam import Handshake
from gateway.quic.connection.state import ASKED, ENDED, HANDSHAKE, OPEN
from gateway.quic.connection.taker import Taker


class Connection:
    """One connection, client or server. ``reset_key``: see :class:`gateway.quic.options.QuicOptions`.

    ``events``: what happened, to be taken by whoever drives this, in aioquic's form. ``elsewhere``: packets for addresses other
    than :attr:`address`, to be taken and cleared after :meth:`packets`. ``calm``: after :meth:`packets`: no deadline of its own
    lies within the next probe timeout at its shortest, and there is nothing to be told.
    """

    __slots__ = (
        "__weakref__",
        "_beginning",
        "_certificate",
        "_deadlines",
        "_intake",
        "_mixed",
        "_parts",
        "_taker",
        "calm",
        "configuration",
        "datagrams",
        "elsewhere",
        "events",
        "excused_bytes",
        "is_client",
        "mtu",
        "our_ids",
        "paths",
        "peer_ids",
        "receive",
        "received",
        "recovery",
        "sending",
        "state",
        "streams",
        "window_before_fade",
    )

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        reset_key: bytes | None = None,
        session_ticket_fetcher: Callable[[bytes], SessionTicket | None] | None = None,
        session_ticket_handler: Callable[[SessionTicket], None] | None = None,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
        mint: Mint = ALONE,
    ) -> None:
        """``mint``: makes our connection IDs. A server's are the tickets, and the IDs that it has to name (RFC 9000 section
        7.3)."""
        self.configuration = configuration
        self.excused_bytes = self.window_before_fade = 0
        """What is in flight but not counted as such (:mod:`gateway.quic.connection.fades`)."""
        self.calm = False
        parts = self._parts = Parts(configuration)
        self.is_client, self.events, self.elsewhere = parts.is_client, parts.events, parts.elsewhere
        self.state, self.paths, self.peer_ids = parts.state, parts.paths, parts.peer_ids
        self.sending, self.received, self.recovery = parts.sending, parts.received, parts.recovery
        self.streams, self.datagrams, self.mtu = parts.streams, parts.datagrams, parts.mtu

        handshake = Handshake(
            configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
            session_ticket_fetcher=session_ticket_fetcher,
            session_ticket_handler=session_ticket_handler,
        )
        # Only where an ID has to say something: naming itself touches two of aioquic's private names
        # (seam.PRIVATE).
        if mint is not ALONE:
            handshake.name_itself(mint())
        ours = self.our_ids = OurIds(handshake.host_cid, reset_key, mint)
        if not self.is_client:
            handshake.token = ours.known[0].token = ours.token_of(ours.used)
        taker = self._taker = Taker(parts, ours)
        handshake.taker = taker
        self._beginning: Beginning | None = Beginning(parts, handshake, ours, session_ticket_handler)
        parts.streams.incoming.emit = self._beginning.emit
        self._certificate: Certificate | None = None
        self._intake, self._mixed = Intake(parts, ours, taker), Mixed(parts, ours)
        self._deadlines = Deadlines(parts)

        # called for every packet, without a step between
        self.receive: Callable[[bytes, Address, float], int] = self._receive_early

    # -- questions ------------------------------------------------------------------------

    @property
    def original_destination_connection_id(self) -> bytes:
        """Of the handshake, while it lasts. RFC 9000 section 7.3."""
        assert self._beginning is not None
        original: bytes = self._beginning.handshake.original_destination_connection_id
        return original

    @property
    def close_event(self) -> events.ConnectionTerminated | None:
        """Why it ends, or is to end."""
        return self.state.close_event

    @property
    def is_ended(self) -> bool:
        """Whether it is closed or closing, and nothing may be asked of it any more."""
        return self.state.is_ended

    @property
    def is_established(self) -> bool:
        """Whether requests may be sent: the handshake is complete, and nobody closes. RFC 9001 section 4.1.1."""
        return self.state.is_complete and not self.state.is_closing

    @property
    def reads_in_line(self) -> bool:
        """Whether the peer's next packet takes the short way: nothing about keys, addresses or the end is open."""
        return self._intake.reads_in_line

    @property
    def is_taken_over(self) -> bool:
        """Whether the handshake is over and its aioquic gone."""
        return self._beginning is None

    @property
    def address(self) -> Address:
        """Where packets go."""
        return self.paths.address

    @property
    def host_cid(self) -> bytes:
        """Our connection ID that the peer uses."""
        return self.our_ids.used

    @property
    def keys(self) -> Keys | None:
        """Of 1-RTT packets, once the handshake is confirmed. RFC 9001 section 5.1."""
        # A slot that is not filled raises: before the hand-over there are none.
        return getattr(self.sending, "keys", None)

    @property
    def number(self) -> int:
        """Of the next packet."""
        return self.sending.number

    @number.setter
    def number(self, number: int) -> None:
        self.sending.number = number

    @property
    def packets_fast(self) -> int:
        """Packets made here, not by aioquic."""
        return self.sending.number - self.sending.first_number

    @property
    def content_bytes_max(self) -> int:
        """See :class:`gateway.quic.connection.datagrams.Datagrams`."""
        return self.datagrams.content_bytes_max

    def datagram_bytes_max(self) -> int:
        """The largest datagram payload that fits one packet of this connection now; 0: none are taken. RFC 9221 section 3."""
        return self.datagrams.payload_bytes_max

    def idle_timeout_s(self) -> float:
        """Silence of so many seconds ends the connection: the smaller of what both ends said (RFC 9000 section 10.1)."""
        return self.state.idle_timeout_s(self.recovery.probe_timeout())

    def room_bytes(self) -> int:
        """Congestion window less what is in flight and what is queued. RFC 9002 section 7."""
        control = self.recovery.control
        return max(0, control.window - control.in_flight - self.datagrams.size)

    def round_trips(self) -> RoundTrips | None:
        """The newest round trip and the smallest, less the delays that the peer says it added; None before the first.
        RFC 9002 section 5."""
        recovery = self.recovery
        if not recovery.has_rtt:
            return None
        return RoundTrips(recovery.rtt_latest, recovery.rtt_min, recovery.given_up)

    def has_unsent(self) -> bool:
        """Whether any stream still has bytes that the peer has not acknowledged."""
        return self.streams.unsent_total() > 0

    def peer_leaf_der(self) -> bytes | None:
        """The server's certificate as a client saw it in this handshake; None when resumed."""
        certificate = self._certificate if self._beginning is None else self._beginning.certificate
        return None if certificate is None else certificate.public_bytes(Encoding.DER)

    @property
    def needs_flush(self) -> bool:
        """Whether input may have left something to send, or a deadline that came closer."""
        state = self.state
        return bool(
            state.control_due
            or state.doubt
            or state.flush_due
            or state.stream_due
            or self.datagrams.queue
            or self.state.phase != OPEN
            or self.recovery.loss_at is not None
        )

    def next_event(self) -> events.QuicEvent | None:
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
        self.state.doubt = True
        self.streams.write(stream_id, data, end=end_stream)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Give up sending on a stream: nothing of it is sent again. Raises ``ValueError``. RFC 9000 section 19.4."""
        self.state.doubt = True
        self.streams.reset(stream_id, error_code)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to stop sending. Raises ``ValueError``. RFC 9000 section 19.5."""
        self.state.doubt = True
        self.streams.stop(stream_id, error_code)

    def abandon_receiving(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to stop sending on a stream, if it is still at it. RFC 9000 section 3.5."""
        if not self.is_ended and self.streams.abandon_receiving(stream_id, error_code):
            self.state.doubt = True

    def hold(self, stream_id: int, size: int) -> None:
        """See :meth:`gateway.quic.connection.streams.Streams.hold`."""
        self.streams.hold(stream_id, size)

    def release(self, stream_id: int, size: int) -> None:
        """See :meth:`gateway.quic.connection.streams.Streams.release`."""
        self.state.doubt = True
        self.streams.release(stream_id, size)

    # -- the application: datagrams, see gateway.quic.connection.datagrams ------------------

    def offer_datagram(self, payload: bytes, sink: FateSink, token: int) -> Refusal | None:
        """Queue a datagram if the congestion window has room for it now."""
        return self.datagrams.offer(payload, sink, token)

    def queue_datagram(self, payload: bytes, sink: FateSink, token: int) -> Refusal | None:
        """Queue a datagram, for which the oldest make room."""
        return self.datagrams.push(payload, sink, token)

    def offer_burst(self, framing: Framing, sink: FateSink, token: int) -> Refusal | None:
        """Queue a burst if the congestion window has room for all of it now."""
        return self.datagrams.offer_burst(framing, sink, token)

    # -- the application: the connection --------------------------------------------------

    def listen(
        self,
        *,
        on_payload: Callable[[bytes], None] | None = None,
        on_ack: Callable[[float], None] | None = None,
    ) -> None:
        """``on_payload`` takes the contents of DATAGRAM frames, in place of events. ``on_ack`` is told when to acknowledge, by
        ``ack_alone``; without one :meth:`packets` sees to it. None: as before."""
        self._taker.on_payload = on_payload or self._taker.on_payload
        self._intake.on_ack = on_ack or self._intake.on_ack

    def connect(self, address: Address, now: float) -> None:
        """Begin the handshake (clients only)."""
        assert self._beginning is not None
        self._beginning.connect(address, now)

    def send_ping(self, uid: int) -> None:
        """Ask for an answer; ``PingAcknowledged`` bears this number. RFC 9000 section 19.2."""
        self.state.doubt = True
        self.state.pings.append(uid)

    def request_key_update(self) -> None:
        """Go on with new keys; once the handshake is confirmed, if it is not yet. RFC 9001 section 6.1."""
        if self._beginning is not None:
            self._beginning.is_update_due = True
        elif self.state.phase == OPEN:
            self.sending.keys.update()
            self._intake.find_route()

    def send_unfragmented(self, bytes_max: int) -> None:
        """Whoever sends the packets sends them in one piece or not at all, up to so many bytes: larger ones may be looked for.
        RFC 9000 section 14."""
        self.mtu.allow(bytes_max)

    def change_connection_id(self) -> None:
        """Go on under another connection ID of the peer's, where it gave one. RFC 9000 section 5.1.2."""
        if self.peer_ids.change():
            self.received.spin = False
            self.state.doubt = True
        self.mtu.begin_anew(self.sending.number)

    def close(
        self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        """Close the connection with the next packets. Idempotent. RFC 9000 section 10.2."""
        if self._parts.close(error_code, frame_type, reason_phrase) and self._beginning is not None:
            self._beginning.close(error_code, frame_type, reason_phrase)

    # -- input, output, time --------------------------------------------------------------

    def _receive_early(self, data: bytes, address: Address, now: float) -> int:
        """``receive`` before the handshake is confirmed, and in the packet that does."""
        beginning = self._beginning
        if beginning is None or self.state.phase != HANDSHAKE:
            return TAKEN
        rest = beginning.receive(data, address, now)
        if rest is not None:
            self._taker.tls = self._mixed.tls = beginning.hand_over(now)
            self._beginning, self._certificate = None, beginning.certificate
            self.receive = self._intake.receive
            if rest:
                self.receive(rest, address, now)
        return TAKEN

    def packets(self, now: float) -> list[bytes] | Run:
        """The packets that may go to :attr:`address` now; look at ``elsewhere``, ``calm`` and :meth:`deadline` after it."""
        state, datagrams = self.state, self.datagrams
        if self.state.phase != OPEN:
            return self._last_packets(now)
        # Long before the 2^23 packets after which AES-GCM's guarantee ends (RFC 9001 section 6.6).
        if self.sending.number >= self.sending.renew_at:
            self.sending.renew_keys()
            self._intake.find_route()
        # Whatever happened since may have left something due; asking all parts for each packet would cost as much
        # as sealing it.
        if state.doubt:
            self._mixed.look_over()
        # Before packets are made: what they cause may set it again.
        state.flush_due = False
        state.pacing_at = None
        if state.control_due or state.stream_due or self.received.ack_at is not None:
            self.calm = False
            return self._mixed.packets(now)
        recovery = self.recovery
        if datagrams.burst is not None:
            # First, for it may wait only where the queue was empty.
            run = self.sending.burst(now)
            if run is not None:
                self.calm = recovery.loss_at is None and not recovery.probes
                return run
        if not datagrams.queue:
            self.calm = False
            return []
        packets = self.sending.datagrams_alone(now)
        self.calm = (
            recovery.loss_at is None
            and state.pacing_at is None
            and not recovery.probes
            and not recovery.fates
        )
        return packets

    def ack_alone(self, now: float) -> bytes | None:
        """See :meth:`gateway.quic.connection.sending.Sending.ack_alone`."""
        return self.sending.ack_alone(now)

    def _last_packets(self, now: float) -> list[bytes]:
        """Those of the handshake, or of the end."""
        self.calm = False
        if self.state.phase == ASKED:
            return self._mixed.closing(now)
        return [] if self._beginning is None else self._beginning.packets(now)

    def deadline(self) -> float | None:
        """When to call :meth:`on_deadline`, or :meth:`packets` for what waits for its time."""
        if self._beginning is None:
            return self._deadlines.next()
        at: float | None = self._beginning.handshake.get_timer()
        return at

    def on_deadline(self, now: float) -> None:
        """The deadline has come."""
        if self._beginning is None:
            self._deadlines.expire(now)
        else:
            self._beginning.on_deadline(now)

    # The names that aioquic's connection has for both, so that the pair in tests drives either.
    get_timer = deadline
    handle_timer = on_deadline

    # -- the end --------------------------------------------------------------------------

    def is_stateless_reset(self, data: bytes) -> bool:
        """See :meth:`Intake.is_stateless_reset`."""
        return self._intake.is_stateless_reset(data)

    def forget_datagrams(self) -> None:
        """At the end: everything queued or in flight counts as lost. Idempotent."""
        self._parts.forget_datagrams()

    def let_go(self) -> None:
        """At the very end: hold nothing that holds this, so that it is freed with its last reference. Idempotent.

        Left to the garbage collector, which looks rarely (:mod:`gateway.runtime.garbage`), each closed connection would be a
        cycle of some 100 KiB."""
        if self._beginning is not None:
            self._beginning.let_go()
        self.state.phase = ENDED
        self._beginning = self._certificate = None
        self.receive = _ignore
        self._taker.let_go()
        self._intake.let_go()
        self._mixed.tls = None
        self.recovery.sent.clear()
        self.streams.let_go()


def _ignore(data: bytes, address: Address, now: float) -> int:
    """Nobody takes it any more."""
    return TAKEN


__all__ = ["QUIET", "TAKEN", "Connection"]
