"""A simulated network around one world: a clock, links that lose, delay, reorder and duplicate,
readers that follow the protocol's page to the letter and complain. No sockets, no real time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from gateway.core.bundle import Bundle
from gateway.core.outgoing import Outgoing
from gateway.core.ports import CloseCode, LiveOptions, OneByOne, Refusal, RoundTrips, Sent, Session, Transport
from gateway.core.reader import Reader
from gateway.core.sessions import SubscriberSession
from gateway.core.state import WorldState
from gateway.core.world import World, WorldSettings
from gateway.limits import DATAGRAM_SAFE_BYTES
from gateway.wire import Control, Frame, Record, decode_frame, decode_message, encode_frame, split
from gateway.wire.parity import TYPE_PARITY, Rebuilder
from tests.core.links import offer_alone

START_US = 1_800_000_000_000_000


class Clock:
    """Events in order of time."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = count()

    def at(self, time: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(time, self.now), next(self._ids), what))

    def after(self, delay: float, what: Callable[[], None]) -> None:
        self.at(self.now + delay, what)

    def run_until(self, time: float) -> None:
        while self._events and self._events[0][0] <= time:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = time


@dataclass(frozen=True)
class Path:
    """One direction's properties and those of its acknowledgements."""

    loss: float = 0.0
    delay_s: float = 0.02
    jitter_s: float = 0.0
    duplicates: float = 0.0
    bytes_per_s: float = 10e6
    window_bytes: int = 200_000
    bytes_max: int = 1_200
    queue_bytes: float = float("inf")
    """What waits before the bottleneck at most; more is lost. A few hundred bytes: a policer, which has no queue."""


class SimLink(OneByOne):
    """``ports.Link`` over a :class:`Path`. ``deliver`` takes messages at the far end."""

    def __init__(
        self,
        clock: Clock,
        path: Path,
        rng: random.Random,
        deliver: Callable[[bytes], None],
        *,
        lossy: bool = True,
    ) -> None:
        self.clock, self.path, self.rng, self.deliver = clock, path, rng, deliver
        self.lossy = lossy
        self.transport: Transport = "webtransport" if lossy else "websocket"
        self.session: Session | None = None
        self.up = True
        self.closed: CloseCode | None = None
        self.controls: list[Control] = []
        self.on_control: Callable[[Control], None] = lambda control: None
        self.sent_bytes = 0
        self.refused = 0
        self.given_up = 0
        """What it says of its guesses (:class:`RoundTrips`)."""
        self.outstanding: set[int] = set()
        """The tokens whose fate the session was not told yet."""
        self.acknowledges = True
        self._trips: RoundTrips | None = None
        self._in_flight = 0
        self._free_at = clock.now
        self._handles = count(1)
        self._open: dict[int, int] = {}
        self._was_full = False

    def message_bytes_max(self) -> int:
        return self.path.bytes_max if self.lossy else 65_535

    def room_bytes(self) -> int:
        room = max(0, self.path.window_bytes - self._in_flight)
        if room < DATAGRAM_SAFE_BYTES:
            self._was_full = True
        return room

    def send(self, message: bytes, token: int) -> Sent:
        assert len(message) <= self.message_bytes_max(), "a message longer than the path takes"
        if len(message) > self.room_bytes():
            self._was_full = True
            self.refused += 1
            return Refusal.BLOCKED
        self._occupy(len(message))
        self.outstanding.add(token)
        waiting_bytes = (self._free_at - self.clock.now) * self.path.bytes_per_s
        if waiting_bytes > self.path.queue_bytes:
            self.sent_bytes += len(message)
            self.clock.after(3 * self.path.delay_s + 0.01, lambda: self._lost(token, len(message)))
            return True
        sent_at = self.clock.now
        out_at = self._transmit(len(message))
        if not self.lossy:
            self._arrive_in_order(out_at, message)
            self.clock.at(out_at, lambda: self._release(len(message)))
            return True
        lost = not self.up or self.rng.random() < self.path.loss
        round_trip = out_at + 2 * self.path.delay_s + self.path.jitter_s
        if lost:
            self.clock.at(round_trip + self.path.delay_s, lambda: self._lost(token, len(message)))
            return True
        for _ in range(2 if self.rng.random() < self.path.duplicates else 1):
            jitter = self.rng.random() * self.path.jitter_s
            self.clock.at(out_at + self.path.delay_s + jitter, lambda: self.deliver(message))
        self.clock.at(round_trip, lambda: self._measured(self.clock.now - sent_at))
        self.clock.at(round_trip, lambda: self._acked(token, len(message)))
        return True

    def round_trips(self) -> RoundTrips | None:
        trips = self._trips
        return None if trips is None else RoundTrips(trips.latest_s, trips.least_s, self.given_up)

    def send_stream(self, messages: Sequence[bytes]) -> int:
        handle = next(self._handles)
        size = sum(map(len, messages))
        self._occupy(size)
        out_at = self._transmit(size)
        self._open[handle] = size
        self._stream_tries(handle, list(messages), out_at)
        return handle

    def _stream_tries(self, handle: int, messages: list[bytes], out_at: float) -> None:
        """A stream arrives whole, later by a round trip for each loss on its way."""
        late = 0
        while self.lossy and self.rng.random() < self.path.loss and late < 10:
            late += 1
        arrival = out_at + self.path.delay_s * (1 + 2 * late)

        def arrive() -> None:
            if handle not in self._open:
                return
            if not self.up:
                self.clock.after(0.2, arrive)
                return
            for message in messages:
                self.deliver(message)
            self.clock.after(self.path.delay_s, lambda: self._stream_over(handle))

        self.clock.at(arrival, arrive)

    def _stream_over(self, handle: int) -> None:
        self._release(self._open.pop(handle, 0))

    def reset_stream(self, handle: int) -> None:
        self._stream_over(handle)

    def stream_done(self, handle: int) -> bool:
        return handle not in self._open

    def control(self, message: bytes) -> None:
        what = decode_message(message)
        assert isinstance(what, Control)
        self.controls.append(what)
        self.on_control(what)

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed = code

    def _transmit(self, size: int) -> float:
        self.sent_bytes += size
        self._free_at = max(self._free_at, self.clock.now) + size / self.path.bytes_per_s
        return self._free_at

    def _arrive_in_order(self, out_at: float, message: bytes) -> None:
        self.clock.at(out_at + self.path.delay_s, lambda: self.deliver(message))

    def _occupy(self, size: int) -> None:
        self._in_flight += size

    def _release(self, size: int) -> None:
        self._in_flight -= size
        if self._was_full and self._in_flight < self.path.window_bytes and self.session is not None:
            self._was_full = False
            self.session.on_writable(self.clock.now)

    def _measured(self, trip_s: float) -> None:
        self._trips = RoundTrips(trip_s, min(trip_s, self._trips.least_s if self._trips else trip_s))

    def _acked(self, token: int, size: int) -> None:
        assert self.session is not None
        if not self.acknowledges:
            return
        self.outstanding.discard(token)
        self.session.on_acked(token)
        self._release(size)

    def _lost(self, token: int, size: int) -> None:
        assert self.session is not None
        self.outstanding.discard(token)
        self.session.on_lost(token)
        self._release(size)


class SpecReader:
    """A reader written from the protocol's page, on purpose without the gateway's own code."""

    def __init__(self) -> None:
        self.records: dict[int, tuple[tuple[int, int], bytes]] = {}
        self.gone: dict[int, tuple[int, int]] = {}
        self.keyframes: dict[tuple[int, int], tuple[set[int], set[int]]] = {}
        self.ages: list[float] = []
        self.rebuilder: Rebuilder | None = None
        self.rebuilt = 0
        self.on_frame: Callable[[Frame], None] = lambda frame: None

    def take(self, message: bytes) -> None:
        if self.rebuilder is not None and (lost := self.rebuilder.receive(message)) is not None:
            self.rebuilt += 1
            self._take(lost)
        if message[0] != TYPE_PARITY:
            self._take(message)

    def _take(self, message: bytes) -> None:
        frame = decode_frame(message)
        self.on_frame(frame)
        for key, data, tick in frame.records:
            assert tick is not None
            when = (frame.epoch, tick)
            known = self.records[key][0] if key in self.records else self.gone.get(key, (-1, -1))
            if when > known:
                self._set(key, data, when)
        if frame.keyframe:
            self._keyframe(frame)

    def _set(self, key: int, data: bytes | None, when: tuple[int, int]) -> None:
        self.gone.pop(key, None)
        self.records.pop(key, None)
        if data is None:
            self.gone[key] = when
        else:
            self.records[key] = (when, data)

    def _keyframe(self, frame: Frame) -> None:
        when = (frame.epoch, frame.tick)
        parts, keys = self.keyframes.setdefault(when, (set(), set()))
        parts.add(frame.part)
        keys.update(frame.keys)
        if frame.parts and len(parts) == frame.parts:
            for key in [k for k, (set_at, _) in self.records.items() if k not in keys and set_at < when]:
                self._set(key, None, when)

    def snapshot(self) -> dict[int, bytes]:
        return {key: data for key, (_, data) in self.records.items()}


@dataclass
class SimReader:
    """One reader of the world: its link and what it has understood."""

    link: SimLink
    state: SpecReader
    session: SubscriberSession
    options: LiveOptions


@dataclass
class Sim:
    """A world with a publisher and readers, all on simulated links."""

    seed: int
    uplink: Path = field(default_factory=Path)
    lossy_uplink: bool = True

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.clock = Clock()
        self.world = World("arena", WorldSettings(), mono=self.clock.now, now_us=START_US)
        self.readers: list[SimReader] = []
        self.tick = 0
        self.epoch = 0
        self.truth = WorldState()
        self._poll_at = 0.0
        self._sender_polled = False
        self.world.on_work = self._on_work
        self.restart_publisher()
        self._schedule(self.clock.now)

    # --- the world's driver: what runtime/ does -------------------------------------------

    def _on_work(self) -> None:
        if self.world.journal.ready:
            self.clock.after(0.003, self._journal)
        due = self.world.next_poll
        if due is not None and due < self._poll_at:
            self._schedule(due)

    def _journal(self) -> None:
        batch = self.world.take_batch(self.clock.now)
        if batch is not None:
            self.clock.after(0.005, lambda: self.world.committed(batch, self.clock.now))

    def _schedule(self, due: float) -> None:
        self._poll_at = due
        self.clock.at(due, lambda: self._poll(due))

    def _poll(self, planned: float) -> None:
        if planned != self._poll_at:
            return  # another one was planned in its place
        self._poll_at = float("inf")
        self.world.poll(self.clock.now, START_US + int((self.clock.now - 1_000) * 1e6))
        due = self.world.next_poll
        if due is not None:
            self._schedule(max(due, self.clock.now + 0.001))

    # --- ends -----------------------------------------------------------------------------

    def restart_publisher(self) -> None:
        """A new run of the publisher: the next epoch, and everything said anew."""
        self.epoch += 1
        self.tick = 0
        gateway_end = SimLink(self.clock, Path(), self.rng, lambda message: None)
        session = self.world.attach_publisher(gateway_end, self.epoch, self.clock.now, takeover=True)
        gateway_end.session = session
        uplink = SimLink(
            self.clock,
            self.uplink,
            self.rng,
            lambda message: session.on_message(message, self.clock.now),
            lossy=self.lossy_uplink,
        )
        self.gateway_end = gateway_end
        self.truth = WorldState()
        self.sender = Reader(self.truth, uplink, self.clock.now, behind=self._sender_behind)
        uplink.session = self.sender  # type: ignore[assignment]
        self.uplink_link = uplink

    def _sender_behind(self) -> None:
        if not self._sender_polled:
            self._sender_polled = True
            self.clock.after(0.02, self._poll_sender)

    def _poll_sender(self) -> None:
        self._sender_polled = False
        if self.sender.poll(self.clock.now) is not None:
            self._sender_behind()

    def publish(self, values: dict[int, bytes | None], *, keyframe: bool = False, stride: int = 0) -> None:
        """One frame of the publisher, cut to its path; a keyframe, which also says what is gone and
        which nothing repairs, by a stream."""
        self.tick += 1
        records = [Record(key, data) for key, data in values.items()]
        frame = Frame(self.epoch, self.tick, records, keyframe=keyframe, stride=stride)
        messages = split(frame, self.uplink.bytes_max)
        if keyframe:
            self.uplink_link.send_stream(messages)
        for message in messages:
            part = decode_frame(message)
            applied = self.truth.apply(part)
            if not keyframe:
                offer_alone(self.sender, Bundle([Outgoing(part, message, applied.changed)]), self.clock.now)

    def join(self, path: Path, *, lossy: bool = True, **options: object) -> SimReader:
        state = SpecReader()
        link = SimLink(self.clock, path, self.rng, state.take, lossy=lossy)
        chosen = LiveOptions(**options)  # type: ignore[arg-type]
        state.rebuilder = Rebuilder() if chosen.parity else None
        session = self.world.attach_subscriber(link, chosen, self.clock.now)
        link.session = session
        reader = SimReader(link, state, session, chosen)
        self.readers.append(reader)
        return reader

    def run(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now + seconds)

    def wrong(self) -> dict[int, str]:
        """Readers that differ from the publisher, with how."""
        truth = self.truth.snapshot()
        found = {}
        for at, reader in enumerate(self.readers):
            has = reader.state.snapshot()
            if has != truth:
                keys = [k for k in truth.keys() | has.keys() if truth.get(k) != has.get(k)]
                found[at] = f"{len(keys)} records, e.g. {sorted(keys)[:5]}"
        return found


__all__ = ["Path", "Sim", "SimLink", "SpecReader", "encode_frame"]
