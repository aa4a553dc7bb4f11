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

    __slots__ = ("found", "landed", "ns", "reads")

    def __init__(self, ns: Namespace, landed: asyncio.Future[None]) -> None:
        self.ns = ns
        self.reads: list[PageRead] = []
        self.found: list[PageContent | GatewayError] = []
        self.landed = landed


class SharedReads:
    """``fetch`` reads upstream; ``keep`` is told the pages that came (namespace key, reads, contents)."""

    def __init__(self, fetch: Fetch, keep: Keep) -> None:
        self._fetch = fetch
        self._keep = keep
        self._flying: dict[tuple[Namespace, PageRead], tuple[_Batch, int]] = {}
        self._waiting: dict[Namespace, deque[_Batch]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = False
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
            if not batch.landed.done():
                # shielded: one reader that gives up must not take the page from the others
                await asyncio.shield(batch.landed)
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
            waiting.append(_Batch(ns, asyncio.get_running_loop().create_future()))
        batch = waiting[-1]
        batch.reads.append(read)
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._start)
        return batch, len(batch.reads) - 1

    def _start(self) -> None:
        self._woken = False
        while self._waiting and len(self._tasks) < limits.STORE_CACHE_BATCHES_AT_ONCE:
            ns, waiting = next(iter(self._waiting.items()))
            batch = waiting.popleft()
            # to the end of the line, so that one namespace's many reads don't keep others waiting
            del self._waiting[ns]
            if waiting:
                self._waiting[ns] = waiting
            task = asyncio.get_running_loop().create_task(self._read_batch(batch))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._start()

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
            if place is not None and place[0] is batch:
                del self._flying[batch.ns, read]
        if not batch.landed.done():
            batch.landed.set_result(None)
