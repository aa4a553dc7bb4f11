"""One moment of a store folder, read without a lock, a thread or a write. Room: store.

SQLite's own way of reading beside a writer in WAL mode writes to the ``-shm`` file and holds the
writer's checkpoints back; its ``immutable=1`` does neither, and misses the log. So SQLite gets the two
files through a VFS of ours, which only reads, and keeps the log's index in its own heap
(``locking_mode=EXCLUSIVE``; sqlite.org/wal.html, section 6): it finds the last whole commit by itself.
What it saw is a moment for as long as no checkpoint copies *newer* pages of the log into the database
file and the log is not begun anew. The writer tells both in files that we may look at, after each
read: a moment that has passed raises, and whoever asked opens another.

Source: SQLite's file format, section 4 (the log: header, salts), and walformat.html, section 2 (the
``-shm`` file: ``mxFrame``, salts, ``nBackfillAttempted``, which is set before the first page is copied).
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from gateway.errors import StoreUnavailable
from gateway.limits import STORE_SNAPSHOT_CACHE_KIB

_WAL_HEADER_BYTES: Final = 32
_SHM_BYTES: Final = 136
_SHM_SALTS: Final = slice(32, 40)
_MX_FRAME: Final = struct.Struct("=16xI")
_ATTEMPTED: Final = struct.Struct("=128xI")


class Moved(StoreUnavailable):
    """The writer has gone past this moment: open another."""


class _Traces(NamedTuple):
    """What tells of a checkpoint. ``wal``: inode and header of the log (None: none, or an empty one);
    ``shm``: the salts and how far a checkpoint may have come (None: there is no such file)."""

    wal: tuple[int, bytes] | None
    shm: tuple[bytes, int] | None


class _Files:
    """The folder's three files, open for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._wal_path, self._shm_path = f"{path}-wal", f"{path}-shm"
        self.database = os.open(path, os.O_RDONLY)
        self.wal: int | None = None
        self._shm: int | None = None
        try:
            self.wal, self._shm = _opened(self._wal_path), _opened(self._shm_path)
            # Before SQLite opens the files: what it finds is then no older than what is noted here, and a
            # checkpoint that comes in between is noticed at the first read.
            self._begin = self._look()
            self._reached = self._newest()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for descriptor in (self.database, self.wal, self._shm):
            if descriptor is not None:
                os.close(descriptor)

    def check(self) -> None:
        """Raise :class:`Moved` where the database file may hold pages newer than this moment."""
        now, begin = self._look(), self._begin
        if now == begin:
            return
        # A checkpoint that has come no farther than this moment's last frame copies pages that are the
        # moment's own: the same bytes from either file.
        in_reach = (
            now.wal == begin.wal
            and now.shm is not None
            and begin.shm is not None
            and now.shm[0] == begin.shm[0]
            and now.shm[1] <= self._reached
        )
        if not in_reach:
            raise Moved(f"{self.path} was written to while it was read; ask again")

    def _newest(self) -> int:
        """The last frame of the log that this moment has for certain: what SQLite finds is no older."""
        shm = b"" if self._shm is None else os.pread(self._shm, _SHM_BYTES, 0)
        reached = self._begin.shm[1] if self._begin.shm else 0
        return max(reached, _MX_FRAME.unpack_from(shm)[0]) if len(shm) >= _SHM_BYTES else reached

    def _look(self) -> _Traces:
        wal = shm = None
        header = b"" if self.wal is None else os.pread(self.wal, _WAL_HEADER_BYTES, 0)
        inode = _inode(self._wal_path)
        if self.wal is None and inode is not None and os.stat(self._wal_path).st_size:
            wal = (inode, b"")
        elif header:
            wal = (inode or 0, header)
        if self._shm is not None:
            index = os.pread(self._shm, _SHM_BYTES, 0)
            if len(index) == _SHM_BYTES:
                shm = (index[_SHM_SALTS], int(_ATTEMPTED.unpack_from(index)[0]))
        elif wal is not None and _inode(self._shm_path) is not None:
            # It came after this moment was opened: somebody writes, and nothing tells how far.
            shm = (b"", 0)
        return _Traces(wal, shm)


def _opened(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None


class _File:
    """The database or its log, as SQLite reads it."""

    def __init__(self, files: _Files, descriptor: int | None) -> None:
        self._files = files
        self._descriptor = descriptor
        self._size = 0 if descriptor is None else os.fstat(descriptor).st_size

    def xRead(self, amount: int, offset: int) -> bytes:
        if self._descriptor is None:
            return b""
        # Read first, looked at after: a checkpoint that came in between is noticed.
        data = os.pread(self._descriptor, amount, offset)
        self._files.check()
        return data

    def xFileSize(self) -> int:
        return self._size

    def xWrite(self, data: bytes, offset: int) -> None:
        raise apsw.ReadOnlyError("nothing is written here")

    def xTruncate(self, size: int) -> None:
        raise apsw.ReadOnlyError("nothing is written here")

    def xSync(self, flags: int) -> None:
        """There is nothing to sync."""

    def xLock(self, level: int) -> None:
        """No lock is taken: :meth:`_Files.check` stands in for it."""

    def xUnlock(self, level: int) -> None:
        """None was taken."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return 4096

    def xDeviceCharacteristics(self) -> int:
        return 0

    def xClose(self) -> None:
        """The descriptors belong to :class:`_Files`."""


class _Vfs(apsw.VFS):
    def __init__(self, name: str, files: _Files) -> None:
        super().__init__(name, "")
        self.name = name
        self._files = files

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:
        # No hot journal is ever looked for: the store is in WAL mode.
        return pathname.endswith("-wal") and self._files.wal is not None

    def xDelete(self, filename: str, syncdir: bool) -> None:
        raise apsw.ReadOnlyError("nothing is deleted here")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            flags[1] = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY
            return _File(self._files, self._files.database)
        if flags[0] & apsw.SQLITE_OPEN_WAL:
            flags[1] = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READONLY
            return _File(self._files, self._files.wal)
        raise apsw.CantOpenError("only the database and its log are files here; all else stays in memory")


class FileSnapshot:
    """A connection to the store's file as it was when this was made. One thread at a time.

    Raises ``OSError`` where the file cannot be opened, and what apsw raises. :meth:`close` it.
    """

    def __init__(self, path: Path) -> None:
        self._files = _Files(path)
        self._vfs = _Vfs(f"mvsnapshot-{id(self):x}", self._files)
        self._connection: apsw.Connection | None = None
        self._is_closed = False
        try:
            self._connection = self._connect(str(path))
        except BaseException:
            self.close()
            raise

    def _connect(self, path: str) -> apsw.Connection:
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY, vfs=self._vfs.name)
        # The last connection to close would copy the log into the file, and delete it.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        # Before the first read: then the log's index is kept in this process's heap, and no -shm file is made
        # (sqlite.org/wal.html, "Use of WAL Without Shared-Memory").
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA temp_store=MEMORY; PRAGMA query_only=1")
        connection.execute(f"PRAGMA cache_size=-{STORE_SNAPSHOT_CACHE_KIB}")
        return connection

    @property
    def connection(self) -> apsw.Connection:
        """The connection, for questions."""
        assert self._connection is not None, "the snapshot is closed"
        return self._connection

    def check(self) -> None:
        """Raise :class:`Moved` where what is read from here on may be newer than what was read before."""
        self._files.check()

    def close(self) -> None:
        """Idempotent: a descriptor's number is another file's as soon as it was given back."""
        if self._is_closed:
            return
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(apsw.Error):
                connection.close(True)
        # Before the descriptors: SQLite must have let go of the files that it reads by.
        self._vfs.unregister()
        self._files.close()
