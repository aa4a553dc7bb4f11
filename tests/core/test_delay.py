"""Who may see the past only is given it in the query, and what is old enough does not depend on how clocks are set."""

from __future__ import annotations

import random
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delay import Behind, asked, at_least, delay_of, parse_delay
from gateway.core.options import parse_live_query
from gateway.core.replay import parse_query
from gateway.errors import BadInput
from gateway.limits import DELAY_S_MAX, DELAY_S_MIN

SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND


@pytest.mark.parametrize(
    "text", ["", "x", "-2", "0.5", "3601", "1e9", "nan", "inf", "2_0", "\u0662", "0x2", "2s"]
)
def test_a_delay_out_of_bounds_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(BadInput, match=r"delay_s=.* 1 to 3600"):
        parse_delay(text)


def test_a_delay_is_seconds_in_milliseconds_rounded_up() -> None:
    assert [parse_delay(text) for text in ("0", "0.0", "1", "2", "2.5", "1.0001", "3600")] == [
        0,
        0,
        1,
        2,
        2.5,
        1.001,
        3600,
    ]
    assert delay_of({}) == 0
    assert delay_of({"delay_s": "30"}) == 30


def test_a_session_takes_its_delay_from_the_query_and_a_publisher_has_none() -> None:
    assert parse_live_query("delay_s=2.5&zstd=1").delay_s == 2.5
    assert parse_live_query("delay_s=0").delay_s == 0
    with pytest.raises(BadInput, match="subscribe"):
        parse_live_query("role=publish&delay_s=2")
    assert parse_query("tick=5&paused=1&delay_s=9")[0].tick == 5


@pytest.mark.parametrize(
    ("query", "grant_s", "wanted_s"),
    [
        ("", 30, 30),
        ("delay_s=60", 30, 60),
        ("delay_s=5", 30, 30),
        ("delay_s=0", 30, 30),
        ("delay%5Fs=5&zstd=1", 30, 30),
        ("zstd=1&delay_s=2", 0.2, 2),
        ("", 0.2, DELAY_S_MIN),
        ("", 2.0004, 2.001),
        ("", DELAY_S_MAX, DELAY_S_MAX),
    ],
)
def test_a_visitor_sees_the_older_of_what_is_asked_and_allowed(
    query: str, grant_s: float, wanted_s: float
) -> None:
    made = at_least(query, grant_s)
    assert asked(made) == wanted_s
    rest = [pair for pair in parse_qsl(query) if pair[0] != "delay_s"]
    assert [pair for pair in parse_qsl(made) if pair[0] != "delay_s"] == rest


def test_a_visitor_without_a_bound_has_his_query_as_it_is() -> None:
    assert at_least("delay_s=2&x=%20", 0) == "delay_s=2&x=%20"


@pytest.mark.parametrize(
    "query", ["delay_s=2&delay_s=60", "delay_s=60&delay%5Fs=0", "delay_s=", "delay_s", "delay_s=x"]
)
def test_a_query_that_may_mean_two_delays_is_refused(query: str) -> None:
    with pytest.raises(BadInput, match="delay_s"):
        at_least(query, 30)


@given(st.text(alphabet="delay_s=&%5F0123+; ", max_size=40), st.floats(0.001, DELAY_S_MAX))
def test_whatever_the_query_says_what_is_read_from_it_is_never_sooner(query: str, grant_s: float) -> None:
    try:
        made = at_least(query, grant_s)
    except BadInput:
        return
    named = [value for name, value in parse_qsl(made, keep_blank_values=True) if name == "delay_s"]
    assert len(named) == 1
    assert parse_delay(named[0]) >= grant_s


def test_a_longer_delay_than_there_is_is_refused_and_not_cut() -> None:
    with pytest.raises(BadInput):
        asked(at_least("", DELAY_S_MAX + 1))


class Clock:
    """A wall clock that somebody sets, what it stamped, and what is true."""

    def __init__(self) -> None:
        self.mono, self.wall_us = 0.0, NOW
        self.behind = Behind(self.mono, self.wall_us)
        self.stamped: list[tuple[float, int]] = []

    def pass_by(self, seconds: float) -> None:
        """Time goes by, sixty rows a second, and the clock is looked at once a second."""
        for _ in range(round(seconds * 60)):
            self.mono += 1 / 60
            self.wall_us += SECOND // 60
            self.stamped.append((self.mono, self.wall_us))
            if len(self.stamped) % 60 == 0:
                self.look()

    def look(self) -> None:
        self.behind.saw(self.mono, self.wall_us)

    def set(self, by_s: float) -> None:
        self.wall_us += round(by_s * SECOND)

    def seen(self, delay_s: float) -> list[float]:
        """When the rows came that are shown now, as the recording is read: up to the first that is too young."""
        self.look()
        until_us = self.behind.horizon_us(delay_s)
        later = [at for at, (_, stamp) in enumerate(self.stamped) if stamp <= until_us]
        return [came for came, _ in self.stamped[: max(later, default=-1) + 1]]


def test_without_anybody_setting_it_the_horizon_is_the_clock_less_the_delay() -> None:
    clock = Clock()
    clock.pass_by(10)
    assert clock.behind.horizon_us(2.5) == clock.wall_us - 2_500_000


@pytest.mark.parametrize("by_s", [0.1, 1.0, 30.0, 3_600.0])
def test_a_clock_that_is_set_forwards_shows_nothing_sooner(by_s: float) -> None:
    clock = Clock()
    clock.pass_by(10)
    clock.set(by_s)
    for _ in range(50):
        clock.pass_by(0.1)
        assert max(clock.seen(2.0)) <= clock.mono - 2.0 + 1e-6
    assert max(clock.seen(2.0)) >= clock.mono - 2.0 - 1.1, "and before long all that is old enough"


def test_a_clock_that_is_set_back_holds_up_the_view_for_no_longer_than_that() -> None:
    clock = Clock()
    clock.pass_by(10)
    clock.set(-5.0)
    clock.pass_by(7.1)
    seen = clock.seen(2.0)
    assert clock.mono - 2.1 <= max(seen) <= clock.mono - 2.0 + 1e-6


def test_a_clock_set_wrongly_and_right_again_is_as_if_nobody_had() -> None:
    clock = Clock()
    clock.pass_by(10)
    clock.set(3_600.0)
    clock.pass_by(3)
    clock.set(-3_600.0)
    clock.pass_by(3)
    assert clock.behind.horizon_us(2.0) == clock.wall_us - 2 * SECOND


def test_however_often_it_is_set_nothing_is_seen_before_its_time() -> None:
    dice = random.Random(7)
    for _ in range(30):
        clock = Clock()
        for _ in range(12):
            clock.pass_by(dice.uniform(0.1, 3))
            if dice.random() < 0.6:
                clock.look()
                clock.set(dice.choice([-1, 1]) * dice.choice([0.01, 0.5, 4, 100]))
            assert all(came <= clock.mono - 2.0 + 1e-6 for came in clock.seen(2.0))
