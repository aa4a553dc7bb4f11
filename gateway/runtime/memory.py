"""The C allocator: what was freed goes back to the system. Room: runtime.

glibc keeps freed memory for a use that may never come, and the more of it, the larger the buffers were that it has seen.
"""

from __future__ import annotations

import ctypes
import sys

from gateway import limits

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""Of glibc's malloc.h, mallopt(3)."""


def _libc() -> ctypes.CDLL | None:
    """glibc; None where the system has another C library."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def tune_allocator() -> bool:
    """Have large buffers taken from the system one by one and given back when they are freed, whatever was
    freed before (glibc would raise its threshold to 32 MiB). False: not glibc, nothing was done. mallopt(3)."""
    libc = _libc()
    if libc is None:
        return False
    # Setting either one also turns off the dynamic threshold (mallopt(3), "M_MMAP_THRESHOLD").
    libc.mallopt(_M_MMAP_THRESHOLD, limits.MEMORY_MAPPED_BYTES_MIN)
    libc.mallopt(_M_TRIM_THRESHOLD, limits.MEMORY_MAPPED_BYTES_MIN)
    # By default there may be eight arenas for each core, and each keeps its own freed memory (glibc manual, "Memory
    # Allocation Tunables", arena_max).
    libc.mallopt(_M_ARENA_MAX, limits.MEMORY_ARENAS_MAX)
    return True


def give_back() -> None:
    """Give free pages back now: some milliseconds. malloc_trim(3)."""
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)
