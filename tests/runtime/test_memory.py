"""Freed memory goes back to the system, and serve takes all descriptors that it may have."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.runtime.process import memory
from tests.runtime.conftest import StartProcess

_FREES = """
from gateway.runtime.memory import give_back, tune_allocator
from gateway.runtime.process import memory
tuned = tune_allocator()
before = memory().resident
many = [bytes(1000) for _ in range(60_000)]
kept = many[::300]
large = bytearray(40 << 20)
del large
del many
give_back()
print(tuned, (memory().resident - before) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_what_was_freed_goes_back_to_the_system_though_some_stays() -> None:
    told = subprocess.run([sys.executable, "-c", _FREES], capture_output=True, text=True, check=True).stdout
    tuned, grown_mib = told.split()
    assert tuned == "True"
    assert int(grown_mib) < 16
    assert memory().resident > 0


def test_serve_takes_all_descriptors_and_says_where_they_are_too_few(
    tmp_path: Path, start_process: StartProcess
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        child = start_process().wait_ready()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    given = Path(f"/proc/{child.process.pid}/limits").read_text()
    line = next(line for line in given.splitlines() if line.startswith("Max open files"))
    assert line.split()[3] == line.split()[4]
    _, errors = child.terminate()
    assert ("may be needed" in errors) == (hard < 8_320)


def test_fewer_descriptors_than_needed_are_said_at_start(tmp_path: Path, start_process: StartProcess) -> None:
    child = start_process("--tcp-connections-max", "1000000").wait_ready()
    assert os.path.exists(f"/proc/{child.process.pid}")
    _, errors = child.terminate()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert ("--tcp-connections-max 1000000" in errors) == (hard < 2_000_128)
