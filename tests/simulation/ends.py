"""The ends of the simulation: a publisher that comes back wherever it is let in, and readers that follow it."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

from gateway.core.bundle import Bundle
from gateway.core.outgoing import Outgoing
from gateway.core.ports import LiveOptions
from gateway.core.reader import Reader
from gateway.core.sessions import PublisherSession
from gateway.core.state import WorldState
from gateway.errors import GatewayError
from gateway.wire import Control, Frame, Record, decode_frame, decode_message, split
from tests.core.links import offer_alone
from tests.core.sim import Path, SimLink, SpecReader
from tests.simulation.history import Run

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.world import Simulation

TICK_S = 1 / 20
RETRY_S = 0.2


class Publisher:
    """One run of a game server, which says ``keys_max`` records at most."""

    def __init__(self, sim: Simulation, rng: random.Random, path: Path, *, takeover: bool) -> None:
        self.sim, self.rng, self.path = sim, rng, path
        self.run = Run()
        self.live: dict[int, bytes] = {}
        self.tick = 0
        self.epoch = 0
        self.resume: str | None = None
        self.takeover = takeover
        self.over = False
        self._count = 0
        self._life = 0
        self._sender: Reader | None = None
        self._uplink: SimLink | None = None
        self._truth = WorldState()
        self._polls = False
        sim.clock.after(0.0, self.connect)

    @property
    def connected(self) -> bool:
        return self._sender is not None

    # --- coming and going ------------------------------------------------------------------

    def connect(self) -> None:
        """Ask one gateway after the other, for ever."""
        if self.over or self.connected:
            return
        self._life += 1
        node = self.rng.choice(self.sim.nodes)
        options = LiveOptions(
            role="publish", epoch=self.epoch or None, resume=self.resume, takeover=self.takeover
        )
        life = self._life
        link = SimLink(self.sim.clock, self.path, self.rng, self._told)
        try:
            session = node.attach_publisher(options, link)
        except GatewayError:
            if self.rng.random() < 0.1:
                self.takeover = True
            self.sim.clock.after(RETRY_S, self.connect)
            return
        link.session = session
        welcome = link.controls[0]
        link.on_control = lambda control: self._on_control(control, life)
        node.on_crash.append(lambda: self.gone(life))
        self._welcomed(session, node, welcome)

    def _welcomed(self, session: PublisherSession, node: Node, welcome: Control) -> None:
        if welcome["epoch"] != self.epoch:
            self._truth = WorldState()
        self.epoch, self.resume, self.takeover = welcome["epoch"], welcome.get("resume"), False
        self.sim.check_announced(self.epoch, welcome["durable"])
        life = node.life

        def arrive(message: bytes) -> None:
            what = decode_message(message)
            if node.life == life and not session.closed and not isinstance(what, Control):
                self.sim.note_arrived(what)
            session.on_message(message, node.mono)

        uplink = SimLink(self.sim.clock, self.path, self.rng, arrive)
        self._uplink, self._node, self._session = uplink, node, session
        self._sender = Reader(self._truth, uplink, self.sim.clock.now, behind=self._behind)
        uplink.session = self._sender  # type: ignore[assignment]
        if self.tick:
            self._say(dict(self.live), keyframe=True)

    def _on_control(self, control: Control, life: int) -> None:
        if control.type in ("bye", "error"):
            self.gone(life)

    def _told(self, message: bytes) -> None:
        what = decode_message(message)
        if isinstance(what, Control) and what.type == "durable":
            self.sim.check_announced(what["epoch"], what.fields)

    def gone(self, life: int) -> None:
        """Its connection is. It notices a little later."""
        if life == self._life and self._sender is not None:
            assert self._uplink is not None
            self._uplink.deliver = lambda message: None
            self._sender = self._uplink = None
            self.sim.clock.after(self.rng.uniform(0.0, 0.5), self.connect)

    def drop(self) -> None:
        """It gives its connection up."""
        if self._sender is not None:
            self.gone(self._life)
            self._session.on_closed(self._node.mono)

    def leave(self) -> None:
        """The process ends."""
        self.over = True
        self.drop()

    @property
    def uplink(self) -> SimLink | None:
        """Its way to the gateway, while there is one."""
        return self._uplink

    # --- saying ----------------------------------------------------------------------------

    def step(self, keys_max: int) -> None:
        """One tick of the game."""
        if self.over or not self.connected:
            return
        rng, values = self.rng, dict[int, bytes | None]()
        for key in rng.sample(range(keys_max), rng.randint(1, keys_max)):
            self._count += 1
            is_gone = key in self.live and rng.random() < 0.05
            values[key] = None if is_gone else struct.pack("<II", key, self._count).ljust(16, b".")
        self._say(values, keyframe=False)

    def say_all(self) -> None:
        """Everything anew, as after a reconnect."""
        if self.connected:
            self._say(dict(self.live), keyframe=True)

    def _say(self, values: dict[int, bytes] | dict[int, bytes | None], *, keyframe: bool) -> None:
        self.tick += 1
        self.live.update({key: data for key, data in values.items() if data is not None})
        for key in [key for key, data in values.items() if data is None]:
            self.live.pop(key, None)
        self.sim.said.say(self.epoch, self.run, self.tick, dict(values))
        records = [Record(key, data) for key, data in values.items()]
        messages = split(
            Frame(self.epoch, self.tick, records, keyframe=keyframe), self.rng.choice((60, 1_200))
        )
        assert self._sender is not None
        assert self._uplink is not None
        if keyframe:
            self._uplink.send_stream(messages)
        for message in messages:
            part = decode_frame(message)
            applied = self._truth.apply(part)
            if not keyframe and self._sender is not None:
                offer_alone(
                    self._sender, Bundle([Outgoing(part, message, applied.changed)]), self.sim.clock.now
                )

    def _behind(self) -> None:
        if not self._polls:
            self._polls = True
            self.sim.clock.after(0.02, self._poll)

    def _poll(self) -> None:
        self._polls = False
        if self._sender is not None and self._sender.poll(self.sim.clock.now) is not None:
            self._behind()


class Follower:
    """A reader that comes back wherever it is let in, and each time begins with nothing."""

    def __init__(
        self, sim: Simulation, rng: random.Random, path: Path, *, lossy: bool, options: LiveOptions
    ) -> None:
        self.sim, self.rng, self.path, self.lossy, self.options = sim, rng, path, lossy, options
        self.state = SpecReader()
        self.link: SimLink | None = None
        self._life = 0
        sim.clock.after(rng.uniform(0.0, 1.0), self.connect)

    def connect(self) -> None:
        self._life += 1
        life, state = self._life, SpecReader()
        link = SimLink(self.sim.clock, self.path, self.rng, state.take, lossy=self.lossy)
        node = self.rng.choice(self.sim.nodes)
        try:
            session = node.attach_reader(self.options, link)
        except GatewayError:
            self.sim.clock.after(RETRY_S, self.connect)
            return
        link.session = session
        link.on_control = lambda control: self._on_control(control, life)
        node.on_crash.append(lambda: self.gone(life))
        self.link, self.state, self.session, self.node = link, state, session, node

    def _on_control(self, control: Control, life: int) -> None:
        if control.type in ("bye", "error"):
            self.gone(life)

    def gone(self, life: int) -> None:
        if life == self._life and self.link is not None:
            self.link.deliver = lambda message: None
            self.link = None
            self.sim.clock.after(self.rng.uniform(0.0, 0.5), self.connect)

    def wander(self) -> None:
        """Leave, and come again."""
        if self.link is not None:
            session, node = self.session, self.node
            self.gone(self._life)
            session.on_closed(node.mono)
