"""Flows that share one bottleneck, packet by packet, without sockets: a queue that drops at its tail, and who sends by which controller."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.quic.connection.congestion import Congestion, congestion

PACKET = 1_200
HZ = 60


@dataclass
class Bottleneck:
    """``rate``: bytes a second; ``queue_bytes``; ``rtt_s``: when nothing waits."""

    rate: float
    queue_bytes: int
    rtt_s: float
    now: float = 0.0
    free_at: float = 0.0
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def at(self, when: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._numbers), then))

    def run_until(self, end: float) -> None:
        while self._due and self._due[0][0] <= end:
            self.now, _, then = heapq.heappop(self._due)
            then()
        self.now = end

    def admit(self) -> float | None:
        """When a packet that comes now has left; None: there is no room for it."""
        waits = max(0.0, self.free_at - self.now)
        if waits * self.rate + PACKET > self.queue_bytes:
            return None
        self.free_at = self.now + waits + PACKET / self.rate
        return self.free_at


class Flow:
    """``packets``: a game's frame, 60 times a second, of which what has not gone when the next is made is left out; 0: bulk, which takes
    whatever there is."""

    def __init__(self, path: Bottleneck, controller: str, packets: int = 0, begins: float = 0.0) -> None:
        self.path, self.packets = path, packets
        self.control: Congestion = congestion(controller, PACKET)
        self.waits: list[float] = []
        self.arrived = self.offered = 0
        self._left = 0
        path.at(begins, self._tick if packets else self._pump)

    def measure(self) -> None:
        """From here on."""
        self.arrived = self.offered = 0
        self.waits.clear()

    @property
    def share(self) -> float:
        """Of what a game had to say."""
        return self.arrived / self.offered

    @property
    def mean_wait_s(self) -> float:
        return sum(self.waits) / len(self.waits)

    def _tick(self) -> None:
        self.path.at(self.path.now + 1 / HZ, self._tick)
        self._left = self.packets
        self.offered += self.packets
        self._pump()

    def _pump(self) -> None:
        while (self._left or not self.packets) and self.control.in_flight + PACKET <= self.control.window:
            self._left -= bool(self.packets)
            self._send(self.path.now)

    def _send(self, now: float) -> None:
        self.control.on_sent(PACKET, now)
        leaves = self.path.admit()
        if leaves is None:
            known = max(now, self.path.free_at) + self.path.rtt_s
            self.path.at(known, lambda: self._hears_of_loss(now))
        else:
            self.waits.append(leaves - now)
            self.path.at(leaves + self.path.rtt_s, lambda: self._hears(now))

    def _hears(self, sent_at: float) -> None:
        now = self.path.now
        took = now - sent_at
        self.arrived += 1
        self.control.on_acked(PACKET, sent_at, now)
        self.control.on_rtt(took, took, took, now)
        self._pump()

    def _hears_of_loss(self, sent_at: float) -> None:
        self.control.on_lost(PACKET, sent_at, self.path.now, persistent=False)
        self._pump()


def measured(path: Bottleneck, flows: list[Flow], *, warm_s: float, seconds: float) -> None:
    """Let them run, and count what comes after the first seconds."""
    path.run_until(warm_s)
    for flow in flows:
        flow.measure()
    path.run_until(warm_s + seconds)
