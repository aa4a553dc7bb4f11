"""A database over a store in memory: who is asked again and when, what is thrown away, and what becomes of held commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw
import pytest

from gateway.errors import BadInput, Conflict, GatewayError, NotFound, StoreUnavailable, Unprocessable
from gateway.limits import (
    DATABASE_PAUSE_S,
    DATABASE_PAUSE_S_MAX,
    HEAD_TRUSTED_S,
    SQL_LOOK_S_MAX,
    STORE_COMMIT_NAMESPACES_MAX,
    VFS_ATTEMPTS_MAX,
    VFS_CACHE_BYTES_MAX,
    VFS_DEADLINE_S,
    VFS_WRITER_CACHE_BYTES_MAX,
)
from gateway.store import database as module
from gateway.store.base import CommitRequest, Committed, Namespace, PageContent, Stat, Traits
from gateway.store.database import Database, commit_held, run_held, transact_together
from gateway.store.hardening import Deadline
from tests.store.memory_store import MemoryStore

NS = Namespace("w")


class Failing(MemoryStore):
    """Fails as often as it is told to, by what is asked of it."""

    def __init__(self, traits: Traits | None = None) -> None:
        super().__init__()
        self.traits = traits or Traits()  # type: ignore[misc]
        self.fails: dict[str, list[GatewayError]] = {"stat": [], "read": [], "commit": []}
        self.create_namespace("w")

    def stat(self, ns: Namespace, **how: Any) -> Stat:
        self._fail("stat")
        return super().stat(ns, **how)

    def read(self, ns: Namespace, reads: Any) -> list[PageContent]:
        self._fail("read")
        return super().read(ns, reads)

    def commit(self, request: CommitRequest) -> Committed:
        self._fail("commit")
        return super().commit(request)

    def _fail(self, what: str) -> None:
        if self.fails[what]:
            raise self.fails[what].pop()


@pytest.fixture
def store() -> Failing:
    return Failing()


def sql(text: str, *bindings: Any) -> Callable[[apsw.Connection], Any]:
    return lambda connection: connection.execute(text, bindings).get


COUNT, INSERT = sql("SELECT count(*) FROM t"), sql("INSERT INTO t DEFAULT VALUES")


def table(store: Failing, **how: Any) -> Database:
    database = Database.open(store, NS, **how)
    database.transact(sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)"))
    return database


def conflicts(count: int) -> list[GatewayError]:
    return [Conflict("another was first") for _ in range(count)]


# --- opening -----------------------------------------------------------------------------------------


def test_a_namespace_is_made_only_where_that_is_asked_for_and_one_that_is_there_is_taken(
    store: Failing,
) -> None:
    with pytest.raises(NotFound):
        Database.open(store, Namespace("new")).read(sql("SELECT 1"))
    for _ in range(2):
        database = Database.open(store, Namespace("new"), create=True)
        assert database.read(sql("SELECT 1")) == 1
        assert database.namespace == Namespace("new")


@pytest.mark.parametrize(("in_process", "size"), [(True, 0), (False, 16)])
def test_commits_bear_a_key_of_their_own_where_an_answer_may_be_lost(in_process: bool, size: int) -> None:
    store = Failing(Traits(in_process=in_process))
    database = table(store)
    database.transact(INSERT)
    keys = [request.idempotency_key for request in store.requests]
    assert [len(key) for key in keys] == [size, size]
    assert len(set(keys)) == (1 if in_process else 2)
    Database.open(store, NS, new_key=lambda: b"x" * 16).transact(INSERT)
    assert store.requests[-1].idempotency_key == b"x" * 16


@pytest.mark.parametrize(
    ("how", "trusts", "writes"),
    [
        ({}, False, True),
        ({"single_writer": True}, True, True),
        ({"read_only": True}, False, False),
        ({"single_writer": True, "read_only": True}, False, False),
    ],
)
def test_only_the_single_writer_trusts_its_head_and_only_a_reader_may_not_write(
    store: Failing, how: dict[str, bool], trusts: bool, writes: bool
) -> None:
    table(store)
    database = Database.open(store, NS, **how)
    mode = database.connection.execute("PRAGMA locking_mode").get
    assert mode == ("exclusive" if trusts else "normal")
    if writes:
        database.transact(INSERT)
    else:
        with pytest.raises(apsw.ReadOnlyError):
            database.transact(INSERT)
    before = store.calls["stat"]
    for _ in range(3):
        database.read(COUNT)
    assert (store.calls["stat"] == before) == trusts
    assert VFS_WRITER_CACHE_BYTES_MAX < VFS_CACHE_BYTES_MAX


def test_nothing_of_sqlites_own_goes_to_a_disk(store: Failing) -> None:
    connection = Database.open(store, NS).connection
    told = [
        connection.execute(f"PRAGMA {name}").get
        for name in ("journal_mode", "temp_store", "synchronous", "secure_delete")
    ]
    assert told == ["memory", 2, 0, 2]


# --- who is asked again ------------------------------------------------------------------------------


def test_a_function_runs_again_for_each_conflict_and_each_is_counted_once(store: Failing) -> None:
    database = table(store)
    runs: list[int] = []

    def insert(connection: apsw.Connection) -> int:
        runs.append(1)
        connection.execute("INSERT INTO t DEFAULT VALUES")
        return len(runs)

    store.fails["commit"] = conflicts(3)
    assert database.transact(insert) == 4
    assert database.read(COUNT) == 1
    assert (database.conflicts, database.take_conflicts(), database.take_conflicts()) == (3, 3, 0)


def test_the_pause_between_two_tries_doubles_up_to_a_bound_and_is_spread(store: Failing) -> None:
    database = table(store)
    slept: list[float] = []
    store.fails["commit"] = conflicts(12)
    transact_together(
        [database], lambda c: INSERT(c[0]), monotonic=lambda: 0.0, sleep=slept.append, jitter=lambda: 0.5
    )
    expected = [min(DATABASE_PAUSE_S_MAX, DATABASE_PAUSE_S * 2**attempt) / 2 for attempt in range(1, 13)]
    assert slept == pytest.approx(expected)
    assert slept[-1] == DATABASE_PAUSE_S_MAX / 2


@pytest.mark.parametrize("late", [0, 1])
def test_it_is_tried_until_the_deadline_and_once_at_least(store: Failing, late: int) -> None:
    database = table(store)
    clock = iter([100.0, 100.0 + VFS_DEADLINE_S - 0.001 + late])
    store.fails["commit"] = conflicts(1)

    def run() -> None:
        transact_together(
            [database], lambda c: INSERT(c[0]), monotonic=lambda: next(clock), sleep=lambda s: None
        )

    if late:
        with pytest.raises(Conflict):
            run()
    else:
        run()
    assert database.read(COUNT) == 1 - late


def test_it_is_tried_so_often_and_no_more(store: Failing) -> None:
    database = table(store)
    for fails, ends_well in ((VFS_ATTEMPTS_MAX - 1, True), (VFS_ATTEMPTS_MAX, False)):
        store.fails["commit"] = conflicts(fails)
        tried = store.calls["commit"]
        try:
            transact_together(
                [database], lambda c: INSERT(c[0]), monotonic=lambda: 0.0, sleep=lambda seconds: None
            )
        except Conflict:
            assert not ends_well
        assert store.calls["commit"] == tried + ends_well
        assert store.fails["commit"] == []


def test_only_a_conflict_is_tried_again(store: Failing) -> None:
    database = table(store)
    store.fails["commit"] = [StoreUnavailable("away"), StoreUnavailable("away")]
    with pytest.raises(StoreUnavailable):
        database.transact(INSERT)
    assert len(store.fails["commit"]) == 1
    store.fails["commit"] = []
    database.transact(INSERT)
    assert (database.read(COUNT), database.conflicts) == (1, 0)


@pytest.mark.parametrize("count", [0, 1, STORE_COMMIT_NAMESPACES_MAX, STORE_COMMIT_NAMESPACES_MAX + 1])
def test_one_commit_goes_over_one_to_sixteen_databases(store: Failing, count: int) -> None:
    databases = [Database.open(store, Namespace(f"n{n}"), create=True) for n in range(count)]

    def run() -> object:
        return transact_together(databases, lambda all_: [one.execute("CREATE TABLE t(a)") for one in all_])

    if 1 <= count <= STORE_COMMIT_NAMESPACES_MAX:
        run()
        assert len(store.requests[-1].namespaces) == count
    else:
        with pytest.raises(BadInput, match=f"{count} databases in one transaction; 1 to 16 go"):
            run()


# --- the guard ---------------------------------------------------------------------------------------


class Guarding:
    """A guard that counts how often it looked, and refuses when told to."""

    def __init__(self, database: Database) -> None:
        self.looks = 0
        self.refuses = False
        self.now_s = 0.0
        database.guard = self
        # A database asks the clock of its own process; nobody else gives it one.
        database._monotonic = lambda: self.now_s

    def __call__(self, connection: apsw.Connection) -> None:
        self.looks += 1
        connection.execute("SELECT count(*) FROM sqlite_schema").get  # noqa: B018
        if self.refuses:
            raise NotFound("another is there")


def test_a_single_writers_guard_looks_once_and_that_of_others_each_time(store: Failing) -> None:
    table(store)
    for how, looks in (({"single_writer": True}, 1), ({}, 4), ({"read_only": True}, 2)):
        database = Database.open(store, NS, **how)
        guarding = Guarding(database)
        for _ in range(2):
            database.read(COUNT)
            if "read_only" not in how:
                database.transact(INSERT)
        assert guarding.looks == looks
        database.throw_away()
        database.read(COUNT)
        assert guarding.looks == looks + 1


def test_what_a_guard_that_refused_has_seen_is_not_kept(store: Failing) -> None:
    table(store)
    database = Database.open(store, NS, single_writer=True)
    guarding = Guarding(database)
    guarding.refuses = True
    for attempt in (database.read, database.transact):
        with pytest.raises(NotFound):
            attempt(COUNT)
        assert database.version is None
    guarding.refuses = False
    assert database.read(COUNT) == 0
    assert guarding.looks == 3
    with pytest.raises(apsw.ConstraintError):
        database.transact(sql("INSERT INTO t(id) VALUES(1), (1)"))
    assert database.version is not None, "a statement that fails is no refusal of the guard"
    assert (database.read(COUNT), guarding.looks) == (0, 3)


def test_after_a_long_rest_a_trusted_head_is_asked_for_and_a_commit_renews_the_trust(store: Failing) -> None:
    database = table(store, single_writer=True)
    guarding = Guarding(database)
    database.transact(INSERT)

    def stats_of(after_s: float, work: Callable[[], object]) -> int:
        guarding.now_s += after_s
        before = store.calls["stat"]
        work()
        return store.calls["stat"] - before

    def insert() -> object:
        return database.transact(INSERT)

    assert stats_of(HEAD_TRUSTED_S, insert) == 0
    assert stats_of(HEAD_TRUSTED_S, insert) == 0
    assert stats_of(HEAD_TRUSTED_S + 1, insert) == 1
    assert stats_of(HEAD_TRUSTED_S, insert) == 0
    assert stats_of(HEAD_TRUSTED_S + 1, lambda: database.transact(COUNT)) == 1
    assert stats_of(HEAD_TRUSTED_S, lambda: database.transact(COUNT)) == 0
    Database.open(store, NS).transact(INSERT)
    assert stats_of(HEAD_TRUSTED_S + 1, insert) == 2, "it has moved: all is read again"
    assert database.read(COUNT) == 7
    assert database.conflicts == 0
    assert guarding.looks == 2


def test_a_head_is_renewed_only_where_another_has_committed(store: Failing) -> None:
    database = table(store, single_writer=True)
    database.renew()
    assert (database.lineage, database.version) == (1, store.stat(NS).version)
    Database.open(store, NS).transact(INSERT)
    database.renew()
    assert database.version is None
    database.renew()
    assert database.read(COUNT) == 1
    assert database.lineage == 2
    database.meaning = lambda error: StoreUnavailable("meant")
    store.fails["stat"] = [NotFound("gone")]
    with pytest.raises(StoreUnavailable, match="meant"):
        database.renew()


def test_what_an_error_of_the_store_means_is_asked_of_whoever_opened_it(store: Failing) -> None:
    table(store)
    for where, work in (("stat", COUNT), ("read", COUNT), ("commit", INSERT)):
        database = Database.open(store, NS)
        database.meaning = lambda error: Unprocessable(f"means {error}")
        store.fails[where] = [StoreUnavailable("away")]
        with pytest.raises(Unprocessable, match="means away"):
            database.transact(work)
        database.meaning = None
        store.fails[where] = [StoreUnavailable("away")]
        with pytest.raises(StoreUnavailable):
            database.transact(work)
        database.close()


# --- held commits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("guarded", [False, True])
def test_what_is_held_waits_for_whoever_commits_it(store: Failing, atomic: bool, guarded: bool) -> None:
    database = table(store, single_writer=True)
    guarding = Guarding(database) if guarded else None
    part = database.hold(INSERT, atomic=atomic)
    assert part is not None
    assert guarding is None or guarding.looks == 1
    commits = store.calls["commit"]
    done = store.commit(CommitRequest(b"", [part], True))
    database.settle(done)
    assert database.version == done.version == store.stat(NS).version
    assert store.calls["commit"] == commits + 1
    database.transact(INSERT)
    assert database.read(COUNT) == 2
    assert database.conflicts == 0
    assert guarding is None or guarding.looks == 1


def test_where_nothing_changed_there_is_nothing_to_settle(store: Failing) -> None:
    database = table(store, single_writer=True)
    version = database.version
    assert database.hold(COUNT) is None
    assert database.version == version
    database.connection.execute("INSERT INTO t DEFAULT VALUES")
    assert database.version == store.stat(NS).version != version, "a commit goes to the store again"


def test_a_held_commit_that_failed_is_forgotten_and_counted_where_another_was_first(store: Failing) -> None:
    database = table(store, single_writer=True)
    for error, count in ((Conflict("another"), 1), (StoreUnavailable("away"), 1)):
        assert database.hold(INSERT) is not None
        database.settle(error)
        assert database.version is None
        assert database.conflicts == count
        assert database.read(COUNT) == 0
    database.transact(INSERT)
    assert database.read(COUNT) == 1


def test_what_fails_while_it_is_held_is_rolled_back(store: Failing) -> None:
    database = table(store, single_writer=True)
    for atomic in (False, True):
        with pytest.raises(apsw.ConstraintError):
            database.hold(sql("INSERT INTO t(id) VALUES(1), (1)"), atomic=atomic)
        assert database.read(COUNT) == 0
        database.connection.execute("INSERT INTO t DEFAULT VALUES")
        assert Database.open(store, NS).read(COUNT) == 1
        database.transact(sql("DELETE FROM t"))


def test_one_that_fails_among_many_rolls_all_of_them_back(store: Failing) -> None:
    databases = [table(store), Database.open(store, Namespace("v"), create=True)]
    databases[1].transact(sql("CREATE TABLE t(id INTEGER PRIMARY KEY)"))

    def fails(connections: Any) -> None:
        for connection in connections:
            connection.execute("INSERT INTO t DEFAULT VALUES")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        transact_together(databases, fails)
    assert [database.read(COUNT) for database in databases] == [0, 0]
    run_held(databases, lambda connections: [INSERT(one) for one in connections])
    store.fails["commit"] = [StoreUnavailable("away")]
    with pytest.raises(StoreUnavailable):
        commit_held(databases)
    assert [database.version for database in databases] == [None, None]
    run_held(databases, lambda connections: [INSERT(one) for one in connections])
    commit_held(databases)
    assert [database.read(COUNT) for database in databases] == [1, 1]
    assert databases[0].version == databases[1].version == store.stat(NS).version


# --- errors and the connection -----------------------------------------------------------------------


@pytest.mark.parametrize("is_kept", [True, False])
def test_after_an_error_of_the_statement_the_connection_stays_and_after_a_lost_commit_it_is_made_anew(
    store: Failing, is_kept: bool
) -> None:
    database = table(store)
    connection = database.connection
    store.fails["commit"] = [StoreUnavailable("away")]
    with pytest.raises((apsw.SQLError, StoreUnavailable)):
        database.transact(sql("SELECT nothing") if is_kept else INSERT)
    store.fails["commit"] = []
    assert (database.connection is connection) == is_kept
    assert database.read(COUNT) == 0


def test_errors_of_others_than_sqlite_leave_the_connection_and_are_raised_as_they_are(store: Failing) -> None:
    database = table(store)
    connection = database.connection

    def fails(connection: apsw.Connection) -> None:
        raise KeyError("mine")

    for attempt in (database.read, database.transact):
        with pytest.raises(KeyError, match="mine"):
            attempt(fails)
        assert database.connection is connection
    assert database.read(COUNT) == 0


def test_a_failure_of_the_store_is_told_once_and_not_with_the_next_error(store: Failing) -> None:
    database = table(store)
    store.fails["stat"] = [StoreUnavailable("away")]
    with pytest.raises(StoreUnavailable, match="away"):
        database.read(COUNT)
    with pytest.raises(apsw.SQLError):
        database.read(sql("SELECT nothing"))


def test_closing_gives_the_vfs_back_and_the_next_use_makes_another(store: Failing) -> None:
    before = set(apsw.vfs_names())
    database = table(store)
    assert len(set(apsw.vfs_names()) - before) == 1
    database.throw_away()
    assert database.read(COUNT) == 0
    assert len(set(apsw.vfs_names()) - before) == 1
    database.close()
    database.close()
    assert set(apsw.vfs_names()) == before
    assert database.read(COUNT) == 0
    database.close()


def test_a_statement_that_works_too_long_is_broken_off_and_the_next_one_is_not(
    store: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SQL_WORK_S_MAX", 1e-9)
    endless = sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n LIMIT 1"
    )
    database = table(store)
    for attempt in (database.read, database.transact):
        with pytest.raises(Unprocessable, match="database 'w' kept SQLite at work"):
            attempt(endless)
    assert database.read(COUNT) == 0
    assert database.hold(INSERT) is not None


def test_time_that_sqlite_was_not_at_work_counts_little() -> None:
    now = [0.0]
    deadline = Deadline(10 * SQL_LOOK_S_MAX, clock=lambda: now[0])
    connection = apsw.Connection(":memory:")
    deadline.watch(connection)
    query = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000) SELECT count(*) FROM n"
    )
    deadline.begin()
    assert connection.execute(query).get == 200_000
    assert not deadline.is_over
    looks: list[float] = []

    def clock() -> float:
        looks.append(now[0])
        now[0] += SQL_LOOK_S_MAX * 100
        return looks[-1]

    deadline = Deadline(10 * SQL_LOOK_S_MAX, clock=clock)
    deadline.watch(connection)
    deadline.begin()
    with pytest.raises(apsw.InterruptError):
        connection.execute(query.replace("200000", "20000000")).fetchall()
    assert deadline.is_over
    assert len(looks) in (12, 13), "one at the beginning, and each long look counts as one bound"
    deadline.begin()
    assert not deadline.is_over
    steady = Deadline(10 * SQL_LOOK_S_MAX, clock=lambda: 5.0)
    steady.watch(connection)
    steady.begin()
    assert connection.execute(query).get == 200_000
    assert not steady.is_over
