"""What the system tells of this process and of the disk below a folder. Room: runtime.

Sources: proc(5); the names of ``process_*`` metrics are those of Prometheus' client libraries.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

STATM, STAT, DESCRIPTORS = "/proc/self/statm", "/proc/self/stat", "/proc/self/fd"


class Memory(NamedTuple):
    """Bytes; 0 where the system does not tell."""

    virtual: int
    resident: int


def memory() -> Memory:
    """This process's memory now. proc_pid_statm(5)."""
    try:
        with open(STATM) as file:
            pages = file.read().split()
    except OSError:
        return Memory(0, 0)
    size = os.sysconf("SC_PAGE_SIZE")
    return Memory(int(pages[0]) * size, int(pages[1]) * size)


def descriptors_open() -> int:
    """How many file descriptors are open; 0 where the system does not tell."""
    try:
        return len(os.listdir(DESCRIPTORS)) - 1  # the listing's own
    except OSError:
        return 0


def descriptors_max() -> int:
    """The soft limit on them."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_descriptors_max() -> tuple[int, int]:
    """Raise the soft limit on file descriptors to the hard one, as far as the system lets; (before, now). getrlimit(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass  # as macOS does for a hard limit without a number
    return soft, descriptors_max()


def started_at() -> float:
    """When the process began, Unix seconds. proc_pid_stat(5)."""
    try:
        with open(STAT) as file:
            # The name in brackets may hold spaces and brackets: only its last one is safe. starttime is field 22
            # (proc_pid_stat(5)).
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/stat") as file:
            boot = next(int(line.split()[1]) for line in file if line.startswith("btime"))
    except (OSError, StopIteration, ValueError, IndexError):
        return time.time() - time.process_time()
    return boot + ticks / os.sysconf("SC_CLK_TCK")


class Disk(NamedTuple):
    """Bytes: what a folder's files take, and what is free for it."""

    used: int
    free: int


def disk(folder: Path) -> Disk | None:
    """A folder's use of its disk; None where it cannot be looked at. statvfs(3)."""
    try:
        space = os.statvfs(folder)
        # f_bavail, not f_bfree: what is kept for root is not ours (statvfs(3)).
        return Disk(sum(_sizes(folder)), space.f_bavail * space.f_frsize)
    except OSError:
        return None


def _sizes(folder: Path) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False):
                    yield entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # a log that was just folded in
