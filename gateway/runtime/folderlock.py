"""A folder that several processes make files in: one process at a time, and every file whole. Room: runtime.
Sources: flock(2), rename(2)."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway import limits
from gateway.errors import ConfigError

LOCK = ".lock"
_CANNOT_WRITE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT})


@contextmanager
def locked(folder: Path, wait_s: float = limits.FOLDER_LOCK_S) -> Iterator[None]:
    """Keep other processes that lock this folder out; the kernel lets go when this one dies.

    A folder that cannot be written, or whose file system knows no locks, is used without one: it is to be read still.
    Raises :class:`ConfigError` naming ``--certs`` where another process holds it for longer than ``wait_s`` seconds, or the
    lock file is no file.
    """
    descriptor = _opened(folder)
    try:
        if descriptor is not None:
            _take(descriptor, folder, wait_s)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _opened(folder: Path) -> int | None:
    path, flags = folder / LOCK, os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            why = "it is a link" if error.errno == errno.ELOOP else error.strerror
            raise ConfigError(
                f"--certs {folder}: {path} cannot be opened ({why}); remove it, or name another folder"
            ) from None
    try:
        # flock() asks for no right to write (flock(2)): a folder that is read-only is locked all the same.
        return os.open(path, os.O_RDONLY | flags)
    except OSError:
        return None


def _take(descriptor: int, folder: Path, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while True:
        try:
            # Tried again and again, not waited for: flock() has no timeout, and a signal would be needed to end it.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise ConfigError(
                    f"--certs {folder}: another process has held {folder / LOCK} for more than {wait_s} s; "
                    "end it, or name another folder"
                ) from None
        except OSError:
            return
        time.sleep(limits.FOLDER_LOCK_LOOK_S)


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """All or nothing, and what is secret never readable by others. Call it under the folder's lock."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    # The mode at creation, not by chmod() after: in between others could open it.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    # rename(2): a reader sees the old file or the new one, never a part.
    part.replace(path)


__all__ = ["LOCK", "locked", "write_whole"]
