"""The databases of entities that are open: worlds by their host's writer, inventories by our own. Room: runtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager

from gateway.core.entities import Place
from gateway.limits import ENTITY_DATABASES_MAX
from gateway.runtime.entities_database import EntityDatabase
from gateway.runtime.entities_writer import OwnWriter, Writer
from gateway.runtime.host import WorldHost
from gateway.runtime.worlds import Worlds
from gateway.store.base import Store
from gateway.store.database import Database

INVENTORY_PREFIX = "inv~"
"""An inventory's namespace: no world's name has a tilde."""

THREADS = 6
"""Threads for SQLite work on entities: most of their time is the store's."""


class WorldWriter:
    """The one connection by which this gateway writes a world: the journal's."""

    def __init__(self, host: WorldHost) -> None:
        self.host = host

    @property
    def key(self) -> str:
        return self.host.name

    def exclusive(self) -> AbstractAsyncContextManager[Database]:
        """In turn with the journal's commits."""
        return self.host.database.world.exclusive()

    async def close(self) -> None:
        """The world's host closes what it opened."""


class Registry:
    """Opens databases when they are asked for, and closes the least used ones beyond the bound."""

    def __init__(self, store: Store, worlds: Worlds, *, clock_us: Callable[[], int]) -> None:
        self._store = store
        self._worlds = worlds
        self._clock_us = clock_us
        self._open: dict[Place, EntityDatabase] = {}
        self.executor = ThreadPoolExecutor(THREADS, thread_name_prefix="entities")

    async def get(self, place: Place) -> EntityDatabase:
        """The database of ``place``. Raises ``UnknownWorld`` for a world that is not there."""
        host = await self._worlds.host(place.name) if place.kind == "world" else None
        found = self._open.get(place)
        if found is not None and host is not None and found.writer.host is not host:  # type: ignore[attr-defined]
            del self._open[place]
            asyncio.ensure_future(found.close()).add_done_callback(_ignore)
            found = None
        if found is None:
            found = self._open[place] = self._make(place, host)
            self._close_idle()
        found.last_used = time.monotonic()
        return found

    def _make(self, place: Place, host: WorldHost | None) -> EntityDatabase:
        store = self._store.blocking()
        writer: Writer
        if host is not None:
            writer = WorldWriter(host)
        else:
            writer = OwnWriter(store, INVENTORY_PREFIX + place.name, self.executor, create=True)
        return EntityDatabase(store, writer, self.executor, clock_us=self._clock_us)

    def _close_idle(self) -> None:
        if len(self._open) <= ENTITY_DATABASES_MAX:
            return
        idle = [(one.last_used, place) for place, one in self._open.items() if not one.busy]
        if idle:
            gone = self._open.pop(min(idle)[1])
            asyncio.ensure_future(gone.close()).add_done_callback(_ignore)

    @property
    def databases(self) -> dict[Place, EntityDatabase]:
        """What is open."""
        return self._open

    async def aclose(self) -> None:
        """Let all writes end and close everything."""
        closing, self._open = list(self._open.values()), {}
        await asyncio.gather(*(one.close() for one in closing), return_exceptions=True)
        self.executor.shutdown(wait=False)


def _ignore(task: asyncio.Future[None]) -> None:
    task.cancelled() or task.exception()
