"""The search for the packet size of a path, step by step: when a probe may go, what is believed, and when it is given up."""

from __future__ import annotations

import pytest

from gateway import limits
from gateway.quic.connection.pathmtu import PathMtu

BASE = 1_200
STEPS = limits.QUIC_PACKET_BYTES_STEPS
TRIES, AGAIN_S, HOLE, HOLE_S = (
    limits.QUIC_MTU_PROBES_MAX,
    limits.QUIC_MTU_AGAIN_S,
    limits.QUIC_MTU_HOLE_PACKETS,
    limits.QUIC_MTU_HOLE_S,
)
WIDE = 1 << 20
"""A congestion window that no packet is too large for."""


def _mtu(allowed: int = 65_507, peer: int = 65_527) -> PathMtu:
    mtu = PathMtu(BASE)
    mtu.allow(allowed)
    mtu.learn(peer)
    return mtu


def _probe(mtu: PathMtu, number: int, now: float, *, acked: bool) -> int:
    """Send the probe that may go, and tell its fate; its size."""
    size = mtu.probe_bytes(WIDE, now)
    assert size
    mtu.on_probe_sent(number, now)
    assert mtu.probe_number == number
    mtu.on_probe_fate(acked)
    assert mtu.probe_number == -1
    return size


def _found(steps: int = len(STEPS)) -> PathMtu:
    mtu = _mtu()
    for number in range(steps):
        _probe(mtu, number, 1.0, acked=True)
    return mtu


@pytest.mark.parametrize(
    ("allowed", "peer", "steps"),
    [
        (0, 65_527, 0),
        (65_507, 0, 0),
        (STEPS[0] - 1, 65_527, 0),
        (STEPS[0], 65_527, 1),
        (65_507, STEPS[0], 1),
        (STEPS[1], STEPS[2], 2),
        (65_507, 65_527, 4),
    ],
)
def test_no_more_is_tried_than_the_socket_sends_and_the_peer_takes(
    allowed: int, peer: int, steps: int
) -> None:
    mtu = _mtu(allowed, peer)
    tried = []
    while mtu.probe_bytes(WIDE, 0.0):
        tried.append(_probe(mtu, len(tried), 0.0, acked=True))
        assert mtu.confirmed == tried[-1]
    assert tried == list(STEPS[:steps])


def test_until_both_are_known_nothing_is_tried() -> None:
    mtu = PathMtu(BASE)
    assert mtu.probe_bytes(WIDE, 0.0) == 0
    mtu.allow(65_507)
    assert mtu.probe_bytes(WIDE, 0.0) == 0
    mtu.learn(65_527)
    assert mtu.probe_bytes(WIDE, 0.0) == STEPS[0]


def test_a_base_as_large_as_a_step_has_that_one_no_longer_to_try() -> None:
    mtu = PathMtu(STEPS[0])
    mtu.allow(65_507)
    mtu.learn(65_527)
    assert mtu.probe_bytes(WIDE, 0.0) == STEPS[1]


def test_a_socket_that_sends_less_than_was_found_sends_no_more() -> None:
    mtu = _found()
    mtu.allow(9_000)
    assert mtu.confirmed == 9_000
    mtu.allow(100)
    assert mtu.confirmed == BASE
    mtu.allow(65_507)
    assert mtu.confirmed == BASE


@pytest.mark.parametrize("step", range(4))
def test_a_probe_goes_where_the_window_holds_a_few_of_its_size(step: int) -> None:
    mtu = _found(step)
    least = STEPS[step] * limits.QUIC_PACKETS_A_WINDOW_MIN
    assert mtu.probe_bytes(least - 1, 1.0) == 0
    assert mtu.probe_bytes(least, 1.0) == STEPS[step]


def test_one_probe_is_out_at_a_time_and_the_first_packet_may_be_one() -> None:
    mtu = _mtu()
    mtu.on_probe_sent(0, 1.0)
    assert mtu.probe_bytes(WIDE, 1.0) == 0
    mtu.on_probe_fate(acked=True)
    assert mtu.probe_bytes(WIDE, 1.0) == STEPS[1]


def test_a_size_is_tried_a_few_times_and_again_after_a_while() -> None:
    mtu = _mtu()
    for attempt in range(TRIES):
        assert _probe(mtu, attempt, 5.0 + attempt, acked=False) == STEPS[0]
    again = 5.0 + TRIES - 1 + AGAIN_S
    assert mtu.probe_bytes(WIDE, again - 0.001) == 0
    for attempt in range(TRIES):
        assert _probe(mtu, 10 + attempt, again, acked=False) == STEPS[0]
    assert mtu.probe_bytes(WIDE, again + AGAIN_S - 0.001) == 0
    assert mtu.probe_bytes(WIDE, again + AGAIN_S) == STEPS[0]
    assert mtu.confirmed == BASE


def test_each_size_has_all_its_tries() -> None:
    mtu = _mtu()
    for attempt in range(TRIES - 1):
        _probe(mtu, attempt, 1.0, acked=False)
    _probe(mtu, 10, 1.0, acked=True)
    for attempt in range(TRIES):
        assert _probe(mtu, 20 + attempt, 1.0, acked=False) == STEPS[1]
    assert mtu.probe_bytes(WIDE, 1.0) == 0
    assert mtu.confirmed == STEPS[0]


@pytest.mark.parametrize(
    ("window", "size"),
    [
        (0, BASE),
        (4 * BASE, BASE),
        (4 * STEPS[0] - 1, BASE),
        (4 * STEPS[0], STEPS[0]),
        (4 * STEPS[1] - 1, STEPS[0]),
        (4 * STEPS[1], STEPS[1]),
        (4 * STEPS[2], STEPS[2]),
        (4 * STEPS[2] + 3, STEPS[2]),
        (WIDE, STEPS[2]),
    ],
)
def test_packets_are_as_large_as_was_found_where_the_window_holds_a_few(window: int, size: int) -> None:
    assert _found(3).packet_bytes(window) == size
    assert _mtu().packet_bytes(window) == BASE


def test_what_was_found_is_used_whole_where_it_is_no_step() -> None:
    mtu = _found()
    mtu.allow(9_000)
    assert mtu.packet_bytes(4 * 9_000) == 9_000
    assert mtu.packet_bytes(4 * 9_000 - 1) == STEPS[1]
    assert mtu.packet_bytes(4 * STEPS[1] - 1) == STEPS[0]


def _lose(mtu: PathMtu, *numbers: int, at: float = 10.0) -> None:
    for number in numbers:
        mtu.on_lost(number, at)


def test_a_few_large_packets_lost_in_a_row_are_a_hole_and_fewer_are_not() -> None:
    mtu = _found()
    _lose(mtu, *range(100, 100 + HOLE - 1))
    assert (mtu.confirmed, mtu.holes) == (STEPS[-1], 0)
    _lose(mtu, 100 + HOLE)
    assert (mtu.confirmed, mtu.holes) == (BASE, 1)
    assert mtu.probe_bytes(WIDE, 10.0 + HOLE_S - 0.001) == 0
    assert mtu.probe_bytes(WIDE, 10.0 + HOLE_S) == STEPS[0]


def test_one_that_arrives_ends_the_row() -> None:
    mtu = _found()
    _lose(mtu, *range(100, 100 + HOLE - 1))
    mtu.on_carried(150)
    _lose(mtu, *range(120, 120 + HOLE), 150)
    _lose(mtu, *range(151, 151 + HOLE - 1))
    assert mtu.holes == 0
    mtu.on_carried(140)
    mtu.on_carried(150)
    _lose(mtu, 160)
    assert mtu.holes == 1, "an older one that arrived says nothing of the newer"


def test_what_is_as_small_as_all_paths_carry_makes_no_hole() -> None:
    mtu = _mtu()
    _lose(mtu, *range(100, 110))
    assert mtu.holes == 0
    _probe(mtu, 200, 1.0, acked=True)
    _lose(mtu, *range(300, 300 + HOLE - 1))
    assert mtu.holes == 0


def test_the_first_packet_of_all_may_be_lost_as_well() -> None:
    mtu = _found()
    _lose(mtu, *range(HOLE))
    assert mtu.holes == 1


def test_each_hole_doubles_the_pause_up_to_the_time_of_a_search() -> None:
    mtu, now = _mtu(), 1.0
    for hole in range(14):
        assert _probe(mtu, 1_000 * hole, now, acked=True) == STEPS[0]
        _lose(mtu, *range(1_000 * hole + 1, 1_000 * hole + 1 + HOLE), at=now)
        assert (mtu.holes, mtu.confirmed) == (hole + 1, BASE)
        pause = min(HOLE_S * 2**hole, AGAIN_S)
        assert mtu.probe_bytes(WIDE, now + pause - 0.001) == 0
        now += pause
        assert mtu.probe_bytes(WIDE, now) == STEPS[0]


def test_what_was_given_up_without_an_answer_counts_as_lost_once_the_peer_answers() -> None:
    mtu = _found()
    mtu.on_carried(50)
    mtu.unanswered = HOLE - 1
    mtu.on_answered(7.0)
    assert (mtu.unanswered, mtu.holes) == (0, 0)
    mtu.on_answered(7.0)
    assert mtu.holes == 0
    mtu.unanswered = 1
    mtu.on_answered(8.0)
    assert mtu.holes == 1
    assert mtu.probe_bytes(WIDE, 8.0 + HOLE_S - 0.001) == 0
    assert mtu.probe_bytes(WIDE, 8.0 + HOLE_S) == STEPS[0]


def test_what_was_given_up_counts_no_more_once_a_large_one_arrives() -> None:
    mtu = _found()
    mtu.unanswered = HOLE
    mtu.on_carried(50)
    assert mtu.unanswered == 0
    mtu.unanswered = HOLE
    mtu.on_carried(49)
    assert mtu.unanswered == HOLE


def test_on_another_way_all_begins_anew_at_once_and_what_went_the_old_one_tells_nothing() -> None:
    mtu = _found(2)
    mtu.on_probe_sent(100, 5.0)
    _lose(mtu, *range(60, 60 + HOLE - 1))
    mtu.unanswered = 2
    mtu.begin_anew(110)
    assert (mtu.confirmed, mtu.unanswered, mtu.holes) == (BASE, 0, 0)
    mtu.on_probe_fate(acked=True)
    assert (mtu.confirmed, mtu.probe_number) == (BASE, -1)
    assert _probe(mtu, 111, 5.0, acked=True) == STEPS[0]
    _lose(mtu, *range(100, 110))
    assert mtu.holes == 0
    _lose(mtu, *range(110, 110 + HOLE))
    assert mtu.holes == 1
    mtu.begin_anew(120)
    assert mtu.probe_bytes(WIDE, 0.0) == STEPS[0], "no pause is due of a way that is used no more"


def test_a_probe_that_went_the_old_way_and_is_lost_costs_no_try() -> None:
    mtu = _mtu()
    mtu.on_probe_sent(1, 5.0)
    mtu.begin_anew(2)
    mtu.on_probe_fate(acked=False)
    for attempt in range(TRIES):
        assert _probe(mtu, 10 + attempt, 6.0, acked=False) == STEPS[0]
    assert mtu.probe_bytes(WIDE, 6.0) == 0


def test_an_older_way_is_not_gone_back_to() -> None:
    mtu = _found()
    mtu.on_carried(500)
    mtu.begin_anew(400)
    _probe(mtu, 600, 1.0, acked=True)
    _lose(mtu, *range(490, 501))
    assert mtu.holes == 0
