"""Pacing and acknowledgements as the short way needs them, on aioquic's own recovery. Room: quic.

What aioquic's ``QuicPacketRecovery`` holds stays the truth; this does to it what ``on_ack_received``
does, for few ranges and mostly datagrams. Source: RFC 9002 sections 5, 7.7 and appendix A.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aioquic import tls
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.recovery import (
    K_MICRO_SECOND,
    K_SECOND,
    QuicPacketPacer,
    QuicPacketRecovery,
    QuicPacketSpace,
)

from gateway.limits import QUIC_LOOKED_UP_MAX
from gateway.quic.connection.shortpacket import Ranges

if TYPE_CHECKING:
    from gateway.quic.connection.base import FateSink

BURST_PACKETS = 10
"""The pacer lets as much out at once as an initial window holds (RFC 9002 section 7.7)."""
PACING_TURN_S = 0.002
"""A fast flow's burst: what its rate is in two turns of a timer that is fine to 1 ms, or the timer would be the limit."""
_ACKED = QuicDeliveryState.ACKED


class Pacer(QuicPacketPacer):
    """aioquic's pacer with the burst that RFC 9002 section 7.7 allows (timers are no finer than
    1 ms). Its rate is worked out only when it matters: after a round trip without sending the
    bucket is full whatever the rate, so the next packets of a burst just go."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self.burst_left = 0
        """So many more packets may go without asking :meth:`admit`; take one off for each."""
        self._rate_due = False
        self._window = BURST_PACKETS * max_datagram_size
        self._rtt = 0.0
        self._burst = 0

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        self._rtt = smoothed_rtt
        self._window = congestion_window
        self._rate_due = True

    def _settle(self) -> None:
        """Work out the rate, and what the burst since the last time took from the bucket."""
        if self._rate_due:
            self._rate_due = False
            congestion_window, smoothed_rtt = self._window, self._rtt
            pacing_rate = congestion_window / max(smoothed_rtt, K_MICRO_SECOND)
            size = self._max_datagram_size
            self.packet_time = max(K_MICRO_SECOND, min(size / pacing_rate, K_SECOND))
            turn = int(pacing_rate * PACING_TURN_S)
            burst = max(BURST_PACKETS * size, min(congestion_window // 4, max(16 * size, turn)))
            self.bucket_max = min(burst, congestion_window) / pacing_rate
        if self._burst and self.packet_time is not None:
            used = self._burst - self.burst_left
            self.bucket_time = max(0.0, self.bucket_max - used * self.packet_time)
        self.burst_left = self._burst = 0
        if self.bucket_time > self.bucket_max:
            self.bucket_time = self.bucket_max

    def next_send_time(self, now: float) -> float:
        self._settle()
        return super().next_send_time(now)

    def update_after_send(self, now: float) -> None:
        self._settle()
        super().update_after_send(now)

    def forget_old(self, now: float) -> None:
        """What is left of a burst a round trip ago is none: the next begins with a full bucket, and the
        rest of the old one must not come on top."""
        if now - self.evaluation_time >= self._rtt:
            self.burst_left = 0

    def admit_burst(self, packets: int, now: float) -> bool:
        """Whether so many packets may go now, all of them; then they are counted."""
        if now - self.evaluation_time >= self._rtt:
            allowed = min(BURST_PACKETS, self._window // self._max_datagram_size or 1)
            if packets > allowed:
                return False
            self.evaluation_time = now
            self._burst = allowed
            self.burst_left = allowed - packets
            return True
        if packets <= self.burst_left:
            self.burst_left -= packets
            return True
        self._settle()
        if self.packet_time is None:
            return True
        self.update_bucket(now)
        if self.bucket_time < packets * self.packet_time:
            return False
        self.bucket_time -= packets * self.packet_time
        return True

    def admit(self, now: float) -> float | None:
        """None: one packet may go now, and is counted. Else: when to ask again."""
        if self.burst_left and now - self.evaluation_time < self._rtt:
            self.burst_left -= 1
            return None
        if now - self.evaluation_time >= self._rtt:
            self.evaluation_time = now
            packets = self._window // self._max_datagram_size
            self._burst = BURST_PACKETS if packets > BURST_PACKETS else packets or 1
            self.burst_left = self._burst - 1
            return None
        self._settle()
        if self.packet_time is None:
            return None
        at: float | None = super().next_send_time(now)
        if at is None:
            super().update_after_send(now)
        return at


class _Sent(NamedTuple):
    packet_number: int
    sent_bytes: int
    sent_time: float
    fates: tuple[tuple[FateSink, int, int], ...]
    owner: Any
    ack_of: int


class SentDatagrams(_Sent):
    """A packet of datagrams in flight: what aioquic's recovery asks of ``QuicSentPacket``, and no more.

    A tuple, because one is made for every packet: :func:`sent_datagrams` makes it in a third of the
    time of a class with ``__init__``."""

    __slots__ = ()

    epoch = tls.Epoch.ONE_RTT
    in_flight = True
    is_ack_eliciting = True
    is_crypto_packet = False
    packet_type = QuicPacketType.ONE_RTT
    quic_logger_frames: tuple[()] = ()

    def singles(self) -> Sequence[SentDatagrams]:
        """The packets that this entry stands for."""
        return (self,)

    @property
    def delivery_handlers(self) -> list[tuple[Any, tuple[Any, ...]]]:
        """In aioquic's form, for when it decides about the packet."""
        owner = self.owner
        handlers: list[tuple[Any, tuple[Any, ...]]] = [
            (owner._on_datagram_delivery, fate) for fate in self.fates
        ]
        if self.ack_of >= 0:
            handlers.append((owner._on_ack_delivery, (owner._space, self.ack_of)))
        return handlers


sent_datagrams: Any = partial(tuple.__new__, SentDatagrams)
"""``SentDatagrams`` of a tuple of its fields, in their order."""


def remove_acked(
    loss: QuicPacketRecovery,
    space: QuicPacketSpace,
    ranges: Ranges,
    now: float,
    acked: list[tuple[FateSink, int, int]],
) -> tuple[Any, bool, bool]:
    """Forget packets that arrived. Answers the newest of them (or None), whether any was
    ack-eliciting, and whether any was built by aioquic. Datagrams among them go to ``acked``."""
    sent = space.sent_packets
    on_acked: Any = loss._cc.on_packet_acked
    newest: Any = None
    eliciting = stock = False
    for number in _among(sent, ranges):
        packet: Any = sent.pop(number)
        newest = packet
        if packet.__class__ is SentDatagrams:
            eliciting = True
            space.ack_eliciting_in_flight -= 1
            on_acked(packet=packet, now=now)
            acked += packet.fates
            if packet.ack_of >= 0:
                packet.owner._on_ack_delivery(_ACKED, space, packet.ack_of)
            continue
        stock = True
        if packet.is_ack_eliciting:
            eliciting = True
            space.ack_eliciting_in_flight -= 1
        if packet.in_flight:
            on_acked(packet=packet, now=now)
        for handler, args in packet.delivery_handlers:
            handler(_ACKED, *args)
    return newest, eliciting, stock


def _among(sent: dict[int, Any], ranges: Ranges) -> list[int]:
    """The numbers of packets in flight within ranges (ascending): short ones are looked up one by one, so that an ACK of
    few packets costs little however many are in flight."""
    if not sent:
        return []
    oldest, end = next(iter(sent)), next(reversed(sent)) + 1
    found: list[int] = []
    numbers: tuple[int, ...] = ()
    for start, stop in ranges:
        if start < oldest:
            start = oldest
        if stop > end:
            stop = end
        if stop - start <= QUIC_LOOKED_UP_MAX:
            found += [number for number in range(start, stop) if number in sent]
        else:
            numbers = numbers or tuple(sent)
            low = bisect_left(numbers, start)
            found += numbers[low : bisect_left(numbers, stop, low)]
    return found


def measure_rtt(loss: QuicPacketRecovery, latest: float, ack_delay: float, now: float) -> None:
    """Take one RTT sample (seconds), as aioquic does (RFC 9002 section 5)."""
    if ack_delay > loss.max_ack_delay:
        ack_delay = loss.max_ack_delay
    adjusted = latest if latest > 0.001 else 0.001
    rtt_min = loss._rtt_min
    if adjusted < rtt_min:
        rtt_min = loss._rtt_min = adjusted
    if adjusted > rtt_min + ack_delay:
        adjusted -= ack_delay
    loss._rtt_latest = adjusted
    if loss._rtt_initialized:
        loss._rtt_variance = 0.75 * loss._rtt_variance + 0.25 * abs(rtt_min - adjusted)
        smoothed = loss._rtt_smoothed = 0.875 * loss._rtt_smoothed + 0.125 * adjusted
    else:
        loss._rtt_first_sample_time = now
        loss._rtt_initialized = True
        loss._rtt_variance = latest / 2
        smoothed = loss._rtt_smoothed = latest
    cc: Any = loss._cc
    cc.on_rtt_measurement(now=now, rtt=latest)
    pacer: Any = loss._pacer
    pacer._rtt, pacer._window, pacer._rate_due = smoothed, cc.congestion_window, True
