"""The seam to aioquic: its connection does the handshake, and nothing of it is used behind this module. Room: quic.

aioquic does TLS, Retry, version negotiation, and the packets of the handshake; the frames of streams and connection IDs
that come meanwhile are read here already. What this takes from it besides what aioquic promises stands in :data:`PRIVATE`,
with its type; :func:`check` looks at all of it when an endpoint begins, and says what another version of aioquic has changed.
Sources: RFC 9000 sections 7.4, 7.5, 13.1 and 17.2; RFC 9001 section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import metadata
from types import MethodType
from typing import Final

from aioquic import tls
from aioquic.buffer import encode_uint_var
from aioquic.quic import connection, crypto, events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.congestion.base import register_congestion_control
from aioquic.quic.congestion.reno import RenoCongestionControl
from aioquic.quic.connection import QuicConnection, QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicTransportParameters,
)
from aioquic.quic.recovery import QuicPacketRecovery, QuicPacketSpace
from cryptography.x509 import Certificate

from gateway import limits
from gateway.errors import ConfigError
from gateway.quic.buffers import Buffer, BufferReadError
from gateway.quic.connection.faults import PeerFault, never_sent
from gateway.quic.connection.frames import OF_IDS, OF_STREAMS, RESET_STREAM_AT, FrameTaker, Reader
from gateway.quic.connection.handover import ANNOUNCED, Flying, HandOver, parameters_of, replaced, says_twice
from gateway.quic.connection.hkdf import hkdf_expand_label, hkdf_extract
from gateway.quic.connection.hooks import LIMITS, Before, Hook, StockReader
from gateway.quic.connection.keys import Secret
from gateway.quic.connection.recvhalf import RecvHalf

PRIVATE: Final[tuple[tuple[str, str, type], ...]] = (
    ("QuicConnection", "_QuicConnection__frame_handlers", dict),
    ("QuicConnection", "_crypto_streams", dict),
    ("QuicConnection", "_cryptos", dict),
    ("QuicConnection", "_host_cids", list),
    ("QuicConnection", "_local_initial_source_connection_id", bytes),
    ("QuicConnection", "_loss", QuicPacketRecovery),
    ("QuicConnection", "_packet_number", int),
    ("QuicConnection", "_replenish_connection_ids", MethodType),
    ("QuicConnection", "_serialize_transport_parameters", MethodType),
    ("QuicConnection", "_spaces", dict),
    ("QuicConnection", "_streams", dict),
    ("QuicPacketRecovery", "_rtt_latest", float),
    ("QuicPacketRecovery", "_rtt_min", float),
    ("QuicPacketRecovery", "_rtt_smoothed", float),
    ("QuicPacketRecovery", "_rtt_variance", float),
    ("QuicStreamSender", "_buffer_start", int),
    ("tls.Context", "_peer_certificate", type(None)),
)
"""Whose, which name, and the type of what it is on a client that has sent its first packet."""

ONE_RTT: Final = tls.Epoch.ONE_RTT
STATELESS_RESET_TOKEN: Final = 0x02
_STREAMS_MAX: Final = encode_uint_var(limits.QUIC_PEER_STREAMS_MAX)
OUR_LIMITS: Final = {
    0x08: _STREAMS_MAX,
    0x09: _STREAMS_MAX,
    0x0E: encode_uint_var(limits.QUIC_CONNECTION_IDS_MAX),
}
"""Transport parameters by number (RFC 9000 section 18.2): streams two-way and one-way, connection IDs."""


def prepare() -> None:
    """Have aioquic make each set of epochs once, not some thirty of them for every connection; derive its secrets as
    :mod:`gateway.quic.connection.hkdf` does, which is a tenth of a handshake; and do with Reno during a handshake where the
    connection's own controller is none of its. Idempotent."""
    register_congestion_control("realtime", RenoCongestionControl)
    if not hasattr(connection.EPOCHS, "cache_info"):
        # A function of a string of letters, called for each of thirty kinds of frame in every constructor.
        connection.EPOCHS = cache(connection.EPOCHS)
    for module in (tls, crypto):
        # In both modules: aioquic.quic.crypto took the functions of aioquic.tls by name, and has its own
        # references.
        # Ignored: aioquic.quic.crypto imports them without offering them, and to replace them there is what is
        # wanted.
        module.hkdf_extract, module.hkdf_expand_label = hkdf_extract, hkdf_expand_label  # type: ignore[attr-defined]


@cache
def check() -> None:
    """Look whether the aioquic that is installed has what this takes of it. Raises ``ConfigError`` that names what is not."""
    client = QuicConnection(configuration=QuicConfiguration(is_client=True, server_name="localhost"))
    client.connect(("127.0.0.1", 1), now=0.0)
    # So that there is a stream to look at.
    client.send_stream_data(0, b"x")
    streams = getattr(client, "_streams", {})
    sender = streams[0].sender if isinstance(streams, dict) and 0 in streams else None
    owners = {
        "QuicConnection": client,
        "QuicPacketRecovery": getattr(client, "_loss", None),
        "QuicStreamSender": sender,
        "tls.Context": client.tls,
    }
    missing = object()
    for owner, name, kind in PRIVATE:
        found = getattr(owners[owner], name, missing)
        if found is missing or not isinstance(found, kind):
            has = "is gone" if found is missing else f"is of type {type(found).__name__}, not {kind.__name__}"
            raise ConfigError(
                f"aioquic {metadata.version('aioquic')} is another than this gateway knows: {owner}.{name} {has}; "
                "install a version within the range of pyproject.toml"
            )


class Handshake(QuicConnection):
    """aioquic's connection until the handshake is confirmed. ``taker``: who gets the frames of streams and connection IDs,
    to be set before the first packet; ``token``: the stateless reset token to announce."""

    _QuicConnection__frame_handlers: dict[int, tuple[StockReader, object]]

    def __init__(
        self,
        configuration: QuicConfiguration,
        *,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
        session_ticket_fetcher: tls.SessionTicketFetcher | None = None,
        session_ticket_handler: tls.SessionTicketHandler | None = None,
    ) -> None:
        prepare()
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
            session_ticket_fetcher=session_ticket_fetcher,
            session_ticket_handler=session_ticket_handler,
        )
        self.close_event: events.ConnectionTerminated | None = None
        self.confirmed = False
        self.taker: FrameTaker | None = None
        self.token: bytes | None = None
        self._in_order = {epoch: RecvHalf(1 << 30) for epoch in _EPOCHS}
        self._protection: tuple[bytes, bytes] | None = None
        self._hook_frames()

    def name_itself(self, cid: bytes) -> None:
        """Be known by this connection ID; before the first packet."""
        self._host_cids[0].cid = self.host_cid = self._local_initial_source_connection_id = cid

    # -- what is announced ----------------------------------------------------------------

    def _serialize_transport_parameters(self) -> bytes:
        """As aioquic's, with our limits."""
        ours = OUR_LIMITS if self.token is None else OUR_LIMITS | {STATELESS_RESET_TOKEN: self.token}
        return replaced(super()._serialize_transport_parameters(), ours) + ANNOUNCED

    def _replenish_connection_ids(self) -> None:
        """Further IDs are issued by the connection that takes over."""

    def close(
        self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        if self.close_event is None:
            self.close_event = events.ConnectionTerminated(
                error_code=error_code, frame_type=frame_type, reason_phrase=reason_phrase
            )
        super().close(error_code, frame_type, reason_phrase)

    # -- frames ---------------------------------------------------------------------------

    def _hook_frames(self) -> None:
        handlers = self._QuicConnection__frame_handlers
        # The epochs in which streams' frames are allowed, as aioquic has them: RESET_STREAM_AT, which it does not
        # know, gets the same.
        epochs = handlers[QuicFrameType.RESET_STREAM][1]
        for kind, reader in (*OF_STREAMS.items(), *OF_IDS.items()):
            stock = handlers[kind][0] if kind in _BOTH else None
            handlers[kind] = (Hook(self, reader, stock), epochs)
        for kind, hook in (
            (QuicFrameType.CRYPTO, self._take_crypto),
            (QuicFrameType.ACK, self._take_ack),
            (QuicFrameType.ACK_ECN, self._take_ack),
            (QuicFrameType.HANDSHAKE_DONE, self._take_handshake_done),
            (QuicFrameType.TRANSPORT_CLOSE, self._take_close),
            (QuicFrameType.APPLICATION_CLOSE, self._take_close),
        ):
            stock, epochs = handlers[kind]
            handlers[kind] = (Before(stock, hook), epochs)
        assert RESET_STREAM_AT in handlers

    def read_frame(self, reader: Reader, frame_type: int, buf: Buffer) -> None:
        """Have one of our readers take a frame from aioquic's buffer."""
        at = buf.tell()
        plain = buf.data_slice(0, buf.capacity)
        taker = self.taker
        assert taker is not None
        try:
            end = reader(taker, frame_type, plain, at)
        except IndexError:
            raise BufferReadError("cut short") from None
        except PeerFault as fault:
            raise _as_theirs(fault) from fault
        buf.seek(end)

    def _take_crypto(self, handler: StockReader, context: object, frame_type: int, buf: Buffer) -> None:
        """TLS messages are as long as TLS expects them to be, in all: what claims more is not kept (section 7.5). aioquic
        is given them in order only, so that gaps cost it nothing."""
        offset, length = buf.pull_uint_var(), buf.pull_uint_var()
        side = (
            limits.QUIC_CLIENT_CRYPTO_BYTES_MAX
            if self.configuration.is_client
            else limits.QUIC_CRYPTO_BYTES_MAX
        )
        assert isinstance(context, QuicReceiveContext)
        bytes_max = side[_EPOCHS.index(context.epoch)]
        if offset + length > bytes_max:
            raise QuicConnectionError(
                error_code=QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
                frame_type=frame_type,
                reason_phrase=f"TLS messages up to byte {offset + length}, at most {bytes_max} are expected",
            )
        data = buf.pull_bytes(length)
        half = self._in_order[context.epoch]
        # What came before is passed over: TLS has had it.
        if offset + length > half.taken:
            at = half.taken
            try:
                piece = half.receive(offset, data, is_end=False)
            except PeerFault as fault:
                fault.code, fault.frame_type = QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type
                raise _as_theirs(fault) from fault
            if piece is None:
                return
            offset, data = at, piece[0]
        handler(context, frame_type, Buffer(data=encode_uint_var(offset) + encode_uint_var(len(data)) + data))
        if self._protection is None and self.tls.state in _COMPLETE:
            pair = self._cryptos[ONE_RTT]
            if pair.recv.secret is not None and pair.send.secret is not None:
                self._protection = pair.recv.secret, pair.send.secret

    def _take_ack(self, handler: StockReader, context: object, frame_type: int, buf: Buffer) -> None:
        at = buf.tell()
        largest = buf.pull_uint_var()
        buf.seek(at)
        # aioquic would take it, and remember a largest that no packet has.
        if largest >= self._packet_number:
            raise _as_theirs(never_sent(largest))
        handler(context, frame_type, buf)

    def _take_handshake_done(
        self, handler: StockReader, context: object, frame_type: int, buf: Buffer
    ) -> None:
        handler(context, frame_type, buf)
        self.confirmed = True

    def _take_close(self, handler: StockReader, context: object, frame_type: int, buf: Buffer) -> None:
        at = buf.tell()
        handler(context, frame_type, buf)
        if self.close_event is None:
            end = buf.tell()
            buf.seek(at)
            code = buf.pull_uint_var()
            about = buf.pull_uint_var() if frame_type == QuicFrameType.TRANSPORT_CLOSE else None
            reason = buf.pull_bytes(buf.pull_uint_var()).decode(errors="replace")
            self.close_event = events.ConnectionTerminated(code, about, reason)
            buf.seek(end)

    # -- parameters -----------------------------------------------------------------------

    def peer_parameters(self) -> QuicTransportParameters | None:
        """What the peer announced; None: nothing yet. Raises :class:`PeerFault` where a parameter is there twice.
        RFC 9000 section 7.4."""
        received = self.tls.received_extensions
        for kind, data in received or ():
            if kind == tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS and says_twice(data):
                raise PeerFault(
                    QuicErrorCode.TRANSPORT_PARAMETER_ERROR,
                    QuicFrameType.CRYPTO,
                    "a transport parameter is there twice",
                )
        return parameters_of(received)

    def remembered_parameters(self) -> QuicTransportParameters | None:
        """What the server announced when it gave the ticket that this client begins with. RFC 9000 section 7.4.1."""
        ticket = self.configuration.session_ticket
        if ticket is None or not ticket.max_early_data_size:
            return None
        return parameters_of(ticket.other_extensions)

    # -- carrying streams -----------------------------------------------------------------

    def open_for_answer(self, number: int) -> None:
        """Have aioquic know a stream of the peer, whose frames it does not see, so that it sends on it."""
        handler = self._QuicConnection__frame_handlers[0x0A][0]
        assert isinstance(handler, Hook)
        assert handler.stock is not None
        handler.stock(None, 0x0A, Buffer(data=encode_uint_var(number) + b"\0"))

    # -- handing over ---------------------------------------------------------------------

    @property
    def has_keys(self) -> bool:
        """Whether 1-RTT packets can be read and sent. RFC 9001 section 4.1.1."""
        pair = self._cryptos.get(ONE_RTT)
        return pair is not None and pair.recv.is_valid() and pair.send.is_valid()

    def hand_over(self) -> HandOver:
        """Everything that goes on after the handshake is confirmed. Nothing is to be asked of this any more.
        RFC 9001 section 4.1.2."""
        pair, space = self._cryptos[ONE_RTT], self._spaces[ONE_RTT]
        receiving, sending = self._protection or (pair.recv.secret or b"", pair.send.secret or b"")
        loss = self._loss
        return HandOver(
            receiving=_secret(pair.recv, receiving),
            sending=_secret(pair.send, sending),
            phase=pair.recv.key_phase,
            next_number=self._packet_number,
            received=(list(space.ack_queue), space.largest_received_packet, space.received_packets),
            flying=list(self._flying(space)),
            carried={
                number: (stream.sender._buffer_start, stream.sender.highest_offset)
                for number, stream in self._streams.items()
            },
            rtt=(loss._rtt_latest, loss._rtt_min, loss._rtt_smoothed, loss._rtt_variance),
            crypto=list(self._tls_to_say()),
            heard=self._in_order[ONE_RTT],
        )

    def _flying(self, space: QuicPacketSpace) -> Iterator[Flying]:
        # A packet knows its frames by bound methods: whose they are tells which stream.
        numbers = {id(stream.sender): number for number, stream in self._streams.items()}
        for packet in space.sent_packets.values():
            pieces = []
            for handler, args in packet.delivery_handlers:
                number = numbers.get(id(getattr(handler, "__self__", None)))
                if number is not None and len(args) == 3:
                    pieces.append((number, *args))
            if packet.is_ack_eliciting:
                yield Flying(packet.packet_number, packet.sent_bytes, packet.sent_time or 0.0, tuple(pieces))

    def _tls_to_say(self) -> Iterator[tuple[int, bytes]]:
        """What TLS has to say in 1-RTT packets: a server's session ticket."""
        sender = self._crypto_streams[ONE_RTT].sender
        while (frame := sender.get_frame(limits.QUIC_CRYPTO_BYTES_MAX[0])) is not None:
            yield frame.offset, frame.data

    def peer_certificate(self) -> Certificate | None:
        """The peer's certificate in this handshake; None: it showed none, for it resumed."""
        return self.tls._peer_certificate

    def knows(self, number: int) -> bool:
        """Whether aioquic knows this stream."""
        return number in self._streams

    @property
    def has_begun(self) -> bool:
        """Whether a first packet was taken, so that there is something to send."""
        return bool(self._spaces)

    def let_go(self) -> None:
        """Hold nothing any more, so that this is freed with its last reference: its parts know it by bound methods, and left
        to the garbage collector, which looks rarely, each would be a cycle of some 100 KiB. TLS itself is left as it is."""
        for space in vars(self).get("_spaces", {}).values():
            # Handlers in them are bound to streams of this.
            space.sent_packets.clear()
        # Everything at once: over a hundred attributes, of which others may refer back. What still asks gets an
        # AttributeError, not old state.
        vars(self).clear()


def _as_theirs(fault: PeerFault) -> QuicConnectionError:
    # Ignored: aioquic's type says int, while its code takes None where no frame was at fault.
    return QuicConnectionError(error_code=fault.code, frame_type=fault.frame_type, reason_phrase=fault.reason)  # type: ignore[arg-type]


def _secret(context: crypto.CryptoContext, protection: bytes) -> Secret:
    suite, version, secret = context.cipher_suite, context.version, context.secret
    assert suite is not None
    assert version is not None
    assert secret is not None
    return Secret(suite, version, protection, secret)


_EPOCHS: Final[Sequence[tls.Epoch]] = (tls.Epoch.INITIAL, tls.Epoch.HANDSHAKE, ONE_RTT)
_COMPLETE: Final = (tls.State.CLIENT_POST_HANDSHAKE, tls.State.SERVER_POST_HANDSHAKE)
_BOTH: Final = LIMITS | {0x0A}
