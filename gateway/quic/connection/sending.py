"""A connection's packets out: built, sealed, and noted as in flight. Room: quic. Pure: no clock.

Three ways, of which the first two are the most of a game's traffic: a burst that goes as a whole, datagrams with nothing
beside them, and everything else together: ACKs, control frames, datagrams, stream data. Sources: RFC 9000 sections 12, 13
and 17.3; RFC 9001 sections 5.3 and 5.4; RFC 9002 section 7; RFC 9221.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aioquic.buffer import encode_uint_var
from aioquic.quic.events import ConnectionIdIssued

from gateway.quic.connection.datagrams import HEAD_BYTES_MAX
from gateway.quic.connection.framing import Run
from gateway.quic.connection.packets import PACKET_NUMBER_BYTES, datagram_head, encode_ack, sealed
from gateway.quic.connection.paths import Path
from gateway.quic.connection.recovery import Fates, Handlers, SentPacket, sent_burst, sent_packet
from gateway.quic.connection.streams import FRAME_BYTES_MIN

if TYPE_CHECKING:
    from gateway.quic.connection.connection import Connection

AEAD_TAG_BYTES: Final = 16
HEAD_BYTES: Final = 1 + PACKET_NUMBER_BYTES + AEAD_TAG_BYTES
"""What a packet has besides its content and the connection ID."""
FRAME_HEAD_BYTES: Final = 3
"""Type and length of a DATAGRAM frame, which max_datagram_frame_size counts in (RFC 9221 section 3)."""
DATAGRAM_OVERHEAD_BYTES: Final = HEAD_BYTES + FRAME_HEAD_BYTES
ACKS_BETWEEN_PINGS: Final = 32
"""An ACK-only packet is never acknowledged itself: a PING now and then lets old ranges go (section 13.2.4)."""
PROBE_BYTES: Final = HEAD_BYTES + 8 + 1 + 4 * 8 + 9
"""A packet of an ACK and a PATH_CHALLENGE: with less allowed to go to an address, nothing is waited for."""
CONTENT_BYTES_MIN: Final = 2
"""For the sample of header protection, with the tag."""
CLOSE_REASON_BYTES_MAX: Final = 1_000
VALIDATION_PTOS: Final = 3
INITIAL_PTO_S: Final = 0.2
_ACK: Final = struct.Struct(">BIIBH")
"""Type, largest and delay of four bytes, no further ranges, the range's length of two."""
_FOUR: Final = 0x8000_0000
_TWO: Final = 0x4000
_run: Any = partial(tuple.__new__, Run)


def in_flight(number: int, size: int, sent_at: float, handlers: Handlers, fates: Fates = ()) -> SentPacket:
    """A packet as recovery knows it."""
    packet: SentPacket = sent_packet((number, size, sent_at, fates, handlers))
    return packet


def _seal(c: Connection, content: bytes, cid: bytes) -> bytes:
    """A packet of this content with the next number."""
    keys, number = c.keys, c.number
    assert keys is not None
    c.number = number + 1
    first = 0x40 | (c._spin << 5) | keys.bits | (PACKET_NUMBER_BYTES - 1)
    return sealed((content,), number, first, cid, keys.sealing)


def packet_of(c: Connection, content: bytes) -> bytes:
    """A packet of any content with the next number, which is noted nowhere: for whoever tries what a peer would do."""
    return _seal(c, content, c.peer_ids.current.cid)


def _restart_idle(c: Connection, now: float) -> None:
    """The first packet since the last that came, that asks for an answer, begins the silence anew (section 10.1)."""
    if not c._eliciting_sent:
        c.close_at = now + c._idle_s
        c._eliciting_sent = True


# -- bursts and datagrams ------------------------------------------------------------------


def burst(c: Connection, now: float) -> list[bytes] | Run | None:
    """The packets of the burst that waits. None: they can't go as one; it is in the queue now."""
    datagrams, recovery, keys = c.datagrams, c.recovery, c.keys
    assert datagrams.burst is not None
    assert keys is not None
    framing, sink, token = datagrams.burst
    control, count, cid = recovery.control, framing.packets, c.peer_ids.current.cid
    head_bytes = HEAD_BYTES + len(cid)
    total = framing.content_bytes + count * head_bytes
    if (
        total > control.window - control.in_flight
        or framing.largest + head_bytes > c.packet_bytes_max
        or not recovery.pacer.admit_burst(count, now)
    ):
        datagrams.spill()
        return None
    datagrams.burst = None
    datagrams.size = 0
    number = c.number
    c.number = number + count
    first = 0x40 | (c._spin << 5) | keys.bits | (PACKET_NUMBER_BYTES - 1)
    data = sealed(framing.contents, number, first, cid, keys.sealing)
    recovery.add_burst(
        sent_burst((number, total, now, sink, token, framing.shape, framing.count, number + count - 1))
    )
    if not c._eliciting_sent:
        c.close_at = now + c._idle_s
        c._eliciting_sent = True
    c.packets_fast += count
    if framing.is_run:
        run: Run = _run((data, framing.shape[0][0] + head_bytes, count))
        return run
    packets, at = [], 0
    for size, _ in framing.shape:
        packets.append(data[at : at + size + head_bytes])
        at += size + head_bytes
    return packets


def datagrams_alone(c: Connection, now: float) -> list[bytes]:
    """Packets of the datagrams that window and pacer admit: what a reader that is behind gets, so everything is in locals."""
    datagrams, recovery, keys = c.datagrams, c.recovery, c.keys
    assert keys is not None
    queue, pacer, control = datagrams.queue, recovery.pacer, recovery.control
    cid = c.peer_ids.current.cid
    overhead, bytes_max = HEAD_BYTES + len(cid), c.packet_bytes_max
    first = 0x40 | (c._spin << 5) | keys.bits | (PACKET_NUMBER_BYTES - 1)
    room = control.window - control.in_flight
    sent, add = recovery.sent, recovery.add
    packets: list[bytes] = []
    if pacer.burst_left:
        pacer.forget_old(now)
    while queue:
        payload, sink, token = queue[0]
        taken = len(payload)
        plain = datagram_head(taken) + payload
        size = len(plain) + overhead
        if size > bytes_max:
            datagrams.drop_oldest(recovery.fates)
            continue
        if size > room:
            break
        if pacer.burst_left:
            pacer.burst_left -= 1
        else:
            c.pacing_at = pacer.admit(now)
            if c.pacing_at is not None:
                break
        queue.popleft()
        datagrams.size -= taken
        fates: Fates = ((sink, token, 1),)
        if queue and size + len(queue[0][0]) + HEAD_BYTES_MAX <= min(bytes_max, room):
            plain, fates = datagrams.fill(plain, fates, min(bytes_max, room) - overhead)
            size = len(plain) + overhead
        number = c.number
        c.number = number + 1
        packets.append(sealed((plain,), number, first, cid, keys.sealing))
        add(sent_packet((number, size, now, fates, ())))
        room -= size
    if packets:
        _restart_idle(c, now)
        c.packets_fast += len(packets)
    assert sent is recovery.sent
    return packets


# -- everything else -----------------------------------------------------------------------


def mixed(c: Connection, now: float) -> list[bytes]:
    """Packets of whatever is to be sent, as far as window, pacer and the path allow."""
    datagrams, recovery, received = c.datagrams, c.recovery, c.received
    assert c.paths is not None
    path = c.paths.active
    datagrams.spill()
    if c._close_pending:
        return _closing(c, now)
    cid = c.peer_ids.current.cid
    overhead = HEAD_BYTES + len(cid)
    limit = c.packet_bytes_max - overhead
    ack_at = received.ack_at
    ack = b""
    if ack_at is not None and (ack_at <= now or datagrams.queue or c._stream_due or c._control_due):
        ack = _ack_frame(c, now)
    packets: list[bytes] = []
    while True:
        allowed = path.allowed_bytes()
        if allowed is not None and allowed < overhead + FRAME_BYTES_MIN:
            ack = b""
            break
        space = limit if allowed is None else min(limit, allowed - overhead)
        content, handlers, fates = _content(c, space - len(ack), overhead, now)
        if not content:
            break
        if ack:
            content = ack + content
            handlers.append((received.on_ack_fate, (received.acknowledged(),)))
            ack = b""
        if len(content) < CONTENT_BYTES_MIN:
            content += bytes(CONTENT_BYTES_MIN - len(content))
        number = c.number
        packet = _seal(c, content, cid)
        recovery.add(in_flight(number, len(packet), now, handlers, fates))
        packets.append(packet)
        path.sent_bytes += len(packet)
    if packets:
        _restart_idle(c, now)
    if ack and ack_at is not None and ack_at <= now:
        packets.append(_acknowledge(c, ack, path, cid, now))
    c.packets_fast += len(packets)
    if c.paths.others:
        _probe_others(c, now)
    if c._control_due:
        c._look_over()
    return packets


def _content(c: Connection, space: int, overhead: int, now: float) -> tuple[bytes, list[Any], Fates]:
    """The next packet's content without an ACK: what asks for one. Empty: nothing may go."""
    recovery, datagrams = c.recovery, c.datagrams
    control = recovery.control
    handlers: list[Any] = []
    room = control.window - control.in_flight - overhead
    content = b""
    fates: Fates = ()
    if c._control_due:
        least = c.packet_bytes_max - overhead if c._probe_due else 0
        content = _control_frames(c, min(space, max(room, least)), handlers, now)
    if not content and not datagrams.queue and not c._stream_due:
        return b"", handlers, ()
    if space > room:
        space = room
    if space - len(content) < FRAME_BYTES_MIN or c.pacing_at is not None:
        return content, handlers, ()
    if datagrams.queue or c._stream_due:
        c.pacing_at = recovery.pacer.admit(now)
        if c.pacing_at is not None:
            return content, handlers, ()
    if datagrams.queue:
        content, fates = datagrams.fill(content, (), space)
        if not fates and not content:
            payload = datagrams.queue[0][0]
            if len(payload) + HEAD_BYTES_MAX > c.packet_bytes_max - overhead:
                datagrams.drop_oldest(recovery.fates)
                return _content(c, space, overhead, now)
    if c._stream_due and space - len(content) >= FRAME_BYTES_MIN:
        written, told = c.streams.data_frames(space - len(content))
        if told:
            content += written
            handlers += told
        else:
            c._stream_due = False
    return content, handlers, fates


def _control_frames(c: Connection, room: int, handlers: list[Any], now: float) -> bytes:
    """Frames that are neither datagrams nor stream data, in at most ``room`` bytes."""
    assert c.paths is not None
    path, parts = c.paths.active, []
    if room < FRAME_BYTES_MIN:
        return b""
    if not path.is_proved and not path.challenge_sent:
        parts.append(path.challenge())
        handlers.append((partial(_on_challenge_fate, c), (path,)))
        if path.give_up_at is None:
            path.give_up_at = now + VALIDATION_PTOS * max(c.recovery.probe_timeout(), INITIAL_PTO_S)
    if c._handshake_done_due:
        c._handshake_done_due = False
        parts.append(b"\x1e")
        handlers.append((partial(_on_handshake_done_fate, c), ()))
    if c._pings_due or c._probe_due:
        parts.append(b"\x01")
        handlers.append((partial(_on_ping_fate, c), (tuple(c._pings_due),)))
        c._pings_due.clear()
        c._probe_due = False
    room -= sum(map(len, parts))
    if path.challenges_due:
        parts.append(path.responses(room))
        room -= len(parts[-1])
    if c._tls is not None and c._tls.is_due:
        parts.append(c._tls.frames(room, handlers))
        room -= len(parts[-1])
    if c.our_ids.is_due:
        parts.append(c.our_ids.frames(room, handlers, partial(_issued, c)))
        room -= len(parts[-1])
    if c.peer_ids.retiring:
        parts.append(c.peer_ids.frames(room, handlers))
        room -= len(parts[-1])
    if room >= FRAME_BYTES_MIN:
        parts.append(c.streams.control_frames(room, handlers))
    return b"".join(parts)


def _issued(c: Connection, cid: bytes) -> None:
    c.events.append(ConnectionIdIssued(connection_id=cid))


def _on_challenge_fate(c: Connection, acked: bool, path: Path) -> None:
    """A lost challenge is sent again, with new data, while its path is still to be proved (section 8.2.1)."""
    if not acked and c.paths is not None and path is c.paths.active and not path.is_proved:
        path.challenge_sent = False


def _on_handshake_done_fate(c: Connection, acked: bool) -> None:
    c._handshake_done_due = c._handshake_done_due or not acked


def _on_ping_fate(c: Connection, acked: bool, uids: tuple[int, ...]) -> None:
    c.on_ping_fate(acked, uids)


def _probe_others(c: Connection, now: float) -> None:
    """Answers to challenges on paths that are not used, and challenges of ours, each under a connection ID of its own
    (section 9.5)."""
    assert c.paths is not None
    for path in c.paths.others:
        if not path.challenges_due and (path.is_proved or path.challenge_sent):
            continue
        if path.cid is None:
            if not c.peer_ids.spare:
                continue
            path.cid = c.peer_ids.spare.pop(0)
        overhead = HEAD_BYTES + len(path.cid.cid)
        allowed = path.allowed_bytes()
        room = c.packet_bytes_max - overhead if allowed is None else allowed - overhead
        if room < FRAME_BYTES_MIN:
            continue
        content, handlers = b"", []
        if not path.is_proved and not path.challenge_sent:
            content = path.challenge()
            handlers.append((partial(_on_challenge_fate, c), (path,)))
        content += path.responses(room - len(content))
        number = c.number
        packet = _seal(c, content, path.cid.cid)
        c.recovery.add(in_flight(number, len(packet), now, handlers))
        path.sent_bytes += len(packet)
        c.elsewhere.append((packet, path.address))
        _restart_idle(c, now)


def _closing(c: Connection, now: float) -> list[bytes]:
    """The packet that says why this connection ends."""
    event = c.close_event
    assert event is not None
    assert c.paths is not None
    reason = event.reason_phrase.encode()[:CLOSE_REASON_BYTES_MAX]
    kind = b"\x1d" if event.frame_type is None else b"\x1c"
    about = b"" if event.frame_type is None else encode_uint_var(event.frame_type)
    content = b"".join((kind, encode_uint_var(event.error_code), about, encode_uint_var(len(reason)), reason))
    packet = _seal(c, content, c.peer_ids.current.cid)
    c.begin_closing(now)
    c.packets_fast += 1
    return [packet]


# -- acknowledgements ----------------------------------------------------------------------


def _ack_frame(c: Connection, now: float) -> bytes:
    """An ACK of all that came; its integers have fixed lengths where that is quicker, which RFC 9000 section 16 allows."""
    received = c.received
    ranges = received.ranges
    if not ranges:
        return b""
    delay = max(0, int((now - received.largest_at) * 1_000_000)) >> 3
    if len(ranges) == 1:
        block = ranges[0]
        largest = block.stop - 1
        if largest < 1 << 30 and len(block) <= 1 << 14 and delay < 1 << 30:
            return _ACK.pack(0x02, _FOUR | largest, _FOUR | delay, 0, _TWO | largest - block.start)
    return encode_ack(ranges, delay)


def _acknowledge(c: Connection, ack: bytes, path: Path, cid: bytes, now: float) -> bytes:
    """A packet of an ACK with nothing else to say; now and then with a PING, so that it is acknowledged."""
    largest = c.received.acknowledged()
    control = c.recovery.control
    c._acks_alone += 1
    if c._acks_alone < ACKS_BETWEEN_PINGS or control.in_flight + 200 > control.window:
        packet = _seal(c, ack, cid)
    else:
        c._acks_alone = 0
        number = c.number
        packet = _seal(c, ack + b"\x01", cid)
        handlers = ((c.received.on_ack_fate, (largest,)),)
        c.recovery.add(in_flight(number, len(packet), now, handlers))
        _restart_idle(c, now)
    path.sent_bytes += len(packet)
    return packet


def ack_alone(c: Connection, now: float) -> bytes | None:
    """The packet for an ACK that is due, accounted for as sent; empty: none is due any more. None: let
    :meth:`Connection.packets` see to it. What a publisher that hears nothing back is sent all day."""
    received = c.received
    if (
        c.keys is None
        or c._control_due
        or c._doubt
        or c._stream_due
        or c.datagrams.queue
        or c.datagrams.burst is not None
        or c.number >= c._renew_at
        or c._acks_alone + 1 >= ACKS_BETWEEN_PINGS
        or not c.is_open
    ):
        return None
    if received.ack_at is None or received.ack_at > now:
        return b""
    packet = _seal(c, _ack_frame(c, now), c.peer_ids.current.cid)
    c.packets_fast += 1
    c._acks_alone += 1
    received.acknowledged()
    return packet
