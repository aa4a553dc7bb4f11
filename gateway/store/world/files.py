"""Databases of the store as ordinary SQLite files, and back: export, import. Room: store.

A file appears under its final name only when it is whole: it is written beside it first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import apsw

from gateway.errors import BadInput, NameTaken, StoreUnavailable, Unprocessable
from gateway.limits import IMPORT_PAGES_PER_COMMIT
from gateway.store.base import BlockingStore, Namespace
from gateway.store.database import Database
from gateway.store.hardening import harden
from gateway.store.pages import PAGE_SIZES, Pages
from gateway.store.world import naming, schema
from gateway.store.world.identity import Identity
from gateway.wire.names import is_world_name

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with (done, total): pages, or rows."""


class SqliteFile:
    """An ordinary SQLite file, read as a database of the store is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            harden(self._connection)
            # SQLite opens anything; what is no database shows with the first page.
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
        # Before the name: after a crash a name may stand for what never reached the disk, unless the bytes
        # came first (rename(2)).
        _sync(part)
        os.replace(part, path)
        _sync(path.parent)
    except (OSError, apsw.FullError, apsw.IOError, apsw.CantOpenError) as error:
        raise StoreUnavailable(
            f"{path} could not be written: {_why(path, error)}; nothing is left under that name; make room there, or name "
            "another place"
        ) from error
    finally:
        for leftover in (part, part.with_name(part.name + "-journal")):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _why(path: Path, error: Exception) -> str:
    """In words that the error itself does not always have: SQLite's open file says nothing of its folder."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, apsw.FullError) or not shutil.disk_usage(path.parent).free:
        return "the disk is full"
    return "the disk failed" if str(error) == "not an error" else str(error)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def export(database: Database, path: Path, progress: Progress | None = None) -> int:
    """The database as an ordinary file that passes ``PRAGMA integrity_check``; answers its bytes.
    https://sqlite.org/fileformat2.html."""
    with appearing_whole(path) as part:
        database.read(lambda connection: _back_up(connection, part, progress))
    return path.stat().st_size


def _back_up(source: apsw.Connection, path: Path, progress: Progress | None) -> None:
    target = apsw.Connection(str(path))
    harden(target)
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
    now_us: int = 0,
) -> int:
    """Put an ordinary SQLite file into a new namespace, page by page; answers the pages.

    Page 0 goes last, so until it is whole the namespace is an empty database. A world takes the
    namespace's name; a name that was deleted gets a namespace never used before. Raises ``Unprocessable``:
    not SQLite, damaged, or the namespace exists. https://sqlite.org/fileformat2.html.
    """
    file = SqliteFile(path)
    try:
        return file.read(lambda connection: _import(connection, store, ns, path, new_key, progress, now_us))
    finally:
        file.close()


def _import(
    connection: apsw.Connection,
    store: BlockingStore,
    ns: Namespace,
    path: Path,
    new_key: Callable[[], bytes],
    progress: Progress | None,
    now_us: int,
) -> int:
    """Within a read transaction on the file, so that nobody changes it meanwhile."""
    page_size, total = connection.execute("PRAGMA page_size").get, connection.execute("PRAGMA page_count").get
    if not total:
        raise Unprocessable(f"{path} is empty: SQLite makes a database of it with its first table")
    # quick_check, which leaves out what costs most: whether indexes and tables say the same
    # (https://sqlite.org/pragma.html).
    if connection.execute("PRAGMA quick_check(1)").get != "ok":
        raise Unprocessable(f"{path} is damaged: PRAGMA quick_check fails; repair it with `sqlite3 .recover`")
    if connection.execute("PRAGMA journal_mode").get == "wal" or page_size not in PAGE_SIZES:
        raise Unprocessable(
            f"{path} has page size {page_size} or is in WAL mode; run PRAGMA journal_mode=DELETE, "
            "PRAGMA page_size=8192 and VACUUM on it first"
        )
    identity = new_identity(store, ns.key)
    target = Namespace(identity.key, ns.proof)
    try:
        store.create_namespace(target.key)
    except Unprocessable:  # an empty one that was made by use, or left by an import that broke off
        if identity.generation == 1:
            raise
    # No cache and no look at the head: each page is written once, and nobody else knows the namespace.
    pages = Pages(store, target, new_key=new_key, page_size=page_size, follow_head=False, cache_bytes=0)
    _copy_pages(pages, path, total, progress)
    if connection.execute("PRAGMA application_id").get == schema.APPLICATION_ID:
        _rename_world(store, target, ns.key)
    # Last: until here the name means what it meant before.
    naming.publish(store, identity, now_us)
    return int(total)


def new_identity(store: BlockingStore, key: str) -> Identity:
    """What a new database of that name will be; a key that is no name of a world means itself. Raises
    ``Unprocessable`` where there is one."""
    if not is_world_name(key):
        return Identity(key)
    try:
        return naming.vacant(store, key)
    except NameTaken:
        raise Unprocessable(f"{key!r} exists and is not empty; choose another name") from None


def _copy_pages(pages: Pages, path: Path, total: int, progress: Progress | None) -> None:
    page_size = pages.page_size
    with path.open("rb") as source:
        first = source.read(page_size)
        for start in range(1, total, IMPORT_PAGES_PER_COMMIT):
            end = min(start + IMPORT_PAGES_PER_COMMIT, total)
            pages.begin()
            for page in range(start, end):
                pages.write(page, source.read(page_size))
            pages.commit()
            if progress is not None:
                progress(end, total)
    pages.begin()
    # A commit of its own: without page 0 the namespace reads as empty, so an import that breaks off leaves
    # nothing half.
    pages.write(0, _with_size(first, total))
    pages.commit()


def _with_size(first_page: bytes, pages: int) -> bytes:
    """The header's own size may be stale where an old SQLite wrote the file; here it rules."""
    return first_page[:28] + pages.to_bytes(4, "big") + first_page[32:]


def _rename_world(store: BlockingStore, ns: Namespace, name: str) -> None:
    database = Database.open(store, ns)
    try:
        database.transact(lambda connection: _name(connection, name))
    finally:
        database.close()


def _name(connection: apsw.Connection, name: str) -> None:
    connection.execute("UPDATE meta SET value = ? WHERE name = 'world'", (name,))
    connection.execute("DELETE FROM meta WHERE name = 'deleted_at'")
