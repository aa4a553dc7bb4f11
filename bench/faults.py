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
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.faults_ends import Said
from bench.faults_machines import MIB, Machines, Service, Size, missing, until
from bench.processes import BenchError
from gateway.limits import EDGE_FORSAKE_S

LATE_S = 2.0
LONG_AWAY_S, LONG_PAUSED_S = 30.0, 20.0
PATIENCE_S = 300.0
"""After so long what was waited for never comes: that it is late is said long before."""
GROWTH_MIB_MAX, GROWTH_FILES_MAX, SETTLED_ROUND = 24.0, 24, 5
"""What a process may have more of after a fault's rounds than after the first few: its allocator's and its worlds' ups and downs."""
FORSAKEN_S = EDGE_FORSAKE_S - 1.0
"""Apart for longer, readers may be sent to the home, as the pages say: then they connect anew."""


@dataclass
class Round:
    """One, as it goes: ``home`` and ``edge`` are names of gateways."""

    machines: Machines
    dice: random.Random
    world: str
    home: str
    edge: str
    door: str
    late_s: float
    away_s: float
    paused_s: float
    sticky: set[str] = field(default_factory=set)
    """Gateways whose readers may not have connected anew."""
    reached: set[str] = field(default_factory=set)
    """Gateways whose readers are to see everything at the end."""
    server: str = "p"
    """Who publishes in the end."""
    took_s: float = 0.0
    publisher_s: float | None = None
    """How long nobody published."""
    wrong: list[str] = field(default_factory=list)
    connects: int = 0
    """Of readers, beyond their first."""
    durable_s: float | None = None

    def gateway(self, name: str) -> Service:
        return self.machines.gateways[name]

    def url(self, name: str) -> str:
        return self.gateway(name).url

    # -- who publishes --------------------------------------------------------------------

    def publish(self, server: str, at: str, *, takeover: bool = False) -> None:
        """A game server comes to a gateway."""
        self.machines.publishers.ask(
            "begin",
            name=server,
            world=self.world,
            ca=self.machines.ca,
            door=self.door,
            at=[self.url(at)],
            takeover=takeover,
        )

    def go(self, server: str, at: str | None) -> None:
        """It leaves where it is, and goes there."""
        self.machines.publishers.ask("go", name=server, at=[] if at is None else [self.url(at)])

    def look(self, server: str) -> Any:
        return self.machines.publishers.ask("look")[server]

    def arrived(self, server: str, at: str, after: float = 0.0) -> float:
        """Since when it publishes there (``time.monotonic``)."""

        def look() -> bool:
            told = self.look(server)
            return bool(told["at"] == self.url(at) and told["began"] > after)

        self.within(look, f"{server} is let in at {at}")
        return float(self.look(server)["began"])

    def within(self, look: Callable[[], bool], what: str) -> float:
        """Raises BenchError where that never comes."""
        took = until(PATIENCE_S, look)
        if took is None:
            raise BenchError(f"not within {PATIENCE_S:g} s: {what}; {self.all_told()}")
        return took

    def all_told(self) -> str:
        """Everything there is to be seen."""
        readers = [
            {name: told[name] for name in ("gateway", "door", "connects", "met_at", "refusal", "seen")}
            for told in self.machines.readers.ask("look")
        ]
        return f"publishers {self.machines.publishers.ask('look')}, readers {readers}"

    # -- who reads ------------------------------------------------------------------------

    def converged(self, since: float, at: Sequence[str]) -> float:
        """Seconds until the last reader at these gateways has what is sent from that moment on."""
        self.machines.readers.ask("watch", server=self.server, since=since)
        urls = {self.url(name) for name in at}

        def look() -> bool:
            return all(
                told["met_at"] for told in self.machines.readers.ask("look") if told["gateway"] in urls
            )

        self.within(look, f"readers at {' and '.join(at)} have what {self.server} sends")
        return float(
            max(
                told["met_at"] - since
                for told in self.machines.readers.ask("look")
                if told["gateway"] in urls
            )
        )

    def game_goes_on(self, at: Sequence[str]) -> None:
        """While something is broken, too."""
        took = self.converged(time.monotonic(), at)
        if took > self.late_s:
            self.wrong.append(f"the game stood still for {took:.2f} s at {' and '.join(at)} during the fault")

    def ended(self, at: Sequence[str], since: float | None = None) -> None:
        """The fault is over: it is measured how long everybody takes."""
        self.took_s = self.converged(time.monotonic() if since is None else since, at)
        if self.took_s > self.late_s:
            self.wrong.append(f"readers converged {self.took_s:.2f} s after the fault's end")

    def stored(self, server: str, *, tick: int | None = None) -> float:
        """Seconds until what it has sent by now is durable."""
        wanted = self.look(server)["tick"] if tick is None else tick
        return self.within(
            lambda: self.look(server)["durable"] >= wanted, f"tick {wanted} of {server} is durable"
        )

    def apart(self, one: str, other: str) -> contextlib.AbstractContextManager[None]:
        """These two networks, one time of three in one direction only, as routers have it that disagree."""
        return self.machines.apart((one, other), one_way=self.dice.random() < 1 / 3)

    def wait(self, low: float, high: float) -> None:
        """Some time."""
        time.sleep(self.dice.uniform(low, high))


def home_killed(one: Round) -> None:
    """``kill -9`` of the home; its publisher goes to the other gateway, with its epoch."""
    killed = time.monotonic()
    one.gateway(one.home).kill()
    one.sticky = one.reached = {one.edge}
    one.go("p", one.edge)
    back = one.arrived("p", one.edge, killed)
    one.publisher_s = back - killed
    one.ended([one.edge], back)


def home_killed_without_store(one: Round) -> None:
    """The same while the store is away: nobody can be the home before it is back."""
    with one.machines.apart(*((one.machines.net(name), one.machines.net("store")) for name in "ab")):
        one.wait(0.0, one.away_s / 2)
        killed = time.monotonic()
        one.gateway(one.home).kill()
        one.sticky = one.reached = {one.edge}
        one.go("p", one.edge)
        one.wait(0.0, one.away_s / 2)
        if one.look("p")["began"] > killed:
            one.wrong.append("a gateway that cannot reach the store has let a publisher in")
    healed = time.monotonic()
    back = one.arrived("p", one.edge, killed)
    one.publisher_s = back - healed
    one.ended([one.edge], back)


def edge_killed(one: Round) -> None:
    """``kill -9`` of the gateway that only has readers."""
    one.gateway(one.edge).kill()
    one.sticky = one.reached = {one.home}
    one.ended([one.home])
    one.wait(0.0, 2.0)


def store_away(one: Round) -> None:
    """The store cannot be reached, stands still, or dies and comes again; games go on."""
    store, how = one.machines.store, one.dice.choice(["apart", "stopped", "killed"])
    with contextlib.ExitStack() as stack:
        if how == "apart":
            stack.enter_context(
                one.machines.apart(*((one.machines.net(n), one.machines.net("store")) for n in "ab"))
            )
        elif how == "stopped":
            store.stop()
            stack.callback(store.wake)
        else:
            store.kill()
        one.wait(0.0, 1.0)
        one.game_goes_on([one.home, one.edge])
        time.sleep(one.away_s)
        one.game_goes_on([one.home, one.edge])
        if how == "killed":
            store.start()
            store.wait_ready()
    one.ended([one.home, one.edge])
    one.durable_s = one.stored("p")


def home_edge_apart(one: Round) -> None:
    """The gateways cannot reach each other; both reach the store, and everybody else reaches both."""
    seconds = one.dice.uniform(0.5, one.away_s)
    pair = one.machines.net("a"), one.machines.net("b")
    with one.apart(*one.dice.sample(pair, 2)):
        time.sleep(seconds)
        one.game_goes_on([one.home])
    if seconds > FORSAKEN_S:
        one.sticky = {one.home}
    one.ended([one.home, one.edge])


def home_store_apart(one: Round) -> None:
    """The home cannot reach the store, and its edge can. Its publisher stays, or moves, or another one comes to the edge."""
    how = one.dice.choice(["stays", "moves", "rival"])
    pair = one.machines.net(one.home), one.machines.net("store")
    with one.apart(*one.dice.sample(pair, 2)):
        one.wait(0.0, 1.0)
        one.game_goes_on([one.home, one.edge])
        if how == "moves":
            left = time.monotonic()
            one.go("p", one.edge)
            one.publisher_s = one.arrived("p", one.edge, left) - left
        elif how == "rival":
            one.publish("q", one.edge, takeover=one.dice.random() < 0.5)
            one.arrived("q", one.edge)
            one.server = "q"
            one.game_goes_on([one.edge])
        one.wait(0.0, one.away_s)
    one.ended([one.home, one.edge])
    one.durable_s = one.stored(one.server)


def one_door_away(one: Round) -> None:
    """Neither gateway reaches one of the store's two addresses: all goes on by the other."""
    door = one.machines.door(one.dice.randrange(2))
    with one.machines.apart(*((one.machines.net(name), door) for name in "ab")):
        one.wait(0.0, 0.5)
        one.durable_s = one.stored("p")
        time.sleep(one.dice.uniform(0.0, one.away_s))
        one.game_goes_on([one.home, one.edge])
        one.durable_s = max(one.durable_s, one.stored("p"))
    one.ended([one.home, one.edge])


def home_paused(one: Round) -> None:
    """The home stands still, its publisher goes elsewhere (or another takes over), and it wakes as a ghost."""
    stopped = time.monotonic()
    one.gateway(one.home).stop()
    one.sticky = {one.edge}
    if one.dice.random() < 0.5:
        if one.dice.random() < 0.5:  # else it publishes to the ghost, and does not know
            one.go("p", None)
        one.server = "q"
        one.publish("q", one.edge, takeover=one.dice.random() < 0.5)
    else:
        one.go("p", one.edge)
    one.publisher_s = one.arrived(one.server, one.edge, stopped) - stopped
    one.game_goes_on([one.edge])
    time.sleep(max(0.0, stopped + one.paused_s * one.dice.uniform(0.5, 1.0) - time.monotonic()))
    one.gateway(one.home).wake()
    one.ended([one.home, one.edge])


def storm(one: Round) -> None:
    """One after the other, whatever there is, while two game servers want the world, at any gateway. Nobody's time is asked for."""
    machines, dice, servers = one.machines, one.dice, ("p", "q")
    one.sticky, one.late_s = set(), PATIENCE_S
    one.publish("q", one.edge, takeover=True)
    over = time.monotonic() + 2 * one.away_s
    while time.monotonic() < over:
        strike, seconds = dice.choice(["move", "leave", "apart", "stop", "kill"]), dice.uniform(0.1, 4.0)
        if strike in ("move", "leave"):
            one.go(dice.choice(servers), dice.choice("ab") if strike == "move" else None)
            time.sleep(seconds / 4)
        elif strike == "apart":
            with one.apart(*(machines.net(name) for name in dice.sample(sorted(machines.services), 2))):
                time.sleep(seconds)
        else:
            service = machines.services[dice.choice(sorted(machines.services))]
            (service.kill if strike == "kill" else service.stop)()
            time.sleep(seconds)
            machines.mend()
    one.go("q", None)
    one.go("p", one.home)
    one.ended([one.home, one.edge], max(time.monotonic(), one.arrived("p", one.home)))


FAULTS: dict[str, Callable[[Round], None]] = {
    fault.__name__: fault
    for fault in (
        home_killed,
        home_killed_without_store,
        edge_killed,
        store_away,
        home_edge_apart,
        home_store_apart,
        one_door_away,
        home_paused,
        storm,
    )
}


# -- what is asked --------------------------------------------------------------------------


def judge_rows(runs: list[dict[str, Any]], told: dict[str, Any]) -> list[str]:
    """What is wrong with a recording: ``runs`` are what was sent and promised, ``told`` is what the store has."""
    return [*_lost(runs, told), *_interleaved(runs, told)]


def _lost(runs: list[dict[str, Any]], told: dict[str, Any]) -> Iterator[str]:
    found = {(epoch, value) for _, epoch, _, values in told["rows"] for value in values}
    found |= {(epoch, value) for epoch, value in told["later"]}
    for run in runs:
        epoch = run["epoch"]
        let_go = list(run["dropped"])
        if run["door"] == "webtransport":  # a lost datagram is a gap, and the mark goes on over it
            let_go += [[low, high] for at, low, high, why in told["gaps"] if at == epoch and why != "dropped"]
        lost = [
            tick
            for tick, value in ((int(tick), value) for tick, value in run["sent"].items())
            if run["first"] < tick <= run["durable"]
            and (epoch, value) not in found
            and not any(low <= tick <= high for low, high in let_go)
        ]
        if lost:
            yield (
                f"told durable and not in the store: {len(lost)} ticks of {name_of(run)}, {lost[:5]} … {lost[-1]}, "
                f"durable up to {run['durable']}"
            )


def _interleaved(runs: list[dict[str, Any]], told: dict[str, Any]) -> Iterator[str]:
    by_name = {(run["server"], run["number"]): run for run in runs}
    over: set[tuple[str, int]] = set()
    now: tuple[str, int] | None = None
    before = (-1, 0)
    for seq, epoch, tick, values in told["rows"]:
        if seq <= before[0] or epoch < before[1]:
            yield f"row {seq} of epoch {epoch} comes after row {before[0]} of epoch {before[1]}"
        before = seq, epoch
        for said in map(Said.read, map(str.encode, values)):
            who = said.server, said.run
            run = by_name.get(who)
            if run is None or run["sent"].get(str(said.tick)) != said.data().decode():
                yield f"row {seq} holds what nobody sent: {values}"
                return
            if run["epoch"] != epoch or said.tick != tick:
                yield f"row {seq} (epoch {epoch}, tick {tick}) holds {values} of {name_of(run)}"
            if who in over:
                yield f"two homes commit: {name_of(run)} is in row {seq}, after {now} had begun"
                return
            if who != now:
                over |= {now} if now is not None else set()
                now = who


def name_of(run: dict[str, Any]) -> str:
    """Of a session, for a sentence."""
    return f"session {run['number']} of {run['server']} at {run['gateway']} (epoch {run['epoch']}, {run['door']})"


def _judge(one: Round) -> None:
    """At a round's end, everything being well again: who publishes falls silent."""
    publishers, readers = one.machines.publishers, one.machines.readers
    publishers.ask("hush", name=one.server)
    one.stored(one.server)
    last = one.look(one.server)
    urls = {one.url(name) for name in one.reached}

    def alike() -> bool:
        seen = readers.ask("look", server=one.server, run=last["runs"] - 1)
        return all(told["state"] == last["state"] for told in seen if told["gateway"] in urls)

    try:
        one.within(alike, f"readers have the last state of {one.server}")
    except BenchError as error:
        seen = readers.ask("look", server=one.server, run=last["runs"] - 1)
        others = [f"{told['door']} at {told['gateway']}" for told in seen if told["state"] != last["state"]]
        raise BenchError(f"{error}; another state has who reads by {', '.join(others)}") from None
    names = {one.url(name): name for name in "ab"}
    for told in readers.ask("look"):
        again = max(0, told["connects"] - 1)
        one.connects += again
        if again and names[told["gateway"]] in one.sticky:
            one.wrong.append(
                f"a reader by {told['door']} at {names[told['gateway']]} connected {again} times more"
            )
    runs = publishers.ask("end")
    one.wrong += judge_rows(runs, one.machines.read(one.world))
    if not any(run["durable"] > run["first"] for run in runs):
        one.wrong.append("nothing was told durable: the round asked nothing")


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
        _judge(one)
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


def doubles(fences: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Homes that were taken twice under one fence."""
    return sorted({one for one in fences if fences.count(one) > 1})


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the machines are taken down
    sys.exit(main())
