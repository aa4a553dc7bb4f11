"""The bounds of what is taken for loss, a queue, or a full path: on each, and beside it. Times are exact in binary."""

from __future__ import annotations

import pytest

from gateway.core.ports import RoundTrips
from gateway.core.redundancy import LossVerdict, LossWatch, affordable
from gateway.limits import (
    REDUNDANCY_CALM_S,
    REDUNDANCY_LEAST_S,
    REDUNDANCY_MEMORY_S,
    REDUNDANCY_PAUSE_S_FIRST,
    REDUNDANCY_PAUSE_S_MAX,
    REDUNDANCY_PROVEN_S,
    REDUNDANCY_QUEUE_S,
    REDUNDANCY_SPARE_PACKETS,
)

QUIET, AGAIN, CONGESTED = LossVerdict


class Watch:
    """A watch, what it was told to be sent, and a shorter way to look."""

    def __init__(self, before: int = 0) -> None:
        self.watch, self.sent = LossWatch(before), before

    def look(
        self,
        sent: int,
        lost: int,
        mono: float = 100.0,
        trips: RoundTrips | None = None,
        *,
        since_s: float = 0.0,
        in_a_row: int = 0,
    ) -> LossVerdict:
        """So many more were sent, and lost; of those, so many right after another one."""
        self.sent += sent
        number = 10 * self.sent
        for at in range(lost):
            number += 1 if at < in_a_row + 1 else 2
            self.watch.lost(number)
        return self.watch.look(self.sent, trips, mono, since_s)


@pytest.mark.parametrize(
    ("room", "level", "goes"), [(0, 0, True), (-1, 0, False), (0, -1, False), (-1, -1, False), (9, 9, True)]
)
def test_what_is_affordable_to_the_byte(room: int, level: int, goes: bool) -> None:
    needs = 300 + 500
    assert affordable(300, 500, needs + REDUNDANCY_SPARE_PACKETS * 1_200 + room, needs + level, 1_200) is goes


@pytest.mark.parametrize(
    ("sent", "lost", "verdict"),
    [
        (1_000, 0, QUIET),
        (1_001, 3, QUIET),
        (1_000, 3, AGAIN),
        (101, 15, AGAIN),
        (100, 15, CONGESTED),
        (50, 7, AGAIN),
        (8, 7, AGAIN),
        (8, 8, CONGESTED),
        (0, 7, AGAIN),
        (0, 8, CONGESTED),
    ],
)
def test_from_which_share_loss_is_seen_and_heavy(sent: int, lost: int, verdict: LossVerdict) -> None:
    assert Watch().look(sent, lost) is verdict


@pytest.mark.parametrize(("sent", "verdict"), [(1_000, AGAIN), (1_001, QUIET)])
def test_loss_that_was_seen_is_seen_down_to_half_of_that(sent: int, verdict: LossVerdict) -> None:
    watch = Watch()
    assert watch.look(1_000, 3) is AGAIN
    assert watch.look(sent, 0) is verdict


@pytest.mark.parametrize(("before", "verdict"), [(2_000, AGAIN), (2_002, QUIET)])
def test_what_was_sent_before_the_first_loss_counts_as_far_as_it_is_young(
    before: int, verdict: LossVerdict
) -> None:
    assert Watch(before).look(0, 3, since_s=2 * REDUNDANCY_MEMORY_S) is verdict
    assert Watch(before // 2).look(0, 3, since_s=REDUNDANCY_MEMORY_S / 2) is verdict


def test_losses_count_less_as_time_goes_by_and_are_over_when_little_is_left() -> None:
    watch = Watch()
    assert not watch.watch.is_over
    watch.look(1_000, 1)
    assert not watch.watch.is_over
    watch.look(1_000, 0, 100.0 + 3.75 * REDUNDANCY_MEMORY_S)
    assert not watch.watch.is_over
    watch.look(0, 0, 100.0 + 4 * REDUNDANCY_MEMORY_S)
    assert watch.watch.is_over
    watch.watch.lost(7)
    assert not watch.watch.is_over, "one more was lost"
    watch.watch.doubt(1)
    assert watch.watch.is_over


def test_a_share_is_of_what_was_sent_lately() -> None:
    watch = Watch()
    watch.look(1_000, 100)
    assert watch.watch.share == 0.1
    watch.look(1_000, 0, 100.0 + 100 * REDUNDANCY_MEMORY_S)
    watch.look(1_000, 20, 100.0 + 100 * REDUNDANCY_MEMORY_S)
    assert watch.watch.share == pytest.approx(0.01)
    watch.look(500, 5, 100.0 + 101 * REDUNDANCY_MEMORY_S)
    assert watch.watch.share == pytest.approx((20 / 2.718281828 + 5) / (2_000 / 2.718281828 + 500))


@pytest.mark.parametrize(
    ("lost", "doubted", "verdict"), [(8, 5, AGAIN), (8, 6, QUIET), (3, 9, QUIET), (8, 0, AGAIN)]
)
def test_what_is_doubted_was_not_lost(lost: int, doubted: int, verdict: LossVerdict) -> None:
    watch = Watch()
    for number in range(lost):
        watch.watch.lost(10 * number)
    watch.watch.doubt(doubted)
    assert watch.look(1_000, 0) is verdict


@pytest.mark.parametrize(
    ("sent", "lost", "in_a_row", "mends"),
    [
        (100, 3, 0, True),
        (99, 3, 0, False),
        (1_000, 3, 2, True),
        (1_000, 4, 1, True),
        (1_000, 4, 2, False),
        (1_000, 12, 3, True),
        (1_000, 12, 4, False),
    ],
)
def test_a_parity_mends_single_losses_and_a_few_in_a_row(
    sent: int, lost: int, in_a_row: int, mends: bool
) -> None:
    watch = Watch()
    watch.look(sent, lost, in_a_row=in_a_row)
    assert watch.watch.parity_mends is mends


def test_losses_in_a_row_are_remembered_as_long_as_losses() -> None:
    watch = Watch()
    watch.look(2_000, 20, in_a_row=4)
    assert watch.watch.parity_mends
    watch.look(0, 0, 100.0 + REDUNDANCY_MEMORY_S)
    assert watch.watch.parity_mends
    bursts = Watch()
    bursts.look(4_000, 40, in_a_row=20)
    bursts.look(4_000, 40, in_a_row=20)
    assert not bursts.watch.parity_mends


# --- queues -------------------------------------------------------------------------------------


def lossy(*looks: tuple[float, float], least_s: float) -> list[LossVerdict]:
    """What is said of a path that always loses a little, at (mono, round trip)."""
    watch = Watch()
    return [watch.look(1_000, 20, mono, RoundTrips(trip_s, least_s)) for mono, trip_s in looks]


@pytest.mark.parametrize(
    ("least_s", "trip_s", "verdict"),
    [
        (0.0, REDUNDANCY_QUEUE_S, AGAIN),
        (0.0, REDUNDANCY_QUEUE_S + 0.001, CONGESTED),
        (1.0, 1.09375, AGAIN),
        (1.0, 1.125, CONGESTED),
    ],
)
def test_how_far_round_trips_may_stand_above_the_smallest(
    least_s: float, trip_s: float, verdict: LossVerdict
) -> None:
    assert lossy((100.0, trip_s), least_s=least_s) == [verdict]


@pytest.mark.parametrize(
    ("after_s", "verdict"),
    [(REDUNDANCY_CALM_S - 0.03125, CONGESTED), (REDUNDANCY_CALM_S, AGAIN), (REDUNDANCY_CALM_S + 1, AGAIN)],
)
def test_a_queue_that_is_gone_is_waited_out(after_s: float, verdict: LossVerdict) -> None:
    assert lossy((100.0, 0.125), (100.0 + after_s, 0.0625), least_s=0.0625) == [CONGESTED, verdict]


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        (((100.0, 0.125), (130.0, 0.125), (159.0, 0.125), (159.96875, 0.125)), CONGESTED),
        (((100.0, 0.125), (130.0, 0.125), (159.0, 0.125), (160.0, 0.125)), AGAIN),
        (((100.0, 0.0625), (219.5, 0.125)), CONGESTED),
        (((100.0, 0.0625), (220.0, 0.125)), AGAIN),
        (((100.0, 0.0625), (160.0, 0.125), (170.0, 0.125)), CONGESTED),
        (((100.0, 0.0625), (160.0, 0.125), (219.0, 0.125), (220.0, 0.125)), AGAIN),
        (((100.0, 0.125), (150.0, 0.0625), (170.0, 0.125)), CONGESTED),
    ],
)
def test_the_smallest_round_trip_is_of_the_last_one_or_two_minutes(
    looks: tuple[tuple[float, float], ...], verdict: LossVerdict
) -> None:
    assert REDUNDANCY_LEAST_S == 60.0
    assert lossy(*looks, least_s=0.0625)[-1] is verdict


def test_one_short_round_trip_lately_shows_that_no_queue_stands() -> None:
    looks = [(100.0, 0.0625), (100.0625, 0.125), (100.125, 0.125), (100.1875, 0.125), (100.25, 0.125)]
    assert lossy(*looks, least_s=0.0625) == [AGAIN, AGAIN, AGAIN, AGAIN, CONGESTED]


# --- pauses -------------------------------------------------------------------------------------


def test_what_became_heavy_by_saying_it_twice_is_tried_after_a_pause_and_then_after_ever_longer_ones() -> (
    None
):
    watch, now, pause_s, pauses = Watch(), 1_000.0, REDUNDANCY_PAUSE_S_FIRST, list[float]()
    while REDUNDANCY_PAUSE_S_MAX not in pauses[:-1]:
        assert watch.look(100, 1, now) is AGAIN
        assert watch.look(0, 40, now) is CONGESTED
        assert watch.look(0, 40, now + 1) is CONGESTED, "of this nothing was said twice: it adds no pause"
        assert watch.look(10_000, 60, now + pause_s - 0.5) is CONGESTED
        assert watch.look(0, 0, now + pause_s) is AGAIN
        pauses.append(pause_s)
        pause_s = min(2 * pause_s, REDUNDANCY_PAUSE_S_MAX)
        now += 4_096.0
        assert watch.look(1_000_000, 0, now - 1_024.0) is QUIET
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


@pytest.mark.parametrize(
    ("proven_s", "pause_s"),
    [
        (REDUNDANCY_PROVEN_S, 2 * REDUNDANCY_PAUSE_S_FIRST),
        (REDUNDANCY_PROVEN_S + 1, REDUNDANCY_PAUSE_S_FIRST),
    ],
)
def test_what_went_well_for_long_makes_the_pauses_short_again(proven_s: float, pause_s: float) -> None:
    watch = Watch()
    watch.look(100, 1, 1_000.0)
    watch.look(0, 40, 1_000.0)
    assert watch.look(10_000, 60, 1_500.0) is AGAIN
    now = 1_500.0 + proven_s
    assert watch.look(10_000, 60, now) is AGAIN
    assert watch.look(0, 10_000, now) is CONGESTED
    assert watch.look(1_000_000, 0, now + pause_s - 0.5) is CONGESTED
    assert watch.look(0, 0, now + pause_s) is AGAIN


def test_heavy_loss_before_anything_was_said_twice_begins_no_pause() -> None:
    watch = Watch()
    assert watch.look(1_000, 3) is AGAIN
    assert watch.look(9_000, 0) is QUIET
    assert watch.look(0, 4_000) is CONGESTED
    assert watch.look(100_000, 0) is AGAIN


def test_a_watch_is_not_over_before_its_pause_is() -> None:
    watch, now, pauses = Watch(), 1_000.0, (2.0, 4.0, 8.0, 16.0, 32.0)
    for _ in pauses:
        now += 128.0
        assert watch.look(20, 1, now) is AGAIN
        assert watch.look(0, 9, now) is CONGESTED
    watch.look(0, 0, now + pauses[-1])
    assert not watch.watch.is_over, "so little is left of what was lost"
    watch.look(0, 0, now + pauses[-1] + 0.5)
    assert watch.watch.is_over
