"""``python -m bench``: run scenarios, keep raw results, make tables and plots. Room: bench."""

from __future__ import annotations

import argparse
import ast
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from bench import floor as floors
from bench.environment import environment
from bench.headline import expected
from bench.link import LinkError, unavailable_because
from bench.link.netem import unavailable_because as no_netem_because
from bench.peers import servers
from bench.plan import Plan, Step
from bench.processes import BenchError
from bench.report import print_tables, write_plots
from bench.results import RESULTS, ResultFile, read, summarise
from bench.scenarios import ASKED_FOR, NAMES, SHORT, Settings, scenario

WARMUP_S = 1.0
SHORT_SECONDS = 5.0
FULL_SECONDS = {
    "frames": 3.5,
    "redundancy": 10.0,
    "shared": 10.0,
    "reads": 1.5,
    "writes": 1.5,
    "ingest": 4.0,
    "fanout": 2.5,
    "fallback": 5.0,
    "ycsb": 2.0,
}
"""Seconds measured in each run, so that everything with five runs takes less than 75 minutes."""
FULL_RUNS = 5
LINK_CHECKS_MAX = 3
"""A busy moment is not a broken link; a busy machine is."""
FOLDER = Path(__file__).resolve().parent
NOT_ALONE = frozenset({"__main__", "load", "store_load"})


def stand_alone() -> str:
    """The other measurements of this folder: every module that can be run, with its first sentence."""
    lines = ["stand-alone, each with its own --help (python -m bench.NAME):"]
    for path in sorted([*FOLDER.glob("*.py"), FOLDER / "link" / "check.py", FOLDER / "lean" / "capacity.py"]):
        text = path.read_text()
        if path.stem not in NOT_ALONE and 'if __name__ == "__main__"' in text:
            name = ".".join(path.relative_to(FOLDER).with_suffix("").parts)
            said = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0].replace("\n", " ")
            lines.append(f"  {name:14} {said.split(' Room:')[0].split(': ``python')[0]}")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog=stand_alone(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--short", action="store_true", help="scenarios 1, 2 and 5 in short form, under ten minutes"
    )
    made.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        choices=NAMES + ASKED_FOR,
        help="this scenario (repeatable)",
    )
    made.add_argument("--runs", type=int, help="runs of each case (default 5; short 1)")
    made.add_argument(
        "--seconds", type=float, help="seconds measured in each run (default 1.5 to 5; short 5)"
    )
    made.add_argument("--seed", type=int, default=1, help="the link's seed; run n uses seed + n")
    made.add_argument("--netem", action="store_true", help="the kernel's netem instead of our own carrier")
    made.add_argument(
        "--tcp", metavar="NAME", help="TCP's congestion control on the link (default: the machine's)"
    )
    made.add_argument("--out", type=Path, help="the result file (default bench/results/NAME.jsonl)")
    made.add_argument("--resume", action="store_true", help="keep what the result file has, run the rest")
    made.add_argument(
        "--where", metavar="KEY=VALUE", action="append", default=[], help="only cases with this parameter"
    )
    made.add_argument("--plan", action="store_true", help="say what would be run and how long, and end")
    return made


def settings_of(name: str, args: argparse.Namespace, link_packets_per_s: float = 0.0) -> Settings:
    """How one scenario is run."""
    seconds = args.seconds or (SHORT_SECONDS if args.short else FULL_SECONDS[name])
    return Settings(
        seconds=seconds,
        warmup_s=WARMUP_S,
        short=args.short,
        seed=args.seed,
        netem=args.netem,
        runs=args.runs or (1 if args.short else FULL_RUNS),
        tcp=args.tcp,
        link_packets_per_s=link_packets_per_s,
    )


def narrowed(case: dict[str, Any], where: Sequence[str]) -> dict[str, Any] | None:
    """The case as far as it is wanted, or None. Where a case has several values (all round trips at once),
    one of them may be asked for."""
    made = dict(case)
    for key, _, value in (word.partition("=") for word in where):
        had = made.get(key)
        if isinstance(had, tuple):
            made[key] = tuple(one for one in had if str(one) == value)
            if not made[key]:
                return None
        elif str(had) != value:
            return None
    return made


def check_link(console: Console, netem: bool) -> dict[str, Any] | None:
    """The link's self-check and its capacity; None: scenarios on the link are left out, and why is said."""
    reason = unavailable_because() or (no_netem_because() if netem else None)
    if reason:
        console.print(f"[yellow]no lossy link here:[/] {reason}. The loopback scenarios still run.")
        return None
    from bench.link.check import by_carrier, by_netem, capacity, check
    from gateway.link.model import Direction, LinkPath

    for _ in range(LINK_CHECKS_MAX):
        findings = check(LinkPath.symmetric(Direction(delay_ms=25.0, loss=0.02)), netem=netem)
        findings += check(LinkPath.symmetric(Direction(delay_ms=10.0, rate_kbps=8_000.0)), netem=netem)
        for finding in findings:
            console.print(f"link: {finding}")
        if all(finding.ok for finding in findings):
            break
    else:
        raise BenchError(
            "the link does not do what was asked of it, so nothing measured on it would mean anything"
        )
    made = capacity(opened=by_netem if netem else by_carrier)
    console.print(f"link: carries {made['packets_per_s']:,.0f} packets/s, adds {made['added_rtt_us']} µs")
    return {"by": "netem" if netem else "carrier", **made, "checked": [str(f) for f in findings]}


def peers(console: Console) -> dict[str, str]:
    """Which peers are here, installed if they can be: name -> version, or why it is missing."""
    made = {}
    for name in servers.PACKAGES:
        reason = servers.available(name)
        made[name] = f"missing: {reason}" if reason else servers.version(name)
        if reason:
            console.print(f"[yellow]peer {name} is missing:[/] {reason}; its rows are left out")
    return made


def run(names: Sequence[str], args: argparse.Namespace, console: Console) -> Path:
    """Run everything; answers the result file."""
    out = args.out or RESULTS / ("short.jsonl" if args.short else "full.jsonl")
    wanted = plan(names, args)
    console.print(wanted.told())
    floor = floors.measure()
    console.print(str(floor))
    needs_link = any(scenario(n).NEEDS_LINK for n in names)
    link = check_link(console, args.netem) if needs_link else None
    capacity = link["packets_per_s"] if link else 0.0
    if link is None:
        names = [n for n in names if not scenario(n).NEEDS_LINK]
    facts = {
        **environment(),
        "floor_us": floor.us,
        "link": link,
        "peers": peers(console),
        "arguments": sys.argv[1:],
    }
    if link and args.tcp:
        facts["tcp"] = args.tcp
    with ResultFile(out, facts, resume=args.resume) as file:
        plan(names, args, capacity).run(file, console)
    return out


def plan(names: Sequence[str], args: argparse.Namespace, link_packets_per_s: float = 0.0) -> Plan:
    """Every case of every scenario that is wanted."""
    steps = []
    for name in names:
        settings = settings_of(name, args, link_packets_per_s)
        for case in scenario(name).cases(args.short):
            kept = narrowed(case, args.where)
            if kept is not None:
                steps.append(Step(name, kept, settings))
    return Plan(steps)


def main() -> int:
    """Entry. Exit 0: measured; 1: the link or a needed part failed; 130: interrupted (Ctrl-C, SIGTERM)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    args = parser().parse_args()
    console = Console(stderr=False)
    names = args.only or (SHORT if args.short else NAMES)
    if args.plan:
        console.print(plan(names, args).told())
        return 0
    started = time.monotonic()
    try:
        out = run(names, args, console)
    except (BenchError, LinkError) as error:
        console.print(f"[red]{escape(str(error))}[/]")
        return 1
    except KeyboardInterrupt:
        console.print("stopped; what was measured is kept, and --resume goes on with it")
        return 130
    show(out, console)
    console.print(f"took {time.monotonic() - started:.0f} s")
    return 0


def show(out: Path, console: Console) -> None:
    """The tables, the plots, and where everything is."""
    facts, rows = read(out)
    summaries = summarise(rows)
    print_tables(summaries, console)
    for claim in expected(summaries, facts.get("floor_us")):
        console.print(str(claim))
    plots = write_plots(summaries, out.with_suffix(""))
    console.print(
        f"environment: {facts['processor']}, {facts['cores']} cores, kernel {facts['kernel']}, Python "
        f"{facts['python']}; TCP: {facts['tcp']}; {facts['pinned']}"
    )
    told = ", ".join(os.path.relpath(p) for p in plots) or "none"
    console.print(f"raw results: {os.path.relpath(out)}; plots: {told}")


if __name__ == "__main__":
    sys.exit(main())
