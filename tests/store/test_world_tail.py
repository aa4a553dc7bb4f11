"""Following a recording some seconds behind: in simulated time, whatever happens to the world, the view is that of then."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.ports import LiveOptions
from gateway.core.state import WorldState
from gateway.core.world import World, WorldSettings
from gateway.store.world import Retention, WorldDatabase
from gateway.store.world.tail import TailReader
from gateway.wire import Frame, decode_frame
from tests.core.links import RecordingLink
from tests.store.memory_store import MemoryStore
from tests.store.recording import SECOND_US, START_US, Recorder
from tests.store.test_world_history import Play, played

DELAY_US = 2 * SECOND_US


class Watched(Play):
    """A world to which everything happens, also a store that is away until the journal lets go of frames, and when
    each record came."""

    journal_bytes_max = 4_000

    def __init__(self, dice: random.Random, stride: int) -> None:
        self.came: dict[tuple[int, int, int], int] = {}
        super().__init__(dice, stride)

    def act(self) -> None:
        if self.dice.random() < 0.05:
            for _ in range(self.dice.randint(5, 40)):
                self.send(self.frame(self.records()))
        super().act()

    def send(self, frame: Frame) -> None:
        super().send(frame)
        for key in frame.keys:
            self.came.setdefault((frame.epoch, frame.tick, key), self.now_us)


class Viewer:
    """A delayed view with one reader, driven as a feed drives it. ``now_us`` is its clock."""

    def __init__(self, made: WorldDatabase, now_us: int) -> None:
        self.made = made
        self.now_us = now_us
        self.link = RecordingLink(lossy=False, bytes_max=65_535)
        self.tail = TailReader()
        state = self.tail.begin(made, now_us - DELAY_US)
        assert isinstance(state, WorldState)
        self.world = World("w", WorldSettings(), mono=0.0, now_us=now_us, state=state, delay_s=2.0)
        self.world.attach_subscriber(self.link, LiveOptions(delay_s=2.0), 0.0)
        self.seen = WorldState()
        self.readings = 0
        self._rows: list[tuple[int, tuple[bytes, ...]]] = []

    def read(self, ahead_us: int, rows_max: int = 7, bytes_max: int = 2_000) -> None:
        until_us, more = self.now_us - DELAY_US + ahead_us, "now"
        while more == "now":
            self.readings += 1
            stretch = self.tail.next(self.made, until_us, rows_max, bytes_max)
            more = stretch.more
            self._rows += [(row.received_at_us, row.messages) for row in stretch.rows]

    def show(self) -> list[Frame]:
        """What is old enough by now; what the reader was given."""
        mono = (self.now_us - START_US) / 1e6
        while self._rows and self._rows[0][0] <= self.now_us - DELAY_US:
            for message in self._rows.pop(0)[1]:
                frame = decode_frame(message)
                self.world.ingest(frame, message, frame.epoch, mono)
        self.world.poll(mono, self.now_us)
        frames = [*self.link.frames(), *self._streamed()]
        for frame in frames:
            self.seen.apply(frame)
        return frames

    def _streamed(self) -> list[Frame]:
        streams, self.link.streams = self.link.streams, {}
        return [decode_frame(message) for messages in streams.values() for message in messages]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 8]), st.integers(5, 200), st.integers(0, 100))
def test_a_delayed_reader_gets_nothing_too_soon_and_everything_in_the_end(
    seed: int, stride: int, actions: int, joins_after: int
) -> None:
    dice = random.Random(seed)
    play = Watched(dice, stride)
    viewer: Viewer | None = None
    for number in range(actions):
        play.act()
        if number == min(joins_after, actions - 1):
            viewer = Viewer(play.made, play.now_us)
        if viewer is not None:
            viewer.made, viewer.now_us = play.made, play.now_us
            if dice.random() < 0.5:
                viewer.read(ahead_us=dice.choice([0, SECOND_US, DELAY_US - 1]))
            for frame in viewer.show():
                keys, _, ticks = frame.columns()
                for key, tick in zip(keys, ticks or [frame.tick] * len(keys), strict=True):
                    came_us = play.came.get((frame.epoch, tick, key), 0)
                    assert came_us <= viewer.now_us - DELAY_US
    assert viewer is not None
    play.commit()
    for _ in range(4):
        viewer.now_us = play.now_us + DELAY_US
        play.mono += 1
        viewer.read(ahead_us=0)
        viewer.show()
    assert viewer.world.state.snapshot() == viewer.seen.snapshot() == play.live.state.snapshot()
    play.made.close()


def test_the_view_begins_with_the_state_of_then_and_goes_on_row_by_row() -> None:
    made, recorder = played(100)
    times = sorted(recorder.times)
    for start in (10, 33, 60):
        viewer = Viewer(made, times[start] + DELAY_US)
        viewer.show()
        assert viewer.seen.snapshot() == recorder.times[times[start]]
        for at_us in times[start + 1 :]:
            viewer.now_us = at_us + DELAY_US
            viewer.read(ahead_us=SECOND_US)
            viewer.show()
            assert viewer.seen.snapshot() == recorder.times[at_us]


def test_one_reading_takes_a_stretch_of_time_and_says_where_it_stopped() -> None:
    made, recorder = played(100)
    times, tail = sorted(recorder.times), TailReader()
    tail.begin(made, times[0] - 1)
    first = tail.next(made, times[40], 10_000, 1 << 20)
    assert (first.rows[-1].received_at_us, first.more) == (times[40], "later")
    part = tail.next(made, times[60], 3, 1 << 20)
    assert (len(part.rows), part.more) == (3, "now")
    rest = tail.next(made, times[-1] + 1, 10_000, 1 << 20)
    assert (rest.rows[-1].received_at_us, rest.more) == (times[-1], "none")
    assert tail.next(made, times[-1] + 1, 10_000, 1 << 20) == ([], "none")


def test_before_anything_is_old_enough_there_is_nothing_and_then_the_first_row() -> None:
    made, recorder = played(30)
    times = sorted(recorder.times)
    viewer = Viewer(made, times[0])
    viewer.read(ahead_us=SECOND_US)
    assert viewer.show() == []
    assert viewer.link.control_types() == ["welcome"]
    viewer.now_us = times[0] + DELAY_US
    viewer.read(ahead_us=0)
    viewer.show()
    assert viewer.seen.snapshot() == recorder.times[times[0]]


def test_what_the_ring_let_go_before_it_was_read_is_made_up_for_by_a_keyframe() -> None:
    made, recorder = played(40, retention=Retention("ring", 3600))
    tail = TailReader()
    tail.begin(made, sorted(recorder.times)[0])
    made.set_retention(Retention("ring", 1))
    for each in recorder.batches(60, 4):
        made.append(each)
    assert made.prune(recorder.now_us + SECOND_US)
    state = WorldState()
    for row in tail.next(made, recorder.now_us, 10_000, 1 << 30).rows:
        for message in row.messages:
            state.apply(decode_frame(message))
    assert state.snapshot() == recorder.state.snapshot()


def test_a_row_that_does_not_unpack_is_made_up_for_by_the_next_keyframe() -> None:
    made, recorder = played(100)
    seq = 30
    made.transact(lambda c: c.execute("UPDATE frames SET body = x'00' WHERE seq = ?", (seq,)))
    tail = TailReader()
    state = tail.begin(made, START_US)
    assert isinstance(state, WorldState)
    for row in tail.next(made, recorder.now_us, 10_000, 1 << 30).rows:
        for message in row.messages:
            state.apply(decode_frame(message))
    assert state.snapshot() == recorder.state.snapshot()


@pytest.mark.parametrize("by_s", [-30, 30])
def test_a_clock_that_was_set_while_it_was_recorded_does_not_stop_the_view(by_s: int) -> None:
    made, recorder = (
        WorldDatabase.create(MemoryStore(), "w", make_state=WorldState, now_us=START_US)[0],
        Recorder(),
    )
    made.begin_epoch(None, START_US)
    for each in recorder.batches(60, 4):
        made.append(each)
    recorder.now_us += by_s * SECOND_US
    recorder.wants_keyframe()
    for each in recorder.batches(60, 4):
        made.append(each)
    tail = TailReader()
    tail.begin(made, START_US - 60 * SECOND_US)
    rows = tail.next(made, recorder.now_us + 1, 10_000, 1 << 30).rows
    assert rows[-1].received_at_us == recorder.now_us
