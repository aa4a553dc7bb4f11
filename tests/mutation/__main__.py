"""``python -m tests.mutation gateway/core --sample 100``: change one thing in a copy of the source, and see whether a test
notices. One mutant after the other, in one process; the survivors are listed, with the way to make each again.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.targets import is_equivalent, tests_of

ROOT = Path(__file__).parents[2]
COPIED = ("gateway", "tests", "docs", "pyproject.toml", "README.md")
SLACK_S = 20.0
TRIED_MIN = 10
"""Of fewer mutants the share says nothing, whatever it is."""


class Copy:
    """A copy of the source in a temporary folder, in which tests are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._usual_s: dict[tuple[str, ...], float] = {}
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, folder / name)

    def passes(self, tests: tuple[str, ...], limit_s: float) -> bool:
        """Whether these tests pass, in time: a mutant that goes on for ever has been noticed."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        command += ["-p", "tests.mutation.quick", "--timeout", "60"]
        how = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self.folder)}
        with subprocess.Popen(
            command, cwd=self.folder, env=how, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as run:
            try:
                return run.wait(limit_s) == 0
            except subprocess.TimeoutExpired:
                run.kill()
                return False

    def usual_s(self, tests: tuple[str, ...]) -> float:
        """How long these tests take; whoever does not pass unchanged can tell nothing."""
        if tests not in self._usual_s:
            began = time.monotonic()
            if not self.passes(tests, 600.0):
                raise SystemExit(f"without any change these do not pass: pytest {' '.join(tests)}")
            self._usual_s[tests] = time.monotonic() - began
        return self._usual_s[tests]

    def notices(self, mutant: Mutant) -> bool:
        """Whether a test fails with it."""
        tests = tests_of(mutant.path)
        limit_s = 3 * self.usual_s(tests) + SLACK_S
        changed, whole = self.folder / mutant.path, (ROOT / mutant.path).read_text()
        try:
            changed.write_text(mutant.text)
            return not self.passes(tests, limit_s)
        finally:
            changed.write_text(whole)


def files_of(names: list[str]) -> list[str]:
    """The modules under these names that have tests here, as paths from the root."""
    found = set[str]()
    for name in names:
        where = ROOT / name
        paths = where.rglob("*.py") if where.is_dir() else [where] if where.exists() else []
        found.update(str(path.relative_to(ROOT)) for path in paths)
    return sorted(path for path in found if tests_of(path))


def changed_since(base: str) -> list[str]:
    """Modules that differ from ``base``; those of the last commit where there is no such revision."""
    for since in (base, "HEAD~1"):
        command = ["git", "diff", "--name-only", since, "--", "gateway"]
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if told.returncode == 0 and told.stdout.strip():
            return files_of(told.stdout.split())
    return []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=["gateway/core", "gateway/wire"], help="folders or modules"
    )
    parser.add_argument("--changed", metavar="BASE", help="only modules that differ from this revision")
    parser.add_argument("--sample", type=int, default=100, help="how many mutants (default 100; 0: all)")
    parser.add_argument("--seed", type=int, default=1, help="which sample (default 1)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin none after so long")
    parser.add_argument("--floor", type=float, default=0.0, help="fail where fewer percent are noticed")
    parser.add_argument("--only", help="those whose name holds this text")
    asked = parser.parse_args()
    files = files_of(asked.names) if asked.changed is None else changed_since(asked.changed)
    all_of = [mutant for path in files for mutant in mutants_of(path, (ROOT / path).read_text())]
    wanted = [m for m in all_of if not is_equivalent(m.name) and (asked.only or "") in m.name]
    if asked.sample and not asked.only:
        wanted = random.Random(asked.seed).sample(wanted, min(asked.sample, len(wanted)))
    os.nice(19 - os.nice(0))
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        return report(Copy(Path(folder)), wanted, asked.seconds, asked.floor)


def report(copy: Copy, wanted: list[Mutant], seconds: float, floor: float) -> int:
    """Try each; the exit code."""
    began, killed, survivors = time.monotonic(), 0, list[Mutant]()
    for mutant in wanted:
        if time.monotonic() - began > seconds:
            break
        if copy.notices(mutant):
            killed += 1
        else:
            survivors.append(mutant)
            print(f"survived: {mutant.name}", flush=True)
    tried = killed + len(survivors)
    percent = 100.0 * killed / tried if tried else 100.0
    print(f"{killed} of {tried} mutants noticed ({percent:.1f} %) in {time.monotonic() - began:.0f} s")
    return 1 if tried >= TRIED_MIN and percent < floor else 0


if __name__ == "__main__":
    sys.exit(main())
