"""The pump between a world's rules and its database. Room: runtime.

One commit is in flight; the next one takes everything that came meanwhile. So a fast store
commits every frame, a slow one batches, and the game never waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import apsw

from gateway.core.ports import Mark
from gateway.core.world import World
from gateway.errors import GatewayError, StoreUnavailable
from gateway.runtime.companions import Companion, Companions
from gateway.wire.journal import Batch

log = logging.getLogger("mvgateway.journal")

T = TypeVar("T")
RETRY_S_MIN = 0.05
RETRY_S_MAX = 1.0


class Appends(Protocol):
    """The part of a world's database that the pump needs."""

    async def append(self, batch: Batch, also: Callable[[apsw.Connection], object] | None = None) -> object:
        """Write one batch, and ``also(connection)`` in the same transaction; returned means durable."""


def _now_us() -> int:
    return time.time_ns() // 1_000


class JournalPump:
    """Drives one world's journal and its timers until :meth:`stop`."""

    def __init__(self, world: World, database: Appends) -> None:
        self._world = world
        self._database = database
        self.commits = 0
        self.commit_failures = 0
        self.commit_seconds = 0.0
        self.newest_received_us: int | None = None
        """When the newest committed frame was received (µs since the Unix epoch)."""
        self.is_failing = False
        """True while the newest commit has failed."""
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._waiters: list[tuple[Mark, asyncio.Future[None]]] = []
        self._companions: list[Companion] = []
        world.on_work = self.wake
        self._task = asyncio.get_running_loop().create_task(self._run())
        self.wake()

    def wake(self) -> None:
        """There may be a batch to take, or a timer to set."""
        self._idle.clear()
        self._work.set()
        at = self._world.next_poll
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - time.monotonic()), self._poll)

    def _poll(self) -> None:
        self._timer, self._timer_at = None, None
        self._world.poll(time.monotonic(), _now_us())
        self.wake()

    async def _run(self) -> None:
        pause = RETRY_S_MIN
        while True:
            await self._work.wait()
            self._work.clear()
            while (batch := self._world.take_batch(time.monotonic())) is not None:
                if await self._commit(batch):
                    pause = RETRY_S_MIN
                else:
                    await asyncio.sleep(pause)
                    pause = min(RETRY_S_MAX, pause * 2)
            if not self._work.is_set():
                self._idle.set()

    async def _commit(self, batch: Batch) -> bool:
        started = time.monotonic()
        try:
            due = self._companions_of(batch)
            await self._database.append(batch, due.run if due.members else None)
        except BaseException as error:
            self._world.failed(batch, time.monotonic())
            if not isinstance(error, Exception):
                raise
            self._count_failure(error)
            self.is_failing = True
            return False
        self.is_failing = False
        if batch.frames:
            self.newest_received_us = batch.frames[-1].received_at_us
        self.commits += 1
        self.commit_seconds += time.monotonic() - started
        self._world.committed(batch, time.monotonic())
        self._wake_waiters()
        due.tell()
        return True

    def _companions_of(self, batch: Batch) -> Companions:
        if not self._companions or not batch.frames:
            return Companions([])
        reached = max(frame.epoch << 32 | frame.tick for frame in batch.frames)
        return Companions([one for one in self._companions if one.order <= reached])

    async def along(self, order: int, also: Callable[[apsw.Connection], T], timeout_s: float) -> T:
        """Run ``also`` in the transaction that brings the journal to ``order`` (epoch << 32 | tick).

        Raises what ``also`` raises, and :class:`StoreUnavailable` where the store does not answer.
        """
        companion = Companion(order, also, asyncio.get_running_loop().create_future())
        self._companions.append(companion)
        self.wake()
        try:
            return cast(T, await asyncio.wait_for(companion.told, timeout_s))
        except TimeoutError:
            raise StoreUnavailable(
                f"the store did not answer within {timeout_s:.0f} s; whether it was done shows when it answers"
            ) from None
        finally:
            self._companions.remove(companion)

    def _count_failure(self, error: Exception) -> None:
        self.commit_failures += 1
        if (
            self.commit_failures & (self.commit_failures - 1) == 0
        ):  # the 1st, 2nd, 4th, 8th…: not a line a try
            log.warning(
                "world %s: commit failed (%d so far); the frames wait and it is tried again: %s",
                self._world.name,
                self.commit_failures,
                error,
                exc_info=None if isinstance(error, GatewayError) else error,
            )

    async def until_durable(self, mark: Mark, timeout_s: float) -> None:
        """Wait until everything up to ``mark`` is in the store. Raises :class:`StoreUnavailable`."""
        if self._is_durable(mark):
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((mark, waiter))
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except TimeoutError:
            raise StoreUnavailable(
                f"the store did not confirm tick {mark.tick} within {timeout_s:.0f} s; "
                "the frames were taken and are written as soon as it answers"
            ) from None

    def _is_durable(self, mark: Mark) -> bool:
        durable = self._world.journal.durable
        return durable is not None and (durable.epoch, durable.tick) >= (mark.epoch, mark.tick)

    def _wake_waiters(self) -> None:
        waiting, self._waiters = self._waiters, []
        for mark, waiter in waiting:
            if waiter.done():
                continue
            if self._is_durable(mark):
                waiter.set_result(None)
            else:
                self._waiters.append((mark, waiter))

    async def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is left to commit; False if that took longer than ``timeout_s``."""
        self._world.poll(time.monotonic(), _now_us())
        self.wake()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End. What was not flushed is lost."""
        self._world.on_work = None
        if self._timer is not None:
            self._timer.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for _, waiter in self._waiters:
            waiter.cancel()
