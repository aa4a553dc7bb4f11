"""Whose turn it is: a lock for the event loop that can also be taken without waiting; and the end of a turn that
a thread has. Room: store."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


async def to_the_end(future: asyncio.Future[T]) -> T:
    """What a thread answers. Who is cancelled waits all the same until the thread is done, however often it is
    cancelled: two threads in one database are the end of the process."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        raise


class Turn:
    """First come, first served; ``async with`` it, or :meth:`take_now` and :meth:`give_back`."""

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def locked(self) -> bool:
        """True while somebody has it."""
        return self._taken

    def take_now(self) -> bool:
        """Take it if it is free; whether it was."""
        if self._taken:
            return False
        self._taken = True
        return True

    def give_back(self) -> None:
        """It is the next one's who waits, or free."""
        while self._waiting:
            following = self._waiting.popleft()
            # It stays taken, and changes hands: nobody who comes in between gets ahead of who waits.
            if not following.done():
                following.set_result(None)
                return
        self._taken = False

    async def __aenter__(self) -> None:
        if self.take_now():
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                # It was handed over in the same moment: it goes on to the next.
                self.give_back()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()
