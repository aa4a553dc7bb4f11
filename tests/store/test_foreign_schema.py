"""A database that somebody else made can be read, and does nothing to whoever reads or writes it."""

from __future__ import annotations

import time
from pathlib import Path

import apsw
import pytest

from gateway.core.state import WorldState
from gateway.errors import ForeignSchema, Unprocessable
from gateway.limits import FOREIGN_NAMED_MAX
from gateway.store.base import Namespace
from gateway.store.database import Database
from gateway.store.hardening import Deadline, harden
from gateway.store.world import Retention, WorldDatabase
from gateway.store.world.files import import_file
from gateway.store.world.soundness import check_writable
from tests.patience import HANG_S
from tests.store.memory_store import MemoryStore
from tests.store.recording import START_US, Recorder

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
RUNS_BY_ITSELF = {
    "trigger": f"CREATE TRIGGER slow AFTER INSERT ON frames BEGIN {ENDLESS}; END",
    "trigger on meta": f"CREATE TRIGGER slow AFTER UPDATE ON meta BEGIN {ENDLESS}; END",
    "view": "CREATE VIEW newest AS SELECT max(tick) FROM frames",
    "expression index": "CREATE INDEX slow ON frames(length(body))",
    "partial index": "CREATE INDEX slow ON frames(tick) WHERE length(body) > 10",
}
NO_PLAIN_TABLE = {
    "view": f"DROP TABLE marks; CREATE VIEW marks AS SELECT 1 AS name, (SELECT count(*) FROM ({ENDLESS})) AS epoch",
    "check": "DROP TABLE marks; CREATE TABLE marks(name, epoch, tick, at, data CHECK(data NOT LIKE '%a%b%c%'))",
    "generated": "DROP TABLE marks; CREATE TABLE marks(name, epoch, tick, at, data AS (hex(zeroblob(1000000))))",
    "virtual": "DROP TABLE marks; CREATE VIRTUAL TABLE marks USING fts5(name, epoch, tick, at, data)",
}


def open_world(store: MemoryStore) -> WorldDatabase:
    return WorldDatabase.create(
        store, "w", make_state=WorldState, now_us=START_US, retention=Retention("record")
    )[0]


def recorded(store: MemoryStore, ticks: int = 20) -> Recorder:
    world, recorder = open_world(store), Recorder()
    world.begin_epoch(None, START_US)
    for each in recorder.batches(ticks):
        world.append(each)
    world.close()
    return recorder


def poison(store: MemoryStore, sql: str) -> None:
    """As an mvSQLite client would: with nothing in its way."""
    database = Database.open(store, Namespace("w"), own_code=True)
    database.transact(lambda c: c.execute(sql))
    database.close()


@pytest.mark.parametrize("sql", RUNS_BY_ITSELF.values(), ids=RUNS_BY_ITSELF)
def test_what_would_run_with_the_journal_is_refused_for_writing_and_can_be_read(sql: str) -> None:
    store = MemoryStore()
    recorder = recorded(store)
    poison(store, sql)
    with pytest.raises(ForeignSchema, match="would run with what the gateway writes"):
        open_world(store)
    read = WorldDatabase.open(store, "w", make_state=WorldState)
    last = read.last()
    assert last is not None
    assert last.records() == recorder.state.snapshot()
    assert len(list(read.frames())) == 20
    read.close()


@pytest.mark.parametrize("sql", RUNS_BY_ITSELF.values(), ids=RUNS_BY_ITSELF)
def test_what_comes_while_the_world_is_written_stops_its_journal_until_it_is_gone(sql: str) -> None:
    store = MemoryStore()
    recorder = recorded(store)
    world = open_world(store)
    (first, second) = recorder.batches(2)
    world.append(first)
    poison(store, sql)
    started = time.process_time()
    with pytest.raises(ForeignSchema):
        world.append(second)
    assert time.process_time() - started < 5.0
    kind = sql.split()[1]
    poison(store, f"DROP {kind} {sql.split()[2]}")
    world.append(second)
    last = world.last()
    assert last is not None
    assert last.tick == 22


@pytest.mark.parametrize("sql", NO_PLAIN_TABLE.values(), ids=NO_PLAIN_TABLE)
def test_a_table_that_is_none_makes_a_database_no_world(sql: str) -> None:
    store = MemoryStore()
    recorded(store)
    poison(store, sql)
    with pytest.raises(Unprocessable, match="is no plain table"):
        WorldDatabase.open(store, "w", make_state=WorldState)
    with pytest.raises(Unprocessable):
        open_world(store)


def test_tables_and_plain_indexes_of_others_are_no_hindrance() -> None:
    store = MemoryStore()
    recorder = recorded(store)
    poison(store, "CREATE TABLE notes(t CHECK(t > 1)); CREATE INDEX by_tick ON frames(epoch, tick)")
    world = open_world(store)
    for each in recorder.batches(5):
        world.append(each)
    assert len(list(world.frames())) == 25


def test_a_hostile_file_is_imported_without_running_what_it_holds(tmp_path: Path) -> None:
    store, path = MemoryStore(), tmp_path / "w.sqlite"
    recorded(store)
    poison(store, RUNS_BY_ITSELF["trigger on meta"])
    source = Database.open(store, Namespace("w"), read_only=True)
    with apsw.Connection(str(path)) as target, target.backup("main", source.connection, "main") as backup:
        backup.step()
    target.execute("PRAGMA journal_mode=DELETE")
    target.close()
    import_file(store, Namespace("v"), path, new_key=lambda: b"k" * 16)
    read = WorldDatabase.open(store, "v", make_state=WorldState)
    assert read.info().world == "v"
    last = read.last()
    assert last is not None


def test_a_statement_that_does_not_end_is_broken_off_and_the_next_one_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    recorded(store)
    database = Database.open(store, Namespace("w"), read_only=True)
    # In place of fifteen seconds for the one, and of a bound that a busy machine could break for the other.
    monkeypatch.setattr(database._deadline, "seconds", 0.1)
    with pytest.raises(Unprocessable, match="kept SQLite at work for over"):
        database.read(lambda c: c.execute(ENDLESS).get)
    monkeypatch.setattr(database._deadline, "seconds", HANG_S)
    assert database.read(lambda c: c.execute("SELECT count(*) FROM epochs").get) == 1


def test_only_the_time_within_sqlite_counts() -> None:
    now = 0.0
    deadline = Deadline(0.2, clock=lambda: now)
    connection = apsw.Connection(":memory:")
    harden(connection)
    deadline.watch(connection)
    deadline.begin()
    rows = 0
    for _ in connection.execute(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 9000) SELECT x FROM n"
    ):
        now += 1.0
        rows += 1
    assert rows == 9_000
    assert not deadline.is_over


def test_the_schema_cannot_be_written_and_runs_nothing_unsafe() -> None:
    database = Database.open(MemoryStore(), Namespace("w"), create=True)

    def attempt(connection: apsw.Connection) -> None:
        connection.execute("PRAGMA writable_schema=ON; CREATE TABLE t(x); DELETE FROM sqlite_schema")

    with pytest.raises(apsw.SQLError):
        database.transact(attempt)


@pytest.mark.parametrize("more", [0, 1])
def test_so_many_of_what_runs_by_itself_are_named_and_the_rest_counted(more: int) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE frames(seq INTEGER)")
    for n in range(FOREIGN_NAMED_MAX + more):
        connection.execute(f"CREATE TRIGGER t{n} AFTER INSERT ON frames BEGIN SELECT 1; END")
    with pytest.raises(ForeignSchema) as refused:
        check_writable(connection)
    said = refused.value.message
    assert [f"t{n}" in said for n in range(FOREIGN_NAMED_MAX + 1)] == [True] * FOREIGN_NAMED_MAX + [False]
    assert ("and 1 more" in said) == bool(more)
