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

Wanted = tuple[PageRead, "asyncio.Future[PageContent]"]
Fetch = Callable[[Namespace, Sequence[PageRead]], Awaitable[list[PageContent]]]


class SharedReads:
    """``fetch`` reads upstream; ``keep`` is told each page that came (namespace key, read, content)."""

    def __init__(self, fetch: Fetch, keep: Callable[[str, PageRead, PageContent], None]) -> None:
        self._fetch = fetch
        self._keep = keep
        self._flying: dict[tuple[Namespace, PageRead], asyncio.Future[PageContent]] = {}
        self._waiting: dict[Namespace, deque[Wanted]] = {}
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
        futures = [
            self._shared(ns, read)
            if head is not None and read.hash is None and read.version <= head
            else self._wanted(ns, read)
            for read in reads
        ]
        for future in futures:
            if not future.done():
                # shielded: one reader that gives up must not take the page from the others
                await asyncio.shield(future)
        return [future.result() for future in futures]

    def _shared(self, ns: Namespace, read: PageRead) -> asyncio.Future[PageContent]:
        future = self._flying.get((ns, read))
        if future is not None:
            self.shared += 1
            return future
        future = self._flying[ns, read] = self._wanted(ns, read)
        return future

    def _wanted(self, ns: Namespace, read: PageRead) -> asyncio.Future[PageContent]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[PageContent] = loop.create_future()
        future.add_done_callback(_retrieved)
        self._waiting.setdefault(ns, deque()).append((read, future))
        if not self._woken:
            self._woken = True
            loop.call_soon(self._start)
        return future

    def _start(self) -> None:
        self._woken = False
        while self._waiting and len(self._tasks) < limits.STORE_CACHE_BATCHES_AT_ONCE:
            ns, reads = next(iter(self._waiting.items()))
            batch = [reads.popleft() for _ in range(min(len(reads), limits.STORE_READ_PAGES_MAX))]
            # to the end of the line, so that one namespace's many reads don't keep others waiting
            del self._waiting[ns]
            if reads:
                self._waiting[ns] = reads
            task = asyncio.get_running_loop().create_task(self._read_batch(ns, batch))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._start()

    async def _read_batch(self, ns: Namespace, batch: list[Wanted]) -> None:
        self.upstream_batches += 1
        self.upstream_pages += len(batch)
        try:
            pages = await self._fetch(ns, [read for read, _ in batch])
        except StoreUnavailable as error:
            self._fail(ns, batch, error)
        except GatewayError as error:
            await self._divide(ns, batch, error)
        except BaseException as error:
            self._fail(ns, batch, StoreUnavailable(f"the read was given up: {error!r}"))
            raise
        else:
            self._land(ns, batch, pages)

    async def _divide(self, ns: Namespace, batch: list[Wanted], error: GatewayError) -> None:
        """One of the batch cannot be read: find it, so that the others are not refused with it."""
        if len(batch) == 1:
            self._fail(ns, batch, error)
            return
        half = len(batch) // 2
        await self._read_batch(ns, batch[:half])
        await self._read_batch(ns, batch[half:])

    def _land(self, ns: Namespace, batch: list[Wanted], pages: list[PageContent]) -> None:
        for (read, future), page in zip(batch, pages, strict=True):
            self._keep(ns.key, read, page)
            self._landed(ns, read, future)
            if not future.done():
                future.set_result(page)

    def _fail(self, ns: Namespace, batch: list[Wanted], error: GatewayError) -> None:
        for read, future in batch:
            self._landed(ns, read, future)
            if not future.done():
                future.set_exception(error)

    def _landed(self, ns: Namespace, read: PageRead, future: asyncio.Future[PageContent]) -> None:
        if self._flying.get((ns, read)) is future:
            del self._flying[ns, read]


def _retrieved(future: asyncio.Future[PageContent]) -> None:
    if not future.cancelled():
        future.exception()
