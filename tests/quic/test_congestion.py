"""The congestion controller: frames pass on a lossy link, bulk flows share a narrow one."""

from __future__ import annotations

import random
from collections import deque
from typing import NamedTuple

import pytest

from bench.link.model import Direction, Shaper
from gateway.quic.connection.congestion import RealtimeCongestionControl
from gateway.quic.connection.fast import FastConnection
from tests.quic.conftest import Identity
from tests.quic.pair import Pair, Sink, make_pair

ACK_PATH_MS = 25


@pytest.mark.parametrize("loss", [0.02, 0.05])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_frame_of_a_game_is_admitted_at_random_loss(identity: Identity, loss: float, seed: int) -> None:
    pair = make_pair(identity, client=FastConnection, server=FastConnection, delay_s=0.025, seed=seed)
    pair.connect()
    pair.run_for(0.3)
    pair.loss = loss
    sink, refused = Sink(), 0
    for tick in range(600):
        if pair.server.quic.room_bytes() >= 1_100:
            pair.server.quic.queue_datagram(bytes(1_048), sink, tick)
        else:
            refused += 1
        pair.run_for(1 / 60)
    assert refused == 0
    assert sink.lost


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_frames_that_the_first_window_does_not_hold_are_admitted_too_at_random_loss(
    identity: Identity, seed: int
) -> None:
    """They fill the window until it has grown: what chance takes from them then must not end its growth."""
    pair = make_pair(identity, client=FastConnection, server=FastConnection, delay_s=0.05, seed=seed)
    pair.connect()
    pair.run_for(0.3)
    pair.loss = 0.05
    sink, refused = Sink(), 0
    for tick in range(500):
        for _ in range(5):
            if pair.server.quic.room_bytes() >= 1_100:
                pair.server.quic.queue_datagram(bytes(1_048), sink, tick)
            else:
                refused += tick >= 200
        pair.run_for(1 / 60)
    assert refused < 15, "one in a hundred"
    assert sink.lost


def _fill(pair: Pair, sink: Sink) -> None:
    while pair.server.quic.room_bytes() >= 1_100:
        pair.server.quic.queue_datagram(bytes(1_048), sink, 0)
    pair.pump()


def _run_together(pairs: list[Pair], sinks: list[Sink], seconds: float) -> None:
    """Step whichever pair is next, both flows always full."""
    end = pairs[0].now + seconds
    while True:
        pair = min(pairs, key=lambda p: p._next_at())
        if pair._next_at() > end:
            break
        pair.step()
        for each, sink in zip(pairs, sinks, strict=True):
            each.now = max(each.now, pair.now)
            _fill(each, sink)


@pytest.mark.parametrize("queue_bytes", [16_000, 1_000_000])
def test_two_bulk_flows_share_a_narrow_link_without_filling_its_queue(
    identity: Identity, queue_bytes: int
) -> None:
    rule = Direction(delay_ms=ACK_PATH_MS, rate_kbps=4_000, queue_bytes=queue_bytes)
    shaper = Shaper(rule, 1)
    waits: list[float] = []

    def down(size: int, now: float) -> float | None:
        arrives = shaper.admit(size, now)
        if arrives is not None:
            waits.append(arrives - now - ACK_PATH_MS / 1_000)
        return arrives

    pairs = [
        make_pair(identity, client=FastConnection, server=FastConnection, delay_s=0.025, down=down)  # type: ignore[arg-type]
        for _ in range(2)
    ]
    for pair in pairs:
        pair.connect()
    now = max(pair.now for pair in pairs)
    for pair in pairs:
        pair.now = now
    sinks = [Sink(), Sink()]
    _run_together(pairs, sinks, 14.0)
    for sink in sinks:
        sink.acked.clear()
    waits.clear()
    _run_together(pairs, sinks, 8.0)
    rates = [len(sink.acked) * 1_048 * 8 / 8.0 / 1_000 for sink in sinks]
    assert sum(rates) > 0.7 * rule.rate_kbps
    assert max(rates) < 3 * min(rates)
    assert sum(waits) / len(waits) < 0.12


def test_heavy_loss_shrinks_the_window_and_persistent_congestion_collapses_it() -> None:
    control = RealtimeCongestionControl(max_datagram_size=1_200)
    packets = [_Packet(n * 0.001 + 1) for n in range(20)]
    for packet in packets:
        control.on_packet_sent(packet=packet)
    control.on_rtt_measurement(now=1.0, rtt=0.05)
    for packet in packets[::2]:
        control.on_packet_acked(now=1.1, packet=packet)
    before = control.congestion_window
    control.on_packets_lost(now=1.1, packets=packets[1::2])
    assert control.congestion_window < before
    assert control.bytes_in_flight == 0
    control.on_persistent_congestion()
    assert control.congestion_window == 2_400


class _Packet:
    sent_bytes = 1_200

    def __init__(self, sent_time: float) -> None:
        self.sent_time = sent_time


def _bulk_round(control: RealtimeCongestionControl, now: float, rtt: float) -> None:
    """A whole window sent at ``now`` and acknowledged one round trip later."""
    packets = [_Packet(now) for _ in range(control.congestion_window // 1_200)]
    for packet in packets:
        control.on_packet_sent(packet=packet)
    for packet in packets:
        control.on_packet_acked(now=now + rtt, packet=packet)
    control.on_rtt_measurement(now=now + rtt, rtt=rtt)


def _bulk_flow_after_slow_start() -> tuple[RealtimeCongestionControl, float]:
    control, now = RealtimeCongestionControl(max_datagram_size=1_200), 1.0
    for _ in range(7):
        _bulk_round(control, now, 0.05)
        now += 0.051
    control.ssthresh = control.congestion_window
    return control, now


def test_one_late_round_of_a_bulk_flow_is_no_queue_but_two_are() -> None:
    control, now = _bulk_flow_after_slow_start()
    before = control.congestion_window
    _bulk_round(control, now, 0.09)
    assert control.congestion_window >= before
    _bulk_round(control, now + 0.1, 0.09)
    assert control.congestion_window < before


def test_a_bulk_flow_soon_regains_what_a_passing_queue_took() -> None:
    control, now = _bulk_flow_after_slow_start()
    before = control.congestion_window
    for _ in range(2):
        _bulk_round(control, now, 0.09)
        now += 0.1
    assert control.congestion_window < 0.8 * before
    for _ in range(12):
        _bulk_round(control, now, 0.05)
        now += 0.051
    assert control.congestion_window > 0.9 * before


def test_a_queue_that_comes_back_leaves_less_to_regain_each_time() -> None:
    control, now = _bulk_flow_after_slow_start()
    tops = []
    for _ in range(4):
        for _ in range(3):
            _bulk_round(control, now, 0.09)
            now += 0.1
        for _ in range(3):
            _bulk_round(control, now, 0.05)
            now += 0.051
        tops.append(control.congestion_window)
    assert tops == sorted(tops, reverse=True)
    assert tops[-1] < 0.5 * tops[0]


class Sent(NamedTuple):
    """What the controller asks of a packet."""

    sent_bytes: int
    sent_time: float

    def singles(self) -> list[Sent]:
        return [self]


def test_a_burst_counts_like_its_packets_one_by_one() -> None:
    rng = random.Random(7)
    one, burst = (RealtimeCongestionControl(max_datagram_size=1_252) for _ in range(2))
    initial = one.congestion_window
    now, flying = 1.0, deque[Sent]()
    for _ in range(3_000):
        now += rng.choice((0.0005, 0.004, 0.02))
        packets = [Sent(rng.randrange(40, 1_252), now) for _ in range(rng.randrange(1, 9))]
        for packet in packets:
            one.on_packet_sent(packet=packet)
        burst.on_burst_sent(sum(packet.sent_bytes for packet in packets), now)
        flying.extend(packets)
        arrived = [flying.popleft() for _ in range(max(0, len(flying) - rng.randrange(40)))]
        for packet in arrived:
            one.on_packet_acked(packet=packet, now=now)
        if arrived:
            burst.on_burst_acked(arrived, now)
        assert vars(one) == vars(burst)
    assert one.congestion_window > initial
