"""The databases of entities that are open: worlds by their host's writer, inventories by our own. Room: runtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import partial

from gateway.core.entities import EntityPlace
from gateway.errors import WorldDeleted
from gateway.limits import ENTITY_DATABASES_MAX, ENTITY_THREADS
from gateway.runtime.entities.database import EntityDatabase
from gateway.runtime.entities.upkeep import InventoryUpkeep
from gateway.runtime.entities.writer import EntityWriter, OwnWriter, in_thread
from gateway.runtime.host import WorldHost
from gateway.runtime.worlds import HostedWorlds
from gateway.store.base import Store
from gateway.store.database import Database
from gateway.store.world import naming, retiring
from gateway.store.world.identity import Guard, Identity

INVENTORY_PREFIX = "inv~"
"""An inventory's namespace: no world's name has a tilde."""


class WorldWriter:
    """The one connection by which this gateway writes a world: the journal's."""

    def __init__(self, host: WorldHost) -> None:
        self.host = host

    @property
    def key(self) -> str:
        return self.host.identity.key

    @property
    def identity(self) -> Identity:
        return self.host.identity

    @property
    def guard(self) -> Guard:
        return self.host.guard

    def exclusive(self) -> AbstractAsyncContextManager[Database]:
        """In turn with the journal's commits."""
        return self.host.database.world.exclusive()

    async def close(self) -> None:
        """The world's host closes what it opened."""


class EntityRegistry:
    """Opens databases when they are asked for, and closes the least used ones beyond the bound."""

    def __init__(self, store: Store, worlds: HostedWorlds, *, clock_us: Callable[[], int]) -> None:
        self._store = store
        self._worlds = worlds
        self._clock_us = clock_us
        self._open: dict[EntityPlace, EntityDatabase] = {}
        self.executor = ThreadPoolExecutor(ENTITY_THREADS, thread_name_prefix="entities")
        self._settling: dict[EntityPlace, asyncio.Future[None]] = {}
        self.upkeep = InventoryUpkeep(store, clock_us)
        worlds.kept.append(lambda: self._open.values())
        worlds.on_gone.append(self._world_gone)

    async def get(self, place: EntityPlace) -> EntityDatabase:
        """The database of ``place``. Raises ``UnknownWorld`` for a world that is not there."""
        host = await self._worlds.host(place.name) if place.kind == "world" else None
        found = self._open.get(place)
        # The world was closed and opened again, perhaps as another: its old connection is not written by.
        if found is not None and host is not None and found.writer.guard is not host.guard:
            self._drop(place, found)
            found = None
        if found is None:
            writer = WorldWriter(host) if host is not None else await self._own_writer(place)
            # Looked up again: another may have opened it while this one waited, and two writers of one
            # database would run into each other.
            found = self._open.get(place) or self._make(place, writer)
            self._close_idle()
        found.last_used = time.monotonic()
        return found

    async def _own_writer(self, place: EntityPlace) -> OwnWriter:
        if place in self._settling:
            # wait(): who gives up must not cancel what everybody waits for.
            await asyncio.wait([self._settling[place]])
        store, name = self._store.blocking(), INVENTORY_PREFIX + place.name
        identity = await in_thread(self.executor, lambda: naming.expected(store, name))
        written = self.upkeep.written(identity.key)
        return OwnWriter(store, identity, self.executor, clock_us=self._clock_us, written=written)

    def _make(self, place: EntityPlace, writer: EntityWriter) -> EntityDatabase:
        made = EntityDatabase(
            self._store.blocking(),
            writer,
            self.executor,
            clock_us=self._clock_us,
            watchers_max=self._worlds.settings.watchers_per_world_max,
        )
        made.on_gone = partial(self._gone, place, made)
        self._open[place] = made
        self._worlds.keeper.begin()
        return made

    # --- deleted meanwhile -------------------------------------------------------------------

    def gone_by(self, error: WorldDeleted) -> None:
        """Let go of what has raised this, so that the next who asks finds what its name means now."""
        self._worlds.gone_by(error)
        for place, found in list(self._open.items()):
            if found.writer.guard is error.source:
                self._gone(place, found)

    def _gone(self, place: EntityPlace, found: EntityDatabase) -> None:
        if isinstance(found.writer, WorldWriter):
            self._worlds.gone(found.writer.host)
        if self._open.get(place) is found:
            self._drop(place, found)
            self._settle(place, found)

    def _world_gone(self, host: WorldHost) -> None:
        place = EntityPlace("world", host.name)
        found = self._open.get(place)
        if found is not None and found.writer.guard is host.guard:
            found.fail(host.guard.gone())
            self._drop(place, found)

    def _settle(self, place: EntityPlace, found: EntityDatabase) -> None:
        """An inventory that is not there any more gets another namespace with its next write."""
        if isinstance(found.writer, OwnWriter):
            found.fail(found.writer.guard.gone())
            store, identity = self._store.blocking(), found.identity
            work = in_thread(self.executor, lambda: retiring.settle(store, identity, self._clock_us()))
            task = self._settling[place] = asyncio.ensure_future(work)
            task.add_done_callback(_ignore)
            task.add_done_callback(lambda _: self._settling.pop(place, None))

    def _drop(self, place: EntityPlace, found: EntityDatabase) -> None:
        del self._open[place]
        asyncio.ensure_future(found.close()).add_done_callback(_ignore)

    def _close_idle(self) -> None:
        if len(self._open) <= ENTITY_DATABASES_MAX:
            return
        # With none idle the bound is passed: to close one that is watched would end sessions for a bound of
        # memory.
        idle = [(one.last_used, place) for place, one in self._open.items() if not one.busy]
        if idle:
            gone = self._open.pop(min(idle)[1])
            asyncio.ensure_future(gone.close()).add_done_callback(_ignore)

    @property
    def databases(self) -> dict[EntityPlace, EntityDatabase]:
        """What is open."""
        return self._open

    async def aclose(self) -> None:
        """Let all writes end and close everything."""
        await self.upkeep.aclose()
        closing, self._open = list(self._open.values()), {}
        await asyncio.gather(*(one.close() for one in closing), return_exceptions=True)
        self.executor.shutdown(wait=False)


def _ignore(task: asyncio.Future[None]) -> None:
    task.cancelled() or task.exception()
