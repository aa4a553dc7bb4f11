"""The short way out for a reader's frame: all its packets admitted, sealed, sent and told of as one. Room: quic.

A burst waits beside aioquic's queue of datagrams, and stands in aioquic's table of packets in flight as one
entry under its first number, until whatever is not the usual case has it taken apart: then its
packets are there one by one, as if they had been sent that way. Sources: RFC 9000 sections 12.3, 13.2 and 17.3;
RFC 9001 sections 5.3 and 5.4; RFC 9002 section 7.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from aioquic.quic.connection import NetworkAddress
from aioquic.quic.recovery import QuicPacketSpace

from gateway.quic.connection.base import AEAD_TAG_BYTES, CONNECTED, QUEUE_BYTES_MAX, FateSink
from gateway.quic.connection.congestion import RealtimeCongestionControl
from gateway.quic.connection.faststate import FastState
from gateway.quic.connection.framing import Framing, Run, Shape
from gateway.quic.connection.recovery import SentDatagrams
from gateway.quic.connection.shortpacket import PACKET_NUMBER_BYTES

HEAD_BYTES = 1 + PACKET_NUMBER_BYTES + AEAD_TAG_BYTES
"""What a packet has besides its content and the connection ID."""


class _SentBurst(NamedTuple):
    packet_number: int
    sent_bytes: int
    sent_time: float
    sink: FateSink
    token: int
    owner: Any
    shape: Shape
    messages: int
    last: int


class SentBurst(_SentBurst):
    """The packets of a burst in flight, ``packet_number`` to ``last``; ``sent_bytes`` of all together. aioquic
    never sees one: it finds them taken apart."""

    __slots__ = ()

    in_flight = True

    def singles(self) -> Sequence[SentDatagrams]:
        """The same packets one by one."""
        number, token = self.packet_number, self.token
        head = (self.sent_bytes - sum(size for size, _ in self.shape)) // len(self.shape)
        packets = []
        for size, count in self.shape:
            fates = tuple([(self.sink, token + n, 1) for n in range(count)])
            packets.append(SentDatagrams(number, size + head, self.sent_time, fates, self.owner, -1))
            number, token = number + 1, token + count
        return packets


_sent_burst: Any = partial(tuple.__new__, SentBurst)


def split_oldest(sent: dict[int, Any], burst: SentBurst, last: int) -> SentBurst:
    """Put the oldest entry of ``sent`` in two: the packets up to ``last``, which are answered, and the others.
    Peers acknowledge every second packet (RFC 9000 section 13.2.2), in the middle of a burst."""
    count = last + 1 - burst.packet_number
    shape, rest = burst.shape[:count], burst.shape[count:]
    head_bytes = (burst.sent_bytes - sum([size for size, _ in burst.shape])) // len(burst.shape)
    size_bytes = sum([size + head_bytes for size, _ in shape])
    messages = sum([held for _, held in shape])
    front = burst._replace(sent_bytes=size_bytes, shape=shape, messages=messages, last=last)
    behind = burst._replace(
        packet_number=last + 1,
        sent_bytes=burst.sent_bytes - size_bytes,
        token=burst.token + messages,
        shape=rest,
        messages=burst.messages - messages,
    )
    later = dict(sent)
    del later[burst.packet_number]
    sent.clear()
    sent[burst.packet_number] = front
    sent[last + 1] = behind
    sent.update(later)
    return front


_run: Any = partial(tuple.__new__, Run)


class BurstSending(FastState):
    """Admitting and sealing bursts. At most one waits; it goes first, for it came to an empty queue."""

    __slots__ = ("_burst", "_bursts_out")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._burst: tuple[Framing, FateSink, int] | None = None
        self._bursts_out = False

    def offer_burst(self, framing: Framing, sink: FateSink, token: int) -> bool:
        """Queue a burst if the congestion window has room for all of it now and nothing waits before it.
        False: it was not; offer its messages one by one."""
        cc = self._loss._cc
        size = framing.content_bytes + framing.packets * (HEAD_BYTES + len(self._peer_cid.cid))
        if (
            self._burst is not None
            or self._queue
            or size > cc.congestion_window - cc.bytes_in_flight
            or size > QUEUE_BYTES_MAX
            or framing.largest > self.content_bytes_max
            or self._state is not CONNECTED
        ):
            return False
        self._burst = (framing, sink, token)
        self.datagram_bytes_queued = framing.payload_bytes
        return True

    def _send_burst(self, space: QuicPacketSpace, now: float) -> list[bytes] | Run | None:
        """The packets of the burst that waits. None: they can't go as one; it is in the queue now."""
        framing, sink, token = self._burst  # type: ignore[misc]
        loss, count = self._loss, framing.packets
        cc: Any = loss._cc
        head_bytes = HEAD_BYTES + len(self._peer_cid.cid)
        total = framing.content_bytes + count * head_bytes
        if (
            cc.__class__ is not RealtimeCongestionControl
            or total > cc.congestion_window - cc.bytes_in_flight
            or framing.largest + head_bytes > self._max_datagram_size
            or not self._pacer.admit_burst(count, now)
        ):
            self._spill()
            return None
        self._burst = None
        self.datagram_bytes_queued = 0

        number = self._packet_number
        data = self._sealed(framing.contents)
        entry = (number, total, now, sink, token, self, framing.shape, framing.count, number + count - 1)
        space.sent_packets[number] = _sent_burst(entry)
        self._bursts_out = True
        cc.on_burst_sent(total, now)
        space.ack_eliciting_in_flight += count
        loss._time_of_last_sent_ack_eliciting_packet = now
        if not self._ack_eliciting_sent_since_receipt:
            self._close_at = now + self._idle_s
            self._ack_eliciting_sent_since_receipt = True
        self._network_paths[0].bytes_sent += total
        self.packets_fast += count
        if framing.is_run:
            run: Run = _run((data, framing.shape[0][0] + head_bytes, count))
            return run
        packets, at = [], 0
        for size, _ in framing.shape:
            packets.append(data[at : at + size + head_bytes])
            at += size + head_bytes
        return packets

    def _spill(self) -> None:
        """The burst that waits goes into the queue, where it stands before all else."""
        if self._burst is None:
            return
        (framing, sink, token), self._burst = self._burst, None
        waiting = [(payload, sink, token + n) for n, payload in enumerate(framing.payloads())]
        self._queue.extendleft(reversed(waiting))

    def _take_bursts_apart(self) -> None:
        """Let every packet in flight stand for itself, in order."""
        if not self._bursts_out:
            return
        self._bursts_out = False
        sent: Any = self._space.sent_packets if self._space is not None else {}
        packets = list(sent.values())
        sent.clear()
        for packet in packets:
            for one in packet.singles() if packet.__class__ is SentBurst else (packet,):
                sent[one.packet_number] = one

    # -- whatever is not the usual case ---------------------------------------------------

    def offer_datagram(self, payload: bytes, sink: FateSink, token: int) -> bool:
        self._spill()
        return super().offer_datagram(payload, sink, token)

    def queue_datagram(self, payload: bytes, sink: FateSink, token: int) -> bool:
        self._spill()
        return super().queue_datagram(payload, sink, token)

    def forget_datagrams(self) -> None:
        self._spill()
        self._take_bursts_apart()
        super().forget_datagrams()

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        self._take_bursts_apart()
        super().receive_datagram(data, addr, now)

    def handle_timer(self, now: float) -> None:
        self._take_bursts_apart()
        super().handle_timer(now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        self._spill()
        self._take_bursts_apart()
        return super().datagrams_to_send(now)
