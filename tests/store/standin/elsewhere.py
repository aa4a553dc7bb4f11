"""The stand-in and the gateway's own client of it on a loop of their own, in a thread: for tests that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from gateway.runtime.stores.opening import open_store
from gateway.store.base import BlockingStore
from tests.store.standin.rules import Knobs
from tests.store.standin.server import Served, serving


class Elsewhere:
    """A ``Store`` (each call goes to the other loop) whose :meth:`blocking` face works in any thread. Made by
    :meth:`start`, ended by :meth:`close`."""

    def __init__(self, folder: Path, knobs: Knobs) -> None:
        self._folder, self._knobs = folder, knobs
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="elsewhere")
        self._failure: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop
        self.served: Served
        self._store: Any = None
        self._stop: asyncio.Event

    def start(self) -> Elsewhere:
        """Returns once it can be used."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    async def _run(self) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with serving(self._folder, self._knobs) as self.served:
                self._store = await open_store(self.served.url, admin_url=self.served.admin_url)
                self._ready.set()
                await self._stop.wait()
                await self._store.aclose()
        except BaseException as error:
            self._failure = error
            self._ready.set()
            raise

    def blocking(self) -> BlockingStore:
        """For SQLite's threads, and for tests without a loop."""
        face: BlockingStore = self._store.blocking()
        return face

    def truncate_namespace(self, *args: Any, **more: Any) -> AsyncIterator[str]:
        """As the store's."""
        return self._lines(self._store.truncate_namespace, *args, **more)

    def delete_unreferenced_content(self, *args: Any, **more: Any) -> AsyncIterator[str]:
        """As the store's."""
        return self._lines(self._store.delete_unreferenced_content, *args, **more)

    async def _lines(
        self, begin: Callable[..., AsyncIterator[str]], *args: Any, **more: Any
    ) -> AsyncIterator[str]:
        async def gathered() -> list[str]:
            return [line async for line in begin(*args, **more)]

        for line in await self._there(gathered()):
            yield line

    async def advance(self, seconds: float) -> None:
        """Let so much time pass on the stand-in's clock."""
        await self._there(self.served.standin.advance(seconds))

    async def _there(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def there(*args: Any, **more: Any) -> Any:
            return await self._there(found(*args, **more))

        return there

    def close(self) -> None:
        """Returns once it is over. Idempotent."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    async def aclose(self) -> None:
        """The same from a loop."""
        await asyncio.to_thread(self.close)
