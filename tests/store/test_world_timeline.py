"""What a recording tells of itself without being replayed: its time line, its summary, and the moments that it names."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.state import WorldState
from gateway.errors import NothingRecorded
from gateway.limits import HISTORY_EPOCHS_MAX
from gateway.store.world import FrameCursor, Retention, WorldDatabase
from gateway.store.world.reading import TICK_MASK
from gateway.store.world.tail import TailReader
from gateway.wire import Frame, Record, decode_frame
from gateway.wire.journal import Gap, JournalFrame
from tests.store.memory_store import MemoryStore
from tests.store.recording import SECOND_US, START_US, Recorder, batch


def _world(retention: Retention | None = None, level: int = 1) -> WorldDatabase:
    kept = retention or Retention("record")
    return WorldDatabase.create(
        MemoryStore(), "w", make_state=WorldState, now_us=START_US, retention=kept, level=level
    )[0]


def _played(ticks: int, *, level: int = 1) -> tuple[WorldDatabase, Recorder]:
    made, recorder = _world(level=level), Recorder()
    for each in recorder.batches(ticks, 4):
        made.append(each)
    return made, recorder


def _drawn(made: WorldDatabase, buckets: int) -> list[dict[str, int]]:
    """The spans, worked out from all rows."""
    rows = [item for item in made.frames(keyframes=True) if isinstance(item, JournalFrame)]
    from_us, to_us = rows[0].received_at_us, max(rows[-1].received_at_us, rows[0].received_at_us + 1)
    spans: dict[int, list[JournalFrame]] = {}
    for row in rows:
        if row.keyframe:
            spans.setdefault((row.received_at_us - from_us) * buckets // (to_us - from_us + 1), []).append(
                row
            )
    begins = [rows[0], *(found[0] for found in list(spans.values())[1:])]
    ends = [*(row.seq for row in begins[1:]), rows[-1].seq + 1]
    most = [
        max(len(made.state_at_tick(k.epoch, k.tick).records()) for k in found) for found in spans.values()
    ]
    return [
        {
            "at_us": row.received_at_us,
            "epoch": row.epoch,
            "tick": row.tick,
            "rows": end - row.seq,
            "records": n,
        }
        for row, end, n in zip(begins, ends, most or [0], strict=True)
    ]


@pytest.mark.parametrize("buckets", [1, 2, 3, 7, 100])
def test_a_time_line_has_every_row_in_spans_of_equal_time(buckets: int) -> None:
    made, recorder = _played(200)
    told: dict[str, Any] = made.timeline(buckets)
    assert (told["from_us"], told["to_us"]) == (START_US + recorder.tick_us, recorder.now_us)
    assert told["spans"] == _drawn(made, buckets)
    assert len(told["spans"]) == min(buckets, 10), "there is a keyframe each second"
    assert sum(span["rows"] for span in told["spans"]) == recorder.seq


def test_of_a_recording_that_begins_amid_a_state_the_first_span_has_what_came_before_its_keyframe() -> None:
    made, recorder = _world(), Recorder()
    early = [recorder.row(Frame(1, tick, [Record(1, b"a"), Record(2, b"b")])) for tick in (1, 2, 3)]
    recorder.now_us += SECOND_US
    made.append(batch([*early, recorder.keyframe(), recorder.row(Frame(1, 4, [Record(3, b"c")]))]))
    told = made.timeline(1)
    assert told["spans"] == [{"at_us": START_US, "epoch": 1, "tick": 1, "rows": 5, "records": 2}]


def test_a_recording_of_one_moment_and_no_keyframe_is_one_span() -> None:
    made, recorder = _world(), Recorder()
    made.append(batch([recorder.row(Frame(1, 7, [Record(1, b"a")]))]))
    assert made.timeline(8) == {
        "from_us": START_US,
        "to_us": START_US + 1,
        "epochs": [],
        "spans": [{"at_us": START_US, "epoch": 1, "tick": 7, "rows": 1, "records": 0}],
    }


@pytest.mark.parametrize("recorded", [False, True])
def test_a_time_line_names_the_newest_epochs_the_oldest_of_them_first(recorded: bool) -> None:
    made = _world()
    if recorded:
        made.append(batch(Recorder().step()))
    for n in range(3):
        made.begin_epoch(None, START_US + n)
    wanted = [
        {"epoch": n + 1, "started_at": START_US + n, "ended_at": None if n == 2 else START_US + n + 1}
        for n in range(3)
    ]
    told = made.timeline(4)
    assert told["epochs"] == wanted
    assert (told["from_us"] is None, told["to_us"] is None, told["spans"] == []) == (not recorded,) * 3
    made.transact(
        lambda c: c.executemany(
            "INSERT INTO epochs(epoch, started_at) VALUES(?, 0)",
            ((n,) for n in range(4, HISTORY_EPOCHS_MAX + 3)),
        )
    )
    epochs: Any = made.timeline(4)["epochs"]
    assert [each["epoch"] for each in epochs] == list(range(3, HISTORY_EPOCHS_MAX + 3))


def test_a_summary_counts_the_rows_that_are_left_and_says_where_they_begin_and_end() -> None:
    made, recorder = _played(200)
    whole = made.summary()
    assert (whole["rows"], whole["first"], whole["last"]) == (
        recorder.seq,
        {"seq": 0, "epoch": 1, "tick": 1, "received_at_us": START_US + recorder.tick_us},
        {"seq": recorder.seq - 1, "epoch": 1, "tick": 200, "received_at_us": recorder.now_us},
    )
    made.set_retention(Retention("ring", 3))
    while made.prune(recorder.now_us, 64):
        pass
    left = made.summary()
    rows = [item for item in made.frames(keyframes=True) if isinstance(item, JournalFrame)]
    assert left["first"] is not None
    assert 0 < left["rows"] == len(rows) < whole["rows"]
    assert left["first"]["seq"] == rows[0].seq > 0
    assert left["last_keyframe"] is not None
    assert left["last_keyframe"]["seq"] == max(row.seq for row in rows if row.keyframe)
    empty = _world().summary()
    assert (empty["rows"], empty["first"], empty["last"], empty["last_keyframe"]) == (0, None, None, None)


def test_a_moment_is_named_in_the_form_that_may_be_asked_back_and_one_beyond_the_calendar_by_its_number() -> (
    None
):
    made, recorder = _world(), Recorder()
    recorder.now_us += 123_456
    made.append(batch([recorder.row(Frame(1, 1, [Record(1, b"a")]))]))
    with pytest.raises(NothingRecorded) as refused:
        made.state_at_time(START_US)
    assert str(refused.value).startswith(
        "the time 2023-11-14T22:13:20.000Z is before the recording, which begins at tick 1 of epoch 1 "
        "(2023-11-14T22:13:20.123Z)"
    )
    for at_us in (-(1 << 62), -(1 << 58)):
        with pytest.raises(NothingRecorded, match=f"the time {at_us} µs since 1970 is before"):
            made.state_at_time(at_us)


# -- what is asked for ---------------------------------------------------------------------------------


def _two_epochs() -> WorldDatabase:
    """Ticks 1 to 3 of epoch 1, and 2 to 4 of epoch 2."""
    made, recorder = _world(), Recorder()
    rows = [recorder.row(Frame(epoch, tick, [Record(tick, b"x")])) for epoch, tick in
            ((1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (2, 4))]  # fmt: skip
    made.append(batch(rows))
    return made


@pytest.mark.parametrize(
    ("asked", "ticks"),
    [
        ((None, None, None), [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (2, 4)]),
        ((None, 3, None), [(2, 3), (2, 4)]),
        ((None, None, 3), [(2, 2), (2, 3)]),
        ((1, None, None), [(1, 1), (1, 2), (1, 3)]),
        ((1, 2, 3), [(1, 2), (1, 3)]),
        ((1, 3, 2), []),
        ((2, None, 2), [(2, 2)]),
        ((3, None, None), []),
    ],
)
def test_a_span_of_ticks_is_of_the_epoch_that_is_named_or_of_the_newest(
    asked: tuple[int | None, int | None, int | None], ticks: list[tuple[int, int]]
) -> None:
    made = _two_epochs()
    found = [item for item in made.frames(*made.bounds(*asked)) if isinstance(item, JournalFrame)]
    assert [(row.epoch, row.tick) for row in found] == ticks


def test_a_span_begins_with_tick_0_and_of_a_world_without_rows_in_epoch_0() -> None:
    assert _two_epochs().bounds(1, None, 7) == ((1, 0), (1, 7))
    assert _world().bounds(None, 3, None) == ((0, 3), (0, TICK_MASK))
    made = _world()
    made.append(batch([], (Gap(0, 0, 0, "unseen"),)))
    assert made.gaps() == list(made.frames()) == [Gap(0, 0, 0, "unseen")], (
        "the very first may be missing, too"
    )


@pytest.mark.parametrize(
    ("epoch", "tick", "before", "after"),
    [
        (1, 9, {"epoch": 1, "tick": 3}, {"epoch": 2, "tick": 2}),
        (2, 1, {"epoch": 1, "tick": 3}, {"epoch": 2, "tick": 2}),
        (2, 9, {"epoch": 2, "tick": 4}, None),
    ],
)
def test_a_tick_that_is_not_recorded_is_named_with_those_around_it(
    epoch: int, tick: int, before: dict[str, int], after: dict[str, int] | None
) -> None:
    with pytest.raises(NothingRecorded) as refused:
        _two_epochs().state_at_tick(epoch, tick)
    assert refused.value.facts == {"before": before, "after": after}
    if after:
        assert f"after it tick {after['tick']} of epoch {after['epoch']}" in str(refused.value)
    made, recorder = _world(), Recorder()
    made.append(batch([recorder.row(Frame(1, n, [Record(1, b"x")])) for n in (4, 9)]))
    with pytest.raises(NothingRecorded) as refused:
        made.state_at_tick(1, 6)
    assert refused.value.facts == {"before": {"epoch": 1, "tick": 4}, "after": {"epoch": 1, "tick": 9}}


def test_the_last_state_is_that_of_the_newest_keyframe_on_and_without_one_of_all_rows() -> None:
    last = _two_epochs().last()
    assert last is not None
    assert sorted(last.records()) == [1, 2, 3, 4]
    made, recorder = _played(60)
    made.transact(lambda c: c.execute("UPDATE frames SET body = x'00' WHERE seq = 4"))
    last = made.last()
    assert last is not None, "what is damaged before a keyframe is in nobody's way"
    assert last.records() == recorder.state.snapshot()


def test_a_view_that_begins_behind_a_row_that_does_not_unpack_is_whole_from_the_next_keyframe_on() -> None:
    made, recorder = _world(level=0), Recorder()

    def row(tick: int) -> JournalFrame:
        recorder.now_us += SECOND_US
        return recorder.row(Frame(1, tick, [Record(tick, b"x")]))

    made.append(batch([row(1), recorder.keyframe(), row(2), row(3), recorder.keyframe(), row(4)]))
    made.transact(lambda c: c.execute("UPDATE frames SET body = x'00' WHERE tick = 2"))
    tail = TailReader()
    state = tail.begin(made, START_US + 2 * SECOND_US)
    assert isinstance(state, WorldState)
    assert sorted(state.snapshot()) == [1]
    for shown in tail.next(made, recorder.now_us, 10_000, 1 << 30).rows:
        for message in shown.messages:
            state.apply(decode_frame(message))
    assert sorted(state.snapshot()) == [1, 2, 3, 4]


# -- read page by page, while rows go --------------------------------------------------------------------


def _rows(made: WorldDatabase) -> list[JournalFrame]:
    return [item for item in made.frames(keyframes=True) if isinstance(item, JournalFrame)]


def _forget(made: WorldDatabase, first: int, last: int) -> None:
    made.transact(lambda c: c.execute("DELETE FROM frames WHERE seq BETWEEN ? AND ?", (first, last)))
    made.transact(lambda c: c.execute("DELETE FROM keyframes WHERE seq BETWEEN ? AND ?", (first, last)))


def test_a_page_of_history_has_as_many_rows_as_were_asked_for() -> None:
    made, _ = _played(60)
    cursor, rows = FrameCursor(made, keyframes=True), _rows(made)
    for start in (0, 5, 10):
        assert cursor.next(5) == rows[start : start + 5]
    assert cursor.next(1) == rows[15:16]


@pytest.mark.parametrize("keyframes", [False, True])
def test_a_span_that_begins_or_ends_with_a_keyframes_tick_has_all_rows_of_it(keyframes: bool) -> None:
    """A keyframe stands behind the frame that it was made after, and has its tick."""
    made, _ = _played(60)
    rows = _rows(made)
    wanted = [row for row in rows if keyframes or not row.keyframe]
    for tick in (row.tick for row in rows if row.keyframe):
        assert list(made.frames((1, 1), (1, tick), keyframes=keyframes)) == [
            r for r in wanted if r.tick <= tick
        ]
        assert list(made.frames((1, tick), keyframes=keyframes)) == [r for r in wanted if r.tick >= tick]
    assert list(made.frames((1, 0), keyframes=keyframes)) == wanted


def test_a_span_is_read_from_the_keyframe_before_it_whatever_became_of_what_stands_before_that() -> None:
    made, _ = _played(60)
    rows = _rows(made)
    made.transact(lambda c: c.execute("UPDATE frames SET body = x'00' WHERE seq = 4"))
    after = next(row.tick for row in rows if row.keyframe and row.seq > 4) + 1
    assert list(made.frames((1, after), keyframes=True)) == [row for row in rows if row.tick >= after]


@pytest.mark.parametrize("ticks", [1, 2, 3, 4])
def test_a_gap_is_told_where_it_is_however_many_rows_stand_before_it(ticks: int) -> None:
    made, recorder = _world(), Recorder()
    rows = [recorder.row(Frame(1, n + 1, [Record(1, b"x")])) for n in range(ticks)]
    rows.append(recorder.row(Frame(1, ticks + 2, [Record(1, b"x")])))
    gap = Gap(1, ticks + 1, ticks + 1, "unseen")
    made.append(batch(rows, (gap,)))
    assert list(made.frames()) == list(made.frames((1, 1))) == [*rows[:-1], gap, rows[-1]]


@pytest.mark.parametrize(
    ("gone", "gap"), [((3, 3), Gap(1, 4, 4, "dropped")), ((2, 5), Gap(2, 0, 0, "dropped"))]
)
def test_one_frame_that_went_while_it_was_read_is_told_and_so_are_those_of_an_epoch_from_its_beginning(
    gone: tuple[int, int], gap: Gap
) -> None:
    made, recorder = _world(level=0), Recorder()
    ticks = [(1, n) for n in (1, 2, 3, 4, 5)] + [(2, 0), (2, 1), (2, 2)]
    rows = [recorder.row(Frame(epoch, tick, [Record(1, b"x")])) for epoch, tick in ticks]
    made.append(batch(rows))
    cursor = FrameCursor(made)
    assert cursor.next(2) == rows[:2]
    _forget(made, *gone)
    found = cursor.next(100)
    assert found == [*rows[2 : gone[0]], gap, *rows[gone[1] + 1 :]]


@pytest.mark.parametrize("keyframes", [False, True])
@pytest.mark.parametrize("level", [0, 1])
def test_what_went_while_it_was_read_is_told_up_to_the_first_row_that_can_be_shown(
    keyframes: bool, level: int
) -> None:
    """A row that leans on one that is gone cannot be: then it is the next keyframe, which says what its own tick did."""
    made, _ = _played(100, level=level)
    rows = _rows(made)
    wanted = [row for row in rows if keyframes or not row.keyframe]
    cursor = FrameCursor(made, keyframes=keyframes)
    found = cursor.next(5)
    _forget(made, 10, 29)
    while items := cursor.next(7):
        found += items
    shown = next(row for row in rows[30:] if row.keyframe or not level)
    is_passed_over = shown.keyframe and not keyframes
    assert found == [
        *(row for row in wanted if row.seq < 10),
        Gap(1, rows[9].tick + 1, shown.tick - (not is_passed_over), "dropped"),
        *(row for row in wanted if row.seq >= shown.seq),
    ]


def test_a_moment_is_asked_for_by_its_time_or_by_a_tick_of_an_epoch_or_of_the_newest() -> None:
    made, recorder = _played(60)
    at_us = sorted(recorder.times)[30]
    assert made.state_at(None, None, at_us).records() == recorder.times[at_us]
    assert made.state_at(1, 31, None).records() == recorder.states[1, 31]
    made = _two_epochs()
    for epoch, tick, wanted in ((None, 3, (2, 3)), (1, 3, (1, 3)), (2, 2, (2, 2))):
        found = made.state_at(epoch, tick, None)
        assert (found.epoch, found.tick) == wanted
    assert made.state_at(1, 9, None, exact=False).tick == 3
