"""What the controller makes of late answers: those of a machine that is busy are no queue, those of a narrow path are.

A sender with more to say than its window, and a path with a receiver behind it, in a simulated time of their own: the whole trace is
made here, so that what one controller does with it is the same on every machine.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable
from statistics import fmean

import pytest

from gateway.quic.connection.congestion import INITIAL_PACKETS, RealtimeCongestion
from gateway.quic.connection.flight import sent_packet
from gateway.quic.connection.pacing import Pacer
from gateway.quic.connection.received import ACK_EVERY
from gateway.quic.connection.recovery import Recovery
from gateway.quic.udp import Address
from gateway.quic.udp.batch import usable
from tests.patience import HANG_S
from tests.quic.conftest import Identity
from tests.quic.serving import serving

PACKET = 1_200
OFFERED_BYTES = 300 * PACKET
"""What the sender has to say at any time: two ticks of 1,800 records of 100 bytes."""
FIRST = INITIAL_PACKETS * PACKET
ACK_DELAY_S = 0.024
Receive = Callable[[], list[tuple[bytes, Address, float]]]
BUSY_S = (0.02, 0.06)
"""How long a process waits for its turn where eight others want two cores."""


def _at_once(at: float) -> float:
    return at


class Trace:
    """``rtt_s``: of the path when nothing waits. ``rate``: bytes a second through its narrowest place; 0: it has none.
    ``turn``: from when a packet is there to when the receiver gets to it. ``reports``: whether its ACKs say how long that was."""

    def __init__(
        self,
        rtt_s: float,
        *,
        rate: float = 0.0,
        turn: Callable[[float], float] = _at_once,
        reports: bool = True,
    ) -> None:
        self.control = RealtimeCongestion(PACKET)
        self.recovery = Recovery(self.control, Pacer(PACKET))
        self.now = 1.0
        self.rtt_s, self.rate, self.turn, self.reports = rtt_s, rate, turn, reports
        self.waits: list[float] = []
        self.windows: list[int] = []
        self.acked = 0
        self._number = 0
        self._free_at = 0.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._came: list[tuple[int, float]] = []
        self._is_called = False

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        self._fill()
        while self._due and self._due[0][0] <= end:
            self.now, _, step = heapq.heappop(self._due)
            step()
            self._fill()
        self.now = end

    def _at(self, when: float, step: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), step))

    def _fill(self) -> None:
        while self.control.in_flight + PACKET <= min(self.control.window, OFFERED_BYTES):
            number, self._number = self._number, self._number + 1
            self.recovery.add(sent_packet((number, PACKET, self.now, (), ())))
            self._free_at = max(self._free_at, self.now) + (PACKET / self.rate if self.rate else 0.0)
            if self.rate:
                self.waits.append(self._free_at - self.now - PACKET / self.rate)
            came = self._free_at + self.rtt_s / 2
            self._at(came, lambda n=number, at=came: self._arrive(n, at))  # type: ignore[misc]

    def _arrive(self, number: int, at: float) -> None:
        """In the receiver's kernel. It reads all that is there at its next turn, and acknowledges as ours does."""
        self._came.append((number, at))
        if not self._is_called:
            self._is_called = True
            self._at(self.turn(at), self._read)

    def _read(self) -> None:
        came, self._is_called = self._came, False
        if not came:
            return
        due = came[0][1] + ACK_DELAY_S
        if len(came) < ACK_EVERY and self.now < due:
            self._at(due, self._read)
            return
        first, last, at = came[0][0], came[-1][0], came[-1][1]
        self.acked += PACKET * len(came)
        came.clear()
        delay = self.now - at if self.reports else 0.0
        self._at(self.now + self.rtt_s / 2, lambda: self._acknowledged(first, last, delay))

    def _acknowledged(self, first: int, last: int, delay: float) -> None:
        self.recovery.on_ack([(first, last + 1)], delay, self.now, self._number)
        self.windows.append(self.control.window)


def _busy(seed: int) -> Callable[[float], float]:
    """A receiver that gets its turn some time after it could use one."""
    chance = random.Random(seed)
    return lambda at: at + chance.uniform(*BUSY_S)


@pytest.mark.parametrize("seed", range(4))
def test_a_peer_that_says_how_long_its_turn_was_awaited_costs_no_window(seed: int) -> None:
    """A tick of 180 KB at 60 Hz to a gateway on the same, busy machine: its answers come 20 to 60 ms late, of a path of 1 ms."""
    trace = Trace(0.001, turn=_busy(seed))
    trace.run(1.0)
    assert trace.control.window > 20 * FIRST
    trace.run(4.0)
    assert min(trace.windows[-100:]) > 20 * FIRST


@pytest.mark.skipif(not usable(), reason="this kernel does not say when a packet came")
async def test_a_client_counts_packets_as_of_when_the_kernel_got_them(identity: Identity) -> None:
    """As the gateway does: before, each turn that a busy client waited for was a queue, at both ends. Also on another socket."""
    async with serving(identity) as served, await served.connect() as client:
        for _ in range(2):
            waits: list[float] = []
            receive = client.endpoint.udp.receive

            def noting(
                receive: Receive = receive, waits: list[float] = waits
            ) -> list[tuple[bytes, Address, float]]:
                batch = receive()
                waits += [waited for _, _, waited in batch]
                return batch

            client.endpoint.udp.receive = noting  # type: ignore[method-assign]

            async def asked(waits: list[float] = waits) -> bool:
                await client.ping()
                return any(waited > 0.0 for waited in waits)

            async with asyncio.timeout(HANG_S):
                while not await asked():
                    pass
            client.rebind()


@pytest.mark.parametrize("seed", range(4))
def test_a_peer_that_does_not_say_it_keeps_its_window_by_what_arrives_at_once(seed: int) -> None:
    """A client that is not ours: what it read at its turn it acknowledges all together, which no queue does."""
    trace = Trace(0.001, turn=_busy(seed), reports=False)
    trace.run(5.0)
    assert min(trace.windows[len(trace.windows) // 2 :]) > 4 * FIRST


@pytest.mark.parametrize("turn", [_at_once, _busy(7)], ids=["idle", "busy"])
@pytest.mark.parametrize(("rate", "wait_s"), [(500_000, 0.03), (2_500_000, 0.03)])
def test_a_queue_that_stands_on_the_path_makes_it_smaller(
    rate: float, wait_s: float, turn: Callable[[float], float]
) -> None:
    """At 4 and at 20 Mbit/s, behind a receiver that reads at once and one that is busy and says so."""
    trace = Trace(0.02, rate=rate, turn=turn)
    trace.run(4.0)
    trace.waits.clear()
    trace.acked = 0
    trace.run(6.0)
    assert fmean(trace.waits) < wait_s
    assert trace.acked > 0.5 * rate * 6
