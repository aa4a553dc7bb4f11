"""A page cache before any store: reads that fan out cost the store one read. Room: store.

:class:`CachedStore` is a :class:`gateway.store.base.Store` before another one. Identical reads in
flight share one upstream read, all that is wanted at the same moment travels in one batch, and the
proof of a protected key is checked before anything is answered from here. What a namespace's owner
of a lock does passes by untouched: it may be rolled back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from gateway import limits
from gateway.errors import NoNamespace
from gateway.store.base import (
    BlockingStore,
    CommitRequest,
    Committed,
    Namespace,
    NamespaceInfo,
    OverlayBase,
    PageContent,
    PageRead,
    Stat,
    Store,
    TimeBounds,
    Traits,
    Version,
)
from gateway.store.cache_pages import PageCache
from gateway.store.cache_reads import SharedReads
from gateway.store.remote.blocking import BlockingBridge
from gateway.wire.mvstore import proof_ok


class CachedStore:
    """Make it on the event loop that it shall run on. ``inner`` belongs to it and is closed with it."""

    def __init__(self, inner: Store, *, bytes_max: int = limits.STORE_CACHE_BYTES) -> None:
        self.inner = inner
        self.pages = PageCache(bytes_max)
        self._reads = SharedReads(inner.read, self.pages.put)
        self._loop = asyncio.get_running_loop()

    @property
    def traits(self) -> Traits:
        """As the inner store's."""
        return self.inner.traits

    def facts(self) -> dict[str, object]:
        """Counters: hits and misses of the cache, shared and upstream reads, bytes held."""
        return {**self.pages.facts(), **self._reads.facts(), **self.inner.facts()}

    # -- reading ------------------------------------------------------------------------------

    async def stat(
        self, ns: Namespace, *, from_version: Version | None = None, lock_owner: str | None = None
    ) -> Stat:
        """As the inner store's, asked in such a way that the cache learns what changed."""
        if lock_owner is not None:
            return await self.inner.stat(ns, from_version=from_version, lock_owner=lock_owner)
        # Asked since the head that the cache knows, though nobody asked so: what changed since is what lets current
        # pages stay current.
        since = from_version or self.pages.head(ns.key)
        stat = await self.inner.stat(ns, from_version=since)
        self.pages.learn(ns.key, stat.version, since, stat.interval)
        return stat if from_version else Stat(stat.version, stat.read_only, None, stat.metadata)

    async def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        """From the cache where it has them all, else what is missing in one upstream batch."""
        pages = self.cached(ns, reads)
        missing = [at for at, page in enumerate(pages) if page is None]
        if missing:
            head = self.pages.head(ns.key)
            fetched = await self._reads.read(ns, [reads[at] for at in missing], head)
            for at, page in zip(missing, fetched, strict=True):
                pages[at] = page
        return [page for page in pages if page is not None]

    def cached(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent | None]:
        """What the cache has, None where it has not. Thread-safe. Raises :class:`NoNamespace` on a wrong proof."""
        if not proof_ok(ns.key, ns.proof):
            raise NoNamespace(f"no namespace {ns.key!r} for this proof")
        return self.pages.get(ns.key, reads)

    async def time2version(self, t: int) -> TimeBounds:
        """As the inner store's."""
        return await self.inner.time2version(t)

    # -- writing ------------------------------------------------------------------------------

    async def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        """As the inner store's."""
        return await self.inner.write(ns, pages)

    async def commit(self, request: CommitRequest) -> Committed:
        """As the inner store's; what it wrote and what others changed is learnt from it."""
        done = await self.inner.commit(request)
        # What a lock's owner commits may be rolled back, and nobody else sees it before the lock is gone.
        if request.lock_owner is None:
            for part in request.namespaces:
                self.pages.committed(part, done)
        return done

    async def lock(self, ns: Namespace, owner: str, version: Version | None = None) -> None:
        """As the inner store's."""
        await self.inner.lock(ns, owner, version)

    async def unlock(self, ns: Namespace, owner: str, *, rollback: bool) -> None:
        """As the inner store's; after a rollback nothing of the namespace is kept."""
        await self.inner.unlock(ns, owner, rollback=rollback)
        if rollback:
            self.pages.forget(ns.key)

    # -- namespaces ---------------------------------------------------------------------------

    async def create_namespace(self, key: str, overlay_base: OverlayBase | None = None) -> None:
        """As the inner store's."""
        await self.inner.create_namespace(key, overlay_base)

    async def rename_namespace(self, old_key: str, new_key: str) -> None:
        """As the inner store's."""
        await self.inner.rename_namespace(old_key, new_key)
        self.pages.forget(old_key)
        self.pages.forget(new_key)

    async def delete_namespace(self, key: str) -> None:
        """As the inner store's."""
        await self.inner.delete_namespace(key)
        self.pages.forget(key)

    async def list_namespaces(self, prefix: str = "") -> list[NamespaceInfo]:
        """As the inner store's."""
        return await self.inner.list_namespaces(prefix)

    async def namespace_info(self, key: str) -> NamespaceInfo:
        """As the inner store's."""
        return await self.inner.namespace_info(key)

    async def truncate_namespace(
        self, key: str, before_version: Version, *, apply: bool = True
    ) -> AsyncIterator[str]:
        """As the inner store's; what was cut off is no longer answered from here."""
        # Before as well as after: what is read while it runs must not be answered from here later.
        self.pages.forget(key)
        async for line in self.inner.truncate_namespace(key, before_version, apply=apply):
            yield line
        self.pages.forget(key)

    async def delete_unreferenced_content(self, key: str, *, apply: bool = True) -> AsyncIterator[str]:
        """As the inner store's."""
        async for line in self.inner.delete_unreferenced_content(key, apply=apply):
            yield line

    # -- the rest -----------------------------------------------------------------------------

    def blocking(self) -> BlockingStore:
        """The same store for a SQLite thread: what is cached is answered without the loop."""
        return _BlockingCached(self, self._loop)

    async def aclose(self) -> None:
        """Close the inner store. Idempotent."""
        await self.inner.aclose()


class _BlockingCached(BlockingBridge):
    def __init__(self, store: CachedStore, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(store, loop)
        self._cached = store.cached

    def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        pages = self._cached(ns, reads)
        there = [page for page in pages if page is not None]
        # All or nothing: a thread that has to go to the loop anyhow gets all of it there, in one batch with
        # what others want.
        return there if len(there) == len(pages) else super().read(ns, reads)
