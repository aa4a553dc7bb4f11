"""Congestion control for flows that are mostly limited by the game, not by the path. Room: quic.

A game sends a few packets each tick and nothing in between. A controller that halves its window at
every random loss then blocks the next frame on a link that is not congested at all. This one
(RFC 9002 section 7 leaves the choice) asks three questions instead of one:

* does a queue grow? The smallest RTT of two rounds (in slow start: of one) stands well above the
  smallest of the last ten seconds: then the window shrinks towards what the path delivers;
* is loss heavy? Above a tenth of what was sent, or above 3 % for a flow that fills its window:
  then it shrinks by a factor. In slow start every flow fills a window that does not hold its frames yet, so there only the
  tenth counts; a flow that doubles into a full path loses half;
* otherwise loss is taken for the radio's, and the window stays: what was lost is repaired by newer
  state anyway.

It grows as usual: doubling a round in slow start, by two packets a round after it, and only while
the window is what limits the flow (RFC 9002 section 7.8). Persistent congestion collapses it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from aioquic.quic.congestion.base import (
    K_INITIAL_WINDOW,
    K_MINIMUM_WINDOW,
    QuicCongestionControl,
    register_congestion_control,
)

NAME = "realtime"
HEAVY_LOSS = 0.10
"""Beyond it no path is treated as merely lossy, whatever the flow."""
BULK_LOSS = 0.03
"""What a flow that fills its window may lose before it gives way."""
LOSSES_MIN = 5
"""Packets lost before a rate is believed: one of four is no rate. Of more, what chance adds to a rate (a standard deviation) is
taken off: three of twenty-eight happen at 5 %, and a window given up for that is not won back while 5 % are lost."""
MEMORY = 0.75
"""What each round keeps of the loss counts of those before it: some four rounds count."""
QUEUE_S_MIN = 0.015
"""A tick of a busy peer, or a scheduler's turn: less is no queue."""
ROUND_S_MIN = 0.025
"""A round is no shorter than a delayed ACK (max_ack_delay)."""
QUEUE_SHARE = 0.5
"""How far above the smallest RTT a round's smallest may stand, as a share of it."""
MIN_RTT_S = 10.0
"""How long the smallest RTT is believed (as BBR does)."""
BACK_OFF = 0.7
QUEUE_BACK_OFF = 0.9
"""Of the window that would just fill the path: the queue empties, and every flow sees the true smallest RTT."""
QUEUE_BACK_OFF_LEAST = 0.5
QUEUE_S_LONG = 0.1
"""A queue that long is the path's. A shorter one may be a busy peer's, whose ACKs wait for its scheduler: for
it the window does not shrink below the initial one, so that a tick's burst of datagrams still fits."""
GROWTH_PACKETS = 2
"""Packets by which the window grows a round after slow start."""
REGAIN_ROUNDS = 4
"""Of what a queue made it give up, a flow takes back this fraction a round while no queue stands: a receiver
that its scheduler kept waiting is no narrower path (the concave half of CUBIC, RFC 9438 section 4.2)."""
REGAIN_KEPT = 0.7
QUIET_ROUNDS = 8
"""After so many rounds without a queue or heavy loss growth doubles: the path has more to give."""


class RealtimeCongestionControl(QuicCongestionControl):
    """See the module. Bytes and seconds throughout. With ``recovery`` given (aioquic's
    ``QuicPacketRecovery``), RTTs are taken from it, less the delay that the peer says it added."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self.recovery: Any = None
        self._packet_bytes = max_datagram_size
        self._floor = K_INITIAL_WINDOW * max_datagram_size
        self._least = K_MINIMUM_WINDOW * max_datagram_size
        self._recovery_since = 0.0
        self._stash = 0
        self._held = 0
        self._limited_at = 0.0
        self._rtt = 0.1
        self._min_rtt = 0.0
        self._min_rtt_at = 0.0
        self._round_began = 0.0
        self._round_ends = 0.0
        self._round_min_rtt = math.inf
        self._queue_grows = False
        self._quiet_rounds = 0
        self._acked = 0.0
        self._lost = 0.0

    # -- what aioquic tells ---------------------------------------------------------------

    def on_packet_sent(self, *, packet: Any) -> None:
        self.bytes_in_flight += packet.sent_bytes
        share = 2 if self._is_slow_start else 1
        if share * self.bytes_in_flight + 2 * self._packet_bytes > self.congestion_window:
            self._limited_at = packet.sent_time

    def on_burst_sent(self, size_bytes: int, now: float) -> None:
        """:meth:`on_packet_sent` for several packets of one moment, of ``size_bytes`` together."""
        in_flight, window = self.bytes_in_flight + size_bytes, self.congestion_window
        self.bytes_in_flight = in_flight
        if self.ssthresh is None or window < self.ssthresh:
            in_flight *= 2
        if in_flight + 2 * self._packet_bytes > window:
            self._limited_at = now

    def on_packet_acked(self, *, now: float, packet: Any) -> None:
        size = packet.sent_bytes
        self.bytes_in_flight -= size
        self._acked += size
        if packet.sent_time <= self._recovery_since or not self._is_limited(packet.sent_time):
            return
        if self._is_slow_start:
            self.congestion_window += size
        elif not self._queue_grows:
            self._stash += self._growth_bytes() * size
            grown = self._stash // self.congestion_window
            self._stash -= grown * self.congestion_window
            self.congestion_window += grown

    def on_burst_acked(self, packets: Sequence[Any], now: float) -> None:
        """:meth:`on_packet_acked` for packets, or bursts of them, in the order in which they were sent."""
        limited_at = self._limited_at
        if limited_at > 0 and packets[0].sent_time <= limited_at + self._rtt:
            for packet in packets:
                for one in packet.singles():
                    self.on_packet_acked(packet=one, now=now)
            return
        size = 0
        for packet in packets:
            size += packet.sent_bytes
        self.bytes_in_flight -= size
        self._acked += size

    def _growth_bytes(self) -> int:
        """By how much the window may grow in a round after slow start."""
        usual = (GROWTH_PACKETS << min(self._quiet_rounds // QUIET_ROUNDS, 6)) * self._packet_bytes
        missing = self._held - self.congestion_window
        return max(usual, missing // REGAIN_ROUNDS)

    def on_packets_expired(self, *, packets: Iterable[Any]) -> None:
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes

    def on_packets_lost(self, *, now: float, packets: Iterable[Any]) -> None:
        last_sent = 0.0
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes
            self._lost += packet.sent_bytes
            last_sent = packet.sent_time
        if last_sent <= self._recovery_since:
            return
        if self._is_loss_heavy(last_sent):
            self._shrink(now, BACK_OFF, self._least)
            self._acked = self._lost = 0.0

    def on_persistent_congestion(self) -> None:
        self.congestion_window = self._least
        self.ssthresh = self._floor
        self._held = 0
        self._recovery_since = 0.0

    def on_fade_over(self, window_before: int) -> None:
        """The path answers again after it answered nothing for a while, at a window of ``window_before`` bytes."""
        if self._queue_grows or self.congestion_window >= window_before:
            return
        self.congestion_window = max(self.congestion_window, min(self._floor, window_before))
        if self.ssthresh is not None:
            self.ssthresh = max(self.ssthresh, int(window_before * BACK_OFF))

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        if self.recovery is not None:
            rtt = self.recovery._rtt_latest
        self._rtt = rtt
        if self._min_rtt == 0.0 or rtt <= self._min_rtt or now - self._min_rtt_at > MIN_RTT_S:
            self._min_rtt, self._min_rtt_at = rtt, now
        if rtt < self._round_min_rtt:
            self._round_min_rtt = rtt
        if now >= self._round_ends:
            self._end_round(now)

    # -- rounds ---------------------------------------------------------------------------

    def _end_round(self, now: float) -> None:
        """A round lasts one RTT, but long enough for an ACK that the peer delayed. The round after
        a back-off still measures what was sent before it, so it decides nothing."""
        allowed = self._min_rtt + max(QUEUE_S_MIN, QUEUE_SHARE * self._min_rtt)
        if self._round_began >= self._recovery_since:
            stood, self._queue_grows = self._queue_grows, self._round_min_rtt > allowed
            self._quiet_rounds = 0 if self._queue_grows else self._quiet_rounds + 1
            if self._queue_grows and (stood or self._is_slow_start):
                self._held = self._regainable()
                drained = QUEUE_BACK_OFF * self._min_rtt / self._round_min_rtt
                long = self._round_min_rtt - self._min_rtt > QUEUE_S_LONG
                least = self._least if long else min(self._floor, self.congestion_window)
                self._shrink(now, max(drained, QUEUE_BACK_OFF_LEAST), least)
        self._acked *= MEMORY
        self._lost *= MEMORY
        self._round_min_rtt = math.inf
        self._round_began = now
        self._round_ends = now + max(self._rtt, ROUND_S_MIN)

    # -- judgements -----------------------------------------------------------------------

    @property
    def _is_slow_start(self) -> bool:
        return self.ssthresh is None or self.congestion_window < self.ssthresh

    def _is_limited(self, sent_time: float) -> bool:
        """Whether the window held the flow back around when a packet was sent."""
        return self._limited_at > 0 and sent_time <= self._limited_at + self._rtt

    def _is_loss_heavy(self, last_sent: float) -> bool:
        if self._lost < LOSSES_MIN * self._packet_bytes / 2:
            return False
        is_bulk = not self._is_slow_start and self._is_limited(last_sent) and self._fills_window()
        allowed = BULK_LOSS if is_bulk else HEAVY_LOSS
        chance = math.sqrt(self._lost * self._packet_bytes)
        return self._lost - chance > allowed * (self._lost + self._acked)

    def _fills_window(self) -> bool:
        return 2 * self.bytes_in_flight > self.congestion_window > self._floor

    def _regainable(self) -> int:
        """The window to come back to soon: the one that is given up now, or less of it each time that
        it was not even reached again."""
        window = int(self.congestion_window)
        return window if window >= self._held else int((window + self._held * REGAIN_KEPT) / 2)

    def _shrink(self, now: float, factor: float, least: int) -> None:
        self._recovery_since = now + 1e-9
        self._stash = self._quiet_rounds = 0
        self.congestion_window = max(int(self.congestion_window * factor), least)
        self.ssthresh = self.congestion_window


register_congestion_control(NAME, RealtimeCongestionControl)
