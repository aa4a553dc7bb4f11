"""The store's folder: made, found writable, and locked for one process. Room: store."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final

from gateway.errors import ConfigError

LOCK_NAME: Final = "LOCK"


class FolderInUse(ConfigError):
    """Another process has the folder open for writing."""


class FolderLock:
    """Holds ``DIR/LOCK`` for this process until :meth:`release`; the kernel frees it when the process dies.

    Raises :class:`ConfigError`, naming ``--store``, if the folder cannot be made or written, or
    another process (or another store in this one) has it open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(
                f"the store folder {folder} cannot be written ({error.strerror}); "
                "make it writable or name another with --store"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise FolderInUse(
                f"the store folder {folder} is in use by process {holder}; "
                "stop it or name another folder with --store"
            ) from error
        self._write_pid()

    def _write_pid(self) -> None:
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            # A full disk: the number is only for the other process's message.
            return

    def sync(self) -> None:
        """Make the names in the folder (and the folder's own) durable."""
        for path in (self.folder, self.folder.parent):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def release(self) -> None:
        """Let the next one in. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
