"""A pytest plugin that runs no tests but mutants: once collected, each mutant is a fork of this process in which the tests that
come to its function run until one fails. What is imported is imported once; a mutant costs some milliseconds and its tests.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from tests.mutation.mutants import Mutant
from tests.mutation.swapping import Functions

ROOT = Path(__file__).parents[2]
CPU_SLACK_S, WALL_SLACK_S = 10, 60.0
"""Beyond some times what the tests usually take. Of processor time a machine that stands still uses none."""
BASELINE_S_MAX = 3_600.0
MEMORY_BYTES_MAX = 6 * 1024**3
NOTICED, SURVIVED, UNREACHED = "noticed", "survived", "no test comes there"


@dataclass
class Known:
    """What one run without any change told of each test: what it takes, and which mutants it comes to."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    reached: dict[str, set[int]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


class Forks:
    """The plugin. ``told`` gets each mutant and what became of it."""

    def __init__(
        self, mutants: list[Mutant], told: Callable[[Mutant, str], None], jobs: int, ends_at: float
    ) -> None:
        self._mutants = mutants
        self._told = told
        self._jobs = jobs
        self._ends_at = ends_at
        self._under_way: dict[int, tuple[Mutant, float]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("what was collected cannot be run")
        functions = Functions(ROOT, {mutant.path for mutant in self._mutants})
        known = self._known(session, functions)
        for number in range(len(self._mutants)):
            while len(self._under_way) >= self._jobs:
                self._reap()
            if known is None or time.monotonic() > self._ends_at:
                break
            self._begin(session, known, functions, number)
        while self._under_way:
            self._reap()
        session.testsfailed = 0
        return True

    def _begin(self, session: pytest.Session, known: Known, functions: Functions, number: int) -> None:
        mutant = self._mutants[number]
        changed = functions.changed(mutant)
        if changed is None:
            return
        items = sorted(
            (item for item in session.items if number in known.reached.get(item.nodeid, ())),
            key=lambda item: known.cpu_s[item.nodeid],
        )
        if not items:
            self._told(mutant, UNREACHED)
            return
        usual_s = sum(known.cpu_s[item.nodeid] for item in items)

        def tried() -> int:
            cpu_s = int(5 * usual_s) + CPU_SLACK_S
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
            try:
                if not functions.put(*changed):
                    return 3
            except ValueError:  # the function has other cells than its new code wants
                return 3
            return 1 if any(_fails(session, *pair) for pair in pairwise([*items, None])) else 0

        child = _forked(tried)
        self._under_way[child] = (mutant, time.monotonic() + WALL_SLACK_S + 20 * usual_s)

    def _reap(self) -> None:
        """Wait for one to end, and for none longer than its time."""
        while True:
            for child, (mutant, until) in list(self._under_way.items()):
                if (now := time.monotonic()) > self._ends_at:
                    self._give_up(child)
                    return
                if now > until:
                    _end_group(child)
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    del self._under_way[child]
                    _end_group(child)
                    code = os.waitstatus_to_exitcode(status)
                    self._told(mutant, {0: SURVIVED, 3: UNREACHED}.get(code, NOTICED))
                    return
            time.sleep(0.005)

    def _give_up(self, child: int) -> None:
        """Time is over: nothing is said of what is under way."""
        _end_group(child)
        os.waitpid(child, 0)
        del self._under_way[child]

    def _known(self, session: pytest.Session, functions: Functions) -> Known | None:
        """Run every test once as it is, in a fork. None where there was no time for that."""
        reading, writing = os.pipe()

        def told() -> int:
            os.close(reading)
            known, reached = Known(), set[int]()
            functions.watch(self._mutants, lambda number: reached.add(number))
            for item, after in pairwise([*session.items, None]):
                assert item is not None
                began = time.process_time()
                reached.clear()
                if _fails(session, item, after):
                    known.failed.add(item.nodeid)
                    continue
                known.cpu_s[item.nodeid] = time.process_time() - began
                known.reached[item.nodeid] = set(reached)
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(known, pipe)
            return 0

        child = _forked(told)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            left_s = min(max(0.0, self._ends_at - time.monotonic()), BASELINE_S_MAX)
            whole = select.select([pipe], [], [], left_s)[0]
            known: Known | None = pickle.load(pipe) if whole else None
        _end_group(child)
        os.waitpid(child, 0)
        for name in sorted(known.failed if known else ()):
            print(f"fails without any change, and is left out: {name}", flush=True)
        return known


def _fails(session: pytest.Session, item: pytest.Item | None, after: pytest.Item | None) -> bool:
    """Run one test with all that it needs; whether it failed."""
    assert item is not None
    before = session.testsfailed
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
    return session.testsfailed > before


def _forked(work: Callable[[], int]) -> int:
    """Do it in a fork, silently, in a group of processes of its own; the process' number."""
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        with suppress(OSError):
            os.setpgid(child, child)
        return child
    code = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        code = work()
    finally:
        os._exit(code)


def _end_group(child: int) -> None:
    """End what its tests left behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
