"""A recording gives back, byte for byte, what live readers had."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.state import WorldState
from gateway.core.world import World as LiveWorld
from gateway.core.world import WorldSettings
from gateway.errors import BadInput, NothingRecorded, UnknownWorld, Unprocessable
from gateway.limits import JOURNAL_BYTES_MAX, RECOVERED_TAIL_ROWS_MAX
from gateway.store.base import Namespace
from gateway.store.database import Database
from gateway.store.world import FrameCursor, Part, Retention, WorldDatabase
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.journal import Gap, JournalFrame, Tail, order_of
from tests.store.memory_store import MemoryStore
from tests.store.recording import SECOND_US, START_US, Recorder, batch, damaged

RECORD = Retention("record")


def world(
    store: MemoryStore, *, retention: Retention = RECORD, level: int = 3, stride: int = 0
) -> WorldDatabase:
    return WorldDatabase.create(
        store,
        "w",
        make_state=WorldState,
        now_us=START_US,
        retention=retention,
        level=level,
        stride=stride,
    )[0]


def played(ticks: int, *, retention: Retention = RECORD, **options: int) -> tuple[WorldDatabase, Recorder]:
    made, recorder = world(MemoryStore(), retention=retention), Recorder(**options)
    made.begin_epoch(None, START_US)
    for each in recorder.batches(ticks, 4):
        made.append(each)
    return made, recorder


class Play:
    """A world of ``core`` and its database, and a publisher to whom everything happens that can: late
    parts, lost ticks, restarts, silence, crashes of the gateway. Keeps what live readers had."""

    journal_bytes_max = JOURNAL_BYTES_MAX

    def __init__(self, dice: random.Random, stride: int) -> None:
        self.dice = dice
        self.stride = stride
        self.store = MemoryStore()
        self.mono = 0.0
        self.tick = 0
        self.late: list[Frame] = []
        self.states: dict[tuple[int, int], dict[int, bytes]] = {}
        self.fresh: dict[tuple[int, int], dict[int, bytes]] = {}
        self.times: dict[int, dict[int, bytes]] = {}
        self.epoch = 0
        self.start()

    def start(self) -> None:
        self.made, opened = WorldDatabase.create(
            self.store,
            "w",
            make_state=WorldState,
            now_us=START_US,
            retention=RECORD,
            stride=self.stride,
            level=self.dice.choice([0, 1, 3]),
        )
        found = self.made.last()
        self.live = LiveWorld(
            "w",
            WorldSettings(stride=self.stride, journal_bytes_max=self.journal_bytes_max),
            mono=self.mono,
            now_us=self.now_us,
            state=found and found.state,
            next_seq=opened.last_seq + 1,
            last_epoch=opened.epoch,
        )
        self.attach()

    @property
    def now_us(self) -> int:
        return START_US + round(self.mono * 1e6)

    def attach(self) -> None:
        self.epoch, self.tick = self.made.begin_epoch(None, self.now_us), 0
        self.late.clear()

    def crash(self) -> None:
        self.made.close()
        self.fresh.clear()
        self.start()
        last = self.states[max(self.states)] if self.states else {}
        assert self.live.state.snapshot() == last

    def act(self) -> None:
        what = self.dice.choice(
            ["step"] * 4 + ["part", "lose", "restart", "whole", "silence", "late", "crash"]
        )
        if what == "lose":
            self.tick += 1
        elif what == "restart" and self.dice.random() < 0.4:
            self.attach()
        elif what == "crash" and self.dice.random() < 0.4:
            self.crash()
        elif what == "silence":
            self.mono += self.dice.randint(1, 3)
        elif what == "late" and self.late:
            self.send(self.late.pop(self.dice.randrange(len(self.late))))
        elif what == "whole":
            self.send(self.frame([row for row in self.records() if row.data is not None], keyframe=True))
        elif what == "part":
            first, second = (
                self.frame(self.records(), parts=2),
                self.frame(self.records(), part=1, parts=2, ahead=0),
            )
            self.late.append(second)
            self.send(first)
        elif what == "step":
            self.send(self.frame(self.records()))
        if self.dice.random() < 0.4:
            self.commit()

    def records(self) -> list[Record]:
        rows = []
        for key in self.dice.sample(range(6), self.dice.randint(1, 6)):
            data = self.dice.randbytes(max(self.stride - 4, self.dice.randint(0, 20) * (not self.stride)))
            keyed = key.to_bytes(4, "little") + data if self.stride else data
            rows.append(Record(key, keyed if self.stride or self.dice.random() > 0.1 else None))
        return rows

    def frame(
        self, rows: list[Record], *, keyframe: bool = False, part: int = 0, parts: int = 1, ahead: int = 1
    ) -> Frame:
        self.tick += ahead
        return Frame(
            self.epoch,
            self.tick,
            rows,
            stride=self.stride,
            keyframe=keyframe,
            part=part,
            parts=parts,
            sent_at=self.now_us,
        )

    def send(self, frame: Frame) -> None:
        self.mono += 0.05
        if self.live.ingest(frame, encode_frame(frame), self.epoch, self.mono):
            state = self.live.state
            self.fresh[(state.epoch, state.tick)] = state.snapshot()

    def commit(self) -> None:
        self.mono += 0.01
        taken = self.live.take_batch(self.mono)
        if taken is None:
            return
        for _ in range(self.dice.choice([1, 1, 2])):
            self.made.append(taken)
        self.live.committed(taken, self.mono)
        self.states.update(self.fresh)
        self.fresh.clear()
        if taken.frames:
            self.times[self.now_us] = self.live.state.snapshot()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 8, 13]), st.integers(5, 150))
@example(397, 8, 100)
@example(26996, 8, 10)
def test_at_any_moment_the_recording_gives_what_a_live_reader_had(
    seed: int, stride: int, actions: int
) -> None:
    play = Play(random.Random(seed), stride)
    for _ in range(actions):
        play.act()
    play.commit()
    for (epoch, tick), records in play.states.items():
        assert play.made.state_at_tick(epoch, tick).records() == records
    for at_us, records in play.times.items():
        assert play.made.state_at_time(at_us).records() == records
    last = play.made.last()
    assert (last.records() if last else {}) == play.live.state.snapshot()
    seqs = [item.seq for item in play.made.frames(keyframes=True) if isinstance(item, JournalFrame)]
    assert seqs == list(range(play.live.journal.next_seq))
    assert damaged(play.made) == []
    play.made.close()


def test_an_empty_world_has_no_last_state_and_says_so_for_any_moment() -> None:
    made = world(MemoryStore())
    assert made.last() is None
    assert list(made.frames()) == []
    with pytest.raises(NothingRecorded, match="nothing is; publish"):
        made.state_at_tick(1, 1)


def test_a_moment_before_the_recording_names_where_it_begins() -> None:
    made, _ = played(20)
    with pytest.raises(NothingRecorded, match="begins at tick 1 of epoch 1"):
        made.state_at_time(START_US - 1)
    with pytest.raises(NothingRecorded) as caught:
        made.state_at_tick(0, 5)
    assert caught.value.facts["first"]["tick"] == 1


def test_a_tick_that_is_missing_names_its_neighbours() -> None:
    made, recorder = played(20)
    recorder.tick += 3
    made.append(batch(recorder.step(), (Gap(1, 21, 23, "unseen"),)))
    with pytest.raises(
        NothingRecorded, match=r"before it is tick 20 of epoch 1, after it tick 24 of epoch 1"
    ):
        made.state_at_tick(1, 22)
    assert made.state_at_tick(1, 22, exact=False).tick == 20
    assert made.state_at_tick(1, 24).gaps == (Gap(1, 21, 23, "unseen"),)
    with pytest.raises(NothingRecorded, match="nothing after it"):
        made.state_at_tick(1, 99)


def test_frames_come_in_order_with_gaps_where_they_are() -> None:
    made, recorder = played(12)
    recorder.tick += 2
    made.append(batch(recorder.step(), (Gap(1, 13, 14, "unseen"),)))
    shown = [
        (item.tick if isinstance(item, JournalFrame) else item) for item in made.frames((1, 11), (1, 15))
    ]
    assert shown == [11, 12, Gap(1, 13, 14, "unseen"), 15]
    inside = list(made.frames((1, 14), (1, 14)))
    assert inside == [Gap(1, 13, 14, "unseen")]


def test_a_slow_reader_of_history_sees_what_was_pruned_meanwhile_as_a_gap() -> None:
    made, recorder = played(40, retention=Retention("ring", 2), hz=20)
    cursor = FrameCursor(made)
    first = [item for item in cursor.next(5) if isinstance(item, JournalFrame)]
    for each in recorder.batches(200, 4):
        made.append(each)
    rest = cursor.next(10_000)
    gap = rest[0]
    assert isinstance(gap, Gap)
    assert (gap.from_tick, gap.reason) == (first[-1].tick + 1, "dropped")
    following = [item for item in rest[1:] if isinstance(item, JournalFrame)]
    assert following[0].tick == gap.to_tick + 1
    assert following[-1].tick == recorder.tick


def test_a_ring_keeps_its_seconds_and_every_moment_in_them() -> None:
    made, recorder = played(400, retention=Retention("ring", 5), hz=20)
    first = made.summary()["first"]
    kept_us = recorder.now_us - first["received_at_us"]
    assert 5 * SECOND_US <= kept_us <= 8 * SECOND_US
    for (epoch, tick), records in recorder.states.items():
        if order_of(epoch, tick) >= order_of(first["epoch"], first["tick"]):
            assert made.state_at_tick(epoch, tick).records() == records
    with pytest.raises(NothingRecorded, match="before the recording"):
        made.state_at_tick(1, 5)


def test_retention_can_be_changed_and_what_it_no_longer_covers_goes() -> None:
    made, recorder = played(400)
    assert made.summary()["first"]["tick"] == 1
    made.set_retention(Retention("ring", 3))
    assert made.info().retention == Retention("ring", 3)
    while made.prune(recorder.now_us, 64):
        pass
    assert made.summary()["first"]["tick"] > 300
    assert made.last() is not None


@pytest.mark.parametrize(("mode", "ring_s"), [("forever", 60), ("ring", 0), ("ring", 10**9)])
def test_a_retention_out_of_bounds_is_refused(mode: str, ring_s: int) -> None:
    with pytest.raises(BadInput):
        Retention(mode, ring_s)  # type: ignore[arg-type]


def test_an_epoch_never_goes_back_and_its_newest_owner_gets_it_again() -> None:
    store = MemoryStore()
    made = world(store)
    assert [made.begin_epoch(None, START_US), made.begin_epoch(1, START_US)] == [1, 1]
    assert made.begin_epoch(None, START_US) == 2
    assert made.begin_epoch(1, START_US) == 3
    assert made.begin_epoch(77, START_US) == 4
    made.close()
    made = world(store)
    assert made.begin_epoch(4, START_US) == 4
    assert made.begin_epoch(None, START_US) == 5
    made.end_epoch(5, START_US + 1)
    assert made.read(lambda c: c.execute("SELECT ended_at FROM epochs WHERE epoch = 5").get) == START_US + 1


def test_opening_again_tells_where_to_go_on() -> None:
    store, recorder = MemoryStore(), Recorder()
    made = world(store)
    made.begin_epoch(None, START_US)
    for each in recorder.batches(7):
        made.append(each)
    made.close()
    again, opened = WorldDatabase.create(store, "w", make_state=WorldState, now_us=START_US, stride=100)
    assert (opened.created, opened.last_seq, opened.epoch) == (False, recorder.seq - 1, 1)
    assert opened.info.stride == 0
    assert opened.newest is not None
    assert opened.newest.tick == 7
    for each in recorder.batches(30):
        again.append(each)
    assert again.state_at_tick(1, 20).records() == recorder.states[(1, 20)]


def test_one_appended_frame_changes_one_page_most_of_the_time() -> None:
    store, recorder = MemoryStore(), Recorder(stride=100, keys=5)
    made = world(store)
    for each in recorder.batches(200):
        made.append(each)
    pages = [sum(len(part.pages) for part in request.namespaces) for request in store.requests[2:]]
    assert sorted(pages)[len(pages) // 2] == 1
    assert sum(pages) / len(pages) < 2


def test_another_writer_of_the_world_costs_a_retry_and_nothing_is_lost() -> None:
    store, recorder = MemoryStore(), Recorder()
    made = world(store)
    made.append(batch(recorder.step()))
    other = Database.open(store, Namespace("w"))
    other.transact(lambda c: c.execute("CREATE TABLE things(id INTEGER PRIMARY KEY)"))
    made.append(batch(recorder.step()))
    assert made.database.conflicts == 1
    for each in recorder.batches(30):
        made.append(each)
    assert made.last().records() == recorder.state.snapshot()  # type: ignore[union-attr]
    assert other.read(lambda c: c.execute("PRAGMA integrity_check").get) == "ok"


def test_what_goes_with_a_batch_is_there_with_it_or_not_at_all() -> None:
    made, recorder = played(4)
    made.transact(lambda c: c.execute("CREATE TABLE things(id INTEGER PRIMARY KEY)"))
    made.append(batch(recorder.step()), lambda c: c.execute("INSERT INTO things VALUES(1)"))

    def fail(connection: object) -> None:
        raise LookupError

    rows = recorder.step()
    with pytest.raises(LookupError):
        made.append(batch(rows), fail)
    assert made.last().tick == 5  # type: ignore[union-attr]
    made.append(batch(rows))
    assert made.last().records() == recorder.state.snapshot()  # type: ignore[union-attr]


def test_a_world_in_the_past_is_the_recording_up_to_then() -> None:
    store, recorder = MemoryStore(), Recorder()
    made = world(store)
    versions = [(made.append(each), recorder.tick) for each in recorder.batches(40)]
    for version, tick in versions[::7]:
        past = WorldDatabase.open(store, "w", make_state=WorldState, version=version)
        assert past.last().records() == recorder.states[(1, tick)]  # type: ignore[union-attr]
        past.close()


def test_an_absent_world_is_unknown_and_a_foreign_database_is_told_apart() -> None:
    store = MemoryStore()
    with pytest.raises(UnknownWorld, match="no world 'w'"):
        WorldDatabase.open(store, "w", make_state=WorldState)
    foreign = Database.open(store, Namespace("w"), create=True)
    foreign.transact(lambda c: c.execute("CREATE TABLE t(x)"))
    with pytest.raises(Unprocessable, match="not a world"):
        WorldDatabase.open(store, "w", make_state=WorldState)
    with pytest.raises(Unprocessable, match="not a world"):
        world(store)


def test_a_world_of_a_newer_version_is_not_touched() -> None:
    store = MemoryStore()
    made = world(store)
    made.transact(lambda c: c.execute("PRAGMA user_version = 99"))
    made.close()
    with pytest.raises(Unprocessable, match="newer version"):
        world(store)


def test_tables_of_other_rooms_are_brought_up_to_date_one_step_at_a_time() -> None:
    store = MemoryStore()
    world(store).close()
    one = Part("things", ["CREATE TABLE things(id INTEGER PRIMARY KEY)"])
    two = Part("things", [*one.migrations, "ALTER TABLE things ADD COLUMN name TEXT"])
    for part in (one, two, two):
        made, _ = WorldDatabase.create(store, "w", make_state=WorldState, now_us=START_US, parts=[part])
        made.close()
    names = made.read(lambda c: [row[1] for row in c.execute("PRAGMA table_info(things)")])
    assert names == ["id", "name"]


def test_marks_are_set_moved_and_listed_in_order() -> None:
    made, _ = played(20)
    made.set_mark("goal", 1, 12, START_US, '{"by":7}')
    made.set_mark("start", 1, 1, START_US)
    made.set_mark("goal", 1, 14, START_US)
    assert [(mark["name"], mark["tick"], mark["data"]) for mark in made.marks()] == [
        ("start", 1, None),
        ("goal", 14, None),
    ]
    assert made.summary()["marks"] == 2


def test_a_gap_that_left_a_hole_in_the_sequence_is_told_once() -> None:
    made, recorder = played(10)
    rows = [row for each in recorder.batches(40, 4) for row in each.frames]
    later = [row for row in rows if row.tick > 30]
    start = next(at for at, row in enumerate(later) if row.keyframe)
    made.append(batch(later[start:], gaps=(Gap(1, 11, later[start].tick, "dropped"),)))
    told = [item for item in made.frames() if isinstance(item, Gap)]
    assert told == [Gap(1, 11, later[start].tick, "dropped")] == made.gaps()


def test_who_goes_on_from_a_recording_is_told_its_last_messages_and_gaps() -> None:
    made, recorder = world(MemoryStore(), retention=RECORD), Recorder()
    assert made.to_go_on() is None
    rows = [recorder.row(Frame(1, 1, [Record(1, b"a")], parts=1))]
    rows += [recorder.keyframe(), recorder.row(Frame(1, 3, [Record(2, b"b")], part=1, parts=3))]
    made.append(batch(rows, gaps=(Gap(1, 2, 2, "unseen"),)))
    found = made.to_go_on()
    assert found is not None
    assert found.tail == Tail(((1, 0, 1), (3, 1, 3)), (Gap(1, 2, 2, "unseen"),))
    recorder.epoch, recorder.tick = 2, 0
    made.append(batch([recorder.row(Frame(2, 1, [Record(1, b"c")], parts=1))]))
    found = made.to_go_on()
    assert found is not None
    assert found.tail == Tail(((1, 0, 1),))


def test_a_tick_that_began_before_the_rows_looked_through_is_not_taken_for_a_partial_one() -> None:
    made, recorder = world(MemoryStore(), retention=RECORD), Recorder()
    made.append(batch([recorder.row(Frame(1, 7, [Record(1, b"a")], part=0, parts=2)), recorder.keyframe()]))
    rows = [recorder.row(Frame(1, 7, [Record(2, b"b")], part=1, parts=2))]
    rows += [recorder.row(Frame(1, 8 + at, [Record(1, b"c")])) for at in range(RECOVERED_TAIL_ROWS_MAX - 1)]
    made.append(batch(rows))
    found = made.to_go_on()
    assert found is not None
    assert found.tail is not None
    assert [tick for tick, _, _ in found.tail.messages] == list(range(8, 8 + RECOVERED_TAIL_ROWS_MAX - 1))
