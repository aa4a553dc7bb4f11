"""The writer: one queue, one transaction at a time, one fsync for all that waited together. Room: store.

Whoever holds the *turn* writes. A thread that commits takes the turn itself if it is free, so a
lone writer pays for no thread switch; what comes while a transaction is on its way to the disk
waits, and goes together in the next. The writer's own thread serves event loops, and whatever a
committing thread leaves behind.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from gateway.errors import GatewayError, Overloaded, StoreUnavailable
from gateway.limits import (
    STORE_BATCH_JOBS_MAX,
    STORE_BATCH_PAGES_MAX,
    STORE_GATHER_JOBS_MIN,
    STORE_GATHER_S_MAX,
    STORE_GATHER_SHARE,
    STORE_QUEUE_BYTES_MAX,
    STORE_QUEUE_JOBS_MAX,
    STORE_WAL_PAGES,
    STORE_WAL_PAGES_MAX,
)
from gateway.store.embedded import failures, schema
from gateway.store.embedded.attempts import Attempts
from gateway.store.embedded.jobs import Job, tell
from gateway.store.embedded.namespaces import Registry
from gateway.store.embedded.numbers import Numbers
from gateway.store.embedded.sql import ask
from gateway.store.embedded.transaction import WriteTxn


class Writer:
    """Owns the connection that writes. ``counters`` are plain ints: commits, batches, steps, failures."""

    def __init__(self, path: Path, registry: Registry, clock: Callable[[], float]) -> None:
        self._path = path
        self._registry = registry
        self._clock = clock
        self._queue: deque[Job] = deque()
        self._queued_bytes = 0
        self._queue_lock = threading.Lock()
        self._turn = threading.Lock()
        self._bell = threading.Lock()
        self._bell.acquire()
        self._gathered = threading.Lock()
        self._gathered.acquire()
        self._gather_to = STORE_QUEUE_JOBS_MAX + 1
        self._closed = False
        self._gone = False
        self._cursor: apsw.Cursor | None = None
        self._expected = 0
        self._sync_s = 0.0
        self.wal_pages = 0
        self.wal_full = threading.Event()
        self.copy_rest = False
        self.numbers: Numbers
        self.attempts: Attempts
        self._next_blob = 1
        self.counters = {"jobs": 0, "batches": 0, "steps": 0, "failures": 0}
        self._open()
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._thread.start()

    def run(self, job: Job) -> Any:
        """In a thread: do the job, durably; its result, or raise its error."""
        self._admit(job)
        if self._turn.acquire(blocking=False):
            try:
                while self._queue and not job.done:
                    self._next_batch()
            finally:
                self._turn.release()
            if self._queue:
                _ring(self._bell)
        return job.wait()

    def submit(self, job: Job) -> None:
        """On an event loop: queue the job; its waiter is told. Raises :class:`Overloaded`."""
        self._admit(job)
        _ring(self._bell)

    def step(self, work: Callable[[WriteTxn], Any]) -> Any:
        """Background work, a few ms at most, between two batches. Not synced by itself: it is durable
        with the next commit, and doing it again after a crash must be harmless."""
        job = Job(work)
        with self._turn, failures.translated(self._path):
            self._begin_cursor().execute("PRAGMA synchronous=NORMAL")
            try:
                self._write([job])
            finally:
                if self._cursor is not None:
                    self._cursor.execute("PRAGMA synchronous=FULL")
            self.counters["steps"] += 1
        if self._queue:
            _ring(self._bell)
        return job.wait()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._queue)

    def close(self) -> None:
        """Do what is queued, copy the log into the file, and close. Idempotent."""
        self._closed = True
        _ring(self._bell)
        self._thread.join()
        with self._turn:
            with self._queue_lock:
                self._gone = True
            while self._queue:
                self._next_batch()
            if self._cursor is not None:
                with failures.translated(self._path):
                    self._cursor.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                self._cursor.connection.close(True)
                self._cursor = None

    # --- the queue -----------------------------------------------------------------------

    def _admit(self, job: Job) -> None:
        if self._closed:
            raise StoreUnavailable(f"the store {self._path} is closed")
        if len(self._queue) >= STORE_QUEUE_JOBS_MAX or self._queued_bytes + job.bytes > STORE_QUEUE_BYTES_MAX:
            raise Overloaded(
                f"{len(self._queue)} commits with {self._queued_bytes} bytes wait for the disk; the bounds are "
                f"{STORE_QUEUE_JOBS_MAX} and {STORE_QUEUE_BYTES_MAX}, try again"
            )
        with self._queue_lock:
            if self._gone:
                raise StoreUnavailable(f"the store {self._path} is closed")
            self._queued_bytes += job.bytes
            self._queue.append(job)
        if len(self._queue) >= self._gather_to:
            _ring(self._gathered)

    def _serve(self) -> None:
        while True:
            self._bell.acquire()
            while self._queue:
                with self._turn:
                    if self._queue:
                        self._next_batch()
            if self._closed:
                return

    def _next_batch(self) -> None:
        if self._expected >= STORE_GATHER_JOBS_MIN:
            self._gather()
        first = self._queue.popleft()
        jobs, weight = [first], first.weight
        while self._queue and not first.alone and len(jobs) < STORE_BATCH_JOBS_MAX:
            following = self._queue[0]
            if following.alone or weight + following.weight > STORE_BATCH_PAGES_MAX:
                break
            jobs.append(self._queue.popleft())
            weight += following.weight
        with self._queue_lock:
            self._queued_bytes -= sum(job.bytes for job in jobs)
        self._write(jobs)
        self._expected = len(jobs) + len(self._queue) if len(jobs) > 1 else 0
        self.counters["jobs"] += len(jobs)
        self.counters["batches"] += 1
        tell(jobs)
        self._mind_the_log()

    def _gather(self) -> None:
        """Where many clients commit in turns, those just answered will be back in a moment: one sync
        for all is sooner than one for each half. Waits at most a share of what a sync takes."""
        self._gathered.acquire(blocking=False)
        self._gather_to = self._expected
        if len(self._queue) < self._gather_to:
            self._gathered.acquire(timeout=min(self._sync_s * STORE_GATHER_SHARE, STORE_GATHER_S_MAX))
        self._gather_to = STORE_QUEUE_JOBS_MAX + 1

    # --- one transaction -----------------------------------------------------------------

    def _write(self, jobs: list[Job]) -> None:
        """Do the jobs in one transaction, and end them. Errors are the jobs'."""
        try:
            error = self._try(jobs)
        except BaseException:
            # Ctrl-C in the thread that writes for all: the others must hear of it.
            for job in jobs:
                job.error = StoreUnavailable("the commit was interrupted; try again")
                job.end()
            raise
        if error is not None and len(jobs) > 1 and not failures.is_disk(error):
            for job in jobs:
                self._write([job])
            return
        for job in jobs:
            if error is not None:
                job.result, job.error = None, failures.translate(error, self._path)
            job.end()

    def _try(self, jobs: list[Job]) -> BaseException | None:
        try:
            txn = self._begin()
            if len(jobs) > 1:
                txn.look_up([content for job in jobs for content in job.contents])
            for job in jobs:
                job.error = None
                try:
                    job.result = job.apply(txn)
                except GatewayError as error:
                    job.error = error
            self._commit(txn)
        except BaseException as error:
            self._abandon()
            if not isinstance(error, Exception):
                raise
            return error
        return None

    def _begin(self) -> WriteTxn:
        cursor = self._begin_cursor()
        cursor.execute("BEGIN IMMEDIATE")
        return WriteTxn(cursor, self.numbers.take(cursor), self._next_blob, int(self._clock()))

    def _commit(self, txn: WriteTxn) -> None:
        txn.flush()
        txn.trim_logs()
        began = time.perf_counter()
        txn.cursor.execute("COMMIT")
        self._sync_s += (time.perf_counter() - began - self._sync_s) / 8
        self._next_blob = txn.next_blob
        self.numbers.last = txn.number
        if txn.heads or txn.stale:
            self._registry.publish(txn.heads.values(), txn.stale)

    def _abandon(self) -> None:
        """Undo the transaction, and distrust what is in memory and the connection."""
        self.counters["failures"] += 1
        cursor, self._cursor = self._cursor, None
        self._registry.forget_all()
        if cursor is not None:
            cursor.connection.close(True)

    def _begin_cursor(self) -> apsw.Cursor:
        if self._cursor is None:
            if self._gone:
                raise StoreUnavailable(f"the store {self._path} is closed")
            self._open()
        assert self._cursor is not None
        return self._cursor

    def _open(self) -> None:
        connection = schema.open_writer(self._path)
        try:
            schema.create_or_verify(connection, self._path)
            cursor = connection.cursor()
            self.numbers = Numbers(cursor, self._clock)
            self.attempts = Attempts(cursor)
            self._next_blob = ask(cursor, "SELECT coalesce(max(id), 0) + 1 FROM blob")[0][0]
        except BaseException:
            connection.close(True)
            raise
        connection.set_wal_hook(self._on_wal)
        self._cursor = cursor

    def _on_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return 0

    def _mind_the_log(self) -> None:
        """Have the log copied into the file. The background copies nearly all of it; the rest is
        copied here, where nothing is added meanwhile, so that the next commit begins the log anew."""
        if self.wal_pages < STORE_WAL_PAGES:
            return
        if self.copy_rest or self.wal_pages >= STORE_WAL_PAGES_MAX:
            self.copy_rest = False
            self.wal_full.clear()
            try:
                self._begin_cursor().connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.BusyError:
                # The background is at it at this moment.
                return
            except apsw.Error:
                self._abandon()
        else:
            self.wal_full.set()


def _ring(bell: threading.Lock) -> None:
    """Wake who waits to acquire ``bell``, or who will; rung twice is rung once."""
    try:
        bell.release()
    except RuntimeError:
        return
