"""The engine's part that deals with namespaces themselves: locks, names, overlays, what is removed. Room: store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeVar

from gateway.errors import Gone
from gateway.store.base import Namespace, NamespaceInfo, OverlayBase, Version
from gateway.store.embedded import admin, sweep, versions
from gateway.store.embedded.jobs import Job
from gateway.store.embedded.namespaces import NsState, Registry, load
from gateway.store.embedded.pool import ConnectionPool
from gateway.store.embedded.sql import ask
from gateway.store.embedded.transaction import WriteTxn
from gateway.store.embedded.writer import Writer

T = TypeVar("T")


class Administration(ABC):
    """Mixed into :class:`gateway.store.embedded.engine.Engine`, which has what is declared here."""

    pool: ConnectionPool
    registry: Registry
    writer: Writer
    steps: sweep.PacedSteps
    clock: Callable[[], float]
    content_grace_s: int

    @abstractmethod
    def _state(self, ns: Namespace) -> NsState: ...

    def lock(self, ns: Namespace, owner: str, version: Version | None = None) -> None:
        """Acquire the namespace lock (idempotent for the same owner)."""
        key = self._state(ns).key
        at = None if version is None else versions.parse(version)
        self._alone(lambda txn: admin.acquire(txn, key, owner, at))

    def unlock(self, ns: Namespace, owner: str, *, rollback: bool) -> None:
        """Release it; with ``rollback`` every version above its snapshot is removed first."""
        key = self._state(ns).key
        if not rollback:
            self._alone(lambda txn: admin.release(txn, key, owner))
            return
        rid, nonce, snapshot = self._alone(lambda txn: admin.begin_rollback(txn, key, owner))
        for rows in sweep.newer(self.pool, rid, snapshot):
            # In steps between others' commits. The lock keeps those away from this namespace, and is looked
            # at after each step.
            self.steps.pages(rid, rows)
            self._check_still_locked(key, nonce)
        self._alone(lambda txn: admin.finish_rollback(txn, key, nonce, snapshot))

    def create_namespace(self, key: str, overlay_base: OverlayBase | None = None) -> None:
        """``Unprocessable`` if it exists; ``Conflict`` if the base is truncated beyond or locked."""
        admin.check_key(key)
        self._alone(lambda txn: admin.create(txn, key, overlay_base))

    def rename_namespace(self, old_key: str, new_key: str) -> None:
        """``NotFound``; ``Unprocessable`` if the new key is taken."""
        admin.check_key(new_key)
        self._alone(lambda txn: admin.rename(txn, old_key, new_key))

    def delete_namespace(self, key: str) -> None:
        """Gone at once; its rows are removed in the background. ``Conflict`` with overlays on it."""
        self._alone(lambda txn: admin.delete(txn, key))

    def list_namespaces(self, prefix: str = "") -> list[NamespaceInfo]:
        """Every namespace whose key begins so, in key order."""
        with self.pool.snapshot() as cursor:
            # Not LIKE: `%` and `_` are letters of keys, and it takes no notice of case. From the prefix on,
            # so that the index of keys is not read from its beginning.
            query = "SELECT key FROM ns WHERE key >= ? AND substr(key, 1, ?) = ? ORDER BY key"
            keys = [key for (key,) in ask(cursor, query, (prefix, len(prefix), prefix))]
            return [state.info() for state in (load(cursor, key) for key in keys) if state is not None]

    def namespace_info(self, key: str) -> NamespaceInfo:
        """One namespace; no proof is asked, as the admin API asks none."""
        return self.registry.require(key).info()

    def truncate_namespace(self, key: str, before_version: Version, *, apply: bool = True) -> Iterator[str]:
        """Remove versions that nobody can read below the mark; yields the running count."""
        before, total = versions.parse(before_version), 0
        mark_it = admin.mark_truncated if apply else admin.would_truncate
        rid, mark = self._alone(lambda txn: mark_it(txn, key, before))
        for rows in sweep.superseded(self.pool, rid, mark):
            total += self.steps.pages(rid, rows) if apply else len(rows)
            yield str(total)
        if apply:
            self.steps.run(sweep.drop_log(rid, mark))

    def delete_unreferenced_content(self, key: str, *, apply: bool = True) -> Iterator[str]:
        """Remove content that no page version refers to, what was written ahead only after the grace;
        yields the running count."""
        rid, total = self.registry.require(key).rid, 0
        before = int(self.clock()) - self.content_grace_s
        if not apply:
            yield str(sweep.count_loose(self.pool, rid, before))
            return
        while count := self.steps.run(sweep.collect(rid, before)):
            total += count
            yield str(total)

    def _alone(self, apply: Callable[[WriteTxn], T]) -> T:
        return self.writer.run(Job(apply, alone=True))

    def _check_still_locked(self, key: str, nonce: str) -> None:
        state = self.registry.find(key)
        if state is None or state.lock is None or state.lock.nonce != nonce:
            raise Gone(f"the lock of {key!r:.200} is gone")
