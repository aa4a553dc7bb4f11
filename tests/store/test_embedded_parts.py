"""The parts of the embedded engine by themselves: the queue, numbers, attempts, contents, reads and rows, at their bounds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from blake3 import blake3

from gateway import limits
from gateway.errors import (
    BadInput,
    ConfigError,
    Gone,
    Overloaded,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
    TooLarge,
)
from gateway.store.base import PageRead, TimePoint
from gateway.store.embedded import attempts as attempts_module
from gateway.store.embedded import queue as queue_module
from gateway.store.embedded import reading, schema, versions
from gateway.store.embedded.attempts import Attempts
from gateway.store.embedded.content import RAW, ZSTD, PackedContent, pack, pack_each, unpack
from gateway.store.embedded.failures import is_disk, translate
from gateway.store.embedded.jobs import AnyJob, Job, tell
from gateway.store.embedded.namespaces import Registry
from gateway.store.embedded.numbers import BLOCK, NUMBER_MAX, Numbers
from gateway.store.embedded.pool import ConnectionPool
from gateway.store.embedded.queue import Bell, Queue
from gateway.store.embedded.sql import Insert, Select, ask
from gateway.store.embedded.timekeeper import TimeKeeper
from gateway.store.embedded.transaction import WriteTxn
from gateway.store.embedded.writer import Writer
from tests.patience import HANG_S


@pytest.fixture
def con(tmp_path: Path) -> Iterator[apsw.Connection]:
    """The writer's connection to an empty store."""
    path = tmp_path / schema.FILE_NAME
    with closing(schema.open_writer(path)) as con:
        schema.create_or_verify(con, path)
        yield con


def job(weight: int = 1, size: int = 0, *, alone: bool = False) -> AnyJob:
    return Job(lambda txn: None, weight=weight, size=size, alone=alone)


def put_all(*jobs: AnyJob) -> Queue:
    queue = Queue()
    for each in jobs:
        queue.put(each)
    return queue


# --- the queue ---------------------------------------------------------------------------------------


def test_as_many_jobs_and_bytes_wait_as_the_bounds_say_and_what_was_taken_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue_module, "STORE_QUEUE_JOBS_MAX", 3)
    queue = put_all(job(), job(), job())
    with pytest.raises(Overloaded, match="3 commits with 0 bytes wait for the disk; the bounds are 3"):
        queue.put(job())
    assert len(queue) == 3
    assert len(queue.pop(0)) == 3
    queue.put(job(size=limits.STORE_QUEUE_BYTES_MAX))
    with pytest.raises(Overloaded):
        queue.put(job(size=1))
    queue.pop(0)
    queue.put(job(size=limits.STORE_QUEUE_BYTES_MAX - 1))
    queue.put(job(size=1))
    with pytest.raises(Overloaded):
        queue.put(job(size=1))


def test_a_closed_queue_takes_no_more_and_gives_what_it_has() -> None:
    queue = put_all(job())
    queue.close()
    with pytest.raises(StoreUnavailable, match="is closed"):
        queue.put(job())
    assert len(queue.pop(0)) == 1


@pytest.mark.parametrize(
    ("jobs", "taken"),
    [
        ([job(), job(), job()], [3]),
        ([job(alone=True), job()], [1, 1]),
        ([job(), job(alone=True), job()], [1, 1, 1]),
        ([job(limits.STORE_BATCH_PAGES_MAX - 1), job(1), job(1)], [2, 1]),
        ([job(limits.STORE_BATCH_PAGES_MAX), job(1)], [1, 1]),
        ([job(limits.STORE_BATCH_PAGES_MAX + 9), job(1)], [1, 1]),
        ([job(1), job(limits.STORE_BATCH_PAGES_MAX - 1), job(1)], [2, 1]),
        ([job(1), job(1), job(limits.STORE_BATCH_PAGES_MAX - 1)], [2, 1]),
        ([job() for _ in range(limits.STORE_BATCH_JOBS_MAX + 1)], [limits.STORE_BATCH_JOBS_MAX, 1]),
    ],
)
def test_as_much_goes_together_as_fits_and_in_its_order(jobs: list[AnyJob], taken: list[int]) -> None:
    queue = put_all(*jobs)
    found: list[list[AnyJob]] = []
    while queue:
        found.append(queue.pop(0))
    assert [len(batch) for batch in found] == taken
    assert [one for batch in found for one in batch] == jobs


SLOW_S = 1.0
"""A sync that takes long: waiting for others is worth it."""


@pytest.mark.parametrize(
    ("answered", "sync_s", "waits"),
    [
        (limits.STORE_GATHER_JOBS_MIN, SLOW_S, True),
        (limits.STORE_GATHER_JOBS_MIN - 1, SLOW_S, False),
        (limits.STORE_GATHER_JOBS_MIN, limits.STORE_GATHER_JOBS_MIN * limits.STORE_GATHER_JOB_S, False),
        (limits.STORE_GATHER_JOBS_MIN, limits.STORE_GATHER_JOBS_MIN * limits.STORE_GATHER_JOB_S * 1.01, True),
        (1, SLOW_S, False),
    ],
)
def test_those_who_were_just_answered_are_waited_for_where_a_sync_takes_long(
    monkeypatch: pytest.MonkeyPatch, answered: int, sync_s: float, waits: bool
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(Bell, "wait", lambda self, seconds=-1.0: waited.append(seconds))
    queue = put_all(job())
    queue.done(answered - 1)  # the one that waits is back already
    assert len(queue.pop(sync_s)) == 1
    longest_s = min(sync_s * limits.STORE_GATHER_SHARE, limits.STORE_GATHER_S_MAX)
    assert waited == ([longest_s] if waits else [])
    queue.put(job())
    queue.done(1)
    queue.pop(sync_s)
    assert len(waited) == waits, "a lone one is not waited for"


def test_once_all_are_back_nobody_waits_any_longer() -> None:
    queue = put_all(*(job() for _ in range(5)))
    queue.done(5)  # ten are expected
    ended = threading.Event()

    def take() -> None:
        assert len(queue.pop(1_000.0)) >= 5
        ended.set()

    thread = threading.Thread(target=take)
    thread.start()
    for _ in range(5):
        queue.put(job())
    thread.join()
    assert ended.is_set()
    again = put_all(*(job() for _ in range(4)))
    again.done(4)
    again.close()
    assert len(again.pop(1_000.0)) == 4


def test_a_bell_rung_twice_wakes_once_and_a_hushed_one_not_at_all() -> None:
    bell = Bell()
    assert not bell.wait(0)
    bell.ring()
    bell.ring()
    assert bell.wait(0)
    assert not bell.wait(0)
    bell.ring()
    bell.hush()
    bell.hush()
    assert not bell.wait(0)


# --- jobs --------------------------------------------------------------------------------------------


def test_a_job_tells_its_result_or_its_error_to_a_thread() -> None:
    done: Job[int] = Job(lambda txn: 1)
    done.result = 7
    done.end()
    assert (done.wait(), done.outcome(), done.wait()) == (7, 7, 7)
    failed: Job[int] = Job(lambda txn: 1)
    failed.error = BadInput("no")
    failed.end()
    with pytest.raises(BadInput):
        failed.wait()
    assert failed.outcome() is failed.error
    broken: Job[int] = Job(lambda txn: 1)
    broken.error = ValueError("no")
    broken.end()
    with pytest.raises(ValueError, match="no"):
        broken.outcome()


async def test_event_loops_are_told_and_what_nobody_waits_for_is_passed_over() -> None:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(3)]
    jobs: list[AnyJob] = [Job(lambda txn: 1, waiter=(loop, future)) for future in futures]
    jobs[0].result, jobs[1].error = 5, BadInput("no")
    futures[2].cancel()
    closed = asyncio.new_event_loop()
    gone: AnyJob = Job(lambda txn: 1, waiter=(closed, closed.create_future()))
    closed.close()
    tell([gone, job(), *jobs])
    assert await futures[0] == 5
    with pytest.raises(BadInput):
        await futures[1]


# --- numbers -----------------------------------------------------------------------------------------


def test_numbers_begin_with_the_clock_and_go_on_above_what_was_reserved(con: apsw.Connection) -> None:
    cursor = con.cursor()
    numbers = Numbers(cursor, lambda: 5.0)
    assert numbers.last == 4_999
    assert [numbers.next(cursor) for _ in range(3)] == [5_000, 5_001, 5_002]
    assert reserved(con) == 5_000 + BLOCK
    assert Numbers(cursor, lambda: 1.0).next(cursor) == 5_000 + BLOCK
    assert Numbers(cursor, lambda: 900.0).next(cursor) == 900_000


def reserved(con: apsw.Connection) -> int:
    return int(ask(con, "SELECT value FROM meta WHERE name = 'number'")[0][0])


def test_a_block_is_reserved_at_a_time(con: apsw.Connection) -> None:
    cursor = con.cursor()
    numbers = Numbers(cursor, lambda: 0.0)
    assert numbers.last == 0
    taken = [numbers.next(cursor) for _ in range(BLOCK)]
    assert taken == list(range(1, BLOCK + 1))
    assert reserved(con) == 1 + BLOCK
    assert numbers.next(cursor) == BLOCK + 1
    assert reserved(con) == 1 + 2 * BLOCK


@pytest.mark.parametrize("over", [0, 1])
def test_where_no_block_is_left_it_is_refused(con: apsw.Connection, over: int) -> None:
    cursor = con.cursor()
    cursor.execute("INSERT INTO meta VALUES('number', ?)", (NUMBER_MAX - BLOCK + over,))
    numbers = Numbers(cursor, lambda: 0.0)
    if over:
        with pytest.raises(StoreError, match="used up at"):
            numbers.next(cursor)
    else:
        assert numbers.next(cursor) == NUMBER_MAX - BLOCK


# --- attempts ----------------------------------------------------------------------------------------


def txn(con: apsw.Connection, now: int = 100) -> WriteTxn:
    return WriteTxn(con.cursor(), 1, 1, now)


def test_an_attempt_is_found_by_its_key_and_namespace_also_after_a_restart(con: apsw.Connection) -> None:
    attempts = Attempts(con.cursor())
    assert attempts.find(txn(con), b"a" * 16, 1) is None
    work = txn(con)
    attempts.record(work, b"a" * 16, 1, 11)
    attempts.record(work, b"a" * 16, 2, 12)
    attempts.record(work, b"", 1, 13)
    for known in (attempts, Attempts(con.cursor())):
        assert [known.find(work, b"a" * 16, rid) for rid in (1, 2, 3)] == [11, 12, None]
        assert known.find(work, b"", 1) is None
    assert ask(con, "SELECT count(*) FROM attempt") == [(2,)]


def test_a_bucket_is_begun_when_one_is_full_or_old(
    con: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts_module, "STORE_ATTEMPT_BUCKET_KEYS_MAX", 3)
    attempts = Attempts(con.cursor())

    def record(number: int, now: int) -> None:
        work = txn(con, now)
        attempts.record(work, number.to_bytes(16, "big"), 1, number)
        work.flush()

    def buckets() -> list[tuple[int, int, int]]:
        query = "SELECT id, began, (SELECT count(*) FROM attempt WHERE bucket = id) FROM bucket ORDER BY id"
        return ask(con, query)

    for number in range(4):
        record(number, 100)
    assert buckets() == [(1, 100, 3), (2, 100, 1)]
    attempts = Attempts(con.cursor())
    record(4, 100 + limits.STORE_ATTEMPT_BUCKET_S - 1)
    assert buckets()[1:] == [(2, 100, 2)]
    record(5, 100 + limits.STORE_ATTEMPT_BUCKET_S)
    assert buckets()[2:] == [(3, 3_700, 1)]
    record(6, 3_700)
    record(7, 3_700)
    attempts = Attempts(con.cursor())
    record(8, 3_700)
    assert [count for *_, count in buckets()] == [3, 2, 3, 1]
    assert [attempts.find(txn(con), n.to_bytes(16, "big"), 1) for n in range(9)] == list(range(9))


def test_buckets_go_a_day_after_their_hour_or_when_there_are_too_many_but_never_the_newest(
    con: apsw.Connection,
) -> None:
    whole_s = limits.STORE_ATTEMPT_BUCKET_S + limits.STORE_ATTEMPT_KEPT_S
    con.executemany("INSERT INTO bucket VALUES(?, ?)", [(1, 100), (2, 200), (3, 300)])
    attempts = Attempts(con.cursor())
    for now, gone in (
        (100 + whole_s, []),
        (101 + whole_s, [1]),
        (201 + whole_s, [1, 2]),
        (999 + whole_s, [1, 2]),
    ):
        assert attempts.expired(now) == gone
    con.executemany(
        "INSERT INTO bucket VALUES(?, 300)", [(n,) for n in range(4, limits.STORE_ATTEMPT_BUCKETS_MAX + 3)]
    )
    attempts = Attempts(con.cursor())
    assert attempts.expired(0) == [1, 2]
    con.executemany("INSERT INTO attempt VALUES(1, ?, 5)", [(n.to_bytes(24, "big"),) for n in range(5)])
    assert [attempts.drop(txn(con), 1, 3) for _ in range(3)] == [3, 2, 0]
    assert attempts.expired(0) == [2]
    assert ask(con, "SELECT min(id) FROM bucket") == [(2,)]


# --- rows of SQL -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 16, 63, 64, 65, 150])
def test_any_number_of_rows_is_inserted_and_looked_up_in_their_order(
    con: apsw.Connection, count: int
) -> None:
    con.execute("CREATE TABLE t(a, b)")
    rows = [(n, str(n)) for n in range(count)]
    assert Insert("INTO t(a, b)", 2).run(con.cursor(), rows) == []
    assert con.execute("SELECT a, b FROM t ORDER BY a").fetchall() == rows
    look = Select("t.b, v.column1", "CROSS JOIN t ON t.a = v.column1 + v.column2", 2)
    assert look.run(con.cursor(), [(n, 1) for n in range(count)]) == [
        (str(n + 1), n) for n in range(count - 1)
    ]


# --- contents ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, limits.STORE_PAGE_BYTES_MAX])
def test_content_comes_back_as_it_was_however_it_is_kept(size: int) -> None:
    for data in (bytes(size), blake3(b"x").digest(length=size) if size else b""):
        for packed in (
            pack(data),
            pack(data, blake3(data).digest()),
            *pack_each([(blake3(data).digest(), data)]).values(),
        ):
            assert packed.hash == blake3(data).digest()
            assert unpack(*packed) == data
            assert packed.enc == (ZSTD if len(packed.data) < len(data) else RAW)


def test_content_is_compressed_only_where_that_saves_an_eighth() -> None:
    noise = blake3(b"noise").digest(length=8_000)
    kept = {
        enc: [share for share in range(0, 8_001, 50) if pack(noise[:share] + bytes(8_000 - share)).enc == enc]
        for enc in (RAW, ZSTD)
    }
    assert max(kept[ZSTD]) < min(kept[RAW])
    assert 6_800 <= max(kept[ZSTD]) <= 7_000
    assert len(pack(noise[: max(kept[ZSTD])] + bytes(8_000 - max(kept[ZSTD]))).data) <= 7_000


@pytest.mark.parametrize("count", [0, 1, 11, 12, 30])
def test_many_contents_are_packed_at_once_each_under_its_hash(count: int) -> None:
    pages = [bytes([n]) * 3_000 for n in range(count)]
    found = pack_each((blake3(data).digest(), data) for data in pages)
    assert list(found) == [blake3(data).digest() for data in pages]
    assert [unpack(*one) for one in found.values()] == pages


def test_content_that_is_too_large_or_not_what_its_hash_says_is_refused() -> None:
    with pytest.raises(TooLarge, match="page of 32769 bytes; the bound is 32768"):
        pack(bytes(limits.STORE_PAGE_BYTES_MAX + 1))
    with pytest.raises(BadInput, match="is not that of its data"):
        pack(b"a", blake3(b"b").digest())
    for enc in (RAW, ZSTD):
        with pytest.raises(StoreDamaged, match=blake3(b"b").hexdigest()):
            unpack(blake3(b"b").digest(), enc, b"a")


# --- versions and reads ------------------------------------------------------------------------------


def test_versions_are_twenty_digits_and_capped_at_the_top() -> None:
    assert [versions.parse(versions.text(n)) for n in (0, 1, versions.TOP - 1, versions.TOP)] == [
        0,
        1,
        versions.TOP - 1,
        versions.TOP,
    ]
    assert versions.parse("f" * 20) == versions.parse(f"{versions.TOP + 1:020x}") == versions.TOP
    for bad in ("", "0" * 19, "0" * 21, "g" * 20, "0" * 20 + "\n", " " * 20):
        with pytest.raises(BadInput, match="is not 20 hex digits"):
            versions.parse(bad)


def log(con: apsw.Connection, *entries: tuple[int, tuple[int, ...] | None]) -> None:
    con.executemany(
        "INSERT INTO log VALUES(1, ?, x'', ?)",
        [(version, None if pages is None else reading.pack_pages(pages)) for version, pages in entries],
    )


def test_an_interval_is_of_the_pages_changed_between_two_commits(con: apsw.Connection) -> None:
    log(con, (10, (1, 2)), (20, (3,)), (30, (2, 0xFFFF_FFFF)), (40, None), (50, ()))

    def between(after: int, to: int, *, inclusive: bool = True) -> tuple[int, ...] | None:
        return reading.interval(con.cursor(), 1, after, to, inclusive=inclusive)

    assert between(10, 30) == (2, 3, 0xFFFF_FFFF)
    assert between(10, 30, inclusive=False) == (3,)
    assert between(10, 20, inclusive=False) == ()
    assert between(30, 30) == () == between(99, 99)
    assert [between(30, 20), between(11, 30), between(10, 31), between(9, 10), between(60, 70)] == [None] * 5
    assert between(20, 40) is None
    assert between(30, 40, inclusive=False) == ()
    assert between(30, 50, inclusive=False) is None
    assert between(40, 50) == ()


@pytest.mark.parametrize("over", [0, 1])
def test_an_interval_tells_of_so_many_commits_and_pages(con: apsw.Connection, over: int) -> None:
    most = limits.STORE_INTERVAL_COMMITS_MAX
    log(con, *((n, (n,)) for n in range(most + 1 + over)))
    found = reading.interval(con.cursor(), 1, 0, most + over, inclusive=True)
    assert (found is None) == bool(over)
    con.execute("DELETE FROM log")
    pages = tuple(range(limits.STORE_INTERVAL_PAGES_MAX + over))
    log(con, (1, ()), (2, pages))
    found = reading.interval(con.cursor(), 1, 1, 2, inclusive=True)
    assert found == (None if over else pages)


def test_times_are_found_before_and_not_before_a_second(con: apsw.Connection) -> None:
    con.executemany("INSERT INTO moment VALUES(?, ?)", [(10, 1), (20, 2)])

    def around(t: int) -> tuple[int | None, int | None]:
        found = reading.bounds_with(con.cursor(), t)
        for point in (found.after, found.not_after):
            assert point is None or point == TimePoint(versions.text(point.time // 10), point.time)
        return found.after and found.after.time, found.not_after and found.not_after.time

    assert [around(t) for t in (9, 10, 11, 20, 21)] == [
        (None, 10),
        (None, 10),
        (10, 20),
        (10, 20),
        (20, None),
    ]


# --- the whole writer, by itself ---------------------------------------------------------------------


@pytest.fixture
def writer(tmp_path: Path, con: apsw.Connection) -> Iterator[Writer]:
    path = tmp_path / schema.FILE_NAME
    pool = ConnectionPool(path)
    writer = Writer(path, Registry(pool), lambda: 100.0)
    yield writer
    writer.close()
    pool.close()


def test_jobs_are_counted_with_their_batches_steps_and_failures(writer: Writer) -> None:
    def fails(work: WriteTxn) -> None:
        raise apsw.SQLError("no")

    assert writer.run(Job(lambda work: work.now)) == 100
    jobs = [Job(lambda work: work.next_version()) for _ in range(3)]
    writer.run_each(jobs)
    found = [each.wait() for each in jobs]
    assert found == [found[0] + n for n in range(3)]
    assert [each.follows for each in jobs] == [False, True, True]
    assert writer.step(lambda work: 5) == 5
    assert writer.counters == {"jobs": 4, "batches": 2, "steps": 1, "failures": 0}
    with pytest.raises(StoreError):
        writer.run(Job(fails))
    assert writer.counters == {"jobs": 5, "batches": 3, "steps": 1, "failures": 1}
    assert writer.waiting == 0
    assert writer.run(Job(lambda work: work.number)) == writer.numbers.last


def test_one_job_that_breaks_its_transaction_leaves_the_others_of_its_batch(writer: Writer) -> None:
    def breaks(work: WriteTxn) -> None:
        work.cursor.execute("INSERT INTO moment VALUES(1, 1)")
        raise apsw.SQLError("no")

    def refuses(work: WriteTxn) -> None:
        raise Gone("not there")

    jobs: list[AnyJob] = [
        Job(lambda work: work.cursor.execute("INSERT INTO moment VALUES(2, 2)") and None),
        Job(breaks),
        Job(refuses),
        Job(lambda work: ask(work.cursor, "SELECT time FROM moment")),
    ]
    writer.run_each(jobs)
    assert [type(each.outcome()) for each in jobs] == [type(None), StoreError, Gone, list]
    assert jobs[3].wait() == [(2,)]


@pytest.mark.parametrize(
    "broken", [False, True], ids=["in the transaction of all", "where each is done alone"]
)
async def test_an_interruption_of_who_writes_for_all_is_told_to_the_others(
    tmp_path: Path, con: apsw.Connection, broken: bool
) -> None:
    """Ctrl-C ends the call that it comes to; what was to be written with it must not wait for ever."""

    def interrupts(work: WriteTxn) -> None:
        raise KeyboardInterrupt

    def breaks(work: WriteTxn) -> None:
        raise apsw.SQLError("no")

    path = tmp_path / schema.FILE_NAME
    pool = ConnectionPool(path)
    writer = Writer(path, Registry(pool), lambda: 100.0)
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[None] = loop.create_future()
    jobs: list[AnyJob] = [Job(interrupts), job(), Job(lambda work: None, waiter=(loop, asked))]
    if broken:
        jobs.insert(0, Job(breaks))
        jobs.insert(0, job())
    with pytest.raises(KeyboardInterrupt):
        writer.run_each(jobs)
    assert [each.done for each in jobs] == [True] * len(jobs)
    with pytest.raises(StoreUnavailable, match="interrupted"):
        await asyncio.wait_for(asked, HANG_S)
    assert isinstance(jobs[-2].outcome(), StoreUnavailable)
    assert writer.run(Job(lambda work: 5)) == 5
    writer.close()
    pool.close()


def test_after_it_was_closed_nothing_is_done(writer: Writer) -> None:
    writer.close()
    writer.close()
    refused: AnyJob = job()
    writer.run_each([refused])
    assert isinstance(refused.outcome(), StoreUnavailable)
    for attempt in (writer.run, writer.submit):
        with pytest.raises(StoreUnavailable):
            attempt(job())
    with pytest.raises(StoreUnavailable, match="is closed"):
        writer.step(lambda work: None)


def test_time_points_are_kept_and_one_is_moved_along_while_nothing_is_committed(
    writer: Writer, con: apsw.Connection
) -> None:
    def times() -> list[int]:
        return [time for (time,) in ask(con, "SELECT time FROM moment ORDER BY time")]

    keeper = TimeKeeper(writer)
    for now in (5, 10, 15, 20):
        keeper.keep(now)
    assert times() == [5, 20]
    writer.run(job())
    keeper.keep(25)
    assert times() == [5, 20, 25]
    for now in (25, 24, 3):
        keeper.keep(now)
    assert times() == [5, 20, 25]
    keeper.keep(30)
    keeper.keep(35)
    assert times() == [5, 20, 35]
    writer.run(job())
    for now, kept in ((40, [40]), (45, [40, 45]), (50, [40, 50]), (55, [40, 55])):
        keeper.keep(now)
        assert times()[3:] == kept


# --- the file ----------------------------------------------------------------------------------------


def test_how_the_file_is_opened_to_write_and_to_read(con: apsw.Connection, tmp_path: Path) -> None:
    def told(connection: apsw.Connection, *names: str) -> list[Any]:
        return [ask(connection, f"PRAGMA {name}")[0][0] for name in names]

    names = (
        "page_size",
        "journal_mode",
        "synchronous",
        "wal_autocheckpoint",
        "journal_size_limit",
        "cache_size",
        "busy_timeout",
    )
    assert told(con, *names) == [
        4096,
        "wal",
        2,
        0,
        limits.STORE_WAL_KEEP_BYTES,
        -limits.STORE_WRITER_CACHE_KIB,
        limits.STORE_BUSY_TIMEOUT_MS,
    ]
    with closing(schema.open_reader(tmp_path / schema.FILE_NAME)) as reader:
        assert told(reader, "query_only", "cache_size", "busy_timeout") == [
            1,
            -limits.STORE_READER_CACHE_KIB,
            limits.STORE_BUSY_TIMEOUT_MS,
        ]
        with pytest.raises(apsw.ReadOnlyError):
            reader.execute("DELETE FROM log")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("PRAGMA application_id = 5", "not a store"),
        (f"PRAGMA user_version = {schema.FORMAT + 1}", "has store format 2"),
    ],
)
def test_a_file_of_another_kind_or_format_is_refused(
    con: apsw.Connection, tmp_path: Path, statement: str, words: str
) -> None:
    path = tmp_path / schema.FILE_NAME
    schema.create_or_verify(con, path)
    con.execute(statement)
    for look in (schema.verify, schema.create_or_verify):
        with pytest.raises(ConfigError, match=words):
            look(con, path)


def test_an_empty_file_that_bears_anothers_mark_is_not_taken(tmp_path: Path) -> None:
    with closing(apsw.Connection(str(tmp_path / "x"))) as con:
        con.execute("PRAGMA application_id = 5")
        with pytest.raises(ConfigError):
            schema.create_or_verify(con, tmp_path / "x")


def test_what_sqlite_says_is_told_in_the_houses_errors() -> None:
    kinds: list[tuple[Exception, type[Exception], bool]] = [
        (apsw.FullError("x"), StoreUnavailable, True),
        (apsw.IOError("x"), StoreUnavailable, True),
        (apsw.BusyError("x"), StoreUnavailable, True),
        (apsw.CorruptError("x"), StoreDamaged, False),
        (apsw.NotADBError("x"), StoreDamaged, False),
        (apsw.SQLError("x"), StoreError, False),
        (ValueError("x"), StoreError, False),
    ]
    for error, kind, of_disk in kinds:
        assert type(translate(error, "path")) is kind
        assert is_disk(error) == of_disk
    mine = Gone("x")
    assert translate(mine, "path") is mine
    assert "no space left" in str(translate(apsw.FullError("x"), "path"))


def test_a_read_below_the_truncation_mark_is_refused_and_one_by_hash_is_not(
    writer: Writer, con: apsw.Connection
) -> None:
    con.execute("INSERT INTO ns(rid, key, id, truncated) VALUES(1, 'w', 5, 100)")
    pool = ConnectionPool(Path(con.filename))
    state = Registry(pool).require("w")
    reads = [PageRead(0, versions.text(100)), PageRead(0, versions.text(99), bytes(32))]
    reading.check_mark(state, reads)
    reading.check_mark(None, [PageRead(0, versions.text(0))])
    with pytest.raises(Gone, match="read at the mark or later"):
        reading.check_mark(state, [*reads, PageRead(0, versions.text(99))])
    for bad in (
        PageRead(0, versions.text(1), bytes(31)),
        PageRead(-1, versions.text(1)),
        PageRead(1 << 32, versions.text(1)),
    ):
        with pytest.raises(BadInput):
            reading.read_pages(pool, state, [bad])
    assert reading.read_pages(pool, state, [PageRead((1 << 32) - 1, versions.text(200))])[0].data == b""
    pool.close()


def test_contents_of_a_transaction_are_stored_once_and_counted_over_all_that_name_them(
    con: apsw.Connection,
) -> None:
    def rows() -> list[tuple[int, int, int]]:
        return ask(con, "SELECT blob, refs, written FROM content ORDER BY blob")

    a, b = (PackedContent(blake3(data).digest(), RAW, data) for data in (b"a", b"b"))
    work = txn(con, 50)
    assert [
        work.put_content(1, a, 1),
        work.put_content(1, a, 2),
        work.put_content(1, b, 0),
        work.put_content(2, a, 1),
    ] == [1, 1, 2, 3]
    work.refer(1, b.hash, 4)
    work.flush()
    work.flush()
    assert rows() == [(1, 3, 0), (2, 4, 50), (3, 1, 0)]
    later = WriteTxn(con.cursor(), 2, work.next_blob, 60)
    assert later.find_content(1, blake3(b"c").digest()) is None
    assert (later.put_content(1, a, 1), later.put_content(1, b, 0)) == (1, 2)
    later.refer(1, a.hash, 1)
    later.flush()
    assert rows() == [(1, 5, 0), (2, 4, 60), (3, 1, 0)]
    last = WriteTxn(con.cursor(), 3, later.next_blob, 70)
    last.look_up([(1, a.hash), (1, b.hash), (2, b.hash)])
    assert [last.find_content(*key) for key in ((1, a.hash), (1, b.hash), (2, b.hash))] == [1, 2, None]
    assert last.find_lent([2, 1], b.hash) == 2
    assert last.find_lent([2], b.hash) is None
    assert last.copy_content(2, b.hash, 2, 1) == 4
    last.settle(1, [b.hash])
    last.flush()
    assert rows() == [(1, 5, 0), (2, 4, 0), (3, 1, 0), (4, 1, 0)]
    with pytest.raises(StoreDamaged, match="is missing on disk"):
        last.copy_content(2, blake3(b"c").digest(), 99, 1)
