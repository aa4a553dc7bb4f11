"""Tables on screen and in Markdown, and SVG plots, from summaries. Room: bench.

``python -m bench.report FILE.jsonl --markdown`` prints the tables for docs/BENCHMARKS.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.results import Summary, read, short, summarise

AGE_CLAIM = "age_p99_ms"


def _columns(summaries: Sequence[Summary]) -> tuple[list[str], list[str]]:
    """Parameter names that vary first, then measure names, both in order of appearance."""
    params = list(dict.fromkeys(key for s in summaries for key in s.params))
    measures = list(dict.fromkeys(key for s in summaries for key in s.measures))
    return params, measures


def _cells(summary: Summary, params: list[str], measures: list[str]) -> list[str]:
    cells = [str(summary.params.get(p, "")) for p in params]
    for name in measures:
        spread = summary.measures.get(name)
        cells.append("" if spread is None else short(spread.median) if summary.runs == 1 else str(spread))
    return [*cells, ", ".join(summary.marks)]


def by_scenario(summaries: Sequence[Summary]) -> dict[str, list[Summary]]:
    """The summaries of each scenario, in order."""
    grouped: dict[str, list[Summary]] = {}
    for summary in summaries:
        grouped.setdefault(summary.scenario, []).append(summary)
    return grouped


def print_tables(summaries: Sequence[Summary], console: Console) -> None:
    """One table a scenario: the median (and minimum to maximum where there were several runs)."""
    for name, group in by_scenario(summaries).items():
        params, measures = _columns(group)
        table = Table(title=f"{name} (median of {group[0].runs} run{'s' if group[0].runs > 1 else ''})")
        for column in (*params, *measures, "marks"):
            table.add_column(column, overflow="fold")
        for summary in group:
            table.add_row(*_cells(summary, params, measures))
        console.print(table)


def markdown(summaries: Sequence[Summary]) -> str:
    """The same tables for a Markdown page, with the command above each."""
    parts = []
    for name, group in by_scenario(summaries).items():
        params, measures = _columns(group)
        head = [*params, *measures, "marks"]
        lines = [
            f"### {name}",
            "",
            f"`python -m bench --only {name}`, {group[0].runs} runs: median (min to max)",
            "",
        ]
        lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        lines += ["| " + " | ".join(_cells(s, params, measures)) + " |" for s in group]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def write_plots(summaries: Sequence[Summary], prefix: Path) -> list[Path]:
    """One SVG a scenario that has a plot: ``PREFIX-frames.svg``, ``PREFIX-fanout.svg``. Needs matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        return []
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mvgateway"
    groups = by_scenario(summaries)
    made = []
    for name, draw in (("frames", _draw_frames), ("fanout", _draw_fanout)):
        if name in groups:
            made.append(draw(groups[name], prefix.with_name(f"{prefix.name}-{name}.svg")))
    return made


def _draw_frames(group: Sequence[Summary], path: Path) -> Path:
    """p99 excess age over loss, one panel a round trip, one line a transport (60 Hz, 1 KB)."""
    import matplotlib.pyplot as plt

    chosen = [
        s for s in group if s.params["hz"] == 60 and s.params["frame_bytes"] == 1024 and not s.params["burst"]
    ]
    if not chosen:
        chosen = list(group)
    trips = sorted({s.params["rtt_ms"] for s in chosen})
    figure, panels = plt.subplots(1, len(trips), figsize=(4.2 * len(trips), 3.6), squeeze=False, sharey=True)
    for panel, rtt_ms in zip(panels[0], trips, strict=True):
        _lines(
            panel,
            [s for s in chosen if s.params["rtt_ms"] == rtt_ms],
            "loss_percent",
            "excess_p99_ms",
            "door",
        )
        panel.set(title=f"RTT {rtt_ms} ms", xlabel="loss, %", ylabel="p99 excess age, ms")
        panel.legend(fontsize=7)
    return _saved(figure, path)


def _draw_fanout(group: Sequence[Summary], path: Path) -> Path:
    """The relay's CPU time per delivered frame over readers, one panel a frame size."""
    import matplotlib.pyplot as plt

    sizes = sorted({s.params["frame_bytes"] for s in group})
    figure, panels = plt.subplots(1, len(sizes), figsize=(4.8 * len(sizes), 3.6), squeeze=False)
    for panel, size in zip(panels[0], sizes, strict=True):
        _lines(
            panel,
            [s for s in group if s.params["frame_bytes"] == size],
            "readers",
            "relay_cpu_us_per_frame",
            "relay",
        )
        panel.set(
            title=f"{size} bytes a frame",
            xlabel="readers",
            ylabel="relay's CPU a delivered frame, µs",
            ylim=(0, None),
        )
        panel.legend(fontsize=7)
    return _saved(figure, path)


def _lines(panel: Any, group: Sequence[Summary], x: str, y: str, by: str) -> None:
    for label in dict.fromkeys(str(s.params[by]) for s in group):
        points = sorted(
            (s.params[x], s.measures[y]) for s in group if str(s.params[by]) == label and y in s.measures
        )
        xs, spreads = [p[0] for p in points], [p[1] for p in points]
        error = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
        panel.errorbar(xs, [s.median for s in spreads], yerr=error, marker="o", capsize=3, label=label)


def _saved(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    return path


def main() -> int:
    """Entry: tables (and plots) of an existing result file."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--markdown", action="store_true", help="tables for a Markdown page instead of the screen"
    )
    parser.add_argument("--plots", type=Path, metavar="PREFIX", help="write plots as PREFIX-SCENARIO.svg")
    args = parser.parse_args()
    _, rows = read(args.file)
    summaries = summarise(rows)
    if args.markdown:
        print(markdown(summaries))
    else:
        print_tables(summaries, Console())
    if args.plots:
        write_plots(summaries, args.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
