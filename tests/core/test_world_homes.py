"""A world whose home changes: it is fed by another gateway, adopts what that one recorded, or is told that it moved away."""

from __future__ import annotations

import pytest

from gateway.core.ports import CloseCode, LiveOptions, Mark
from gateway.core.state import WorldState
from gateway.core.world import World, WorldSettings
from gateway.limits import DURABLE_NOTICE_S, DURABLE_PATIENCE_S, GAP_POLL_S, RATES_WINDOW_S
from gateway.wire import Frame, Record, decode_frame, encode_frame
from gateway.wire.journal import Batch, Gap, Tail
from tests.core.links import RecordingLink

NOW_US = 1_800_000_000_000_000


def message(tick: int, values: dict[int, bytes | None], epoch: int = 3, **how: object) -> bytes:
    return encode_frame(Frame(epoch, tick, [Record(k, v) for k, v in values.items()], **how))  # type: ignore[arg-type]


def recorded(*messages: bytes) -> WorldState:
    state = WorldState()
    for one in messages:
        state.apply(decode_frame(one))
    return state


class Home:
    """A world, what is read of it, and how often whoever drives it was woken."""

    def __init__(self, *, delay_s: float = 0.0) -> None:
        self.world = World("arena", mono=100.0, now_us=NOW_US, delay_s=delay_s)
        self.wakes = 0
        self.world.on_work = self._work

    def _work(self) -> None:
        self.wakes += 1

    def feed(self, *messages: bytes, epoch: int = 3, mono: float = 100.0) -> None:
        for one in messages:
            self.world.ingest(decode_frame(one), one, epoch, mono)

    def read(self, *, ordered: bool = False) -> RecordingLink:
        """A reader that has what there is."""
        link = RecordingLink(lossy=not ordered)
        self.world.attach_subscriber(link, LiveOptions(conflate=not ordered), 100.0)
        link.frames()
        return link

    def take(self, mono: float = 100.0) -> Batch:
        batch = self.world.take_batch(mono)
        assert batch is not None
        return batch

    def adopt(
        self, state: WorldState | None, *, next_seq: int = 50, mono: float = 101.0, **how: object
    ) -> None:
        known: dict[str, object] = {"last_epoch": 3, "durable": None, **how}
        self.world.adopt(state, next_seq=next_seq, mono=mono, **known)  # type: ignore[arg-type]
        self.world.poll(mono + 0.5, NOW_US)


# --- what is fed ----------------------------------------------------------------------------


@pytest.mark.parametrize("delay_s", [0.0, 2.0])
def test_what_is_fed_or_read_from_the_store_goes_to_readers_and_into_no_journal(delay_s: float) -> None:
    home = Home(delay_s=delay_s)
    if not delay_s:
        home.world.begin_fed(100.0)
    link = home.read()
    home.feed(message(1, {1: b"a"}))
    assert [frame.records[0].data for frame in link.frames()] == [b"a"]
    assert home.world.take_batch(100.0) is None
    assert home.world.journal.oldest is None


def test_who_begins_to_be_fed_goes_on_with_its_readers_and_its_time() -> None:
    home = Home()
    home.feed(message(1, {1: b"a"}))
    home.world.committed(home.take(), 100.0)
    next_seq = home.world.journal.next_seq
    link = home.read()
    home.world.begin_fed(99.0)
    assert (home.world.mono, home.world.is_fed) == (100.0, True)
    assert (home.world.journal.next_seq, home.world.journal.durable) == (next_seq, Mark(3, 1))
    home.world.begin_fed(105.0)
    assert home.world.mono == 105.0
    home.feed(message(2, {2: b"b"}))
    assert [frame.tick for frame in link.frames()] == [2]
    assert link.control_types() == ["welcome", "resync"]


def end_by_moving(home: Home) -> None:
    home.world.moved_away("https://there")


def end_by_feeding(home: Home) -> None:
    home.world.begin_fed(101.0)


def end_by_adopting(home: Home) -> None:
    home.adopt(None)


@pytest.mark.parametrize("ends", [end_by_moving, end_by_feeding, end_by_adopting])
@pytest.mark.parametrize("is_down", [True, False])
def test_what_is_in_flight_when_the_journal_becomes_another_one_is_nobodys(
    ends: object, is_down: bool
) -> None:
    home = Home()
    home.feed(message(1, {1: b"a"}))
    batch = home.take()
    assert not home.world.is_forgone(batch)
    ends(home)  # type: ignore[operator]
    assert home.world.is_forgone(batch)
    if is_down:
        home.world.committed(batch, 101.0)
    else:
        home.world.failed(batch, 101.0)
    assert home.world.journal.durable is None
    assert home.world.counters.journal_failures == 0
    assert home.world.take_batch(110.0) is None


def test_what_was_forgone_stays_so_when_the_home_changes_again() -> None:
    home = Home()
    home.feed(message(1, {1: b"a"}))
    batch = home.take()
    home.world.begin_fed(101.0)
    home.adopt(None)
    assert home.world.is_forgone(batch)


def test_a_batch_that_failed_is_given_again_and_is_not_forgone() -> None:
    home = Home()
    home.feed(message(1, {1: b"a"}))
    batch = home.take()
    home.world.failed(batch, 100.1)
    assert home.world.counters.journal_failures == 1
    assert home.take(100.2) is batch


# --- adopting -------------------------------------------------------------------------------


def test_where_nobody_reads_the_recording_takes_the_place_of_what_was_there() -> None:
    home = Home()
    home.feed(message(9, {1: b"lost", 2: b"lost"}))
    home.adopt(recorded(message(4, {1: b"a"})), last_epoch=6, durable=Mark(3, 4), mono=90.0)
    assert home.world.state.snapshot() == {1: b"a"}
    assert (home.world.state.tick, home.world.last_epoch) == (4, 6)
    assert home.world.journal.durable == Mark(3, 4)
    assert home.world.reclaim_epoch(LiveOptions(role="publish", epoch=6)) == 6
    link = home.read()
    home.feed(message(5, {1: b"b"}))
    assert [frame.tick for frame in link.frames()] == [5]
    assert home.take().frames[0].seq == 50


def test_where_nobody_reads_and_nothing_is_recorded_the_world_is_empty() -> None:
    home = Home()
    home.feed(message(9, {1: b"lost"}))
    home.adopt(None)
    assert home.world.state.snapshot() == {}
    assert (home.world.journal.next_seq, home.world.is_fed) == (50, False)


@pytest.mark.parametrize(("told", "newest"), [(90.0, 100.0), (104.0, 104.0)])
def test_time_does_not_go_back_when_a_recording_is_adopted(told: float, newest: float) -> None:
    home = Home()
    home.world.adopt(None, next_seq=0, last_epoch=0, durable=None, mono=told)
    assert home.world.mono == newest


def test_with_readers_too_what_comes_is_recorded_behind_what_the_other_one_recorded() -> None:
    home = Home()
    home.world.begin_fed(100.0)
    home.feed(message(1, {1: b"a"}))
    link = home.read()
    tail = Tail(((1, 0, 1), (2, 0, 2)))
    home.adopt(recorded(message(1, {1: b"a"}), message(2, {2: b"b"})), durable=Mark(3, 2), tail=tail)
    assert home.world.journal.durable == Mark(3, 1)
    assert link.control_types() == ["welcome", "resync"]
    home.feed(message(3, {1: b"c"}), mono=102.0)
    batch = home.take(102.0)
    assert [frame.seq for frame in batch.frames] == [50, 51]
    assert Gap(3, 2, 2, "partial") in batch.gaps


def test_whoever_takes_batches_is_told_when_a_recording_was_adopted_under_readers() -> None:
    home = Home()
    home.feed(message(1, {1: b"a"}))
    home.read()
    home.wakes = 0
    home.world.adopt(None, next_seq=1, last_epoch=3, durable=None, mono=101.0)
    assert home.wakes == 1


def test_readers_get_a_record_that_is_older_than_the_newest_frame_that_they_were_fed() -> None:
    home = Home()
    home.world.begin_fed(100.0)
    home.feed(message(1, {1: b"a"}), message(3, {3: b"c"}))
    link = home.read()
    home.adopt(recorded(message(1, {1: b"a"}), message(2, {2: b"b"}), message(3, {3: b"c"})))
    assert link.frames() == []  # which the keyframe, still on its way, would have the reader drop
    link.done.update(link.streams)
    home.world.poll(home.world.next_poll, 0)
    assert {record.key: record.data for frame in link.frames() for record in frame.records} == {2: b"b"}
    assert link.control_types() == ["welcome", "resync"]


@pytest.mark.parametrize(("newer", "starts"), [(False, 1), (True, 2)])
def test_who_wants_every_message_starts_afresh_only_where_the_recording_is_newer(
    newer: bool, starts: int
) -> None:
    home = Home()
    home.world.begin_fed(100.0)
    home.feed(message(1, {1: b"a"}), message(2, {2: b"b"}))
    link = home.read(ordered=True)
    state = recorded(message(1, {1: b"a"}), message(2, {2: b"b"}))
    if newer:  # by a frame without anything in it
        state.apply(decode_frame(message(5, {})))
    home.adopt(state)
    assert link.control_types().count("resync") == starts
    assert home.world.state.tick == (5 if newer else 2)


# --- moving away ----------------------------------------------------------------------------


def test_everybody_is_told_where_a_world_went_that_moved_away() -> None:
    home, publisher = Home(), RecordingLink()
    session = home.world.attach_publisher(publisher, 3, 100.0)
    session.on_message(message(1, {1: b"a"}), 100.0)
    link = home.read()
    home.world.moved_away("https://there:4433")
    assert publisher.controls[-1].fields == {
        "reason": "taken_over",
        "reconnect_after_ms": 0,
        "world": "arena",
        "url": "https://there:4433",
    }
    assert publisher.closed is CloseCode.TAKEN_OVER
    assert [control.type for control in link.controls[-2:]] == ["moved", "bye"]
    assert link.controls[-2].fields == {"world": "arena", "url": "https://there:4433/v1/worlds/arena/live"}
    assert link.closed is CloseCode.HELD_ELSEWHERE
    assert not home.world.subscribers
    assert home.world.publisher is None
    assert home.world.take_batch(101.0) is None


def test_readers_stay_where_the_home_is_followed_from_here() -> None:
    home, publisher = Home(), RecordingLink()
    home.world.attach_publisher(publisher, 3, 100.0)
    home.feed(message(1, {1: b"a"}))
    home.world.committed(home.take(), 100.0)
    next_seq, link = home.world.journal.next_seq, home.read()
    home.world.moved_away("", readers_stay=True)
    assert publisher.controls[-1].fields == {"reason": "taken_over", "reconnect_after_ms": 0}
    assert (link.closed, len(home.world.subscribers)) == (None, 1)
    assert (home.world.journal.next_seq, home.world.journal.durable) == (next_seq, Mark(3, 1))
    home.world.readers_to("")
    assert [control.type for control in link.controls[-1:]] == ["bye"]
    assert link.controls[-1].fields == {"reason": "moved", "reconnect_after_ms": 0}


def test_nobody_is_waited_for_whose_place_is_at_another_gateway() -> None:
    home, link = Home(), RecordingLink()
    session = home.world.attach_publisher(link, 3, 100.0)
    session.on_closed(101.0)
    assert home.world.is_lingering
    home.world.publisher_goes("elsewhere", "https://there")
    assert (home.world.is_lingering, home.world.next_poll) == (False, None)
    home.world.attach_publisher(link, 3, 102.0)
    home.world.publisher_goes("elsewhere", "https://there")
    assert (link.controls[-1]["reason"], link.controls[-1]["url"]) == ("elsewhere", "https://there")
    assert (link.closed, home.world.publisher) == (CloseCode.TAKEN_OVER, None)


# --- the journal's part ---------------------------------------------------------------------


def test_a_keyframe_for_the_journal_is_shared_only_where_somebody_reads() -> None:
    for reads in (False, True):
        home = Home()
        home.feed(message(1, {1: b"a"}))
        if reads:
            home.read()
        before = home.world.counters.keyframes_encoded
        (keyframe,) = [frame for frame in home.take().frames if frame.keyframe]
        assert decode_frame(keyframe.messages[0]).records[0].data == b"a"
        if not reads:
            home.feed(message(2, {1: b"b"}), mono=100.01)
        link = RecordingLink()
        home.world.attach_subscriber(link, LiveOptions(), 100.02)
        got = [record.data for part in link.streams[0] for record in decode_frame(part).records]
        assert got == [b"a" if reads else b"b"]
        assert home.world.counters.keyframes_encoded - before == (0 if reads else 2)


def test_rows_are_dated_by_the_wall_clock_as_it_was_told_last() -> None:
    home = Home()
    home.feed(message(1, {1: b"a"}), mono=101.5)
    assert home.take(101.5).frames[0].received_at_us == NOW_US + 1_500_000
    late = Home()
    late.world.poll(102.0, NOW_US + 60_000_000)
    late.feed(message(1, {1: b"a"}), mono=103.0)
    batch = late.take(104.0)
    assert [frame.received_at_us for frame in batch.frames] == [NOW_US + 61_000_000, NOW_US + 62_000_000]


def test_whoever_takes_batches_is_woken_by_the_first_message_by_what_is_missing_and_by_a_commit() -> None:
    home = Home()
    home.feed(message(1, {1: b"a"}))
    assert home.wakes == 1
    home.feed(message(2, {1: b"b"}))
    assert home.wakes == 1
    assert home.world.next_poll is None
    home.feed(message(4, {1: b"c"}), mono=100.5)
    assert (home.wakes, home.world.next_poll) == (2, 100.5 + GAP_POLL_S)
    home.feed(message(7, {1: b"d"}), mono=100.55)
    assert (home.wakes, home.world.next_poll) == (2, 100.5 + GAP_POLL_S)
    home.world.committed(home.take(100.6), 100.6)
    assert home.wakes == 3


def test_looking_for_what_is_missing_ends_when_nothing_is() -> None:
    home = Home()
    home.feed(message(1, {1: b"a"}), message(2, {1: b"b"}), message(4, {1: b"c"}))
    asked = 0
    while (due := home.world.next_poll) is not None:
        home.world.poll(due, NOW_US)
        asked += 1
    assert 2 <= asked <= 4
    assert home.take(101.0).gaps == (Gap(3, 3, 3, "unseen"),)


def test_what_came_before_and_brings_nothing_new_is_not_missing() -> None:
    home = Home()
    home.feed(message(1, {1: b"a"}), message(2, {1: b"b"}), message(4, {1: b"d"}))
    home.feed(message(3, {1: b"c"}))
    assert home.world.counters.late == 1
    home.world.poll(101.0, NOW_US)
    batch = home.take(101.0)
    assert (batch.gaps, batch.tick) == ((), 4)


def test_a_publisher_hears_of_each_commit_that_moved_the_mark_and_of_no_other() -> None:
    home, link = Home(), RecordingLink(lossy=False)
    session = home.world.attach_publisher(link, 3, 100.0)
    session.wants_lags = True
    session.on_message(message(1, {1: b"a"}), 100.0)
    home.world.committed(home.take(), 100.0)
    assert link.controls[-1].fields == {"epoch": 3, "tick": 1}
    session.on_message(message(3, {1: b"c"}), 100.01)  # of which the tick before may still come
    session.on_message(message(2, {9: b"b"}), 100.02)
    home.world.committed(home.take(100.02), 100.02)
    session.on_message(message(4, {1: b"c"}), 100.03)
    home.world.committed(home.take(100.03), 100.03)
    session.on_message(message(4, {8: b"late part"}), 100.04)
    home.world.committed(home.take(100.04), 100.04)
    home.world.poll(100.2, NOW_US)
    assert link.controls[-1].fields == {"epoch": 3, "tick": 4, "commits": [[3, 180], [4, 170]]}


def test_the_first_of_several_times_is_when_a_world_is_to_be_polled() -> None:
    home = Home()
    session = home.world.attach_publisher(RecordingLink(), 3, 100.0)
    session.on_message(message(1, {1: b"a"}), 100.0)
    session.on_message(message(4, {1: b"a"}), 100.0)
    session.on_closed(100.0)
    assert home.world.next_poll == 100.0 + GAP_POLL_S
    home.world.poll(101.0, NOW_US)
    assert home.world.mono == 101.0


def test_a_publisher_that_hears_of_no_commit_by_a_commit_hears_when_its_time_has_come() -> None:
    home, link = Home(), RecordingLink(lossy=False)
    session = home.world.attach_publisher(link, 3, 100.0)
    home.world.poll(100.0, NOW_US)
    assert link.control_types() == ["welcome"]
    for tick, mono in ((1, 100.0), (2, 100.01)):
        session.on_message(message(tick, {1: b"a"}), mono)
        home.world.committed(home.take(mono), mono)
    assert (link.control_types(), link.controls[-1]["tick"]) == (["welcome", "durable"], 1)
    due = home.world.next_poll
    assert due == pytest.approx(100.0 + DURABLE_NOTICE_S + DURABLE_PATIENCE_S)
    home.world.poll(due, NOW_US)
    assert (link.control_types()[-1], link.controls[-1]["tick"]) == ("durable", 2)
    assert home.world.next_poll is None


def test_a_publisher_is_told_later_where_a_commit_is_about_to_move_the_mark() -> None:
    home, link = Home(), RecordingLink(lossy=False)
    session = home.world.attach_publisher(link, 3, 100.0)
    for tick, mono in ((1, 100.0), (2, 100.01)):
        session.on_message(message(tick, {1: b"a"}), mono)
        home.world.committed(home.take(mono), mono)
    session.on_message(message(3, {1: b"a"}), 100.02)
    batch, due = home.take(100.02), 100.0 + DURABLE_NOTICE_S + DURABLE_PATIENCE_S + 0.001
    home.world.poll(due, NOW_US)
    assert link.controls[-1]["tick"] == 1
    home.world.committed(batch, due)
    assert link.controls[-1]["tick"] == 3


def test_rates_are_of_the_last_seconds_where_batches_are_taken() -> None:
    home = Home()
    for second in range(20):
        for tick in range(10 if second < 10 else 1):
            home.feed(message(1 + 10 * second + tick, {1: b"a"}), mono=100.0 + second)
        home.world.take_batch(100.0 + second)
    assert home.world.facts(120.0).rates["frames_per_s"] == pytest.approx(1.0, abs=1 / RATES_WINDOW_S)


def test_a_worlds_stride_is_told_as_it_was_made_or_as_its_frames_have_it() -> None:
    for settings, state, told in ((16, 0, 16), (0, 8, 8), (0, 0, 0)):
        world = World("arena", WorldSettings(stride=settings), mono=0.0, now_us=0)
        world.state.stride = state
        assert world.facts(0.0).stride == told
