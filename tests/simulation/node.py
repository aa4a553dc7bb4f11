"""One gateway: the rules of one world and its database, driven as ``runtime/`` drives them, in one thread and at
simulated times. What a crash leaves is what the store has."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from gateway.core.lease import HomeVerdict, HomeWatch
from gateway.core.ports import Link, LiveOptions, Mark
from gateway.core.sessions import PublisherSession, SubscriberSession
from gateway.core.state import WorldState
from gateway.core.world import World, WorldSettings
from gateway.errors import Conflict, GatewayError, StoreUnavailable, WorldHeld
from gateway.limits import HOME_BEAT_S, HOME_LEASE_MS
from gateway.store.base import CommitRequest, NamespaceCommit
from gateway.store.world import WorldDatabase, home
from gateway.store.world.database import PackedWrite
from gateway.store.world.schema import Retention
from gateway.store.world.writing import finish
from gateway.wire.journal import Batch
from tests.core.sim import START_US, SimLink
from tests.simulation.faults import FaultyStore

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

T = TypeVar("T")
NAME = "w"
ANSWER_S = 0.3
"""Whoever has waited so long for the store asks again, or gives up."""
LINGER_S = 1.0


class Node:
    """A gateway, which is started at once."""

    def __init__(self, sim: Simulation, name: str, rng: random.Random, settings: WorldSettings) -> None:
        self.sim, self.name, self.rng, self.settings = sim, name, rng, settings
        self.store = FaultyStore(sim.engine, rng)
        self.slow_s = 0.0
        self.on_crash: list[Callable[[], None]] = []
        self.world: World | None = None
        self.held = False
        self.started = False
        self.wall_offset_us = 0
        self._mono_offset = rng.uniform(0.0, 1e6)
        self._life = 0
        self._busy = False
        self._pumps = False
        self._poll_at = float("inf")
        self.start()

    @property
    def mono(self) -> float:
        return self.sim.clock.now + self._mono_offset

    @property
    def wall_us(self) -> int:
        return START_US + int(self.sim.clock.now * 1e6) + self.wall_offset_us

    # --- starting and dying ------------------------------------------------------------------

    def start(self) -> None:
        """Open the world, as soon as the store answers. Of one that is on its way already: nothing."""
        if not self.started:
            self.started = True
            self._open(self._life)

    def _open(self, life: int) -> None:
        if life != self._life:
            return
        database: WorldDatabase | None = None
        try:
            database, opened = WorldDatabase.create(
                self.store, NAME, make_state=WorldState, now_us=self.wall_us, retention=Retention("record")
            )
            found = database.to_go_on()
        except GatewayError:
            if database is not None:
                database.close()
            self.sim.clock.after(0.2, lambda: self._open(life))
            return
        self.sim.check_recovered(found)
        self.database = database
        self.holder = home.Holder(f"https://{self.name}.example", self.name, f"run-{life}")
        self._watch = HomeWatch()
        self._known: tuple[int, int] | None = (opened.last_seq, opened.epoch)
        self._epoch_open: int | None = None
        self._wrote_at = float("-inf")
        self._used_at = self.mono
        self.held = self._busy = self._pumps = False
        self._poll_at = float("inf")
        world = self.world = World(
            NAME,
            self.settings,
            mono=self.mono,
            now_us=self.wall_us,
            state=None if found is None else cast(WorldState, found.state),
            next_seq=opened.last_seq + 1,
            last_epoch=opened.epoch,
            durable=None if found is None else Mark(found.epoch, found.tick),
            tail=None if found is None else found.tail,
        )
        world.on_work = lambda: self._wake(life)
        self._keep(life)

    def crash(self) -> None:
        """All at once, with everything that is not in the store."""
        self._life += 1
        self.started = False
        told, self.on_crash = self.on_crash, []
        if self.world is not None:
            self.world = None
            self.held = False
            self.database.close()
        for call in told:
            call()

    def _running(self) -> World:
        if self.world is None:
            raise StoreUnavailable("nobody listens there")
        return self.world

    def _unused(self) -> World:
        """The world, where its database is not in use: otherwise whoever asks comes again."""
        if self._busy:
            raise StoreUnavailable("its database is in use")
        return self._running()

    # --- sessions ------------------------------------------------------------------------------

    def attach_publisher(self, options: LiveOptions, link: SimLink) -> PublisherSession:
        world = self._unused()
        try:
            self._become(takeover=options.takeover)
            reclaimed = world.reclaim_epoch(options)
            if reclaimed is None or reclaimed != self._epoch_open:
                self._epoch_open = self._written(lambda: self.database.begin_epoch(reclaimed, self.wall_us))
        except WorldHeld as error:
            self._lost(error)
            raise
        self._used_at = self.mono
        return world.attach_publisher(
            link,
            self._epoch_open,
            self.mono,
            takeover=options.takeover,
            resume=None if reclaimed is None else options.resume,
            fresh=f"{self.rng.getrandbits(128):032x}",
        )

    def attach_reader(self, options: LiveOptions, link: Link) -> SubscriberSession:
        world = self._running()
        if not self.held:
            self._unused()
            self._until_free()
            self._adopt(self._look()[0])
        return world.attach_subscriber(link, options, self.mono)

    # --- the home ------------------------------------------------------------------------------

    def _look(self) -> tuple[home.Sign, HomeVerdict]:
        self.database.database.renew()
        sign = self.database.read(home.sign)
        row = sign.row
        if row is None or home.is_free(row, NAME) or row.holder.partition("/")[0] == self.holder.place:
            self._watch.forget()
            return sign, HomeVerdict.DEAD
        return sign, self._watch.look(sign, home.lease_s(row), self.mono)

    def _until_free(self) -> home.Sign:
        sign, verdict = self._look()
        if verdict is not HomeVerdict.DEAD:
            raise home.held(NAME, sign.row)
        return sign

    def _become(self, *, takeover: bool = False) -> None:
        if self.held:
            return
        judged = None if takeover else self._until_free()
        try:
            sign = self.database.take_home(self.holder, HOME_LEASE_MS, judged)
        finally:
            self.sim.note_fence()
        self._wrote_at = self.mono
        self._adopt(sign)
        self.held = True

    def _adopt(self, sign: home.Sign) -> None:
        world = self._running()
        if self._known == (sign.last_seq, sign.epoch):
            return
        if self._known is not None and self._known[0] == sign.last_seq:
            world.last_epoch = sign.epoch
        else:
            found = self.database.to_go_on()
            self.sim.check_recovered(found)
            world.adopt(
                None if found is None else cast(WorldState, found.state),
                next_seq=sign.last_seq + 1,
                last_epoch=sign.epoch,
                durable=None if found is None else Mark(found.epoch, found.tick),
                tail=None if found is None else found.tail,
                mono=self.mono,
            )
        self._known = (sign.last_seq, sign.epoch)

    def _lost(self, error: WorldHeld) -> None:
        """Another is the home."""
        if self.held:
            self.held = False
            self.database.fence.number = 0
            self._forgo(error)

    def _forgo(self, error: WorldHeld) -> None:
        self._known = None
        self._running().moved_away(str(error.facts.get("url") or ""))

    def _keep(self, life: int) -> None:
        """Signs of life, and looking after readers."""
        if life != self._life:
            return
        self.sim.clock.after(HOME_BEAT_S, lambda: self._keep(life))
        world = self._running()
        if self._busy:
            return
        try:
            if self.held:
                self._keep_home(world)
            elif world.subscribers:
                sign, verdict = self._look()
                self._adopt(sign)
                if verdict is not HomeVerdict.DEAD and self._watch.stirred_within(2 * HOME_BEAT_S, self.mono):
                    world.readers_to(home.address(sign.row) if sign.row else "")
        except WorldHeld as error:
            self._lost(error)
        except GatewayError:
            pass

    def _keep_home(self, world: World) -> None:
        wanted = world.publisher is not None or world.is_lingering or not world.journal.empty
        if wanted or self.mono - self._used_at < LINGER_S:
            if self.mono - self._wrote_at >= HOME_BEAT_S * 0.9:
                self._written(self.database.beat_home)
            return
        self._known = (world.journal.next_seq - 1, world.last_epoch)
        self.held = False
        try:
            self._written(self.database.give_home_up)
        except WorldHeld:
            raise
        except GatewayError:
            self.held = True
            raise

    def _written(self, write: Callable[[], T]) -> T:
        """Something that is written under the fence, at one moment."""
        fence = self.database.fence.number
        done = write()
        self.sim.check_fence(self.name, fence)
        return done

    # --- the journal ---------------------------------------------------------------------------

    def _wake(self, life: int) -> None:
        if life != self._life or self.world is None:
            return
        due = self.world.next_poll
        if due is not None and due < self._poll_at:
            self._poll_at = due
            self.sim.clock.at(due - self._mono_offset, lambda: self._poll(life, due))
        if self.world.journal.ready and not self._busy:
            self._pump_after(self.rng.choice((0.0, 0.002, 0.01)))

    def _poll(self, life: int, due: float) -> None:
        if life != self._life or self.world is None or due != self._poll_at:
            return
        self._poll_at = float("inf")
        self.world.poll(max(self.mono, due), self.wall_us)
        self._wake(life)

    def _pump_after(self, seconds: float) -> None:
        if not self._pumps:
            self._pumps = True
            life = self._life
            self.sim.clock.after(seconds, lambda: self._pump(life))

    def _pump(self, life: int) -> None:
        if life != self._life or self.world is None:
            return
        self._pumps = False
        if self._busy or not self.world.journal.ready:
            return
        try:
            self._become()
        except WorldHeld as error:
            self._forgo(error)
            return
        except GatewayError:
            self._pump_after(0.2)
            return
        batch = self.world.take_batch(self.mono)
        if batch is None:
            return
        if self.rng.random() < 0.3:
            self._append(batch)
        else:
            self._append_in_a_round(batch)

    def _append(self, batch: Batch) -> None:
        """At one moment, as the pump does alone."""
        try:
            self._written(lambda: self.database.append(batch))
        except WorldHeld as error:
            self._lost(error)
        except GatewayError:
            self._failed(batch)
        else:
            self._succeeded(batch)

    def _append_in_a_round(self, batch: Batch) -> None:
        """Made ready now, committed by the store later, and answered later still."""
        write = self.database.pack(batch)
        finish([write.packed])
        part = self._held_ready(batch, write)
        if part is None:
            return
        self._busy = True
        request = CommitRequest(self.rng.randbytes(16), [part], first_attempt=True)
        Sending(self, request, batch).send()

    def _held_ready(self, batch: Batch, write: PackedWrite) -> NamespaceCommit | None:
        try:
            part = self.database.hold_append(batch, write)
        except WorldHeld as error:
            self._lost(error)
        except GatewayError:
            self._failed(batch)
        else:
            if part is None:
                self._succeeded(batch)
            return part
        return None

    def answered(self, batch: Batch, answer: object) -> None:
        """The round's end."""
        self._busy = False
        self.database.settle_append(batch, answer)  # type: ignore[arg-type]
        if not isinstance(answer, BaseException):
            self._succeeded(batch)
        elif isinstance(answer, Conflict):
            self._append(batch)
        else:
            self._failed(batch)

    def _succeeded(self, batch: Batch) -> None:
        world = self._running()
        self._wrote_at = self.mono
        world.committed(batch, self.mono)
        durable = world.journal.durable
        if durable is not None:
            self.sim.check_durable(durable)
        self._wake(self._life)

    def _failed(self, batch: Batch) -> None:
        self._running().failed(batch, self.mono)
        self._pump_after(self.rng.uniform(0.05, 0.3))

    @property
    def life(self) -> int:
        """Another number after each crash."""
        return self._life


class Sending:
    """A commit on its way to the store, as often as its sender likes; what has left arrives whether that lives or not."""

    def __init__(self, node: Node, request: CommitRequest, batch: Batch) -> None:
        self.node, self.request, self.batch = node, request, batch
        self.life, self.fence = node.life, node.database.fence.number
        self.attempt = 0
        self.over = False

    def send(self) -> None:
        node, clock = self.node, self.node.sim.clock
        self.attempt += 1
        attempt = self.attempt
        clock.after(ANSWER_S + node.slow_s, lambda: self._waited(attempt))
        if not node.store.loses():
            late = 1.0 if node.rng.random() < 0.02 else 0.0
            clock.after(node.rng.uniform(0.001, 0.02 + node.slow_s) + late, lambda: self._arrived(attempt))

    def _arrived(self, attempt: int) -> None:
        node = self.node
        answer = node.store.apply(replace(self.request, first_attempt=attempt == 1))
        if not isinstance(answer, GatewayError):
            node.sim.check_commit(node.name, self.fence, self.request.idempotency_key, answer.version)
        if not node.store.loses():
            node.sim.clock.after(node.rng.uniform(0.001, 0.02), lambda: self._end(answer))

    def _waited(self, attempt: int) -> None:
        if self.over or attempt != self.attempt or self.life != self.node.life:
            return
        if attempt < 3 and self.node.rng.random() < 0.5:
            self.send()
        else:
            self._end(StoreUnavailable("no answer"))

    def _end(self, answer: object) -> None:
        if not self.over and self.life == self.node.life:
            self.over = True
            self.node.answered(self.batch, answer)
