"""A database of the store as an ordinary file and back: the same recording."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import pytest

from gateway.core.state import WorldState
from gateway.errors import BadInput, StoreUnavailable, Unprocessable
from gateway.store.base import Namespace
from gateway.store.database import Database
from gateway.store.world import Retention, WorldDatabase
from gateway.store.world.files import export, import_file
from tests.store.memory_store import MemoryStore
from tests.store.recording import START_US, Recorder, damaged


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
    import_file(store, Namespace("copy"), path, new_key=new_key)
    copy = WorldDatabase.open(store, "copy", make_state=WorldState)
    assert copy.last().records() == recorder.state.snapshot()  # type: ignore[union-attr]
    assert copy.info().world == "copy"
    assert damaged(copy) == []


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


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    store, path = MemoryStore(), tmp_path / "w.sqlite"
    played(10, store)
    path.write_bytes(b"precious")
    with pytest.raises(BadInput, match="exists"):
        export(Database.open(store, Namespace("w"), read_only=True), path)
    assert path.read_bytes() == b"precious"


def test_a_failing_export_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = MemoryStore()
    played(200, store)

    def full(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreUnavailable, match="No space left"):
        export(Database.open(store, Namespace("w"), read_only=True), tmp_path / "w.sqlite", full)
    assert os.listdir(tmp_path) == []
