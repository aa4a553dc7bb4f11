"""Tables on screen and in Markdown, SVG plots, and what was asked against what was measured. Room: bench.

``python -m bench.report FILE.jsonl --markdown`` prints the tables for docs/BENCHMARKS.md, ``--plots docs/bench`` writes
``docs/bench-SCENARIO.svg``, ``--headline`` prints the figures that were asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.headline import headline
from bench.plots import write_plots
from bench.results import Summary, by_scenario, read, short, summarise
from bench.tables import markdown

__all__ = ["headline", "markdown", "print_tables", "write_plots"]


def _columns(summaries: Sequence[Summary]) -> tuple[list[str], list[str]]:
    """Parameter names first, then measure names, both in order of appearance."""
    params = list(dict.fromkeys(key for s in summaries for key in s.params))
    measures = list(dict.fromkeys(key for s in summaries for key in s.measures))
    return params, measures


def _cells(summary: Summary, params: list[str], measures: list[str]) -> list[str]:
    cells = [str(summary.params.get(p, "")) for p in params]
    for name in measures:
        spread = summary.measures.get(name)
        cells.append("" if spread is None else short(spread.median))
    return [*cells, ", ".join(summary.marks)]


def print_tables(summaries: Sequence[Summary], console: Console) -> None:
    """One table a scenario: the medians of everything that was measured."""
    for name, group in by_scenario(summaries).items():
        params, measures = _columns(group)
        table = Table(title=f"{name} (median of {group[0].runs} run{'s' if group[0].runs > 1 else ''})")
        for column in (*params, *measures, "marks"):
            table.add_column(column, overflow="fold")
        for summary in group:
            table.add_row(*_cells(summary, params, measures))
        console.print(table)


def main() -> int:
    """Entry: tables, plots and headline of an existing result file. Exit 1: a headline figure was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--markdown", action="store_true", help="tables for a Markdown page instead of the screen"
    )
    parser.add_argument("--plots", type=Path, metavar="PREFIX", help="write plots as PREFIX-SCENARIO.svg")
    parser.add_argument("--headline", action="store_true", help="only what was asked and what was measured")
    args = parser.parse_args()
    facts, rows = read(args.file)
    summaries = summarise(rows)
    if args.plots:
        for path in write_plots(summaries, args.plots):
            print(f"wrote {path}", file=sys.stderr)
    if args.headline:
        claims = headline(summaries)
        print("\n".join(str(claim) for claim in claims))
        return 0 if all(claim.ok is not False for claim in claims) else 1
    if args.markdown:
        print(markdown(facts, summaries))
    elif not args.plots:
        print_tables(summaries, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
