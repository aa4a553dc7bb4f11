"""What only one process at a time can occupy, so that others know at once when it is gone. Room: runtime.

Written beside a world's home (:mod:`gateway.store.world.home`). Where nothing can be known, the home's lease decides.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

EMBEDDED: Final = "embedded"
"""The place of whoever has the store in its own process: its folder is locked, so there is but one."""
_PROC: Final = Path("/proc")


def own(*, in_process_store: bool) -> str:
    """Where this process is: ``embedded``, or ``MACHINE:PID:START``."""
    if in_process_store:
        return EMBEDDED
    started = _start_time(os.getpid())
    return f"{_machine() or secrets.token_hex(8)}:{os.getpid()}:{started or 0}"


def is_gone(place: str, mine: str) -> bool:
    """True where it is certain that whoever was at ``place`` is no more; ``mine`` is where who asks is."""
    if place == mine == EMBEDDED:
        return True
    machine, _, process = place.partition(":")
    pid, _, started = process.partition(":")
    if machine != mine.partition(":")[0] or not (pid.isascii() and pid.isdigit()) or machine == EMBEDDED:
        return False
    return _has_ended(int(pid), started)


def _has_ended(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False  # somebody else's: the number alone tells nothing
    now = _start_time(pid)
    return now is not None and now != started


def _machine() -> str | None:
    """The running machine and its namespace of process numbers; None where the system does not tell them apart."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()
        namespace = os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return None
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:16]


def _start_time(pid: int) -> str | None:
    """When a process started, in ticks since the boot: ``0`` for one that has ended and is not yet reaped. None where it
    cannot be told. Source: proc(5), ``/proc/PID/stat``."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return "0" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None
