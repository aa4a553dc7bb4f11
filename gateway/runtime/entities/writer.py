"""Transactions on entity databases from the event loop: alone, or over two at once. Room: runtime.

A :class:`EntityWriter` has the one connection by which this gateway writes a database, and lets nobody
else near it meanwhile. Work on SQLite runs in threads; coroutines wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol, TypeVar

import apsw

from gateway.errors import NoNamespace, WorldDeleted
from gateway.store.base import BlockingStore, Namespace, Version
from gateway.store.database import Database, transact_together
from gateway.store.entities import schema
from gateway.store.world import naming
from gateway.store.world.identity import Guard, Identity
from gateway.store.world.maintenance import Written
from gateway.store.world.soundness import check_writable
from gateway.store.world.turns import to_the_end

T = TypeVar("T")


class ReadAt(Protocol):
    """``fn(connection)`` in a thread; ``empty`` where there is nothing to read."""

    async def __call__(self, fn: Callable[[apsw.Connection], T], empty: T) -> T: ...


class EntityWriter(Protocol):
    """The right to write one database."""

    @property
    def key(self) -> str:
        """The database's namespace."""

    @property
    def identity(self) -> Identity:
        """What its name meant when it was opened."""

    @property
    def guard(self) -> Guard | Presence:
        """What tells that it is still the same."""

    def exclusive(self) -> AbstractAsyncContextManager[Database]:
        """The database, while nothing else uses its connection."""

    async def close(self) -> None: ...


class Presence:
    """The guard of a database that holds nothing but entities: once it was there, it must not be missing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_made = False
        self._has_tables = False

    def __call__(self, connection: apsw.Connection) -> None:
        """Raises ``WorldDeleted`` where there is nothing of what was there."""
        has_tables = schema.is_there(connection)
        # Not by NoNamespace alone: a namespace that was made again is there, and empty.
        if self._has_tables and not has_tables:
            raise self.gone()
        self._has_tables = has_tables

    def gone(self) -> WorldDeleted:
        """The error of who still works on it."""
        error = WorldDeleted(f"{self.name} was deleted meanwhile; ask again")
        error.source = self
        return error

    def of(self, error: BaseException) -> BaseException:
        """What an error of the store means."""
        return self.gone() if self.is_made and isinstance(error, NoNamespace) else error


class OwnWriter:
    """A connection of our own: for inventories, whose databases hold nothing else, and which are made with
    their first write. ``identity``: what its name was expected to mean. ``written`` counts its commits."""

    def __init__(
        self,
        store: BlockingStore,
        identity: Identity,
        executor: Executor,
        *,
        clock_us: Callable[[], int],
        written: Written,
    ) -> None:
        self.identity = identity
        self.guard = Presence(identity.name)
        self._database = Database.open(store, Namespace(identity.key))
        self._database.guard, self._database.meaning = self._look, self.guard.of
        self._database.pages.on_committed = written.committed
        self._store = store
        self._clock_us = clock_us
        self._executor = executor
        self._lock = asyncio.Lock()

    @property
    def key(self) -> str:
        return self.identity.key

    def _look(self, connection: apsw.Connection) -> None:
        self.guard(connection)
        check_writable(connection)

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[Database]:
        async with self._lock:
            if not self.guard.is_made:
                await in_thread(self._executor, self._make)
            yield self._database

    def _make(self) -> None:
        """Raises ``WorldDeleted`` where the name has come to mean another meanwhile."""
        now_us = self._clock_us()
        # With the first write and not before: a look at an inventory must not make one.
        claimed = naming.claim(self._store, self.identity.name, now_us)
        if claimed.key != self.key or not naming.confirm(self._store, claimed, now_us):
            raise self.guard.gone()
        self.identity, self.guard.is_made = claimed, True

    async def close(self) -> None:
        async with self._lock:
            await in_thread(self._executor, self._database.close)


async def in_thread(executor: Executor, fn: Callable[[], T]) -> T:
    """``fn()`` in a thread; a cancelled caller still waits until the thread is done with it."""
    future = asyncio.get_running_loop().run_in_executor(executor, fn)
    return await to_the_end(future)


async def together(
    writers: Sequence[EntityWriter],
    fn: Callable[[Sequence[apsw.Connection]], T],
    *,
    executor: Executor,
    deadline_s: float,
) -> tuple[T, Version]:
    """``fn(connections)`` and one commit over all; the connections in the order of ``writers``.

    Databases are taken in the order of their keys, so two of these never wait for each other.
    Answers (what ``fn`` answered, the version committed at). Raises as ``Database.transact``.
    """
    async with AsyncExitStack() as stack:
        taken = {
            writer.key: await stack.enter_async_context(writer.exclusive())
            # A lock's classic order: two trades between the same two, one each way, would else hold one
            # each and wait for ever.
            for writer in sorted(writers, key=lambda writer: writer.key)
        }
        databases = [taken[writer.key] for writer in writers]

        def run() -> tuple[T, Version]:
            for database in databases:
                database.renew()  # no answer is given from an old snapshot
                database.deadline_s = deadline_s
            result = transact_together(databases, fn)
            return result, databases[0].version or ""

        return await in_thread(executor, run)


class Snapshots:
    """Reads of one database: at its head by a connection that is kept, or at a version."""

    def __init__(
        self, store: BlockingStore, key: str, executor: Executor, guard: Guard | Presence | None = None
    ) -> None:
        self._store = store
        self._key = key
        self._executor = executor
        self._database = Database.open(store, Namespace(key), read_only=True)
        if guard is not None:
            self._database.guard, self._database.meaning = guard, guard.of
        self._lock = asyncio.Lock()

    async def read(self, fn: Callable[[apsw.Connection], T], empty: T, at: Version | None = None) -> T:
        """``fn(connection)`` on one snapshot; ``empty`` where the namespace was never written."""
        if at is None:
            return (await self.read_head(fn, empty))[0]
        async with self.at(at) as read:
            return await read(fn, empty)

    async def read_head(self, fn: Callable[[apsw.Connection], T], empty: T) -> tuple[T, Version | None]:
        """(``fn(connection)`` at the head, which version that was)."""

        def run() -> tuple[T, Version | None]:
            return _read(self._database, fn, empty), self._database.version

        async with self._lock:
            return await in_thread(self._executor, run)

    @asynccontextmanager
    async def at(self, version: Version) -> AsyncIterator[ReadAt]:
        """Several reads at one version, by a connection of their own."""
        # Its own, as the head's connection moves on with each read.
        database = Database.open(self._store, Namespace(self._key), version=version)

        async def read(fn: Callable[[apsw.Connection], T], empty: T) -> T:
            return await in_thread(self._executor, lambda: _read(database, fn, empty))

        try:
            yield read
        finally:
            await in_thread(self._executor, database.close)

    async def close(self) -> None:
        async with self._lock:
            await in_thread(self._executor, self._database.close)


def _read(database: Database, fn: Callable[[apsw.Connection], T], empty: T) -> T:
    try:
        return database.read(fn)
    except NoNamespace:
        return empty
