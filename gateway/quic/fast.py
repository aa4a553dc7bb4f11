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

from collections.abc import Callable
from typing import Any

from aioquic import tls
from aioquic.buffer import encode_uint_var
from aioquic.quic import events
from aioquic.quic.connection import NetworkAddress, QuicConnectionState
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from cryptography.exceptions import InvalidTag

from gateway.quic.connection import AEAD_TAG_BYTES, PACKET_NUMBER_BYTES, Connection

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

_ONE_RTT = tls.Epoch.ONE_RTT
_DATAGRAM_HEADS = [b"\x31" + encode_uint_var(length) for length in range(1_600)]
_TOO_SMALL = CID_BYTES + 21

_ACKED = QuicDeliveryState.ACKED

Keys = tuple[Any, Callable[..., bytes], int, Callable[[bytes], bytes]]
"""An AEAD as identity, its encrypt or decrypt, its IV, and the header protection mask of a sample."""


class SentDatagram:
    """A packet of datagrams in flight: what aioquic's recovery asks of ``QuicSentPacket``, and no more."""

    __slots__ = ("delivery_handlers", "packet_number", "sent_bytes", "sent_time")

    epoch = _ONE_RTT
    in_flight = True
    is_ack_eliciting = True
    is_crypto_packet = False
    packet_type = QuicPacketType.ONE_RTT
    quic_logger_frames: tuple[()] = ()

    def __init__(self, packet_number: int, sent_bytes: int, sent_time: float, handlers: Any) -> None:
        self.packet_number = packet_number
        self.sent_bytes = sent_bytes
        self.sent_time = sent_time
        self.delivery_handlers = handlers


class FastConnection(Connection):
    """A connection with the short way. ``on_payload`` takes the content of DATAGRAM frames."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stock_due = True
        self.packets_fast = 0
        self.packets_stock = 0
        self._fast_ready = False
        self._in_order = True
        self._idle_s = 0.0
        self._ack_wanted = 0
        self._acks_alone = 0
        self._send_keys: Keys | None = None
        self._recv_keys: Keys | None = None
        self._header_of: tuple[bytes, int, bool] | None = None
        self._header = b""
        self._space: QuicPacketSpace | None = None

    # -- what makes aioquic's own way due -------------------------------------------------

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        self.stock_due = True
        super().send_stream_data(stream_id, data, end_stream)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        self.stock_due = True
        super().reset_stream(stream_id, error_code)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        self.stock_due = True
        super().stop_stream(stream_id, error_code)

    def send_ping(self, uid: int) -> None:
        self.stock_due = True
        super().send_ping(uid)

    def request_key_update(self) -> None:
        self.stock_due = True
        super().request_key_update()

    def change_connection_id(self) -> None:
        self.stock_due = True
        super().change_connection_id()

    def close(self, *args: Any, **kwargs: Any) -> None:
        self.stock_due = True
        super().close(*args, **kwargs)

    def release(self, stream_id: int, size: int) -> None:
        self.stock_due = True
        super().release(stream_id, size)

    def handle_timer(self, now: float) -> None:
        before = self._loss_at
        super().handle_timer(now)
        if before is not None and now >= before:
            self.stock_due = True

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        space = self._spaces.get(_ONE_RTT)
        waited = space is not None and space.ack_at is not None
        datagrams = super().datagrams_to_send(now)
        if waited and space is not None and space.ack_at is None:
            self._ack_wanted = 0
        self.packets_stock += len(datagrams)
        if not self._fast_ready:
            self._fast_ready = self._is_settled()
        self.stock_due = not self._fast_ready or self._stock_has_work()
        return datagrams

    def _is_settled(self) -> bool:
        """Handshake confirmed, 0-RTT over, connection IDs of our length."""
        if not self._handshake_confirmed or self._state is not QuicConnectionState.CONNECTED:
            return False
        if self._cryptos[tls.Epoch.ZERO_RTT].recv.is_valid() or len(self.host_cid) != CID_BYTES:
            return False
        self._space = self._spaces[_ONE_RTT]
        self._idle_s = self._idle_timeout()
        return self._quic_logger is None

    def _stock_has_work(self) -> bool:
        """Whether aioquic holds anything to send besides datagrams and a delayed ACK."""
        if (
            self._close_pending
            or self._ping_pending
            or self._probe_pending
            or self._handshake_done_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or len(self._network_paths) != 1
            or not self._network_paths[0].is_validated
            or self._network_paths[0].remote_challenges
            or self._state is not QuicConnectionState.CONNECTED
            or self._cryptos[_ONE_RTT]._update_key_requested
            or not self._crypto_streams[_ONE_RTT].sender.buffer_is_empty
            or self._local_max_data.value != self._local_max_data.sent
        ):
            return True
        if any(not cid.was_sent for cid in self._host_cids):
            return True
        for stream in self._streams_queue:
            sender = stream.sender
            if sender.reset_pending or not sender.buffer_is_empty or stream.receiver.stop_pending:
                return True
            if stream.is_finished or stream.max_stream_data_local_sent != stream.max_stream_data_local:
                return True
        return False

    # -- sending --------------------------------------------------------------------------

    def fast_packets(self, now: float) -> list[bytes] | None:
        """The packets for what is queued and admitted now; ``None``: let aioquic send.

        To go to ``_network_paths[0].addr``. Call :meth:`fast_deadline` after it.
        """
        space = self._space
        if self.stock_due or space is None:
            return None
        self._pacing_at = None
        queue = self._queue
        ack_due = space.ack_at is not None and space.ack_at <= now
        if not queue:
            return self._ack_alone(space, now) if ack_due else []
        loss = self._loss
        cc, pacer = loss._cc, loss._pacer
        room = cc.congestion_window - cc.bytes_in_flight
        plains: list[bytes] = []
        fates: list[Any] = []
        ack, ack_fate = b"", None
        if space.ack_at is not None:
            if len(space.ack_queue) > SHORT_RANGES_MAX:
                self.stock_due = True
                return None
            ack = self._ack_frame(space, now)
            ack_fate = (self._on_ack_delivery, (space, space.largest_received_packet))
        overhead = 1 + len(self._peer_cid.cid) + PACKET_NUMBER_BYTES + AEAD_TAG_BYTES
        limit = self._max_datagram_size - overhead
        deliver = self._on_datagram_delivery
        while queue:
            if not ack_due:
                self._pacing_at = pacer.next_send_time(now=now)
                if self._pacing_at is not None:
                    break
            payload, sink, token = queue[0]
            size = len(payload)
            head = _DATAGRAM_HEADS[size]
            plain = head + payload
            if ack and len(plain) + len(ack) <= limit:
                plain = ack + plain
                handlers: Any = (ack_fate, (deliver, (sink, token)))
                ack = b""
            else:
                handlers = ((deliver, (sink, token)),)
            length = len(plain)
            if length > limit:
                self._drop_oldest()
                continue
            if length + overhead > room:
                break
            queue.popleft()
            self.datagram_bytes_queued -= size
            while queue and length + len(queue[0][0]) + 3 <= limit:
                payload, sink, token = queue[0]
                plain += _DATAGRAM_HEADS[len(payload)] + payload
                if len(plain) + overhead > room:
                    plain = plain[:length]
                    break
                length = len(plain)
                queue.popleft()
                self.datagram_bytes_queued -= len(payload)
                handlers = (*handlers, (deliver, (sink, token)))
            room -= length + overhead
            plains.append(plain)
            fates.append(handlers)
            pacer.update_after_send(now=now)
            ack_due = False
        if not plains:
            return self._ack_alone(space, now) if ack_due else []
        if ack_fate is not None and not ack:
            space.ack_at = None
            self._ack_wanted = 0
        return self._seal(plains, fates, space, now)

    def _seal(self, plains: list[bytes], fates: list[Any], space: QuicPacketSpace, now: float) -> list[bytes]:
        """Encrypt, protect and register packets (RFC 9001 sections 5.3 and 5.4)."""
        pair = self._cryptos[_ONE_RTT]
        keys = self._send_keys
        if keys is None or keys[0] is not pair.send.aead:
            keys = self._send_keys = _keys(pair.send, "encrypt")
        _, encrypt, iv, mask_of = keys
        look = (self._peer_cid.cid, pair.recv.key_phase, self._spin_bit)
        if look != self._header_of:
            self._header_of = look
            self._header = (
                bytes([0x40 | (look[2] << 5) | (look[1] << 2) | (PACKET_NUMBER_BYTES - 1)]) + look[0]
            )
        prefix = self._header
        first, cid = prefix[0], prefix[1:]
        number = self._packet_number
        loss = self._loss
        sent, on_sent = space.sent_packets, loss._cc.on_packet_sent
        packets = []
        for plain, handlers in zip(plains, fates, strict=True):
            sealed = encrypt(
                (iv ^ number).to_bytes(12, "big"), plain, prefix + (number & 0xFFFF).to_bytes(2, "big")
            )
            mask = mask_of(sealed[2:18])
            packet = b"%c%b%c%c%b" % (
                first ^ (mask[0] & 0x1F),
                cid,
                (number >> 8 & 0xFF) ^ mask[1],
                (number & 0xFF) ^ mask[2],
                sealed,
            )
            packets.append(packet)
            if handlers is not None:
                entry: Any = SentDatagram(number, len(packet), now, handlers)
                sent[number] = entry
                space.ack_eliciting_in_flight += 1
                loss._time_of_last_sent_ack_eliciting_packet = now
                on_sent(packet=entry)
                if not self._ack_eliciting_sent_since_receipt:
                    self._close_at = now + self._idle_s
                    self._ack_eliciting_sent_since_receipt = True
            self._network_paths[0].bytes_sent += len(packet)
            number += 1
        self._packet_number = number
        self.packets_fast += len(packets)
        return packets

    def _ack_frame(self, space: QuicPacketSpace, now: float) -> bytes:
        ranges = space.ack_queue
        last = ranges[-1]
        delay = (
            int((now - (space.largest_received_time or now)) * 1_000_000) >> self._local_ack_delay_exponent
        )
        frame = (
            b"\x02"
            + encode_uint_var(last.stop - 1)
            + encode_uint_var(delay)
            + encode_uint_var(len(ranges) - 1)
            + encode_uint_var(last.stop - 1 - last.start)
        )
        smallest = last.start
        for index in range(len(ranges) - 2, -1, -1):
            part = ranges[index]
            frame += encode_uint_var(smallest - part.stop - 1) + encode_uint_var(part.stop - 1 - part.start)
            smallest = part.start
        return frame

    def _ack_alone(self, space: QuicPacketSpace, now: float) -> list[bytes] | None:
        """An ACK with nothing else to say; now and then with a PING, so that it is acknowledged."""
        if len(space.ack_queue) > SHORT_RANGES_MAX:
            self.stock_due = True
            return None
        plain = self._ack_frame(space, now)
        handlers = None
        self._acks_alone += 1
        if self._acks_alone >= ACKS_BETWEEN_PINGS:
            cc = self._loss._cc
            if cc.bytes_in_flight + 100 <= cc.congestion_window:
                self._acks_alone = 0
                plain += b"\x01"
                handlers = ((self._on_ack_delivery, (space, space.largest_received_packet)),)
        space.ack_at = None
        self._ack_wanted = 0
        return self._seal([plain], [handlers], space, now)

    def fast_deadline(self) -> float | None:
        """When to look at this connection again, no later than ``get_timer`` would say."""
        deadline = self._close_at
        space, loss = self._space, self._loss
        if deadline is None or space is None:
            return deadline
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
        """Whether there is anything to send, or a deadline that may have come closer."""
        space = self._space
        if self.stock_due or self._queue or space is None:
            return True
        return space.ack_at is not None or space.loss_time is not None

    # -- receiving ------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        if self._fast_ready and not data[0] & 0x80 and self._receive_short(data, addr, now):
            return
        self.stock_due = True
        super().receive_datagram(data, addr, now)
        if self._fast_ready:
            self._idle_s = self._idle_timeout()

    def _receive_short(self, data: bytes, addr: NetworkAddress, now: float) -> bool:
        """Take a packet of ACK, DATAGRAM, PING and PADDING frames. False: nothing was done to it."""
        path = self._network_paths[0]
        if (
            len(data) < _TOO_SMALL
            or path.addr != addr
            or not path.is_validated
            or data[1 : 1 + CID_BYTES] != self.host_cid
            or self._state is not QuicConnectionState.CONNECTED
            or self._close_pending
        ):
            return False
        recv = self._cryptos[_ONE_RTT].recv
        keys = self._recv_keys
        if keys is None or keys[0] is not recv.aead:
            keys = self._recv_keys = _keys(recv, "decrypt")
        _, decrypt, iv, mask_of = keys
        mask = mask_of(data[CID_BYTES + 5 : CID_BYTES + 21])
        first = data[0] ^ (mask[0] & 0x1F)
        if first & 0x18 or (first >> 2) & 1 != recv.key_phase:
            return False
        size = (first & 3) + 1
        space = self._space
        assert space is not None
        start = 1 + CID_BYTES
        truncated = int.from_bytes(data[start : start + size], "big") ^ int.from_bytes(
            mask[1 : 1 + size], "big"
        )
        number = _full_number(truncated, 8 * size, space.expected_packet_number)
        header = bytes((first,)) + data[1:start] + truncated.to_bytes(size, "big")
        try:
            plain = decrypt((iv ^ number).to_bytes(12, "big"), data[start + size :], header)
        except InvalidTag:
            return False
        if number in space.received_packets:
            return True
        frames = _parse(plain)
        if frames is None:
            return False
        acks, payloads, eliciting = frames
        self._count_received(space, number, first, now)
        for ranges, delay in acks:
            self._take_ack(space, ranges, (delay << self._remote_ack_delay_exponent) / 1_000_000, now)
        if eliciting:
            self._want_ack(space, number, now)
        if payloads:
            deliver = self.on_payload
            for payload in payloads:
                if deliver is not None:
                    deliver(payload)
                else:
                    self._events.append(events.DatagramFrameReceived(data=payload))
        return True

    def _count_received(self, space: QuicPacketSpace, number: int, first: int, now: float) -> None:
        """What aioquic's ``receive_datagram`` notes about a packet that came."""
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            spin = bool(first & 0x20)
            self._spin_bit = not spin if self._is_client else spin
            self._spin_highest_pn = number
        self._close_at = now + self._idle_s
        self._ack_eliciting_sent_since_receipt = False
        self._in_order = number == space.largest_received_packet + 1
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        space.ack_queue.add(number)
        space.received_packets.add(number)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()

    def _want_ack(self, space: QuicPacketSpace, number: int, now: float) -> None:
        """When to acknowledge: at once if out of order, else after some packets or just in time."""
        self._ack_wanted += 1
        if not self._in_order or self._ack_wanted >= ACK_EVERY:
            space.ack_at = now
        elif space.ack_at is None:
            space.ack_at = now + ACK_DELAY_S

    def _take_ack(
        self, space: QuicPacketSpace, ranges: list[tuple[int, int]], ack_delay: float, now: float
    ) -> None:
        """aioquic's ``on_ack_received`` for few ranges and mostly datagrams (RFC 9002 appendix A.7)."""
        loss = self._loss
        loss.peer_completed_address_validation = True
        if len(ranges) > SHORT_RANGES_MAX:
            self.stock_due = True
            rangeset = RangeSet([range(start, stop) for start, stop in ranges])
            loss.on_ack_received(ack_rangeset=rangeset, ack_delay=ack_delay, now=now, space=space)
            return
        largest = ranges[-1][1] - 1
        if largest > space.largest_acked_packet:
            space.largest_acked_packet = largest
        newest = self._remove_acked(space, ranges, now)
        if newest is None:
            return
        if newest[0].packet_number == largest and newest[1]:
            self._measure_rtt(now - (newest[0].sent_time or now), ack_delay, now)
        sent = space.sent_packets
        if sent and next(iter(sent)) <= space.largest_acked_packet:
            before = len(sent)
            loss._detect_loss(now=now, space=space)
            if len(sent) != before:
                self.stock_due = True
        else:
            space.loss_time = None
        loss._pto_count = 0

    def _remove_acked(
        self, space: QuicPacketSpace, ranges: list[tuple[int, int]], now: float
    ) -> tuple[QuicSentPacket, bool] | None:
        """Forget packets that arrived; answers the newest of them, and whether any was ack-eliciting."""
        sent = space.sent_packets
        on_acked = self._loss._cc.on_packet_acked
        newest: Any = None
        eliciting = False
        for start, stop in ranges:
            for number in [n for n in sent if start <= n < stop]:
                packet: Any = sent.pop(number)
                newest = packet
                if packet.__class__ is SentDatagram:
                    eliciting = True
                    space.ack_eliciting_in_flight -= 1
                    on_acked(packet=packet, now=now)
                else:
                    self.stock_due = True
                    if packet.is_ack_eliciting:
                        eliciting = True
                        space.ack_eliciting_in_flight -= 1
                    if packet.in_flight:
                        on_acked(packet=packet, now=now)
                for handler, args in packet.delivery_handlers:
                    handler(_ACKED, *args)
        return None if newest is None else (newest, eliciting)

    def _measure_rtt(self, latest: float, ack_delay: float, now: float) -> None:
        """The RTT estimate as aioquic keeps it (RFC 9002 section 5)."""
        loss = self._loss
        ack_delay = min(ack_delay, loss.max_ack_delay)
        loss._rtt_latest = max(latest, 0.001)
        if loss._rtt_latest < loss._rtt_min:
            loss._rtt_min = loss._rtt_latest
        if loss._rtt_latest > loss._rtt_min + ack_delay:
            loss._rtt_latest -= ack_delay
        if not loss._rtt_initialized:
            loss._rtt_first_sample_time = now
            loss._rtt_initialized = True
            loss._rtt_variance = latest / 2
            loss._rtt_smoothed = latest
        else:
            loss._rtt_variance = 3 / 4 * loss._rtt_variance + 1 / 4 * abs(loss._rtt_min - loss._rtt_latest)
            loss._rtt_smoothed = 7 / 8 * loss._rtt_smoothed + 1 / 8 * loss._rtt_latest
        loss._cc.on_rtt_measurement(now=now, rtt=latest)
        loss._pacer.update_rate(congestion_window=loss._cc.congestion_window, smoothed_rtt=loss._rtt_smoothed)


def _keys(context: Any, operation: str) -> Keys:
    """A direction's keys, ready to use; taken anew when ``context.aead`` is another (a key update)."""
    aead, hp = context.aead, context.hp
    mask_of = hp._mask if hp._is_chacha20 else hp._encryptor.update
    return aead, getattr(aead._aead, operation), aead._iv, mask_of


def _full_number(truncated: int, bits: int, expected: int) -> int:
    """The packet number that a truncated one stands for (RFC 9000 appendix A.3)."""
    window = 1 << bits
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - window // 2 and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate


Frames = tuple[list[tuple[list[tuple[int, int]], int]], list[bytes], bool]
"""ACKs (ranges ascending, encoded delay), datagrams, and whether anything asks for an ACK."""


def _parse(plain: bytes) -> Frames | None:
    """A packet's frames, if all are ACK, DATAGRAM, PING or PADDING and well-formed; else None."""
    acks: list[tuple[list[tuple[int, int]], int]] = []
    payloads: list[bytes] = []
    eliciting = False
    at, end = 0, len(plain)
    if not end:
        return None
    try:
        while at < end:
            kind = plain[at]
            at += 1
            if kind == 0x31:
                length, at = _varint(plain, at)
                if at + length > end:
                    return None
                payloads.append(plain[at : at + length])
                at += length
                eliciting = True
            elif kind == 0x02:
                ack, at = _parse_ack(plain, at)
                if ack is None:
                    return None
                acks.append(ack)
            elif kind == 0x00:
                at = end - len(plain[at:].lstrip(b"\x00"))
            elif kind == 0x30:
                payloads.append(plain[at:])
                at = end
                eliciting = True
            elif kind == 0x01:
                eliciting = True
            else:
                return None
    except IndexError:
        return None
    return acks, payloads, eliciting


def _parse_ack(plain: bytes, at: int) -> tuple[tuple[list[tuple[int, int]], int] | None, int]:
    """An ACK frame's body (RFC 9000 section 19.3). Raises ``IndexError`` if it is cut short."""
    largest, at = _varint(plain, at)
    delay, at = _varint(plain, at)
    count, at = _varint(plain, at)
    first, at = _varint(plain, at)
    start = largest - first
    if start < 0 or count > MAX_ACK_RANGES * 8:
        return None, at
    ranges = [(start, largest + 1)]
    for _ in range(count):
        gap, at = _varint(plain, at)
        length, at = _varint(plain, at)
        stop = start - gap - 1
        start = stop - 1 - length
        if start < 0:
            return None, at
        ranges.append((start, stop))
    ranges.reverse()
    return (ranges, delay), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < 0x40:
        return first, at + 1
    if first < 0x80:
        return (first & 0x3F) << 8 | data[at + 1], at + 2
    size = 1 << (first >> 6)
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size
