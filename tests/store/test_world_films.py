"""Films, copies, branches: a recording taken elsewhere is the same recording."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from gateway.core.state import WorldState
from gateway.errors import BadInput, NothingRecorded, StoreUnavailable, UnknownWorld, Unprocessable
from gateway.store.base import Namespace
from gateway.store.database import Database
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import Retention, WorldDatabase
from gateway.store.world.branch import overlay, start_from
from gateway.store.world.films import Film, clip, export, import_file
from gateway.store.world.verify import Span, verify
from gateway.wire.journal import Gap, JournalFrame
from tests.store.memory_store import MemoryStore
from tests.store.recording import START_US, Recorder, batch


def new_key() -> bytes:
    return os.urandom(16)


def played(ticks: int = 200, store: MemoryStore | None = None) -> tuple[WorldDatabase, Recorder]:
    recorder = Recorder(stride=20, keys=8)
    world, _ = WorldDatabase.create(
        store or MemoryStore(), "w", make_state=WorldState, now_us=START_US, retention=Retention("record")
    )
    world.begin_epoch(None, START_US)
    for each in recorder.batches(ticks, 5):
        world.append(each)
    return world, recorder


def open_film(path: Path) -> Film:
    return Film.open(path, make_state=WorldState)


# --- films ---------------------------------------------------------------------------------


def test_a_film_answers_what_the_world_answered(tmp_path: Path) -> None:
    world, recorder = played()
    world.set_mark("goal", 1, 80, START_US)
    world.set_mark("later", 1, 190, START_US)
    path = tmp_path / "film.sqlite"
    rows = clip(world, path, world.state_at_tick(1, 50), (1, 150))
    film = open_film(path)
    first = next(iter(film.frames(keyframes=True)))
    assert isinstance(first, JournalFrame)
    assert (first.keyframe, first.tick) == (True, 50)
    for tick in range(50, 151):
        assert film.state_at_tick(1, tick).records() == recorder.states[(1, tick)]
    assert film.last().tick == 150  # type: ignore[union-attr]
    assert [mark["name"] for mark in film.marks()] == ["goal"]
    assert film.summary()["parent"] == {"world": "w", "epoch": 1, "tick": 50}
    assert verify(film).rows == rows
    assert verify(film).ok
    film.close()


def test_a_film_is_an_ordinary_file_that_sqlite_finds_whole(tmp_path: Path) -> None:
    world, _ = played(100)
    path = tmp_path / "film.sqlite"
    clip(world, path, world.state_at_tick(1, 10), (1, 60))
    plain = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    assert plain.execute("PRAGMA integrity_check").get == "ok"
    assert plain.execute("SELECT keyframe FROM frames ORDER BY seq LIMIT 1").get == 1
    assert os.listdir(tmp_path) == ["film.sqlite"]


def test_gaps_go_into_the_film(tmp_path: Path) -> None:
    world, recorder = played(50)
    recorder.tick += 4
    world.append(batch(recorder.step(), (Gap(1, 51, 54, "unseen"),)))
    path = tmp_path / "film.sqlite"
    clip(world, path, world.state_at_tick(1, 40), (1, 55))
    assert open_film(path).gaps() == [Gap(1, 51, 54, "unseen")]


def test_a_clip_that_ends_before_it_begins_leaves_nothing(tmp_path: Path) -> None:
    world, _ = played(50)
    with pytest.raises(NothingRecorded, match="at or after its beginning"):
        clip(world, tmp_path / "film.sqlite", world.state_at_tick(1, 40), (1, 30))
    assert os.listdir(tmp_path) == []


def test_a_failing_clip_leaves_nothing_half_written(tmp_path: Path) -> None:
    world, _ = played(50)

    def full(done: int, total: int) -> None:
        if done == 20:
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreUnavailable, match="No space left"):
        clip(world, tmp_path / "film.sqlite", world.state_at_tick(1, 1), (1, 50), progress=full)
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    world, _ = played(10)
    path = tmp_path / "film.sqlite"
    path.write_bytes(b"precious")
    with pytest.raises(BadInput, match="exists"):
        clip(world, path, world.state_at_tick(1, 1), (1, 5))
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("damage", ["absent", "foreign", "text", "truncated", "newer", "empty"])
def test_what_is_not_a_film_is_refused_with_a_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "film.sqlite"
    if damage in ("truncated", "newer"):
        world, _ = played(100)
        clip(world, path, world.state_at_tick(1, 1), (1, 100))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
    elif damage == "newer":
        apsw.Connection(str(path)).execute("PRAGMA user_version = 2")
    elif damage == "foreign":
        apsw.Connection(str(path)).execute("CREATE TABLE t(x)")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("dear diary " * 1000)
    with pytest.raises(Unprocessable, match=r"film\.sqlite|world"):
        open_film(path)


# --- verify --------------------------------------------------------------------------------


def test_a_whole_recording_verifies_and_each_span_is_told() -> None:
    world, recorder = played(200)
    spans: list[Span] = []
    found = verify(world, spans.append)
    assert found.ok
    assert found.rows == recorder.seq
    assert found.spans == len(spans)
    assert [span.from_seq for span in spans[1:]] == [span.to_seq + 1 for span in spans[:-1]]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE frames SET body = x'00112233' WHERE tick = 77", "row"),
        ("DELETE FROM frames WHERE tick = 77 AND keyframe = 0", "is missing"),
        ("UPDATE frames SET body = (SELECT body FROM frames WHERE tick = 3), codec = 1 WHERE tick = 77", ""),
        ("UPDATE keyframes SET state_hash = zeroblob(32) WHERE tick = 81", "state hash"),
    ],
)
def test_damage_is_found_where_it_is_and_the_rest_still_verifies(sql: str, message: str) -> None:
    world, _ = played(200)
    world.transact(lambda c: c.execute(sql))
    found = verify(world)
    assert not found.ok
    assert 1 <= len(found.damaged) <= 2
    assert all(61 <= span.from_tick <= 81 or span.to_tick <= 101 for span in found.damaged)
    assert message in (found.damaged[0].damage or "")
    assert found.spans >= 9


def test_ticks_that_were_let_go_are_a_gap_and_not_damage() -> None:
    world, recorder = played(50)
    for _ in range(5):
        for row in recorder.step():
            del row
    kept = recorder.keyframe()
    world.append(batch([kept], (Gap(1, 51, 55, "dropped"),)))
    found = verify(world)
    assert found.ok
    assert found.gaps == [Gap(1, 51, 55, "dropped")]


# --- copies --------------------------------------------------------------------------------


def test_an_exported_world_is_an_ordinary_file_and_comes_back_as_a_world(tmp_path: Path) -> None:
    store = MemoryStore()
    _, recorder = played(200, store)
    path = tmp_path / "w.sqlite"
    steps: list[tuple[int, int]] = []
    reader = Database.open(store, Namespace("w"), read_only=True)
    size = export(reader, path, lambda done, total: steps.append((done, total)))
    assert size == path.stat().st_size
    assert steps[-1][0] == steps[-1][1]
    plain = apsw.Connection(str(path))
    assert plain.execute("PRAGMA integrity_check").get == "ok"
    assert plain.execute("SELECT count(*) FROM frames").get == recorder.seq
    plain.close()
    assert open_film(path).last().records() == recorder.state.snapshot()  # type: ignore[union-attr]

    import_file(store, Namespace("copy"), path, new_key=new_key)
    copy = WorldDatabase.open(store, "copy", make_state=WorldState)
    assert copy.last().records() == recorder.state.snapshot()  # type: ignore[union-attr]
    assert verify(copy).ok


@pytest.mark.parametrize("page_size", [4096, 32768])
def test_an_ordinary_database_is_imported_with_its_own_page_size(tmp_path: Path, page_size: int) -> None:
    path, store = tmp_path / "plain.sqlite", MemoryStore()
    plain = apsw.Connection(str(path))
    plain.execute(f"PRAGMA page_size={page_size}; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
    plain.execute(
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 500) INSERT INTO t SELECT i, zeroblob(2000) FROM n"
    )
    plain.close()
    import_file(store, Namespace("p"), path, new_key=new_key)
    database = Database.open(store, Namespace("p"))
    assert database.read(lambda c: c.execute("SELECT count(*), sum(length(body)) FROM t").get) == (500, 10**6)
    database.transact(lambda c: c.execute("DELETE FROM t WHERE id > 10"))
    assert database.read(lambda c: c.execute("PRAGMA integrity_check").get) == "ok"


@pytest.mark.parametrize("fault", ["text", "damaged", "wal", "taken"])
def test_a_file_that_cannot_be_imported_is_refused(tmp_path: Path, fault: str) -> None:
    path, store = tmp_path / "plain.sqlite", MemoryStore()
    plain = apsw.Connection(str(path))
    plain.execute(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB); INSERT INTO t VALUES(1, zeroblob(90000))"
    )
    if fault == "wal":
        plain.execute("PRAGMA journal_mode=WAL; INSERT INTO t VALUES(2, x'00')")
    plain.close()
    if fault == "text":
        path.write_text("dear diary " * 1000)
    elif fault == "damaged":
        path.write_bytes(path.read_bytes()[:4096] + os.urandom(4096) + path.read_bytes()[8192:])
    elif fault == "taken":
        store.create_namespace("p")
    with pytest.raises(Unprocessable):
        import_file(store, Namespace("p"), path, new_key=new_key)


# --- branches ------------------------------------------------------------------------------


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore.open(tmp_path / "store")
    yield store
    await store.aclose()


async def test_a_branch_starts_from_its_moment_and_neither_world_sees_the_other_change(
    embedded: EmbeddedStore,
) -> None:
    blocking = embedded.blocking()
    recorder = Recorder(stride=20, keys=8)
    world, _ = WorldDatabase.create(blocking, "w", make_state=WorldState, now_us=START_US)
    world.begin_epoch(None, START_US)
    for each in recorder.batches(100, 10):
        world.append(each)
    world.close()
    await overlay(embedded, "w", "b")
    branch, opened = WorldDatabase.create(blocking, "b", make_state=WorldState, now_us=START_US)
    moment = branch.state_at_tick(1, 40)
    start_from(branch.database, "b", moment, recorder.now_us)
    branch.close()
    branch, opened = WorldDatabase.create(blocking, "b", make_state=WorldState, now_us=START_US)
    assert (opened.info.world, opened.epoch) == ("b", 1)
    assert opened.info.parent is not None
    assert (opened.info.parent.world, opened.info.parent.tick) == ("w", 40)
    assert branch.last().records() == recorder.states[(1, 40)]  # type: ignore[union-attr]
    assert branch.state_at_tick(1, 20).records() == recorder.states[(1, 20)]
    assert branch.begin_epoch(None, recorder.now_us) == 2

    old, _ = WorldDatabase.create(blocking, "w", make_state=WorldState, now_us=START_US)
    other = Recorder(seed=9, stride=20, keys=8)
    other.seq, other.epoch, other.now_us = opened.last_seq + 1, 2, recorder.now_us
    for each in other.batches(30, 10):
        branch.append(each)
    for each in recorder.batches(30, 10):
        old.append(each)
    assert old.last().records() == recorder.state.snapshot()  # type: ignore[union-attr]
    assert branch.state_at_tick(2, 30).tick == 30
    assert verify(old).ok
    assert branch.read(lambda c: c.execute("PRAGMA integrity_check").get) == "ok"
    old.close()
    branch.close()


async def test_a_branch_of_a_world_that_is_not_there_is_refused(embedded: EmbeddedStore) -> None:
    with pytest.raises(UnknownWorld, match="no world 'w'"):
        await overlay(embedded, "w", "b")
