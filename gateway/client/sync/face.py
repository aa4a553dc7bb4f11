"""What the synchronous faces share: opening, closing, waiting, and iterating with a time-out. Room: client."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Concatenate, Generic, ParamSpec, Self, TypeVar

from gateway import limits
from gateway.client.sync.portal import Portal, give_back, shared

P = ParamSpec("P")
T = TypeVar("T")
End = TypeVar("End")


class Face(Generic[End]):
    """One client of ``gateway.client`` that is used without ``await``, from any thread. A context manager; a method blocks
    until the answer is there, and raises what the awaited one does. Use after :meth:`close` is a RuntimeError."""

    def __init__(self, make: Callable[[], End]) -> None:
        """``make`` builds the end; what it raises is raised here, and nothing is left."""
        self._portal: Portal | None = shared()
        try:
            self._end = self._portal.call(make)
            self._portal.closers[self] = self._aclose
        except BaseException:
            self._let_go()
            raise

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def open(self) -> None:
        """Connect, where the end has a connection that stays."""

    def close(self) -> None:
        """End it. Idempotent; who waits in another thread is told."""
        portal = self._portal
        if portal is None:
            return
        # Before the end is closed: who calls meanwhile is told that it is closed, and does not wait.
        self._portal = None
        try:
            # After a fork the thread is the parent's: nobody would answer.
            if portal.closers.pop(self, None) is not None and not _is_strange(portal):
                portal.run(self._aclose(), limits.CLIENT_SYNC_CLOSE_S_MAX)
        finally:
            give_back(portal)

    async def _aclose(self) -> None:
        raise NotImplementedError

    def _let_go(self) -> None:
        portal, self._portal = self._portal, None
        if portal is not None:
            portal.closers.pop(self, None)
            give_back(portal)

    def _on(self) -> Portal:
        if self._portal is None:
            raise RuntimeError(f"this {type(self).__name__} is closed")
        return self._portal

    def _run(self, work: Coroutine[object, object, T], timeout_s: float | None = None) -> T:
        try:
            portal = self._on()
        except RuntimeError:
            # It will never run; without this Python warns about it.
            work.close()
            raise
        return portal.run(work, timeout_s)

    def _call(self, act: Callable[[], T]) -> T:
        return self._on().call(act)


def _is_strange(portal: Portal) -> bool:
    """Whether it belongs to the process that this one was forked from."""
    try:
        portal.check()
    except RuntimeError:
        return True
    return False


def waits(
    method: Callable[Concatenate[End, P], Coroutine[object, object, T]],
) -> Callable[Concatenate[Face[End], P], T]:
    """A method of a face that blocks until the end's own has its answer."""

    @functools.wraps(method)
    def blocking(self: Face[End], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(method(self._end, *args, **kwargs))

    return blocking


def gives(
    face: Face[End], make: Callable[[], AsyncIterator[T]], timeout_s: float | None = None
) -> Iterator[T]:
    """The items of an awaited iterator; the iteration ends where none comes for ``timeout_s`` (None: never for that)."""
    queue: asyncio.Queue[tuple[T | None, BaseException | None]] = asyncio.Queue(
        limits.CLIENT_SYNC_WAITING_MAX
    )

    async def pump() -> None:
        try:
            async for item in make():
                await queue.put((item, None))
            await queue.put((None, StopAsyncIteration()))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            await queue.put((None, error))

    async def begin() -> asyncio.Task[None]:
        return asyncio.ensure_future(pump())

    async def end(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    portal = face._on()
    task = portal.run(begin())
    try:
        while True:
            try:
                item, error = face._run(queue.get(), timeout_s)
            except TimeoutError:
                return
            if isinstance(error, StopAsyncIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # no error: it is an item
    finally:
        if not _is_strange(portal) and not task.done():
            portal.run(end(task), limits.CLIENT_SYNC_CLOSE_S_MAX)
