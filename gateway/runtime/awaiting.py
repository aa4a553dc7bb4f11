"""Who waits for what a world's journal has not written yet. Room: runtime.

Some wait until a mark is durable, or the journal has room; some have to be written together with it. All are told after a
commit, or when there will be none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

import apsw

from gateway.errors import StoreUnavailable
from gateway.runtime.companions import Companion, Companions
from gateway.wire.journal import Batch, order_of

T = TypeVar("T")


class Awaiting:
    """Those who wait for one world's journal. ``wake`` is called when another one does."""

    __slots__ = ("_commits", "_companions", "_waiters", "_wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._companions: list[Companion] = []
        self._commits = 0

    def __bool__(self) -> bool:
        """True while somebody waits."""
        return bool(self._companions or self._waiters)

    async def until(self, holds: Callable[[], bool], patience_s: float) -> bool:
        """Wait until this holds, which is looked at after each commit. False: there was no commit for
        ``patience_s``. Raises what :meth:`fail` and :meth:`close` were given."""
        if holds():
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (holds, waiter)
        self._waiters.append(entry)
        self._wake()
        try:
            # Patience is counted from the newest commit on: a store that is slow but goes on is waited for.
            commits = -1
            while commits != self._commits and not waiter.done():
                commits = self._commits
                await asyncio.wait([waiter], timeout=patience_s)
        finally:
            if entry in self._waiters:
                self._waiters.remove(entry)
        if not waiter.done():
            return False
        waiter.result()
        return True

    async def along(self, order: int, also: Callable[[apsw.Connection], T], timeout_s: float) -> T:
        """Run ``also`` in the transaction that brings the journal to ``order`` (:func:`gateway.wire.journal.order_of`).

        Raises what ``also`` raises, and :class:`StoreUnavailable` where the store does not answer.
        """
        companion = Companion(order, also, asyncio.get_running_loop().create_future())
        self._companions.append(companion)
        self._wake()
        try:
            return cast(T, await asyncio.wait_for(companion.told, timeout_s))
        except TimeoutError:
            raise StoreUnavailable(
                f"the store did not answer within {timeout_s:.0f} s; whether it was done shows when it answers"
            ) from None
        finally:
            self._companions.remove(companion)

    def companions_of(self, batch: Batch) -> Companions:
        """What is to be written together with the batch."""
        if not self._companions or not batch.frames:
            return Companions([])
        reached = max(order_of(frame.epoch, frame.tick) for frame in batch.frames)
        return Companions([one for one in self._companions if one.order <= reached])

    def committed(self) -> None:
        """The store took a batch: whoever has what it waits for goes on."""
        self._commits += 1
        if not self._waiters:
            return
        waiting, self._waiters = self._waiters, []
        for holds, waiter in waiting:
            if waiter.done():
                continue
            if holds():
                waiter.set_result(None)
            else:
                self._waiters.append((holds, waiter))

    def fail(self, error_of: Callable[[], Exception]) -> None:
        """What they wait for will not be written from here: each is told so with an error of its own."""
        waiting, self._waiters = self._waiters, []
        for told in [*(waiter for _, waiter in waiting), *(one.told for one in self._companions)]:
            if not told.done():
                told.set_exception(error_of())

    def close(self, error: Exception) -> None:
        """The world is closed: nobody waits for its journal any more. What was to be written together with it may be under way
        still, and is told when the store answers."""
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)
