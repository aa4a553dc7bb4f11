"""Whoever may not see the present is shown a recording as it was: no question reaches what came later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.state import WorldState
from gateway.errors import NothingRecorded
from gateway.recordings.recording import MAKE_STATE
from gateway.recordings.verifying import Verifier
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import History, WorldDatabase
from gateway.store.world.past import Past
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.journal import Batch, Gap, JournalFrame
from tests.recordings.filming import BEGIN_US, Filmed, film


class Looked:
    """A recording, and what there was of it at a time."""

    def __init__(self, world: WorldDatabase, made: Filmed, rows: list[JournalFrame]) -> None:
        self.world = world
        self.made = made
        self.rows = rows

    def at(self, until_us: int) -> History:
        return History(Past(self.world.database, until_us), MAKE_STATE)


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looked]:
    folder = tmp_path_factory.mktemp("past")
    made = film(folder / "store", epochs=3, ticks=70)
    store = EmbeddedStore.open(folder / "store", auto_create=True)
    whole = WorldDatabase.open(store.blocking(), "w", make_state=MAKE_STATE)
    rows = [item for item in whole.frames(keyframes=True) if isinstance(item, JournalFrame)]
    past = WorldDatabase.open(store.blocking(), "w", make_state=MAKE_STATE)
    yield Looked(past, made, rows)
    whole.close()
    past.close()
    store.close()


def test_the_rows_end_where_the_time_does(looked: Looked) -> None:
    for until_us in {row.received_at_us + by for row in looked.rows[::9] for by in (-1, 0, 1)}:
        seen = [item for item in looked.at(until_us).frames(keyframes=True) if isinstance(item, JournalFrame)]
        assert seen == [row for row in looked.rows if row.received_at_us <= until_us]


def test_the_last_state_is_that_of_the_time_and_later_moments_are_it_too(looked: Looked) -> None:
    for place, at_us in list(looked.made.times.items())[::11]:
        history = looked.at(at_us)
        last, later = history.last(), history.state_at_time(at_us + 3_600_000_000)
        assert last is not None
        assert isinstance(last.state, WorldState)
        assert isinstance(later.state, WorldState)
        assert (last.epoch, last.tick) == place
        assert last.state.snapshot() == later.state.snapshot() == looked.made.states[place]


def test_a_tick_that_came_later_is_not_recorded_and_nothing_tells_when_it_will_be(looked: Looked) -> None:
    places = sorted(looked.made.states)
    here, later = places[len(places) // 2], places[len(places) // 2 + 5]
    with pytest.raises(NothingRecorded) as refused:
        looked.at(looked.made.times[here]).state_at_tick(*later)
    assert refused.value.facts["after"] is None
    assert refused.value.facts["before"] == {"epoch": here[0], "tick": here[1]}


def test_summary_epochs_gaps_and_marks_know_nothing_later(looked: Looked) -> None:
    places = sorted(looked.made.states)
    here = places[len(places) // 2]
    history = looked.at(looked.made.times[here])
    summary = history.summary()
    assert (summary["last"]["epoch"], summary["last"]["tick"]) == here
    assert summary["epochs"] == here[0]
    gaps = history.gaps()
    assert gaps == [gap for gap in sorted(looked.made.gaps, key=_place) if _place(gap) <= here]
    assert summary["gaps"] == len(gaps)
    assert len(history.marks()) == 1
    assert looked.at(BEGIN_US - 1).marks() == []


def _place(gap: Gap) -> tuple[int, int]:
    return gap.epoch, gap.from_tick


def test_before_the_first_row_nothing_is_recorded(looked: Looked) -> None:
    history = looked.at(BEGIN_US)
    assert history.last() is None
    assert list(history.frames()) == []
    assert history.gaps() == []
    with pytest.raises(NothingRecorded):
        history.state_at_time(BEGIN_US + 10**12)


def test_what_is_seen_of_a_recording_adds_up(looked: Looked) -> None:
    verifier = Verifier(looked.at(looked.rows[len(looked.rows) // 2].received_at_us))
    for _ in verifier.stretches():
        pass
    assert verifier.report.ok
    assert not verifier.report.damaged


def test_a_row_before_one_that_had_come_had_come_whatever_its_time_says(tmp_path: Path) -> None:
    film(tmp_path / "store", epochs=1, ticks=60, loss=0.0)
    store = EmbeddedStore.open(tmp_path / "store", auto_create=True)
    world, opened = WorldDatabase.create(store.blocking(), "w", make_state=MAKE_STATE, now_us=BEGIN_US)
    rows = [item for item in world.frames(keyframes=True) if isinstance(item, JournalFrame)]
    last, state = rows[-1], WorldState()
    frame = encode_frame(_frame(2, 1))
    state.apply(_frame(2, 1))
    back_us = last.received_at_us - 500_000
    keyframe = tuple(state.keyframe_messages(65_535))
    world.begin_epoch(None, back_us)
    more = (
        JournalFrame(opened.last_seq + 1, 2, 1, back_us, back_us, False, (frame,)),
        JournalFrame(opened.last_seq + 2, 2, 1, back_us, back_us, True, keyframe),
    )
    world.append(Batch(more, (), 2, 1, 100))
    past = WorldDatabase.open(store.blocking(), "w", make_state=MAKE_STATE)
    seen = History(Past(past.database, back_us + 1), MAKE_STATE)
    assert [item.seq for item in seen.frames(keyframes=True) if isinstance(item, JournalFrame)] == [
        row.seq for row in (*rows, *more)
    ]
    for each in (past, world):
        each.close()
    store.close()


def _frame(epoch: int, tick: int) -> Frame:
    return Frame(epoch, tick, [Record(1, b"after")], sent_at=0)
