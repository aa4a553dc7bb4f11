"""A round on the machines, and what breaks in it (:mod:`bench.faults`). Room: bench."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.faults_machines import Machines, Service, until
from bench.processes import BenchError
from gateway.limits import EDGE_FORSAKE_S

PATIENCE_S = 300.0
"""After so long what was waited for never comes: that it is late is said long before."""
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
