"""What the embedded engine does behind its callers' backs: time, collection, removal, bounds."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from gateway import limits
from gateway.errors import BadInput, Gone
from gateway.store.base import (
    CommitRequest,
    Namespace,
    NamespaceCommit,
    OverlayBase,
    PageRead,
    PageWrite,
    TimePoint,
)
from gateway.store.embedded import (
    EmbeddedOptions,
    EmbeddedStore,
    Engine,
    admin,
    attempts,
    check,
    namespaces,
    stats,
    sweep,
    writer,
)
from gateway.store.embedded.namespaces import NsState
from tests.held import count
from tests.patience import HANG_S
from tests.store.test_embedded_durability import NS, commit, read, wait_until


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def engine(tmp_path: Path, clock: Clock) -> Iterator[Engine]:
    engine = Engine(tmp_path, auto_create=True, clock=clock, options=EmbeddedOptions(background=False))
    engine.stat(NS)
    yield engine
    engine.close()


def commit_many(engine: Engine, pages: dict[int, bytes]) -> str:
    writes = [PageWrite(page, blake3(data).digest(), data) for page, data in pages.items()]
    part = NamespaceCommit(NS, engine.stat(NS).version, writes, frozenset())
    return engine.commit(CommitRequest(os.urandom(16), [part], True)).version


def has(engine: Engine, content: bytes) -> bool:
    return engine.read(NS, [PageRead(0, "0" * 20, blake3(content).digest())])[0].data == content


def rows(engine: Engine, table: str) -> int:
    with engine.pool.cursor() as cursor:
        return int(cursor.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def test_content_written_and_never_committed_goes_after_an_hour(engine: Engine, clock: Clock) -> None:
    engine.write(NS, [b"ahead", b"renewed"])
    clock.now += 3_000
    engine.write(NS, [b"renewed"])
    engine.sweep()
    assert has(engine, b"ahead")
    clock.now += 601
    engine.sweep()
    assert not has(engine, b"ahead")
    assert has(engine, b"renewed")
    part = NamespaceCommit(NS, engine.stat(NS).version, [PageWrite(0, blake3(b"ahead").digest())])
    with pytest.raises(Gone):
        engine.commit(CommitRequest(os.urandom(16), [part]))


def test_content_of_truncated_versions_goes_at_once(engine: Engine) -> None:
    for n in range(20):
        last = commit(engine, 0, b"version %d" % n)
    assert list(engine.truncate_namespace(NS.key, last)) == ["19"]
    assert list(engine.delete_unreferenced_content(NS.key, apply=False)) == ["19"]
    assert list(engine.delete_unreferenced_content(NS.key)) == ["19"]
    assert (rows(engine, "page"), rows(engine, "content"), rows(engine, "blob")) == (1, 1, 1)
    assert read(engine, 0, last) == b"version 19"


def named(engine: Engine, content: bytes) -> CommitRequest:
    """A commit of page 0 that names content written ahead."""
    part = NamespaceCommit(NS, engine.stat(NS).version, [PageWrite(0, blake3(content).digest())], frozenset())
    return CommitRequest(os.urandom(16), [part], True)


def test_content_that_this_process_wrote_ahead_goes_with_the_last_version_that_names_it(
    engine: Engine,
) -> None:
    for n in range(3):
        content = b"ahead %d" % n
        engine.write(NS, [content])
        last = engine.commit(named(engine, content)).version
    list(engine.truncate_namespace(NS.key, last))
    list(engine.delete_unreferenced_content(NS.key))
    assert [has(engine, b"ahead %d" % n) for n in range(3)] == [False, False, True]


async def test_content_that_another_client_wrote_ahead_may_be_named_again_within_the_hour(
    tmp_path: Path, clock: Clock
) -> None:
    store = EmbeddedStore.open(
        tmp_path, auto_create=True, clock=clock, options=EmbeddedOptions(background=False)
    )
    await store.stat(NS)
    await store.write(NS, [b"often"])
    await store.commit(named(store.engine, b"often"))
    last = commit(store.engine, 0, b"something else")
    list(store.engine.truncate_namespace(NS.key, last))
    list(store.engine.delete_unreferenced_content(NS.key))
    await store.commit(named(store.engine, b"often"))
    assert has(store.engine, b"often")
    await store.aclose()


def test_content_that_two_pages_share_stays_while_one_needs_it(engine: Engine) -> None:
    for page in range(3):
        commit(engine, page, b"shared")
    for page in range(2):
        last = commit(engine, page, b"own")
    list(engine.truncate_namespace(NS.key, last))
    list(engine.delete_unreferenced_content(NS.key))
    assert read(engine, 2, last) == b"shared"
    assert check(engine.folder).damaged == 0


def test_truncation_of_many_versions_never_holds_the_writer_for_all_of_them(engine: Engine) -> None:
    for n in range(100):
        last = commit_many(engine, {page: b"%d of %d" % (n, page) for page in range(12)})
    before = engine.writer.counters["steps"]
    counts = [int(line) for line in engine.truncate_namespace(NS.key, last)]
    assert counts == sorted(counts)
    assert counts[-1] == 99 * 12
    assert engine.writer.counters["steps"] - before >= 5
    assert check(engine.folder).damaged == 0


def test_deleted_namespace_leaves_no_rows_behind(engine: Engine) -> None:
    for n in range(8):
        commit_many(engine, {page: b"%d of %d" % (n, page) for page in range(100)})
    engine.write(NS, [b"loose"])
    engine.delete_namespace(NS.key)
    engine.sweep()
    assert [rows(engine, table) for table in ("ns", "page", "content", "blob", "log")] == [0, 0, 0, 0, 0]


def test_the_change_log_is_bounded(engine: Engine) -> None:
    versions = [commit(engine, 0, b"%d" % n) for n in range(300)]
    assert rows(engine, "log") <= 2 * 128
    assert engine.stat(NS, from_version=versions[-100]).interval == (0,)


def test_idempotency_records_go_after_a_day(engine: Engine, clock: Clock) -> None:
    page = PageWrite(0, blake3(b"x").digest(), b"x")
    request = CommitRequest(b"a" * 16, [NamespaceCommit(NS, "0" * 20, [page], frozenset())])
    version = engine.commit(request).version
    commit(engine, 1, b"another")
    clock.now += 80_000
    commit(engine, 1, b"next hour")
    engine.sweep()
    assert engine.commit(request).version == version
    clock.now += 10_100
    engine.sweep()
    assert rows(engine, "attempt") == 1
    assert engine.commit(request).version > version


def test_an_attempt_of_the_last_moment_of_its_hour_is_known_for_a_day_too(
    engine: Engine, clock: Clock
) -> None:
    commit(engine, 1, b"the first of this hour")
    clock.now += 3_599
    page = PageWrite(0, blake3(b"x").digest(), b"x")
    request = CommitRequest(b"a" * 16, [NamespaceCommit(NS, "0" * 20, [page], frozenset())])
    version = engine.commit(request).version
    commit(engine, 1, b"another")
    clock.now += 1
    commit(engine, 1, b"the next hour")
    clock.now += 86_399
    engine.sweep()
    assert engine.commit(request).version == version


def test_commit_without_a_key_keeps_no_record(engine: Engine) -> None:
    page = PageWrite(0, blake3(b"x").digest(), b"x")
    part = NamespaceCommit(NS, "0" * 20, [page], frozenset())
    first, second = (engine.commit(CommitRequest(b"", [part])).version for _ in range(2))
    assert first < second
    assert rows(engine, "attempt") == 0


def test_time_keeper_tells_which_version_was_newest_when(engine: Engine, clock: Clock) -> None:
    made = []
    for n in range(5):
        made.append(commit(engine, 0, b"%d" % n))
        engine.keep_time()
        clock.now += 5
    bounds = engine.time2version(1_000_012)
    assert bounds.after is not None
    assert bounds.not_after is not None
    assert (bounds.after.time, bounds.not_after.time) == (1_000_010, 1_000_015)
    assert read(engine, 0, bounds.after.version) == b"2"
    assert read(engine, 0, bounds.not_after.version) == b"3"
    assert engine.time2version(1_000_000).after is None
    assert engine.time2version(1_000_021).not_after is None


def test_idle_store_keeps_two_points_for_any_span(engine: Engine, clock: Clock) -> None:
    last = commit(engine, 0, b"last")
    for _ in range(100):
        engine.keep_time()
        clock.now += 5
    assert rows(engine, "moment") == 2
    bounds = engine.time2version(1_000_250)
    assert bounds.after is not None
    assert bounds.not_after is not None
    assert last < bounds.after.version < bounds.not_after.version
    assert bounds.not_after == TimePoint(bounds.not_after.version, 1_000_495)


def test_clock_set_back_contradicts_no_point(engine: Engine, clock: Clock) -> None:
    for now in (1_000_000.0, 1_000_005.0, 999_000.0, 1_000_003.0, 1_000_010.0):
        clock.now = now
        commit(engine, 0, b"%f" % now)
        engine.keep_time()
    with engine.pool.cursor() as cursor:
        points = cursor.execute("SELECT time, version FROM moment ORDER BY time").fetchall()
    assert [time for time, _ in points] == [1_000_000, 1_000_005, 1_000_010]
    assert [version for _, version in points] == sorted(version for _, version in points)


def test_the_background_keeps_time_and_begins_the_log_anew(tmp_path: Path) -> None:
    engine = Engine(tmp_path, auto_create=True)
    engine.stat(NS)
    wait_until(lambda: rows(engine, "moment") == 1)
    highest = 0
    for _ in range(200):
        commit_many(engine, {page: os.urandom(4_000) for page in range(30)})
        highest = max(highest, engine.writer.wal_pages)
    wait_until(lambda: commit(engine, 0, os.urandom(8)) and engine.writer.wal_pages < 2_000)
    assert highest < 8_000
    assert engine.writer.counters["failures"] == 0
    engine.close()


def test_overlays_stand_on_overlays(engine: Engine) -> None:
    at = commit(engine, 0, b"ground")
    below = NS
    for level in range(5):
        key = f"level-{level}"
        engine.create_namespace(key, OverlayBase(engine.namespace_info(below.key).ns_id, at))
        below = Namespace(key)
        assert read(engine, 0, engine.stat(below).version, below) == b"ground"
        at = commit(engine, level + 1, b"%d" % level, below)
    assert [read(engine, n, at, below) for n in range(7)] == [b"ground", b"0", b"1", b"2", b"3", b"4", b""]


def test_overlays_are_not_stacked_without_end(engine: Engine) -> None:
    below = NS.key
    for level in range(31):
        info = engine.namespace_info(below)
        below = f"level-{level}"
        engine.create_namespace(below, OverlayBase(info.ns_id, info.ns_id))
    info = engine.namespace_info(below)
    with pytest.raises(BadInput, match="bound is 32"):
        engine.create_namespace("one-more", OverlayBase(info.ns_id, info.ns_id))


def test_overlay_in_the_future_or_on_nothing_is_refused(engine: Engine) -> None:
    base = engine.namespace_info(NS.key).ns_id
    for refused in (OverlayBase(base, "7" + "f" * 19), OverlayBase("0" * 20, base), OverlayBase("x", base)):
        with pytest.raises(BadInput):
            engine.create_namespace("child", refused)


def test_rollback_begun_before_a_crash_is_finished_by_asking_again(tmp_path: Path) -> None:
    options = EmbeddedOptions(background=False)
    engine = Engine(tmp_path, auto_create=True, options=options)
    engine.stat(NS)
    kept = commit(engine, 0, b"kept")
    engine.lock(NS, "me")
    part = NamespaceCommit(NS, kept, [PageWrite(0, blake3(b"lost").digest(), b"lost")])
    engine.commit(CommitRequest(os.urandom(16), [part], True, "me"))
    # The first half of an unlock that a crash cuts in two; it has no way in of its own.
    engine._alone(lambda txn: admin.begin_rollback(txn, NS.key, "me"))
    engine.close()
    engine = Engine(tmp_path, options=options)
    with pytest.raises(Gone):
        engine.stat(NS, lock_owner="me")
    engine.unlock(NS, "me", rollback=True)
    assert engine.stat(NS).version == kept
    assert read(engine, 0, "7" + "f" * 19) == b"kept"
    engine.close()


def test_more_namespaces_than_are_cached_are_served(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "STORE_NAMESPACES_CACHED_MAX", 4)
    spaces = [Namespace(f"n{n}") for n in range(12)]
    for ns in spaces:
        commit(engine, 0, ns.key.encode(), ns)
    for ns in spaces:
        assert read(engine, 0, engine.stat(ns).version, ns) == ns.key.encode()
    assert 0 < count(engine.registry, engine, kind=NsState) <= 4


async def test_namespaces_are_made_on_use_by_all_but_commits(tmp_path: Path) -> None:
    store = EmbeddedStore.open(tmp_path, auto_create=True)
    await store.stat(Namespace("a"))
    await store.read(Namespace("b"), [PageRead(0, "0" * 20)])
    await store.write(Namespace("c"), [b"x"])
    await store.lock(Namespace("d"), "me")
    assert [info.key for info in await store.list_namespaces()] == ["a", "b", "c", "d"]
    await store.aclose()


def test_readers_go_on_while_the_writer_is_busy(engine: Engine) -> None:
    version = commit(engine, 0, b"there")
    go, inside = threading.Event(), threading.Event()
    blocker = threading.Thread(target=engine.writer.step, args=(lambda txn: (inside.set(), go.wait(HANG_S)),))
    blocker.start()
    inside.wait(HANG_S)
    assert read(engine, 0, version) == b"there"
    assert engine.stat(NS).version == version
    assert engine.list_namespaces()[0].key == NS.key
    go.set()
    blocker.join()


def test_sizes_are_told(engine: Engine) -> None:
    commit(engine, 0, bytes(8_192))
    assert stats(engine.folder)["content_bytes"] < 200


def test_removing_waits_while_the_log_is_copied_but_not_for_ever(engine: Engine) -> None:
    pauses: list[float] = []
    removed: list[int] = []

    def rest(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            engine.writer.copying = False

    steps = sweep.PacedSteps(engine.writer, rest)
    engine.writer.copying = True
    steps.run(lambda txn: removed.append(len(pauses)) or 1)
    engine.writer.copying = True
    steps.run(lambda txn: removed.append(len(pauses)) or 1)
    engine.writer.copying = False
    assert removed[0] == 5
    assert removed[1] - removed[0] > limits.STORE_COPY_PAUSES_MAX


def test_removing_has_a_full_log_copied_also_where_nobody_commits(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(40):
        last = commit(engine, 0, os.urandom(8_000))
    monkeypatch.setattr(writer, "STORE_WAL_PAGES", engine.writer.wal_pages + 1)
    engine.writer.wal_full.clear()
    list(engine.truncate_namespace(NS.key, last))
    list(engine.delete_unreferenced_content(NS.key))
    assert engine.writer.wal_full.is_set()


def test_a_log_that_has_begun_anew_is_left_to_the_background_again(engine: Engine) -> None:
    """Else the writer would copy the next one itself, while commits wait."""
    engine.writer.copy_rest = True
    commit(engine, 0, b"the first of a new log")
    assert not engine.writer.copy_rest


def test_what_is_loose_goes_in_whole_however_little_each_step_gets_done(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "STORE_STEP_S", 0.0)
    versions = [commit_many(engine, {page: os.urandom(100) for page in range(90)}) for _ in range(3)]
    list(engine.truncate_namespace(NS.key, versions[-1]))
    list(engine.delete_unreferenced_content(NS.key))
    assert rows(engine, "page") == rows(engine, "content") == rows(engine, "blob") == 90


def test_as_many_buckets_of_attempts_as_the_bound_are_kept_and_the_oldest_of_more_goes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "STORE_ATTEMPT_BUCKETS_MAX", 3)
    monkeypatch.setattr(attempts, "STORE_ATTEMPT_BUCKET_KEYS_MAX", 1)  # a bucket each
    made = []
    for n in range(3):
        page = PageWrite(0, blake3(b"%d" % n).digest(), b"%d" % n)
        request = CommitRequest(b"%d" % n * 16, [NamespaceCommit(NS, "0" * 20, [page], frozenset())])
        made.append((request, engine.commit(request).version))
    engine.sweep()
    assert [engine.commit(request).version for request, _ in made] == [version for _, version in made]
    commit(engine, 1, b"one more")
    engine.sweep()
    assert rows(engine, "bucket") == 3
