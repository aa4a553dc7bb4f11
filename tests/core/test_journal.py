"""The journal: one batch in flight, gaps said aloud, memory bounded while the store is away."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.core.gaps import GapTracker
from gateway.core.journal import _spanning
from gateway.core.ports import Mark
from gateway.core.state import WorldState
from gateway.core.world import World, WorldSettings
from gateway.limits import GAP_COMING_S, GAPS_PENDING_MAX, JOURNAL_GAPS_MAX, JOURNAL_LET_GO_TOLD_MAX
from gateway.wire import Frame, Record, decode_control, decode_frame, encode_control, encode_frame
from gateway.wire.journal import Batch, Gap, Tail
from tests.core.links import RecordingLink
from tests.held import count


class Rig:
    """A world with a publisher on an ordered link, and a clock of 100 ticks a second."""

    def __init__(self, **settings: object) -> None:
        self.world = World("arena", WorldSettings(**settings), mono=0.0, now_us=0)  # type: ignore[arg-type]
        self.link = RecordingLink()
        self.session = self.world.attach_publisher(self.link, 1, 0.0)
        self.mono = 0.0

    def publish(self, tick: int, data: bytes = b"x", key: int = 1, **how: object) -> None:
        self.mono += 0.01
        frame = Frame(1, tick, [Record(key, data)], **how)  # type: ignore[arg-type]
        self.session.receive(encode_frame(frame), self.mono)

    def take(self) -> Batch | None:
        return self.world.take_batch(self.mono)

    def notices(self) -> list[dict[str, Any]]:
        """What the publisher was told of the durable mark."""
        return [decode_control(message).fields for _, message in self.link.sent]


def ticks(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [row.tick for row in batch.frames if not row.keyframe]


def test_one_batch_is_in_flight_and_the_next_takes_everything_that_came_meanwhile() -> None:
    rig = Rig()
    rig.publish(1)
    first = rig.take()
    for tick in range(2, 6):
        rig.publish(tick)
    assert ticks(first) == [1]
    assert rig.take() is None
    assert first is not None
    rig.world.committed(first, rig.mono)
    assert rig.world.journal.durable == Mark(1, 1)
    second = rig.take()
    assert ticks(second) == [2, 3, 4, 5]
    assert second is not None
    assert (second.epoch, second.tick) == (1, 5)


def test_sequence_numbers_rise_without_holes() -> None:
    rig = Rig(keyframe_interval_s=0.05)
    seqs = []
    for tick in range(1, 40):
        rig.publish(tick)
        batch = rig.take()
        assert batch is not None
        seqs += [row.seq for row in batch.frames]
        rig.world.committed(batch, rig.mono)
    assert seqs == list(range(len(seqs)))


def test_a_batch_that_failed_comes_again_as_it_was_and_the_mark_stands_still() -> None:
    rig = Rig()
    rig.publish(1)
    first = rig.take()
    assert first is not None
    rig.world.failed(first, rig.mono)
    rig.publish(2)
    assert rig.take() is first
    assert rig.world.journal.durable is None
    rig.world.committed(first, rig.mono)
    assert ticks(rig.take()) == [2]


def test_only_the_batch_in_flight_can_be_settled() -> None:
    rig = Rig()
    rig.publish(1)
    batch = rig.take()
    assert batch is not None
    rig.world.committed(batch, rig.mono)
    with pytest.raises(ValueError, match="not the one in flight"):
        rig.world.committed(batch, rig.mono)


def test_a_keyframe_comes_at_the_start_and_then_at_its_interval() -> None:
    rig = Rig(keyframe_interval_s=1.0)
    keyframes = []
    for tick in range(1, 301):
        rig.publish(tick)
        batch = rig.take()
        assert batch is not None
        keyframes += [row for row in batch.frames if row.keyframe]
        rig.world.committed(batch, rig.mono)
    assert [row.tick for row in keyframes] == pytest.approx([1, 101, 201], abs=3)


def test_parts_of_a_tick_share_a_row_and_the_mark_waits_for_all_of_them() -> None:
    rig = Rig()
    rig.publish(1)
    rig.publish(2, key=1, part=0, parts=3)
    rig.publish(2, key=2, part=1, parts=3)
    batch = rig.take()
    assert batch is not None
    assert [len(row.messages) for row in batch.frames if row.tick == 2 and not row.keyframe] == [2]
    assert batch.tick == 1
    rig.world.committed(batch, rig.mono)
    rig.publish(2, key=3, part=2, parts=3)
    late = rig.take()
    assert late is not None
    assert late.tick == 2


def test_a_row_of_several_parts_is_as_old_as_the_last_of_them() -> None:
    rig = Rig()
    rig.publish(1, part=0, parts=2)
    rig.mono += 5.0
    rig.publish(1, key=2, part=1, parts=2)
    batch = rig.take()
    assert batch is not None
    assert batch.frames[0].messages[1:]
    assert batch.frames[0].received_at_us == round(rig.mono * 1e6), "nothing in it is younger than it says"


def test_parts_that_never_came_are_recorded_as_a_gap() -> None:
    rig = Rig()
    rig.publish(1)
    rig.publish(2, part=0, parts=2)
    rig.publish(3, key=2)
    first = rig.take()
    assert first is not None
    assert (first.gaps, first.tick) == ((), 1)
    rig.world.committed(first, rig.mono)
    rig.mono += limits.GAP_WAIT_S + 0.1
    rig.world.poll(rig.mono, 0)
    second = rig.take()
    assert second is not None
    assert second.gaps == (Gap(1, 2, 2, "partial"),)
    assert second.tick == 3


def test_while_the_store_is_away_memory_is_bounded_and_the_hole_is_recorded() -> None:
    rig = Rig(journal_bytes_max=20_000)
    rig.publish(1)
    stuck = rig.take()
    assert stuck is not None
    for tick in range(2, 1_000):
        rig.publish(tick, bytes(500))
        rig.world.failed(stuck, rig.mono)
        assert rig.take() is stuck
        assert rig.world.journal.size_bytes <= 20_000
    rig.world.committed(stuck, rig.mono)
    back = rig.take()
    assert back is not None
    assert back.gaps == (Gap(1, 2, 999, "dropped"),)
    assert [row.keyframe for row in back.frames] == [True]
    assert decode_frame(back.frames[0].messages[0]).records == [Record(1, bytes(500), 999)]
    assert (back.epoch, back.tick) == (1, 999)


def test_rows_that_were_dropped_leave_no_hole_in_the_sequence() -> None:
    rig = Rig(journal_bytes_max=5_000)
    seqs = []
    for tick in range(1, 200):
        rig.publish(tick, bytes(500))
        if tick % 40 == 0 and (batch := rig.take()) is not None:
            seqs += [row.seq for row in batch.frames]
            rig.world.committed(batch, rig.mono)
    assert rig.world.counters.journal_dropped > 100
    assert seqs == list(range(len(seqs)))


def test_an_empty_journal_takes_a_message_of_any_size_and_says_when_it_takes_no_more() -> None:
    rig = Rig(journal_bytes_max=5_000)
    journal = rig.world.journal
    assert journal.has_room(50_000)
    rig.publish(1, bytes(50_000))
    assert not journal.has_room(1)
    batch = rig.take()
    assert ticks(batch) == [1]
    assert not journal.has_room(1)
    assert batch is not None
    rig.world.committed(batch, rig.mono)
    assert journal.has_room(50_000)
    assert rig.world.counters.journal_dropped == 0


def test_the_durable_mark_names_the_ticks_below_it_that_were_dropped() -> None:
    rig = Rig(journal_bytes_max=5_000)
    rig.publish(1)
    stuck = rig.take()
    for tick in range(2, 60):
        rig.publish(tick, bytes(500))
    assert stuck is not None
    rig.world.committed(stuck, rig.mono)
    assert rig.world.journal.let_go == []
    back = rig.take()
    assert back is not None
    rig.mono += 1.0
    rig.world.committed(back, rig.mono)
    notice = rig.notices()[-1]
    assert (notice["epoch"], notice["tick"], notice["dropped"]) == (1, 59, [[2, 59]])
    assert rig.world.journal.dropped_upto == 1 << 32 | 59


def test_what_a_mark_tells_of_dropped_ticks_is_bounded() -> None:
    rig = Rig(journal_bytes_max=3_000)
    for tick in range(1, 4_000):
        rig.publish(tick, bytes(500))
        if tick % 20 == 0 and (batch := rig.take()) is not None:
            rig.world.committed(batch, rig.mono)
    let_go = rig.world.journal.let_go
    assert len(let_go) <= JOURNAL_LET_GO_TOLD_MAX
    assert let_go[0].from_tick == 1
    assert let_go[-1].to_tick >= 3_980


def test_too_many_gaps_are_told_as_one_for_each_epoch() -> None:
    gaps = [Gap(epoch, tick, tick, "unseen") for epoch in (1, 2) for tick in (3, 9)]
    assert _spanning(gaps) == [Gap(1, 3, 9, "dropped"), Gap(2, 3, 9, "dropped")]


def test_a_publisher_that_asks_hears_when_each_commit_was() -> None:
    rig = Rig()
    rig.session.receive(encode_control("lags"), rig.mono)
    for tick in range(1, 31):
        rig.publish(tick)
        batch = rig.take()
        assert batch is not None
        rig.world.committed(batch, rig.mono)
    notices = rig.notices()
    told = [commit for notice in notices for commit in notice.get("commits", [[notice["tick"], 0]])]
    assert [tick for tick, _ in told] == list(range(1, notices[-1]["tick"] + 1))
    assert all(
        ms == pytest.approx(10 * (notice["tick"] - tick), abs=1)
        for notice in notices
        for tick, ms in notice.get("commits", [])
    )


def test_frames_are_counted_by_their_ticks_and_not_by_their_messages() -> None:
    rig = Rig()
    for tick in (1, 2, 5, 3):
        for part in range(3):
            rig.publish(tick, key=part, part=part, parts=3)
    assert (rig.world.counters.frames, rig.world.counters.received) == (4, 12)


def test_parts_that_come_again_and_bring_little_new_are_not_missing() -> None:
    rig = Rig()
    for part in range(4):
        rig.publish(5, key=part, part=part, parts=4)
    rig.publish(5, key=0, part=0, parts=4)
    for part in range(4):
        rig.publish(6, key=part if part != 2 else 9, part=part, parts=4)
    rig.publish(6, key=1, part=1, parts=4)
    rig.mono += limits.GAP_WAIT_S + 0.1
    rig.world.poll(rig.mono, 0)
    batch = rig.take()
    assert batch is not None
    assert (batch.gaps, batch.tick) == ((), 6)


def test_gaps_waiting_for_the_store_are_bounded() -> None:
    rig = Rig()
    for tick in range(1, 20):
        rig.publish(tick)
    stuck = rig.take()
    assert stuck is not None
    last = 20 + 8 * JOURNAL_GAPS_MAX
    for tick in range(20, last + 1, 2):
        rig.publish(tick)
        rig.mono += limits.GAP_WAIT_S
        rig.world.poll(rig.mono, 0)
    rig.mono += limits.GAP_WAIT_S
    rig.world.poll(rig.mono, 0)
    assert 0 < count(rig.world.journal, kind=Gap) <= JOURNAL_GAPS_MAX
    rig.world.committed(stuck, rig.mono)
    batch = rig.take()
    assert batch is not None
    assert (batch.gaps[0].from_tick, batch.gaps[-1].to_tick) == (21, last - 1), "and none is left out"


def replay(batches: list[Batch]) -> WorldState:
    """What recovery does: the newest keyframe row, then every row after it."""
    rows = [row for batch in batches for row in batch.frames]
    start = max((at for at, row in enumerate(rows) if row.keyframe), default=0)
    state = WorldState()
    for row in rows[start:]:
        for message in row.messages:
            state.apply(decode_frame(message))
    return state


changes = st.lists(
    st.tuples(
        st.integers(1, 40), st.dictionaries(st.integers(0, 6), st.none() | st.binary(max_size=2), min_size=1)
    ),
    min_size=1,
    max_size=40,
)


@given(changes, st.data())
def test_recovery_from_the_batches_gives_the_live_state(steps: list, data: st.DataObject) -> None:
    rig = Rig(keyframe_interval_s=0.05)
    batches = []
    for tick, values in steps:
        rig.mono += 0.01
        keyframe = data.draw(st.booleans()) and None not in values.values()
        frame = Frame(1, tick, [Record(k, v) for k, v in values.items()], keyframe=keyframe)
        rig.session.receive(encode_frame(frame), rig.mono)
        if data.draw(st.booleans()) and (batch := rig.take()) is not None:
            batches.append(batch)
            rig.world.committed(batch, rig.mono)
            assert replay(batches).snapshot() == rig.world.state.snapshot()
    if (batch := rig.take()) is not None:
        batches.append(batch)
    assert replay(batches).snapshot() == rig.world.state.snapshot()


# --- the gap tracker --------------------------------------------------------------------


def test_a_tick_that_never_came_between_its_neighbours_is_a_gap() -> None:
    tracker = GapTracker(1)
    for tick in (1, 2, 5, 6):
        tracker.saw(tick, 0, 1, 0.0)
    assert tracker.whole_up_to(6) == 2
    assert tracker.decide(limits.GAP_WAIT_S / 2) == []
    assert tracker.decide(limits.GAP_WAIT_S * 2) == [Gap(1, 3, 4, "unseen")]
    assert tracker.whole_up_to(6) == 6


def test_a_tick_that_was_only_late_is_none() -> None:
    tracker = GapTracker(1)
    for tick in (1, 4, 3, 2):
        tracker.saw(tick, 0, 1, 0.0)
    assert tracker.finish() == []


def test_a_tick_whose_parts_keep_coming_is_not_late_and_one_that_stopped_is() -> None:
    tracker = GapTracker(1)
    for part in range(40):
        tracker.saw(1, part, 41, part * limits.GAP_WAIT_S * 0.9)
        assert not tracker.decide(part * limits.GAP_WAIT_S * 0.9 + 0.01)
        assert tracker.whole_up_to(1) == 0
    stopped = 39 * limits.GAP_WAIT_S * 0.9
    tracker.saw(1, 3, 41, stopped + limits.GAP_WAIT_S * 0.9)
    assert [gap.reason for gap in tracker.decide(stopped + limits.GAP_WAIT_S * 1.1)] == ["partial"]


def test_a_publisher_that_counts_in_larger_steps_leaves_no_gaps() -> None:
    tracker = GapTracker(1)
    for at in range(limits.GAP_STEP_FRAMES + 2):
        tracker.saw(at * 3, 0, 1, 0.0)
    tracker.finish()
    for at in range(limits.GAP_STEP_FRAMES + 2, 100):
        tracker.saw(at * 3, 0, 1, 0.0)
    assert tracker.finish() == []
    tracker.saw(306, 0, 1, 0.0)
    assert tracker.finish() == [Gap(1, 298, 305, "unseen")]


@pytest.mark.parametrize("step", [2, 3, 60])
@pytest.mark.parametrize("frame_s", [1 / 60, 1 / 20, 1.0])
def test_before_its_step_is_known_a_publisher_has_no_gaps_and_then_those_that_are(
    step: int, frame_s: float
) -> None:
    tracker, found = GapTracker(1), []
    for at in range(60):
        if at != 5:
            tracker.saw(step * at, 0, 1, at * frame_s)
        found += tracker.decide(at * frame_s)
    assert found + tracker.finish() == [Gap(1, step * 4 + 1, step * 6 - 1, "unseen")]


def test_the_hole_between_the_only_two_frames_of_a_publisher_is_told_in_the_end() -> None:
    rig = Rig()
    rig.publish(1)
    rig.publish(5)
    found: list[Gap] = []
    while not found:
        at = rig.world.next_poll
        assert at is not None, "nobody would look"
        rig.mono = max(rig.mono, at)
        assert rig.mono < 10
        rig.world.poll(rig.mono, int(rig.mono * 1e6))
        batch = rig.take()
        if batch is not None:
            found += batch.gaps
            rig.world.committed(batch, rig.mono)
    assert found == [Gap(1, 2, 4, "unseen")]


@pytest.mark.parametrize("lost", [2, 3, 9, 59])
def test_a_single_tick_that_was_lost_is_a_gap(lost: int) -> None:
    tracker, found = GapTracker(1), []
    for tick in range(1, 61):
        if tick != lost:
            tracker.saw(tick, 0, 1, tick / 60)
        found += tracker.decide(tick / 60)
    assert found + tracker.finish() == [Gap(1, lost, lost, "unseen")]


@pytest.mark.parametrize("step", [1, 2])
def test_what_was_lost_with_the_gateway_is_a_gap_of_the_epoch_that_goes_on(step: int) -> None:
    world = World(
        "arena", WorldSettings(), mono=0.0, now_us=0, next_seq=9, last_epoch=1, durable=Mark(1, 100)
    )
    session = world.attach_publisher(RecordingLink(), 1, 0.0)
    found: list[Gap] = []
    for at in range(40):
        session.receive(encode_frame(Frame(1, 130 + at * step, [Record(1, b"x")])), at / 60)
        batch = world.take_batch(at / 60)
        if batch is not None:
            found += batch.gaps
            world.committed(batch, at / 60)
    assert found == [Gap(1, 101, 129, "unseen")]


@pytest.mark.parametrize("first", [101, 102])
def test_who_goes_on_where_the_store_stands_leaves_no_gap(first: int) -> None:
    tracker = GapTracker(1, 100)
    for at in range(limits.GAP_STEP_FRAMES + 2):
        tracker.saw(first + at * (first - 100), 0, 1, at / 60)
    assert tracker.finish() == []


def test_many_late_ticks_of_one_hole_do_not_split_it_without_bound() -> None:
    tracker = GapTracker(1)
    for tick in (0, 1, 1_000_000):
        tracker.saw(tick, 0, 1, 0.0)
    for tick in range(3, 20_000, 2):
        tracker.saw(tick, 0, 1, 0.0)
        assert len(tracker.holes) <= GAPS_PENDING_MAX
    assert tracker.finish()


def test_the_end_of_an_epoch_settles_what_was_awaited() -> None:
    tracker = GapTracker(4)
    tracker.saw(7, 1, 3, 0.0)
    assert tracker.awaits
    assert tracker.finish() == [Gap(4, 7, 7, "partial")]
    assert not tracker.awaits


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 10)), max_size=300))
def test_nothing_that_comes_makes_the_tracker_grow(saws: list[tuple[int, int, int]]) -> None:
    tracker = GapTracker(1)
    for tick, part, parts in saws:
        tracker.saw(tick, part, parts, 0.0)
        assert len(tracker.partial) <= GAPS_PENDING_MAX
        assert len(tracker.holes) <= GAPS_PENDING_MAX + 1
    for gap in tracker.finish():
        assert gap.from_tick <= gap.to_tick


# --- going on from a recording ---------------------------------------------------------------


def recorded(*messages: tuple[int, int, int], tick: int, gaps: tuple[Gap, ...] = ()) -> Rig:
    """A rig whose world goes on in epoch 1 from a recording up to ``tick`` that ends with these (tick, part, parts)."""
    rig = Rig()
    rig.world = World(
        "arena",
        WorldSettings(),
        mono=0.0,
        now_us=0,
        next_seq=50,
        last_epoch=1,
        durable=Mark(1, tick),
        tail=Tail(messages, gaps),
    )
    rig.link = RecordingLink()
    rig.session = rig.world.attach_publisher(rig.link, 1, 0.0)
    return rig


def test_a_tick_that_was_awaited_when_the_gateway_died_is_no_durable_one_and_then_a_gap() -> None:
    rig = recorded((1, 0, 1), (2, 0, 1), (4, 0, 1), (5, 0, 1), tick=5)
    assert rig.world.journal.durable == Mark(1, 2)
    assert rig.link.controls[0]["durable"] == {"epoch": 1, "tick": 2}
    assert not rig.world.journal.ready
    rig.publish(6)
    batch = rig.take()
    assert batch is not None
    assert (batch.gaps, batch.tick) == ((Gap(1, 3, 3, "unseen"),), 6)


def test_parts_that_were_awaited_when_the_gateway_died_are_a_gap() -> None:
    rig = recorded((1, 0, 1), (2, 0, 1), (3, 1, 3), (3, 2, 3), tick=3)
    assert rig.world.journal.durable == Mark(1, 2)
    rig.publish(6)
    batch = rig.take()
    assert batch is not None
    rig.world.committed(batch, rig.mono)
    rig.mono += limits.GAP_WAIT_S + 0.1
    rig.world.poll(rig.mono, 0)
    later = rig.take()
    assert later is not None
    assert {*batch.gaps, *later.gaps} == {Gap(1, 3, 3, "partial"), Gap(1, 4, 5, "unseen")}


@pytest.mark.parametrize(
    ("gaps", "missing"),
    [
        ((Gap(1, 3, 3, "unseen"),), ()),
        ((Gap(1, 3, 4, "dropped"),), ((5, 5),)),
        ((Gap(1, 4, 4, "unseen"),), ((3, 3), (5, 5))),
        ((Gap(1, 1, 9, "dropped"),), ()),
    ],
)
def test_what_was_told_as_a_gap_is_not_told_again(
    gaps: tuple[Gap, ...], missing: tuple[tuple[int, int], ...]
) -> None:
    upto = 3 if gaps[0] == Gap(1, 3, 3, "unseen") else 5
    rig = recorded((1, 0, 1), (2, 0, 1), (upto + 1, 0, 1), tick=upto + 1, gaps=gaps)
    rig.publish(upto + 2)
    batch = rig.take()
    assert batch is not None
    assert [(gap.from_tick, gap.to_tick) for gap in batch.gaps] == list(missing)


def test_frames_that_a_keyframe_stands_for_are_missing_but_for_those_that_were_dropped() -> None:
    rig = recorded((6, 0, 1), (7, 0, 1), tick=11, gaps=(Gap(1, 9, 11, "dropped"),))
    assert rig.world.journal.durable == Mark(1, 7)
    rig.publish(12)
    batch = rig.take()
    assert batch is not None
    assert batch.gaps == (Gap(1, 8, 8, "unseen"),)


def test_a_recording_that_misses_nothing_is_durable_up_to_its_end() -> None:
    rig = recorded((1, 0, 2), (1, 1, 2), (2, 0, 0), (3, 0, 1), tick=3)
    assert rig.world.journal.durable == Mark(1, 3)
    assert not rig.world.journal.awaits


def test_the_mark_moves_when_what_was_waited_for_comes_and_brings_nothing_new() -> None:
    rig = Rig()
    woken = []
    rig.world.on_work = lambda: woken.append(rig.mono)
    for tick in (1, 2, 4):
        rig.publish(tick)
    batch = rig.take()
    assert batch is not None
    rig.world.committed(batch, rig.mono)
    assert rig.world.journal.durable == Mark(1, 2)
    assert not rig.world.journal.ready
    woken.clear()
    rig.publish(3)  # the record of tick 4 is newer
    assert woken
    empty = rig.take()
    assert empty is not None
    assert (empty.frames, empty.gaps, empty.tick) == ((), (), 4)
    rig.world.committed(empty, rig.mono)
    assert rig.world.journal.durable == Mark(1, 4)
    assert rig.world.journal.empty


def test_a_late_tick_tells_that_the_publisher_counts_by_one() -> None:
    tracker = GapTracker(1)
    for tick in (1, 4, 3):
        tracker.saw(tick, 0, 1, 0.0)
    assert tracker.decide(limits.GAP_WAIT_S * 2) == [Gap(1, 2, 2, "unseen")]


def test_parts_whose_gap_was_recorded_are_not_missing_again() -> None:
    rig = recorded((1, 0, 1), (2, 0, 1), (3, 0, 2), tick=3, gaps=(Gap(1, 3, 3, "partial"),))
    assert rig.world.journal.durable == Mark(1, 3)
    rig.publish(4)
    batch = rig.take()
    assert batch is not None
    assert batch.gaps == ()


def test_a_late_tick_in_the_middle_of_a_hole_tells_how_far_it_is_from_those_beside_it() -> None:
    tracker = GapTracker(1)
    for tick in (1, 7, 4):
        tracker.saw(tick, 0, 1, 0.0)
    for at in range(1, limits.GAP_STEP_FRAMES):
        tracker.saw(7 + 3 * at, 0, 1, 0.0)
    assert tracker.finish() == []


def parted(tick: int, part: int, parts: int) -> bytes:
    return encode_frame(Frame(1, tick, [Record(part, b"x" * 40)], part=part, parts=parts))


class Pause:
    """A publisher whose frame stops in the middle of its parts."""

    def __init__(self, *, lossy: bool) -> None:
        self.world = World("arena", WorldSettings(), mono=0.0, now_us=0)
        self.session = self.world.attach_publisher(RecordingLink(lossy=lossy), 1, 0.0)

    def batch_at(self, mono: float) -> Batch | None:
        self.world.poll(mono, int(mono * 1e6))
        batch = self.world.take_batch(mono)
        if batch is not None:
            self.world.committed(batch, mono)
        return batch

    def durable(self) -> Mark | None:
        return self.world.journal.durable


@pytest.mark.parametrize("lossy", [True, False], ids=["by a stream", "in order"])
def test_a_frame_that_pauses_on_its_way_is_durable_when_all_of_it_is(lossy: bool) -> None:
    pause = Pause(lossy=lossy)
    for part, mono in enumerate((0.0, 2.0, 5.0)):
        if lossy:
            message = parted(1, part, 3)
            data = len(message).to_bytes(4, "little") + message
            pause.session.on_stream_data(4, data, part == 2, mono)
        else:
            pause.session.on_message(parted(1, part, 3), mono)
        batch = pause.batch_at(mono + 0.5)
        assert batch is None or not batch.gaps
        assert (pause.durable() == Mark(1, 1)) == (part == 2)


def test_what_is_lost_is_not_waited_for_because_of_a_stream_that_began_later() -> None:
    pause = Pause(lossy=True)
    pause.session.on_message(parted(1, 0, 2), 0.0)
    pause.session.on_stream_data(4, b"\x10", False, 0.3)
    batch = pause.batch_at(0.6)
    assert batch is not None
    assert batch.gaps == (Gap(1, 1, 1, "partial"),)


@pytest.mark.parametrize("ending", ["reset", "time", "next tick in order"])
def test_the_rest_of_a_frame_is_not_waited_for_without_end(ending: str) -> None:
    pause = Pause(lossy=ending != "next tick in order")
    message = parted(1, 0, 2)
    if pause.session.link.lossy:
        pause.session.on_stream_data(4, len(message).to_bytes(4, "little") + message, False, 0.0)
    else:
        pause.session.on_message(message, 0.0)
    if ending == "reset":
        pause.session.on_stream_reset(4)
    elif ending != "time":
        pause.session.on_message(parted(2, 0, 1), 0.1)
    batch = pause.batch_at(GAP_COMING_S + 0.1 if ending == "time" else 0.5)
    assert batch is not None
    assert batch.gaps == (Gap(1, 1, 1, "partial"),)
