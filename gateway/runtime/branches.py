"""How many branches a world has: at the bound no more are made. Room: runtime.

A branch is a namespace laid over its world's, so the store itself says how many there are, whoever made them.
What a namespace is laid over never changes, and is asked once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import GatewayError, Overloaded
from gateway.limits import LISTED_AT_ONCE, LISTED_JUDGED_MAX
from gateway.store.base import NamespaceInfo, Store

BRANCHES_FLAG = "--branches-per-world-max"


class Branches:
    """Of one store's worlds, at most ``at_most`` each."""

    def __init__(self, store: Store, at_most: int) -> None:
        self._store = store
        self._at_most = at_most
        self._bases: dict[str, str] = {}
        """Namespace id → the id of what it is laid over, "" for nothing."""
        self._making: dict[str, int] = {}

    @asynccontextmanager
    async def room_for_one(self, key: str, world: str) -> AsyncIterator[None]:
        """While one is made of the world with that namespace. Raises :class:`Overloaded` at the bound."""
        base = (await self._store.namespace_info(key)).ns_id
        count = await self._count(base)
        making = self._making.get(base, 0)
        if count + making >= self._at_most:
            raise Overloaded(
                f"world {world} has {count + making} branches, which is the bound; delete one, or raise {BRANCHES_FLAG}",
                bound=BRANCHES_FLAG,
                limit=self._at_most,
            )
        self._making[base] = making + 1
        try:
            yield
        finally:
            self._making[base] -= 1
            if not self._making[base]:
                del self._making[base]

    async def _count(self, base: str) -> int:
        infos = await self._store.list_namespaces()
        turns = asyncio.Semaphore(LISTED_AT_ONCE)
        unknown = [info for info in infos if info.ns_id not in self._bases]
        await asyncio.gather(*(self._ask(info, turns) for info in unknown[:LISTED_JUDGED_MAX]))
        there = {info.ns_id for info in infos}
        self._bases = {ns_id: under for ns_id, under in self._bases.items() if ns_id in there}
        return sum(under == base for under in self._bases.values())

    async def _ask(self, info: NamespaceInfo, turns: asyncio.Semaphore) -> None:
        """A list tells keys and ids alone where the store is elsewhere."""
        async with turns:
            try:
                under = (await self._store.namespace_info(info.key)).overlay_base
            except GatewayError:
                return  # gone meanwhile, or it counts next time
        self._bases[info.ns_id] = "" if under is None else under.ns_id
