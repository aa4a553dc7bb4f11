"""What waits for the writer, bounded, and how much of it goes together. Room: store."""

from __future__ import annotations

import threading
from collections import deque

from gateway.errors import Overloaded, StoreUnavailable
from gateway.limits import (
    STORE_BATCH_JOBS_MAX,
    STORE_BATCH_PAGES_MAX,
    STORE_GATHER_JOB_S,
    STORE_GATHER_JOBS_MIN,
    STORE_GATHER_S_MAX,
    STORE_GATHER_SHARE,
    STORE_QUEUE_BYTES_MAX,
    STORE_QUEUE_JOBS_MAX,
)
from gateway.store.embedded.jobs import AnyJob

_NEVER = STORE_QUEUE_JOBS_MAX + 1


class Queue:
    """First in, first out. Any thread puts; only who holds the writer's turn takes."""

    def __init__(self) -> None:
        self._jobs: deque[AnyJob] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._closed = False
        self._expected = 0
        self._gather_to = _NEVER
        self._gathered = Bell()

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: AnyJob) -> None:
        """Raises :class:`Overloaded` at the bounds, :class:`StoreUnavailable` once closed."""
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if len(self._jobs) >= STORE_QUEUE_JOBS_MAX or self._bytes + job.bytes > STORE_QUEUE_BYTES_MAX:
                raise Overloaded(
                    f"{len(self._jobs)} commits with {self._bytes} bytes wait for the disk; the bounds are "
                    f"{STORE_QUEUE_JOBS_MAX} and {STORE_QUEUE_BYTES_MAX}, try again"
                )
            self._bytes += job.bytes
            self._jobs.append(job)
        # Without the lock: a ring too many wakes the writer early, and one that is missed costs what is
        # left of the wait.
        if len(self._jobs) >= self._gather_to:
            self._gathered.ring()

    def pop(self, sync_s: float) -> list[AnyJob]:
        """The jobs of the next transaction, at least one. ``sync_s``: what a sync takes at present.

        Where many clients commit in turns, those just answered will be back in a moment: one sync
        for all is sooner than one for each half. So it waits for them, at most a share of a sync; but
        not where the disk is so fast that one half is prepared while the other is synced.
        """
        if self._expected >= STORE_GATHER_JOBS_MIN and sync_s > self._expected * STORE_GATHER_JOB_S:
            self._gather(min(sync_s * STORE_GATHER_SHARE, STORE_GATHER_S_MAX))
        first = self._jobs.popleft()
        jobs, weight = [first], first.weight
        # Only the first ones, never a later one that would fit: order is what callers rely on.
        while self._jobs and not first.alone and len(jobs) < STORE_BATCH_JOBS_MAX:
            following = self._jobs[0]
            if following.alone or weight + following.weight > STORE_BATCH_PAGES_MAX:
                break
            jobs.append(self._jobs.popleft())
            weight += following.weight
        with self._lock:
            self._bytes -= sum(job.bytes for job in jobs)
        return jobs

    def done(self, count: int) -> None:
        """The jobs of ``count`` callers that were taken are answered."""
        # A lone caller is not waited for: it would wait for itself.
        self._expected = count + len(self._jobs) if count > 1 else 0

    def close(self) -> None:
        """Take no more. What is there stays to be taken."""
        with self._lock:
            self._closed = True
        self._expected = 0

    def _gather(self, seconds: float) -> None:
        # What rang before this wait says nothing of it.
        self._gathered.hush()
        self._gather_to = self._expected
        if len(self._jobs) < self._gather_to:
            self._gathered.wait(seconds)
        self._gather_to = _NEVER


class Bell:
    """Wakes one thread that waits, now or later; ringing twice counts once. Cheaper than an Event."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake who waits."""
        try:
            self._lock.release()
        except RuntimeError:
            return

    def hush(self) -> None:
        """Forget that it was rung."""
        self._lock.acquire(blocking=False)

    def wait(self, seconds: float = -1) -> bool:
        """Until it is rung, or for ``seconds``; whether it was."""
        return self._lock.acquire(timeout=seconds)
