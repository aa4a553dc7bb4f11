"""``python -m tests.mutation gateway/core --sample 100``: change one thing in a module, and see whether a test notices. The
survivors are listed, with the share of each room; ``--gate`` fails where it is under the room's bound by more than chance brings.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time

from tests.mutation.forks import NOTICED, ROOT, Forks
from tests.mutation.gate import base_known, changed_since, least_noticed, seed_of
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.targets import EQUIVALENT, ROOMS, room_of, tests_of

Outcome = tuple[Mutant, str]
USUAL = ("-q", "-s", "-p", "no:cacheprovider", "-p", "tests.mutation.quick", "--timeout", "60")


def files_of(names: list[str]) -> list[str]:
    """The modules under these names that have tests here, as paths from the root."""
    found = set[str]()
    for name in names:
        where = ROOT / name
        paths = where.rglob("*.py") if where.is_dir() else [where] if where.exists() else []
        found.update(str(path.relative_to(ROOT)) for path in paths)
    return sorted(path for path in found if tests_of(path))


def counted(files: list[str], only: str = "") -> list[Mutant]:
    """The mutants of these modules, without those that nobody could tell from the source."""
    every = (mutant for path in files for mutant in mutants_of(path, (ROOT / path).read_text()))
    return [mutant for mutant in every if mutant.told not in EQUIVALENT and only in mutant.name]


def outcomes(mutants: list[Mutant], jobs: int, ends_at: float, tests: tuple[str, ...] = ()) -> list[Outcome]:
    """Try them; those of one room share what is imported. Of those that there was no time for nothing is said."""
    groups = dict[tuple[str, ...], list[Mutant]]()
    for mutant in mutants:
        groups.setdefault(tests or tests_of(mutant.path), []).append(mutant)
    found = list[Outcome]()
    for tests, group in groups.items():
        if time.monotonic() < ends_at:
            found += _tried(tests, group, jobs, ends_at)
    return found


def _tried(tests: tuple[str, ...], group: list[Mutant], jobs: int, ends_at: float) -> list[Outcome]:
    """Of one group, in a process of its own: what it imports must not stay."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.close(reading)
        with tempfile.TemporaryDirectory(prefix="mutation-") as folder, os.fdopen(writing, "w", 1) as pipe:
            os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
            numbers = {mutant: number for number, mutant in enumerate(group)}
            told = Forks(group, lambda mutant, end: print(numbers[mutant], end, file=pipe), jobs, ends_at)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            import pytest

            pytest.main([*USUAL, *tests], plugins=[told])
        os._exit(0)
    os.close(writing)
    found = list[Outcome]()
    with os.fdopen(reading) as pipe:
        for line in pipe:
            number, _, end = line.strip().partition(" ")
            found.append((group[int(number)], end))
            if end != NOTICED:
                print(
                    f"survived: {group[int(number)].name}, in {group[int(number)].within} ({end})", flush=True
                )
    os.waitpid(child, 0)
    return found


def report(found: list[Outcome], took_s: float) -> None:
    """The share of each room and module."""
    for names in (room_of, lambda path: path):
        shares = dict[str, list[bool]]()
        for mutant, end in found:
            shares.setdefault(names(mutant.path), []).append(end == NOTICED)
        for name, ends in sorted(shares.items()):
            print(f"{name}: {sum(ends)} of {len(ends)} mutants noticed ({100 * sum(ends) / len(ends):.1f} %)")
    print(f"{len(found)} mutants in {took_s:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(ROOMS), help="folders or modules")
    parser.add_argument(
        "--changed",
        metavar="BASE",
        help="only modules that differ from this revision; where it is not known here, those of one room",
    )
    parser.add_argument("--sample", type=int, default=100, help="how many mutants (default 100; 0: all)")
    parser.add_argument("--seed", type=int, default=1, help="which sample (default 1)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin none after so long")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default 2)")
    parser.add_argument(
        "--gate", action="store_true", help="draw by what the modules are; fail under the bound"
    )
    parser.add_argument("--tests", nargs="+", help="these tests in the place of the modules' own")
    parser.add_argument("--only", default="", help="those whose name holds this text")
    asked = parser.parse_args()
    began = time.monotonic()
    seed = seed_of(ROOT) if asked.gate else asked.seed
    files = files_of(asked.names)
    if asked.changed and base_known(asked.changed):
        files = files_of(changed_since(asked.changed))
    elif asked.changed is not None:
        files = files_of([random.Random(seed).choice(sorted(ROOMS))])
    wanted = counted(files, asked.only)
    if asked.sample and not asked.only:
        wanted = random.Random(seed).sample(wanted, min(asked.sample, len(wanted)))
    os.nice(max(0, 10 - os.nice(0)))
    found = outcomes(wanted, asked.jobs, began + asked.seconds, tuple(asked.tests or ()))
    report(found, time.monotonic() - began)
    least = least_noticed([ROOMS[room_of(mutant.path)].held for mutant, _ in found])
    noticed = sum(end == NOTICED for _, end in found)
    if wanted and not found and time.monotonic() - began < asked.seconds:
        print("nothing could be tried: do the tests of these modules run?")
        return 2
    if asked.gate:
        print(f"{noticed} noticed; of {len(found)} at least {least} have to be")
    return int(asked.gate and noticed < least)


if __name__ == "__main__":
    sys.exit(main())
