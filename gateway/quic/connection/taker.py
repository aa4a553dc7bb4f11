"""What the peer's frames do to the parts of a connection. Room: quic. Pure: time is an argument.

:mod:`gateway.quic.connection.frames` reads the frames; before the handshake is confirmed it reads those of streams and
connection IDs out of aioquic's packets, so this is there from the beginning. Source: RFC 9000 sections 12.4 and 19.
"""

from __future__ import annotations

from collections.abc import Callable

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gateway.quic.connection import frames
from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.ids import OurIds
from gateway.quic.connection.packets import parse_ack, varint
from gateway.quic.connection.parts import Parts
from gateway.quic.connection.paths import Path
from gateway.quic.connection.state import DRAINING, PeerCloses
from gateway.quic.connection.tlsrest import TlsRest


class Taker:
    """``on_payload`` takes the contents of DATAGRAM frames, in place of events. ``tls``: from the hand-over on."""

    __slots__ = (
        "_cid",
        "_events",
        "_now",
        "_our_ids",
        "_parts",
        "_path",
        "_recovery",
        "_sending",
        "_state",
        "incoming",
        "on_payload",
        "peer_ids",
        "table",
        "tls",
    )

    def __init__(self, parts: Parts, our_ids: OurIds) -> None:
        self._parts, self._our_ids = parts, our_ids
        self._recovery, self._sending, self._state = parts.recovery, parts.sending, parts.state
        self._events = parts.events
        self.peer_ids = parts.peer_ids
        self.incoming, self.table = parts.streams.incoming, parts.streams.table
        self.on_payload: Callable[[bytes], None] | None = None
        self.tls: TlsRest | None = None
        self._now = 0.0
        self._path, self._cid = parts.paths.active, b""

    def receive(self, plain: bytes, now: float, path: Path, cid: bytes) -> tuple[bool, bool, bool]:
        """All frames of a packet that came by ``path`` for ``cid``. Answers whether any asks for an ACK, whether all only
        probe, and whether there are any of streams. Raises :class:`PeerFault`. RFC 9000 section 13.1."""
        self._now, self._path, self._cid = now, path, cid
        if not plain:
            raise PeerFault(
                QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING, "Packet contains no frames"
            )
        eliciting = with_stream = False
        probing = True
        take_stream = self.incoming.take_frame
        at, end = 0, len(plain)
        while at < end:
            kind: int = plain[at]
            at += 1
            try:
                # Frame types are variable-length integers; all that are read here are one byte in their
                # shortest form, which is the only one that RFC 9000 section 12.4 allows.
                if kind >= 0x40:
                    kind, at = varint(plain, at - 1)
            except IndexError:
                raise PeerFault(QuicErrorCode.FRAME_ENCODING_ERROR, None, "Malformed frame type") from None
            try:
                if kind == 0x02 or kind == 0x03:
                    at = self._take_ack_frame(kind, plain, at)
                elif 0x08 <= kind <= 0x0F:
                    at = take_stream(kind, plain, at)
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
            # ECT(0), ECT(1) and CE: read past, for ECT is not set here (docs/ARCHITECTURE.md).
            for _ in range(3):
                _, at = varint(plain, at)
        self._take_ack(ranges, delay, self._now)
        return at

    def _take_ack(self, ranges: list[tuple[int, int]], delay: int, now: float) -> None:
        recovery = self._recovery
        delay_s = (delay << recovery.ack_exponent) / 1_000_000
        if recovery.on_ack(ranges, delay_s, now, self._sending.number):
            # What a lost frame said may be due again.
            self._state.doubt = True

    def take_ack(self, ranges: list[tuple[int, int]], delay: int, now: float) -> None:
        """An ACK that was read elsewhere, with its delay as encoded. RFC 9000 section 19.3."""
        try:
            self._take_ack(ranges, delay, now)
        except PeerFault as fault:
            self._parts.close_for(fault)

    # -- frames, see gateway.quic.connection.frames ---------------------------------------

    def on_crypto(self, offset: int, data: bytes) -> None:
        """More of TLS's messages. RFC 9000 section 19.6."""
        assert self.tls is not None
        self.tls.receive(offset, data)

    def on_new_id(self, number: int, below: int, cid: bytes, token: bytes) -> None:
        """The peer gave another connection ID. RFC 9000 section 19.15."""
        paths, peer_ids = self._parts.paths, self.peer_ids
        current = peer_ids.current
        gone = peer_ids.add(number, below, cid, token, paths.reserved())
        if peer_ids.current is not current:
            self._parts.received.spin = False
        for path in paths.others if gone else ():
            if path.cid in gone:
                path.cid = None

    def on_retired_id(self, number: int) -> None:
        """The peer no longer uses one of our connection IDs. RFC 9000 section 19.16."""
        ours = self._our_ids
        # During the handshake packets are aioquic's, and which ID they bore is not told.
        gone = ours.retire(number, self._cid or ours.used)
        if gone is not None:
            self.incoming.emit(events.ConnectionIdRetired(connection_id=gone))
        if self.tls is not None:
            ours.replenish()

    def on_challenge(self, data: bytes) -> None:
        """To be answered on the path that it came on. RFC 9000 section 8.2.2."""
        self._path.take_challenge(data)
        self._state.control_due = True

    def on_response(self, data: bytes) -> None:
        """The answer to a challenge of ours. RFC 9000 section 8.2.3."""
        self._parts.paths.prove(data)

    def on_close(self, code: int, frame_type: int | None, reason: str) -> None:
        """The peer closes: nothing more is sent (RFC 9000 section 10.2.2)."""
        parts = self._parts
        if parts.state.close_event is None:
            parts.state.close_event = events.ConnectionTerminated(code, frame_type, reason)
            parts.begin_end(DRAINING, self._now)
            self.incoming.emit(PeerCloses(reason))

    def on_handshake_done(self) -> None:
        """The server confirms the handshake, again. RFC 9000 section 19.20."""
        self._only_servers_send(QuicFrameType.HANDSHAKE_DONE, "HANDSHAKE_DONE")

    def on_token(self, token: bytes) -> None:
        """A token for another connection, which is not kept. RFC 9000 section 19.7."""
        self._only_servers_send(QuicFrameType.NEW_TOKEN, "NEW_TOKEN frames")

    def _only_servers_send(self, kind: int, what: str) -> None:
        if not self._parts.is_client:
            raise PeerFault(QuicErrorCode.PROTOCOL_VIOLATION, kind, f"Clients must not send {what}")

    def on_datagram(self, data: bytes, frame_type: int) -> None:
        """A datagram came. RFC 9221 section 4."""
        if self.on_payload is not None:
            self.on_payload(data)
        else:
            self._events.append(events.DatagramFrameReceived(data=data))

    def on_stopped(self, number: int, code: int) -> None:
        """The peer does not want what we send on a stream. RFC 9000 section 19.5."""
        self.incoming.emit(events.StopSendingReceived(error_code=code, stream_id=number))

    def let_go(self) -> None:
        """Hold nothing that holds the connection's owner."""
        self.on_payload = None
        if self.tls is not None:
            self.tls.let_go()
