"""The headlines of the pages, each a ratio with its spread: what holds on other machines, too. Room: bench.

Both figures of a ratio are measured by turns in one run of ``python -m bench.check``. A ratio's spread is made, not chosen:
the least and the most of the runs on record (``bench/results/check.jsonl``, one line a run, with the floor and the
load of its machine), each moved outward by :data:`MARGIN`; of those of a quiet machine alone, once there are enough. With fewer than :data:`RUNS_LEAST` runs on record there is no
spread, and nothing is judged by it. docs/BENCHMARKS.md states them all; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Side = Literal["lower", "higher"]

RECORD = Path(__file__).resolve().parent / "results" / "check.jsonl"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "BENCHMARKS.md"
BEGIN, END = "<!-- python -m bench.check --table -->", "<!-- until here -->"
HEAD = "| what | ratio | runs | better is |\n| --- | --- | --- | --- |"
MARGIN = 1.15
"""Five runs show some two thirds of the range that a sixth falls into: this is for the rest."""
RUNS_LEAST = 5
QUIET_LOAD = 1.5
"""The load average before a run, up to which its machine was quiet. With enough of such runs on record busier ones count no more."""

HEADLINES: Mapping[str, tuple[str, Side]] = {
    "floor_1k": ("a delivered frame of 1 KB at 100 readers, times the floor", "lower"),
    "floor_4k": ("a delivered frame of 4 KB at 100 readers, times the floor", "lower"),
    "stock_1k": ("stock aioquic's CPU for it at 1 KB, times the gateway's", "higher"),
    "moq_frame_1k": ("moq-relay's, a stream a frame, 1 KB, times the gateway's", "higher"),
    "moq_second_1k": ("moq-relay's, a stream a second, 1 KB, times the gateway's", "higher"),
    "moq_frame_4k": ("moq-relay's, a stream a frame, 4 KB, times the gateway's", "higher"),
    "moq_second_4k": ("moq-relay's, a stream a second, 4 KB, times the gateway's", "higher"),
    "moq_memory": ("moq-relay's memory a reader, a stream a second, times the gateway's", "higher"),
    "udp_tcp": ("UDP's p99 excess age of TCP's at 2 % loss and 50 ms", "lower"),
    "commit_cpu": ("CPU of a forwarded commit over HTTP/1.1, times Caddy's", "lower"),
    "commit_rate": ("forwarded commits a second over HTTP/1.1, of Caddy's", "higher"),
    "commit_rate_h3": ("forwarded commits a second over HTTP/3, of Caddy's", "higher"),
    "commit_cpu_h3": ("CPU of a forwarded commit over HTTP/3, times Caddy's", "lower"),
    "read_cpu": ("CPU of a forwarded read of 10 pages, times Caddy's", "lower"),
    "cached_cpu": ("CPU of a read of 10 pages from the cache, times Caddy's forwarded one", "lower"),
    "bulk": ("bulk reads over HTTP/3 on this machine, of TCP's speed", "higher"),
}
"""What each is, and which side of its spread may be left without the page being wrong."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """``low`` and ``high``: the spread; ``runs``: how many it is made of."""

    key: str
    what: str
    low: float
    high: float
    better: Side
    runs: int

    @property
    def is_judged(self) -> bool:
        """Whether enough is on record to hold a machine to it."""
        return self.runs >= RUNS_LEAST

    def holds(self, measured: float) -> bool:
        """Whether what was measured is as good as the page says, within its spread."""
        return measured <= self.high if self.better == "lower" else measured >= self.low

    def told(self, measured: float | None) -> str:
        """A line."""
        page = f"page {self.low:.2f} to {self.high:.2f}" if self.runs else "nothing on record"
        if measured is None:
            return f"not measured  {self.what}: {page}"
        if not self.is_judged:
            return f"not judged {measured:6.2f}  {self.what}: {self.runs} of {RUNS_LEAST} runs on record"
        verdict = "holds " if self.holds(measured) else "MISSED"
        return f"{verdict} {measured:6.2f}  {self.what}: {page}"

    def row(self) -> str:
        """Its line in the page's table."""
        spread = f"{self.low:.2f} to {self.high:.2f}" if self.is_judged else "not stated"
        side = "or less" if self.better == "lower" else "or more"
        return f"| {self.what} | {spread} | {self.runs} | {side} |"


def recorded(path: Path = RECORD) -> list[dict[str, Any]]:
    """The runs on record."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def record(run: Mapping[str, Any], path: Path = RECORD) -> None:
    """Put one more run on record."""
    with path.open("a") as file:
        file.write(json.dumps(run) + "\n")


def counted(runs: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The runs that make the spreads."""
    quiet = [run for run in runs if run["load"] <= QUIET_LOAD]
    return quiet if len(quiet) >= RUNS_LEAST else runs


def spreads(runs: Sequence[Mapping[str, Any]]) -> list[Ratio]:
    """Every headline with what the runs on record make of it."""
    measured: dict[str, list[float]] = {}
    for run in counted(runs):
        for key, value in run["ratios"].items():
            measured.setdefault(key, []).append(float(value))
    return [_ratio(key, *HEADLINES[key], measured.get(key, ())) for key in HEADLINES]


def _ratio(key: str, what: str, better: Side, values: Sequence[float]) -> Ratio:
    low, high = (min(values) / MARGIN, max(values) * MARGIN) if values else (0.0, 0.0)
    return Ratio(key, what, round(low, 2), round(high, 2), better, len(values))


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """The page's table, and what it was made of."""
    rows = [HEAD, *(ratio.row() for ratio in spreads(runs))]
    if runs := counted(runs):
        loads, floors = ([run[name] for run in runs] for name in ("load", "floor_us"))
        rows += [
            "",
            f"Made of {len(runs)} runs: load average before each {min(loads):g} to {max(loads):g}, "
            f"floor {min(floors):g} to {max(floors):g} µs.",
        ]
    return "\n".join(rows)


def with_table(page: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """The page with its table made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(runs)}\n\n{END}{after}"


RATIOS = spreads(recorded())
