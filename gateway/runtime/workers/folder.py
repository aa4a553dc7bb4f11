"""The folder in which the workers of one start have their sockets. Room: runtime.

This user alone may enter it, and every process of the start holds a lock on it (flock(2): of the open file, so forked
processes share it, and whatever kills the last of them gives it back). So what a start that was killed has left behind is
told from what lives, and cleared away by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError
from gateway.limits import WORKER_FOLDER_TRIES, WORKER_FOLDERS_LOOKED_AT_MAX

PREFIX: Final = "mvgateway-workers-"
SOCKETS: Final = "*.sock"


@dataclass(slots=True)
class GroupFolder:
    """``held``: the descriptor that has the lock. flock(2), mkdtemp(3)."""

    path: Path
    held: int

    @classmethod
    def make(cls) -> GroupFolder:
        """A new one in the temporary folder; those of starts that are no more are removed. Raises :class:`ConfigError`."""
        try:
            clear_left()
            for _ in range(
                WORKER_FOLDER_TRIES
            ):  # whoever clears up may take one that is not locked yet for a left one
                path = Path(tempfile.mkdtemp(prefix=PREFIX))
                held = _locked(path)
                if held is not None or path.exists():
                    return cls(path, -1 if held is None else held)  # -1: a file system without locks
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except OSError as error:
            raise ConfigError(
                f"the temporary folder {tempfile.gettempdir()}: {error.strerror}; the workers' sockets stand there: "
                "name one that can be written with TMPDIR"
            ) from None

    def remove(self) -> None:
        """With what stands in it; the lock is given back. Idempotent."""
        empty(self.path)
        if self.held >= 0:
            os.close(self.held)
        self.held = -1


def clear_left() -> int:
    """Remove the folders that nobody holds any more; how many there were. Another user's are left alone."""
    removed = 0
    for path in islice(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"), WORKER_FOLDERS_LOOKED_AT_MAX):
        held = _locked(path)
        if held is not None:
            empty(path)
            os.close(held)
            removed += 1
    return removed


def empty(path: Path) -> None:
    """Remove the sockets in a folder, and the folder unless there is anything else in it."""
    with contextlib.suppress(OSError):
        for one in path.glob(SOCKETS):
            # Sockets only, whatever stands there: the temporary folder is everybody's.
            if stat.S_ISSOCK(one.lstat().st_mode):
                one.unlink(missing_ok=True)
        # Refuses where anything is left in it (rmdir(2)).
        path.rmdir()


def _locked(path: Path) -> int | None:
    """A descriptor with the lock on a folder of this user; None: it is another's, or somebody holds it, or it is gone."""
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if os.fstat(held).st_uid == os.geteuid():
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open() and flock() it may have been removed and made again: then the lock is on what nobody
            # sees.
            if path.lstat().st_ino == os.fstat(held).st_ino:
                return held
    os.close(held)
    return None
