"""A store of the event loop, for SQLite's threads. Room: store."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine, Sequence
from typing import TypeVar

from gateway.errors import GatewayError, StoreUnavailable
from gateway.store.base import (
    CommitRequest,
    Committed,
    Namespace,
    NamespaceInfo,
    OverlayBase,
    PageContent,
    PageRead,
    Stat,
    Store,
    TimeBounds,
    Version,
)

T = TypeVar("T")


class BlockingBridge:
    """Each call runs on ``loop`` while the calling thread waits. Thread-safe; not for the loop's own
    thread. Raises what the store raises, and :class:`StoreUnavailable` once the loop is gone."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self.traits = store.traits

    def _wait(self, work: Coroutine[object, object, T]) -> T:
        try:
            if _running_loop() is self._loop:
                raise GatewayError("a blocking call on the event loop's own thread would wait for itself")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except (RuntimeError, GatewayError) as error:
            # A coroutine that is never awaited warns about it when it is collected.
            work.close()
            if isinstance(error, GatewayError):
                raise
            raise StoreUnavailable(f"the store was closed before a request: {error}") from error
        while True:
            try:
                # In steps: a loop that was closed never resolves it, and this thread would wait for ever.
                return future.result(timeout=1.0)
            except concurrent.futures.CancelledError as error:
                raise StoreUnavailable("the store was closed under a request") from error
            except TimeoutError:
                # The store's own TimeoutError is of the same class as the wait's (since Python 3.11): a future
                # that is done says whose it is.
                if future.done():
                    raise
                if self._loop.is_closed():
                    raise StoreUnavailable("the event loop was closed under a request") from None

    def stat(
        self, ns: Namespace, *, from_version: Version | None = None, lock_owner: str | None = None
    ) -> Stat:
        """As :meth:`Store.stat`."""
        return self._wait(self._store.stat(ns, from_version=from_version, lock_owner=lock_owner))

    def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        """As :meth:`Store.read`."""
        return self._wait(self._store.read(ns, reads))

    def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        """As :meth:`Store.write`."""
        return self._wait(self._store.write(ns, pages))

    def commit(self, request: CommitRequest) -> Committed:
        """As :meth:`Store.commit`."""
        return self._wait(self._store.commit(request))

    def time2version(self, t: int) -> TimeBounds:
        """As :meth:`Store.time2version`."""
        return self._wait(self._store.time2version(t))

    def create_namespace(self, key: str, overlay_base: OverlayBase | None = None) -> None:
        """As :meth:`Store.create_namespace`."""
        self._wait(self._store.create_namespace(key, overlay_base))

    def rename_namespace(self, old_key: str, new_key: str) -> None:
        """As :meth:`Store.rename_namespace`."""
        self._wait(self._store.rename_namespace(old_key, new_key))

    def delete_namespace(self, key: str) -> None:
        """As :meth:`Store.delete_namespace`."""
        self._wait(self._store.delete_namespace(key))

    def list_namespaces(self, prefix: str = "") -> list[NamespaceInfo]:
        """As :meth:`Store.list_namespaces`."""
        return self._wait(self._store.list_namespaces(prefix))

    def namespace_info(self, key: str) -> NamespaceInfo:
        """As :meth:`Store.namespace_info`."""
        return self._wait(self._store.namespace_info(key))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
