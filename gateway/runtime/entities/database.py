"""One database of entities, as the service uses it: grouped writes, snapshots, a feed. Room: runtime."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import apsw

from gateway.errors import GatewayError, Overloaded, ShuttingDown
from gateway.limits import (
    ENTITY_BATCH_BYTES_MAX,
    ENTITY_PAGE_MAX,
    ENTITY_RETRY_S,
    ENTITY_WATCHERS_MAX,
    ENTITY_WRITES_PER_COMMIT_MAX,
    ENTITY_WRITES_WAITING_BYTES_MAX,
    ENTITY_WRITES_WAITING_MAX,
)
from gateway.runtime.entities.feed import ChangeFeed
from gateway.runtime.entities.scan import Scans
from gateway.runtime.entities.writer import EntityWriter, Snapshots, together
from gateway.store.base import BlockingStore
from gateway.store.entities import queries, schema, transfers
from gateway.store.world.identity import Identity
from gateway.wire.entities.values import Change

T = TypeVar("T")
Work = Callable[[apsw.Connection, int], T]
"""``(connection, now_us)``: SQL and nothing else, since it may run again."""


@dataclass(slots=True)
class _Waiting:
    work: Work[Any]
    size_bytes: int
    answer: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Done:
    """What one transaction brought: per work its result or its refusal, and what is new."""

    outcomes: list[object]
    changes: list[Change]
    revision: int


def _nothing() -> None: ...


class EntityDatabase:
    """Made by the registry; ended by :meth:`close`."""

    def __init__(
        self,
        store: BlockingStore,
        writer: EntityWriter,
        executor: Executor,
        *,
        clock_us: Callable[[], int],
        watchers_max: int = ENTITY_WATCHERS_MAX,
    ) -> None:
        self.writer = writer
        self.snapshots = Snapshots(store, writer.key, executor, writer.guard)
        self.feed = ChangeFeed(self.snapshots, watchers_max)
        self.scans = Scans(self.snapshots)
        self.commits = 0
        self.on_gone: Callable[[], None] = _nothing
        """What to do where it turns out that the database was deleted."""
        self.last_used = 0.0
        self._executor = executor
        self._clock_us = clock_us
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def identity(self) -> Identity:
        """What its name meant when it was opened."""
        return self.writer.identity

    @property
    def busy(self) -> bool:
        """True while it may not be closed."""
        return bool(self._waiting) or self._task is not None or self.feed.watched

    async def write(self, work: Work[T], size_bytes: int = 0) -> T:
        """``work`` in a transaction that it may share with others; returned means durable. A
        :class:`GatewayError` that it raises undoes what it did, and nothing else. ``size_bytes``: of
        the states that wait with it. Raises :class:`Overloaded` where too much waits."""
        if self._closed:
            raise ShuttingDown("these entities are being closed; ask again in a second")
        full = self._waiting_bytes + size_bytes > ENTITY_WRITES_WAITING_BYTES_MAX
        if full or len(self._waiting) >= ENTITY_WRITES_WAITING_MAX:
            raise Overloaded(
                f"{len(self._waiting)} writes of {self._waiting_bytes} bytes wait already; the bounds are "
                f"{ENTITY_WRITES_WAITING_MAX} and {ENTITY_WRITES_WAITING_BYTES_MAX}; try again"
            )
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(work, size_bytes, answer))
        self._waiting_bytes += size_bytes
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._commit_all())
        return await answer

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                # Who has gone is not written any more: nobody would learn of it.
                await self._commit([one for one in self._next_group() if not one.answer.done()])
        finally:
            self._task = None
            # Left by a cancelled task: whoever waits must not wait for one that is gone.
            while self._waiting:
                self._waiting.popleft().answer.cancel()
            self._waiting_bytes = 0

    def _next_group(self) -> list[_Waiting]:
        """What goes into the next commit: at least one, at most so many and so much."""
        group: list[_Waiting] = []
        size_bytes = 0
        while self._waiting and len(group) < ENTITY_WRITES_PER_COMMIT_MAX:
            size_bytes += self._waiting[0].size_bytes
            if group and size_bytes > ENTITY_BATCH_BYTES_MAX:
                break
            group.append(self._waiting.popleft())
            self._waiting_bytes -= group[-1].size_bytes
        return group

    async def _commit(self, group: list[_Waiting]) -> None:
        if not group:
            return
        # Before the commit: what others committed since is news as well, and is read in the same
        # transaction.
        known = self.feed.revision
        try:
            done, _ = await together(
                [self.writer],
                lambda connections: self._run(connections[0], [one.work for one in group], known),
                executor=self._executor,
                deadline_s=ENTITY_RETRY_S,
            )
        except BaseException as error:
            for one in group:
                if not one.answer.done():
                    one.answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        self.commits += 1
        self.feed.publish(done.changes, known, done.revision)
        for one, outcome in zip(group, done.outcomes, strict=True):
            if one.answer.done():
                continue
            if isinstance(outcome, GatewayError):
                one.answer.set_exception(outcome)
            else:
                one.answer.set_result(outcome)

    def _run(self, connection: apsw.Connection, works: list[Work[object]], known: int) -> _Done:
        """In a thread, inside the transaction."""
        schema.ensure(connection)
        now_us = self._clock_us()
        # With each write: an offer that has run out holds its entities no longer, whoever notices first.
        transfers.settle(connection, now_us)
        outcomes = [_attempt(connection, work, now_us) for work in works]
        return _Done(outcomes, *news(connection, known))

    def fail(self, error: GatewayError) -> None:
        """The database was deleted: tell those who watch it."""
        self.feed.fail(error)

    async def close(self) -> None:
        """Let the writes that wait end, then close. Idempotent."""
        self._closed = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self.snapshots.close()
        await self.writer.close()


def news(connection: apsw.Connection, known: int) -> tuple[list[Change], int]:
    """(changes since ``known``, the revision up to which they are complete); none where ``known`` < 0."""
    newest = queries.revision(connection)
    if known < 0 or newest <= known:
        return [], newest
    return queries.changes(connection, known, ENTITY_PAGE_MAX)


def _attempt(connection: apsw.Connection, work: Work[T], now_us: int) -> T | GatewayError:
    # One in a transaction of many: what is refused undoes itself alone.
    connection.execute("SAVEPOINT entity_work")
    try:
        result = work(connection, now_us)
    except GatewayError as error:
        connection.execute("ROLLBACK TO entity_work; RELEASE entity_work")
        return error
    connection.execute("RELEASE entity_work")
    return result
