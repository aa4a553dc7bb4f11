"""What is to be run, how long it will take, and running it: every case with its servers up once. Room: bench."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bench.link import LinkError
from bench.processes import BenchError
from bench.results import ResultFile, Row
from bench.scenarios import Run, Settings, expected_s, opened, scenario

FAILED_RUNS_MAX = 2
"""Of one case; then its other runs are left out, so that one broken case can't cost an hour."""
LINK_CHECK_S = 40.0


@dataclass(frozen=True, slots=True)
class Step:
    """One case of one scenario."""

    name: str
    case: dict[str, Any]
    settings: Settings

    @property
    def key(self) -> str:
        """The case as it stands in result files."""
        return json.dumps(self.case, sort_keys=True)

    @property
    def command(self) -> str:
        """What measures this case alone."""
        words = ["python", "-m", "bench", "--only", self.name]
        for key, value in self.case.items():
            if not isinstance(value, tuple):
                words += ["--where", f"{key}={value}"]
        return shlex.join(words)

    def expected_s(self, runs: int) -> float:
        """About how long so many runs take."""
        return expected_s(scenario(self.name), self.case, self.settings, runs) if runs else 0.0

    def missing(self, file: ResultFile) -> list[int]:
        """Runs that the result file has not got."""
        return [n for n in range(self.settings.runs) if not file.has(self.name, self.key, n)]


class Plan:
    """All steps in order."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)

    def told(self) -> str:
        """What will be run, and the expected time."""
        lines = []
        for name in dict.fromkeys(step.name for step in self.steps):
            chosen = [step for step in self.steps if step.name == name]
            runs = chosen[0].settings.runs
            seconds = sum(step.expected_s(runs) for step in chosen)
            lines.append(f"{name}: {len(chosen)} cases, {runs} runs each, about {seconds / 60:.1f} min")
        return "\n".join([*lines, f"in all about {self.expected_s() / 60:.0f} minutes"])

    def expected_s(self) -> float:
        """About how long everything takes, the link's own check included."""
        total = sum(step.expected_s(step.settings.runs) for step in self.steps)
        return total + LINK_CHECK_S * any(scenario(step.name).NEEDS_LINK for step in self.steps)

    def run(self, file: ResultFile, console: Console) -> None:
        """Run what the file has not got. A run that can't be measured is told and left out."""
        todo = [(step, step.missing(file)) for step in self.steps]
        total_s = sum(step.expected_s(len(runs)) for step, runs in todo)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        done_s, started = 0.0, time.monotonic()
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("", total=sum(len(runs) for _, runs in todo))
            for step, runs in todo:
                if not runs:
                    continue
                elapsed = time.monotonic() - started
                pace = elapsed / done_s if done_s > 60 else 1.0
                left = f"{(total_s - done_s) * pace / 60:.0f} min left"
                words = f"{step.name} {' '.join(f'{k}={v}' for k, v in step.case.items())}"
                progress.update(task, description=f"{words} ({left})")
                if not console.is_terminal:
                    console.print(f"{elapsed:6.0f} s, {left}: {words}", soft_wrap=True, highlight=False)
                _case(step, runs, file, console, lambda: progress.advance(task))
                done_s += step.expected_s(len(runs))


def _case(step: Step, runs: Sequence[int], file: ResultFile, console: Console, advance: Any) -> None:
    """All missing runs of a case, in one context, or in another where one broke."""
    failed, left = 0, list(runs)
    while left and failed < FAILED_RUNS_MAX:
        try:
            with opened(scenario(step.name), step.case, step.settings) as run:
                while left:
                    _row(step, left[0], run, file)
                    left.pop(0)
                    advance()
        except Exception as error:  # whatever it was, the other cases of an hour's run go on
            failed += 1
            number = left.pop(0)
            advance()
            kind = "" if isinstance(error, (BenchError, LinkError)) else f"{type(error).__name__}: "
            why = escape(f"{step.name} {step.case} run {number}: {kind}{error}")
            console.print(f"[red]not measured:[/] {why}", soft_wrap=True)
    for _ in left:
        advance()


def _row(step: Step, number: int, run: Run, file: ResultFile) -> None:
    measured = run(step.settings.seed + number)
    file.add(
        [Row(step.name, m.params, number, m.measures, m.marks, step.command, step.key) for m in measured]
    )
