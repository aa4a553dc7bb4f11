"""What machine a run was made on, for the record. Room: bench."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.cores import described

PACKAGES = ("aioquic", "apsw", "cryptography", "h11", "h2", "httpx", "uvloop", "wsproto", "zstandard")


def environment() -> dict[str, Any]:
    """JSON-ready facts: processor, cores, kernel, Python, packages, the commit."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "commit": _commit(),
        "load_before": os.getloadavg()[0],
        "tcp": _tcp(),
        "pinned": described(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _tcp() -> str:
    """TCP's congestion control, which decides what loss does to it."""
    try:
        return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    except OSError:
        return "unknown"


def _commit() -> str:
    if shutil.which("git") is None:
        return "unknown"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
