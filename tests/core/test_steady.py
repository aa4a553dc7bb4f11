"""The times of a recording pass as its ticks do, whatever was done to the clocks meanwhile."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.steady import SteadyTime
from gateway.limits import REPLAY_WAIT_US_MAX, STEADY_US

TICK_US = 16_667
HOUR_US = 3_600_000_000


def waits(rows: list[tuple[int, int, int]]) -> list[int]:
    """Between rows of (epoch, tick, recorded time), in steady time."""
    steady = SteadyTime()
    times = [steady.follow((epoch, tick), raw_us) for epoch, tick, raw_us in rows]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


@pytest.mark.parametrize("step_us", [HOUR_US, -HOUR_US, 3_000_000, -50_000, -3_000_000])
def test_a_step_of_the_clock_takes_a_tick(step_us: int) -> None:
    rows = [(1, tick, tick * TICK_US + (step_us if tick > 60 else 0)) for tick in range(1, 121)]
    assert waits(rows) == [TICK_US] * 119


@pytest.mark.parametrize("step_us", [HOUR_US, -HOUR_US])
def test_backwards_it_is_the_same(step_us: int) -> None:
    rows = [(1, tick, tick * TICK_US + (step_us if tick > 60 else 0)) for tick in range(1, 121)]
    steady = SteadyTime()
    for epoch, tick, raw_us in rows[:30]:
        steady.follow((epoch, tick), raw_us)
    steady.start(*((rows[-1][0], rows[-1][1]), rows[-1][2]))
    times = [steady.follow((epoch, tick), raw_us, backwards=True) for epoch, tick, raw_us in rows[-2::-1]]
    assert times == [rows[-1][2] - n * TICK_US for n in range(1, 120)]


def test_a_silence_in_which_the_ticks_went_on_is_waited_for() -> None:
    rows = [(1, tick, tick * TICK_US) for tick in [*range(1, 61), *range(661, 700)]]
    assert waits(rows)[59] == 601 * TICK_US


def test_a_publisher_of_few_frames_keeps_its_own_time_up_to_the_bound() -> None:
    rows = [(1, 1, 0), (1, 2, 1_500_000), (1, 3, 3_000_000), (1, 4, 10_000_000)]
    assert waits(rows) == [1_500_000, 1_500_000, REPLAY_WAIT_US_MAX]


def test_another_epoch_begins_without_a_long_wait() -> None:
    rows = [(1, tick, tick * TICK_US) for tick in range(1, 61)]
    assert waits([*rows, (2, 1, HOUR_US)])[-1] == REPLAY_WAIT_US_MAX
    assert waits([*rows, (2, 1, -HOUR_US)])[-1] == 0


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1 << 32), st.integers(0, 1 << 60)), max_size=50))
def test_time_never_runs_back_and_no_wait_is_longer_than_what_was_recorded(
    rows: list[tuple[int, int, int]],
) -> None:
    for (_, _, before), (_, _, after), wait in zip(rows, rows[1:], waits(rows), strict=False):
        assert 0 <= wait <= abs(after - before)


LONG_US = REPLAY_WAIT_US_MAX + 1


@pytest.mark.parametrize(
    ("steps", "waited_us"),
    [
        ([(1, REPLAY_WAIT_US_MAX)], REPLAY_WAIT_US_MAX),
        ([(1, 16_000), (1, REPLAY_WAIT_US_MAX)], REPLAY_WAIT_US_MAX),
        ([(1, 16_000), (1, LONG_US)], 16_000),
        ([(1, 16_000), (3, LONG_US)], 48_000),
        ([(2, 32_000), (1, LONG_US)], 16_000),
        ([(1, 16_000), (1, 32_000), (1, LONG_US)], 17_000),
        ([(1, 16_000), (1, 0), (1, LONG_US)], 15_000),
        ([(1, 16_000), (0, 9_000), (1, LONG_US)], 16_000),
        ([(1, 16_000), (-1, 9_000), (1, LONG_US)], 16_000),
        ([(1, 16_000), (0, LONG_US)], 0),
        ([(1, 16_000), (-5, LONG_US)], 0),
        ([(1, 16_000), (1_000, LONG_US)], LONG_US),
        ([(1, 16_000), (1, -1)], 1),
        ([(1, 16_000), (1, -20_000)], 16_000),
        ([(1, 16_000), (0, -20_000)], 0),
        ([(1, STEADY_US), (1, LONG_US)], STEADY_US),
        ([(1, STEADY_US + 1), (1, LONG_US)], REPLAY_WAIT_US_MAX),
        ([(1, -5)], 0),
        ([(0, LONG_US)], REPLAY_WAIT_US_MAX),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_how_long_a_row_is_waited_for(steps: list[tuple[int, int]], waited_us: int, backwards: bool) -> None:
    """``steps``: ticks and microseconds by which each row follows."""
    steady, place, sign = SteadyTime(), (5, 1_000), -1 if backwards else 1
    raw_us = 9_000_000
    assert steady.now_us == steady.shift_us == 0
    before = steady.follow(place, raw_us, backwards=backwards)
    assert (before, steady.shift_us) == (raw_us, 0)
    for ticks, passed_us in steps:
        before = steady.now_us
        place = (5, place[1] + sign * ticks)
        raw_us += sign * passed_us
        assert steady.follow(place, raw_us, backwards=backwards) == steady.now_us
        assert steady.shift_us == raw_us - steady.now_us
    assert sign * (steady.now_us - before) == waited_us


def test_another_epoch_teaches_no_rate() -> None:
    steady = SteadyTime()
    for place, raw_us in (((1, 1), 0), ((1, 2), 16_000), ((2, 7), 1_916_000)):
        steady.follow(place, raw_us)
    before = steady.now_us
    assert steady.follow((2, 8), 1_916_000 + LONG_US) - before == 16_000
