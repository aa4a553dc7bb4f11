"""A QUIC connection that knows the fate of its datagrams and holds no more than it is allowed to.

Room: quic. No sockets and no clock: bytes and times come in as arguments, as in aioquic itself.
What this adds to aioquic's ``QuicConnection``:

* each datagram is sent under a token and ends as acknowledged or lost, exactly once;
* the datagram queue is bounded (oldest dropped) and an oversized one is refused, not stuck;
* flow control windows open as the application consumes, not as bytes arrive;
* at a key update the old receive keys are kept for packets still on their way;
* stateless reset, both ways (RFC 9000 section 10.3).
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from aioquic import tls
from aioquic.buffer import size_uint_var
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    END_STATES,
    NetworkAddress,
    QuicConnectionState,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from cryptography.hazmat.primitives.serialization import Encoding

from gateway import limits
from gateway.core.ports import RoundTrips
from gateway.quic.connection.congestion import RealtimeCongestionControl
from gateway.quic.connection.flow import FlowControlled
from gateway.quic.connection.framing import Framing, Run
from gateway.quic.connection.keys import UpdatableKeys
from gateway.quic.connection.recovery import Pacer
from gateway.quic.connection.shortpacket import PACKET_NUMBER_BYTES

AEAD_TAG_BYTES = 16
RESET_TOKEN_BYTES = 16
CONNECTED = QuicConnectionState.CONNECTED
"""Asked first where a state is looked up for each datagram: hashing an ``Enum`` costs a call of Python code."""
DATAGRAM_OVERHEAD_BYTES = 1 + PACKET_NUMBER_BYTES + AEAD_TAG_BYTES + 3
"""First byte, packet number, tag, and the DATAGRAM frame's own head; the connection ID comes on top."""
FRAME_HEAD_BYTES = 3
"""Type and length of a DATAGRAM frame, which max_datagram_frame_size counts in (RFC 9221 section 3)."""
QUEUE_BYTES_MAX = limits.QUIC_DATAGRAM_QUEUE_BYTES_MAX


TAKEN, QUIET = 1, 2
"""What ``receive_short`` did with a packet: took it; took it and left only ``acked`` to see to."""


class FateSink(Protocol):
    """Whoever sent a datagram and wants to know what became of it."""

    def on_fate(self, token: int, acked: bool) -> None: ...

    def on_acked(self, token: int, count: int) -> None:
        """So many datagrams from ``token`` on arrived."""
        for one in range(token, token + count):
            self.on_fate(one, True)


def _no_probe() -> None:
    """Nobody is left to probe for."""


class SilentLogger:
    """Takes aioquic's log lines and keeps none: a peer must not be able to fill a log."""

    def debug(self, *args: object) -> None: ...

    info = warning = error = debug


SILENT = SilentLogger()


def reset_token(key: bytes, cid: bytes) -> bytes:
    """The stateless reset token of a connection ID: a keyed hash, so that no state is needed."""
    return hmac.new(key, b"stateless reset" + cid, hashlib.sha256).digest()[:RESET_TOKEN_BYTES]


class Connection(FlowControlled):
    """One connection, client or server. ``reset_key``: see :class:`gateway.quic.options.QuicOptions`.

    aioquic's attributes are too many for anything but a large table of their own. Those that every
    packet needs have slots here, which aioquic's code uses without knowing: they lie side by side in
    the object, so that of hundreds of connections each touches few cache lines when its turn comes.
    """

    __slots__ = (
        "_ack_eliciting_sent_since_receipt",
        "_close_at",
        "_close_pending",
        "_events",
        "_is_client",
        "_local_ack_delay_exponent",
        "_loss",
        "_max_datagram_size",
        "_network_paths",
        "_pacer",
        "_pacing_at",
        "_packet_number",
        "_peer_cid",
        "_queue",
        "_remote_ack_delay_exponent",
        "_remote_max_datagram_frame_size",
        "_renew_at",
        "_spin_bit",
        "_spin_highest_pn",
        "_state",
        "acked",
        "datagram_bytes_queued",
        "fates",
        "host_cid",
        "on_payload",
    )

    packets_fast = 0
    """Packets sent that the short way built."""
    excused_bytes = 0
    """What is in flight but not counted as such (:mod:`gateway.quic.connection.fades`)."""
    window_before_fade = 0
    content_bytes_max = 0
    """The longest content of a burst's packets; 0: bursts are not taken (now)."""

    def __init__(
        self, *, configuration: QuicConfiguration, reset_key: bytes | None = None, **kwargs: Any
    ) -> None:
        super().__init__(configuration=configuration, **kwargs)
        self.fates: list[tuple[FateSink, int, bool]] = []
        self.acked: list[tuple[FateSink, int, int]] = []
        self.on_payload: Callable[[bytes], None] | None = None
        self.datagrams_dropped = 0
        self.datagram_bytes_queued = 0
        self._reset_key = reset_key
        self._local_active_connection_id_limit = limits.QUIC_CONNECTION_IDS_MAX
        self._keys: UpdatableKeys | None = None
        self._renew_at = limits.QUIC_PACKETS_PER_KEY_MAX
        self._queue: deque[tuple[bytes, FateSink, int]] = deque()
        self._datagrams_pending = self._queue  # type: ignore[assignment]
        self._logger = SILENT  # type: ignore[assignment]
        self._loss._logger = None
        self._pacer = Pacer(max_datagram_size=configuration.max_datagram_size)
        self._loss._pacer = self._pacer
        if isinstance(self._loss._cc, RealtimeCongestionControl):
            self._loss._cc.recovery = self._loss
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            limit.value = limit.sent = limits.QUIC_PEER_STREAMS_MAX
        if reset_key is not None and not self._is_client:
            first = self._host_cids[0]
            first.stateless_reset_token = reset_token(reset_key, first.cid)

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self._keys = UpdatableKeys(self._cryptos[tls.Epoch.ONE_RTT], self._loss.get_probe_timeout)
        self._cryptos[tls.Epoch.ONE_RTT] = self._keys

    def renew_keys(self) -> None:
        """Ask for new keys, so many packets having gone under these; later, where an update is settling."""
        if self._handshake_confirmed and self._keys is not None and self._keys.old is None:
            self._renew_at = self._packet_number + limits.QUIC_PACKETS_PER_KEY_MAX
            self.request_key_update()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        if self._packet_number >= self._renew_at:
            self.renew_keys()
        return super().datagrams_to_send(now)

    # -- the short way, of which this class has none --------------------------------------

    calm = False
    """After ``fast_packets``: no deadline of its own lies within the next probe timeout at its shortest."""

    def receive_short(self, data: bytes, addr: NetworkAddress, now: float) -> int:
        """See :mod:`gateway.quic.connection.fast`. 0: call ``receive_datagram``."""
        return 0

    def fast_packets(self, now: float) -> list[bytes] | Run | None:
        """See :mod:`gateway.quic.connection.fastsend`. ``None``: call ``datagrams_to_send``."""
        return None

    def offer_burst(self, framing: Framing, sink: FateSink, token: int) -> bool:
        """See :mod:`gateway.quic.connection.burst`. False: offer its messages one by one."""
        return False

    def fast_deadline(self) -> float | None:
        """See :mod:`gateway.quic.connection.faststate`."""
        return self.get_timer()

    @property
    def needs_flush(self) -> bool:
        """Whether input may have left something to send, or another deadline."""
        return True

    # -- datagrams ------------------------------------------------------------------------

    @property
    def is_established(self) -> bool:
        return self._handshake_complete and self._state not in END_STATES and not self._close_pending

    def datagram_bytes_max(self) -> int:
        """The largest datagram payload that fits one packet of this connection now; 0: none are taken."""
        size = self._max_datagram_size - len(self._peer_cid.cid) - DATAGRAM_OVERHEAD_BYTES
        remote = (self._remote_max_datagram_frame_size or 0) - FRAME_HEAD_BYTES
        return size if size < remote else max(0, remote)

    def room_bytes(self) -> int:
        """Congestion window less what is in flight and what is queued."""
        cc = self._loss._cc
        return max(0, cc.congestion_window - cc.bytes_in_flight - self.datagram_bytes_queued)

    def round_trips(self) -> RoundTrips | None:
        """The newest round trip and the smallest, less the delays that the peer says it added; None before the first."""
        loss = self._loss
        return RoundTrips(loss._rtt_latest, loss._rtt_min) if loss._rtt_initialized else None

    def offer_datagram(self, payload: bytes, sink: FateSink, token: int) -> bool:
        """Queue a datagram if the congestion window has room for it now. False: it has not, or the
        datagram is too large, or the connection is over."""
        cc = self._loss._cc
        size = len(payload)
        queued = self.datagram_bytes_queued + size
        if queued > cc.congestion_window - cc.bytes_in_flight or queued > QUEUE_BYTES_MAX:
            return False
        if (
            size > self._max_datagram_size - len(self._peer_cid.cid) - DATAGRAM_OVERHEAD_BYTES
            or size > (self._remote_max_datagram_frame_size or 0) - FRAME_HEAD_BYTES
            or (self._state is not CONNECTED and self._state in END_STATES)
        ):
            return False
        self._queue.append((payload, sink, token))
        self.datagram_bytes_queued = queued
        return True

    def queue_datagram(self, payload: bytes, sink: FateSink, token: int) -> bool:
        """Queue a datagram to go out with the next packets. False: too large, or the connection is over.

        The oldest queued ones make room beyond the bound, and count as lost.
        """
        if len(payload) > self.datagram_bytes_max() or self._state in END_STATES:
            return False
        self._queue.append((payload, sink, token))
        self.datagram_bytes_queued += len(payload)
        while self.datagram_bytes_queued > limits.QUIC_DATAGRAM_QUEUE_BYTES_MAX:
            self._drop_oldest()
        return True

    def _drop_oldest(self) -> None:
        payload, sink, token = self._queue.popleft()
        self.datagram_bytes_queued -= len(payload)
        self.datagrams_dropped += 1
        self.fates.append((sink, token, False))

    def _write_datagram_frame(self, builder: QuicPacketBuilder, data: Any, frame_type: QuicFrameType) -> bool:
        payload, sink, token = data
        length = len(payload)
        if length > self.datagram_bytes_max():
            self.datagram_bytes_queued -= length
            self.datagrams_dropped += 1
            self.fates.append((sink, token, False))
            return True
        buf = builder.start_frame(
            frame_type,
            capacity=1 + size_uint_var(length) + length,
            handler=self._on_datagram_delivery,
            handler_args=(sink, token),
        )
        buf.push_uint_var(length)
        buf.push_bytes(payload)
        self.datagram_bytes_queued -= length
        return True

    def _on_datagram_delivery(
        self, delivery: QuicDeliveryState, sink: FateSink, token: int, count: int = 1
    ) -> None:
        for one in range(token, token + count):
            self.fates.append((sink, one, delivery is QuicDeliveryState.ACKED))

    def take_fates(self) -> list[tuple[FateSink, int, bool]]:
        """What has become of datagrams since the last call, in order."""
        fates = [
            (sink, one, True) for sink, token, count in self.acked for one in range(token, token + count)
        ]
        fates += self.fates
        self.acked.clear()
        self.fates.clear()
        return fates

    def forget_datagrams(self) -> None:
        """At the end: everything queued or in flight counts as lost. Idempotent."""
        while self._queue:
            self._drop_oldest()
        space = self._spaces.get(tls.Epoch.ONE_RTT)
        if space is None or not space.sent_packets:
            return
        told = self._on_datagram_delivery
        for packet in space.sent_packets.values():
            for handler, args in packet.delivery_handlers:
                if handler == told:
                    handler(QuicDeliveryState.LOST, *args)
        self._loss.discard_space(space)

    def _close_end(self) -> None:
        self.forget_datagrams()
        super()._close_end()

    def let_go(self) -> None:
        """At the very end: hold nothing that holds this, so that it is freed with its last reference. Idempotent.

        aioquic's parts know their connection by bound methods. Left to the garbage collector, which looks rarely
        (:mod:`gateway.runtime.garbage`), each closed connection would be a cycle of some 100 KiB."""
        loss = self._loss
        loss._send_probe = _no_probe
        for space in loss.spaces:
            space.sent_packets.clear()
        if isinstance(loss._cc, RealtimeCongestionControl):
            loss._cc.recovery = None
        self._keys = self.on_payload = None
        self._QuicConnection__frame_handlers: Any = {}
        self._session_ticket_fetcher = self._session_ticket_handler = self._token_handler = None
        self._cryptos.clear()
        self._cryptos_initial.clear()
        self._crypto_streams.clear()
        self._crypto_buffers.clear()
        self._streams.clear()
        self._streams_queue.clear()
        self.tls = None  # type: ignore[assignment]

    # -- stateless reset ------------------------------------------------------------------

    def _replenish_connection_ids(self) -> None:
        known = self._host_cid_seq
        self._remote_active_connection_id_limit = min(
            self._remote_active_connection_id_limit, limits.QUIC_CONNECTION_IDS_MAX
        )
        super()._replenish_connection_ids()
        if self._reset_key is not None:
            for cid in self._host_cids:
                if cid.sequence_number >= known:
                    cid.stateless_reset_token = reset_token(self._reset_key, cid.cid)

    def is_stateless_reset(self, data: bytes) -> bool:
        """Whether this datagram for no connection ID of ours is the server's notice that it knows nothing of us."""
        if not self._is_client or len(data) < 5 + RESET_TOKEN_BYTES or data[0] & 0x80:
            return False
        if any(data.startswith(cid.cid, 1) for cid in self._host_cids):
            return False
        known = self._peer_cid.stateless_reset_token
        return bool(known) and hmac.compare_digest(data[-RESET_TOKEN_BYTES:], known)

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        if self.is_stateless_reset(data) and self._state not in END_STATES:
            self._close_event = events.ConnectionTerminated(
                error_code=QuicErrorCode.NO_ERROR,
                frame_type=None,
                reason_phrase="stateless reset by the peer",
            )
            self._close_end()
            return
        if self._keys is not None:
            self._keys.now = now
        super().receive_datagram(data, addr, now)

    def peer_leaf_der(self) -> bytes | None:
        """The server's certificate as a client saw it in this handshake; None when resumed."""
        certificate = self.tls._peer_certificate
        if certificate is None:
            return None
        return certificate.public_bytes(Encoding.DER)
