"""The embedded engine: a store in a folder, thread-safe, for callers that may block. Room: store.

Reads go on connections of their own and never wait for the writer; a commit has returned when the
log that holds it was synced. :mod:`.store` is its face for event loops.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from gateway.errors import GatewayError, Gone
from gateway.limits import STORE_COMMIT_INLINE_PAGES_MAX, STORE_PAGE_BYTES_MAX
from gateway.store.base import (
    OWN_KEYS,
    CommitRequest,
    Committed,
    Namespace,
    PageContent,
    PageRead,
    Stat,
    TimeBounds,
    TimePoint,
    Traits,
    Version,
)
from gateway.store.embedded import admin, commit, failures, reading, schema, sweep, versions
from gateway.store.embedded.administration import Administration
from gateway.store.embedded.background import Background
from gateway.store.embedded.content import PackedContent, pack, pack_each
from gateway.store.embedded.folder import IN_FOLDER, FolderLock
from gateway.store.embedded.jobs import Job, Waiter
from gateway.store.embedded.namespaces import NsState, Registry, check_proof
from gateway.store.embedded.pool import ConnectionPool
from gateway.store.embedded.timekeeper import TimeKeeper
from gateway.store.embedded.transaction import WriteTxn
from gateway.store.embedded.writer import Writer


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """``content_grace_s``: how long content written ahead is kept for a commit to refer to it. ``background``: keep
    time, copy the log and collect by itself; without it the owner calls :meth:`Engine.keep_time` and
    :meth:`Engine.sweep`."""

    content_grace_s: int = 3_600
    background: bool = True


class Engine(Administration):
    """Made by opening a folder; :meth:`close` it. Satisfies :class:`gateway.store.base.BlockingStore`.

    Raises :class:`ConfigError` where the folder cannot be used (in use, not writable, not a store).
    """

    traits: ClassVar[Traits] = IN_FOLDER

    def __init__(
        self,
        folder: Path | str,
        *,
        auto_create: bool = False,
        clock: Callable[[], float] = time.time,
        options: EmbeddedOptions | None = None,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.path = self.folder / schema.FILE_NAME
        self.clock = clock
        self.options = options or EmbeddedOptions()
        self.content_grace_s = self.options.content_grace_s
        self.auto_create = auto_create
        self._lock = FolderLock(self.folder)
        try:
            # Twice: first what was there, which is said, and then what opening has just made, which was
            # never anyone's.
            self._lock.keep_to_owner()
            with failures.translated(self.path):
                self.pool = ConnectionPool(self.path)
                self.registry = Registry(self.pool)
                self.writer = Writer(self.path, self.registry, clock)
            self._lock.keep_to_owner(are_new=True)
            self._lock.sync()
        except BaseException:
            self._lock.release()
            raise
        self._stop = threading.Event()
        self._closing = threading.Lock()
        self.steps = sweep.PacedSteps(self.writer, self._stop.wait)
        self._time_keeper = TimeKeeper(self.writer)
        self._background = Background(self, self._stop) if self.options.background else None

    # --- data plane ----------------------------------------------------------------------

    def stat(
        self, ns: Namespace, *, from_version: Version | None = None, lock_owner: str | None = None
    ) -> Stat:
        """The head version and what changed since; with a lock, its snapshot for all but its owner."""
        state = self._state(ns)
        head = _visible_head(state, lock_owner or None)
        if not from_version:
            return Stat(versions.text(head))
        after = versions.parse(from_version)
        with self.pool.cursor() as cursor:
            interval = reading.interval(cursor, state.rid, after, head, inclusive=True)
        return Stat(versions.text(head), interval=interval)

    def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        """The pages, in request order."""
        state = self._state(ns)
        # First read, then asked whether a truncation has overtaken it: the other way round it could come in
        # between, and half of an old version would be given out as whole.
        found = reading.read_pages(self.pool, state, reads)
        reading.check_mark(self.registry.find(state.key), reads)
        return found

    def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        """Store content ahead of a commit, durably; the hashes."""
        hashes: list[bytes] = []
        for start in range(0, len(pages), STORE_COMMIT_INLINE_PAGES_MAX):
            job = self.prepare_write(ns, pages[start : start + STORE_COMMIT_INLINE_PAGES_MAX])
            stored: list[bytes] = self.writer.run(job)
            hashes += stored
        return hashes

    def commit(self, request: CommitRequest) -> Committed:
        """All namespaces atomically at one version; durable when this returns. The content that it names
        was written ahead for this commit alone: its grace is over, and it goes when its page is replaced."""
        answer: Committed = self.writer.run(self.prepare_commit(request, settles=True))
        return answer

    def commit_each(self, requests: Sequence[CommitRequest]) -> list[Committed | GatewayError]:
        """Many commits that have nothing to do with each other, in as few syncs as they fit in: each
        gets its own answer, or its own error, in their order. Their pages' hashes are not made again."""
        packed = pack_each(
            [
                (page.hash, page.data)
                for request in requests
                for part in request.namespaces
                for page in part.pages
                if page.data is not None and len(page.data) <= STORE_PAGE_BYTES_MAX
            ]
        )
        jobs: list[Job[Committed] | GatewayError] = []
        for request in requests:
            try:
                jobs.append(self.prepare_commit(request, settles=True, packed=packed))
            except GatewayError as error:
                jobs.append(error)
        self.writer.run_each([job for job in jobs if isinstance(job, Job)])
        return [job.outcome() if isinstance(job, Job) else job for job in jobs]

    def time2version(self, t: int) -> TimeBounds:
        """The time keeper's points around ``t`` (Unix seconds; 0: now)."""
        if t == 0:
            now, last = int(self.clock()), self.writer.numbers.last
            # Between transactions: above every version that was given out, and below every one that will
            # be.
            here = versions.text(last << versions.ORDER_BITS | versions.ORDER_MAX)
            return TimeBounds(
                TimePoint(here, now), TimePoint(versions.text((last + 1) << versions.ORDER_BITS), now + 1)
            )
        return reading.time_bounds(self.pool, t)

    # --- upkeep --------------------------------------------------------------------------

    def keep_time(self) -> None:
        """Record the moment: every version so far was committed by now."""
        self._time_keeper.keep(int(self.clock()))

    def sweep(self) -> int:
        """One round of collecting everywhere; how many rows went."""
        return sweep.everywhere(self.pool, self.steps, self.writer, int(self.clock()), self.content_grace_s)

    def stats(self) -> dict[str, Any]:
        """Plain numbers for metrics: counters of the writer, what waits, bytes on disk."""
        sizes = {p.name: p.stat().st_size for p in self.folder.glob(schema.FILE_NAME + "*")}
        return {
            **self.writer.counters,
            "waiting": self.writer.waiting,
            "wal_pages": self.writer.wal_pages,
            "files": sizes,
        }

    def close(self) -> None:
        """Finish what is queued and let the folder go. Idempotent."""
        with self._closing:
            if self._stop.is_set():
                return
            self._stop.set()
            # Before the writer: a step of its own under way needs the writer to end.
            if self._background is not None:
                self._background.join()
            try:
                self.writer.close()
            finally:
                self.pool.close()
                self._lock.release()

    # --- for the faces -------------------------------------------------------------------

    def prepare_commit(
        self,
        request: CommitRequest,
        waiter: Waiter | None = None,
        *,
        settles: bool = False,
        packed: Mapping[bytes, PackedContent] | None = None,
    ) -> Job[Committed]:
        """The job of a commit: checked, hashed, compressed. ``settles``: it ends the grace of what was
        written ahead for it; other clients may name content again that they wrote once. ``packed``: of
        its contents, those that are compressed already."""
        prepared = commit.prepare(request, self.registry, packed or {})
        return Job(
            lambda txn: commit.apply(txn, prepared, self.registry, self.writer.attempts, settles=settles),
            weight=prepared.weight + 1,
            size=prepared.size,
            waiter=waiter,
            contents=prepared.contents,
        )

    def prepare_write(
        self, ns: Namespace, pages: Sequence[bytes], waiter: Waiter | None = None
    ) -> Job[list[bytes]]:
        """The job of writing content ahead."""
        key = self._state(ns).key
        packed = [pack(bytes(page)) for page in pages]
        size = sum(len(each.data) for each in packed)
        return Job(lambda txn: self._put(txn, key, packed), weight=len(packed) + 1, size=size, waiter=waiter)

    def head_now(self, ns: Namespace, lock_owner: str | None) -> Stat | None:
        """The head if it can be told from memory, without the disk."""
        if ":" in ns.key:
            check_proof(ns)
        state = self.registry.cached(ns.key)
        return None if state is None else Stat(versions.text(_visible_head(state, lock_owner or None)))

    def _put(self, txn: WriteTxn, key: str, packed: Sequence[PackedContent]) -> list[bytes]:
        rid = self.registry.require(key).rid
        for each in packed:
            txn.put_content(rid, each, 0)
        return [each.hash for each in packed]

    def _state(self, ns: Namespace) -> NsState:
        if not self.auto_create or ns.key.startswith(OWN_KEYS):
            return self.registry.get(ns)
        # Before it is made: who cannot prove a name's hash must not learn whether there is one, nor make
        # it.
        check_proof(ns)
        state = self.registry.find(ns.key)
        if state is None:
            admin.check_key(ns.key)
            self._alone(admin.create_if_missing(ns.key))
            state = self.registry.require(ns.key)
        return state


def _visible_head(state: NsState, lock_owner: str | None) -> int:
    lock = state.lock
    if lock is None:
        if lock_owner is not None:
            raise Gone(f"{lock_owner!r:.80} does not own the lock of {state.key!r}: it is not locked")
        return state.head
    if lock_owner is None:
        return versions.parse(lock.snapshot_version)
    if lock.owner != lock_owner:
        raise Gone(f"{lock_owner!r:.80} no longer owns the lock of {state.key!r}", owner=lock.owner)
    if lock.rolling_back:
        raise Gone(f"the lock of {state.key!r} is being rolled back")
    return state.head
