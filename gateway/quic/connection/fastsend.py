"""The short way out: packets of datagrams, stream data and ACKs, built and sealed here. Room: quic.

Every packet is registered with aioquic's own loss recovery, congestion control and pacing, as
``on_packet_sent`` and ``_flush_builder`` do. Sources: RFC 9000 sections 12, 13 and 17.3; RFC 9001
sections 5.3 and 5.4; RFC 9221.
"""

from __future__ import annotations

from typing import Any

from aioquic.quic.recovery import QuicPacketSpace

from gateway.quic.connection.base import AEAD_TAG_BYTES, FateSink
from gateway.quic.connection.burst import BurstSending
from gateway.quic.connection.congestion import RealtimeCongestionControl
from gateway.quic.connection.faststreams import FRAME_BYTES_MIN, sent_packet, write_frames
from gateway.quic.connection.framing import Run
from gateway.quic.connection.recovery import SentDatagrams, sent_datagrams
from gateway.quic.connection.shortpacket import PACKET_NUMBER_BYTES, datagram_head, encode_ack

ACKS_BETWEEN_PINGS = 32
"""An ACK-only packet is never acknowledged itself: a PING now and then lets old ranges go (section 13.2.4)."""
SHORT_RANGES_MAX = 8
"""ACKs of more ranges than this are left to aioquic to send."""
DATAGRAM_HEAD_MAX = 3
"""Frame type and length of a datagram that a packet of ours can hold."""

Fates = tuple[tuple[FateSink, int, int], ...]
Plain = tuple[bytes, Any, int]
"""A packet's content; its datagrams' fates (a tuple) or its streams' handlers (a list); and the largest
packet number acknowledged in it (-1: none, or among the handlers; -2: nothing in it is in flight)."""


class FastSending(BurstSending):
    """Building and sealing."""

    def fast_packets(self, now: float) -> list[bytes] | Run | None:
        """The packets for what is queued and admitted now, to go to ``_network_paths[0].addr``;
        ``None``: let aioquic send. Look at ``calm`` and :meth:`fast_deadline` after it."""
        space = self._space
        if space is None:
            return None
        if self._packet_number >= self._renew_at:
            self.renew_keys()
        if self._stock_doubt:
            self._stock_doubt = False
            self._stock_due = self._stock_has_work() or self._stock_due
        if self._stock_due:
            return None
        self._flush_due = False
        self._pacing_at = None
        if space.ack_at is None and not self._stream_due:
            if self._burst is not None:
                burst = self._send_burst(space, now)
                if burst is not None:
                    self.calm = space.loss_time is None and not self._loss._pto_count
                    return burst
            if not self._queue:
                self.calm = False
                return []
            packets = self._send_datagrams(space, now)
            self.calm = space.loss_time is None and self._pacing_at is None and not self._loss._pto_count
            return packets
        self.calm = False
        self._spill()
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

    def _send_datagrams(self, space: QuicPacketSpace, now: float) -> list[bytes]:
        """:meth:`_admitted` and :meth:`_seal` in one, for datagrams with nothing beside them: what a
        reader that is behind gets, so everything is in line and in locals."""
        queue, loss, pacer = self._queue, self._loss, self._pacer
        overhead = 1 + len(self._peer_cid.cid) + PACKET_NUMBER_BYTES + AEAD_TAG_BYTES
        cc: Any = loss._cc
        by_burst = cc.__class__ is RealtimeCongestionControl
        bytes_max = self._max_datagram_size
        room = cc.congestion_window - cc.bytes_in_flight
        sent = space.sent_packets
        packets: list[bytes] = []
        total = 0
        if pacer.burst_left:
            pacer.forget_old(now)
        while queue:
            payload, sink, token = queue[0]
            taken = len(payload)
            plain = datagram_head(taken) + payload
            size = len(plain) + overhead
            if size > bytes_max:
                self._drop_oldest()
                continue
            if size > room:
                break
            if pacer.burst_left:
                pacer.burst_left -= 1
            else:
                self._pacing_at = pacer.admit(now)
                if self._pacing_at is not None:
                    break
            queue.popleft()
            self.datagram_bytes_queued -= taken
            fates: Fates = ((sink, token, 1),)
            if queue and size + len(queue[0][0]) + DATAGRAM_HEAD_MAX <= min(bytes_max, room):
                plain, fates = self._fill(plain, fates, min(bytes_max, room) - overhead)
                size = len(plain) + overhead
            number = self._packet_number
            packet = self._sealed((plain,))
            packets.append(packet)
            entry = sent_datagrams((number, size, now, fates, self, -1))
            sent[number] = entry
            if not by_burst:
                cc.on_packet_sent(packet=entry)
            total += size
            room -= size
        if packets:
            if by_burst:
                cc.on_burst_sent(total, now)
            space.ack_eliciting_in_flight += len(packets)
            loss._time_of_last_sent_ack_eliciting_packet = now
            if not self._ack_eliciting_sent_since_receipt:
                self._close_at = now + self._idle_s
                self._ack_eliciting_sent_since_receipt = True
            self._network_paths[0].bytes_sent += total
            self.packets_fast += len(packets)
        return packets

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
            fates: Fates = ((sink, token, 1),)
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
        while queue and len(plain) + len(queue[0][0]) + DATAGRAM_HEAD_MAX <= limit:
            payload, sink, token = queue.popleft()
            self.datagram_bytes_queued -= len(payload)
            plain += datagram_head(len(payload)) + payload
            fates = (*fates, (sink, token, 1))
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
        """Encrypt and protect packets, and note them."""
        packets = []
        sent, on_sent = space.sent_packets, self._loss._cc.on_packet_sent
        total = eliciting = 0
        for plain, fates, ack_of in plains:
            number = self._packet_number
            packet = self._sealed((plain,))
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
        if eliciting:
            space.ack_eliciting_in_flight += eliciting
            self._loss._time_of_last_sent_ack_eliciting_packet = now
            if not self._ack_eliciting_sent_since_receipt:
                self._close_at = now + self._idle_s
                self._ack_eliciting_sent_since_receipt = True
        self._network_paths[0].bytes_sent += total
        self.packets_fast += len(packets)
        return packets
