"""The embedded engine's face for event loops. Room: store.

Nothing here waits for the disk on the loop: reads go to a few threads, commits to the writer's
queue, whose end resolves the future.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ClassVar, ParamSpec, TypeVar

from gateway.limits import (
    STORE_PREPARED_ON_LOOP_PAGES,
    STORE_READER_THREADS,
    STORE_WRITE_PAGES_MAX,
)
from gateway.store.base import (
    CommitRequest,
    Committed,
    Namespace,
    NamespaceInfo,
    OverlayBase,
    PageContent,
    PageRead,
    Stat,
    TimeBounds,
    Traits,
    Version,
)
from gateway.store.embedded.engine import EmbeddedOptions, Engine
from gateway.store.embedded.folder import IN_FOLDER
from gateway.store.embedded.jobs import Job

P = ParamSpec("P")
T = TypeVar("T")


class EmbeddedStore:
    """A :class:`gateway.store.base.Store` in a folder. Open with :meth:`open`; ``engine`` is the blocking core."""

    traits: ClassVar[Traits] = IN_FOLDER

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._threads = ThreadPoolExecutor(STORE_READER_THREADS, thread_name_prefix="store-reader")

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        auto_create: bool = False,
        clock: Callable[[], float] = time.time,
        options: EmbeddedOptions | None = None,
    ) -> EmbeddedStore:
        """Open the folder (made if missing) for this process alone. ``auto_create``: namespaces are
        made on first use. ``clock``: Unix seconds. Raises :class:`gateway.errors.ConfigError`."""
        return cls(Engine(path, auto_create=auto_create, clock=clock, options=options))

    def facts(self) -> Mapping[str, object]:
        """As :meth:`Engine.stats`."""
        return self.engine.stats()

    async def stat(
        self, ns: Namespace, *, from_version: Version | None = None, lock_owner: str | None = None
    ) -> Stat:
        """The head version and what changed since ``from_version``."""
        if not from_version:
            # What pollers ask all day is answered on the loop: a head in memory is on disk already
            # (namespaces.py), and handing a thread the question costs more than the answer.
            known = self.engine.head_now(ns, lock_owner)
            if known is not None:
                return known
        return await self._call(self.engine.stat, ns, from_version=from_version, lock_owner=lock_owner)

    async def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        """The pages, in request order."""
        return await self._call(self.engine.read, ns, reads)

    async def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        """Store content ahead of a commit, durably; the hashes."""
        hashes: list[bytes] = []
        for start in range(0, len(pages), STORE_WRITE_PAGES_MAX):
            future: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
            waiter = (future.get_loop(), future)
            some = pages[start : start + STORE_WRITE_PAGES_MAX]
            # One piece after the other: all at once would take the writer's queue for one caller.
            self.engine.writer.submit(await self._call(self.engine.prepare_write, ns, some, waiter))
            hashes += await future
        return hashes

    async def commit(self, request: CommitRequest) -> Committed:
        """All namespaces atomically at one version. Returned means durable."""
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        waiter = (future.get_loop(), future)
        job: Job[Committed]
        if self._is_quick(request):
            job = self.engine.prepare_commit(request, waiter)
        else:
            job = await self._call(self.engine.prepare_commit, request, waiter)
        self.engine.writer.submit(job)
        return await future

    async def time2version(self, t: int) -> TimeBounds:
        """The recorded points around ``t`` (Unix seconds; 0 = now)."""
        return await self._call(self.engine.time2version, t)

    async def lock(self, ns: Namespace, owner: str, version: Version | None = None) -> None:
        """Acquire the namespace lock (idempotent for the same owner)."""
        await self._call(self.engine.lock, ns, owner, version)

    async def unlock(self, ns: Namespace, owner: str, *, rollback: bool) -> None:
        """Release it, keeping the writes or rolling them back."""
        await self._call(self.engine.unlock, ns, owner, rollback=rollback)

    async def create_namespace(self, key: str, overlay_base: OverlayBase | None = None) -> None:
        """``Unprocessable`` if it exists; ``Conflict`` if the base is truncated beyond or locked."""
        await self._call(self.engine.create_namespace, key, overlay_base)

    async def rename_namespace(self, old_key: str, new_key: str) -> None:
        """``NotFound``; ``Unprocessable`` if the new key is taken."""
        await self._call(self.engine.rename_namespace, old_key, new_key)

    async def delete_namespace(self, key: str) -> None:
        """Gone at once; ``Conflict`` with overlays on it."""
        await self._call(self.engine.delete_namespace, key)

    async def list_namespaces(self, prefix: str = "") -> list[NamespaceInfo]:
        """Every namespace whose key begins so, in key order."""
        return await self._call(self.engine.list_namespaces, prefix)

    async def namespace_info(self, key: str) -> NamespaceInfo:
        """One namespace's id, lock, overlay base and truncation mark."""
        return await self._call(self.engine.namespace_info, key)

    def truncate_namespace(
        self, key: str, before_version: Version, *, apply: bool = True
    ) -> AsyncIterator[str]:
        """Progress (the running count of versions removed), then the end of iteration."""
        return self._iterate(partial(self.engine.truncate_namespace, key, before_version, apply=apply))

    def delete_unreferenced_content(self, key: str, *, apply: bool = True) -> AsyncIterator[str]:
        """Progress (the running count of contents removed), then the end of iteration."""
        return self._iterate(partial(self.engine.delete_unreferenced_content, key, apply=apply))

    def blocking(self) -> Engine:
        """The same store for a SQLite thread: commits in the caller's thread, no loop in between."""
        return self.engine

    def close(self) -> None:
        """For those without a loop. Idempotent."""
        self.engine.close()
        self._threads.shutdown()

    async def aclose(self) -> None:
        """Flush and close; idempotent."""
        await asyncio.to_thread(self.close)

    def _is_quick(self, request: CommitRequest) -> bool:
        """True where preparing takes some 20 us and no disk: then a thread would cost more."""
        if len(request.namespaces) != 1:
            return False
        (only,) = request.namespaces
        return (
            len(only.pages) <= STORE_PREPARED_ON_LOOP_PAGES
            and self.engine.registry.cached(only.namespace.key) is not None
        )

    async def _call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    async def _iterate(self, begin: Callable[[], Iterator[str]]) -> AsyncIterator[str]:
        lines = begin()
        # A thread for each step, not for all of it: when whoever asked has gone, nothing goes on by itself.
        while (line := await self._call(next, lines, None)) is not None:
            yield line
