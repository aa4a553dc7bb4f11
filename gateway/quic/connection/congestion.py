"""Congestion control for flows that are mostly limited by the game, not by the path. Room: quic.

A game sends a few packets each tick and nothing in between. A controller that halves its window at
every random loss then blocks the next frame on a link that is not congested at all. This one
(RFC 9002 section 7 leaves the choice) asks three questions instead of one:

* does a queue grow? The smallest RTT of two rounds (in slow start: of one) stands well above the
  smallest of the last ten seconds: then the window shrinks towards what the path delivers. What counts is
  the path's share: from the packet's leaving to the kernel's getting its ACK, less all that the peer says it waited.
  On a busy machine both ends wait tens of milliseconds for their turns, over a path of less than one. Of a peer that
  does not say it, what arrives all at once tells the same: a queue hands out what it holds at the path's rate;
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
from typing import Any, NamedTuple, Protocol

from aioquic.quic.congestion.base import QuicCongestionControl, create_congestion_control

from gateway.quic.connection.rivals import Rivals

INITIAL_PACKETS = 10
LEAST_PACKETS = 2
"""Windows in packets: at first, and at least (RFC 9002 section 7.2)."""
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
TURN_S = 0.005
"""What arrives within it came at once: of a queue as much as the path's rate lets through, of a process that waited for its turn
all that had come meanwhile. BBR allows for the same by its extra_acked (draft-ietf-ccwg-bbr)."""
ACK_PACKETS = 8
"""What one ACK may tell of without anybody having waited for a turn: ours goes with the eighth packet."""
TURN_SHARE = 0.75
"""Of a window, beyond that: who has so much at once was away, for a queue of QUEUE_S_MIN hands out a third of a window in TURN_S."""
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
that its scheduler kept waiting is no narrower path (the concave half of CUBIC, RFC 9438 section 4.4)."""
REGAIN_KEPT = 0.7
QUIET_ROUNDS = 8
"""After so many rounds without a queue or heavy loss growth doubles: the path has more to give."""


class Congestion(Protocol):
    """How much may be in flight. Bytes and seconds throughout. ``in_flight`` is also told by whoever gives packets up
    without calling them lost. ``packet_bytes``: of a full packet as they are sent now, also told. RFC 9002 section 7."""

    window: int
    in_flight: int
    packet_bytes: int

    def on_sent(self, size: int, now: float) -> None:
        """Packets of one moment went out, of ``size`` bytes together."""

    def on_acked(self, size: int, sent_at: float, now: float) -> None:
        """Packets of one moment arrived."""

    def on_lost(self, size: int, last_sent_at: float, now: float, *, persistent: bool) -> None:
        """Packets were lost, the last of them sent at ``last_sent_at``; ``persistent``: RFC 9002 section 7.6."""

    def on_rtt(self, adjusted: float, latest: float, path: float, now: float) -> None:
        """A round trip was measured: less the delay that the peer may add, as it is, and less all that the peer says it added.
        RFC 9002 section 5."""


class RealtimeCongestion:
    """See the module."""

    __slots__ = (
        "_acked",
        "_came",
        "_came_before",
        "_came_most",
        "_came_most_before",
        "_came_until",
        "_floor",
        "_held",
        "_least",
        "_limited_at",
        "_lost",
        "_min_rtt",
        "_min_rtt_at",
        "_queue_grows",
        "_quiet_rounds",
        "_recovery_since",
        "_rivals",
        "_round_began",
        "_round_ends",
        "_round_min_rtt",
        "_rtt",
        "_stash",
        "in_flight",
        "packet_bytes",
        "ssthresh",
        "window",
    )

    def __init__(self, packet_bytes: int) -> None:
        self.window = INITIAL_PACKETS * packet_bytes
        self.in_flight = 0
        self.ssthresh: int | None = None
        self.packet_bytes = packet_bytes
        self._floor = INITIAL_PACKETS * packet_bytes
        self._least = LEAST_PACKETS * packet_bytes
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
        self._came = self._came_before = 0
        self._came_most = self._came_most_before = 0
        self._came_until = 0.0
        self._rivals = Rivals()

    # -- what it is told ------------------------------------------------------------------

    def on_sent(self, size: int, now: float) -> None:
        in_flight, window = self.in_flight + size, self.window
        self.in_flight = in_flight
        if self.ssthresh is None or window < self.ssthresh:
            in_flight *= 2
        # Within two packets of the window counts as limited, and in slow start half of it: a tick's burst seldom ends exactly
        # at the window, and a flow that is not limited must not grow (RFC 9002 section 7.8).
        if in_flight + 2 * self.packet_bytes > window:
            self._limited_at = now

    def on_acked(self, size: int, sent_at: float, now: float) -> None:
        self.in_flight -= size
        self._acked += size
        self._came += size
        limited_at = self._limited_at
        # Sent long after the flow was last limited, or before the last cut: neither says that the window is too
        # small (RFC 9002 sections 7.8 and 7.3.2).
        if limited_at <= 0 or sent_at > limited_at + self._rtt or sent_at <= self._recovery_since:
            return
        ssthresh, window = self.ssthresh, self.window
        if ssthresh is None:
            self.window = window + size
            return
        # Slow start ends exactly at the threshold: what goes beyond it counts for the slow growth below.
        if window < ssthresh:
            grown = size if size < ssthresh - window else ssthresh - window
            self.window = window + grown
            size -= grown
        if size and (not self._queue_grows or self._rivals.claims_since):
            # What is acknowledged adds its share of the round's growth; the stash keeps the fraction, or windows of small packets
            # would never grow by integer division.
            self._stash += self._growth_bytes() * size
            grown = self._stash // self.window
            self._stash -= grown * self.window
            self.window += grown

    def _growth_bytes(self) -> int:
        """By how much the window may grow in a round after slow start."""
        usual = (GROWTH_PACKETS << min(self._quiet_rounds // QUIET_ROUNDS, 6)) * self.packet_bytes
        missing = self._held - self.window
        return max(usual, missing // REGAIN_ROUNDS)

    def on_lost(self, size: int, last_sent_at: float, now: float, *, persistent: bool = False) -> None:
        self.in_flight -= size
        self._lost += size
        # Only for what was sent after the last cut: one cut a round trip (RFC 9002 section 7.3.2).
        if last_sent_at > self._recovery_since and self._is_loss_heavy(last_sent_at):
            self._shrink(now, BACK_OFF, self._least)
            self._acked = self._lost = 0.0
        if persistent:
            self.window = self._least
            # Slow start from two packets doubles up to the initial window and goes on slowly: RFC 9002 section
            # 7.6.2 asks for the minimum window, and leaves the threshold as it was.
            self.ssthresh = self._floor
            self._held = 0
            self._recovery_since = 0.0

    def on_fade_over(self, window_before: int) -> None:
        """The path answers again after it answered nothing for a while, at a window of ``window_before`` bytes."""
        # A queue that had grown before the path went away may be why it went: then the loss stands.
        if self._queue_grows or self.window >= window_before:
            return
        self.window = max(self.window, min(self._floor, window_before))
        if self.ssthresh is not None:
            self.ssthresh = max(self.ssthresh, int(window_before * BACK_OFF))

    def on_rtt(self, adjusted: float, latest: float, path: float, now: float) -> None:
        self._rtt = adjusted
        # The ACK that says this round trip begins a new moment where the last is over; its bytes were counted just before.
        came = self._came
        if now > self._came_until:
            came -= self._came_before
            self._came = came
            self._came_until = now + TURN_S
        self._came_before = came
        if came > self._came_most:
            self._came_most = came
        # A path that has become longer would look like a queue for ever: after ten seconds the smallest is what
        # there is now, except for who has a claim on a queue that stands.
        if (
            self._min_rtt == 0.0
            or path <= self._min_rtt
            or (now - self._min_rtt_at > MIN_RTT_S and not self._rivals.claims_since)
        ):
            self._min_rtt, self._min_rtt_at = path, now
        if path < self._round_min_rtt:
            self._round_min_rtt = path
        if now >= self._round_ends:
            self._end_round(now)

    # -- rounds ---------------------------------------------------------------------------

    def _end_round(self, now: float) -> None:
        """A round lasts one RTT, but long enough for an ACK that the peer delayed. The round after
        a back-off still measures what was sent before it, so it decides nothing."""
        allowed = self._min_rtt + max(QUEUE_S_MIN, QUEUE_SHARE * self._min_rtt)
        # The round that was running at the cut still measures packets of the larger window.
        if self._round_began >= self._recovery_since:
            stood, self._queue_grows = (
                self._queue_grows,
                self._round_min_rtt > allowed and not self._was_away(),
            )
            self._quiet_rounds = 0 if self._queue_grows else self._quiet_rounds + 1
            # Two rounds in a row, for one late round is a busy peer (docs/PERFORMANCE.md); in slow start one, since
            # by the second round the queue has doubled.
            if not self._queue_grows:
                # The bytes of one round: a steady flow's sum of all of them, of which a quarter is forgotten each time, is four.
                self._rivals.no_queue(self._limited_at >= self._round_began, self._acked * (1 - MEMORY))
            elif stood or self._is_slow_start:
                self._meet_queue(now, self._round_min_rtt - self._min_rtt)
        # Old losses fade by a quarter a round, so that a burst of the radio's is forgotten in some four.
        self._acked *= MEMORY
        self._lost *= MEMORY
        self._came_most_before, self._came_most = self._came_most, 0
        self._round_min_rtt = math.inf
        self._round_began = now
        self._round_ends = now + max(self._rtt, ROUND_S_MIN)

    def _meet_queue(self, now: float, queue_s: float) -> None:
        """Give way to it; or, where it is others' and stays, have as much of the path as before it came."""
        rivals = self._rivals
        if rivals.claims_since:
            if rivals.ends(now, queue_s):
                self._shrink(now, 0.0, min(rivals.low, self.window))
            return
        if not rivals.gives_way(now, queue_s, self.window, self._limited_at > self._recovery_since):
            # Slow start goes to as much more as the round trip is longer: the same rate as before.
            if rivals.claims_since:
                self.window = max(self.window, rivals.had())
                self.ssthresh = int(self.window * self._round_min_rtt / self._min_rtt)
            return
        self._held = self._regainable()
        drained = QUEUE_BACK_OFF * self._min_rtt / self._round_min_rtt
        least = self._least
        if queue_s <= QUEUE_S_LONG:  # short, so that a game may keep its rate, whose ever the queue is
            least = max(self._floor, int(rivals.needed() * self._round_min_rtt / self._min_rtt))
        factor = max(drained, QUEUE_BACK_OFF_LEAST)
        if factor * self.window < least > self._least:
            rivals.tells_nothing()
        # What comes at once fits in any case: it shows what the path takes, whatever its round trips are.
        least = max(least, self._came_most, self._came_most_before)
        self._shrink(now, factor, min(least, self.window))

    # -- judgements -----------------------------------------------------------------------

    @property
    def _is_slow_start(self) -> bool:
        return self.ssthresh is None or self.window < self.ssthresh

    def _was_away(self) -> bool:
        """Whether a window's packets arrived at once, lately: then the peer's process had not had its turn."""
        came = max(self._came_most, self._came_most_before) - ACK_PACKETS * self.packet_bytes
        return came > TURN_SHARE * self.window

    def _is_limited(self, sent_time: float) -> bool:
        """Whether the window held the flow back around when a packet was sent."""
        return self._limited_at > 0 and sent_time <= self._limited_at + self._rtt

    def _is_loss_heavy(self, last_sent: float) -> bool:
        if self._lost < LOSSES_MIN * self.packet_bytes / 2:
            return False
        is_bulk = not self._is_slow_start and self._is_limited(last_sent) and self._fills_window()
        allowed = BULK_LOSS if is_bulk else HEAVY_LOSS
        # Losses are counted in bytes: n packets scatter by √n of them, so by √(lost · packet) bytes.
        chance = math.sqrt(self._lost * self.packet_bytes)
        return self._lost - chance > allowed * (self._lost + self._acked)

    def _fills_window(self) -> bool:
        # At the initial window, or below it, nobody is bulk.
        return 2 * self.in_flight > self.window > self._floor

    def _regainable(self) -> int:
        """The window to come back to soon: the one that is given up now, or less of it each time that
        it was not even reached again."""
        window = int(self.window)
        return window if window >= self._held else int((window + self._held * REGAIN_KEPT) / 2)

    def _shrink(self, now: float, factor: float, least: int) -> None:
        # Just after now: packets of this very moment went out under the larger window, and belong to the time before.
        self._recovery_since = now + 1e-9
        self._stash = self._quiet_rounds = 0
        self.window = max(int(self.window * factor), least)
        self.ssthresh = self.window


class _Sent(NamedTuple):
    """A packet, as far as aioquic's controllers ask for it."""

    sent_bytes: int
    sent_time: float


def _sent(size: int, at: float) -> Any:
    """In the place of aioquic's own packet, which only the seam may know."""
    return _Sent(size, at)


class StockCongestion:
    """One of aioquic's own controllers, ``reno`` or ``cubic``."""

    __slots__ = ("_control", "packet_bytes")

    def __init__(self, name: str, packet_bytes: int) -> None:
        self.packet_bytes = packet_bytes
        self._control: QuicCongestionControl = create_congestion_control(name, max_datagram_size=packet_bytes)

    @property
    def window(self) -> int:
        return self._control.congestion_window

    @window.setter
    def window(self, value: int) -> None:
        self._control.congestion_window = value

    @property
    def in_flight(self) -> int:
        return self._control.bytes_in_flight

    @in_flight.setter
    def in_flight(self, value: int) -> None:
        self._control.bytes_in_flight = value

    @property
    def ssthresh(self) -> int | None:
        """Where slow start ends; None: nowhere yet. RFC 9002 section 7.3."""
        return self._control.ssthresh

    def on_sent(self, size: int, now: float) -> None:
        self._control.on_packet_sent(packet=_sent(size, now))

    def on_acked(self, size: int, sent_at: float, now: float) -> None:
        self._control.on_packet_acked(now=now, packet=_sent(size, sent_at))

    def on_lost(self, size: int, last_sent_at: float, now: float, *, persistent: bool = False) -> None:
        self._control.on_packets_lost(now=now, packets=[_sent(size, last_sent_at)])
        if persistent:
            self._control.on_persistent_congestion()

    def on_rtt(self, adjusted: float, latest: float, path: float, now: float) -> None:
        self._control.on_rtt_measurement(now=now, rtt=latest)


def congestion(name: str, packet_bytes: int) -> Congestion:
    """The controller of that name, for packets of so many bytes at most."""
    return RealtimeCongestion(packet_bytes) if name == "realtime" else StockCongestion(name, packet_bytes)
