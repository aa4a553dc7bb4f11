"""What the embedded engine and a salvage do where two of their rules meet: repeated commits after a rollback, what a job weighs, what
stays of a deleted namespace, and when a salvaged store is on the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from blake3 import blake3

from gateway import limits
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageRead, PageWrite
from gateway.store.database import Database
from gateway.store.embedded import EmbeddedOptions, Engine, schema, sweep, versions
from gateway.store.embedded.queue import Bell
from gateway.store.salvage import heads
from gateway.store.salvage.salvaging import salvage
from tests.store.test_embedded_durability import NS, commit
from tests.store.test_embedded_parts import SLOW_S, job, put_all

OTHER = Namespace("other")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "store", auto_create=True, options=EmbeddedOptions(background=False))
    engine.stat(NS)
    yield engine
    engine.close()


def _request(
    version: str, data: bytes, attempt: bytes, *, first: bool, owner: str | None = None
) -> CommitRequest:
    page = PageWrite(0, blake3(data).digest(), data)
    return CommitRequest(attempt, [NamespaceCommit(NS, version, [page])], first, owner)


def test_a_commit_repeated_after_a_rollback_to_between_two_commits_is_answered_with_its_own_version(
    engine: Engine,
) -> None:
    attempt = os.urandom(16)
    kept = engine.commit(_request(engine.stat(NS).version, b"kept", attempt, first=True)).version
    engine.stat(OTHER)
    between = commit(engine, 0, b"elsewhere", OTHER)
    taken_back = commit(engine, 0, b"taken back")
    engine.lock(NS, "me", between)
    engine.unlock(NS, "me", rollback=True)
    assert kept < engine.stat(NS).version == between < taken_back
    assert engine.read(NS, [PageRead(0, between)])[0].data == b"kept"
    assert engine.commit(_request(kept, b"kept", attempt, first=False)).version == kept


@pytest.mark.parametrize("count", [1, 3])
def test_a_job_weighs_what_it_writes_and_one_for_itself(engine: Engine, count: int) -> None:
    """So much goes in one transaction, which all of it waits for."""
    pages = [b"page %d" % n for n in range(count)]
    assert engine.prepare_write(NS, pages).weight == count + 1
    writes = [PageWrite(n, blake3(page).digest(), page) for n, page in enumerate(pages)]
    part = NamespaceCommit(NS, engine.stat(NS).version, writes)
    assert engine.prepare_commit(CommitRequest(os.urandom(16), [part], True)).weight == count + 1


def test_behind_a_lone_one_that_was_answered_nobody_is_waited_for_however_many_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(Bell, "wait", lambda self, seconds=-1.0: waited.append(seconds))
    queue = put_all(*(job() for _ in range(limits.STORE_GATHER_JOBS_MIN)))
    queue.done(1)
    assert len(queue.pop(SLOW_S)) == limits.STORE_GATHER_JOBS_MIN
    assert waited == []


def test_a_deleted_namespace_is_forgotten_when_nothing_of_it_is_left_and_not_before(engine: Engine) -> None:
    commit(engine, 0, b"page")
    with engine.pool.cursor() as cursor:
        ((rid,),) = cursor.execute("SELECT rid FROM ns WHERE key = ?", (NS.key,)).fetchall()
    engine.delete_namespace(NS.key)
    forget = sweep.forget_namespace(rid)
    assert engine.writer.step(forget) == 0
    engine.writer.step(
        sweep.drop_pages(rid, [row for rows in sweep.newer(engine.pool, rid, -1) for row in rows])
    )
    assert engine.writer.step(forget) == 0, "its contents are still there"
    assert engine.writer.step(sweep.collect(rid, 1 << 62)) == 1
    assert engine.writer.step(forget) == 1
    with engine.pool.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM ns").fetchall() == [(0,)]


def test_a_salvaged_store_is_on_the_disk_before_it_has_its_name_and_so_is_the_name_before_it_is_told(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut leaves the name, and nothing behind it: whoever salvages will throw the damaged one away then."""
    commit(engine, 0, b"page")
    engine.close()
    steps: list[str] = []
    sync, rename, mine = os.fsync, os.replace, threading.get_ident()

    def synced(descriptor: int) -> None:
        if threading.get_ident() == mine:
            steps.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        sync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        steps.append(f"rename {Path(source).name}")
        rename(source, target)

    def opened(target: str) -> Engine:
        steps.append("opened")
        return open_salvaged(target)

    open_salvaged = heads.opened
    monkeypatch.setattr(heads, "opened", opened)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    assert salvage(tmp_path / "store", tmp_path / "out").is_whole
    part = f"{schema.FILE_NAME}.part"
    assert steps[: steps.index("opened")] == [f"sync {part}", f"rename {part}", "sync out"]


def test_a_page_that_no_commit_of_a_readable_log_knows_is_not_got_out(engine: Engine, tmp_path: Path) -> None:
    """From its first entry on the log has every commit: such a row was never written, or is another one's remains."""
    first, second, third = (commit(engine, 0, data) for data in (b"one", b"two", b"three"))
    engine.close()
    with closing(apsw.Connection(str(tmp_path / "store" / schema.FILE_NAME))) as con:
        con.execute("DELETE FROM log WHERE version = ?", (versions.parse(second),))
    salvage(tmp_path / "store", tmp_path / "out")
    out = Engine(tmp_path / "out", options=EmbeddedOptions(background=False))
    try:
        found = out.read(NS, [PageRead(0, version) for version in (first, second, third)])
        assert [content.data for content in found] == [b"one", b"one", b"three"]
    finally:
        out.close()


def test_a_salvage_says_of_each_database_that_it_is_whole(engine: Engine, tmp_path: Path) -> None:
    engine.stat(OTHER)
    commit(engine, 0, b"no database", OTHER)
    database = Database.open(engine, NS, create=True)
    database.transact(lambda c: c.execute("CREATE TABLE t(x)"))
    database.close()
    engine.close()
    report = salvage(tmp_path / "store", tmp_path / "out")
    assert {each.name: each.database for each in report.namespaces} == {NS.key: "whole", OTHER.key: "none"}
