"""The writer: one queue, one transaction at a time, one fsync for all that waited together. Room: store.

Whoever holds the *turn* writes. A thread that commits takes the turn itself if it is free, so a
lone writer pays for no thread switch; what comes while a transaction is on its way to the disk
waits, and goes together in the next. The writer's own thread serves event loops, and whatever a
committing thread leaves behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import apsw

from gateway.errors import GatewayError, StoreUnavailable
from gateway.limits import STORE_WAL_PAGES, STORE_WAL_PAGES_MAX
from gateway.store.embedded import failures, schema
from gateway.store.embedded.attempts import Attempts
from gateway.store.embedded.jobs import AnyJob, Job, tell
from gateway.store.embedded.namespaces import Registry
from gateway.store.embedded.numbers import Numbers
from gateway.store.embedded.queue import Bell, Queue
from gateway.store.embedded.sql import ask
from gateway.store.embedded.transaction import WriteTxn

T = TypeVar("T")


class Writer:
    """Owns the connection that writes. ``counters`` are plain ints: commits, batches, steps, failures."""

    def __init__(self, path: Path, registry: Registry, clock: Callable[[], float]) -> None:
        self._path = path
        self._registry = registry
        self._clock = clock
        self._queue = Queue()
        self._turn = threading.Lock()
        self._bell = Bell()
        self._closed = False
        self._cursor: apsw.Cursor | None = None
        self._sync_s = 0.0
        self.wal_pages = 0
        self.wal_full = threading.Event()
        self.copying = False
        """True while the background copies the log into the file."""
        self.copy_rest = False
        self.numbers: Numbers
        self.attempts: Attempts
        self._next_blob = 1
        self.counters = {"jobs": 0, "batches": 0, "steps": 0, "failures": 0}
        self._open()
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._thread.start()

    def run(self, job: Job[T]) -> T:
        """In a thread: do the job, durably; its result, or raise its error."""
        self._queue.put(job)
        self._take_turn(job)
        return job.wait()

    def run_each(self, jobs: Sequence[AnyJob]) -> None:
        """In a thread: do the jobs of one caller, durably and with as few syncs as they fit in. Each
        ends by itself: ask it by ``wait()``, which also raises what kept it out of the queue."""
        last: AnyJob | None = None
        for job in jobs:
            job.follows = last is not None
            try:
                self._queue.put(job)
                last = job
            except GatewayError as error:
                job.error = error
                job.end()
        if last is not None:
            self._take_turn(last)

    def _take_turn(self, last: AnyJob) -> None:
        """Write until ``last`` is done, unless another thread is at it: then that one does it."""
        # Whoever commits writes, if nobody is at it: a lone writer pays for no thread to be woken.
        if self._turn.acquire(blocking=False):
            try:
                while self._queue and not last.done:
                    self._next_batch()
            finally:
                self._turn.release()
            # Looked at once more after letting go: a job that came between the last look and the release
            # found the turn taken, and nobody else would do it.
            if self._queue:
                self._bell.ring()

    def submit(self, job: AnyJob) -> None:
        """On an event loop: queue the job; its waiter is told. Raises :class:`Overloaded`."""
        self._queue.put(job)
        self._bell.ring()

    def step(self, work: Callable[[WriteTxn], T]) -> T:
        """Background work, a few ms at most, between two batches. Not synced by itself: it is durable
        with the next commit, and doing it again after a crash must be harmless."""
        job = Job(work)
        with self._turn, failures.translated(self._path):
            # For this transaction: no sync of the log, which the next commit brings
            # (sqlite.org/pragma.html#pragma_synchronous).
            self._begin_cursor().execute("PRAGMA synchronous=NORMAL")
            try:
                self._write([job])
            finally:
                if self._cursor is not None:
                    self._cursor.execute("PRAGMA synchronous=FULL")
            self.counters["steps"] += 1
            self._mind_the_log()
        if self._queue:
            self._bell.ring()
        return job.wait()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._queue)

    def close(self) -> None:
        """Do what is queued, copy the log into the file, and close. Idempotent."""
        self._queue.close()
        self._closed = True
        self._bell.ring()
        self._thread.join()
        with self._turn:
            while self._queue:
                self._next_batch()
            if self._cursor is not None:
                with failures.translated(self._path):
                    # All of the log into the file, and none of it left: a closed folder can be copied as
                    # one file.
                    self._cursor.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                self._cursor.connection.close(True)
                self._cursor = None

    def _serve(self) -> None:
        while True:
            self._bell.wait()
            while self._queue:
                with self._turn:
                    if self._queue:
                        self._next_batch()
            if self._closed:
                return

    def _next_batch(self) -> None:
        jobs = self._queue.pop(self._sync_s)
        try:
            self._write(jobs)
        finally:
            self._queue.done(sum([not job.follows for job in jobs]))
            self.counters["jobs"] += len(jobs)
            self.counters["batches"] += 1
            # Whatever happened: all of them have ended, and an event loop that waits hears of it only here.
            tell(jobs)
        self._mind_the_log()

    # --- one transaction -----------------------------------------------------------------

    def _write(self, jobs: list[AnyJob]) -> None:
        """Do the jobs in one transaction, and end them. Errors are the jobs'."""
        try:
            error = self._try(jobs)
            # One of them broke the transaction: each alone, so that the others are not refused with it. Where
            # the disk fails all would fail alike.
            if error is not None and len(jobs) > 1 and not failures.is_disk(error):
                for job in jobs:
                    self._write([job])
                return
        except BaseException:
            # Ctrl-C in the thread that writes for all: the others must hear of it, those too that were still to
            # be done alone.
            for job in jobs:
                if not job.done:
                    job.error = StoreUnavailable("the commit was interrupted; try again")
                    job.end()
            raise
        for job in jobs:
            if error is not None:
                job.result, job.error = None, failures.translate(error, self._path)
            job.end()

    def _try(self, jobs: list[AnyJob]) -> BaseException | None:
        try:
            txn = self._begin()
            # One query for all of them: each call of SQLite gives up the interpreter's lock and has to get
            # it back.
            if len(jobs) > 1:
                txn.look_up([content for job in jobs for content in job.contents])
            for job in jobs:
                # It may have one already: of the transaction that it shared with others and that broke.
                job.error = None
                try:
                    job.result = job.apply(txn)
                # A refusal leaves the transaction as it was (commit.apply), so the others' jobs stay good.
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
        return WriteTxn(cursor, self.numbers.next(cursor), self._next_blob, int(self._clock()))

    def _commit(self, txn: WriteTxn) -> None:
        txn.flush()
        txn.trim_logs()
        began = time.perf_counter()
        txn.cursor.execute("COMMIT")
        # A running mean of some eight commits: a disk's speed changes with what else it does.
        self._sync_s += (time.perf_counter() - began - self._sync_s) / 8
        # Only now: had the COMMIT failed, the numbers would be given again.
        self._next_blob = txn.next_blob
        self.numbers.last = txn.number
        if txn.heads or txn.stale:
            # After the COMMIT and before the turn is let go: nobody sees a head that is not on disk, nor
            # one older than its own answer.
            self._registry.publish(txn.heads.values(), txn.stale)

    def _abandon(self) -> None:
        """Undo the transaction, and distrust what is in memory and the connection."""
        self.counters["failures"] += 1
        cursor, self._cursor = self._cursor, None
        # The COMMIT may have reached the disk though it raised: only the disk says which.
        self._registry.forget_all()
        if cursor is not None:
            # A connection that failed may be in the middle of a transaction; a new one begins by reading
            # the log as after a crash.
            cursor.connection.close(True)

    def _begin_cursor(self) -> apsw.Cursor:
        if self._cursor is None:
            if self._closed and not self._thread.is_alive():
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
        # After the pragmas of open_writer(): SQLite's own checkpoints are such a hook, too, and setting
        # their pragma puts it in this one's place (https://sqlite.org/c3ref/wal_hook.html).
        connection.set_wal_hook(self._on_wal)
        self._cursor = cursor

    def _on_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return 0

    def _mind_the_log(self) -> None:
        """Have the log copied into the file. The background copies nearly all of it; the rest is
        copied here, where nothing is added meanwhile, so that the next commit begins the log anew."""
        if self.wal_pages < STORE_WAL_PAGES:
            self.copy_rest = False  # The background had copied all of it, and it has begun anew.
            return
        if self.copy_rest or self.wal_pages >= STORE_WAL_PAGES_MAX:
            self.copy_rest = False
            self.wal_full.clear()
            try:
                # PASSIVE waits for no reader; what a reader still needs stays in the log, and the next look
                # tries again (https://sqlite.org/c3ref/wal_checkpoint_v2.html).
                self._begin_cursor().connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.BusyError:
                # The background is at it at this moment.
                return
            except apsw.Error:
                self._abandon()
        else:
            self.wal_full.set()
