"""SQLite over the embedded store: real versions, real conflicts, several writers at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.errors import Conflict, Gone
from gateway.limits import VFS_ATTEMPTS_MAX
from gateway.store.base import Namespace
from gateway.store.database import Database, transact_together
from gateway.store.embedded import EmbeddedStore, Engine
from gateway.store.embedded.engine import EmbeddedOptions
from tests.store.standin.fixtures import EACH_STORE

NS = Namespace("w")


OVER = EACH_STORE


@pytest.fixture
def engine(tmp_path: Path, each_store: Any) -> Iterator[Engine]:
    """The engine, or the blocking face of a remote store before the stand-in."""
    if not isinstance(each_store, EmbeddedStore):
        yield each_store.blocking()
        return
    opened = Engine(tmp_path / "own", options=EmbeddedOptions(content_grace_s=0, background=False))
    yield opened
    opened.close()


def in_this_process(engine: Engine) -> None:
    if not isinstance(engine, Engine):
        pytest.skip("looks into the engine")


def table(engine: Engine, **options: Any) -> Database:
    database = Database.open(engine, NS, create=True, **options)
    database.transact(lambda c: c.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, body BLOB)"))
    return database


def in_threads(count: int, work: Any) -> None:
    failures: list[BaseException] = []

    def run(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("single_writer", [False, True])
def test_no_increment_is_lost_among_writers_of_one_row(engine: Engine, single_writer: bool) -> None:
    table(engine).transact(lambda c: c.execute("INSERT INTO t VALUES(1, 0, NULL)"))

    def work(index: int) -> None:
        database = Database.open(engine, NS, single_writer=single_writer)
        database.deadline_s = 60
        for _ in range(10):
            database.transact(lambda c: c.execute("UPDATE t SET n = n + 1 WHERE id = 1"))
        database.close()

    in_threads(4, work)
    assert Database.open(engine, NS).read(lambda c: c.execute("SELECT n FROM t").get) == 40


def test_money_moved_between_two_databases_by_many_is_neither_made_nor_lost(engine: Engine) -> None:
    names = ("a", "b")
    for name in names:
        database = Database.open(engine, Namespace(name), create=True)
        database.transact(lambda c: c.execute("CREATE TABLE purse(n INTEGER); INSERT INTO purse VALUES(100)"))
        database.close()

    def move(connections: Any) -> None:
        source, target = connections
        source.execute("UPDATE purse SET n = n - 1")
        target.execute("UPDATE purse SET n = n + 1")

    def work(index: int) -> None:
        databases = [Database.open(engine, Namespace(name)) for name in names]
        databases[0].deadline_s = databases[1].deadline_s = 60
        for turn in range(6):
            transact_together(databases if (index + turn) % 2 else databases[::-1], move)
        for database in databases:
            database.close()

    def total() -> list[int]:
        found = []
        for name in names:
            database = Database.open(engine, Namespace(name), read_only=True)
            found.append(database.read(lambda c: c.execute("SELECT n FROM purse").get))
            database.close()
        return found

    in_threads(4, work)
    assert total() == [100, 100]


def test_every_version_is_the_database_of_then_until_it_is_truncated(engine: Engine) -> None:
    in_this_process(engine)
    writer = table(engine, single_writer=True)
    versions: dict[int, str] = {}
    for i in range(60):
        writer.transact(lambda c, i=i: c.execute("INSERT INTO t VALUES(?, ?, randomblob(3000))", (i, i)))
        versions[i] = writer.version or ""
    for i in (0, 17, 59):
        past = Database.open(engine, NS, version=versions[i])
        assert past.read(lambda c: c.execute("SELECT count(*), max(n) FROM t").get) == (i + 1, i)
        assert past.read(lambda c: c.execute("PRAGMA integrity_check").get) == "ok"
        past.close()
    for _ in engine.truncate_namespace("w", versions[40]):
        pass
    for _ in engine.delete_unreferenced_content("w"):
        pass
    past = Database.open(engine, NS, version=versions[5])
    with pytest.raises(Gone):
        past.read(lambda c: c.execute("SELECT sum(length(body)) FROM t").get)
    past.close()
    kept = Database.open(engine, NS, version=versions[40])
    assert kept.read(lambda c: c.execute("SELECT count(*) FROM t").get) == 41
    assert writer.read(lambda c: c.execute("PRAGMA integrity_check").get) == "ok"


def test_a_large_database_reads_ahead_instead_of_page_by_page(engine: Engine, monkeypatch: Any) -> None:
    in_this_process(engine)
    writer = table(engine, single_writer=True)
    writer.transact(
        lambda c: c.execute(
            "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) INSERT INTO t SELECT i, i, randomblob(4000) FROM n"
        )
    )
    calls: list[int] = []
    read = engine.read
    monkeypatch.setattr(engine, "read", lambda ns, reads: calls.append(len(reads)) or read(ns, reads))
    reader = Database.open(engine, NS, read_only=True)
    assert reader.read(lambda c: c.execute("SELECT sum(length(body)) FROM t").get) == 4_000_000
    assert sum(calls) >= 500
    assert len(calls) < sum(calls) / 10


def test_a_writer_that_followed_a_moving_head_agrees_with_plain_sqlite(engine: Engine) -> None:
    table(engine).close()
    plain = apsw.Connection(":memory:")
    plain.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, body BLOB)")
    writers = [Database.open(engine, NS) for _ in range(3)]
    for i in range(90):
        statement = (
            "INSERT INTO t VALUES(?1, ?1, zeroblob(?1 * 100))"
            if i % 3
            else "UPDATE t SET n = n + ?1 WHERE id % 2 = 0"
        )
        writers[i % 3].transact(lambda c, s=statement, i=i: c.execute(s, (i,)))
        plain.execute(statement, (i,))
    everything = (
        "SELECT group_concat(id || ':' || n || ':' || length(body)) FROM (SELECT * FROM t ORDER BY id)"
    )
    expected = plain.execute(everything).get
    assert [writer.read(lambda c: c.execute(everything).get) for writer in writers] == [expected] * 3


def test_in_this_process_a_hundred_pages_go_inside_the_commit_and_cost_no_sync_of_their_own(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(engine)
    ahead: list[int] = []
    write = engine.write

    def noted(ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        ahead.append(len(pages))
        return write(ns, pages)

    monkeypatch.setattr(engine, "write", noted)
    database = table(engine)
    database.transact(lambda c: c.execute("INSERT INTO t VALUES(1, 0, randomblob(700000))"))
    assert ahead == []
    database.transact(lambda c: c.execute("INSERT INTO t VALUES(2, 0, randomblob(1000000))"))
    assert sum(ahead) > 100
    assert database.read(lambda c: c.execute("PRAGMA integrity_check").get) == "ok"


@pytest.mark.parametrize("spare", [0, 1])
def test_a_transaction_that_loses_each_time_is_given_up_at_the_bound(engine: Any, spare: int) -> None:
    """Another writer is first each time; with ``spare`` it lets the last try through."""
    ours, theirs = Database.open(engine, NS, create=True), Database.open(engine, NS)
    ours.transact(lambda c: c.execute("CREATE TABLE t(n)"))
    tries = 0

    def work(connections: Sequence[apsw.Connection]) -> None:
        nonlocal tries
        tries += 1
        assert connections[0].execute("SELECT count(*) FROM t").get is not None
        if tries <= VFS_ATTEMPTS_MAX - spare:
            theirs.transact(lambda c: c.execute("INSERT INTO t VALUES (1)"))
        connections[0].execute("INSERT INTO t VALUES (2)")

    def run() -> None:
        transact_together([ours], work, monotonic=lambda: 0.0, sleep=lambda s: None)

    if spare:
        run()
    else:
        with pytest.raises(Conflict):
            run()
    assert tries == VFS_ATTEMPTS_MAX
    ours.close()
    theirs.close()
