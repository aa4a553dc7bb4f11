"""``python -m bench``: run scenarios, keep raw results, make tables and plots. Room: bench."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.environment import environment
from bench.link import LinkError, unavailable_because
from bench.link.netem import unavailable_because as no_netem_because
from bench.processes import BenchError
from bench.report import print_tables, write_plots
from bench.results import RESULTS, ResultFile, Row, read, summarise
from bench.scenarios import NAMES, SHORT, Settings, scenario

SHORT_SETTINGS = {"seconds": 5.0, "warmup_s": 1.0, "runs": 1}
FULL_SETTINGS = {"seconds": 10.0, "warmup_s": 2.0, "runs": 5}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    made.add_argument(
        "--short", action="store_true", help="scenarios 1, 2 and 5 in short form, under ten minutes"
    )
    made.add_argument(
        "--only", metavar="NAME", action="append", choices=NAMES, help="this scenario (repeatable)"
    )
    made.add_argument("--runs", type=int, help="runs of each case (default 5; short 1)")
    made.add_argument("--seconds", type=float, help="seconds measured in each run (default 10; short 5)")
    made.add_argument("--seed", type=int, default=1, help="the link's seed; run n uses seed + n")
    made.add_argument("--netem", action="store_true", help="the kernel's netem instead of our own carrier")
    made.add_argument("--out", type=Path, help="the result file (default bench/results/NAME.jsonl)")
    made.add_argument(
        "--where", metavar="KEY=VALUE", action="append", default=[], help="only cases with this parameter"
    )
    return made


def _settings(args: argparse.Namespace) -> tuple[Settings, int]:
    base = SHORT_SETTINGS if args.short else FULL_SETTINGS
    seconds = args.seconds or float(base["seconds"])
    return Settings(seconds, float(base["warmup_s"]), args.short, args.seed, args.netem), args.runs or int(
        base["runs"]
    )


def _wanted(case: dict[str, object], where: Sequence[str]) -> bool:
    return all(str(case.get(key)) == value for key, _, value in (word.partition("=") for word in where))


def check_link(console: Console, netem: bool) -> bool:
    """The link's self-check; False: scenarios on the link are left out, and why is said."""
    reason = unavailable_because() or (no_netem_because() if netem else None)
    if reason:
        console.print(f"[yellow]no lossy link here:[/] {reason}. The loopback scenarios still run.")
        return False
    from bench.link.check import check
    from bench.link.model import Direction, Path

    findings = check(Path.symmetric(Direction(delay_ms=25.0, loss=0.02)))
    for finding in findings:
        console.print(f"link: {finding}")
    if not all(finding.ok for finding in findings):
        raise BenchError(
            "the link does not do what was asked of it, so nothing measured on it would mean anything"
        )
    return True


def run(names: Sequence[str], args: argparse.Namespace, console: Console) -> Path:
    """Run everything; answers the result file."""
    settings, runs = _settings(args)
    linked = check_link(console, args.netem) if any(scenario(n).NEEDS_LINK for n in names) else False
    names = [n for n in names if linked or not scenario(n).NEEDS_LINK]
    out = args.out or RESULTS / ("short.jsonl" if args.short else "full.jsonl")
    file = ResultFile(out, environment())
    plan = [
        (n, c, r)
        for n in names
        for c in scenario(n).cases(args.short)
        if _wanted(c, args.where)
        for r in range(runs)
    ]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(plan))
        for name, case, number in plan:
            progress.update(task, description=f"{name} {' '.join(f'{k}={v}' for k, v in case.items())}")
            _one(name, case, number, settings, file, console)
            progress.advance(task)
    file.close()
    return out


def _one(
    name: str, case: dict[str, object], number: int, settings: Settings, file: ResultFile, console: Console
) -> None:
    seeded = replace(settings, seed=settings.seed + number)
    command = f"python -m bench --only {name} " + " ".join(f"--where {k}={v}" for k, v in case.items())
    try:
        for measured in scenario(name).measure(case, seeded):
            file.add(Row(name, measured.params, number, measured.measures, measured.marks, command))
    except (BenchError, LinkError) as error:
        console.print(f"[red]not measured:[/] {name} {case}: {error}")


def main() -> int:
    """Entry. Exit 0: measured; 1: the link or a needed part failed."""
    args = parser().parse_args()
    console = Console(stderr=False)
    started = time.monotonic()
    try:
        out = run(args.only or (SHORT if args.short else NAMES), args, console)
    except (BenchError, LinkError) as error:
        console.print(f"[red]{error}[/]")
        return 1
    except KeyboardInterrupt:
        console.print("stopped; what was measured is kept")
        return 130
    facts, rows = read(out)
    print_tables(summarise(rows), console)
    plots = write_plots(summarise(rows), out.with_suffix(""))
    console.print(
        f"environment: {facts['processor']}, {facts['cores']} cores, kernel {facts['kernel']}, Python {facts['python']}"
    )
    console.print(
        f"raw results: {os.path.relpath(out)}; plots: {', '.join(os.path.relpath(p) for p in plots) or 'none'}"
    )
    console.print(f"took {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
