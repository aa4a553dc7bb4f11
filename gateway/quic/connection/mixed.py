"""A connection's packets of everything together: ACKs, control frames, datagrams, stream data, and the close. Room: quic.

Pure: no clock. Sources: RFC 9000 sections 8.2, 9.5, 12 and 13; RFC 9002 section 7.
"""

from __future__ import annotations

from typing import Final

from aioquic.buffer import encode_uint_var
from aioquic.quic.events import ConnectionIdIssued, PingAcknowledged

from gateway.quic.connection.flight import Fates, Handler, Handlers, SentPacket, sent_packet
from gateway.quic.connection.ids import OurIds
from gateway.quic.connection.packets import ACKS_BETWEEN_PINGS, HEAD_BYTES
from gateway.quic.connection.parts import Parts
from gateway.quic.connection.paths import Path
from gateway.quic.connection.state import CLOSING
from gateway.quic.connection.streamsout import FRAME_BYTES_MIN
from gateway.quic.connection.tlsrest import TlsRest

# Packet number and content are four bytes at least, or the tag alone is no whole sample (RFC 9001 section 5.4.2).
CONTENT_BYTES_MIN: Final = 2
"""For the sample of header protection, with the tag."""
CLOSE_REASON_BYTES_MAX: Final = 1_000
# As RFC 9000 section 8.2.4 recommends: several probes may be lost before a path is given up.
VALIDATION_PTOS: Final = 3
INITIAL_PTO_S: Final = 0.2


def in_flight(number: int, size: int, sent_at: float, handlers: Handlers, fates: Fates = ()) -> SentPacket:
    """A packet as recovery knows it."""
    return sent_packet((number, size, sent_at, fates, handlers))


class Mixed:
    """``tls``: from the hand-over on."""

    __slots__ = (
        "_datagrams",
        "_mtu",
        "_our_ids",
        "_parts",
        "_paths",
        "_peer_ids",
        "_received",
        "_recovery",
        "_sending",
        "_state",
        "_streams",
        "tls",
    )

    def __init__(self, parts: Parts, our_ids: OurIds) -> None:
        self._parts, self._our_ids = parts, our_ids
        self._datagrams, self._state, self._paths = parts.datagrams, parts.state, parts.paths
        self._mtu = parts.mtu
        self._peer_ids, self._received, self._recovery = parts.peer_ids, parts.received, parts.recovery
        self._sending, self._streams = parts.sending, parts.streams.outgoing
        self.tls: TlsRest | None = None

    def look_over(self) -> None:
        """Whether anything is to be sent besides datagrams, stream data and a delayed ACK."""
        state, paths, our_ids = self._state, self._paths, self._our_ids
        state.doubt = False
        needs_control, state.stream_due = self._streams.look_over()
        path = paths.active
        state.control_due = bool(
            needs_control
            or state.pings
            or state.probe_due
            or state.handshake_done_due
            or self._peer_ids.retiring
            or paths.others
            or not path.is_proved
            or path.challenges_due
            or (self.tls is not None and self.tls.is_due)
        )
        # A client takes a fresh one for each path (RFC 9000 section 9.5): a server's are to be there before it moves.
        if our_ids.is_due and (state.control_due or state.stream_due or not self._parts.is_client):
            state.control_due = True  # a client has the time: its IDs go with the first that it has to say

    def packets(self, now: float) -> list[bytes]:
        """Packets of whatever is to be sent, as far as window, pacer and the path allow."""
        datagrams, recovery, received, state = self._datagrams, self._recovery, self._received, self._state
        sending, path = self._sending, self._paths.active
        # Beside other frames the packets' contents are this reader's own, so a burst that is shared cannot go as it
        # is.
        datagrams.spill()
        cid = self._peer_ids.cid
        overhead = HEAD_BYTES + len(cid)
        limit = full = sending.bytes_max - overhead
        if state.stream_due and not recovery.probes:
            # Larger packets for streams alone, and not for a probe: what asks whether the path lives must not be
            # lost for its size.
            full = self._full_bytes() - overhead
        ack_at = received.ack_at
        ack = b""
        # An ACK that is not due yet rides along where something goes anyway: that saves its own packet (RFC 9000 section 13.2.1).
        if ack_at is not None and (ack_at <= now or datagrams.queue or state.stream_due or state.control_due):
            ack = received.ack_frame(now)
        packets: list[bytes] = []
        while True:
            # Three times what came from an address that is not proved, or we would flood whoever it belongs to (RFC 9000 section 8).
            allowed = path.allowed_bytes()
            if allowed is not None and allowed < overhead + FRAME_BYTES_MIN:
                ack = b""
                break
            space = limit if datagrams.queue else full
            if allowed is not None:
                space = min(limit, allowed - overhead)
            # A packet of 65,000 bytes that was cut to what the window has left would be sent as a small one, again
            # and again.
            elif full > limit and space == full and self._waits_for_room(full + overhead):
                break
            content, handlers, fates = self._content(space - len(ack), overhead, now)
            if not content:
                break
            if ack:
                content = ack + content
                handlers.append((received.on_ack_fate, (received.acknowledged(),)))
                ack = b""
            if len(content) < CONTENT_BYTES_MIN:
                # PADDING, behind the frames (RFC 9000 section 19.1).
                content += bytes(CONTENT_BYTES_MIN - len(content))
            number = sending.number
            packet = sending.seal(content, cid)
            recovery.add(in_flight(number, len(packet), now, handlers, fates))
            packets.append(packet)
            path.sent_bytes += len(packet)
        if not state.stream_due:
            recovery.control.packet_bytes = sending.bytes_max
        elif path.is_proved and (probe := self._probe_path(cid, now)):
            packets.append(probe)
        if packets:
            self._parts.state.on_eliciting_sent(now)
        # Nothing took it along: one that is due goes by itself, one that is not waits on.
        if ack and ack_at is not None and ack_at <= now:
            packets.append(self._acknowledge(ack, path, cid, now))
        if self._paths.others:
            self._probe_others(now)
        if state.control_due:
            self.look_over()
        return packets

    def _full_bytes(self) -> int:
        """Of a packet of streams."""
        control = self._recovery.control
        control.packet_bytes = size = max(self._mtu.packet_bytes(control.window), self._sending.bytes_max)
        return size

    def _waits_for_room(self, size: int) -> bool:
        """Whether a packet so large waits until the window has room for all of it, rather than be cut."""
        control = self._recovery.control
        return not self._state.control_due and 0 < control.window - control.in_flight < size

    def _probe_path(self, cid: bytes, now: float) -> bytes:
        """A probe for a larger packet, where bulk waits behind it; else nothing (RFC 9000 section 14.4)."""
        mtu, recovery, sending = self._mtu, self._recovery, self._sending
        size = mtu.probe_bytes(recovery.control.window, now)
        if not size or not self._streams.has_bulk():
            return b""
        number = sending.number
        # PADDING is a zero byte: a PING and zeros up to the size.
        packet = sending.seal(b"\x01".ljust(size - HEAD_BYTES - len(cid), b"\0"), cid)
        mtu.on_probe_sent(number, now)
        recovery.add(in_flight(number, size, now, ((mtu.on_probe_fate, ()),)))
        return packet

    def _content(self, space: int, overhead: int, now: float) -> tuple[bytes, list[Handler], Fates]:
        """The next packet's content without an ACK: what asks for one. Empty: nothing may go."""
        recovery, datagrams, state = self._recovery, self._datagrams, self._state
        control = recovery.control
        handlers: list[Handler] = []
        room = control.window - control.in_flight - overhead
        content = b""
        fates: Fates = ()
        if state.control_due:
            # A probe goes whatever the window says (RFC 9002 section 7.5): else a full window of lost packets would never be answered.
            least = self._sending.bytes_max - overhead if state.probe_due else 0
            content = self._control_frames(min(space, max(room, least)), handlers, now)
        if not content and not datagrams.queue and not state.stream_due:
            return b"", handlers, ()
        if space > room:
            space = room
        # The pacer has said no to an earlier packet of this call: control frames still go, data waits.
        if space - len(content) < FRAME_BYTES_MIN or state.pacing_at is not None:
            return content, handlers, ()
        if datagrams.queue or state.stream_due:
            state.pacing_at = recovery.pacer.admit(now, space)
            if state.pacing_at is not None:
                return content, handlers, ()
        if datagrams.queue:
            content, fates = datagrams.fill(content, (), space)
            # It fits no packet any more (the peer's connection ID grew, the path changed): kept, it would hold up
            # all behind it for ever.
            if not fates and not content and not datagrams.fits_first(self._sending.bytes_max - overhead):
                datagrams.drop_oldest(recovery.fates)
                return self._content(space, overhead, now)
        if state.stream_due and space - len(content) >= FRAME_BYTES_MIN:
            written, told = self._streams.data_frames(space - len(content))
            if told:
                content += written
                handlers += told
            else:
                # Blocked by limits, or all is sent: without this packets would be asked for in vain until the
                # next look.
                state.stream_due = False
        return content, handlers, fates

    def _control_frames(self, room: int, handlers: list[Handler], now: float) -> bytes:
        """Frames that are neither datagrams nor stream data, in at most ``room`` bytes."""
        state, path = self._state, self._paths.active
        parts: list[bytes] = []
        if room < FRAME_BYTES_MIN:
            return b""
        if not path.is_proved and not path.challenge_sent:
            parts.append(path.challenge())
            handlers.append((self._on_challenge_fate, (path,)))
            if path.give_up_at is None:
                path.give_up_at = now + VALIDATION_PTOS * max(self._recovery.probe_timeout(), INITIAL_PTO_S)
        if state.handshake_done_due:
            state.handshake_done_due = False
            parts.append(b"\x1e")
            handlers.append((state.on_handshake_done_fate, ()))
        if state.pings or state.probe_due:
            parts.append(b"\x01")
            handlers.append((self._on_ping_fate, (tuple(state.pings),)))
            state.pings.clear()
            state.probe_due = False
        room -= sum(map(len, parts))
        if path.challenges_due:
            parts.append(path.responses(room))
            room -= len(parts[-1])
        if self.tls is not None and self.tls.is_due:
            parts.append(self.tls.frames(room, handlers))
            room -= len(parts[-1])
        if self._our_ids.is_due:
            parts.append(self._our_ids.frames(room, handlers, self._issued))
            room -= len(parts[-1])
        if self._peer_ids.retiring:
            parts.append(self._peer_ids.frames(room, handlers))
            room -= len(parts[-1])
        if room >= FRAME_BYTES_MIN:
            parts.append(self._streams.control_frames(room, handlers))
        return b"".join(parts)

    def _issued(self, cid: bytes) -> None:
        self._parts.events.append(ConnectionIdIssued(connection_id=cid))

    def _on_challenge_fate(self, acked: bool, path: Path) -> None:
        """A lost challenge is sent again, with new data, while its path is still to be proved (section 8.2.1)."""
        if not acked and path is self._paths.active and not path.is_proved:
            path.challenge_sent = False

    def _on_ping_fate(self, acked: bool, uids: tuple[int, ...]) -> None:
        """Pings of the application were answered, or lost."""
        if acked:
            self._parts.events += [PingAcknowledged(uid=uid) for uid in uids]
        else:
            self._state.pings += uids

    def _probe_others(self, now: float) -> None:
        """Answers to challenges on paths that are not used, and challenges of ours, each under a connection ID of its own
        (section 9.5)."""
        spare = self._peer_ids.spare
        for path in self._paths.others:
            if not path.challenges_due and (path.is_proved or path.challenge_sent):
                continue
            if path.cid is None:
                if not spare:
                    continue
                path.cid = spare.pop(0)
            overhead = HEAD_BYTES + len(path.cid.cid)
            allowed = path.allowed_bytes()
            room = self._sending.bytes_max - overhead if allowed is None else allowed - overhead
            if room < FRAME_BYTES_MIN:
                continue
            content = b""
            handlers: list[Handler] = []
            if not path.is_proved and not path.challenge_sent:
                content = path.challenge()
                handlers.append((self._on_challenge_fate, (path,)))
            content += path.responses(room - len(content))
            number = self._sending.number
            packet = self._sending.seal(content, path.cid.cid)
            self._recovery.add(in_flight(number, len(packet), now, handlers))
            path.sent_bytes += len(packet)
            self._parts.elsewhere.append((packet, path.address))
            self._parts.state.on_eliciting_sent(now)

    def _acknowledge(self, ack: bytes, path: Path, cid: bytes, now: float) -> bytes:
        """A packet of an ACK with nothing else to say; now and then with a PING, so that it is acknowledged."""
        received, recovery, sending = self._received, self._recovery, self._sending
        largest = received.acknowledged()
        control = recovery.control
        received.acks_alone += 1
        # 200: about a packet of an ACK with many ranges. A PING asks for an answer and so counts as in flight,
        # which an ACK alone does not.
        if received.acks_alone < ACKS_BETWEEN_PINGS or control.in_flight + 200 > control.window:
            packet = sending.seal(ack, cid)
        else:
            received.acks_alone = 0
            number = sending.number
            packet = sending.seal(ack + b"\x01", cid)
            handlers = ((received.on_ack_fate, (largest,)),)
            recovery.add(in_flight(number, len(packet), now, handlers))
            self._parts.state.on_eliciting_sent(now)
        path.sent_bytes += len(packet)
        return packet

    def closing(self, now: float) -> list[bytes]:
        """The packet that says why this connection ends, twice. RFC 9000 section 10.2.1."""
        parts = self._parts
        event = parts.state.close_event
        assert event is not None
        reason = event.reason_phrase.encode()[:CLOSE_REASON_BYTES_MAX]
        # An application's code, or the transport's with the frame that caused it (RFC 9000 section 19.19).
        kind = b"\x1d" if event.frame_type is None else b"\x1c"
        about = b"" if event.frame_type is None else encode_uint_var(event.frame_type)
        content = b"".join(
            (kind, encode_uint_var(event.error_code), about, encode_uint_var(len(reason)), reason)
        )
        self._datagrams.spill()
        packet = self._sending.seal(content, self._peer_ids.cid)
        parts.begin_end(CLOSING, now)
        # Nothing repeats it, for whoever closes is mostly gone then; and the peer that does not hear it holds what
        # was the session's, as a publisher's place, until its idle time-out.
        return [packet, packet]
