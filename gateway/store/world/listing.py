"""Which namespaces of a store are worlds. Room: store.

A store may hold other databases of mvSQLite clients, whose names may look like a world's. What a
namespace is stands in the SQLite header of its first page, read once: a database does not change its kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gateway.errors import NotFound
from gateway.limits import LISTED_AT_ONCE, LISTED_JUDGED_MAX
from gateway.store.base import Namespace, NamespaceInfo, PageRead, Store
from gateway.store.world.schema import APPLICATION_ID
from gateway.wire.names import is_world_name

_APPLICATION_ID_AT = slice(68, 72)
"""The file format, section 1.3: ``application_id``, big-endian."""


class WorldNames:
    """The worlds of one store. Remembers by namespace id what was looked at."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._judged: dict[str, bool] = {}

    async def all(self, known: Iterable[str] = ()) -> list[str]:
        """The names of all worlds, in order, ``known`` ones among them without a look. Of namespaces never
        looked at it takes ``LISTED_JUDGED_MAX`` in hand; those beyond are listed by their names alone."""
        names = set(known)
        found = [info for info in await self._store.list_namespaces() if is_world_name(info.key)]
        unknown = [info for info in found if info.key not in names and info.ns_id not in self._judged]
        await self._judge(unknown[:LISTED_JUDGED_MAX])
        names.update(info.key for info in unknown[LISTED_JUDGED_MAX:])
        names.update(info.key for info in found if self._judged.get(info.ns_id))
        return sorted(names)

    async def _judge(self, infos: list[NamespaceInfo]) -> None:
        turns = asyncio.Semaphore(LISTED_AT_ONCE)

        async def one(info: NamespaceInfo) -> None:
            async with turns:
                kind = await self._is_world(info.key)
            if kind is not None:
                self._judged[info.ns_id] = kind

        await asyncio.gather(*map(one, infos))
        while len(self._judged) > LISTED_JUDGED_MAX:
            del self._judged[next(iter(self._judged))]

    async def _is_world(self, key: str) -> bool | None:
        """None: nothing was written there yet, or it is gone."""
        ns = Namespace(key)
        try:
            head = await self._store.stat(ns)
            (first,) = await self._store.read(ns, [PageRead(0, head.version)])
        except NotFound:
            return None
        if not first.data:
            return None
        return int.from_bytes(first.data[_APPLICATION_ID_AT], "big") == APPLICATION_ID
