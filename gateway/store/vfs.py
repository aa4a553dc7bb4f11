"""The SQLite VFS over pages of a store. Room: store; apsw enters here.

Thin: SQLite's calls become calls of :class:`gateway.store.pages.Pages`. Only the main database
file exists; the rollback journal, temporary tables and sorters stay in memory (see the PRAGMAs in
:mod:`gateway.store.database`). What a page call raises reaches the caller of SQLite as it is, kept
in :attr:`PagesFile.failure` because SQLite itself only knows an error number. Source: https://sqlite.org/vfs.html.
"""

from __future__ import annotations

from typing import Any, Final

import apsw

from gateway.store.pages import Pages

_SHARED: Final = apsw.SQLITE_LOCK_SHARED
_NONE: Final = apsw.SQLITE_LOCK_NONE
_COMMITTED: Final = apsw.SQLITE_FCNTL_COMMIT_PHASETWO
# Writes only buffer, so no crash tears them or reorders them: SQLite need not guard a page's neighbours
# (https://www.sqlite.org/c3ref/c_iocap_atomic.html).
_CHARACTERISTICS: Final = (
    apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE | apsw.SQLITE_IOCAP_SAFE_APPEND | apsw.SQLITE_IOCAP_SEQUENTIAL
)


class PagesFile:
    """The open database file. One connection, one thread at a time. https://sqlite.org/c3ref/io_methods.html."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._level = _NONE
        self.failure: Exception | None = None

    def xRead(self, amount: int, offset: int) -> bytes:
        page_size = self._pages.page_size
        page, start = divmod(offset, page_size)
        try:
            data = self._pages.read(page)
        except Exception as error:
            self.failure = error
            raise
        # Of the first page SQLite also reads parts: its header of 100 bytes, and the change counter in it.
        return data if amount == page_size else data[start : start + amount]

    def xWrite(self, data: bytes, offset: int) -> None:
        try:
            self._pages.write(offset // self._pages.page_size, bytes(data))
        except Exception as error:
            self.failure = error
            raise

    def xTruncate(self, size: int) -> None:
        """Pages past the end stay in the store unseen: the header's size rules."""

    def xSync(self, flags: int) -> None:
        """Nothing is down before the commit."""

    def xFileSize(self) -> int:
        try:
            return self._pages.size_pages * self._pages.page_size
        except Exception as error:
            self.failure = error
            raise

    def xLock(self, level: int) -> None:
        # A read transaction begins with the shared lock, so that is the moment of its snapshot.
        if self._level == _NONE and level >= _SHARED:
            try:
                self._pages.begin()
            except Exception as error:
                self.failure = error
                raise
        self._level = level

    def xUnlock(self, level: int) -> None:
        # A held transaction's pages still wait for the store's commit, though SQLite is done with them.
        if level == _NONE and not self._pages.hold:
            self._pages.discard()
        self._level = level

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:
        # SQLite asks this after the last write of a transaction and before it lets the lock go, and an error here fails its COMMIT
        # (https://www.sqlite.org/c3ref/c_fcntl_begin_atomic_write.html): the one place where a commit of ours can be one of its own.
        if op != _COMMITTED:
            return False
        if not self._pages.hold:
            try:
                self._pages.commit()
            except Exception as error:
                self.failure = error
                raise
        return True

    def xSectorSize(self) -> int:
        return 4096

    def xDeviceCharacteristics(self) -> int:
        return _CHARACTERISTICS

    def xClose(self) -> None:
        self._pages.discard()


class PagesVFS(apsw.VFS):
    """A VFS that knows one database. Registered under ``name`` until ``unregister()``. https://sqlite.org/c3ref/vfs.html."""

    def __init__(self, name: str, pages: Pages) -> None:
        super().__init__(name, "")
        self.name = name
        self._pages = pages
        self.file: PagesFile | None = None

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:
        return False

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """There is never a journal file to delete."""

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:
        if not flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            raise apsw.CantOpenError("only the database itself is a file here; all else stays in memory")
        mode = apsw.SQLITE_OPEN_READONLY if self._pages.read_only else apsw.SQLITE_OPEN_READWRITE
        flags[1] = apsw.SQLITE_OPEN_MAIN_DB | mode
        self.file = PagesFile(self._pages)
        return self.file
