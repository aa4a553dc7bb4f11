"""Upstream reads shared by all who want the same, and gathered into batches. Room: store.

A page at a version up to the head never changes, so whoever wants one that is on its way waits for
it. What is wanted in one turn of the loop, or while enough batches are under way, travels together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from gateway import limits
from gateway.errors import GatewayError, StoreUnavailable
from gateway.store.base import Namespace, PageContent, PageRead, Version

Fetch = Callable[[Namespace, Sequence[PageRead]], Awaitable[list[PageContent]]]
Keep = Callable[[str, Sequence[PageRead], Sequence[PageContent]], None]


class _Batch:
    """What travels together. ``found`` has, for each read, its page or why there is none, once ``landed``."""

    __slots__ = ("_waiters", "found", "has_landed", "ns", "reads")

    def __init__(self, ns: Namespace) -> None:
        self.ns = ns
        self.reads: list[PageRead] = []
        self.found: list[PageContent | GatewayError] = []
        self.has_landed = False
        self._waiters: list[asyncio.Future[None]] = []

    async def landed(self) -> None:
        """Wait for it. Each reader by itself: one that gives up does not take the pages from the others."""
        if not self.has_landed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def land(self) -> None:
        """All has been found that there is."""
        self.has_landed = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class SharedReads:
    """``fetch`` reads upstream; ``keep`` is told the pages that came (namespace key, reads, contents)."""

    def __init__(self, fetch: Fetch, keep: Keep) -> None:
        self._fetch = fetch
        self._keep = keep
        self._flying: dict[tuple[Namespace, PageRead], tuple[_Batch, int]] = {}
        self._waiting: dict[Namespace, deque[_Batch]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._starter: asyncio.Task[None] | None = None
        """A task that has not taken a batch yet: what is wanted until then goes with it."""
        self.shared = 0
        self.upstream_pages = 0
        self.upstream_batches = 0

    def facts(self) -> dict[str, int]:
        """Reads that shared another's, and what was asked upstream."""
        return {
            "shared_reads": self.shared,
            "upstream_pages": self.upstream_pages,
            "upstream_batches": self.upstream_batches,
        }

    async def read(self, ns: Namespace, reads: Sequence[PageRead], head: Version | None) -> list[PageContent]:
        """The pages, in order. What is above ``head``, or asked by hash, may still change: it is read
        anew for everyone. Raises what the upstream read of one of them raised."""
        places = [
            self._shared(ns, read)
            if head is not None and read.hash is None and read.version <= head
            else self._wanted(ns, read)
            for read in reads
        ]
        pages = []
        for batch, at in places:
            if not batch.has_landed:
                await batch.landed()
            page = batch.found[at]
            if isinstance(page, GatewayError):
                raise page
            pages.append(page)
        return pages

    def _shared(self, ns: Namespace, read: PageRead) -> tuple[_Batch, int]:
        place = self._flying.get((ns, read))
        if place is not None:
            self.shared += 1
            return place
        place = self._flying[ns, read] = self._wanted(ns, read)
        return place

    def _wanted(self, ns: Namespace, read: PageRead) -> tuple[_Batch, int]:
        waiting = self._waiting.get(ns)
        if waiting is None:
            waiting = self._waiting[ns] = deque()
        if not waiting or len(waiting[-1].reads) >= limits.STORE_READ_PAGES_MAX:
            waiting.append(_Batch(ns))
        batch = waiting[-1]
        batch.reads.append(read)
        if self._starter is None:
            self._go_on()
        return batch, len(batch.reads) - 1

    def _go_on(self) -> None:
        """Have the next batch read, if there is one and it may be."""
        is_free = self._starter is None and len(self._tasks) < limits.STORE_CACHE_BATCHES_AT_ONCE
        if self._waiting and is_free:
            self._starter = task = asyncio.get_running_loop().create_task(self._read_next())
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # It ended before it began, by a cancellation: without this nothing would be read any more.
        if task is self._starter:
            self._starter = None
        self._go_on()

    async def _read_next(self) -> None:
        """Begins in the loop's next turn: by then all that is wanted at this moment is there."""
        self._starter = None
        ns, waiting = next(iter(self._waiting.items()))
        batch = waiting.popleft()
        # to the end of the line, so that one namespace's many reads don't keep others waiting
        del self._waiting[ns]
        if waiting:
            self._waiting[ns] = waiting
        self._go_on()
        await self._read_batch(batch)

    async def _read_batch(self, batch: _Batch) -> None:
        try:
            batch.found = await self._found(batch.ns, batch.reads)
        except BaseException as error:
            failed = StoreUnavailable(f"the read was given up: {error!r}")
            batch.found = [failed] * len(batch.reads)
            raise
        finally:
            self._land(batch)

    async def _found(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent | GatewayError]:
        self.upstream_batches += 1
        self.upstream_pages += len(reads)
        try:
            pages = await self._fetch(ns, reads)
        # Nobody is at fault, so nothing is found out by asking in halves: it would be asked twice as often
        # while it is away.
        except StoreUnavailable as error:
            return [error] * len(reads)
        except GatewayError as error:
            if len(reads) == 1:
                return [error]
            # one of the batch cannot be read: find it, so that the others are not refused with it
            half = len(reads) // 2
            return [*await self._found(ns, reads[:half]), *await self._found(ns, reads[half:])]
        if len(pages) != len(reads):
            return [StoreUnavailable(f"{len(pages)} pages came for {len(reads)} reads")] * len(reads)
        self._keep(ns.key, reads, pages)
        return [*pages]

    def _land(self, batch: _Batch) -> None:
        for read in batch.reads:
            place = self._flying.get((batch.ns, read))
            # Another batch may have been asked for the same meanwhile.
            if place is not None and place[0] is batch:
                del self._flying[batch.ns, read]
        batch.land()
