"""Two connections and the link between them, in memory: simulated clock, loss, MTU, ECN, reordering, duplicates.

``step()`` jumps to the next event: a datagram arriving, or a timer. Nothing sleeps.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent

from gateway.quic.connection import Connection, FateSink
from gateway.quic.connection.framing import Run
from gateway.quic.connection.sending import packet_of
from gateway.quic.options import QuicOptions

CLIENT, SERVER = ("10.0.0.1", 1111), ("10.0.0.2", 4433)


@dataclass
class Sink(FateSink):
    """Keeps the fate of datagrams."""

    acked: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)

    def on_fate(self, token: int, acked: bool) -> None:
        (self.acked if acked else self.lost).append(token)


@dataclass(eq=False)
class End:
    quic: Any
    addr: tuple[str, int]
    events: list[QuicEvent] = field(default_factory=list)
    on_event: Callable[[QuicEvent], None] | None = None
    packets: list[bytes] = field(default_factory=list)

    def datagrams(self) -> list[bytes]:
        return [e.data for e in self.events if isinstance(e, events.DatagramFrameReceived)]

    def terminated(self) -> ConnectionTerminated | None:
        return next((e for e in self.events if isinstance(e, events.ConnectionTerminated)), None)

    def is_up(self) -> bool:
        return any(isinstance(e, events.HandshakeCompleted) for e in self.events)


class Pair:
    """``loss``, ``duplicates``: shares; ``delay_s``: one way; ``jitter_s``: up to that much more, so
    that packets overtake each other. ``late``: the share of packets that a few sent after them overtake, by ``late_s``.
    ``mtu``: bytes of UDP payload that the link carries; what is larger vanishes, as where no ICMP comes back. ``ce``: the share
    that a router with a growing queue marks; ours are Not-ECT, which it drops instead (RFC 3168 section 5). ``largest``: the
    largest datagram that was put on the link. ``on_sent``: is told of each packet, where from and where to, whatever becomes of it. What
    goes to a third address vanishes."""

    def __init__(
        self,
        client: Any,
        server: Callable[[bytes], Any],
        *,
        seed: int = 1,
        loss: float = 0.0,
        duplicates: float = 0.0,
        delay_s: float = 0.02,
        jitter_s: float = 0.0,
        late: float = 0.0,
        late_s: float = 0.01,
        mtu: int = 65_527,
        ce: float = 0.0,
        down: Callable[[int, float], float | None] | None = None,
    ) -> None:
        """``down``: when a packet of so many bytes, sent by the server now, arrives; None: dropped."""
        self.now = 100.0
        self.random = random.Random(seed)
        self.loss, self.duplicates, self.delay_s, self.jitter_s = loss, duplicates, delay_s, jitter_s
        self.late, self.late_s, self.mtu, self.ce = late, late_s, mtu, ce
        self.largest = self.too_large = self.congested = 0
        self.down = down
        self.client = End(client, CLIENT)
        self.server = End(server(client.original_destination_connection_id), SERVER)
        self.ends = {CLIENT: self.client, SERVER: self.server}
        self._wire: list[tuple[float, int, tuple[str, int], bytes, tuple[str, int]]] = []
        self._order = itertools.count()
        self.drop_next: Callable[[bytes], bool] | None = None
        self.on_sent: Callable[[bytes, tuple[str, int], tuple[str, int]], None] | None = None
        client.connect(SERVER, now=self.now)
        self.pump()

    def pump(self) -> None:
        """Take what both ends have to send onto the wire, and their events off them."""
        for end in (self.client, self.server):
            for data, to in self.take_packets(end.quic):
                end.packets.append(data)
                self._carry(data, end.addr, to)
            while (event := end.quic.next_event()) is not None:
                end.events.append(event)
                if end.on_event is not None:
                    end.on_event(event)
            for sink, token, acked in end.quic.take_fates():
                sink.on_fate(token, acked)

    def take_packets(self, quic: Any) -> list[tuple[bytes, tuple[str, int]]]:
        """What an end sends now, and where to."""
        if isinstance(quic, QuicConnection):
            return quic.datagrams_to_send(self.now) if quic.get_peer_address() else []
        packets = quic.packets(self.now)
        packets = packets.split() if isinstance(packets, Run) else packets
        sent = [*((packet, quic.address) for packet in packets), *quic.elsewhere]
        quic.elsewhere.clear()
        return sent

    def give(self, quic: Any, data: bytes, source: tuple[str, int]) -> None:
        """A datagram arrives at an end."""
        if isinstance(quic, QuicConnection):
            quic.receive_datagram(data, source, self.now)
        else:
            quic.receive(data, source, self.now)

    def _carry(self, data: bytes, source: tuple[str, int], to: tuple[str, int]) -> None:
        self.largest = max(self.largest, len(data))
        if self.on_sent is not None:
            self.on_sent(data, source, to)
        if to[0] not in (CLIENT[0], SERVER[0]):
            return
        if len(data) > self.mtu:
            self.too_large += 1
            return
        if self.ce and self.random.random() < self.ce:
            self.congested += 1
            return
        if self.random.random() < self.loss:
            return
        if self.drop_next is not None and self.drop_next(data):
            return
        for _ in range(2 if self.random.random() < self.duplicates else 1):
            at = self.now + self.delay_s + self.random.random() * self.jitter_s
            if self.late and self.random.random() < self.late:
                at += self.late_s
            if self.down is not None and source == SERVER:
                arrives = self.down(len(data), self.now)
                if arrives is None:
                    return
                at = arrives
            heapq.heappush(self._wire, (at, next(self._order), to, data, source))

    def step(self) -> bool:
        """Jump to the next event and take it. False: nothing will ever happen again."""
        timers = [(t, end) for end in (self.client, self.server) if (t := end.quic.get_timer()) is not None]
        timer, due = min(timers, key=lambda item: item[0], default=(None, None))
        if self._wire and (timer is None or self._wire[0][0] <= timer):
            at, _, to, data, source = heapq.heappop(self._wire)
            self.now = max(self.now, at)
            target = self.client if to[0] == CLIENT[0] else self.server
            self.give(target.quic, data, source)
        elif timer is not None and due is not None:
            self.now = max(self.now, timer + 1e-6)
            due.quic.handle_timer(self.now)
        else:
            return False
        self.pump()
        return True

    def run(self, until: Callable[[], bool], *, within_s: float = 30.0) -> None:
        """Step until a condition holds; an error if it does not within that much simulated time."""
        deadline = self.now + within_s
        self.pump()
        while not until():
            assert self.step(), "nothing more happens"
            assert self.now < deadline, f"not within {within_s} s"

    def run_for(self, seconds: float) -> None:
        """Let simulated time pass."""
        deadline = self.now + seconds
        self.pump()
        while self.next_at() <= deadline:
            self.step()
        self.now = deadline

    def next_at(self) -> float:
        """When something happens next; infinity: never."""
        timers = [t for end in (self.client, self.server) if (t := end.quic.get_timer()) is not None]
        wire = [self._wire[0][0]] if self._wire else []
        return min([*timers, *wire], default=float("inf"))

    def intercept(self) -> list[bytes]:
        """Take what is under way off the link, in the order in which it would have come."""
        taken, self._wire = sorted(self._wire), []
        return [data for _, _, _, data, _ in taken]

    def connect(self) -> None:
        """Step until both handshakes are complete."""
        self.run(lambda: self.client.is_up() and self.server.is_up())

    def move_client(self) -> None:
        """The client's address changes: a NAT rebinding."""
        self.client.addr = (CLIENT[0], self.client.addr[1] + 1)


def make_pair(
    identity: object,
    *,
    client: type = Connection,
    server: type = Connection,
    window: int | None = None,
    datagrams: bool = True,
    **link: float,
) -> Pair:
    """A pair of our own connections (or those classes), not yet connected. ``window``: bytes that either end lets
    a stream hold unread, and a quarter of what it lets the connection; None: as in the gateway. ``datagrams``: whether the client takes any."""
    options = QuicOptions()
    tls, trust = identity.server(), identity.trust()  # type: ignore[attr-defined]

    def windowed(configuration: QuicConfiguration) -> QuicConfiguration:
        if window is None:
            return configuration
        return dataclasses.replace(configuration, max_stream_data=window, max_data=4 * window)

    far = windowed(trust.configuration("localhost", options, None))
    if not datagrams:
        far = dataclasses.replace(far, max_datagram_frame_size=None)
    return Pair(
        client(configuration=far),
        lambda cid: server(
            configuration=windowed(tls.configuration(options)), original_destination_connection_id=cid
        ),
        **link,  # type: ignore[arg-type]
    )


def inject(pair: Pair, source: End, frames: bytes) -> None:
    """A packet of these frames arrives at the other end as if ``source`` had made it."""
    target = pair.server if source is pair.client else pair.client
    pair.give(target.quic, packet_of(source.quic, frames), source.addr)
    pair.pump()
