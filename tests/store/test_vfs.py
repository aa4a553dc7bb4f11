"""SQLite over pages of a store, against a small store in memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import apsw
import pytest
from blake3 import blake3

from gateway.errors import BadInput, Conflict, NotFound, StoreUnavailable
from gateway.store.base import CommitRequest, Committed, Namespace, NamespaceCommit, PageRead, PageWrite
from gateway.store.database import Database, transact_together
from gateway.store.pages import empty_first_page
from tests.store.memory_store import MemoryStore

NS = Namespace("w")
Sql = Callable[[apsw.Connection], Any]


def sql(text: str, *bindings: Any) -> Sql:
    return lambda connection: connection.execute(text, bindings).get


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.create_namespace("w")
    return store


def table(store: MemoryStore, **options: Any) -> Database:
    database = Database.open(store, NS, **options)
    database.transact(sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)"))
    return database


def head_page_0(store: MemoryStore) -> bytes:
    head = store.stat(NS).version
    return store.read(NS, [PageRead(0, head)])[0].data


def test_a_new_namespace_reads_as_an_empty_database_and_nothing_is_stored(store: MemoryStore) -> None:
    database = Database.open(store, NS)
    assert database.read(sql("SELECT count(*) FROM sqlite_schema")) == 0
    assert database.read(sql("PRAGMA page_size")) == 8192
    assert head_page_0(store) == b""
    assert store.calls["commit"] == 0


def test_the_faked_first_page_is_what_sqlite_calls_an_empty_database() -> None:
    page = empty_first_page(4096)
    connection = apsw.Connection(":memory:")
    connection.deserialize("main", page)
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    assert connection.execute("PRAGMA page_count").get == 1


@pytest.mark.parametrize("page_size", [4096, 8192, 16384, 32768])
def test_the_page_size_is_chosen_once_and_found_again(store: MemoryStore, page_size: int) -> None:
    table(store, page_size=page_size).close()
    database = Database.open(store, NS)
    assert database.read(sql("PRAGMA page_size")) == page_size
    assert all(len(w.data or b"") == page_size for w in store.requests[0].namespaces[0].pages)


def test_an_impossible_page_size_is_refused(store: MemoryStore) -> None:
    with pytest.raises(BadInput, match="page size 1000"):
        Database.open(store, NS, page_size=1000)


@pytest.mark.parametrize("single_writer", [False, True])
def test_page_0_is_stored_with_its_counters_zeroed(store: MemoryStore, single_writer: bool) -> None:
    database = table(store, single_writer=single_writer)
    for i in range(20):
        database.transact(sql("INSERT INTO t VALUES(?, zeroblob(5000))", i))
    page = head_page_0(store)
    assert page[:16] == b"SQLite format 3\0"
    assert page[24:28] == bytes(4)
    assert page[92:96] == bytes(4)
    assert int.from_bytes(page[28:32], "big") == database.read(sql("PRAGMA page_count"))


def test_one_small_insert_is_one_commit_of_one_page_that_travels_inline(store: MemoryStore) -> None:
    database = table(store, single_writer=True)
    database.transact(sql("INSERT INTO t VALUES(1, zeroblob(100))"))
    database.transact(sql("INSERT INTO t VALUES(2, zeroblob(100))"))
    assert [write.page for write in store.requests[-1].namespaces[0].pages] == [1]
    assert store.calls["write"] == 0
    assert store.calls["stat"] == 1


def test_a_transaction_that_changes_nothing_commits_nothing(store: MemoryStore) -> None:
    database = table(store)
    commits = store.calls["commit"]
    database.transact(sql("DELETE FROM t WHERE id = 99"))
    assert store.calls["commit"] == commits


def test_more_than_ten_pages_are_written_ahead_of_the_commit(store: MemoryStore) -> None:
    database = table(store)
    database.transact(sql("INSERT INTO t VALUES(1, zeroblob(200000))"))
    assert store.calls["write"] > 0
    assert all(write.data is None for write in store.requests[-1].namespaces[0].pages)
    assert database.read(sql("PRAGMA integrity_check")) == "ok"


def test_a_transaction_of_many_thousand_pages_is_read_back_before_and_after_its_commit(
    store: MemoryStore,
) -> None:
    database = table(store)

    def fill(connection: apsw.Connection) -> int:
        connection.execute("PRAGMA cache_size = 20")
        for i in range(3000):
            connection.execute("INSERT INTO t VALUES(?, ?)", (i, i.to_bytes(4, "big") * 1500))
        connection.execute("UPDATE t SET body = x'00' WHERE id % 7 = 0")
        return int(connection.execute("SELECT sum(length(body)) FROM t").get)

    inside = database.transact(fill)
    assert inside == Database.open(store, NS).read(sql("SELECT sum(length(body)) FROM t"))
    assert database.read(sql("PRAGMA integrity_check")) == "ok"


def test_a_function_that_raises_leaves_nothing_behind(store: MemoryStore) -> None:
    database = table(store, single_writer=True)

    def spoil(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO t VALUES(1, x'aa')")
        raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        database.transact(spoil)
    assert database.read(sql("SELECT count(*) FROM t")) == 0
    database.transact(sql("INSERT INTO t VALUES(2, x'bb')"))
    assert Database.open(store, NS).read(sql("SELECT group_concat(id) FROM t")) == "2"


@pytest.mark.parametrize("single_writer", [False, True])
def test_pages_that_a_rollback_took_back_do_not_go_with_the_next_commit(
    store: MemoryStore, single_writer: bool
) -> None:
    database = table(store, single_writer=single_writer)
    database.transact(sql("INSERT INTO t VALUES(1, 'first')"))
    connection = database.connection
    connection.execute("PRAGMA cache_size=2")  # so that SQLite hands pages on before it commits

    def fill_and_fail(connection: apsw.Connection) -> None:
        for number in range(10, 60):
            connection.execute("INSERT INTO t VALUES(?, zeroblob(6000))", (number,))
        assert database.pages.dirty
        connection.execute("INSERT INTO t VALUES(1, 'again')")

    with pytest.raises(apsw.ConstraintError):
        database.transact(fill_and_fail)
    assert database.connection is connection
    assert not database.pages.dirty
    database.transact(sql("INSERT INTO t VALUES(2, 'second')"))
    (part,) = store.requests[-1].namespaces
    assert len(part.pages) <= 2
    assert Database.open(store, NS).read(sql("SELECT group_concat(id) FROM t")) == "1,2"
    assert Database.open(store, NS).read(sql("PRAGMA integrity_check")) == "ok"


@pytest.mark.parametrize("single_writer", [False, True])
@pytest.mark.parametrize("statement", ["INSERT INTO t VALUES(1, 'again')", "INSERT INTO absent VALUES(1)"])
def test_a_statement_that_fails_costs_the_transaction_and_nothing_more(
    store: MemoryStore, single_writer: bool, statement: str
) -> None:
    database = table(store, single_writer=single_writer)
    database.transact(sql("INSERT INTO t VALUES(1, 'first')"))
    connection, stats = database.connection, store.calls["stat"]
    with pytest.raises(apsw.Error):
        database.transact(lambda c: (c.execute("DELETE FROM t WHERE id = 5"), c.execute(statement)))
    assert database.connection is connection
    assert single_writer <= (store.calls["stat"] == stats)
    assert database.read(sql("SELECT body FROM t")) == "first"


@pytest.mark.parametrize("single_writer", [False, True])
def test_who_loses_a_race_runs_again_on_what_the_winner_wrote(
    store: MemoryStore, single_writer: bool
) -> None:
    mine, other = table(store, single_writer=single_writer), Database.open(store, NS)
    mine.transact(sql("INSERT INTO t VALUES(1, 0)"))
    runs: list[int] = []

    def add(connection: apsw.Connection) -> None:
        runs.append(connection.execute("SELECT body FROM t WHERE id = 1").get)
        if len(runs) == 1:
            other.transact(sql("UPDATE t SET body = body + 10"))
        connection.execute("UPDATE t SET body = body + 1")

    mine.transact(add)
    assert runs == [0, 10]
    assert mine.conflicts == 1
    assert other.read(sql("SELECT body FROM t")) == 11


def test_writers_of_different_pages_do_not_conflict(store: MemoryStore) -> None:
    first = table(store)
    first.transact(sql("CREATE TABLE u(id INTEGER PRIMARY KEY, body)"))
    second = Database.open(store, NS)

    def insert(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO t VALUES(1, x'aa')")
        second.transact(sql("INSERT INTO u VALUES(1, 'b')"))

    first.transact(insert)
    assert first.conflicts == second.conflicts == 0
    assert second.read(sql("SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM u)")) == 2


def test_a_conflict_that_never_ends_is_told_at_the_deadline(store: MemoryStore) -> None:
    mine, other = table(store), Database.open(store, NS)
    mine.transact(sql("INSERT INTO t VALUES(1, 0)"))
    clock = iter(range(100))

    def lose(connections: Any) -> None:
        connections[0].execute("UPDATE t SET body = body + 1")
        other.transact(sql("UPDATE t SET body = body + 10"))

    with pytest.raises(Conflict):
        transact_together([mine], lose, monotonic=lambda: next(clock), sleep=lambda seconds: None)
    assert 0 < mine.conflicts < 10
    assert mine.read(sql("SELECT body % 10 FROM t")) == 0


def test_a_reader_sees_only_what_changed_and_keeps_its_other_pages(store: MemoryStore) -> None:
    writer = table(store, single_writer=True)
    for i in range(40):
        writer.transact(sql("INSERT INTO t VALUES(?, randomblob(5000))", i))
    reader = Database.open(store, NS, read_only=True)
    assert reader.read(sql("SELECT sum(length(body)) FROM t")) == 40 * 5000
    writer.transact(sql("INSERT INTO t VALUES(40, x'aa')"))
    reads = store.calls["read"]
    assert reader.read(sql("SELECT max(id) FROM t")) == 40
    assert store.calls["read"] - reads <= 3


def test_a_version_is_the_same_database_opened_in_the_past(store: MemoryStore) -> None:
    writer = table(store, single_writer=True)
    versions = {}
    for i in range(30):
        writer.transact(sql("INSERT INTO t VALUES(?, randomblob(3000))", i))
        versions[i] = writer.version
    writer.transact(sql("DELETE FROM t"))
    for i, version in versions.items():
        past = Database.open(store, NS, version=version)
        assert past.read(sql("SELECT count(*) FROM t")) == i + 1
        with pytest.raises(apsw.ReadOnlyError):
            past.transact(sql("DELETE FROM t"))
        past.close()


def test_a_missing_namespace_is_not_found(store: MemoryStore) -> None:
    with pytest.raises(NotFound):
        Database.open(store, Namespace("absent")).read(sql("SELECT 1 FROM sqlite_schema"))


def test_a_namespace_that_holds_something_else_is_told_apart(store: MemoryStore) -> None:
    page = b"not a database".ljust(8192)
    part = NamespaceCommit(NS, store.stat(NS).version, [PageWrite(0, blake3(page).digest(), page)])
    store.commit(CommitRequest(b"k" * 16, [part], True))
    with pytest.raises(BadInput, match="does not hold a SQLite database"):
        Database.open(store, NS).read(sql("SELECT 1 FROM sqlite_schema"))


def test_a_store_that_goes_away_is_named_and_the_next_transaction_starts_afresh(store: MemoryStore) -> None:
    database = table(store, single_writer=True)
    commit = store.commit

    def away(request: CommitRequest) -> Committed:
        raise StoreUnavailable("the store does not answer")

    store.commit = away  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        database.transact(sql("INSERT INTO t VALUES(1, 1)"))
    store.commit = commit  # type: ignore[method-assign]
    database.connection.execute("INSERT INTO t VALUES(1, 2)")
    assert Database.open(store, NS).read(sql("SELECT body FROM t")) == 2
    database.transact(sql("UPDATE t SET body = 3"))
    assert database.read(sql("SELECT body FROM t")) == 3


def test_a_failing_read_is_raised_as_the_store_said_it(store: MemoryStore) -> None:
    table(store).transact(sql("INSERT INTO t VALUES(1, randomblob(100000))"))
    database = Database.open(store, NS)
    assert database.read(sql("SELECT count(*) FROM sqlite_schema")) == 1

    def away(ns: Namespace, reads: Any) -> Any:
        raise StoreUnavailable("the store does not answer")

    store.read = away  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        database.read(sql("SELECT sum(length(body)) FROM t"))


def test_two_databases_commit_at_one_version_or_not_at_all(store: MemoryStore) -> None:
    store.create_namespace("x")
    one, two = table(store), Database.open(store, Namespace("x"))
    two.transact(sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)"))
    one.transact(sql("INSERT INTO t VALUES(7, 'sword')"))

    def move(connections: Any) -> None:
        source, target = connections
        row = source.execute("DELETE FROM t WHERE id = 7 RETURNING id, body").get
        target.execute("INSERT INTO t VALUES(?, ?)", row)

    transact_together([one, two], move)
    assert one.version == two.version
    assert one.read(sql("SELECT count(*) FROM t")) == 0
    assert two.read(sql("SELECT body FROM t")) == "sword"

    def fail(connections: Any) -> None:
        move([connections[1], connections[0]])
        raise LookupError

    with pytest.raises(LookupError):
        transact_together([one, two], fail)
    assert two.read(sql("SELECT body FROM t")) == "sword"


def test_a_plain_connection_commits_by_itself(store: MemoryStore) -> None:
    database = table(store)
    connection = database.connection
    connection.execute("INSERT INTO t VALUES(1, 'a'); BEGIN; INSERT INTO t VALUES(2, 'b'); COMMIT")
    assert Database.open(store, NS).read(sql("SELECT group_concat(body, '') FROM t")) == "ab"


@pytest.mark.parametrize("single_writer", [False, True])
def test_random_statements_give_what_plain_sqlite_gives(store: MemoryStore, single_writer: bool) -> None:
    dice = random.Random(4)
    ours, plain = table(store, single_writer=single_writer), apsw.Connection(":memory:")
    plain.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
    for _ in range(300):
        key, size = dice.randrange(60), dice.choice([10, 900, 9000, 40000])
        statement: tuple[str, Any] = dice.choice(
            [
                ("REPLACE INTO t VALUES(?, ?)", (key, dice.randbytes(size))),
                ("DELETE FROM t WHERE id BETWEEN ? AND ? + 9", (key, key)),
                ("UPDATE t SET body = body || x'01' WHERE id = ?", (key,)),
                ("VACUUM", ()) if dice.random() < 0.05 else ("DELETE FROM t WHERE id = ?", (key,)),
            ]
        )
        plain.execute(*statement)
        if statement[0] == "VACUUM":
            ours.connection.execute("VACUUM")
        else:
            ours.transact(lambda connection, s=statement: connection.execute(*s).get)
        if dice.random() < 0.1:
            ours.close()
    everything = "SELECT group_concat(id || hex(body)) FROM (SELECT * FROM t ORDER BY id)"
    assert ours.read(sql(everything)) == plain.execute(everything).get
    assert ours.read(sql("PRAGMA integrity_check")) == "ok"
    assert Database.open(store, NS).read(sql(everything)) == plain.execute(everything).get


@pytest.mark.parametrize("foreign_commits", [1, 130])
def test_what_another_wrote_beside_a_transaction_is_not_read_from_the_cache(
    store: MemoryStore, foreign_commits: int
) -> None:
    """130: more than the store tells of, so that nothing that is held can be trusted."""
    ours = table(store)
    ours.transact(sql("CREATE TABLE u(id INTEGER PRIMARY KEY, body TEXT)"))
    ours.transact(sql("INSERT INTO u VALUES(1, 'old')"))
    theirs = Database.open(store, NS)
    assert ours.read(sql("SELECT body FROM u")) == "old"
    runs = 0

    def beside(connection: apsw.Connection) -> None:
        nonlocal runs
        runs += 1
        connection.execute("INSERT INTO t VALUES(1, 'mine')")
        for n in range(foreign_commits):
            theirs.transact(sql("UPDATE u SET body = ?", f"new {n}"))

    ours.transact(beside)
    assert runs == 1, "the two touched different pages"
    assert ours.read(sql("SELECT body FROM u")) == f"new {foreign_commits - 1}"
    assert theirs.read(sql("SELECT body FROM t")) == "mine"
