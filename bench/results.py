"""Raw results as JSON lines, and what is made of them: median, minimum and maximum over runs. Room: bench."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement of one scenario in one run. ``measures``: name (with its unit last) -> number.

    ``marks`` say what stands against the number, e.g. ``generator_bound`` or ``link_bound``.
    """

    scenario: str
    params: Mapping[str, Any]
    run: int
    measures: Mapping[str, float | None]
    marks: tuple[str, ...] = ()
    command: str = ""
    case: str = ""
    """The case that was run, as JSON: what ``--resume`` knows a run by."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, minimum and maximum of one measure over the runs."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.low)} to {short(self.high)})"


@dataclass(slots=True)
class Summary:
    """All runs of one (scenario, params)."""

    scenario: str
    params: dict[str, Any]
    measures: dict[str, Spread] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    runs: int = 0
    command: str = ""


def short(number: float) -> str:
    """Three significant digits, without an exponent."""
    if number == 0:
        return "0"
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"


class ResultFile:
    """Appends rows as they come, so that an interrupted run keeps what it measured. A context manager.

    ``resume``: keep the rows of the file that is there. The first line is the environment of its first run; another's
    is a line of its own. Raises ValueError on a foreign file.
    """

    def __init__(self, path: Path, environment: Mapping[str, Any], *, resume: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._done: set[tuple[str, str, int]] = set()
        if resume and path.exists():
            _, rows = read(path)
            self._done = {(row.scenario, row.case, row.run) for row in rows}
        self._file = path.open("a" if self._done else "w")
        self._write([{"environment": environment}])

    def has(self, scenario: str, case: str, run: int) -> bool:
        """Whether this run of this case is in the file."""
        return (scenario, case, run) in self._done

    def add(self, rows: Iterable[Row]) -> None:
        """Write the rows of one run, all or none."""
        self._write([asdict(row) for row in rows])

    def _write(self, values: Iterable[Mapping[str, Any]]) -> None:
        self._file.write("".join(json.dumps(value) + "\n" for value in values))
        self._file.flush()

    def close(self) -> None:
        """Done; the file stays."""
        self._file.close()

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """The environment and the rows of a result file. Raises ValueError on a foreign file."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    if not lines or "environment" not in lines[0]:
        raise ValueError(f"{path} is no result file: its first line must hold the environment")
    rows = [Row(**{**line, "marks": tuple(line["marks"])}) for line in lines[1:] if "environment" not in line]
    return lines[0]["environment"], rows


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """One summary for each (scenario, params), in the order of their first row."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(json.dumps([row.scenario, dict(row.params)], sort_keys=True), []).append(row)
    return [_summary(group) for group in groups.values()]


def by_scenario(summaries: Iterable[Summary]) -> dict[str, list[Summary]]:
    """The summaries of each scenario, in order."""
    grouped: dict[str, list[Summary]] = {}
    for summary in summaries:
        grouped.setdefault(summary.scenario, []).append(summary)
    return grouped


def _summary(group: list[Row]) -> Summary:
    first = group[0]
    names = dict.fromkeys(name for row in group for name in row.measures)
    summary = Summary(first.scenario, dict(first.params), runs=len(group), command=first.command)
    summary.marks = tuple(sorted({mark for row in group for mark in row.marks}))
    for name in names:
        values = [v for row in group if (v := row.measures.get(name)) is not None]
        if values:
            summary.measures[name] = Spread(statistics.median(values), min(values), max(values))
    return summary
