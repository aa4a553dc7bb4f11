"""The short way for what an ACK says: packets and bursts that arrived, losses, round trips. Room: quic.

What aioquic's ``on_ack_received`` does (RFC 9002 appendix A.7), on its own tables.
"""

from __future__ import annotations

from typing import Any

from aioquic.quic.recovery import QuicPacketSpace

from gateway.quic.connection.burst import SentBurst, split_oldest
from gateway.quic.connection.congestion import RealtimeCongestionControl
from gateway.quic.connection.fastsend import FastSending
from gateway.quic.connection.guarded import never_sent
from gateway.quic.connection.recovery import SentDatagrams, measure_rtt, remove_acked
from gateway.quic.connection.shortpacket import Ranges


class AckTaking(FastSending):
    """Taking ACKs."""

    __slots__ = ()

    def _take_oldest_acks(
        self, space: QuicPacketSpace, start: int, stop: int, ack_delay: float, now: float
    ) -> bool:
        """:meth:`_take_ack` where what is acknowledged are the oldest packets in flight, in order,
        and all of datagrams alone: what nearly every ACK of a reader says. False: nothing was done."""
        sent: Any = space.sent_packets
        largest = stop - 1
        if largest < space.largest_acked_packet or not sent:
            return False
        packet: Any = next(iter(sent.values()))
        if packet.__class__ is SentBurst and packet.last >= largest:
            number = packet.packet_number
            if not start <= number <= largest:
                return False
            if packet.last > largest:
                packet = split_oldest(sent, packet, largest)
            self._take_oldest_burst(space, packet, ack_delay, now)
            return True
        packets = _oldest(sent, start, largest)
        if not packets:
            return False
        newest = packets[-1]
        loss = self._loss
        cc: Any = loss._cc
        by_burst = cc.__class__ is RealtimeCongestionControl
        if by_burst:
            cc.on_burst_acked(packets, now)
        acked, gone = self.acked, len(packets)
        for packet in packets:
            del sent[packet.packet_number]
            if not by_burst:
                cc.on_packet_acked(packet=packet, now=now)
            if packet.__class__ is SentBurst:
                acked.append((packet.sink, packet.token, packet.messages))
                gone += packet.last - packet.packet_number
            else:
                acked += packet.fates
        space.largest_acked_packet = largest
        space.ack_eliciting_in_flight -= gone
        measure_rtt(loss, now - newest.sent_time, ack_delay, now)
        space.loss_time = None
        loss._pto_count = 0
        return True

    def _take_oldest_burst(
        self, space: QuicPacketSpace, burst: SentBurst, ack_delay: float, now: float
    ) -> None:
        """A burst arrived as a whole: a reader's usual answer, so everything is in line."""
        number, size, sent_time, sink, token, _, _, messages, last = burst
        loss = self._loss
        cc: Any = loss._cc
        limited_at = cc._limited_at
        if limited_at > 0 and sent_time <= limited_at + cc._rtt:
            cc.on_burst_acked((burst,), now)
        else:
            cc.bytes_in_flight -= size
            cc._acked += size
        del space.sent_packets[number]
        self.acked.append((sink, token, messages))
        space.largest_acked_packet = last
        space.ack_eliciting_in_flight -= last + 1 - number
        measure_rtt(loss, now - sent_time, ack_delay, now)
        space.loss_time = None
        loss._pto_count = 0

    def _take_ack(self, space: QuicPacketSpace, ranges: Ranges, ack_delay: float, now: float) -> None:
        """aioquic's ``on_ack_received`` (RFC 9002 appendix A.7)."""
        largest = ranges[-1][1] - 1
        if largest >= self._packet_number:
            self.close_for(never_sent(largest))
            return
        self._take_bursts_apart()
        loss = self._loss
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


def _oldest(sent: dict[int, Any], start: int, largest: int) -> list[Any]:
    """The packets and bursts up to ``largest`` if all are acknowledged, from ``start`` on, the newest is
    ``largest``, and all are of datagrams alone; else none."""
    packets = []
    last = -1
    for number, packet in sent.items():
        if number > largest:
            break
        if number < start:
            return []
        if packet.__class__ is SentBurst:
            last = packet.last
        elif packet.__class__ is SentDatagrams and packet.ack_of < 0:
            last = number
        else:
            return []
        packets.append(packet)
    return packets if last == largest else []
