"""The life of one world on a simulated clock, for :mod:`bench.long_world`. Room: bench. No real time.

Everything that happens in a day happens here by dice with a seed: eight readers that come and go, on
links of their own kind (losses, budgets, TCP, links that stand still); a publisher, the real client's
sender, that loses datagrams, comes back and starts new epochs; removals and new keys without end; a
store that is at times slow and at times away.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.client.sender import FrameSender
from gateway.core.ports import CloseCode, LiveOptions, OneByOne, Refusal, Sent, Session, Transport
from gateway.core.sessions import PublisherSession, SubscriberSession
from gateway.core.state import WorldState
from gateway.core.world import World
from gateway.core.worldsettings import WorldSettings
from gateway.limits import KIB
from gateway.wire import Frame, decode_message, encode_control
from gateway.wire.journal import Batch

STRIDE = 48
START_US = 1_800_000_000_000_000
JOURNAL_BYTES_MAX = 64 * KIB
"""Small enough that a store which is away for a minute makes frames be dropped, as in a long outage."""


@dataclass(frozen=True)
class Kind:
    """What a seat's readers are like. ``round_trip``: ticks until a message's fate is known;
    ``stalls``: chance in a tick that the link takes nothing for some seconds."""

    transport: Transport = "webtransport"
    loss: float = 0.0
    round_trip: int = 1
    window_bytes: int = 100_000
    stalls: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)


SEATS = (
    Kind(),
    Kind(loss=0.05, round_trip=2),
    Kind(loss=0.2, round_trip=4, options={"zstd": True}),
    Kind(loss=0.02, options={"budget_kbps": 16, "keys": {1: 4.0, 5: 0.5}}),
    Kind("websocket"),
    Kind("websocket", stalls=0.002, options={"conflate": False}),
    Kind("sse", window_bytes=2_000, options={"budget_kbps": 64}),
    Kind(loss=0.05, window_bytes=3_000, stalls=0.002),
)


class TickLink(OneByOne):
    """``ports.Link`` whose time is the tick. ``deliver`` takes what arrives."""

    def __init__(self, kind: Kind, dice: random.Random, deliver: Callable[[bytes], object]) -> None:
        self.transport: Transport = kind.transport
        self.lossy = kind.transport == "webtransport"
        self.session: Session | None = None
        self.closed: CloseCode | None = None
        self.tick = 0
        self._kind, self._dice, self._deliver = kind, dice, deliver
        self._bytes = 0
        self._sent: deque[tuple[int, int, int, bool]] = deque()
        self._streams: dict[int, tuple[int, int, list[bytes]]] = {}
        self._handle = 0
        self._stalled_until = 0
        self._full = False

    def message_bytes_max(self) -> int:
        return 1_200 if self.lossy else 65_535

    def room_bytes(self) -> int:
        room = 0 if self.tick < self._stalled_until else max(0, self._kind.window_bytes - self._bytes)
        self._full = self._full or room == 0
        return room

    def send(self, message: bytes, token: int) -> Sent:
        if len(message) > self.room_bytes():
            self._full = True
            return Refusal.BLOCKED
        lost = self.lossy and self._dice.random() < self._kind.loss
        self._bytes += len(message)
        self._sent.append((self.tick + self._kind.round_trip, token, len(message), lost))
        if not lost:
            self._deliver(message)
        return True

    def send_stream(self, messages: Sequence[bytes]) -> int:
        self._handle += 1
        size = sum(map(len, messages))
        self._bytes += size
        self._streams[self._handle] = (self.tick + self._kind.round_trip + 1, size, list(messages))
        return self._handle

    def reset_stream(self, handle: int) -> None:
        _, size, _ = self._streams.pop(handle, (0, 0, []))
        self._bytes -= size

    def stream_done(self, handle: int) -> bool:
        return handle not in self._streams

    def control(self, message: bytes) -> None:
        """Control messages arrive; nobody here acts on them."""

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed = code

    def pass_to(self, tick: int) -> tuple[list[int], list[int]]:
        """The tokens that arrived, and those that turn out lost, at ``tick``; streams arrive whole."""
        self.tick = tick
        acked: list[int] = []
        lost: list[int] = []
        if tick < self._stalled_until:
            return acked, lost
        if self._kind.stalls and self._dice.random() < self._kind.stalls:
            self._stalled_until = tick + self._dice.randrange(20, 200)
        while self._sent and self._sent[0][0] <= tick:
            _, token, size, is_lost = self._sent.popleft()
            self._bytes -= size
            (lost if is_lost else acked).append(token)
        for handle in [h for h, (due, _, _) in self._streams.items() if due <= tick]:
            _, size, messages = self._streams.pop(handle)
            self._bytes -= size
            for message in messages:
                self._deliver(message)
        return acked, lost

    def is_writable_again(self) -> bool:
        """True once after the link had no room and has some."""
        if self._full and self.tick >= self._stalled_until and self._bytes < self._kind.window_bytes:
            self._full = False
            return True
        return False


class Follower:
    """What the client of a seat understands: state, as every client keeps it."""

    def __init__(self) -> None:
        self.state = WorldState()

    def take(self, message: bytes) -> None:
        what = decode_message(message)
        if isinstance(what, Frame):
            self.state.apply(what)


class SimStore:
    """Takes one batch at a time: at once, slowly, or not at all, by turns of some minutes."""

    def __init__(self, world: World, dice: random.Random, hz: int) -> None:
        self._world, self._dice, self._hz = world, dice, hz
        self._batch: Batch | None = None
        self._due = 0
        self._mood_until = 0
        self._mood = "fast"
        self.calm = False
        """While set the store is fast."""

    def pass_to(self, tick: int, mono: float) -> None:
        """Take a batch, or answer the one under way."""
        if tick >= self._mood_until:
            self._mood = self._dice.choices(("fast", "slow", "away"), (85, 10, 5))[0]
            self._mood_until = tick + self._dice.randrange(30, 120) * self._hz
        mood = "fast" if self.calm else self._mood
        if self._batch is not None and (tick >= self._due or self.calm):
            batch, self._batch = self._batch, None
            if mood == "away":
                self._world.failed(batch, mono)
            else:
                self._world.committed(batch, mono)
        if self._batch is None:
            self._batch = self._world.take_batch(mono)
            self._due = tick + (1 if mood == "fast" else 2 * self._hz)


class Life:
    """A world with everything around it. ``run`` lets time pass; ``settle`` brings it to rest."""

    def __init__(self, seed: int, hz: int, records: int) -> None:
        self.hz, self.tick = hz, 0
        self.dice = random.Random(seed)
        self.world = World(
            "day",
            WorldSettings(stride=STRIDE, journal_bytes_max=JOURNAL_BYTES_MAX),
            mono=0.0,
            now_us=START_US,
        )
        self.store = SimStore(self.world, self.dice, hz)
        self.sender = FrameSender(STRIDE, lambda: START_US + int(self.mono * 1e6))
        self.follower = Follower()
        self._frame_tick = 0
        self._keys = list(range(1, records + 1))
        self._next_key = records + 1
        self._uplink: TickLink
        self._told: TickLink
        """What the gateway says to the publisher: how far the store is."""
        self._publisher: PublisherSession
        self._seats: list[tuple[TickLink, SubscriberSession, int]] = []
        self._attach_publisher(1)
        self._publish(self._keys, keyframe=True)
        for number in range(len(SEATS)):
            self._seats.append(self._join(number))

    @property
    def mono(self) -> float:
        return self.tick / self.hz

    def run(self, ticks: int) -> None:
        """So many ticks of ordinary life."""
        for _ in range(ticks):
            self._pass()
            self._happenings()
            moving = self.dice.sample(self._keys, len(self._keys) // 2)
            self._publish(moving)

    def settle(self) -> None:
        """The store catches up, every reader gets what it lacks: nothing but what lives is left."""
        self.store.calm = True
        for at in range(60 * self.hz):
            self._pass()
            if at % self.hz == 0:
                self._publish(self._keys[:1])
            self.sender.repair(self._uplink)
        self.store.calm = False

    def differences(self) -> int:
        """Records in which the gateway or the first seat's client differs from the publisher."""
        truth = self.sender.outbox.live()
        return sum(
            len(truth.items() ^ state.snapshot().items()) for state in (self.world.state, self.follower.state)
        )

    # --- one tick --------------------------------------------------------------------------------

    def _pass(self) -> None:
        self.tick += 1
        mono = self.mono
        acked, lost = self._uplink.pass_to(self.tick)
        for token in acked:
            self.sender.outbox.on_acked(token)
        for token in lost:
            self.sender.on_lost(token)
        acked, lost = self._told.pass_to(self.tick)
        for token in acked:
            self._publisher.on_acked(token)
        for token in lost:
            self._publisher.on_lost(token)
        for number, (link, session, until) in enumerate(self._seats):
            acked, lost = link.pass_to(self.tick)
            for token in acked:
                session.on_acked(token)
            for token in lost:
                session.on_lost(token)
            if link.is_writable_again():
                session.on_writable(mono)
            if self.tick >= until and not self.store.calm:
                session.on_closed(mono)
                self._seats[number] = self._join(number)
        due = self.world.next_poll
        if due is not None and mono >= due:
            self.world.poll(mono, START_US + int(mono * 1e6))
        self.store.pass_to(self.tick, mono)

    def _happenings(self) -> None:
        dice, hz = self.dice, self.hz
        if self.tick % hz == 0:
            self._replace_a_record()
        if dice.random() < 1 / (120 * hz):
            _, session, _ = dice.choice(self._seats)
            session.on_message(encode_control("focus", keys=dice.sample(self._keys, 3)), self.mono)
        if dice.random() < 1 / (60 * hz):
            self.world.notice_lost()
        if dice.random() < 1 / (300 * hz):
            self._reconnect(new_epoch=dice.random() < 0.5)

    def _replace_a_record(self) -> None:
        """One goes, another comes under a key that never was."""
        at = self.dice.randrange(len(self._keys))
        gone, self._keys[at] = self._keys[at], self._next_key
        self._next_key += 1
        self._send({gone: None})
        self._publish([self._keys[at]])

    # --- ends ------------------------------------------------------------------------------------

    def _join(self, number: int) -> tuple[TickLink, SubscriberSession, int]:
        kind = SEATS[number]
        deliver: Callable[[bytes], object] = len
        if number == 0:
            self.follower = Follower()
            deliver = self.follower.take
        link = TickLink(kind, self.dice, deliver)
        link.tick = self.tick
        session = self.world.attach_subscriber(link, LiveOptions(**kind.options), self.mono)
        link.session = session
        return link, session, self.tick + self.dice.randrange(30, 900) * self.hz

    def _attach_publisher(self, epoch: int) -> None:
        kind = Kind(loss=0.02, round_trip=2)
        self._told = TickLink(kind, self.dice, len)
        self._told.tick = self.tick
        session = self.world.attach_publisher(self._told, epoch, self.mono, takeover=True)
        self._uplink = TickLink(kind, self.dice, lambda message: session.on_message(message, self.mono))
        self._uplink.tick = self.tick
        self._publisher = session
        self.sender.epoch = epoch

    def _reconnect(self, *, new_epoch: bool) -> None:
        """The publisher's connection breaks; it comes back as the same one, or as a new run of it."""
        self._publisher.on_closed(self.mono)
        self.sender.link_gone()
        if new_epoch:
            self._frame_tick = 0
        self._attach_publisher(self.sender.epoch + new_epoch)
        self._publish(self._keys, keyframe=True)

    def _publish(self, keys: Sequence[int], *, keyframe: bool = False) -> None:
        self._send(
            {key: struct.pack("<II", key, self.tick).ljust(STRIDE, b".") for key in keys}, keyframe=keyframe
        )

    def _send(self, records: Mapping[int, bytes | None], *, keyframe: bool = False) -> None:
        self._frame_tick += 1
        self.sender.tick = self._frame_tick
        outbox = self.sender.outbox
        (outbox.replace if keyframe else outbox.put)(records, self._frame_tick)
        self.sender.send(self._uplink, records, keyframe=keyframe)
