"""Worlds and films as ordinary SQLite files: export, import, clip, open a film. Room: store.

A file appears under its final name only when it is whole: it is written beside it first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import apsw

from gateway.errors import BadInput, NothingRecorded, StoreUnavailable, Unprocessable
from gateway.limits import IMPORT_PAGES_PER_COMMIT, WEBSOCKET_MESSAGE_BYTES_MAX
from gateway.store.base import BlockingStore, Namespace
from gateway.store.database import Database
from gateway.store.pages import PAGE_SIZES, Pages, without_counter
from gateway.store.world import schema, writing
from gateway.store.world.history import History
from gateway.store.world.schema import Parent, Retention
from gateway.store.world.state import MakeState, Recovered
from gateway.wire.framecodec import LEVEL, FrameEncoder
from gateway.wire.journal import Gap, JournalFrame

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


class Film(History):
    """A film, opened in place of a world."""

    def __init__(self, file: SqliteFile, make_state: MakeState) -> None:
        super().__init__(file, make_state)
        self.file = file

    @classmethod
    def open(cls, path: Path, *, make_state: MakeState) -> Film:
        """Raises ``Unprocessable``: not a SQLite file, truncated, not a film, or of a newer version."""
        if not path.is_file():
            raise Unprocessable(f"{path} is not a file; name a film that `clip` or `export` wrote")
        file = SqliteFile(path)
        try:
            if not file.read(schema.is_world):
                raise Unprocessable(f"{path} is an empty database, not a film")
            _check_whole(path, file)
        except BaseException:
            file.close()
            raise
        return cls(file, make_state)

    def close(self) -> None:
        self.file.close()


def _check_whole(path: Path, file: SqliteFile) -> None:
    pages, page_size = file.read(
        lambda c: (c.execute("PRAGMA page_count").get, c.execute("PRAGMA page_size").get)
    )
    have = path.stat().st_size
    if have < pages * page_size:
        raise Unprocessable(
            f"{path} is truncated: its header says {pages * page_size} bytes, {have} are there"
        )


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


def clip(
    history: History,
    path: Path,
    start: Recovered,
    end: tuple[int, int],
    *,
    level: int = LEVEL,
    progress: Progress | None = None,
) -> int:
    """A film from the state ``start`` to (epoch, tick) ``end``, both included: a self-contained file
    that can be opened in place of a world. Answers its rows, the first one a keyframe.

    Raises ``NothingRecorded`` where ``end`` lies before ``start``; nothing half-written is left.
    """
    if end < (start.epoch, start.tick):
        raise NothingRecorded(
            f"a clip ends at or after its beginning: from tick {start.tick} of epoch {start.epoch} "
            f"to tick {end[1]} of epoch {end[0]} there is nothing"
        )
    with appearing_whole(path) as part:
        return _Clip(history, part, start, end, level, progress).write()


class _Clip:
    """Writes one film, in pages of rows."""

    def __init__(
        self,
        history: History,
        path: Path,
        start: Recovered,
        end: tuple[int, int],
        level: int,
        progress: Progress | None,
    ) -> None:
        self._history = history
        self._path = path
        self._start = start
        self._end = end
        self._encoder = FrameEncoder(level)
        self._progress = progress
        self._rows = 0

    def write(self) -> int:
        target = apsw.Connection(str(self._path))
        try:
            target.execute("PRAGMA page_size=8192; PRAGMA synchronous=OFF")
            with target:
                self._begin(target)
                for item in self._items():
                    self._put(target, item)
                self._copy_marks(target)
        finally:
            target.close()
        return self._rows

    def _begin(self, target: apsw.Connection) -> None:
        info, start = self._history.info(), self._start
        parent = Parent(info.world, start.epoch, start.tick)
        schema.create(target, replace(info, retention=Retention("record"), parent=parent))
        messages = tuple(start.state.keyframe_messages(WEBSOCKET_MESSAGE_BYTES_MAX))
        self._put(
            target,
            JournalFrame(0, start.epoch, start.tick, start.received_at_us, start.sent_at_us, True, messages),
        )

    def _items(self) -> Iterator[JournalFrame | Gap]:
        """What comes after the start; its rows are those of the recording, keyframes too."""
        for item in self._history.frames((self._start.epoch, self._start.tick), self._end, keyframes=True):
            if isinstance(item, Gap) or item.seq > self._start.seq:
                yield item

    def _put(self, target: apsw.Connection, item: JournalFrame | Gap) -> None:
        if isinstance(item, Gap):
            writing.write(target, writing.pack(self._encoder, (), (item,)))
            return
        writing.write(target, writing.pack(self._encoder, (replace(item, seq=self._rows),), ()))
        target.execute("INSERT OR IGNORE INTO epochs VALUES(?, ?, NULL)", (item.epoch, item.received_at_us))
        self._rows += 1
        if self._progress is not None:
            self._progress(self._rows, 0)

    def _copy_marks(self, target: apsw.Connection) -> None:
        start = (self._start.epoch, self._start.tick)
        for mark in self._history.marks():
            if start <= (mark["epoch"], mark["tick"]) <= self._end:
                writing.set_mark(
                    target, mark["name"], mark["epoch"], mark["tick"], mark["at_us"], mark["data"]
                )
