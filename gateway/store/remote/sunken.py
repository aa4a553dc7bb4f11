"""Heads that lie below their namespace's truncation mark, and are lifted above it. Room: store.

mvstore sets a mark wherever it is asked to; above a head, no read of that head is served any more, until a commit
moves the head. Gateways used to ask so for idle worlds. An empty commit changes no page: whoever still reads at the
old head is answered at the new one.
Source: ``docs/STORE.md``, "What the real mvstore does otherwise".
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from gateway import limits
from gateway.errors import Conflict, GatewayError, Gone, NotFound, StoreUnavailable
from gateway.store.base import (
    CommitRequest,
    Committed,
    Namespace,
    NamespaceCommit,
    NamespaceInfo,
    PageRead,
    Version,
)

log = logging.getLogger("mvgateway.store")


class SunkenHeads:
    """``ask_head`` and ``commit`` go to the store; ``ask_info`` to its admin API (None where none is known)."""

    def __init__(
        self,
        ask_head: Callable[[Namespace], Awaitable[Version]],
        commit: Callable[[CommitRequest], Awaitable[Committed]],
        ask_info: Callable[[str], Awaitable[NamespaceInfo]] | None,
    ) -> None:
        self._ask_head = ask_head
        self._commit = commit
        self._ask_info = ask_info
        self._lifted: OrderedDict[tuple[str, Version], Version] = OrderedDict()
        self._under_way: dict[str, asyncio.Lock] = {}

    def moved(self, key: str, reads: Sequence[PageRead]) -> Sequence[PageRead]:
        """The same reads; those at a head that was lifted, at where it is now."""
        # On the way of every read, and nearly always so.
        if not self._lifted:
            return reads
        return [
            read
            if read.hash is not None
            else read._replace(version=self._lifted.get((key, read.version), read.version))
            for read in reads
        ]

    async def mark(self, key: str) -> Version | None:
        """The namespace's truncation mark; None where there is none, or nobody to ask."""
        if self._ask_info is None:
            return None
        try:
            return (await self._ask_info(key)).truncated_before
        except GatewayError:
            return None

    async def head(self, ns: Namespace) -> Version | None:
        """The namespace's head; None where it is not told now."""
        try:
            return await self._ask_head(ns)
        except GatewayError:
            return None

    async def lift(self, ns: Namespace, version: Version, mark: Version | None) -> bool:
        """Lift the head if it is ``version``, which cannot be read; whether :meth:`moved` helps now."""
        async with self._alone(ns.key):
            # Somebody else lifted it while this one waited for the lock.
            if (ns.key, version) in self._lifted:
                return True
            try:
                if await self._ask_head(ns) != version:
                    return False
                part = NamespaceCommit(ns, version, ())
                done = await self._commit(CommitRequest(os.urandom(16), [part], first_attempt=True))
            except (Conflict, Gone, NotFound, StoreUnavailable):
                return False  # somebody else has moved it, or holds its lock; or it is of another kind
            self._lifted[ns.key, version] = done.version
            if len(self._lifted) > limits.STORE_NAMESPACES_CACHED_MAX:
                self._lifted.popitem(last=False)
        log.warning(
            "namespace %r: its head %s lay below its truncation mark (%s), where nothing can be read; "
            "an empty commit lifted it to %s",
            ns.key[:200],
            version,
            mark or "not told",
            done.version,
        )
        return True

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        lock = self._under_way.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            # Nobody waits for it: else the lock stays, or the next one would make another beside it.
            if not lock.locked():
                self._under_way.pop(key, None)
