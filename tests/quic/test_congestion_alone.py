"""The controller of game flows step by step: when its window grows and by how much, what makes it smaller, and what it takes back."""

from __future__ import annotations

import pytest

from gateway.quic.connection.congestion import RealtimeCongestion, congestion

MTU = 1_200
FIRST, LEAST = 10 * MTU, 2 * MTU


def _fresh() -> RealtimeCongestion:
    return RealtimeCongestion(MTU)


def _limited(control: RealtimeCongestion, now: float = 1.0) -> RealtimeCongestion:
    """Its window holds the flow back now, and nothing is in flight."""
    control.in_flight = 0
    control.on_sent(control.window, now)
    control.in_flight = 0
    return control


def _after_slow_start(window: int = FIRST) -> RealtimeCongestion:
    control = _fresh()
    control.window = control.ssthresh = window
    return _limited(control)


def _grown(control: RealtimeCongestion, size: int, sent_at: float = 1.0) -> int:
    before = control.window
    control.on_acked(size, sent_at, sent_at + 0.1)
    return control.window - before


# -- growth -----------------------------------------------------------------------------------


def test_it_begins_with_ten_packets_and_counts_what_is_in_flight() -> None:
    control = _fresh()
    assert (control.window, control.ssthresh, control.in_flight) == (FIRST, None, 0)
    control.on_sent(500, 1.0)
    control.on_sent(700, 1.0)
    control.on_acked(400, 1.0, 1.1)
    control.on_lost(300, 1.0, 1.1)
    assert control.in_flight == 500
    assert isinstance(congestion("realtime", MTU), RealtimeCongestion)


@pytest.mark.parametrize(("size", "grows"), [(4_799, False), (4_800, False), (4_801, True), (12_000, True)])
def test_in_slow_start_half_a_window_in_flight_holds_a_flow_back(size: int, grows: bool) -> None:
    control = _fresh()
    control.on_sent(size, 1.0)
    assert _grown(control, 1_000) == 1_000 * grows


@pytest.mark.parametrize(("size", "grows"), [(4_801, False), (9_600, False), (9_601, True)])
def test_after_it_a_window_in_flight_but_for_two_packets_does(size: int, grows: bool) -> None:
    control = _fresh()
    control.ssthresh = FIRST
    control.on_sent(size, 1.0)
    assert (_grown(control, MTU) > 0) == grows


@pytest.mark.parametrize(("ssthresh", "grows"), [(12_001, True), (12_000, False), (11_999, False)])
def test_below_its_threshold_a_flow_is_in_slow_start_again(ssthresh: int, grows: bool) -> None:
    control = _fresh()
    control.ssthresh = ssthresh
    control.on_sent(4_801, 1.0)
    assert (_grown(control, MTU) > 0) == grows


def test_what_is_sent_a_round_trip_after_the_window_held_it_back_shows_no_need_for_more() -> None:
    control = _limited(_fresh())
    assert _grown(control, 100, 1.1) == 100, "a tenth of a second until one was measured"
    assert _grown(control, 100, 1.101) == 0
    control.on_rtt(0.2, 0.2, 0.2, 1.0)
    assert _grown(control, 100, 1.2) == 100
    assert _grown(control, 100, 1.201) == 0
    assert _grown(_fresh(), 100) == 0


def test_slow_start_ends_at_the_threshold_and_the_rest_of_an_ack_counts_as_behind_it() -> None:
    control = _fresh()
    control.ssthresh = FIRST + 500
    _limited(control)
    assert _grown(control, 400) == 400
    assert _grown(control, 100) == 100
    control.ssthresh = control.window + 100
    assert _grown(control, 1_300) == 100 + 2 * MTU * 1_200 // (FIRST + 600)


def test_after_slow_start_it_grows_by_two_packets_a_round_and_loses_no_byte_of_it() -> None:
    control = _after_slow_start()
    grown = sum(_grown(control, 7) for _ in range(FIRST // 7))
    assert 2 * MTU * 0.85 < grown < 2 * MTU
    again = _after_slow_start()
    assert _grown(again, MTU) == 240
    assert again.window == 12_240
    assert _grown(again, MTU) == 2_400 * 1_200 // 12_240
    left = 2_400 * 1_200 - 12_240 * 235
    assert _grown(again, MTU) == (left + 2_400 * 1_200) // 12_475


@pytest.mark.parametrize(
    ("rounds", "factor"), [(6, 1), (7, 2), (14, 2), (15, 4), (23, 8), (47, 64), (55, 64), (80, 64)]
)
def test_growth_doubles_after_each_eight_quiet_rounds_up_to_a_bound(rounds: int, factor: int) -> None:
    control = _fresh()
    for n in range(rounds + 1):
        control.on_rtt(0.1, 0.1, 0.1, 1.0 + n * 0.2)
    control.window = control.ssthresh = 1_200_000
    _limited(control, 100.0)
    assert _grown(control, 12_000, 100.0) == 2_400 * factor // 100


# -- losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "acked", "shrinks"),
    [
        (2_999, 0, False),
        (3_000, 0, True),
        (3_000, 8_026, True),
        (3_000, 8_027, False),
        (12_000, 70_052, True),
        (12_000, 70_053, False),
    ],
)
def test_losses_above_a_tenth_and_chance_make_it_give_way(lost: int, acked: int, shrinks: bool) -> None:
    """Lost less the square root of lost packets, of all: 3,000 - 1,897.4 bytes are a tenth of 11,026.3."""
    control = _fresh()
    control.on_acked(acked, 0.5, 0.6)
    control.on_lost(lost, 0.5, 1.0)
    assert control.window == (8_400 if shrinks else FIRST)
    assert control.ssthresh == (8_400 if shrinks else None)


def test_losses_of_the_same_round_make_it_give_way_once_and_count_no_more() -> None:
    control = _fresh()
    control.on_lost(3_000, 0.9, 1.0)
    assert control.window == 8_400
    for _ in range(3):
        control.on_lost(3_000, 1.0, 1.1)
    assert control.window == 8_400
    control.on_lost(1, 1.001, 1.1)
    assert control.window == 5_880
    control.on_lost(2_999, 1.2, 1.3)
    assert control.window == 5_880, "what was lost before counts no more"
    control.on_lost(1, 1.3, 1.4)
    assert control.window == 4_116


def test_it_gives_way_to_no_less_than_two_packets() -> None:
    control = _fresh()
    for n in range(1, 9):
        control.on_lost(30_000, n + 0.5, n + 0.6)
    assert control.window == control.ssthresh == LEAST


def test_what_was_sent_before_it_gave_way_lets_it_grow_no_more() -> None:
    control = _limited(_fresh(), 1.0)
    control.on_lost(3_000, 0.9, 1.0)
    assert _grown(control, MTU, 1.0) == 0
    assert _grown(control, MTU, 1.001) > 0


@pytest.mark.parametrize(
    ("window", "in_flight", "sent_at", "gives_way"),
    [
        (2 * FIRST, FIRST, 1.0, False),
        (2 * FIRST, FIRST + 1, 1.0, True),
        (2 * FIRST, FIRST + 1, 1.1, True),
        (2 * FIRST, FIRST + 1, 1.101, False),
        (FIRST, FIRST, 1.0, False),
        (FIRST + 2, FIRST, 1.0, True),
    ],
)
def test_a_flow_that_fills_a_wide_window_gives_way_to_three_in_a_hundred(
    window: int, in_flight: int, sent_at: float, gives_way: bool
) -> None:
    control = _after_slow_start(window)
    control.on_acked(40_000, 0.0, 1.0)
    window = control.window
    control.in_flight = in_flight + 4_000
    control.on_lost(4_000, sent_at, 1.2)
    assert (control.window < window) == gives_way


def test_in_slow_start_only_a_tenth_counts_and_a_flow_that_was_never_held_back_is_no_bulk() -> None:
    for control in (_limited(_fresh()), _fresh()):
        control.window = 2 * FIRST
        control.on_acked(40_000, 0.0, 1.0)
        control.in_flight = 2 * FIRST
        window = control.window
        control.on_lost(4_000, 1.0, 1.2)
        assert control.window == window
    control = _fresh()
    control.window = control.ssthresh = 2 * FIRST
    control.on_acked(40_000, 0.0, 1.0)
    control.in_flight = 2 * FIRST
    control.on_lost(4_000, 0.05, 1.2)
    assert control.window == 2 * FIRST


def test_losses_fade_a_quarter_a_round() -> None:
    """Of 4,000 bytes lost 3,000 count after one round, and fewer than are believed after two."""
    for rounds, shrinks in ((1, True), (2, False)):
        control = _fresh()
        control.on_rtt(0.1, 0.1, 0.1, 0.5)
        control.on_acked(100_000, 0.5, 0.6)
        control.on_lost(3_999, 0.5, 0.6)
        for n in range(rounds):
            control.on_rtt(0.1, 0.1, 0.1, 0.7 + 0.2 * n)
        assert control.window == FIRST
        control.on_acked(-int(100_000 * 0.75**rounds), 0.0, 1.0)
        control.on_lost(1, 2.0, 2.0)
        assert (control.window < FIRST) == shrinks


def test_what_arrived_fades_as_well() -> None:
    control = _fresh()
    control.on_rtt(0.1, 0.1, 0.1, 0.5)
    control.on_acked(10_701, 0.5, 0.6)
    control.on_rtt(0.1, 0.1, 0.1, 0.7)
    control.on_lost(3_000, 0.8, 0.9)
    assert control.window == 8_400
    control = _fresh()
    control.on_rtt(0.1, 0.1, 0.1, 0.5)
    control.on_acked(10_703, 0.5, 0.6)
    control.on_rtt(0.1, 0.1, 0.1, 0.7)
    control.on_lost(3_000, 0.8, 0.9)
    assert control.window == FIRST


def test_where_nothing_gets_through_the_window_collapses_and_comes_back_as_in_slow_start() -> None:
    control = _limited(_fresh())
    control.window = 5 * FIRST
    control.on_lost(1_000, 1.0, 1.2, persistent=True)
    assert (control.window, control.ssthresh) == (LEAST, FIRST)
    _limited(control, 1.3)
    assert _grown(control, MTU, 1.3) == MTU
    control = _fresh()
    control.on_lost(3_000, 0.9, 1.0, persistent=True)
    _limited(control, 0.5)
    assert _grown(control, MTU, 0.5) == MTU, "and what was sent before counts"


# -- queues -----------------------------------------------------------------------------------


def _queued(control: RealtimeCongestion, rtt: float, rounds: int = 1, began: float = 1.0) -> float:
    """Rounds of 0.1 s, then so many of another round trip; when the last of them ended."""
    control.on_rtt(0.1, 0.1, 0.1, began)
    control.on_rtt(0.1, 0.1, 0.1, began + 0.2)
    now = began + 0.2
    for _ in range(rounds):
        now += 0.4
        control.on_rtt(rtt, rtt, rtt, now)
    return now


@pytest.mark.parametrize(
    ("rtt", "window"),
    [
        (0.149, 60_000),
        (0.1501, 35_976),
        (0.16, 33_750),
        (0.18, 30_000),
        (0.19, 30_000),
        (0.25, 30_000),
        (0.09, 60_000),
    ],
)
def test_in_slow_start_one_round_of_a_queue_ends_it_with_what_fills_the_path(rtt: float, window: int) -> None:
    """Nine tenths of the share that the smallest round trip has of this one, but no less than half."""
    control = _fresh()
    control.window = 60_000
    _queued(control, rtt)
    assert (control.window, control.ssthresh) == (window, None if window == 60_000 else window)


def test_after_slow_start_two_rounds_of_a_queue_do_and_one_stops_its_growth() -> None:
    control = _after_slow_start(60_000)
    now = _queued(control, 0.18)
    assert control.window == 60_000
    _limited(control, now)
    assert _grown(control, MTU, now) == 0
    control.on_rtt(0.18, 0.18, 0.18, now + 0.4)
    assert control.window == control.ssthresh == 30_000
    control.on_rtt(0.18, 0.18, 0.18, now + 0.8)
    assert control.window == 30_000, "this round measured what was sent before"
    control.on_rtt(0.18, 0.18, 0.18, now + 1.2)
    assert control.window == 15_000


def test_a_queue_that_goes_lets_it_grow_again() -> None:
    control = _after_slow_start(60_000)
    now = _queued(control, 0.18)
    control.on_rtt(0.1, 0.1, 0.1, now + 0.4)
    _limited(control, now + 0.4)
    assert _grown(control, MTU, now + 0.4) == 2 * MTU * MTU // 60_000
    control.on_rtt(0.18, 0.18, 0.18, now + 0.8)
    assert control.window == 60_048, "two in a row are two in a row"


@pytest.mark.parametrize(
    ("rtt", "before", "window"),
    [
        *((0.19, FIRST + 600, FIRST), (0.19, FIRST - 600, FIRST - 600), (0.21, FIRST, 6_000)),
        *(
            (0.2, FIRST, FIRST),
            (0.1 + 0.5 * 0.1, 60_000, 60_000),
        ),  # a tenth of a second is not long; what is just allowed is none
    ],
)
def test_a_short_queue_leaves_it_what_a_tick_needs_and_a_long_one_does_not(
    rtt: float, before: int, window: int
) -> None:
    control = _fresh()
    control.window = before
    _queued(control, rtt)
    assert control.window == window


@pytest.mark.parametrize(
    ("rtt", "queue", "shrinks"),
    [(0.01, 0.0249, False), (0.01, 0.0251, True), (0.2, 0.299, False), (0.2, 0.301, True)],
)
def test_a_queue_is_a_tick_at_least_and_half_a_round_trip(rtt: float, queue: float, shrinks: bool) -> None:
    control = _fresh()
    control.window = 60_000
    for n in range(2):
        control.on_rtt(rtt, rtt, rtt, 1.0 + n)
    control.on_rtt(queue, queue, queue, 3.0)
    assert (control.window < 60_000) == shrinks


def test_a_round_lasts_a_round_trip_and_a_delayed_ack_at_least() -> None:
    """The smallest round trip within it counts."""
    for rtt, ends in ((0.1, 1.1), (0.01, 1.025)):
        control = _fresh()
        control.window = 60_000
        control.on_rtt(rtt, rtt, rtt, 1.0)
        control.on_rtt(3 * rtt + 0.02, 0.0, 3 * rtt + 0.02, ends - 0.001)
        assert control.window == 60_000
        control.on_rtt(5 * rtt + 0.02, 0.0, 5 * rtt + 0.02, ends + 0.0001)
        least = 3 * rtt + 0.02
        assert control.window == int(60_000 * max(0.9 * rtt / least, 0.5))


def test_the_smallest_round_trip_is_believed_for_ten_seconds() -> None:
    for later, shrinks in ((9.9, True), (10.1, False)):
        control = _fresh()
        control.window = 60_000
        control.on_rtt(0.1, 0.1, 0.1, 1.0)
        control.on_rtt(0.16, 0.16, 0.16, 1.0 + later)
        assert (control.window < 60_000) == shrinks
    control = _fresh()
    control.window = 60_000
    control.on_rtt(0.1, 0.1, 0.1, 1.0)
    control.on_rtt(0.1, 0.1, 0.1, 9.0)
    control.on_rtt(0.16, 0.16, 0.16, 18.0)
    assert control.window < 60_000, "as small again is as good as new"


def test_what_a_queue_took_is_taken_back_by_a_quarter_a_round() -> None:
    control = _fresh()
    control.window = 60_000
    now = _queued(control, 0.18)
    assert control.window == 30_000
    for n in range(2):
        control.on_rtt(0.1, 0.1, 0.1, now + 0.4 + 0.4 * n)
    _limited(control, now + 0.9)
    assert _grown(control, 3_000, now + 0.9) == (60_000 - 30_000) // 4 * 3_000 // 30_000
    now += 0.9
    for n in range(2):
        control.on_rtt(0.18, 0.18, 0.18, now + 0.4 + 0.4 * n)
    assert control.window == int(30_750 * 0.5)
    for n in range(2):
        control.on_rtt(0.1, 0.1, 0.1, now + 1.6 + 0.4 * n)
    _limited(control, now + 2.1)
    held = int((30_750 + 60_000 * 0.7) / 2)
    assert _grown(control, 1_500, now + 2.1) == (held - 15_375) // 4 * 1_500 // 15_375


# -- what arrives at once -----------------------------------------------------------------------


def _arrives(control: RealtimeCongestion, size: int, path: float, now: float) -> None:
    """An ACK of packets whose path took so long."""
    control.on_acked(size, now - path, now)
    control.on_rtt(path, path, path, now)


def _away(
    size: int, *, after_s: float = 0.0, second: int = 0, path: float = 0.15, window: int = 60_000
) -> RealtimeCongestion:
    """After two rounds of 10 ms, a late one: of ``size`` bytes, and ``second`` bytes ``after_s`` later; and the ACK that ends it."""
    control = _fresh()
    _arrives(control, 100, 0.01, 1.0)
    control.on_acked(100, 1.99, 2.0)
    control.on_rtt(2.0, 0.01, 0.01, 2.0)  # so long is the round that begins
    control.window = control.ssthresh = window
    control.on_acked(size, 0.0, 3.0)
    control.on_rtt(path, path, path, 3.0)
    _arrives(control, second, path, 3.0 + after_s)
    _arrives(control, 100, path, 4.0)
    _arrives(control, 100, path, 5.0)
    return control


@pytest.mark.parametrize(
    ("size", "after_s", "second", "window"),
    [
        (54_600, 0.1, 0, 54_600),
        (54_601, 0.1, 0, 60_000),
        (30_000, 0.0049, 24_601, 60_000),
        (30_000, 0.0051, 24_601, 30_000),
        (24_601, 0.0051, 30_000, 30_000),
        (0, 0.0051, 54_601, 60_000),
    ],
)
def test_a_window_that_arrives_at_once_is_no_queue_and_what_arrives_at_once_stays_its_size(
    size: int, after_s: float, second: int, window: int
) -> None:
    """Eight packets more than three quarters of the window, within 5 ms."""
    assert _away(size, after_s=after_s, second=second).window == window


@pytest.mark.parametrize(
    ("size", "path", "window"),
    [(10_000, 0.1, 30_000), (40_000, 0.1, 40_000), (10_000, 0.2, 30_000), (40_000, 0.2, 40_000)],
)
def test_what_arrived_at_once_bounds_the_way_down_from_a_long_queue_too(
    size: int, path: float, window: int
) -> None:
    assert _away(size, path=path).window == window


def test_a_window_smaller_than_what_arrived_at_once_does_not_grow_by_a_queue() -> None:
    control = _away(9_000, window=8_000)
    assert control.window == 8_000
    grows = _limited(_away(9_600 + 6_001, window=8_000), 5.0)
    assert _grown(grows, MTU, 5.0) > 0, "no queue stands"
    stays = _limited(_away(9_600 + 6_000, window=8_000), 5.0)
    assert _grown(stays, MTU, 5.0) == 0, "one does"


def test_what_arrived_at_once_counts_for_the_round_it_came_in_and_the_next() -> None:
    control = _away(40_000)
    assert control.window == 40_000
    for n in range(4):
        _arrives(control, 100, 0.15, 6.0 + n)
        assert control.window == (40_000, 20_000, 20_000, 10_000)[n], "the round after a cut decides nothing"


# -- fades ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "ssthresh", "before", "after"),
    [
        (5_000, None, 30_000, (FIRST, None)),
        (5_000, 4_000, 30_000, (FIRST, 21_000)),
        (5_000, 25_000, 30_000, (FIRST, 25_000)),
        (5_000, 4_000, 8_000, (8_000, 5_600)),
        (20_000, 4_000, 30_000, (20_000, 21_000)),
        (30_000, 4_000, 30_000, (30_000, 4_000)),
        (31_000, None, 30_000, (31_000, None)),
    ],
)
def test_after_a_fade_it_comes_back_to_what_it_had_and_no_further_than_at_first(
    window: int, ssthresh: int | None, before: int, after: tuple[int, int | None]
) -> None:
    control = _fresh()
    control.window, control.ssthresh = window, ssthresh
    control.on_fade_over(before)
    assert (control.window, control.ssthresh) == after


def test_a_fade_behind_a_queue_gives_nothing_back() -> None:
    control = _after_slow_start(60_000)
    _queued(control, 0.18)
    control.window = 5_000
    control.on_fade_over(60_000)
    assert control.window == 5_000


@pytest.mark.parametrize("name", ["reno", "cubic"])
def test_those_of_aioquic_are_told_the_same(name: str) -> None:
    control = congestion(name, MTU)
    window = control.window
    control.on_sent(5_000, 1.0)
    assert control.in_flight == 5_000
    control.on_rtt(0.1, 0.1, 0.1, 1.1)
    control.on_acked(2_000, 1.0, 1.1)
    assert (control.in_flight, control.window) == (3_000, window + 2_000)
    control.on_lost(1_000, 1.05, 1.2, persistent=False)
    assert control.in_flight == 2_000
    assert control.window < window + 2_000
    assert control.ssthresh == control.window  # type: ignore[attr-defined]
    control.on_lost(1_000, 1.3, 1.4, persistent=True)
    assert control.window == 2 * MTU
    control.window, control.in_flight = 7_000, 10
    assert (control.window, control.in_flight) == (7_000, 10)
