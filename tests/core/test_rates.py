"""How much goes through a world, by a clock that is an argument."""

from __future__ import annotations

from gateway.core.counters import Counters
from gateway.core.rates import Rates
from gateway.limits import RATES_STEP_S, RATES_WINDOW_S


def rates() -> tuple[Rates, Counters]:
    counters = Counters()
    counters.frames, counters.received, counters.received_bytes, counters.delivered = 5, 10, 1_000, 20
    return Rates(100.0, counters), counters


def add(counters: Counters, times: int = 1) -> None:
    counters.frames += times
    counters.received += 2 * times
    counters.received_bytes += 300 * times
    counters.delivered += 4 * times


def test_a_second_of_frames_is_told_by_the_second() -> None:
    told, counters = rates()
    add(counters, 60)
    assert told.as_dict(102.0) == {
        "frames_per_s": 30.0,
        "messages_per_s": 60.0,
        "bytes_per_s": 9_000.0,
        "delivered_per_s": 120.0,
    }


def test_at_the_moment_when_it_begins_nothing_is_divided_by_nothing() -> None:
    told, counters = rates()
    add(counters)
    assert told.as_dict(100.0)["frames_per_s"] == 1_000.0


def test_only_the_last_seconds_count() -> None:
    told, counters = rates()
    add(counters, 1_000)
    now = 100.0
    for _ in range(round(RATES_WINDOW_S / RATES_STEP_S)):
        now += RATES_STEP_S
        told.sample(now)
    assert told.as_dict(now)["frames_per_s"] == round(1_000 / RATES_WINDOW_S, 2), "the window's own length"
    now += RATES_STEP_S
    told.sample(now)
    assert told.as_dict(now)["frames_per_s"] > 0, "the sample at the window's edge still counts"
    told.sample(now + RATES_STEP_S / 4)
    assert told.as_dict(now + RATES_STEP_S / 4)["frames_per_s"] == 0.0


def test_what_stood_still_for_long_is_told_since_the_last_sample() -> None:
    told, counters = rates()
    add(counters, 80)
    assert told.as_dict(100.0 + 4 * RATES_WINDOW_S)["frames_per_s"] == round(80 / (4 * RATES_WINDOW_S), 2)


def test_samples_come_no_sooner_than_their_step() -> None:
    told, counters = rates()
    for step in range(1, 400):
        add(counters)
        told.sample(100.0 + step * RATES_STEP_S / 100)
    add(counters)
    now = 100.0 + 4 * RATES_STEP_S
    assert told.as_dict(now)["frames_per_s"] == round(400 / (4 * RATES_STEP_S), 2)


def test_what_came_between_two_steps_is_no_sample_of_its_own() -> None:
    told, counters = rates()
    told.sample(100.0 + 0.4 * RATES_STEP_S)
    add(counters, 53)
    now = 100.0 + RATES_WINDOW_S + 0.6 * RATES_STEP_S
    assert told.as_dict(now)["frames_per_s"] == round(53 / (RATES_WINDOW_S + 0.6 * RATES_STEP_S), 2)


def test_asking_forgets_what_is_older_than_the_window() -> None:
    told, counters = rates()
    add(counters, 100)
    told.sample(100.0 + RATES_STEP_S)
    add(counters, 7)
    assert told.as_dict(100.0 + 3 * RATES_WINDOW_S)["frames_per_s"] == round(
        7 / (3 * RATES_WINDOW_S - RATES_STEP_S), 2
    )


def test_figures_have_two_places_and_those_of_bytes_one() -> None:
    told, counters = rates()
    add(counters)
    assert told.as_dict(100.7) == {
        "frames_per_s": 1.43,
        "messages_per_s": 2.86,
        "bytes_per_s": 428.6,
        "delivered_per_s": 5.71,
    }
