"""The congestion controller: frames pass on a lossy link, bulk flows share a narrow one."""

from __future__ import annotations

import random
from collections import deque

import pytest

from gateway.link.model import Direction, Shaper
from gateway.quic.connection import Connection
from gateway.quic.connection.congestion import RealtimeCongestion
from tests.quic.conftest import Identity
from tests.quic.pair import Pair, Sink, make_pair

ACK_PATH_MS = 25


@pytest.mark.parametrize("loss", [0.02, 0.05])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_frame_of_a_game_is_admitted_at_random_loss(identity: Identity, loss: float, seed: int) -> None:
    pair = make_pair(identity, client=Connection, server=Connection, delay_s=0.025, seed=seed)
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
    pair = make_pair(identity, client=Connection, server=Connection, delay_s=0.05, seed=seed)
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
        pair = min(pairs, key=lambda p: p.next_at())
        if pair.next_at() > end:
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
        make_pair(identity, client=Connection, server=Connection, delay_s=0.025, down=down)  # type: ignore[arg-type]
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
    control = RealtimeCongestion(1_200)
    times = [n * 0.001 + 1 for n in range(20)]
    for sent_at in times:
        control.on_sent(1_200, sent_at)
    control.on_rtt(0.05, 0.05, 0.05, 1.0)
    for sent_at in times[::2]:
        control.on_acked(1_200, sent_at, 1.1)
    before = control.window
    control.on_lost(10 * 1_200, times[-1], 1.1)
    assert control.window < before
    assert control.in_flight == 0
    control.on_lost(0, times[-1], 1.2, persistent=True)
    assert control.window == 2_400


ACKS_A_ROUND = 10


def _bulk_round(control: RealtimeCongestion, now: float, rtt: float) -> None:
    """A whole window sent at ``now`` and acknowledged one round trip later, as a queue lets it through: over half of that."""
    packets = control.window // 1_200
    for _ in range(packets):
        control.on_sent(1_200, now)
    for n in range(ACKS_A_ROUND):
        came_at = now + rtt / 2 + (n + 1) * rtt / 2 / ACKS_A_ROUND
        for _ in range(packets * n // ACKS_A_ROUND, packets * (n + 1) // ACKS_A_ROUND):
            control.on_acked(1_200, now, came_at)
        control.on_rtt(rtt, rtt, rtt, came_at)


def _bulk_flow_after_slow_start() -> tuple[RealtimeCongestion, float]:
    control, now = RealtimeCongestion(1_200), 1.0
    for _ in range(7):
        _bulk_round(control, now, 0.05)
        now += 0.051
    control.ssthresh = control.window
    control.on_rtt(0.05, 0.05, 0.05, now + 0.05)  # ends a round: the next is of what comes from here on
    return control, now + 0.051


def test_one_late_round_of_a_bulk_flow_is_no_queue_but_two_are() -> None:
    control, now = _bulk_flow_after_slow_start()
    before = control.window
    _bulk_round(control, now, 0.09)
    assert control.window >= before
    _bulk_round(control, now + 0.1, 0.09)
    assert control.window < before


def test_a_bulk_flow_soon_regains_what_a_passing_queue_took() -> None:
    control, now = _bulk_flow_after_slow_start()
    before = control.window
    for _ in range(2):
        _bulk_round(control, now, 0.09)
        now += 0.1
    assert control.window < 0.8 * before
    for _ in range(12):
        _bulk_round(control, now, 0.05)
        now += 0.051
    assert control.window > 0.9 * before


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
        tops.append(control.window)
    assert tops == sorted(tops, reverse=True)
    assert tops[-1] < 0.5 * tops[0]


@pytest.mark.parametrize("seed", range(4))
def test_a_burst_counts_like_its_packets_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    one, burst = (RealtimeCongestion(1_252) for _ in range(2))
    initial = one.window
    now, flying = 1.0, deque[tuple[list[int], float]]()
    for _ in range(3_000):
        now += rng.choice((0.0005, 0.004, 0.02))
        sizes = [rng.randrange(40, 1_252) for _ in range(rng.randrange(1, 9))]
        for size in sizes:
            one.on_sent(size, now)
        burst.on_sent(sum(sizes), now)
        flying.append((sizes, now))
        for _ in range(max(0, len(flying) - rng.randrange(9))):
            arrived, sent_at = flying.popleft()
            for size in arrived:
                one.on_acked(size, sent_at, now)
            burst.on_acked(sum(arrived), sent_at, now)
        assert one.in_flight == burst.in_flight
        assert one.window == pytest.approx(burst.window, rel=0.01)
    assert one.window > initial


def test_losses_of_one_round_shrink_the_window_once() -> None:
    control = RealtimeCongestion(1_200)
    control.on_sent(48_000, 1.0)
    control.on_lost(14_400, 1.0, 1.1)
    once = control.window
    control.on_lost(14_400, 1.0, 1.2)  # sent before the window shrank: it tells nothing new
    assert control.window == once
    control.on_sent(12_000, 1.3)
    control.on_lost(12_000, 1.3, 1.4)
    assert control.window < once


def test_a_queue_shrinks_the_window_every_other_round() -> None:
    """What is measured in the round after was sent before the window shrank."""
    control = RealtimeCongestion(1_200)
    control.on_rtt(0.02, 0.02, 0.02, 0.0)
    control.on_rtt(0.02, 0.02, 0.02, 1.0)
    windows = []
    for at in range(4):
        control.on_rtt(0.25, 0.25, 0.25, 1.5 + at / 2)  # a round each
        windows.append(control.window)
    assert windows[0] == windows[1] > windows[2] == windows[3]
