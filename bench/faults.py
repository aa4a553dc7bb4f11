"""Gateways and a store on machines of their own, broken again and again; what was promised is looked for each time. Room: bench.

``python -m bench.faults [--rounds 100] [--seed S] [--only FAULT ...] [--first K] [--short | --long] [--late S]``: five network
namespaces (a store with two addresses, gateways A and B over it, publishers, readers) behind a lossy link
(:mod:`bench.faults_machines`), which last for all rounds. In each round a world of its own is published at one gateway and read at both, by
WebTransport and by WebSocket, and then something breaks. Asked of every round:

* each value that was told durable is in the store, read there without a gateway, or lies in a gap that a lost datagram left;
* at every moment one home at most commits: the rows of two sessions never lie between each other's, and no fence is given twice;
* a value that is sent after the fault's end is at every reader within 2 s (``--late``), and readers whose own gateway lived have not
  connected anew;
* when the publisher falls silent everybody has its last state;
* nothing grows: the resident memory and the open files of what lived through a fault's rounds (from the fifth one on).

A round's chances come from the seed, its fault and its number: what failed is played again by the line that is told. ``--long``: the
store is away for 30 s, a home stands still for 20; without it 6 and 8, both more than a home's lease. Exit 1: a round failed.
Needs root.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.faults_judged import doubles, judge
from bench.faults_machines import MIB, Machines, Size, missing
from bench.faults_rounds import FAULTS, Round
from bench.processes import BenchError

LATE_S = 2.0
LONG_AWAY_S, LONG_PAUSED_S = 30.0, 20.0
GROWTH_MIB_MAX, GROWTH_FILES_MAX, SETTLED_ROUND = 24.0, 24, 5
"""What a process may have more of after a fault's rounds than after the first few: its allocator's and its worlds' ups and downs."""


# -- round after round ------------------------------------------------------------------------


def play(machines: Machines, fault: str, number: int, args: argparse.Namespace) -> Round:
    """One round; what is wrong with it stands in it."""
    dice = random.Random(f"{args.seed} {fault} {number}")
    home, edge = dice.sample(["a", "b"], 2)
    one = Round(
        machines,
        dice,
        f"{fault.replace('_', '-')}-{number}",
        home,
        edge,
        dice.choice(["websocket", "webtransport"]),
        args.late,
        args.away,
        args.paused,
        {home, edge},
        {home, edge},
    )
    try:
        one.publish("p", home)
        one.arrived("p", home)
        machines.readers.ask("begin", world=one.world, ca=machines.ca, at=[one.url(n) for n in "ab"])
        one.converged(time.monotonic(), "ab")
        one.wait(0.0, 1.0)
        FAULTS[fault](one)
        judge(one)
    except BenchError as error:
        one.wrong.append(str(error))
    finally:
        machines.publishers.ask("end")
        machines.readers.ask("end")
        machines.mend()
    return one


@dataclass
class Told:
    """What came of a fault's rounds."""

    fault: str
    rounds: list[Round] = field(default_factory=list)
    sizes: list[dict[str, tuple[int, Size]]] = field(default_factory=list)
    """After each round, by service: how often it was started, and what it holds."""

    def growth(self) -> Iterator[str]:
        """What grew from the first few rounds to the last."""
        for name in self.sizes[-1] if len(self.sizes) > SETTLED_ROUND else ():
            starts, last = self.sizes[-1][name]
            early_starts, early = self.sizes[SETTLED_ROUND - 1].get(name, (0, last))
            if starts != early_starts:
                continue
            more_mib, more_files = (last.rss_bytes - early.rss_bytes) / MIB, last.files - early.files
            if more_mib > GROWTH_MIB_MAX or more_files > GROWTH_FILES_MAX:
                yield (
                    f"{name} grew by {more_mib:.1f} MiB and {more_files} open files over "
                    f"{len(self.sizes) - SETTLED_ROUND} rounds of {self.fault}"
                )

    def line(self) -> str:
        """Of the table."""
        took = sorted(one.took_s for one in self.rounds)
        gone = [one.publisher_s for one in self.rounds if one.publisher_s is not None]
        stored = [one.durable_s for one in self.rounds if one.durable_s is not None]
        sizes = " ".join(
            f"{name} {self.sizes[0][name][1].rss_bytes / MIB:.0f}→{self.sizes[-1][name][1].rss_bytes / MIB:.0f}"
            for name in ("store", "a", "b")
        )
        return (
            f"{self.fault:26}{len(self.rounds):6}{sum(bool(one.wrong) for one in self.rounds):8}"
            f"{median(took):9.2f}{took[-1]:7.2f}{_pair(gone):>14}{_pair(stored):>14}"
            f"{sum(one.connects for one in self.rounds):9}   {sizes}"
        )


def _pair(seconds: list[float]) -> str:
    return f"{median(seconds):.2f} {max(seconds):.2f}" if seconds else "-"


HEAD = (
    f"{'fault':26}{'rounds':>6}{'failed':>8}{'p50 s':>9}{'max s':>7}{'nobody s':>14}{'durable s':>14}{'connects':>9}   RSS, MiB\n"
    f"{'':40}{'until converged':>16}{'p50, max':>14}{'p50, max':>14}{'anew':>9}   of those at start and end"
)


def run(machines: Machines, args: argparse.Namespace) -> list[Told]:
    """All faults, each round after round."""
    found = []
    for fault in args.only or FAULTS:
        told = Told(fault)
        for number in range(args.first, args.first + args.rounds):
            one = play(machines, fault, number, args)
            told.rounds.append(one)
            sizes, services = machines.sizes(), machines.services
            told.sizes.append({name: (services[name].starts, size) for name, size in sizes.items()})
            for wrong in one.wrong:
                print(f"{fault}, round {number}: {wrong}")
            if one.wrong:
                again = f"--seed {args.seed} --only {fault} --first {number} --rounds 1"
                again += f" --away {args.away:g} --paused {args.paused:g}"
                print(f"  played again by: python -m bench.faults {again}", flush=True)
        for grown in told.growth():
            print(grown)
            told.rounds[-1].wrong.append(grown)
        print(told.line(), flush=True)
        found.append(told)
    return found


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """From the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=100, help="of each fault")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", action="store_true", help="--away 6 --paused 8, as without it")
    length.add_argument("--long", action="store_true", help="--away 30 --paused 20")
    parser.add_argument(
        "--away", type=float, default=6.0, help="seconds without a store, and at most of being cut off"
    )
    parser.add_argument(
        "--paused", type=float, default=8.0, help="seconds for which a home stands still at most"
    )
    parser.add_argument(
        "--late", type=float, default=LATE_S, help="seconds that readers may take to converge"
    )
    parser.add_argument("--rtt", type=float, default=10.0, help="ms, between two machines")
    parser.add_argument("--loss", type=float, default=1.0, help="percent, one way between two machines")
    parser.add_argument(
        "--keep", type=Path, help="a folder for logs, which stay; else they stay where a round failed"
    )
    args = parser.parse_args(argv)
    if args.long:
        args.away, args.paused = LONG_AWAY_S, LONG_PAUSED_S
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Entry."""
    args = arguments(argv)
    if (why := missing()) is not None:
        print(f"no machines here: {why}", file=sys.stderr)
        return 2
    if args.keep is not None:
        args.keep.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="mvgateway-faults-", dir=args.keep))
    print(f"seed {args.seed}\n{HEAD}", flush=True)
    began, failed = time.monotonic(), True
    try:
        with Machines(folder, rtt_ms=args.rtt, loss=args.loss / 100, seed=args.seed) as machines:
            found = run(machines, args)
            twice = doubles(machines.fences())
        for world, fence in twice:
            print(f"fence {fence} of {world} was given twice")
        rounds = [one for told in found for one in told.rounds]
        failures = sum(bool(one.wrong) for one in rounds)
        failed = bool(failures or twice)
        print(f"{len(rounds)} rounds in {time.monotonic() - began:.0f} s, {failures} failed; asked: none")
    finally:
        if failed:
            print(f"logs: {folder}")
        elif args.keep is None:
            shutil.rmtree(folder)
    return int(failed)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the machines are taken down
    sys.exit(main())
