"""The whole in one thread: publishers, two gateways, readers, one store, on one simulated clock and one seed.

Faults come for some seconds; then the network and the store are sound again, and within :data:`QUIET_S` everything
must be as if nothing had happened. What must hold all the time is checked all the time. Model: FoundationDB's simulation
(Zhou et al., SIGMOD 2021, section 4).
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path as Folder
from typing import Any

from gateway.core.ports import LiveOptions, Mark
from gateway.core.world import World, WorldSettings
from gateway.limits import (
    GAPS_PENDING_MAX,
    JOURNAL_GAPS_MAX,
    LATE_SETS_MAX,
    OUTSTANDING_MAX,
    TOMBSTONES_MAX,
)
from gateway.store.base import Namespace
from gateway.store.embedded import EmbeddedOptions, Engine
from gateway.store.world.state import Recovered
from gateway.wire import Frame
from tests.core.sim import START_US, Clock, Path
from tests.simulation.ends import TICK_S, Follower, Publisher
from tests.simulation.history import Said
from tests.simulation.node import NAME, Node
from tests.simulation.recording import Recorded, check_values

KEYFRAMES_BYTES = 10_000
"""What the keyframes of so small a world take in a journal, beyond its bound: one in flight and one to come."""
QUIET_S = 30.0
"""A lease, a few reconnects and every repair take less by far."""


class Simulation:
    """One seed. :meth:`run` raises ``AssertionError`` where a promise was broken."""

    def __init__(self, seed: int, folder: Folder) -> None:
        self.rng = rng = random.Random(seed)
        self.clock = Clock()
        self.engine = Engine(folder, clock=self._now_s, options=EmbeddedOptions(background=False))
        self.said = Said()
        self.trace = hashlib.blake2b(digest_size=8)
        self.counts: dict[str, int] = defaultdict(int)
        self.fence = 0
        self._marks: dict[int, int] = {}
        self._whole: dict[int, int] = {}
        self._arrived: dict[int, set[int]] = defaultdict(set)
        self._of_newest: set[tuple[int, int]] = set()
        """Ticks of messages of newest values: what else there was of the tick, such a message does not say."""
        self._commits: dict[bytes, str] = {}
        self._recorded: Recorded | None = None
        self.keys_max = rng.choice((2, 8, 20))
        settings = WorldSettings(
            linger_s=rng.choice((0.5, 3.0)),
            keyframe_interval_s=rng.choice((0.2, 1.0, 5.0)),
            journal_bytes_max=rng.choice((3_000, 30_000, 1 << 24)),
        )
        self.nodes: list[Node] = []
        self.nodes += [Node(self, name, self._child(), settings) for name in "ab"]
        self.uplink = self._path()
        self.publisher = Publisher(self, self._child(), self.uplink, takeover=False)
        self.followers = [self._follower() for _ in range(rng.randint(1, 3))]

    def _now_s(self) -> float:
        return START_US / 1e6 + self.clock.now

    def _child(self) -> random.Random:
        return random.Random(self.rng.getrandbits(64))

    def _path(self) -> Path:
        rng = self.rng
        return Path(
            loss=rng.choice((0.0, 0.02, 0.2)),
            delay_s=rng.choice((0.001, 0.03, 0.1)),
            jitter_s=rng.choice((0.0, 0.02, 0.08)),
            duplicates=rng.choice((0.0, 0.1)),
            window_bytes=rng.choice((3_000, 100_000)),
        )

    def _follower(self) -> Follower:
        rng = self.rng
        budget = rng.choice((None, None, 64))
        options = LiveOptions(zstd=rng.random() < 0.3, budget_kbps=budget)
        return Follower(self, self._child(), self._path(), lossy=rng.random() < 0.7, options=options)

    # --- the course of it ----------------------------------------------------------------------

    def run(self) -> str:
        """Faults, then quiet, then the reckoning. A digest of what happened: the same for the same seed."""
        try:
            self._run_faults(self.clock.now + self.rng.uniform(2.0, 8.0))
            self._mend()
            self._await_quiet()
            self._reckon()
        finally:
            self.close()
        return self.trace.hexdigest()

    def close(self) -> None:
        for node in self.nodes:
            node.crash()
        if self._recorded is not None:
            self._recorded.close()
        self.engine.close()

    def _run_faults(self, until: float) -> None:
        faults = self._faults()
        rate = self.rng.choice((0.3, 1.0, 3.0))
        next_fault = self.clock.now + self.rng.expovariate(rate)
        while self.clock.now < until:
            self._tick()
            while next_fault <= self.clock.now:
                next_fault += self.rng.expovariate(rate)
                fault = self.rng.choice(faults)
                self._note("fault", fault.__name__)
                fault()

    def _tick(self) -> None:
        self.publisher.step(self.keys_max)
        self.clock.run_until(self.clock.now + TICK_S)
        for node in self.nodes:
            if node.world is not None:
                check_bounds(node.world)
        for follower in self.followers:
            for key, ((epoch, tick), data) in follower.state.records.items():
                check_values(self.said, epoch, [(key, data, tick)])

    def _faults(self) -> list[Callable[[], None]]:
        return [
            self._crash,
            self._crash,
            self._cut,
            self._store_dies,
            self._lossy_store,
            self._slow_store,
            self._step_clock,
            self._new_publisher,
            self._publisher_comes_again,
            self._links_down,
            self._reader_wanders,
            self._say_all,
        ]

    def _crash(self) -> None:
        node = self.rng.choice(self.nodes)
        node.crash()
        self.clock.after(self.rng.uniform(0.0, 2.0), node.start)

    def _cut(self) -> None:
        self._for_a_while(self.rng.choice(self.nodes), "cut", True, False)

    def _store_dies(self) -> None:
        seconds = self.rng.uniform(0.05, 2.0)
        for node in self.nodes:
            node.store.dead = True
        self.clock.after(seconds, self._store_is_back)

    def _store_is_back(self) -> None:
        for node in self.nodes:
            node.store.dead = False

    def _lossy_store(self) -> None:
        self._for_a_while(self.rng.choice(self.nodes), "flaky", self.rng.choice((0.02, 0.3)), 0.0)

    def _slow_store(self) -> None:
        node = self.rng.choice(self.nodes)
        node.slow_s = self.rng.choice((0.0, 0.1, 1.0))

    def _for_a_while(self, node: Node, what: str, on: Any, off: Any) -> None:
        setattr(node.store, what, on)
        self.clock.after(self.rng.uniform(0.05, 4.0), lambda: setattr(node.store, what, off))

    def _step_clock(self) -> None:
        self.rng.choice(self.nodes).wall_offset_us += self.rng.choice((-1, 1)) * self.rng.randrange(
            7_200_000_000
        )

    def _new_publisher(self) -> None:
        self.publisher.leave()
        self.publisher = Publisher(self, self._child(), self.uplink, takeover=self.rng.random() < 0.7)

    def _publisher_comes_again(self) -> None:
        publisher = self.publisher
        publisher.takeover = self.rng.random() < 0.5
        if publisher.connected:
            publisher.drop()

    def _links_down(self) -> None:
        links = [follower.link for follower in self.followers] + [self.publisher.uplink]
        link = self.rng.choice(links)
        if link is not None:
            link.up = False
            self.clock.after(self.rng.uniform(0.1, 1.5), lambda: setattr(link, "up", True))

    def _reader_wanders(self) -> None:
        self.rng.choice(self.followers).wander()

    def _say_all(self) -> None:
        self.publisher.say_all()

    # --- the quiet after ------------------------------------------------------------------------

    def _mend(self) -> None:
        self._store_is_back()
        for node in self.nodes:
            node.store.cut, node.store.flaky, node.slow_s = False, 0.0, 0.0
        self._note("mended")

    def _await_quiet(self) -> None:
        """The game goes on for a moment, so that whoever lost something hears of it; then it stands still."""
        until = self.clock.now + QUIET_S
        while not self._is_back():
            self._tick()
            assert self.clock.now < until, f"{self._unfinished()} {QUIET_S} s after the last fault"
        self.publisher.say_all()
        self._tick()
        while (unfinished := self._unfinished()) or not self._is_back():
            self.clock.run_until(self.clock.now + TICK_S)
            assert self.clock.now < until, f"{unfinished} {QUIET_S} s after the last fault"

    def _is_back(self) -> bool:
        away = [follower for follower in self.followers if follower.link is None]
        return not away and self.publisher.connected and any(node.held for node in self.nodes)

    def _unfinished(self) -> str:
        """What is not as it should be in the end; "" where all is."""
        truth = self.publisher.live
        homes = [node for node in self.nodes if node.held and node.world is not None]
        if not self._is_back() or len(homes) != 1:
            return f"publisher connected: {self.publisher.connected}, homes: {[node.name for node in homes]}"
        world = homes[0].world
        assert world is not None
        if world.state.snapshot() != truth:
            return "the home's state is not the publisher's"
        if not world.journal.empty or world.journal.durable is None:
            return "the store has not everything"
        if (world.journal.durable.epoch, world.journal.durable.tick) != (
            self.publisher.epoch,
            self.publisher.tick,
        ):
            return f"the durable mark is {world.journal.durable}, and not at tick {self.publisher.tick}"
        if any(follower.state.snapshot() != truth for follower in self.followers):
            return "a reader's state is not the publisher's"
        return ""

    def _reckon(self) -> None:
        recorded = self._look()
        assert recorded is not None
        for epoch, tick in self._marks.items():
            self.check_durable(Mark(epoch, tick))
        assert recorded.check_all(self.said) == self.publisher.live, (
            "what the store holds is not the last state"
        )
        self._note("end", sorted(self._marks.items()), sorted(self.publisher.live.items()))

    # --- what must hold -------------------------------------------------------------------------

    def _note(self, *what: object) -> None:
        self.counts[str(what[0])] += 1
        self.trace.update(f"{self.clock.now!r} {what!r}\n".encode())

    def _look(self) -> Recorded | None:
        if self._recorded is None:
            if self.engine.registry.find(NAME) is None:
                return None
            self._recorded = Recorded(self.engine, NAME)
        self._recorded.look()
        return self._recorded

    def note_fence(self) -> None:
        """Somebody may have become the home."""
        recorded = self._look()
        fence = 0 if recorded is None else recorded.fence()
        assert fence >= self.fence, f"fence {fence} after {self.fence}"
        self.fence = fence
        self._note("fence", fence)

    def check_fence(self, name: str, fence: int | None) -> None:
        """``name`` has just committed under ``fence``: it must be the home's."""
        assert fence == self.fence, f"{name} committed under fence {fence}, and the home's is {self.fence}"

    def check_commit(self, name: str, fence: int | None, key: bytes, version: str) -> None:
        """The store took a commit of a round, or knew it again."""
        known = self._commits.setdefault(key, version)
        assert known == version, f"an attempt became version {known} and then {version}"
        if version == self.engine.stat(Namespace(NAME)).version:
            self.check_fence(name, fence)
        self._note("commit", name, version)

    def note_arrived(self, frame: Frame) -> None:
        """A message has reached a gateway that runs."""
        self._arrived[frame.epoch].add(frame.tick)
        if not frame.parts:
            self._of_newest.add((frame.epoch, frame.tick))

    def check_announced(self, epoch: int, durable: Any) -> None:
        """A publisher was told of a durable mark."""
        if durable is not None:
            self._note("announced", durable["epoch"], durable["tick"])
            self.check_durable(Mark(durable["epoch"], durable["tick"]))

    def check_durable(self, mark: Mark) -> None:
        """Every tick of its epoch up to the mark is a row, or in a gap, or came and brought nothing new."""
        self._marks[mark.epoch] = max(mark.tick, self._marks.get(mark.epoch, -1))
        recorded = self._look()
        assert recorded is not None
        if self._counts_by_unknown_steps(mark.epoch):
            return
        covered, arrived = recorded.covered[mark.epoch], self._arrived[mark.epoch]
        assert covered, f"nothing of epoch {mark.epoch} is recorded, and {mark} was announced"
        whole = self._whole.get(mark.epoch, min(covered) - 1)
        missing = [t for t in range(whole + 1, mark.tick + 1) if t not in covered and t not in arrived]
        assert not missing, (
            f"ticks {missing} of epoch {mark.epoch} are neither recorded nor in a gap, and {mark} was announced"
        )
        self._whole[mark.epoch] = max(whole, mark.tick)

    def _counts_by_unknown_steps(self, epoch: int) -> bool:
        """True while the home cannot know yet whether its publisher counts by one: until then no tick between two is
        missing to it (docs/FRAMES.md leaves the step to publishers)."""
        # What its home cannot know is asked of what it knows: no door says it.
        trackers = [
            node.world.journal._tracker for node in self.nodes if node.world is not None and node.held
        ]
        return any(tracker.epoch == epoch and not tracker._step for tracker in trackers)

    def check_recovered(self, found: Recovered | None) -> None:
        """A gateway starts from this: nothing that was announced is missing, nothing is there that was never said."""
        newest = max(self._marks, default=0)
        if newest == 0:
            return
        mark = Mark(newest, self._marks[newest])
        assert found is not None, f"nothing was recovered, and {mark} was announced"
        assert (found.epoch, found.tick) >= (mark.epoch, mark.tick), (
            f"recovered {found.epoch, found.tick}, announced {mark}"
        )
        records = found.state.records
        for key, (order, data) in records.items():
            check_values(self.said, order >> 32, [(key, data, order & 0xFFFF_FFFF)])
        recorded = self._look()
        assert recorded is not None
        run, first = self.said.runs.get(mark.epoch), min(recorded.covered[mark.epoch], default=0)
        lost = set().union(*recorded.gaps.values()) if recorded.gaps else set()
        for key in [] if run is None else run.keys:
            assert run is not None
            promised = run.at(mark.tick, key)
            # what was lost before an epoch's first frame came, nobody can know of
            knowable = promised[0] >= first and (mark.epoch, promised[0]) not in self._of_newest
            if found.epoch == mark.epoch and knowable:
                self._check_key(promised, records.get(key), run.newest(key), key, lost, mark)

    def _check_key(
        self,
        promised: tuple[int, bytes | None],
        found: tuple[int, bytes] | None,
        newest: tuple[int, bytes | None],
        key: int,
        lost: set[int],
        mark: Mark,
    ) -> None:
        tick, data = promised
        if tick < 0 or data is None or tick in lost:
            return
        if found is None:
            assert newest[0] > tick, f"record {key} of tick {tick} is gone, and {mark} was announced"
            return
        order, has = found
        stale = has != data and order >> 32 == mark.epoch and order & 0xFFFF_FFFF < tick
        assert not stale, (
            f"record {key} is of tick {order & 0xFFFF_FFFF}, not {tick}, and {mark} was announced"
        )


def check_bounds(world: World) -> None:
    """Whatever happens, a world holds no more than this."""
    # After each of a simulation's thousands of steps: to look at all that is held (tests.held) would take longer than the step.
    journal, tracker, fanout = world.journal, world.journal._tracker, world._fanout
    assert journal.size_bytes <= 2 * world.settings.journal_bytes_max + KEYFRAMES_BYTES
    assert len(journal._gaps) <= JOURNAL_GAPS_MAX + 2 * GAPS_PENDING_MAX
    assert len(tracker.partial) <= GAPS_PENDING_MAX + 1
    assert len(tracker.holes) <= GAPS_PENDING_MAX + 1
    assert len(world.state.tombstones) <= TOMBSTONES_MAX
    assert len(fanout.late) <= LATE_SETS_MAX + 1
    for reader in world.subscribers.values():
        assert len(reader._outlet.window) <= OUTSTANDING_MAX
        assert len(reader.stale) <= len(world.state.records) + len(world.state.tombstones) + 64
