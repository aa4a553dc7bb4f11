"""Packets in flight by themselves: which an ACK names, what becomes of each, when it is lost, and how bursts come apart."""

from __future__ import annotations

import math
from typing import Any

import pytest
from aioquic.quic.packet import QuicErrorCode

from gateway import limits
from gateway.quic.connection.congestion import RealtimeCongestion
from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.flight import (
    Fates,
    SentBurst,
    SentPacket,
    among,
    oldest_alone,
    sent_burst,
    sent_packet,
)
from gateway.quic.connection.pacing import Pacer
from gateway.quic.connection.pathmtu import PathMtu
from gateway.quic.connection.recovery import Recovery
from tests.quic.pair import Sink

MTU = 1_200
MANY = limits.QUIC_LOOKED_UP_MAX


def _packet(
    number: int, at: float = 1.0, *, size: int = 100, fates: Fates = (), told: list[Any] | None = None
) -> SentPacket:
    handlers = [] if told is None else [(lambda acked, n: told.append((n, acked)), (number,))]
    return sent_packet((number, size, at, fates, handlers))


def _burst(
    sink: Sink, number: int, shape: tuple[tuple[int, int], ...], *, token: int, head: int
) -> SentBurst:
    size = sum(size + head for size, _ in shape)
    count = sum(count for _, count in shape)
    return sent_burst((number, size, 2.0, sink, token, shape, count, number + len(shape) - 1))


def _recovery(*packets: SentPacket, mtu: PathMtu | None = None) -> Recovery:
    recovery = Recovery(RealtimeCongestion(MTU), Pacer(MTU), mtu)
    for packet in packets:
        recovery.add(packet)
    return recovery


# -- which packets an ACK names ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranges", "found"),
    [
        ([(0, 10)], []),
        ([(10, 11)], [10]),
        ([(0, 12)], [10, 11]),
        ([(10, 15)], [10, 11, 13]),
        ([(12, 13)], []),
        ([(13, 14), (20, 99)], [13, 20, 21]),
        ([(0, 1), (11, 12), (21, 22)], [11, 21]),
        ([(0, 1_000_000)], [10, 11, 13, 20, 21]),
        ([(22, 30)], []),
        ([(22, 1_000_000)], []),
        ([(0, 5), (5, 10)], []),
    ],
)
def test_of_what_is_in_flight_the_acknowledged_are_found(
    ranges: list[tuple[int, int]], found: list[int]
) -> None:
    sent = {number: _packet(number) for number in (10, 11, 13, 20, 21)}
    assert among(sent, ranges) == found
    assert among({}, ranges) == []


@pytest.mark.parametrize("size", [MANY - 1, MANY, MANY + 1, 3 * MANY])
@pytest.mark.parametrize("start", [100, 105])
def test_long_and_short_ranges_find_the_same(size: int, start: int) -> None:
    sent = {number: _packet(number) for number in range(100, 100 + 8 * MANY) if number % 7}
    ranges = [(start, start + size), (start + size + 3, start + 2 * size + 3), (start + 3 * size, 10_000)]
    assert among(sent, ranges) == [n for one in ranges for n in range(*one) if n in sent]


@pytest.mark.parametrize(
    ("start", "largest", "count"),
    [
        (0, 4, 0),
        (0, 5, 1),
        (5, 5, 1),
        (6, 6, 0),
        (6, 9, 0),
        (0, 6, 2),
        (5, 9, 3),
        (5, 8, 0),
        (5, 10, 4),
        (5, 11, 0),
    ],
)
def test_the_oldest_go_together_where_an_ack_is_of_all_up_to_its_largest(
    start: int, largest: int, count: int
) -> None:
    """5, 6, a burst of 7 to 9, and 10."""
    burst = _burst(Sink(), 7, ((50, 1), (50, 1), (50, 1)), token=0, head=20)
    sent = {5: _packet(5), 6: _packet(6), 7: burst, 10: _packet(10)}
    assert oldest_alone(sent, start, largest) == list(sent.values())[:count]


def test_the_oldest_go_alone_where_one_of_them_has_frames_to_tell_of() -> None:
    sent = {5: _packet(5), 6: _packet(6, told=[]), 7: _packet(7)}
    assert oldest_alone(sent, 5, 5) == [sent[5]]
    assert oldest_alone(sent, 5, 6) == oldest_alone(sent, 5, 7) == []
    assert oldest_alone({}, 0, 5) == []


# -- bursts -----------------------------------------------------------------------------------

SHAPE = ((1_000, 3), (1_000, 2), (1_000, 1), (400, 4))


def test_a_burst_comes_apart_into_packets_with_their_sizes_and_messages() -> None:
    sink = Sink()
    burst = _burst(sink, 7, SHAPE, token=40, head=27)
    assert [(p.number, p.size, p.sent_at, p.fates, p.handlers) for p in burst.singles()] == [
        (7, 1_027, 2.0, ((sink, 40, 3),), ()),
        (8, 1_027, 2.0, ((sink, 43, 2),), ()),
        (9, 1_027, 2.0, ((sink, 45, 1),), ()),
        (10, 427, 2.0, ((sink, 46, 4),), ()),
    ]
    packet = _packet(3)
    assert packet.singles() == (packet,)
    assert (burst.fates, burst.handlers) == ((), ())


@pytest.mark.parametrize("last", [7, 8, 9])
def test_a_burst_in_two_is_the_same_packets(last: int) -> None:
    burst = _burst(Sink(), 7, SHAPE, token=40, head=27)
    front, behind = burst.split(last)
    assert (front.last, behind.number, behind.last) == (last, last + 1, 10)
    assert [*front.singles(), *behind.singles()] == burst.singles()
    assert (front.size + behind.size, front.messages + behind.messages) == (burst.size, 10)
    assert front.messages == sum(count for _, count in SHAPE[: last - 6])
    assert len(front.singles()) == last - 6


def test_what_is_taken_apart_stays_in_order_and_in_count() -> None:
    sink = Sink()
    recovery = _recovery(_packet(5))
    recovery.add_burst(_burst(sink, 6, SHAPE, token=0, head=27))
    recovery.add(_packet(10, 3.0))
    assert (recovery.packets, recovery.last_sent_at, recovery.holds_bursts) == (6, 3.0, True)
    assert recovery.control.in_flight == 100 + 3 * 1_027 + 427 + 100
    assert list(recovery.sent) == [5, 6, 10]
    assert list(recovery.take_apart()) == [5, 6, 7, 8, 9, 10]
    assert (recovery.packets, recovery.holds_bursts) == (6, False)
    assert recovery.take_apart() is recovery.sent


@pytest.mark.parametrize(("start", "stop"), [(6, 7), (6, 8), (0, 9), (6, 10), (6, 11)])
def test_an_ack_of_the_front_of_a_burst_leaves_what_is_behind(start: int, stop: int) -> None:
    sink = Sink()
    recovery = _recovery()
    recovery.add_burst(_burst(sink, 6, SHAPE, token=0, head=27))
    recovery.add(_packet(10, 2.5, fates=((sink, 10, 1),)))
    messages = {7: 3, 8: 5, 9: 6, 10: 10, 11: 11}[stop]
    flying = {7: 2 * 1_027 + 527, 8: 1_027 + 527, 9: 527, 10: 100, 11: 0}[stop]
    assert recovery.take_oldest(start, stop, 0.0, 2.6)
    assert recovery.largest_acked == stop - 1
    assert recovery.packets == 11 - stop
    assert recovery.control.in_flight == flying
    assert recovery.take_fates() == [(sink, token, True) for token in range(messages)]
    assert [one.number for one in recovery.take_apart().values()] == list(range(stop, 11))
    assert recovery.take_fates() == []


def test_an_ack_of_what_is_not_the_oldest_is_left_to_the_whole_way() -> None:
    sink = Sink()
    recovery = _recovery()
    assert not recovery.take_oldest(0, 1, 0.0, 2.5), "nothing is in flight"
    recovery.add_burst(_burst(sink, 6, SHAPE, token=0, head=27))
    for start, stop in ((7, 8), (0, 6), (7, 10), (6, 11)):
        assert not recovery.take_oldest(start, stop, 0.0, 2.5)
    assert recovery.on_ack([(6, 8)], 0.0, 2.5, 10) is False
    recovery.add_burst(_burst(sink, 10, SHAPE, token=10, head=27))
    assert recovery.largest_acked == 7
    assert not recovery.take_oldest(0, 7, 0.0, 2.5), "an older ACK than the last"
    assert not recovery.has_rtt or recovery.rtt_latest == pytest.approx(0.5)


# -- what an ACK tells --------------------------------------------------------------------------


def test_whoever_sent_is_told_once_and_datagrams_in_their_order() -> None:
    told: list[tuple[int, bool]] = []
    sink = Sink()
    recovery = _recovery(*(_packet(n, told=told, fates=((sink, 10 * n, 2),)) for n in range(3)))
    assert recovery.on_ack([(1, 2)], 0.0, 1.1, 3)
    assert told == [(1, True)]
    assert recovery.on_ack([(0, 2)], 0.0, 1.1, 3)
    assert not recovery.on_ack([(0, 2)], 0.0, 1.1, 3), "nothing of it is news"
    assert told == [(1, True), (0, True)]
    assert recovery.take_fates() == [(sink, 10, True), (sink, 11, True), (sink, 0, True), (sink, 1, True)]
    assert recovery.take_fates() == []
    assert (recovery.packets, recovery.control.in_flight) == (1, 100)


def test_frames_without_handlers_tell_nothing() -> None:
    recovery = _recovery(_packet(0), _packet(1))
    assert not recovery.on_ack([(0, 1)], 0.0, 1.1, 2)


@pytest.mark.parametrize(("largest", "next_number"), [(2, 2), (3, 2), (0, 0)])
def test_what_was_never_sent_is_not_acknowledged(largest: int, next_number: int) -> None:
    recovery = _recovery(_packet(0), _packet(1))
    with pytest.raises(PeerFault) as caught:
        recovery.on_ack([(0, largest + 1)], 0.0, 1.1, next_number)
    assert caught.value.code == QuicErrorCode.PROTOCOL_VIOLATION
    assert list(recovery.sent) == [0, 1]
    assert recovery.on_ack([(0, 2)], 0.0, 1.1, 2) is False


# -- round trips, RFC 9002 section 5 ------------------------------------------------------------


def _measured(*samples: tuple[float, float]) -> Recovery:
    """After ACKs, each of one packet: its round trip and the delay that the peer says it added."""
    recovery = _recovery()
    for number, (rtt, delay) in enumerate(samples):
        at = 10.0 * (number + 1)
        recovery.add(_packet(number, at))
        assert recovery.on_ack([(number, number + 1)], delay, at + rtt, number + 1) is False
    return recovery


@pytest.mark.parametrize(
    ("samples", "latest", "least", "smoothed", "variance"),
    [
        ([(0.1, 0.0)], 0.1, 0.1, 0.1, 0.05),
        ([(0.1, 0.02)], 0.1, 0.1, 0.1, 0.05),
        ([(0.0001, 0.0)], 0.001, 0.001, 0.0001, 0.00005),
        ([(0.1, 0.0), (0.2, 0.0)], 0.2, 0.1, 0.1125, 0.0625),
        ([(0.1, 0.0), (0.2, 0.02)], 0.18, 0.1, 0.11, 0.0575),
        ([(0.1, 0.0), (0.2, 0.5)], 0.175, 0.1, 0.109375, 0.05625),
        ([(0.1, 0.0), (0.11, 0.02)], 0.11, 0.1, 0.10125, 0.04),
        ([(0.1, 0.0), (0.05, 0.0)], 0.05, 0.05, 0.09375, 0.0375),
    ],
)
def test_round_trips_are_smoothed_without_what_the_peer_waited(
    samples: list[tuple[float, float]], latest: float, least: float, smoothed: float, variance: float
) -> None:
    recovery = _measured(*samples)
    measured = (recovery.rtt_latest, recovery.rtt_min, recovery.rtt_smoothed, recovery.rtt_variance)
    assert measured == pytest.approx((latest, least, smoothed, variance))
    assert recovery.pacer.rtt_s == recovery.rtt_smoothed
    assert recovery.pacer.rate_due
    assert recovery.pacer.window == recovery.control.window


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([(0.1, 0.0)], (0.1, 0.1, 0.1)),
        ([(0.0001, 0.0)], (0.001, 0.0001, 0.001)),
        ([(0.1, 0.0), (0.2, 0.02)], (0.18, 0.2, 0.18)),
        ([(0.1, 0.0), (0.3, 0.15)], (0.275, 0.3, 0.15)),
        ([(0.1, 0.0), (0.2, 0.15)], (0.175, 0.2, 0.1)),
        ([(0.1, 0.0), (0.12, 0.021)], (0.12, 0.12, 0.1)),
    ],
)
def test_the_controller_hears_of_the_path_without_all_that_the_peer_waited(
    samples: list[tuple[float, float]], told: tuple[float, float, float]
) -> None:
    """A busy peer's delay has no bound, and none of it is a queue; only shorter than ever before the path does not become by it."""
    heard: list[tuple[float, ...]] = []

    class Hears(RealtimeCongestion):
        def on_rtt(self, adjusted: float, latest: float, path: float, now: float) -> None:
            heard.append((adjusted, latest, path))

    recovery = Recovery(Hears(MTU), Pacer(MTU))
    for number, (rtt, delay) in enumerate(samples):
        recovery.add(_packet(number, number + 1.0))
        recovery.on_ack([(number, number + 1)], delay, number + 1.0 + rtt, number + 1)
    assert heard[-1] == pytest.approx(told)


def test_only_the_largest_says_a_round_trip() -> None:
    recovery = _recovery(_packet(0, 1.0), _packet(1, 1.005))
    assert recovery.on_ack([(1, 2)], 0.0, 1.105, 2) is False
    recovery.on_ack([(0, 2)], 0.0, 9.0, 2)
    assert recovery.packets == 0
    assert recovery.rtt_latest == pytest.approx(0.1)


def test_what_another_measured_is_gone_on_from() -> None:
    recovery = _recovery()
    recovery.adopt_rtt(0.0, math.inf, 0.0, 0.0)
    assert (recovery.has_rtt, recovery.probe_timeout(), recovery.pacer.rate_due) == (False, 0.2, False)
    recovery.adopt_rtt(0.05, 0.04, 0.06, 0.01)
    assert recovery.has_rtt
    assert recovery.probe_timeout() == pytest.approx(0.06 + 0.04 + 0.025)
    assert (recovery.rtt_latest, recovery.rtt_min) == (0.05, 0.04)
    assert (recovery.pacer.rtt_s, recovery.pacer.rate_due) == (0.06, True)
    recovery.rtt_variance = 0.0001
    assert recovery.probe_timeout() == pytest.approx(0.06 + 0.001 + 0.025), "a timer is no finer"


# -- losses, RFC 9002 section 6 -----------------------------------------------------------------


def test_a_packet_three_before_the_largest_is_lost_and_one_two_before_waits() -> None:
    told: list[tuple[int, bool]] = []
    sink = Sink()
    packets = [_packet(n, 1.0, told=told, fates=((sink, n, 2),)) for n in range(5)]
    recovery = _recovery(*packets)
    assert recovery.on_ack([(3, 4)], 0.0, 1.1, 5)
    assert told == [(3, True), (0, False)]
    assert recovery.take_fates() == [(sink, 3, True), (sink, 4, True), (sink, 0, False), (sink, 1, False)]
    assert recovery.loss_at == pytest.approx(1.0 + 9 / 8 * 0.1)
    assert recovery.deadline() == recovery.loss_at
    assert (recovery.packets, recovery.control.in_flight) == (3, 300)
    assert list(recovery.sent) == [1, 2, 4]


def test_a_packet_is_lost_with_time_as_well_and_what_is_newer_than_the_largest_is_not() -> None:
    told: list[tuple[int, bool]] = []
    recovery = _recovery(*(_packet(n, 1.0 + n * 0.001, told=told) for n in range(4)))
    recovery.on_ack([(2, 3)], 0.0, 1.102, 4)
    first, second = 1.0 + 9 / 8 * 0.1, 1.001 + 9 / 8 * 0.1
    assert recovery.loss_at == pytest.approx(first)
    assert recovery.deadline() == recovery.loss_at
    assert not recovery.on_deadline(second - 0.0001), "no probe is due for what is lost"
    assert told == [(2, True), (0, False)]
    assert recovery.loss_at == pytest.approx(second)
    assert not recovery.on_deadline(second + 1e-9)
    assert told == [(2, True), (0, False), (1, False)]
    assert recovery.loss_at is None
    assert list(recovery.sent) == [3]
    assert recovery.probes == 0


def test_without_an_answer_the_oldest_is_given_up_each_time_after_twice_as_long() -> None:
    told: list[tuple[int, bool]] = []
    sink = Sink()
    recovery = _recovery(*(_packet(n, 1.0, told=told, fates=((sink, 5 * n, 3),)) for n in range(3)))
    assert recovery.deadline() == pytest.approx(1.2)
    assert recovery.on_deadline(1.2)
    assert (told, recovery.probes, recovery.given_up) == ([(0, False)], 1, 3)
    assert recovery.deadline() == pytest.approx(1.4)
    assert recovery.on_deadline(1.4)
    assert (told, recovery.probes, recovery.given_up) == ([(0, False), (1, False)], 2, 6)
    assert recovery.deadline() == pytest.approx(1.8)
    assert (recovery.packets, recovery.control.in_flight) == (1, 100)
    assert recovery.control.window == 10 * MTU, "no congestion"
    recovery.on_ack([(2, 3)], 0.0, 1.5, 3)
    assert (recovery.probes, recovery.deadline()) == (0, None)
    assert recovery.on_deadline(2.0)
    assert recovery.given_up == 6


def test_an_ack_of_the_oldest_ends_the_probes_and_the_wait_for_a_loss() -> None:
    recovery = _recovery(_packet(0, 1.0), _packet(1, 1.0), _packet(2, 1.0))
    recovery.on_ack([(1, 2)], 0.0, 1.01, 3)
    assert recovery.loss_at is not None
    recovery.on_ack([(0, 1)], 0.0, 1.02, 3)
    assert recovery.loss_at is None
    recovery.probes = 3
    assert recovery.take_oldest(2, 3, 0.0, 1.03)
    assert (recovery.probes, recovery.loss_at, recovery.packets) == (0, None, 0)


@pytest.mark.parametrize(
    ("numbers", "gap", "collapses"),
    [
        ((1, 2, 3, 4), 0.28, True),
        ((1, 2, 3, 4), 0.27, False),
        ((1, 2, 4, 5), 0.4, False),
        ((1, 3, 4, 5), 0.4, False),
        ((1, 3, 4, 5), 0.42, True),
        ((1, 2), 0.83, True),
        ((1, 2), 0.82, False),
    ],
)
def test_a_run_of_losses_longer_than_three_probe_timeouts_collapses_the_window(
    numbers: tuple[int, ...], gap: float, collapses: bool
) -> None:
    """RFC 9002 section 7.6. A probe timeout is 0.1 + 4 x 0.0375 + 0.025 s then: three are 0.825 s."""
    recovery = _recovery(_packet(0, 0.0))
    recovery.on_ack([(0, 1)], 0.0, 0.1, 1)
    for n, number in enumerate(numbers):
        recovery.add(_packet(number, 1.0 + n * gap, size=MTU))
    recovery.add(_packet(20, 3.0))
    recovery.on_ack([(20, 21)], 0.0, 3.1, 21)
    assert recovery.probe_timeout() == pytest.approx(0.275)
    assert (recovery.control.window == 2 * MTU) == collapses


def test_before_the_first_round_trip_no_run_of_losses_is_long() -> None:
    recovery = _recovery(*(_packet(n, float(n)) for n in (1, 2, 3)))
    assert not recovery.detect(10.0), "nothing was acknowledged"
    recovery.add(_packet(9, 5.0))
    assert recovery.on_ack([(9, 10)], 0.0, 5.1, 10)
    assert (recovery.packets, recovery.control.window > 2 * MTU) == (0, True)
    recovery = _recovery(*(_packet(n, float(n)) for n in (1, 2, 3)))
    recovery.largest_acked = 3
    assert recovery.detect(10.0)
    assert (recovery.packets, recovery.control.window > 2 * MTU) == (0, True)


def test_at_the_end_every_datagram_in_flight_counts_as_lost_once() -> None:
    sink, told = Sink(), list[Any]()
    recovery = _recovery(_packet(0, fates=((sink, 0, 2),), told=told))
    recovery.add_burst(_burst(sink, 1, ((100, 2), (100, 1)), token=2, head=20))
    recovery.loss_at = 5.0
    for _ in range(2):
        recovery.give_up_datagrams()
    assert recovery.take_fates() == [(sink, token, False) for token in range(5)]
    assert (recovery.packets, recovery.sent, recovery.control.in_flight) == (0, {}, 0)
    assert (recovery.deadline(), told) == (None, [])


# -- larger packets, RFC 8899 -------------------------------------------------------------------


def _wide() -> PathMtu:
    mtu = PathMtu(MTU)
    mtu.allow(65_507)
    mtu.learn(65_527)
    mtu.on_probe_sent(0, 0.0)
    mtu.on_probe_fate(acked=True)
    assert mtu.confirmed > MTU
    return mtu


def test_large_packets_lost_in_a_row_are_a_hole_and_as_small_ones_are_none() -> None:
    for size, holes in ((MTU, 0), (MTU + 1, 1)):
        mtu = _wide()
        recovery = _recovery(*(_packet(n, 1.0, size=size) for n in range(1, 4)), _packet(9, 2.0), mtu=mtu)
        recovery.on_ack([(9, 10)], 0.0, 2.1, 10)
        assert mtu.holes == holes


def test_large_packets_that_are_given_up_are_a_hole_once_the_peer_answers() -> None:
    mtu = _wide()
    recovery = _recovery(*(_packet(n, 1.0, size=1_452) for n in range(1, 4)), _packet(9, 1.0), mtu=mtu)
    for _ in range(3):
        recovery.on_deadline(2.0)
    assert (mtu.unanswered, mtu.holes) == (3, 0)
    recovery.on_ack([(9, 10)], 0.0, 2.1, 10)
    assert (mtu.unanswered, mtu.holes) == (0, 1)


def test_one_that_arrives_shows_that_the_others_were_only_late() -> None:
    mtu = _wide()
    recovery = _recovery(
        *(_packet(n, 1.0, size=1_452) for n in range(1, 4)), _packet(9, 1.0, size=1_201), mtu=mtu
    )
    for _ in range(3):
        recovery.on_deadline(2.0)
    recovery.on_ack([(9, 10)], 0.0, 2.1, 10)
    assert (mtu.unanswered, mtu.holes, mtu.confirmed) == (0, 0, 1_452)


def test_the_loss_of_a_probe_is_no_congestion_and_no_hole() -> None:
    mtu, told = _wide(), list[Any]()
    probe = sent_packet((5, 8_952, 1.0, (), ((mtu.on_probe_fate, ()),)))
    recovery = _recovery(probe, _packet(9, 1.0, told=told), mtu=mtu)
    mtu.on_probe_sent(5, 1.0)
    window = recovery.control.window
    assert recovery.on_ack([(9, 10)], 0.0, 1.1, 10)
    assert (mtu.probe_number, mtu.holes, recovery.packets, recovery.control.in_flight) == (-1, 0, 0, 0)
    assert recovery.control.window >= window
    assert told == [(9, True)]


def test_a_probe_that_is_given_up_is_no_large_packet() -> None:
    mtu = _wide()
    recovery = _recovery(sent_packet((5, 8_952, 1.0, (), ((mtu.on_probe_fate, ()),))), mtu=mtu)
    mtu.on_probe_sent(5, 1.0)
    recovery.on_deadline(2.0)
    assert mtu.unanswered == 0
