"""Whether the process that had a place is gone: certain, or not said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateway.runtime.places import EMBEDDED, is_gone, own

MINE = own(in_process_store=False)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that says its place and then waits."""
    code = "from gateway.runtime.places import own; print(own(in_process_store=False), flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def place_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_process_that_was_killed_is_gone_and_a_living_one_is_not(child: subprocess.Popen[str]) -> None:
    place = place_of(child)
    assert not is_gone(place, MINE)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(place, MINE), "though nobody has reaped it"
    child.wait()
    assert is_gone(place, MINE)


def test_a_number_that_another_process_has_now_is_not_taken_for_the_old_one(
    child: subprocess.Popen[str],
) -> None:
    machine, pid, started = place_of(child).split(":")
    assert is_gone(f"{machine}:{pid}:{int(started) - 1}", MINE)


def test_this_process_is_there_and_a_folder_is_opened_by_one_alone() -> None:
    assert not is_gone(MINE, MINE)
    assert is_gone(EMBEDDED, EMBEDDED), "the folder is locked: there is but one"


@pytest.mark.parametrize(
    "place", ["", "x", EMBEDDED, "elsewhere:1:1", "elsewhere:999999999:1", f"{MINE.partition(':')[0]}:x:y"]
)
def test_of_another_machine_nothing_is_known(place: str) -> None:
    assert not is_gone(place, MINE)
    assert not is_gone(MINE, EMBEDDED)
