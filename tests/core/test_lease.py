"""Whether another process lives, judged by what it leaves behind and by nobody's wall clock."""

from __future__ import annotations

import pytest

from gateway.core.lease import HomeVerdict, HomeWatch
from gateway.limits import HOME_ALIVE_S, HOME_UNSEEN_S

LEASE_S = 3.0


def looks(watch: HomeWatch, trace: str, first: float, last: float) -> set[HomeVerdict]:
    """What is said by looks ten times a second."""
    return {watch.look(trace, LEASE_S, mono / 10) for mono in range(round(first * 10), round(last * 10) + 1)}


def test_who_is_seen_for_the_first_time_is_given_its_whole_lease() -> None:
    watch = HomeWatch()
    assert looks(watch, "a", 100.0, 102.9) == {HomeVerdict.SILENT}
    assert watch.look("a", LEASE_S, 103.0) is HomeVerdict.DEAD


def test_a_change_between_two_close_looks_proves_life() -> None:
    watch = HomeWatch()
    watch.look("a", LEASE_S, 100.0)
    assert watch.look("b", LEASE_S, 100.1) is HomeVerdict.ALIVE
    assert watch.is_alive(100.1 + HOME_ALIVE_S)
    assert not watch.is_alive(100.2 + HOME_ALIVE_S)


def test_a_change_since_a_look_long_ago_proves_nothing_and_starts_the_lease_anew() -> None:
    watch = HomeWatch()
    watch.look("a", LEASE_S, 100.0)
    assert looks(watch, "b", 200.0, 202.9) == {HomeVerdict.SILENT}
    assert watch.look("b", LEASE_S, 203.0) is HomeVerdict.DEAD


def test_nobody_is_taken_for_dead_for_a_time_when_nobody_could_look() -> None:
    """The store may have been away for both of them."""
    watch = HomeWatch()
    watch.look("a", LEASE_S, 100.0)
    assert looks(watch, "a", 110.0, 112.9) == {HomeVerdict.SILENT}
    assert watch.look("a", LEASE_S, 113.0) is HomeVerdict.DEAD


def test_who_waited_for_a_change_believes_it_however_slow_the_looks_were() -> None:
    watch = HomeWatch()
    watch.look("a", LEASE_S, 100.0)
    assert watch.look("b", LEASE_S, 102.0, attended=True) is HomeVerdict.ALIVE


@pytest.mark.parametrize("beat_s", [0.017, 0.5, 1.0, 2.9])
def test_who_beats_within_its_lease_is_never_taken_for_dead(beat_s: float) -> None:
    watch = HomeWatch()
    for look in range(1_000):
        mono = look * 0.1
        assert watch.look(int(mono / beat_s), LEASE_S, mono) is not HomeVerdict.DEAD


def test_one_that_was_forgotten_is_seen_for_the_first_time_again() -> None:
    watch = HomeWatch()
    watch.look("a", LEASE_S, 100.0)
    watch.forget()
    assert watch.look("a", LEASE_S, 110.0) is HomeVerdict.SILENT


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        ((("a", 0.0), ("b", HOME_ALIVE_S)), HomeVerdict.ALIVE),
        ((("a", 0.0), ("b", HOME_ALIVE_S + 0.125)), HomeVerdict.SILENT),
        ((("a", 0.0), ("b", HOME_ALIVE_S), ("b", 2 * HOME_ALIVE_S)), HomeVerdict.ALIVE),
        ((("a", 0.0), ("b", HOME_ALIVE_S), ("b", 2 * HOME_ALIVE_S + 0.125)), HomeVerdict.SILENT),
        ((("a", 0.0), ("a", HOME_UNSEEN_S), ("a", 3.0)), HomeVerdict.DEAD),
        ((("a", 0.0), ("a", HOME_UNSEEN_S), ("a", 2.875)), HomeVerdict.SILENT),
        ((("a", 0.0), ("a", HOME_UNSEEN_S + 0.125), ("a", 3.0)), HomeVerdict.SILENT),
        ((("a", 0.0), ("a", 1.0), ("b", 2.0), ("b", 3.0), ("b", 4.0), ("b", 4.875)), HomeVerdict.SILENT),
        ((("a", 0.0), ("a", 1.0), ("b", 2.0), ("b", 3.0), ("b", 4.0), ("b", 5.0)), HomeVerdict.DEAD),
    ],
)
def test_what_is_said_on_each_bound_and_beside_it(
    looks: tuple[tuple[str, float], ...], verdict: HomeVerdict
) -> None:
    watch = HomeWatch()
    assert [watch.look(trace, LEASE_S, 64.0 + mono) for trace, mono in looks][-1] is verdict


def test_who_waited_for_a_first_sight_has_seen_no_change() -> None:
    assert HomeWatch().look("a", LEASE_S, 64.0, attended=True) is HomeVerdict.SILENT


def test_how_lately_the_trace_changed_or_was_first_seen() -> None:
    watch = HomeWatch()
    assert not watch.stirred_within(1e9, 64.0)
    watch.look("a", LEASE_S, 64.0)
    watch.look("a", LEASE_S, 65.0)
    assert watch.stirred_within(2.0, 65.875)
    assert not watch.stirred_within(2.0, 66.0)
    watch.look("b", LEASE_S, 66.0)
    assert watch.stirred_within(2.0, 67.875)
    watch.forget()
    assert not watch.stirred_within(2.0, 67.875)
    assert not watch.is_alive(67.875)
