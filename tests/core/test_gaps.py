"""Which ticks are told as gaps, when, and how often: case by case, with times that are exact in binary."""

from __future__ import annotations

import pytest

from gateway.core.gaps import GapTracker
from gateway.limits import GAP_COMING_S, GAP_DECIDE_S, GAP_STEP_FRAMES, GAP_WAIT_S, GAPS_PENDING_MAX
from gateway.wire.journal import Gap, Tail

LATE_S = GAP_WAIT_S + 0.25
NEVER_S = 100.0
Told = list[tuple[int, int, str]]


def seen(*ticks: int, after: int | None = None, mono: float = 0.0) -> GapTracker:
    """A tracker that saw these ticks, each whole, at once."""
    tracker = GapTracker(1, after)
    for tick in ticks:
        tracker.saw(tick, 0, 1, mono)
    return tracker


def told(gaps: list[Gap]) -> Told:
    return [(gap.from_tick, gap.to_tick, gap.reason) for gap in gaps]


@pytest.mark.parametrize(
    ("ticks", "after", "gaps"),
    [
        ((1, 2, 3), None, []),
        ((1, 2, 4, 5), None, [(3, 3)]),
        ((5, 7), None, [(6, 6)]),
        ((5, 8), None, [(6, 7)]),
        ((1, 3, 5), None, []),
        ((1, 3, 5, 6, 8), None, [(2, 2), (4, 4), (7, 7)]),
        ((1, 4, 7, 9), None, [(2, 3), (5, 6)]),
        ((1, 2, 5, 9), None, [(3, 4), (6, 8)]),
        ((6, 7), 5, []),
        ((6, 8, 10), 5, []),
        ((9, 10), 5, [(6, 8)]),
        ((9, 11, 13), 5, [(6, 8)]),
        ((1, 2, 9, 5), None, [(3, 4), (6, 8)]),
        ((1, 2, 9, 3, 8), None, [(4, 7)]),
        ((1, 2, 6, 4), None, [(3, 3), (5, 5)]),
        ((1, 2, 4, 3), None, []),
        ((10, 21, 15), None, [(16, 20)]),
        ((10, 21, 16), None, [(11, 15)]),
        ((10, 20, 15), None, []),
        ((10, 20, 11), None, [(12, 19)]),
    ],
)
def test_what_never_came_is_told_by_the_step_that_the_publisher_counts_by(
    ticks: tuple[int, ...], after: int | None, gaps: list[tuple[int, int]]
) -> None:
    tracker = seen(*ticks, after=after)
    assert told(tracker.finish()) == [(*gap, "unseen") for gap in gaps]
    assert tracker.decide(NEVER_S) == tracker.finish() == []


def test_the_first_message_of_a_tick_is_known_from_the_others() -> None:
    tracker = GapTracker(1)
    assert [tracker.saw(tick, 0, 1, 0.0) for tick in (5, 5, 6, 9, 9, 7, 7, 6, 8, 5)] == [
        *(True, False, True, True, False, True, False, False, True, False)
    ]


def test_a_hole_is_waited_for_and_not_longer() -> None:
    tracker = seen(1, 2, 4)
    assert tracker.awaits
    assert tracker.is_unsure
    assert tracker.decide(GAP_WAIT_S) == []
    assert told(tracker.decide(LATE_S)) == [(3, 3, "unseen")]
    assert not tracker.awaits
    assert not tracker.is_unsure
    assert not tracker.saw(3, 0, 1, LATE_S)


@pytest.mark.parametrize("late", [(3,), (3, 4), (4, 3), (3, 4, 5), (4, 3, 5)])
def test_a_hole_that_is_filled_is_none(late: tuple[int, ...]) -> None:
    tracker = seen(1, 2, max(late) + 1)
    for tick in late:
        assert tracker.awaits
        tracker.saw(tick, 0, 1, 0.0)
    assert not tracker.awaits
    assert tracker.finish() == []


def test_the_oldest_hole_is_told_first_and_the_younger_one_in_its_time() -> None:
    tracker = seen(1, 2, 4)
    tracker.saw(6, 0, 1, 0.25)
    assert told(tracker.decide(0.5)) == [(3, 3, "unseen")]
    assert told(tracker.decide(0.75)) == [(5, 5, "unseen")]


def test_a_tick_of_which_parts_never_came_is_told_when_none_came_for_so_long() -> None:
    tracker = GapTracker(1)
    tracker.saw(1, 0, 3, 0.0)
    tracker.saw(1, 1, 3, 0.25)
    assert tracker.decide(0.25 + GAP_WAIT_S) == []
    tracker.saw(1, 1, 3, 0.5)
    assert tracker.is_unsure
    assert told(tracker.decide(0.5 + GAP_WAIT_S)) == [(1, 1, "partial")], "one that came twice tells nothing"
    assert not tracker.is_unsure
    tracker.saw(1, 2, 3, 1.0)
    assert not tracker.awaits, "it was told"
    assert tracker.decide(NEVER_S) == []


def test_a_whole_tick_is_none_and_copies_of_its_parts_open_it_no_more() -> None:
    tracker = GapTracker(1)
    tracker.saw(1, 1, 2, 0.0)
    assert tracker.awaits
    tracker.saw(1, 0, 2, 0.0)
    assert not tracker.awaits
    tracker.saw(1, 1, 2, 0.0)
    assert not tracker.awaits
    assert tracker.finish() == []


def test_so_many_whole_ticks_are_remembered_for_their_copies() -> None:
    def whole(count: int) -> GapTracker:
        tracker = GapTracker(1)
        for tick in range(count):
            tracker.saw(tick, 0, 2, 0.0)
            tracker.saw(tick, 1, 2, 0.0)
        tracker.saw(0, 1, 2, 0.0)
        return tracker

    assert not whole(GAPS_PENDING_MAX).awaits
    assert whole(GAPS_PENDING_MAX + 1).awaits


def test_so_many_ticks_may_lack_parts_and_one_more_gives_up_the_oldest() -> None:
    tracker = GapTracker(1)
    for tick in range(GAPS_PENDING_MAX):
        tracker.saw(tick, 0, 2, 0.0)
    tracker.saw(GAPS_PENDING_MAX, 0, 1, 0.0)
    assert tracker.decide(0.0) == [], "a frame of one message lacks none"
    tracker.saw(GAPS_PENDING_MAX + 1, 0, 2, 0.0)
    assert told(tracker.decide(0.0)) == [(0, 0, "partial")]


def holes_of(count: int, width: int = 1) -> GapTracker:
    """A tracker that knows the step to be 1, with so many holes."""
    return seen(*(0, 1), *(2 + width + (width + 1) * n for n in range(count)))


def test_so_many_holes_may_wait_and_one_more_closes_the_oldest() -> None:
    assert holes_of(GAPS_PENDING_MAX).decide(0.0) == []
    assert told(holes_of(GAPS_PENDING_MAX + 1).decide(0.0)) == [(2, 2, "unseen")]


def test_a_hole_that_is_filled_in_its_middle_is_two() -> None:
    tracker = holes_of(GAPS_PENDING_MAX, width=3)
    tracker.saw(7, 0, 1, 0.0)
    assert told(tracker.decide(0.0)) == [(2, 4, "unseen")], "and so the oldest had to go"


@pytest.mark.parametrize(
    ("frames", "sure"), [(GAP_STEP_FRAMES, False), (GAP_STEP_FRAMES + 1, True), (GAP_STEP_FRAMES + 2, True)]
)
def test_the_step_is_known_after_so_many_frames(frames: int, sure: bool) -> None:
    tracker = seen(*range(0, 2 * (frames - 1), 2))
    assert tracker.decide(LATE_S) == []
    tracker.saw(2 * (frames - 1), 0, 1, LATE_S)
    assert tracker.decide(LATE_S + LATE_S) == []
    assert tracker.is_unsure is not sure
    tracker.saw(2 * (frames + 1), 0, 1, LATE_S)
    assert told(tracker.finish()) == [(2 * frames - 1, 2 * frames + 1, "unseen")]


def test_as_soon_as_the_step_is_known_a_step_leaves_no_hole() -> None:
    tracker = seen(*range(0, 2 * GAP_STEP_FRAMES, 2))
    tracker.decide(LATE_S)
    assert not tracker.awaits
    tracker.saw(2 * GAP_STEP_FRAMES, 0, 1, LATE_S)
    assert not tracker.awaits


def test_a_publisher_that_begins_to_count_by_less_is_followed() -> None:
    tracker = seen(*range(0, 2 * GAP_STEP_FRAMES + 2, 2))
    assert tracker.decide(LATE_S) == []
    last = 2 * GAP_STEP_FRAMES
    for tick in (last + 1, last + 3):
        tracker.saw(tick, 0, 1, LATE_S)
    assert told(tracker.finish()) == [(last + 2, last + 2, "unseen")]


def test_where_the_step_stays_unknown_it_is_decided_after_a_while() -> None:
    tracker = seen(5, 7, mono=8.0)
    assert tracker.decide(8.0 + LATE_S) == []
    assert tracker.is_unsure
    assert not tracker.awaits
    assert tracker.decide(8.0 + GAP_DECIDE_S) == []
    assert told(tracker.decide(8.0 + GAP_DECIDE_S + 0.25)) == [(6, 6, "unseen")]
    assert not tracker.is_unsure


def test_what_is_undecided_is_decided_by_the_oldest_of_it() -> None:
    tracker = seen(0, 3)
    tracker.decide(1.0)
    tracker.saw(6, 0, 1, 1.0)
    assert tracker.decide(GAP_DECIDE_S) == []
    assert tracker.is_unsure
    assert tracker.decide(GAP_DECIDE_S + 0.25) == []
    assert not tracker.is_unsure, "the step is 3"


@pytest.mark.parametrize(
    ("waited_s", "comes", "over"),
    [
        (GAP_WAIT_S, False, False),
        (GAP_WAIT_S + 0.25, False, True),
        (GAP_WAIT_S + 0.25, True, False),
        (GAP_COMING_S, True, False),
        (GAP_COMING_S + 0.25, True, True),
    ],
)
def test_what_may_be_on_its_way_is_waited_for_up_to_a_bound(waited_s: float, comes: bool, over: bool) -> None:
    tracker = seen(1, 2)
    tracker.saw(4, 0, 2, 8.0)
    asked = []

    def coming(mono: float, is_newest: bool) -> bool:
        asked.append((mono, is_newest))
        return comes

    gaps = tracker.decide(8.0 + waited_s, coming)
    assert told(gaps) == ([(3, 3, "unseen"), (4, 4, "partial")] if over else [])
    if GAP_WAIT_S < waited_s <= GAP_COMING_S:
        assert asked == [(8.0 + GAP_WAIT_S, False), (8.0 + GAP_WAIT_S, True)]
    else:
        assert asked == []


def test_of_an_earlier_tick_than_the_newest_it_is_asked_as_that() -> None:
    tracker = GapTracker(1)
    tracker.saw(1, 0, 2, 0.0)
    tracker.saw(2, 0, 1, 0.0)
    assert told(tracker.decide(LATE_S, lambda mono, is_newest: is_newest)) == [(1, 1, "partial")]


@pytest.mark.parametrize(
    ("ticks", "partial", "asked", "whole"),
    [
        ((1, 2, 3), None, 3, 3),
        ((1, 2, 3), None, 2, 2),
        ((1, 2, 5), None, 5, 2),
        ((1, 2, 5), None, 1, 1),
        ((1, 2, 5), 6, 6, 2),
        ((1, 2, 3), 4, 4, 3),
        ((1, 2, 3), 4, 2, 2),
    ],
)
def test_up_to_where_nothing_is_awaited(
    ticks: tuple[int, ...], partial: int | None, asked: int, whole: int
) -> None:
    tracker = seen(*ticks)
    if partial is not None:
        tracker.saw(partial, 0, 2, 0.0)
    assert tracker.whole_up_to(asked) == whole


def whole(*ticks: int) -> tuple[tuple[int, int, int], ...]:
    return tuple((tick, 0, 1) for tick in ticks)


@pytest.mark.parametrize(
    ("messages", "known", "tick", "gaps"),
    [
        (whole(1, 2, 3), (), 3, []),
        (whole(1, 2, 3), (), 5, [(4, 5, "unseen")]),
        (whole(1, 2, 3), (), 4, [(4, 4, "unseen")]),
        (whole(1, 2, 5), (), 5, [(3, 4, "unseen")]),
        ((), (), 5, []),
        (whole(1, 2, 5), ((3, 4, "unseen"),), 5, []),
        (whole(1, 2, 9), ((3, 5, "unseen"),), 9, [(6, 8, "unseen")]),
        (whole(1, 2, 9), ((6, 8, "unseen"),), 9, [(3, 5, "unseen")]),
        (whole(1, 2, 9), ((4, 7, "unseen"),), 9, [(3, 3, "unseen"), (8, 8, "unseen")]),
        (whole(1, 2, 9), ((1, 2, "unseen"), (9, 12, "unseen")), 9, [(3, 8, "unseen")]),
        (whole(1, 2, 9), ((1, 3, "unseen"), (8, 12, "unseen")), 9, [(4, 7, "unseen")]),
        (whole(1, 2, 5, 9), ((6, 8, "unseen"),), 9, [(3, 4, "unseen")]),
        ((*whole(1, 2), (3, 0, 2)), (), 3, [(3, 3, "partial")]),
        ((*whole(1, 2), (3, 0, 2)), ((3, 3, "partial"),), 3, []),
        ((*whole(1, 2), (3, 0, 2), (4, 0, 2), (5, 1, 2)), ((3, 5, "dropped"),), 5, []),
        ((*whole(1, 2), (3, 0, 2), (4, 1, 2)), ((3, 3, "partial"),), 4, [(4, 4, "partial")]),
        ((*whole(1, 2), (3, 0, 2), (4, 1, 2)), ((4, 4, "partial"),), 4, [(3, 3, "partial")]),
    ],
)
def test_going_on_tells_at_once_what_the_recording_lacks_and_nobody_told(
    messages: tuple[tuple[int, int, int], ...],
    known: tuple[tuple[int, int, str], ...],
    tick: int,
    gaps: Told,
) -> None:
    tail = Tail(messages, tuple(Gap(1, *gap) for gap in known))  # type: ignore[arg-type]
    tracker = GapTracker.going_on(1, tick, tail)
    assert tracker.awaits is bool(gaps)
    assert told(tracker.decide(0.0)) == gaps
    tracker.saw(tick + 1, 0, 1, 0.0)
    assert not tracker.awaits
    assert tracker.finish() == []


def test_a_tick_told_before_is_not_opened_by_a_part_that_comes_later() -> None:
    tail = Tail(((1, 0, 1), (2, 0, 3)), (Gap(1, 2, 2, "partial"),))
    tracker = GapTracker.going_on(1, 2, tail)
    tracker.saw(2, 1, 3, 0.0)
    assert not tracker.awaits


def test_a_tail_of_more_holes_than_may_wait_tells_each_once_and_none_that_was_told() -> None:
    odd = range(3, 3 + 2 * (GAPS_PENDING_MAX + 3), 2)
    known = Gap(1, odd[1] - 1, odd[1] - 1, "unseen")
    tracker = GapTracker.going_on(1, odd[-1], Tail(whole(0, 1, *odd), (known,)))
    expected = [(tick - 1, tick - 1, "unseen") for tick in odd if tick != odd[1]]
    assert sorted(told(tracker.decide(0.0))) == sorted(expected)


def test_how_far_the_first_tick_lies_ahead_of_a_recording_says_nothing_of_the_step() -> None:
    tracker = GapTracker.going_on(1, 10, Tail(()))
    for tick in (14, 16, 18):
        tracker.saw(tick, 0, 1, 0.0)
    assert told(tracker.finish()) == [(11, 13, "unseen")]
