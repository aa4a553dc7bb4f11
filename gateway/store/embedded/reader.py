"""A store folder opened for reading alone: no lock, no thread, no write. Room: store.

For whoever recovers: the folder may lie on a failing disk mounted read-only, may be in use by a
gateway, or its gateway may have been killed. What is answered is one moment of the store, the newest
when it was opened; where a running gateway's writer has gone past it, a newer one. With ``follows`` the head
is never older than a second. Source: https://sqlite.org/wal.html.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import ClassVar, NoReturn, TypeVar

import apsw

from gateway.errors import ConfigError, Forbidden
from gateway.limits import STORE_FOLLOW_S, STORE_SNAPSHOTS_MAX
from gateway.store.base import (
    CommitRequest,
    Committed,
    Namespace,
    NamespaceInfo,
    OverlayBase,
    PageContent,
    PageRead,
    Stat,
    TimeBounds,
    Traits,
    Version,
)
from gateway.store.embedded import reading, schema, versions
from gateway.store.embedded.failures import translate
from gateway.store.embedded.folder import IN_FOLDER
from gateway.store.embedded.namespaces import NsState, check_proof, load, not_found
from gateway.store.embedded.snapshot import FileSnapshot, Moved
from gateway.store.embedded.sql import ask

T = TypeVar("T")


class ReadOnly(Forbidden):
    """The store was opened for reading alone."""

    code = "read_only"
    title = "Read-only"


class FolderReader:
    """A :class:`gateway.store.base.AdministeredStore` that answers questions. :meth:`close` it.

    Raises :class:`ConfigError` where there is no store, or none that may be read.
    """

    traits: ClassVar[Traits] = IN_FOLDER

    def __init__(self, folder: Path | str, *, follows: bool = False) -> None:
        self._follows = follows
        self._opened_at = 0.0
        self.folder = Path(folder).absolute()
        self.path = self.folder / schema.FILE_NAME
        self._lock = threading.Lock()
        self._snapshot: FileSnapshot | None = None
        self.moved = 0
        """How often the writer has gone past the moment that was being read."""
        if not self.path.is_file():
            raise ConfigError(
                f"there is no store in {Path(folder).absolute()}: {schema.FILE_NAME} is missing; name its folder with --store"
            )
        # Here, so that what is no store is told when it is opened and not at the first question.
        self._ask(lambda cursor: schema.verify(cursor.connection, self.path))

    # --- questions -------------------------------------------------------------------------

    def stat(
        self, ns: Namespace, *, from_version: Version | None = None, lock_owner: str | None = None
    ) -> Stat:
        """The head (with a lock on it: the lock's snapshot), and what changed since ``from_version``."""
        if lock_owner:
            self._refuse("nobody holds a lock")

        def question(cursor: apsw.Cursor) -> Stat:
            state = _state(cursor, ns)
            head = state.head if state.lock is None else versions.parse(state.lock.snapshot_version)
            if not from_version:
                return Stat(versions.text(head), read_only=True)
            after = versions.parse(from_version)
            changed = reading.interval(cursor, state.rid, after, head, inclusive=True)
            return Stat(versions.text(head), read_only=True, interval=changed)

        return self._ask(question, newest=self._follows)

    def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        """The pages, in request order."""

        def question(cursor: apsw.Cursor) -> list[PageContent]:
            state = _state(cursor, ns)
            reading.check_mark(state, reads)
            return reading.read_with(cursor, state, reads)

        return self._ask(question)

    def time2version(self, t: int) -> TimeBounds:
        """The time keeper's points around ``t`` (Unix seconds; 0: the newest one)."""
        return self._ask(lambda cursor: reading.bounds_with(cursor, t or versions.TOP))

    def list_namespaces(self, prefix: str = "") -> list[NamespaceInfo]:
        """Every namespace whose key begins so, in key order."""

        def question(cursor: apsw.Cursor) -> list[NamespaceInfo]:
            query = "SELECT key FROM ns WHERE key >= ? AND substr(key, 1, ?) = ? ORDER BY key"
            keys = [key for (key,) in ask(cursor, query, (prefix, len(prefix), prefix))]
            return [state.info() for key in keys if (state := load(cursor, key)) is not None]

        return self._ask(question)

    def namespace_info(self, key: str) -> NamespaceInfo:
        """One namespace's id, lock, overlay base and truncation mark."""
        return self._ask(lambda cursor: _state(cursor, Namespace(key), proven=True).info())

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._drop()

    # --- what is not done here -------------------------------------------------------------

    def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        """Raises :class:`ReadOnly`."""
        self._refuse("content is not written")

    def commit(self, request: CommitRequest) -> Committed:
        """Raises :class:`ReadOnly`."""
        self._refuse("nothing is committed")

    def create_namespace(self, key: str, overlay_base: OverlayBase | None = None) -> None:
        """Raises :class:`ReadOnly`."""
        self._refuse("no namespace is made")

    def rename_namespace(self, old_key: str, new_key: str) -> None:
        """Raises :class:`ReadOnly`."""
        self._refuse("no namespace is renamed")

    def delete_namespace(self, key: str) -> None:
        """Raises :class:`ReadOnly`."""
        self._refuse("no namespace is deleted")

    def _refuse(self, what: str) -> NoReturn:
        raise ReadOnly(f"{what} in {self.folder}: it is open for reading alone")

    # --- inside ----------------------------------------------------------------------------

    def _ask(self, question: Callable[[apsw.Cursor], T], *, newest: bool = False) -> T:
        """What ``question`` answers on one moment; asked again on a newer one if that has passed. ``newest``: the
        moment is no older than ``STORE_FOLLOW_S``."""
        with self._lock:
            if newest and time.monotonic() - self._opened_at > STORE_FOLLOW_S:
                self._drop()
            for _ in range(STORE_SNAPSHOTS_MAX):
                try:
                    return self._asked(question)
                except Moved as error:
                    moved = error
                    self.moved += 1
                    self._drop()
            raise moved

    def _asked(self, question: Callable[[apsw.Cursor], T]) -> T:
        try:
            if self._snapshot is None:
                self._opened_at = time.monotonic()
                self._snapshot = FileSnapshot(self.path)
            cursor = self._snapshot.connection.cursor()
            try:
                return question(cursor)
            finally:
                cursor.close(True)
        except apsw.Error as error:
            # First: a page torn by a checkpoint looks to SQLite like damage, and must not be told as such.
            self._check_moment()
            self._drop()
            raise translate(error, self.path) from error
        except OSError as error:
            self._drop()
            raise ConfigError(f"{self.path} cannot be read: {error.strerror}") from error

    def _check_moment(self) -> None:
        """SQLite passes on that a read failed, not why: raise :class:`Moved` if it was that."""
        if self._snapshot is not None:
            self._snapshot.check()

    def _drop(self) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()


def _state(cursor: apsw.Cursor, ns: Namespace, *, proven: bool = False) -> NsState:
    if not proven:
        check_proof(ns)
    state = load(cursor, ns.key)
    if state is None:
        raise not_found(ns.key)
    return state


class ReadOnlyStore:
    """The awaited face of :class:`FolderReader`: a :class:`gateway.store.base.Store`."""

    traits: ClassVar[Traits] = IN_FOLDER

    def __init__(self, reader: FolderReader) -> None:
        self.reader = reader

    @classmethod
    def open(cls, folder: Path | str, *, follows: bool = False) -> ReadOnlyStore:
        """Raises :class:`ConfigError` where there is no store, or none that may be read."""
        return cls(FolderReader(folder, follows=follows))

    def facts(self) -> dict[str, int]:
        """Nothing: who only reads counts nothing."""
        return {}

    async def stat(
        self, ns: Namespace, *, from_version: Version | None = None, lock_owner: str | None = None
    ) -> Stat:
        """As :meth:`FolderReader.stat`."""
        return await asyncio.to_thread(self.reader.stat, ns, from_version=from_version, lock_owner=lock_owner)

    async def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        """As :meth:`FolderReader.read`."""
        return await asyncio.to_thread(self.reader.read, ns, reads)

    async def time2version(self, t: int) -> TimeBounds:
        """As :meth:`FolderReader.time2version`."""
        return await asyncio.to_thread(self.reader.time2version, t)

    async def list_namespaces(self, prefix: str = "") -> list[NamespaceInfo]:
        """As :meth:`FolderReader.list_namespaces`."""
        return await asyncio.to_thread(self.reader.list_namespaces, prefix)

    async def namespace_info(self, key: str) -> NamespaceInfo:
        """As :meth:`FolderReader.namespace_info`."""
        return await asyncio.to_thread(self.reader.namespace_info, key)

    def blocking(self) -> FolderReader:
        """The same for a SQLite thread."""
        return self.reader

    async def aclose(self) -> None:
        """Idempotent."""
        self.reader.close()

    # --- what is not done here -------------------------------------------------------------

    async def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        """Raises :class:`ReadOnly`."""
        return self.reader.write(ns, pages)

    async def commit(self, request: CommitRequest) -> Committed:
        """Raises :class:`ReadOnly`."""
        return self.reader.commit(request)

    async def create_namespace(self, key: str, overlay_base: OverlayBase | None = None) -> None:
        """Raises :class:`ReadOnly`."""
        self.reader.create_namespace(key, overlay_base)

    async def lock(self, ns: Namespace, owner: str, version: Version | None = None) -> None:
        """Raises :class:`ReadOnly`."""
        self._refuse("nothing is locked")

    async def unlock(self, ns: Namespace, owner: str, *, rollback: bool) -> None:
        """Raises :class:`ReadOnly`."""
        self._refuse("nothing is unlocked")

    async def rename_namespace(self, old_key: str, new_key: str) -> None:
        """Raises :class:`ReadOnly`."""
        self.reader.rename_namespace(old_key, new_key)

    async def delete_namespace(self, key: str) -> None:
        """Raises :class:`ReadOnly`."""
        self.reader.delete_namespace(key)

    def truncate_namespace(
        self, key: str, before_version: Version, *, apply: bool = True
    ) -> AsyncIterator[str]:
        """Raises :class:`ReadOnly`."""
        self._refuse("nothing is truncated")

    def delete_unreferenced_content(self, key: str, *, apply: bool = True) -> AsyncIterator[str]:
        """Raises :class:`ReadOnly`."""
        self._refuse("nothing is collected")

    def _refuse(self, what: str) -> NoReturn:
        raise ReadOnly(f"{what} in {self.reader.folder}: it is open for reading alone")
