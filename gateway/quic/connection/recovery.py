"""Packets in flight: which were sent, arrived, or are lost, and the round trips that says. Room: quic. Pure: no clock.

A burst stands here as one entry under its first number (:mod:`gateway.quic.connection.flight`), until whatever is not the
usual case has it taken apart. Source: RFC 9002 sections 5, 6, 7.6 and appendix A.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, cast

from gateway.quic.connection.congestion import Congestion
from gateway.quic.connection.faults import never_sent
from gateway.quic.connection.flight import (
    AckRanges,
    FateSink,
    InFlight,
    SentBurst,
    SentPacket,
    among,
    oldest_alone,
)
from gateway.quic.connection.pacing import Pacer
from gateway.quic.connection.pathmtu import PathMtu

# TCP's reordering tolerance; a smaller one is advised against (RFC 9002 section 6.1.1).
PACKET_THRESHOLD: Final = 3
# Catches the tail of a burst, after which no three more packets come (RFC 9002 section 6.1.2).
TIME_THRESHOLD: Final = 9 / 8
GRANULARITY_S: Final = 0.001
INITIAL_RTT_S: Final = 0.1
"""Until one was measured. RFC 9002 section 6.2.2 recommends 333 ms; who plays is nearer, and a handshake came before."""
# kPersistentCongestionThreshold (RFC 9002 section 7.6.1): as a TCP sender that gives up after two tail loss probes.
PERSISTENT_PTOS: Final = 3
NONE_LARGER: Final = 1 << 16
"""Bytes: no packet is above it, so that none says anything of the path."""
# As aioquic has it: over loopback a sample is less than any timer is fine to.
RTT_S_MIN: Final = 0.001
ACK_DELAY_EXPONENT: Final = 3
"""The peer's where it says no other (RFC 9000 section 18.2)."""


class Recovery:
    """What is in flight. ``acked`` and ``fates`` gather what became of datagrams: (sink, token, count) that arrived, and
    (sink, token, whether it arrived) one by one. ``probes``: PTOs in a row without an answer."""

    __slots__ = (
        "_first_rtt_at",
        "_has_bursts",
        "ack_exponent",
        "acked",
        "control",
        "fates",
        "given_up",
        "has_rtt",
        "largest_acked",
        "last_sent_at",
        "loss_at",
        "max_ack_delay_s",
        "mtu",
        "pacer",
        "packets",
        "probes",
        "rtt_latest",
        "rtt_min",
        "rtt_smoothed",
        "rtt_variance",
        "sent",
    )

    def __init__(self, control: Congestion, pacer: Pacer, mtu: PathMtu | None = None) -> None:
        self.control = control
        self.pacer = pacer
        self.mtu = mtu or PathMtu(NONE_LARGER)
        self.sent: dict[int, InFlight] = {}
        self.packets = 0
        """How many are in flight; a burst in ``sent`` is several."""
        self.largest_acked = 0
        self.loss_at: float | None = None
        self.last_sent_at = 0.0
        self.probes = 0
        self.max_ack_delay_s = 0.025
        self.ack_exponent = ACK_DELAY_EXPONENT
        """What the peer's ACK delays are shifted by, to be microseconds."""
        self.has_rtt = False
        self.rtt_latest = 0.0
        self.rtt_min = math.inf
        self.rtt_smoothed = 0.0
        self.rtt_variance = 0.0
        self._first_rtt_at = 0.0
        self._has_bursts = False
        self.acked: list[tuple[FateSink, int, int]] = []
        self.fates: list[tuple[FateSink, int, bool]] = []
        self.given_up = 0
        """Datagrams so far that counted as lost at a PTO: the peer may only be slow to answer."""

    # -- sent -----------------------------------------------------------------------------

    def add(self, packet: SentPacket) -> None:
        """A packet that asks for an ACK went out. RFC 9002 appendix A.5."""
        self.sent[packet.number] = packet
        self.packets += 1
        self.last_sent_at = packet.sent_at
        self.control.on_sent(packet.size, packet.sent_at)

    def add_burst(self, burst: SentBurst) -> None:
        """The packets of a burst went out."""
        self.sent[burst.number] = burst
        self._has_bursts = True
        self.packets += burst.last + 1 - burst.number
        self.last_sent_at = burst.sent_at
        self.control.on_sent(burst.size, burst.sent_at)

    def take_apart(self) -> dict[int, SentPacket]:
        """Let every packet in flight stand for itself, in order. Answers ``sent``, which holds no burst then."""
        if not self._has_bursts:
            return cast("dict[int, SentPacket]", self.sent)
        self._has_bursts = False
        packets = list(self.sent.values())
        self.sent.clear()
        for packet in packets:
            for one in packet.singles():
                self.sent[one.number] = one
        return cast("dict[int, SentPacket]", self.sent)

    @property
    def holds_bursts(self) -> bool:
        """Whether any entry may stand for several packets."""
        return self._has_bursts

    # -- acknowledged ---------------------------------------------------------------------

    def take_oldest(self, start: int, stop: int, delay_s: float, now: float) -> bool:
        """:meth:`on_ack` where what is acknowledged are the oldest packets in flight, in order, all of datagrams alone: what
        nearly every ACK of a reader says. False: nothing was done."""
        sent = self.sent
        largest = stop - 1
        # Reordered ACKs, and ones that repeat, take the long way.
        if largest < self.largest_acked or not sent:
            return False
        # Numbers were given in order and dicts keep it, so the oldest packet in flight is the first entry: no search.
        packet = next(iter(sent.values()))
        if packet.__class__ is SentBurst and packet.last >= largest:
            number = packet.number
            if not start <= number <= largest:
                return False
            if packet.last > largest:
                packet = self._split_oldest(packet, largest)
            _, size, sent_at, sink, token, _, messages, last = packet
            del sent[number]
            self.packets -= last + 1 - number
            self.acked.append((sink, token, messages))
            self.control.on_acked(size, sent_at, now)
            self.largest_acked = last
            self._measure(now - sent_at, delay_s, now)
            self.loss_at = None
            self.probes = 0
            return True
        packets = oldest_alone(sent, start, largest)
        if not packets:
            return False
        control, acked = self.control, self.acked
        for packet in packets:
            del sent[packet.number]
            control.on_acked(packet.size, packet.sent_at, now)
            if packet.__class__ is SentBurst:
                acked.append((packet.sink, packet.token, packet.messages))
                self.packets -= packet.last + 1 - packet.number
            else:
                acked += packet.fates
                self.packets -= 1
        self.largest_acked = largest
        self._measure(now - packets[-1].sent_at, delay_s, now)
        self.loss_at = None
        self.probes = 0
        return True

    def _split_oldest(self, burst: SentBurst, last: int) -> SentBurst:
        """Put the oldest entry in two: the packets up to ``last``, which are answered, and the others. Peers acknowledge
        every second packet (RFC 9000 section 13.2.2), in the middle of a burst."""
        sent = self.sent
        front, behind = burst.split(last)
        # A dict has no way to put one entry before the others, so it is filled anew; what is in flight are a few bursts.
        later = dict(sent)
        del later[burst.number]
        sent.clear()
        sent[burst.number] = front
        sent[last + 1] = behind
        sent.update(later)
        return front

    def on_ack(self, ranges: AckRanges, delay_s: float, now: float, next_number: int) -> bool:
        """An ACK (appendix A.7). ``next_number``: of the next packet that is sent. Answers whether frames with handlers, or
        losses, were among what it says. Raises :class:`PeerFault` for a packet that was never sent."""
        largest = ranges[-1][1] - 1
        if largest >= next_number:
            raise never_sent(largest)
        sent = self.take_apart()
        if largest > self.largest_acked:
            self.largest_acked = largest
        control, base = self.control, self.mtu.base
        told = False
        newest: SentPacket | None = None
        large = -1
        for number in among(sent, ranges):
            newest = sent.pop(number)
            self.packets -= 1
            control.on_acked(newest.size, newest.sent_at, now)
            if newest.size > base:
                large = number
            self.acked += newest.fates
            for handler, args in newest.handlers:
                told = True
                handler(True, *args)
        if newest is None:
            return False
        if large >= 0:
            self.mtu.on_carried(large)
        elif self.mtu.unanswered:
            self.mtu.on_answered(now)
        if newest.number == largest:
            self._measure(now - newest.sent_at, delay_s, now)
        # Only where something older than what is acknowledged is still out can anything be lost.
        if sent and next(iter(sent)) <= self.largest_acked:
            told = self.detect(now) or told
        else:
            self.loss_at = None
        self.probes = 0
        return told

    def _measure(self, latest: float, delay_s: float, now: float) -> None:
        """Take one RTT sample (RFC 9002 section 5)."""
        adjusted = latest if latest > RTT_S_MIN else RTT_S_MIN
        rtt_min = self.rtt_min
        if adjusted < rtt_min:
            rtt_min = self.rtt_min = adjusted
        # What is left without all that the packet and its ACK waited for a process's turn is the path's, and a queue on it; a peer
        # that exaggerates makes the path look no shorter than it ever was.
        path = adjusted - delay_s
        if path < rtt_min:
            path = rtt_min
        # The handshake is confirmed: the peer keeps to what it announced, or its claim is cut (RFC 9002 section
        # 5.3).
        if delay_s > self.max_ack_delay_s:
            delay_s = self.max_ack_delay_s
        # Only so far as it stays above the smallest: a peer that exaggerates its delay must not make the path look
        # shorter than it ever was (RFC 9002 section 5.3).
        if adjusted > rtt_min + delay_s:
            adjusted -= delay_s
        self.rtt_latest = adjusted
        if self.has_rtt:
            # As aioquic has it, against the smallest; RFC 9002 section 5.3 takes the smoothed one. Where a queue stands this
            # is larger, so a probe is sent later, not earlier, than by the RFC.
            self.rtt_variance = 0.75 * self.rtt_variance + 0.25 * abs(rtt_min - adjusted)
            smoothed = self.rtt_smoothed = 0.875 * self.rtt_smoothed + 0.125 * adjusted
        else:
            self._first_rtt_at = now
            self.has_rtt = True
            self.rtt_variance = latest / 2
            smoothed = self.rtt_smoothed = latest
        control, pacer = self.control, self.pacer
        control.on_rtt(adjusted, latest, path, now)
        pacer.rtt_s, pacer.window, pacer.rate_due = smoothed, control.window, True

    # -- lost -----------------------------------------------------------------------------

    def probe_timeout(self) -> float:
        """The PTO in seconds, without backing off, with the peer's own delay (section 6.2.1)."""
        if not self.has_rtt:
            # kInitialRtt is not a sample; without one the PTO is twice it (RFC 9002 section 6.2.2).
            return 2 * INITIAL_RTT_S
        return self.rtt_smoothed + max(4 * self.rtt_variance, GRANULARITY_S) + self.max_ack_delay_s

    def deadline(self) -> float | None:
        """When to call :meth:`on_deadline`; None: nothing is in flight. RFC 9002 appendix A.8."""
        if self.loss_at is not None:
            return self.loss_at
        if not self.packets:
            return None
        # Twice as long each time without an answer (RFC 9002 section 6.2.1); the idle timeout ends it before the shift is large.
        return self.last_sent_at + self.probe_timeout() * (1 << self.probes)

    def on_deadline(self, now: float) -> bool:
        """It has come. Answers whether a probe is to be sent; what the oldest packet held is to be sent again then (section
        6.2.4): it counts as lost, but not as congestion."""
        if self.loss_at is not None:
            self.detect(now)
            return False
        self.probes += 1
        sent = self.take_apart()
        if sent:
            oldest = sent.pop(next(iter(sent)))
            self.control.in_flight -= oldest.size
            self.given_up += sum([count for _, _, count in oldest.fates])
            if self._is_large(oldest):
                self.mtu.unanswered += 1
            self._forget(oldest)
        return True

    def detect(self, now: float) -> bool:
        """Find what is lost (section 6.1). Answers whether anything is."""
        sent = self.take_apart()
        delay = TIME_THRESHOLD * max(self.rtt_latest, self.rtt_smoothed) if self.has_rtt else INITIAL_RTT_S
        number_of, time_of = self.largest_acked - PACKET_THRESHOLD, now - delay
        lost = []
        self.loss_at = None
        for number, packet in sent.items():
            if number > self.largest_acked:
                break
            if number <= number_of or packet.sent_at <= time_of:
                lost.append(packet)
            elif self.loss_at is None or self.loss_at > packet.sent_at + delay:
                self.loss_at = packet.sent_at + delay
        if not lost:
            return False
        lost = self._without_probe(lost)
        if not lost:
            return True
        persistent = self._is_persistent(lost)
        for packet in lost:
            del sent[packet.number]
            if self._is_large(packet):
                self.mtu.on_lost(packet.number, packet.sent_at)
            self._forget(packet)
        control = self.control
        # One call for all: packets of one flight that are lost together are one sign of congestion, and the window shrinks
        # once for them (RFC 9002 section 7.3.2).
        control.on_lost(sum([packet.size for packet in lost]), lost[-1].sent_at, now, persistent=persistent)
        self.pacer.rtt_s, self.pacer.window, self.pacer.rate_due = self.rtt_smoothed, control.window, True
        return True

    def _without_probe(self, lost: list[SentPacket]) -> list[SentPacket]:
        """What of this was no probe for a larger packet, whose loss is no congestion (RFC 9000 section 14.4) and is seen to here."""
        number = self.mtu.probe_number
        probe = self.sent.get(number) if number >= 0 else None
        if probe is None or probe not in lost:
            return lost
        del self.sent[number]
        self.control.in_flight -= probe.size
        self._forget(probe)
        return [packet for packet in lost if packet is not probe]

    def _is_large(self, packet: SentPacket) -> bool:
        """Whether it was more than every path carries, and no probe."""
        return packet.size > self.mtu.base and packet.number != self.mtu.probe_number

    def _forget(self, packet: SentPacket) -> None:
        """One that is no longer in flight did not arrive, for all we know."""
        self.packets -= 1
        for sink, token, count in packet.fates:
            self.fates += [(sink, one, False) for one in range(token, token + count)]
        for handler, args in packet.handlers:
            handler(False, *args)

    def _is_persistent(self, lost: Sequence[SentPacket]) -> bool:
        """Whether these say that nothing gets through any more (section 7.6): a run without a gap, longer than the time."""
        if not self.has_rtt:
            return False
        duration = self.probe_timeout() * PERSISTENT_PTOS
        before: int | None = None
        began: float | None = None
        for packet in lost:
            if before is not None and packet.number != before + 1:
                began = None
            before = packet.number
            # Before the first sample the PTO was a guess, and what it measured is none (RFC 9002 section 7.6.2).
            if packet.sent_at > self._first_rtt_at:
                if began is None:
                    began = packet.sent_at
                elif packet.sent_at - began > duration:
                    return True
        return False

    # -- the end, and the beginning -------------------------------------------------------

    def give_up_datagrams(self) -> None:
        """At the end: every datagram in flight counts as lost, and nothing is in flight any more. Idempotent."""
        sent = self.take_apart()
        for packet in sent.values():
            self.control.in_flight -= packet.size
            for sink, token, count in packet.fates:
                self.fates += [(sink, one, False) for one in range(token, token + count)]
        sent.clear()
        self.packets = 0
        self.loss_at = None

    def adopt_rtt(self, latest: float, least: float, smoothed: float, variance: float) -> None:
        """Go on from what another measured, in seconds; ``least`` infinite: it has measured nothing. RFC 9002 section 5."""
        self.rtt_latest, self.rtt_min, self.rtt_smoothed, self.rtt_variance = (
            latest,
            least,
            smoothed,
            variance,
        )
        self.has_rtt = least != math.inf
        if self.has_rtt:
            self.pacer.rtt_s, self.pacer.window, self.pacer.rate_due = smoothed, self.control.window, True

    def take_fates(self) -> list[tuple[FateSink, int, bool]]:
        """What has become of datagrams since the last call, in order."""
        fates = [
            (sink, one, True) for sink, token, count in self.acked for one in range(token, token + count)
        ]
        fates += self.fates
        self.acked.clear()
        self.fates.clear()
        return fates
