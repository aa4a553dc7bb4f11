"""The one thread underneath all synchronous faces: an event loop, begun with the first face and ended with the last. Room: client.

A call from any thread runs there and is waited for. What was begun before ``fork(2)`` is its parent's, and says so; what is
open when the interpreter ends is closed by ``atexit``.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TypeVar

from gateway import limits

T = TypeVar("T")
Closer = Callable[[], Coroutine[object, object, None]]


class Portal:
    """An event loop in a daemon thread; see :func:`shared`."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.users = 0
        self.closers: dict[object, Closer] = {}
        """What is open, and how it is closed."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="mvgateway-client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._settle())
        finally:
            self._loop.close()

    async def _settle(self) -> None:
        """What is left of tasks ends before the loop does, so that none is destroyed while pending."""
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_asyncgens()

    def check(self) -> None:
        """Raises RuntimeError where nothing could be waited for."""
        if self.pid != os.getpid():
            raise RuntimeError(
                f"this was opened in process {self.pid}, before fork(): its thread and its connection are there; "
                f"open one in process {os.getpid()}"
            )
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "called in the client's own thread, by a callback: it would wait for itself; use gateway.client there"
            )

    def run(self, work: Coroutine[object, object, T], timeout_s: float | None = None) -> T:
        """What ``work`` answers or raises. Raises TimeoutError after ``timeout_s``. Where the wait is interrupted
        (KeyboardInterrupt) the work is cancelled."""
        try:
            self.check()
        except BaseException:
            work.close()
            raise
        asked = asyncio.run_coroutine_threadsafe(_within(work, timeout_s), self._loop)
        try:
            return self._wait(asked)
        except BaseException:
            # Ctrl-C ends the wait, and must end the work with it: nobody takes its answer any more.
            asked.cancel()
            raise

    def _wait(self, asked: concurrent.futures.Future[T]) -> T:
        """Looks now and then whether the thread is still there: it may end, with the interpreter, while we wait."""
        while self._thread.is_alive():
            concurrent.futures.wait([asked], limits.CLIENT_SYNC_LOOK_S)
            if asked.done():
                break
        try:
            return asked.result(0)
        except concurrent.futures.CancelledError:
            raise RuntimeError("it was closed while it was waited for") from None

    def call(self, act: Callable[[], T]) -> T:
        """What ``act`` answers or raises, in the thread underneath."""
        self.check()
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def there() -> None:
            try:
                done.set_result(act())
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(there)
        return self._wait(done)

    def stop(self) -> None:
        """Close what is open, end the thread. Bounded by ``limits.CLIENT_SYNC_CLOSE_S_MAX``."""
        if self._loop.is_closed():
            return
        with suppress(Exception):
            self.run(self._close_all(), limits.CLIENT_SYNC_CLOSE_S_MAX)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(limits.CLIENT_SYNC_CLOSE_S_MAX)

    async def _close_all(self) -> None:
        closers, self.closers = list(self.closers.values()), {}
        await asyncio.gather(*(close() for close in closers), return_exceptions=True)


async def _within(work: Coroutine[object, object, T], timeout_s: float | None) -> T:
    async with asyncio.timeout(timeout_s):
        return await work


class _Shared:
    """The portal of this process, while it has users."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.portal: Portal | None = None


_shared = _Shared()


def shared() -> Portal:
    """The portal, for one more user: give it back by :func:`give_back`."""
    with _shared.lock:
        if _shared.portal is None:
            _shared.portal = Portal()
        _shared.portal.users += 1
        return _shared.portal


def give_back(portal: Portal) -> None:
    """One user less; the last one ends the thread."""
    with _shared.lock:
        portal.users -= 1
        # A child's copy of a portal has no thread to stop.
        if portal.users or portal.pid != os.getpid():
            return
        if _shared.portal is portal:
            _shared.portal = None
    # Outside of the lock: it waits for the thread, which may itself give something back.
    portal.stop()


def _end() -> None:
    with _shared.lock:
        portal, _shared.portal = _shared.portal, None
    if portal is not None:
        portal.stop()


def _forked() -> None:
    """The child has neither the thread nor, for certain, the lock."""
    _shared.lock, _shared.portal = threading.Lock(), None


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
