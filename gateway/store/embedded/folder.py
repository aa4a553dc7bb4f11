"""The store's folder: made, found writable, and locked for one process. Room: store."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final

from gateway.errors import ConfigError
from gateway.limits import STORE_OVERLAY_DEPTH_MAX
from gateway.store.base import Traits

log = logging.getLogger("mvgateway.store")

LOCK_NAME: Final = "LOCK"
FILE_NAME: Final = "store.sqlite"
IN_FOLDER: Final = Traits(in_process=True, overlay_depth=STORE_OVERLAY_DEPTH_MAX)
_OTHERS: Final = 0o077
"""What group and others may do."""


class FolderInUse(ConfigError):
    """Another process has the folder open for writing."""


class FolderLock:
    """Holds ``DIR/LOCK`` for this process until :meth:`release`; the kernel frees it when the process dies.

    Raises :class:`ConfigError`, naming ``--store``, if the folder cannot be made or written, or
    another process (or another store in this one) has it open. flock(2).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # NOFOLLOW: a link of that name must not have another file written to. NONBLOCK: a FIFO of that name
            # must not stop the start (open(2)).
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            self._fd = os.open(folder / LOCK_NAME, flags, 0o600)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ConfigError(
                    f"{folder / LOCK_NAME} is a link, which would have another file written to; remove it, "
                    "or name another folder with --store"
                ) from error
            raise ConfigError(
                f"the store folder {folder} cannot be written ({error.strerror}); "
                "make it writable or name another with --store"
            ) from error
        try:
            # flock() and not fcntl(): it belongs to the open file, so that a second store in this process is kept
            # out, and closing another descriptor of the file does not let go (flock(2), fcntl(2)).
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Through the descriptor that is open: the name may be another file by now. The number is for
            # people, and may be an older process's where the disk was full.
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

    def keep_to_owner(self, *, are_new: bool = False) -> None:
        """Let nobody but the owner read the store: it holds whole worlds. What this process may not change is said, and
        what it changes, unless ``are_new``: files that were just made."""
        entries = sorted(self.folder.iterdir())
        ours = [path for path in entries if path.name == LOCK_NAME or path.name.startswith(FILE_NAME)]
        # Only a folder that is the store's alone is closed to others: `--store /home/me` must not lock me
        # out of what else is there.
        if len(ours) == len(entries):
            _keep_to_owner(self.folder, 0o700, are_new)
        elif self.folder.stat().st_mode & _OTHERS and not are_new:
            log.warning(
                "the store folder %s is open to other users and holds other files as well, so its mode stays; give the "
                "store a folder of its own with --store",
                self.folder,
            )
        for path in ours:
            _keep_to_owner(path, 0o600, are_new)

    def sync(self) -> None:
        """Make the names in the folder (and the folder's own) durable. fsync(2)."""
        for path in (self.folder, self.folder.parent):
            # A new file's name is durable only once its folder was synced (fsync(2)).
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


def _keep_to_owner(path: Path, mode: int, is_new: bool) -> None:
    """Take group's and others' rights away, not through a link."""
    try:
        before = path.lstat().st_mode
        # chmod() would go through the link, and change a file that is not the store's (chmod(2)).
        if stat.S_ISLNK(before) or not before & _OTHERS:
            return
        path.chmod(mode)
        if not is_new:
            log.info("%s was open to other users (%o), and is no more", path, stat.S_IMODE(before))
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s is open to other users, and its mode cannot be changed (%s)", path, error.strerror)
