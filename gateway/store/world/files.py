"""Databases of the store as ordinary SQLite files, and back: export, import. Room: store.

A file appears under its final name only when it is whole: it is written beside it first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import apsw

from gateway.errors import BadInput, StoreUnavailable, Unprocessable
from gateway.limits import IMPORT_PAGES_PER_COMMIT
from gateway.store.base import BlockingStore, Namespace
from gateway.store.database import Database
from gateway.store.pages import PAGE_SIZES, Pages, without_counter

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with (done, total): pages, or rows."""


class SqliteFile:
    """An ordinary SQLite file, read as a database of the store is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            self._connection.execute("SELECT count(*) FROM sqlite_schema")
        except apsw.Error as error:
            raise Unprocessable(f"{path} cannot be read as a SQLite file: {error}") from None

    def read(self, fn: Callable[[apsw.Connection], T]) -> T:
        """``fn(connection)`` on one snapshot."""
        self._connection.execute("BEGIN")
        try:
            return fn(self._connection)
        finally:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


@contextmanager
def appearing_whole(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; moved there when all went well, removed when not.
    Raises ``BadInput`` if ``path`` exists, ``StoreUnavailable`` when the disk is full."""
    if path.exists():
        raise BadInput(f"{path} exists; choose another name, or remove it first")
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        yield part
        _sync(part)
        os.replace(part, path)
        _sync(path.parent)
    except (OSError, apsw.FullError, apsw.IOError, apsw.CantOpenError) as error:
        raise StoreUnavailable(
            f"{path} could not be written: {error}; nothing is left under that name"
        ) from error
    finally:
        for leftover in (part, part.with_name(part.name + "-journal")):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def export(database: Database, path: Path, progress: Progress | None = None) -> int:
    """The database as an ordinary file that passes ``PRAGMA integrity_check``; answers its bytes."""
    with appearing_whole(path) as part:
        database.read(lambda connection: _back_up(connection, part, progress))
    return path.stat().st_size


def _back_up(source: apsw.Connection, path: Path, progress: Progress | None) -> None:
    target = apsw.Connection(str(path))
    try:
        with target.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(256)
                if progress is not None:
                    progress(backup.page_count - backup.remaining, backup.page_count)
        # A backup of a database that never counted its changes has none; give it an ordinary header.
        target.execute("PRAGMA journal_mode=DELETE")
        found = target.execute("PRAGMA integrity_check(1)").get
        if found != "ok":
            raise Unprocessable(f"the copy does not pass integrity_check: {found}")
    finally:
        target.close()


def import_file(
    store: BlockingStore,
    ns: Namespace,
    path: Path,
    *,
    new_key: Callable[[], bytes],
    progress: Progress | None = None,
) -> int:
    """Put an ordinary SQLite file into a new namespace, page by page; answers the pages.

    Page 0 goes last, so until it is whole the namespace is an empty database. Raises
    ``Unprocessable``: not SQLite, damaged, or the namespace exists.
    """
    file = SqliteFile(path)
    try:
        page_size = file.read(lambda c: c.execute("PRAGMA page_size").get)
        if file.read(lambda c: c.execute("PRAGMA quick_check(1)").get) != "ok":
            raise Unprocessable(
                f"{path} is damaged: PRAGMA quick_check fails; repair it with `sqlite3 .recover`"
            )
        if file.read(lambda c: c.execute("PRAGMA journal_mode").get) == "wal" or page_size not in PAGE_SIZES:
            raise Unprocessable(
                f"{path} has page size {page_size} or is in WAL mode; run PRAGMA journal_mode=DELETE, "
                "PRAGMA page_size=8192 and VACUUM on it first"
            )
    finally:
        file.close()
    store.create_namespace(ns.key)
    return _copy_pages(store, ns, path, page_size, new_key, progress)


def _copy_pages(
    store: BlockingStore,
    ns: Namespace,
    path: Path,
    page_size: int,
    new_key: Callable[[], bytes],
    progress: Progress | None,
) -> int:
    pages = Pages(store, ns, new_key=new_key, page_size=page_size, follow_head=False, cache_bytes=0)
    total = path.stat().st_size // page_size
    with path.open("rb") as source:
        first = _with_size(without_counter(source.read(page_size)), total)
        for start in range(1, total, IMPORT_PAGES_PER_COMMIT):
            pages.begin()
            for page in range(start, min(start + IMPORT_PAGES_PER_COMMIT, total)):
                pages.write(page, source.read(page_size))
            pages.commit()
            if progress is not None:
                progress(min(start + IMPORT_PAGES_PER_COMMIT, total), total)
    pages.begin()
    pages.write(0, first)
    pages.commit()
    return total


def _with_size(first_page: bytes, pages: int) -> bytes:
    """The header's own size may be stale where an old SQLite wrote the file; here it rules."""
    return first_page[:28] + pages.to_bytes(4, "big") + first_page[32:]
