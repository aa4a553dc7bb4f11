"""A reader's turns: how much of what waits goes, by which way, and when the next turn is due. Times are exact in binary, or zero."""

from __future__ import annotations

import pytest

from gateway.core.ports import Refusal
from gateway.core.states import ReaderState
from gateway.limits import (
    PIECES_MAX,
    READER_FLUSH_S,
    READER_LAG_S,
    REPAIR_MESSAGES_MAX,
    STREAM_PATIENCE_S,
)
from gateway.wire import Frame, Record, decode_frame
from tests.core.test_reader_offers import MUCH, Rig


def waiting(count: int, size: int = 1_000, *, of: int = 0, room: int = MUCH, **options: object) -> Rig:
    """A reader for whom so many records wait, of as many or more."""
    rig = Rig(room, **options)  # type: ignore[arg-type]
    rig.state.apply(Frame(1, 1, [Record(key, bytes(size)) for key in range(max(count, of))]))
    rig.reader.mark(tuple(range(count)))
    return rig


# --- when -----------------------------------------------------------------------------------


def test_nothing_is_due_where_nothing_waits_and_no_stream_is_open() -> None:
    rig = Rig()
    assert rig.reader.poll(1.0) is None
    rig.offers(rig.parts(1, 5_000))
    assert rig.reader.poll(1.0) == 1.0 + STREAM_PATIENCE_S
    assert rig.reader.due is None


@pytest.mark.parametrize(("lag_s", "after"), [(READER_LAG_S, STREAM_PATIENCE_S), (0.125, 0.125)])
def test_without_any_room_it_looks_again_after_the_patience_or_the_lag(lag_s: float, after: float) -> None:
    rig = waiting(1, room=0, lag_s=lag_s)
    assert rig.reader.poll(1.0) == rig.reader.due == 1.0 + after
    rig.link.room = MUCH
    assert (rig.reader.poll(1.125), rig.reader.due) == (None, None)


def test_what_a_turn_has_not_brought_is_due_in_about_a_tick() -> None:
    for options in ({}, {"budget_kbps": 1_000_000}):
        rig = waiting(2 * REPAIR_MESSAGES_MAX, of=400, **options)
        assert rig.reader.poll(0.0) == READER_FLUSH_S
        assert rig.went == (REPAIR_MESSAGES_MAX, 0)


def test_a_budget_says_when_it_has_earned_what_waits() -> None:
    rig = waiting(10, 100, budget_kbps=8)  # 1,000 bytes a second, and 250 at once
    assert rig.reader.poll(0.0) == pytest.approx((8 * 16 - 2) / 1_000)
    assert (rig.went, rig.link.room) == ((1, 0), MUCH - 248)
    assert (rig.reader.held, rig.reader.state) == (True, ReaderState.BEHIND)
    rig.reader.catch_up(0.0625)
    assert rig.went == (1, 0)


def test_a_budget_in_debt_is_looked_at_again_after_the_patience() -> None:
    rig = waiting(2, 900, budget_kbps=8)
    assert rig.reader.poll(1.0) == 1.0 + STREAM_PATIENCE_S
    assert rig.went == (1, 0)


def test_a_keyframe_does_not_wait_for_the_budget() -> None:
    rig = waiting(2, 900, budget_kbps=8)
    rig.reader.poll(1.0)
    rig.link.room = 0
    rig.reader.want_keyframe("new_epoch", 1.0)
    assert rig.reader.poll(1.0) == 1.0 + READER_FLUSH_S


# --- how much -------------------------------------------------------------------------------


def test_so_many_datagrams_go_in_a_row_and_the_next_row_begins_about_a_tick_later() -> None:
    rig = waiting(12, room=5_000, datagrams_max=4)
    for mono, went in ((0.0, 4), (READER_FLUSH_S / 2, 4), (READER_FLUSH_S, 8), (1.5 * READER_FLUSH_S, 8)):
        rig.link.room = 5_000
        rig.reader.catch_up(mono)
        assert (rig.went, rig.reader.held) == ((went, 0), True)
    assert rig.counters.repaired == 8


@pytest.mark.parametrize(
    ("room", "count", "went"), [(63, 4, 0), (64, 4, 1), (1_099, 200, 0), (1_100, 200, 1)]
)
def test_a_message_goes_where_there_is_room_for_what_it_is_worth(room: int, count: int, went: int) -> None:
    rig = waiting(count, 4, room=room)
    rig.reader.catch_up(0.0)
    assert rig.went == (went, 0)
    assert rig.reader.waiting
    assert rig.reader.held


def test_turns_that_bring_nothing_leave_the_row_to_those_that_do() -> None:
    rig = waiting(50, of=400, room=0)
    for _ in range(3):
        rig.reader.catch_up(0.0)
        assert (rig.went, rig.reader.held) == ((0, 0), True)
    rig.link.room = MUCH
    rig.reader.catch_up(0.0)
    assert (rig.went, rig.reader.held) == ((REPAIR_MESSAGES_MAX, 0), False)
    assert rig.offers(rig.parts(1)) is True
    metered = waiting(30, 100, budget_kbps=80)  # 2,500 bytes at once, and 10 in a millisecond
    for _ in range(3):
        metered.reader.catch_up(0.0)
        assert metered.went == (3, 0)
    metered.reader.catch_up(0.015)
    assert metered.went == (4, 0)


def test_over_tcp_a_budget_is_spent_by_what_it_earns_in_a_twentieth_of_a_second() -> None:
    rig = waiting(8_000, 100, lossy=False, budget_kbps=8_000)  # 250,000 bytes at once, and a million a second
    rig.link.bytes_max = 65_535
    due = rig.reader.poll(0.0)
    level = 250_000 - sum(len(message) for _, message in rig.link.sent)
    assert 0 < level < 50_000
    assert due == pytest.approx((50_000 - level) / 1_000_000, rel=1e-9)


def test_over_tcp_nothing_goes_without_room() -> None:
    rig = waiting(1, room=0, lossy=False)
    rig.reader.catch_up(0.0)
    assert rig.went == (0, 0)


# --- streams of what waits ------------------------------------------------------------------


@pytest.mark.parametrize(("count", "went"), [(100, (32, 0)), (101, (0, 1))])
def test_more_than_a_row_of_newest_values_goes_by_one_stream(count: int, went: tuple[int, int]) -> None:
    rig = waiting(count, 12 * 64 - 12, of=400, datagrams_max=64)
    rig.link.bytes_max = 1_200  # 100 records of 768 bytes are 64 datagrams of this size
    rig.reader.catch_up(0.0)
    assert rig.went == went


@pytest.mark.parametrize(("less", "streams"), [(0, 1), (1, 0)])
def test_the_stream_takes_all_at_once_where_there_is_room_for_it(less: int, streams: int) -> None:
    rig = waiting(101, 756, of=400, room=101 * 768 - less)
    rig.reader.catch_up(0.0)
    assert rig.went[1] == streams


@pytest.mark.parametrize(
    ("room", "streams"), [(REPAIR_MESSAGES_MAX * 1_200, 0), (REPAIR_MESSAGES_MAX * 1_200 + 1, 1)]
)
def test_what_rows_have_not_brought_goes_by_a_stream_where_that_is_more_than_a_turns(
    room: int, streams: int
) -> None:
    rig = waiting(100, of=400, room=0, datagrams_max=4)
    for mono in (READER_FLUSH_S, 2 * READER_FLUSH_S):
        assert rig.went[1] == 0
        rig.link.room = room
        rig.reader.catch_up(mono)
    assert rig.went[1] == streams


def test_a_stream_of_newest_values_fills_the_room_by_whole_records() -> None:
    whole = 24 + 50 * 1_012
    for room, sizes in ((whole, [whole]), (100_000, [60_744, 38_480, 1_036])):
        rig = waiting(150, of=400, room=1, datagrams_max=4)
        rig.reader.catch_up(READER_FLUSH_S)
        rig.link.room = room
        rig.reader.catch_up(2 * READER_FLUSH_S)
        assert [len(message) for message in rig.link.streams[0]] == sizes
        assert rig.counters.repaired - len(rig.link.sent) == len(sizes)


def test_on_a_budget_or_beside_a_stream_newest_values_go_as_datagrams() -> None:
    metered = waiting(300, of=400, budget_kbps=1_000_000)
    metered.reader.catch_up(0.0)
    assert metered.went == (REPAIR_MESSAGES_MAX, 0)
    rig = Rig()
    rig.offers(rig.parts(1, 5_000))
    rig.state.apply(Frame(1, 2, [Record(key, bytes(1_000)) for key in range(1, 400)]))
    rig.reader.mark(tuple(range(1, 200)))
    rig.reader.catch_up(0.0)
    assert rig.went == (REPAIR_MESSAGES_MAX, 1)


# --- everything at once ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "of", "size", "less", "resyncs"),
    [
        (50, 100, 1_000, 0, 0),
        (51, 100, 1_000, 0, 1),
        (51, 100, 1_000, 1, 0),
        (PIECES_MAX, 40, 2_000, 0, 0),
        (PIECES_MAX + 1, 40, 2_000, 0, 1),
        (40, 40, 960 - 12, 0, 0),
        (40, 40, 961 - 12, 0, 1),
    ],
)
def test_more_than_half_goes_as_a_keyframe_where_that_is_worth_a_stream_and_fits(
    count: int, of: int, size: int, less: int, resyncs: int
) -> None:
    rig = waiting(count, size, of=of, room=of * (size + 12) - less)
    rig.reader.catch_up(0.0)
    assert rig.counters.resyncs == resyncs


def test_where_nothing_at_all_went_for_longer_than_the_lag_a_keyframe_will_say_it() -> None:
    rig = waiting(3, 100, room=0)
    rig.reader.catch_up(1.0)
    rig.reader.catch_up(1.0 + READER_LAG_S)
    assert (rig.reader.state, len(rig.reader.stale)) == (ReaderState.BEHIND, 3)
    rig.reader.catch_up(1.0 + READER_LAG_S + 0.125)
    assert (rig.reader.state, len(rig.reader.stale)) == (ReaderState.REBASING, 0)
    rig.link.room = MUCH
    rig.reader.catch_up(4.0)
    assert [control["reason"] for control in rig.link.controls] == ["lagging"]
    narrow = waiting(3, 100, room=1)
    for mono in (1.0, 9.0, 99.0):
        narrow.reader.catch_up(mono)
    assert (narrow.reader.state, len(narrow.reader.stale)) == (ReaderState.BEHIND, 3)
    assert narrow.reader.poll(99.0) == 99.0 + READER_FLUSH_S


def test_while_a_stream_is_on_its_way_no_lag_is_made_up_for() -> None:
    rig = Rig()
    rig.offers(rig.parts(1, 5_000))
    rig.link.room = 0
    rig.state.apply(Frame(1, 9, [Record(7, b"x")]))
    rig.reader.mark((7,))
    for mono in (1.0, 9.0):
        rig.reader.catch_up(mono)
    assert rig.reader.state is ReaderState.BEHIND


def test_a_stream_that_was_overtaken_is_reset_also_by_a_reader_with_nothing_waiting() -> None:
    rig = Rig()
    rig.offers(rig.parts(1, 5_000))
    rig.offers(rig.parts(1, 10))
    assert rig.reader.state is ReaderState.CURRENT
    assert rig.reader.poll(STREAM_PATIENCE_S) == 2 * STREAM_PATIENCE_S
    assert rig.reader.poll(STREAM_PATIENCE_S + 0.125) is None
    assert (rig.link.reset, rig.counters.streams_reset) == ({0}, 1)
    assert decode_frame(rig.link.sent[-1][1]).repair


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "state", "went"),
    [
        (Refusal.TOO_LARGE, ReaderState.CURRENT, (0, 1)),
        (Refusal.UNSUPPORTED, ReaderState.CURRENT, (0, 1)),
        (Refusal.BLOCKED, ReaderState.BEHIND, (0, 0)),
        (Refusal.CLOSED, ReaderState.OVER, (0, 0)),
    ],
)
def test_what_a_repair_is_refused_for_says_which_way_it_goes(
    refusal: Refusal, state: ReaderState, went: tuple[int, int]
) -> None:
    rig = waiting(3, 100)
    rig.link.refusal = refusal
    rig.reader.catch_up(0.0)
    assert (rig.reader.state, rig.went, rig.counters.repaired) == (state, went, went[1])
    rig.link.refusal = None
    rig.link.done.add(0)
    rig.reader.mark((0,))
    rig.reader.catch_up(1.0)
    assert (
        rig.went
        == {
            Refusal.TOO_LARGE: (1, 1),
            Refusal.UNSUPPORTED: (0, 2),
            Refusal.BLOCKED: (1, 0),
            Refusal.CLOSED: (0, 0),
        }[refusal]
    )


def test_a_repair_that_no_datagram_takes_waits_while_another_stream_is_on_its_way() -> None:
    for refusal in (Refusal.TOO_LARGE, Refusal.UNSUPPORTED):
        rig = Rig()
        rig.offers(rig.parts(1, 5_000))
        rig.state.apply(Frame(1, 9, [Record(7, b"x")]))
        rig.reader.mark((7,))
        rig.link.refusal = refusal
        for mono in (0.0, 0.125):
            rig.reader.catch_up(mono)
            assert (rig.went, list(rig.reader.stale)) == ((0, 1), [7])
