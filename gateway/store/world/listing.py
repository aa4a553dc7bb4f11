"""Which namespaces of a store are worlds. Room: store.

A store may hold other databases of mvSQLite clients, whose names may look like a world's. What a
namespace is stands in the SQLite header of its first page, read once: a database does not change its kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from gateway.errors import GatewayError, NotFound, StoreUnavailable
from gateway.limits import LISTED_AT_ONCE, LISTED_JUDGED_MAX
from gateway.store.base import Namespace, NamespaceInfo, PageRead, Store
from gateway.store.world import catalogue
from gateway.store.world.catalogue import key_of
from gateway.store.world.schema import is_worlds_page
from gateway.wire.names import is_world_name


class WorldNames:
    """The worlds of one store. Remembers by namespace id what was looked at."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._judged: dict[str, bool] = {}
        self.errors: dict[str, str] = {}
        """What is wrong with worlds that could not be looked at, by name: of the newest list."""

    async def all(self, known: Iterable[str] = ()) -> list[str]:
        """The names of all worlds, in order, ``known`` ones among them without a look. Of namespaces never
        looked at it takes ``LISTED_JUDGED_MAX`` in hand; those beyond are listed by their names alone, and
        so is one that cannot be read (:attr:`errors`)."""
        names = set(known)
        errors: dict[str, str] = {}
        found = await self._named()
        unknown = {
            name: info for name, info in found.items() if name not in names and info.ns_id not in self._judged
        }
        looked_at = dict(list(unknown.items())[:LISTED_JUDGED_MAX])
        await self._judge(looked_at, errors)
        # Too many to be looked at now. Listed rather than left out: who looks for a world would take it for
        # lost.
        names.update(unknown.keys() - looked_at.keys())
        names.update(name for name, info in found.items() if self._judged.get(info.ns_id))
        while len(self._judged) > LISTED_JUDGED_MAX:  # only now: those that go are of this list, too
            del self._judged[next(iter(self._judged))]
        self.errors = errors
        return sorted(names | errors.keys())

    async def _named(self) -> dict[str, NamespaceInfo]:
        """The namespaces that names mean. A key that its name does not mean any more is nobody's."""
        # First the names and then the keys: what is made in between is missing for once, and never listed
        # under a key of its own.
        entries = await asyncio.to_thread(catalogue.entries, self._store.blocking())
        by_key = {info.key: info for info in await self._store.list_namespaces()}
        keys = {name: name for name in by_key if name not in entries}
        keys |= {
            name: key_of(name, row.generation) for name, row in entries.items() if row.state != "deleted"
        }
        return {name: by_key[key] for name, key in keys.items() if is_world_name(name) and key in by_key}

    async def _judge(self, infos: Mapping[str, NamespaceInfo], errors: dict[str, str]) -> None:
        turns = asyncio.Semaphore(LISTED_AT_ONCE)
        away: list[StoreUnavailable] = []

        async def one(name: str, info: NamespaceInfo) -> None:
            async with turns:
                try:
                    # The store is away: the others would wait for the same silence, one after the other.
                    if away:
                        raise away[0]
                    kind = await self._is_world(info.key)
                except GatewayError as error:
                    errors[name] = error.message
                    if isinstance(error, StoreUnavailable):
                        away.append(error)
                    return
            if kind is not None:
                self._judged[info.ns_id] = kind

        await asyncio.gather(*(one(name, info) for name, info in infos.items()))

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
        return is_worlds_page(first.data)
