"""The short way for packets that carry only datagrams and acknowledgements. Room: quic.

A game's traffic is almost only these: DATAGRAM frames one way, ACK frames the other. This subclass
builds and reads such 1-RTT packets directly, and registers them with aioquic's own loss recovery,
congestion control and pacing, so that RTT, PTO, loss and window stay what aioquic makes them.
Everything else, and every doubt, goes through aioquic untouched: a packet is parsed to its end
before anything of it counts, and whatever this class does not know makes aioquic read it again.

It reaches into aioquic's internals, so it is used only with the versions of
:data:`SUPPORTED_AIOQUIC`, and after :mod:`gateway.quic.selftest`. Sources: RFC 9000 sections 12,
13, 17.3; RFC 9001 section 5; RFC 9221; RFC 9002 appendix A.
"""

from __future__ import annotations

from typing import Any

from aioquic import tls
from aioquic.quic import events
from aioquic.quic.connection import (
    NetworkAddress,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from cryptography.exceptions import InvalidTag

from gateway.quic.connection import AEAD_TAG_BYTES, PACKET_NUMBER_BYTES, Connection, FateSink
from gateway.quic.faststreams import FRAME_BYTES_MIN, limits_due, look_over, sent_packet, write_frames
from gateway.quic.recovery import SentDatagrams, measure_rtt, remove_acked
from gateway.quic.shortpacket import (
    BYTES,
    Keys,
    Ranges,
    datagram_head,
    encode_ack,
    full_number,
    keys_of,
    only_ack,
    parse,
)
from gateway.quic.streamframes import read_ack, take_stream_frames
from gateway.quic.trim import share_epochs, trim

SUPPORTED_AIOQUIC = frozenset({"1.7.2"})

CID_BYTES = 8
ACK_DELAY_S = 0.024
"""Just below the 25 ms that aioquic announces as max_ack_delay, for the millisecond of a timer."""
ACK_EVERY = 8
"""Ack-eliciting packets in order before an ACK goes at once (RFC 9000 section 13.2.2 allows more than two)."""
ACKS_BETWEEN_PINGS = 32
"""An ACK-only packet is never acknowledged itself: a PING now and then lets old ranges go (section 13.2.4)."""
SHORT_RANGES_MAX = 8
"""ACKs of more ranges than this, sent or received, are left to aioquic."""
PTO_S_MIN = 0.025
"""No probe timeout is shorter: it includes max_ack_delay (RFC 9002 section 6.2.1)."""
PACKET_BYTES_MIN = 1 + CID_BYTES + 4 + 16
"""Below it there is no sample for header protection."""
STREAM_FIRST = frozenset((0x02, *range(0x08, 0x10)))
"""First bytes of packets whose frames are given to aioquic as decrypted here: STREAM, or an ACK before it."""
_ONE_RTT, _ZERO_RTT = tls.Epoch.ONE_RTT, tls.Epoch.ZERO_RTT
_CONNECTED = QuicConnectionState.CONNECTED

Fates = tuple[tuple[FateSink, int], ...]
Plain = tuple[bytes, Any, int]
"""A packet's content; its datagrams' fates (a tuple) or its streams' handlers (a list); and the largest
packet number acknowledged in it (-1: none, or among the handlers; -2: nothing in it is in flight)."""


class FastConnection(Connection):
    """A connection with the short way. ``on_payload`` takes the content of DATAGRAM frames."""

    def __init__(self, **kwargs: Any) -> None:
        share_epochs()
        super().__init__(**kwargs)
        self.packets_fast = 0
        self.packets_stock = 0
        self._stock_due = True
        self._stock_doubt = False
        self._stream_due = False
        self._flush_due = False
        self._space: QuicPacketSpace | None = None
        self._idle_s = 0.0
        self._ack_wanted = 0
        self._acks_alone = 0
        self._pair: Any = None
        self._route_in: tuple[NetworkAddress, bytes, Keys, int] | None = None
        self._keys_out: tuple[Any, int, Any, Any] | None = None

    # -- what makes aioquic's own way due -------------------------------------------------

    def _leave_to_stock(self) -> None:
        """aioquic has, or may have, something to send; and what we know of keys and paths may be old."""
        self._stock_due = True
        self._route_in = None

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        self._stock_doubt = True
        super().send_stream_data(stream_id, data, end_stream)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        self._stock_due = True
        super().reset_stream(stream_id, error_code)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        self._stock_due = True
        super().stop_stream(stream_id, error_code)

    def send_ping(self, uid: int) -> None:
        self._stock_due = True
        super().send_ping(uid)

    def request_key_update(self) -> None:
        self._leave_to_stock()
        super().request_key_update()

    def change_connection_id(self) -> None:
        self._leave_to_stock()
        super().change_connection_id()

    def close(self, *args: Any, **kwargs: Any) -> None:
        self._leave_to_stock()
        super().close(*args, **kwargs)

    def release(self, stream_id: int, size: int) -> None:
        self._stock_doubt = True
        super().release(stream_id, size)

    def handle_timer(self, now: float) -> None:
        loss_at = self._loss_at
        super().handle_timer(now)
        if self._state is not _CONNECTED or (loss_at is not None and now >= loss_at):
            self._leave_to_stock()

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        self._stock_doubt = True
        self._route_in = None
        super().receive_datagram(data, addr, now)
        if self._space is not None:
            self._idle_s = self._idle_timeout()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        space = self._space
        if space is not None and self._stream_due and space.ack_at is not None and space.ack_at > now:
            space.ack_at = now
        datagrams = super().datagrams_to_send(now)
        self.packets_stock += len(datagrams)
        if space is None:
            if self._is_settled():
                self._space = self._spaces[_ONE_RTT]
                self._pair = self._cryptos[_ONE_RTT]
                self._idle_s = self._idle_timeout()
                self._stock_due = self._stock_has_work()
                trim(self)
        else:
            if space.ack_at is None:
                self._ack_wanted = 0
            self._stock_due = self._stock_has_work()
        return datagrams

    def _is_settled(self) -> bool:
        """Handshake confirmed, 0-RTT over, connection IDs of our length, nobody logs packets."""
        return (
            self._handshake_confirmed
            and self._state is _CONNECTED
            and not self._cryptos[_ZERO_RTT].recv.is_valid()
            and len(self.host_cid) == CID_BYTES
            and self._quic_logger is None
        )

    def _stock_has_work(self) -> bool:
        """Whether aioquic holds anything to send besides datagrams, stream data and a delayed ACK."""
        path = self._network_paths[0]
        needs_stock, self._stream_due = look_over(self)
        return bool(
            needs_stock
            or self._close_pending
            or self._ping_pending
            or self._probe_pending
            or self._handshake_done_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or len(self._network_paths) != 1
            or not path.is_validated
            or path.remote_challenges
            or self._state is not _CONNECTED
            or self._pair._update_key_requested
            or not self._crypto_streams[_ONE_RTT].sender.buffer_is_empty
            or any(not cid.was_sent for cid in self._host_cids)
            or limits_due(self)
        )

    # -- sending --------------------------------------------------------------------------

    def fast_packets(self, now: float) -> list[bytes] | None:
        """The packets for what is queued and admitted now, to go to ``_network_paths[0].addr``;
        ``None``: let aioquic send. Call :meth:`fast_deadline` after it."""
        space = self._space
        if space is None:
            return None
        if self._stock_doubt:
            self._stock_doubt = False
            self._stock_due = self._stock_has_work() or self._stock_due
        if self._stock_due:
            return None
        self._flush_due = False
        self._pacing_at = None
        if space.ack_at is None and not self._stream_due and len(self._queue) == 1:
            return self._only_datagram(space, now)
        ack = b""
        if space.ack_at is not None and (self._queue or self._stream_due or space.ack_at <= now):
            if len(space.ack_queue) > SHORT_RANGES_MAX:
                self._stock_due = True
                return None
            delay = int((now - (space.largest_received_time or now)) * 1_000_000)
            ack = encode_ack(space.ack_queue, max(0, delay) >> self._local_ack_delay_exponent)
        plains = self._admitted(space, ack, now) if self._queue else []
        if self._stream_due:
            plains += self._admitted_streams(space, ack if space.ack_at is not None else b"", plains, now)
        if plains:
            return self._seal(plains, space, now)
        if ack and space.ack_at is not None and space.ack_at <= now:
            return self._seal([self._ack_alone(space, ack)], space, now)
        return []

    def _only_datagram(self, space: QuicPacketSpace, now: float) -> list[bytes]:
        """What :meth:`_admitted` does for one queued datagram and nothing else: a reader's usual frame."""
        payload, sink, token = self._queue[0]
        size = len(payload)
        plain = datagram_head(size) + payload
        length = len(plain) + len(self._peer_cid.cid) + (1 + PACKET_NUMBER_BYTES + AEAD_TAG_BYTES)
        if length > self._max_datagram_size:
            self._drop_oldest()
            return []
        cc = self._loss._cc
        if length > cc.congestion_window - cc.bytes_in_flight:
            return []
        self._pacing_at = self._pacer.admit(now)
        if self._pacing_at is not None:
            return []
        self._queue.popleft()
        self.datagram_bytes_queued -= size
        return self._seal([(plain, ((sink, token),), -1)], space, now)

    def _admitted(self, space: QuicPacketSpace, ack: bytes, now: float) -> list[Plain]:
        """Take from the queue what window and pacer admit: packets' contents, their datagrams'
        fates, and the largest packet number acknowledged in them (-1: none, -2: not in flight)."""
        queue, loss = self._queue, self._loss
        cc, pacer = loss._cc, self._pacer
        room = cc.congestion_window - cc.bytes_in_flight
        overhead = 1 + len(self._peer_cid.cid) + PACKET_NUMBER_BYTES + AEAD_TAG_BYTES
        limit = self._max_datagram_size - overhead
        plains: list[Plain] = []
        while queue:
            payload, sink, token = queue[0]
            plain = datagram_head(len(payload)) + payload
            ack_of = -1
            if len(plain) > limit:
                self._drop_oldest()
                continue
            if ack and len(plain) + len(ack) <= limit:
                plain = ack + plain
                ack_of = space.largest_received_packet
            length = len(plain) + overhead
            if length > room:
                break
            pacing_at = pacer.admit(now)
            if pacing_at is not None:
                self._pacing_at = pacing_at
                break
            queue.popleft()
            self.datagram_bytes_queued -= len(payload)
            fates: Fates = ((sink, token),)
            if queue and length + len(queue[0][0]) + 3 <= min(self._max_datagram_size, room):
                plain, fates = self._fill(plain, fates, min(limit, room - overhead))
            if ack_of >= 0:
                ack = b""
                space.ack_at = None
                self._ack_wanted = 0
            room -= len(plain) + overhead
            plains.append((plain, fates, ack_of))
        return plains

    def _fill(self, plain: bytes, fates: Fates, limit: int) -> tuple[bytes, Fates]:
        """Add small datagrams to a packet while they fit."""
        queue = self._queue
        while queue and len(plain) + len(queue[0][0]) + 3 <= limit:
            payload, sink, token = queue.popleft()
            self.datagram_bytes_queued -= len(payload)
            plain += datagram_head(len(payload)) + payload
            fates = (*fates, (sink, token))
        return plain, fates

    def _admitted_streams(
        self, space: QuicPacketSpace, ack: bytes, before: list[Plain], now: float
    ) -> list[Plain]:
        """Packets of stream data, as far as window and pacer admit them after those ``before``."""
        cc = self._loss._cc
        overhead = 1 + len(self._peer_cid.cid) + PACKET_NUMBER_BYTES + AEAD_TAG_BYTES
        limit = self._max_datagram_size - overhead
        room = cc.congestion_window - cc.bytes_in_flight
        room -= sum(len(plain) + overhead for plain, _, _ in before)
        plains: list[Plain] = []
        while self._pacing_at is None:
            space_left = min(limit, room - overhead) - len(ack)
            if space_left < FRAME_BYTES_MIN:
                break
            frames, handlers = write_frames(self, space_left)
            if not handlers:
                self._stream_due = False
                break
            if ack:
                handlers.append((self._on_ack_delivery, (space, space.largest_received_packet)))
                frames = ack + frames
                ack = b""
                space.ack_at = None
                self._ack_wanted = 0
            plains.append((frames, handlers, -1))
            room -= len(frames) + overhead
            pacing_at = self._pacer.admit(now)
            if pacing_at is not None:
                self._pacing_at = pacing_at
        return plains

    def _ack_alone(self, space: QuicPacketSpace, ack: bytes) -> Plain:
        """An ACK with nothing else to say; now and then with a PING, so that it is acknowledged."""
        space.ack_at = None
        self._ack_wanted = 0
        self._acks_alone += 1
        cc = self._loss._cc
        if self._acks_alone < ACKS_BETWEEN_PINGS or cc.bytes_in_flight + 200 > cc.congestion_window:
            return ack, (), -2
        self._acks_alone = 0
        return ack + b"\x01", (), space.largest_received_packet

    def _seal(self, plains: list[Plain], space: QuicPacketSpace, now: float) -> list[bytes]:
        """Encrypt and protect packets (RFC 9001 sections 5.3 and 5.4), and note them as aioquic's
        ``on_packet_sent`` and ``_flush_builder`` do."""
        pair = self._pair
        keys = self._keys_out
        if keys is None or keys[3] is not pair.send.aead:
            keys = self._keys_out = (*keys_of(pair.send, "encrypt"), pair.send.aead)
        encrypt, iv, mask_of, _ = keys
        peer_cid = self._peer_cid.cid
        first = 0x40 | (self._spin_bit << 5) | (pair.recv.key_phase << 2) | (PACKET_NUMBER_BYTES - 1)
        prefix = BYTES[first] + peer_cid
        number = self._packet_number
        packets = []
        sent, on_sent = space.sent_packets, self._loss._cc.on_packet_sent
        total = eliciting = 0
        for plain, fates, ack_of in plains:
            low = (number & 0xFFFF).to_bytes(2, "big")
            sealed = encrypt((iv ^ number).to_bytes(12, "big"), plain, prefix + low)
            mask = mask_of(sealed[2:18])
            packet = (
                BYTES[first ^ (mask[0] & 0x1F)]
                + peer_cid
                + BYTES[low[0] ^ mask[1]]
                + BYTES[low[1] ^ mask[2]]
                + sealed
            )
            packets.append(packet)
            size = len(packet)
            total += size
            if ack_of != -2:
                entry: Any
                if fates.__class__ is list:
                    entry = sent_packet(number, size, now, fates)
                else:
                    entry = SentDatagrams(number, size, now, fates, self, ack_of)
                sent[number] = entry
                on_sent(packet=entry)
                eliciting += 1
            number += 1
        self._packet_number = number
        if eliciting:
            space.ack_eliciting_in_flight += eliciting
            self._loss._time_of_last_sent_ack_eliciting_packet = now
            if not self._ack_eliciting_sent_since_receipt:
                self._close_at = now + self._idle_s
                self._ack_eliciting_sent_since_receipt = True
        self._network_paths[0].bytes_sent += total
        self.packets_fast += len(packets)
        return packets

    def fast_deadline(self, looked_at: float = 0.0, now: float = 0.0) -> float | None:
        """When to look at this connection again, no later than ``get_timer`` would say. ``None``:
        ``looked_at``, when it will be looked at anyhow, is soon enough."""
        space = self._space
        if (
            now < looked_at <= now + PTO_S_MIN
            and space is not None
            and space.ack_at is None
            and space.loss_time is None
            and self._pacing_at is None
            and not self._stock_due
            and not self._loss._pto_count
        ):
            return None
        deadline = self._close_at
        loss = self._loss
        if deadline is None or space is None or self._stock_due:
            return self.get_timer()
        if space.ack_at is not None and space.ack_at < deadline:
            deadline = space.ack_at
        if space.loss_time is not None:
            deadline = min(deadline, space.loss_time)
        elif space.ack_eliciting_in_flight:
            pto = loss.get_probe_timeout() * (1 << loss._pto_count)
            deadline = min(deadline, loss._time_of_last_sent_ack_eliciting_packet + pto)
        if self._pacing_at is not None and self._pacing_at < deadline:
            deadline = self._pacing_at
        return deadline

    @property
    def needs_flush(self) -> bool:
        """Whether input left anything to send, or a deadline that came closer."""
        space = self._space
        if self._stock_due or self._stock_doubt or self._flush_due or self._queue or space is None:
            return True
        return self._stream_due or space.loss_time is not None

    # -- receiving ------------------------------------------------------------------------

    def _find_route_in(self) -> tuple[NetworkAddress, bytes, Keys, int] | None:
        """Address, connection ID, keys and key phase of packets that may go the short way; None: none."""
        if self._space is None:
            return None
        path = self._network_paths[0]
        if (
            not path.is_validated
            or self._state is not _CONNECTED
            or self._close_pending
            or len(self.host_cid) != CID_BYTES
            or self._pair.old is not None
        ):
            return None
        recv = self._pair.recv
        self._route_in = (path.addr, self.host_cid, keys_of(recv, "decrypt"), recv.key_phase << 2 | 0x40)
        return self._route_in

    def receive_short(self, data: bytes, addr: NetworkAddress, now: float) -> bool:
        """Take a packet of ACK, DATAGRAM, PING and PADDING frames. False: nothing was done to it."""
        route = self._route_in or self._find_route_in()
        if route is None or data[1 : 1 + CID_BYTES] != route[1] or addr != route[0]:
            return False
        if len(data) < PACKET_BYTES_MIN:
            return False
        decrypt, iv, mask_of = route[2]
        mask = mask_of(data[13:29])
        first = data[0] ^ (mask[0] & 0x1F)
        if first & 0xDC != route[3]:
            return False
        space = self._space
        assert space is not None
        expected = space.expected_packet_number
        size = (first & 3) + 1
        if size == 2:
            truncated = (data[9] ^ mask[1]) << 8 | (data[10] ^ mask[2])
            number = (expected & ~0xFFFF) | truncated
            if not -0x8000 < number - expected <= 0x8000:
                number = full_number(truncated, 16, expected)
        else:
            truncated = int.from_bytes(data[9 : 9 + size], "big") ^ int.from_bytes(mask[1 : 1 + size], "big")
            number = full_number(truncated, 8 * size, expected)
        header = BYTES[first] + route[1] + truncated.to_bytes(size, "big")
        try:
            plain = decrypt((iv ^ number).to_bytes(12, "big"), data[9 + size :], header)
        except InvalidTag:
            return False
        window = space.received_packets
        if number < window._lower or number in window._received:
            return True
        return self._take_plain(plain, space, number, first, now)

    def _take_plain(self, plain: bytes, space: QuicPacketSpace, number: int, first: int, now: float) -> bool:
        """A packet's content, decrypted and seen for the first time."""
        ack = only_ack(plain) if plain else None
        if ack is not None:
            self._count_received(space, number, first, now)
            start, stop, encoded = ack
            delay = (encoded << self._remote_ack_delay_exponent) / 1_000_000
            if not self._take_oldest_ack(space, start, stop, delay, now):
                self._take_ack(space, [(start, stop)], delay, now)
            return True
        frames = parse(plain)
        if frames is None:
            if not plain or plain[0] not in STREAM_FIRST:
                return False
            self._take_streams(plain, space, number, first, now)
            return True
        acks, payloads, eliciting = frames
        in_order = self._count_received(space, number, first, now)
        for ranges, delay in acks:
            self._take_ack(space, ranges, (delay << self._remote_ack_delay_exponent) / 1_000_000, now)
        if eliciting:
            self._want_ack(space, now, at_once=not in_order)
        deliver = self.on_payload
        for payload in payloads:
            if deliver is not None:
                deliver(payload)
            else:
                self._events.append(events.DatagramFrameReceived(data=payload))
        return True

    def _take_streams(
        self, plain: bytes, space: QuicPacketSpace, number: int, first: int, now: float
    ) -> None:
        """A packet with stream data, decrypted already. What :mod:`gateway.quic.streamframes` does not
        take goes to aioquic's frame handlers, and then what its ``receive_datagram`` does after them."""
        self._stock_doubt = True
        at = 0
        ack = read_ack(plain)
        if ack is not None:
            ranges, delay, at = ack
            self._take_ack(space, ranges, (delay << self._remote_ack_delay_exponent) / 1_000_000, now)
        rest = take_stream_frames(self, plain, at)
        eliciting = rest > at
        if rest < len(plain):
            eliciting = self._leave_frames(plain[rest:], now) or eliciting
            if self._state is not _CONNECTED or self._close_pending:
                return
            self._idle_s = self._idle_timeout()
        self._count_received(space, number, first, now)
        if eliciting and space.ack_at is None:
            space.ack_at = now + self._ack_delay

    def _leave_frames(self, plain: bytes, now: float) -> bool:
        """Frames for aioquic's handlers. Answers whether any asks for an ACK."""
        context = QuicReceiveContext(_ONE_RTT, self.host_cid, self._network_paths[0], None, now, None)
        eliciting = False
        try:
            eliciting, _ = self._payload_received(context, plain)
        except QuicConnectionError as exc:
            self.close(error_code=exc.error_code, frame_type=exc.frame_type, reason_phrase=exc.reason_phrase)
        self._route_in = None
        return eliciting

    def _count_received(self, space: QuicPacketSpace, number: int, first: int, now: float) -> bool:
        """What ``receive_datagram`` notes of a packet that came. Answers whether it came in order."""
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            self._spin_bit = (first & 0x20 != 0) ^ self._is_client
            self._spin_highest_pn = number
        self._close_at = now + self._idle_s
        self._ack_eliciting_sent_since_receipt = False
        in_order = number == space.largest_received_packet + 1
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        space.received_packets.add(number)
        ranges: list[range] = space.ack_queue._RangeSet__ranges  # type: ignore[attr-defined]
        if ranges and ranges[-1].stop == number:
            ranges[-1] = range(ranges[-1].start, number + 1)
        else:
            space.ack_queue.add(number)
            if len(ranges) > MAX_ACK_RANGES:
                space.ack_queue.shift()
        return in_order

    def _want_ack(self, space: QuicPacketSpace, now: float, *, at_once: bool) -> None:
        """When to acknowledge: at once if out of order, else after some packets or just in time."""
        self._ack_wanted += 1
        if at_once or self._ack_wanted >= ACK_EVERY:
            space.ack_at = now
            self._flush_due = True
        elif space.ack_at is None:
            space.ack_at = now + ACK_DELAY_S
            self._flush_due = True

    def _take_oldest_ack(
        self, space: QuicPacketSpace, start: int, stop: int, ack_delay: float, now: float
    ) -> bool:
        """:meth:`_take_ack` where what is acknowledged is the oldest packet in flight alone, and
        carries datagrams alone: what nearly every ACK of a reader says. False: nothing was done."""
        sent = space.sent_packets
        largest = stop - 1
        packet: Any = sent.get(largest)
        if packet.__class__ is not SentDatagrams or packet.ack_of >= 0 or next(iter(sent)) != largest:
            return False
        if largest < space.largest_acked_packet:
            return False
        space.largest_acked_packet = largest
        del sent[largest]
        space.ack_eliciting_in_flight -= 1
        loss = self._loss
        cc: Any = loss._cc
        cc.on_packet_acked(packet=packet, now=now)
        self.acked += packet.fates
        measure_rtt(loss, now - packet.sent_time, ack_delay, now)
        space.loss_time = None
        loss._pto_count = 0
        return True

    def _take_ack(self, space: QuicPacketSpace, ranges: Ranges, ack_delay: float, now: float) -> None:
        """aioquic's ``on_ack_received`` (RFC 9002 appendix A.7)."""
        loss = self._loss
        if len(ranges) > SHORT_RANGES_MAX:
            self._stock_due = True
            rangeset = RangeSet([range(start, stop) for start, stop in ranges])
            loss.on_ack_received(ack_rangeset=rangeset, ack_delay=ack_delay, now=now, space=space)
            return
        largest = ranges[-1][1] - 1
        if largest > space.largest_acked_packet:
            space.largest_acked_packet = largest
        newest, eliciting, stock = remove_acked(loss, space, ranges, now, self.acked)
        if newest is None:
            return
        if stock:
            self._stock_doubt = True
        if newest.packet_number == largest and eliciting:
            measure_rtt(loss, now - newest.sent_time, ack_delay, now)
        sent = space.sent_packets
        if sent and next(iter(sent)) <= space.largest_acked_packet:
            before = len(sent)
            loss._detect_loss(now=now, space=space)
            if len(sent) != before:
                self._stock_doubt = True
        else:
            space.loss_time = None
        loss._pto_count = 0
