"""Loss recovery comes to the same as aioquic's own, step by step: on a trace from a real link and on random ones."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from aioquic.quic.logger import QuicLoggerTrace
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketRecovery, QuicPacketSpace
from aioquic.tls import Epoch

from gateway.quic.connection.congestion import congestion
from gateway.quic.connection.flight import sent_burst, sent_packet
from gateway.quic.connection.pacing import Pacer
from gateway.quic.connection.recovery import Recovery
from gateway.quic.connection.seam import prepare
from tests.quic.pair import Sink
from tests.quic.recorded import TRACES, load

START_S, FIRST, MTU = 1_000.0, 5_000, 1_200
STOCK = ("reno", "cubic")


class Metrics(QuicLoggerTrace):
    """The newest of what aioquic's recovery logs: times in milliseconds."""

    def __init__(self) -> None:
        super().__init__(is_client=False, odcid=b"")
        self.newest: dict[str, float] = {}

    def log_event(self, *, category: str, event: str, data: dict[str, Any]) -> None:
        if event == "metrics_updated":
            self.newest |= data


@dataclass
class Twins:
    """Ours and aioquic's, told the same."""

    name: str
    number: int = FIRST
    probes: int = 0
    acked: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        prepare()
        self.log = Metrics()
        self.ours = Recovery(congestion(self.name, MTU), Pacer(MTU))
        self.theirs = QuicPacketRecovery(
            congestion_control_algorithm=self.name,
            initial_rtt=0.1,
            max_datagram_size=MTU,
            peer_completed_address_validation=True,
            send_probe=self._on_probe,
            quic_logger=self.log,
        )
        self.theirs.handshake_confirmed = True
        self.space = QuicPacketSpace(is_application_data=True)
        self.theirs.spaces = [self.space]
        self.sink = Sink()

    def _on_probe(self) -> None:
        self.probes += 1

    def _fate(self, delivery: QuicDeliveryState, token: int) -> None:
        (self.acked if delivery is QuicDeliveryState.ACKED else self.lost).append(token)

    @property
    def room(self) -> int:
        control = self.ours.control
        return int(control.window - control.in_flight)

    def send(self, size: int, now: float) -> int:
        number = self.number
        self.number += 1
        self.ours.add(sent_packet((number, size, now, ((self.sink, number, 1),), ())))
        packet = QuicSentPacket(
            epoch=Epoch.ONE_RTT,
            in_flight=True,
            is_ack_eliciting=True,
            is_crypto_packet=False,
            packet_number=number,
            packet_type=QuicPacketType.ONE_RTT,
            sent_time=now,
            sent_bytes=size,
            delivery_handlers=[(self._fate, (number,))],
        )
        self.theirs.on_packet_sent(packet=packet, space=self.space)
        return number

    def take(self, ranges: list[tuple[int, int]], delay: float, now: float) -> None:
        if len(ranges) > 1 or not self.ours.take_oldest(*ranges[0], delay, now):
            self.ours.on_ack(ranges, delay, now, self.number)
        self.theirs.on_ack_received(
            ack_rangeset=RangeSet([range(*one) for one in ranges]), ack_delay=delay, now=now, space=self.space
        )

    def timers_until(self, now: float) -> int:
        fired = 0
        while True:
            ours, theirs = (
                self.ours.deadline(),
                self.theirs.get_loss_detection_time(amplification_limited=False),
            )
            assert ours == pytest.approx(theirs)
            if ours is None or ours > now:
                return fired
            fired += 1
            before = self.probes
            assert self.ours.on_deadline(ours) == bool(self._theirs_fires(ours) - before)

    def _theirs_fires(self, now: float) -> int:
        self.theirs.on_loss_detection_timeout(now=now)
        return self.probes

    def check(self) -> None:
        ours, theirs = self.ours, self.theirs
        for sink, token, acked in ours.take_fates():
            sink.on_fate(token, acked)
        logged = self.log.newest
        if "latest_rtt" in logged:
            assert ours.rtt_latest == pytest.approx(logged["latest_rtt"] / 1_000)
            assert ours.rtt_min == pytest.approx(logged["min_rtt"] / 1_000)
            assert ours.rtt_smoothed == pytest.approx(logged["smoothed_rtt"] / 1_000)
            assert ours.rtt_variance == pytest.approx(logged["rtt_variance"] / 1_000)
        assert ours.deadline() == pytest.approx(theirs.get_loss_detection_time(amplification_limited=False))
        assert ours.probe_timeout() == pytest.approx(theirs.get_probe_timeout())
        assert ours.loss_at == pytest.approx(self.space.loss_time)
        assert ours.largest_acked == self.space.largest_acked_packet
        assert ours.packets == self.space.ack_eliciting_in_flight
        assert list(ours.sent) == list(self.space.sent_packets)
        assert sorted(self.sink.acked) == sorted(self.acked)
        assert sorted(self.sink.lost) == sorted(self.lost)
        assert ours.control.in_flight == theirs.bytes_in_flight
        if self.name in STOCK:
            assert ours.control.window == theirs.congestion_window


@pytest.mark.parametrize("name", ["realtime", *STOCK])
@pytest.mark.parametrize("trace", sorted(path.name for path in TRACES.iterdir()))
def test_a_recorded_trace_is_lived_through_as_by_aioquic(name: str, trace: str) -> None:
    twins = Twins(name)
    numbers: list[int] = []
    fired = 0
    for event in load(trace):
        now = START_S + event.at_s
        fired += twins.timers_until(now)
        if event.size:
            numbers.append(twins.send(event.size, now) if twins.room >= event.size else -1)
        else:
            acked = RangeSet()
            for start, stop in event.ranges:
                for index in range(start, stop):
                    if numbers[index] >= 0:
                        acked.add(numbers[index])
            if len(acked):
                twins.take([(one.start, one.stop) for one in acked], (event.delay << 3) / 1e6, now)
        twins.check()
    assert len(twins.lost) > 20, "a trace without losses shows little"
    assert len(twins.acked) > 500
    assert fired > 5


@pytest.mark.parametrize("name", ["realtime", *STOCK])
@pytest.mark.parametrize("seed", range(6))
def test_random_acknowledgements_mean_what_they_mean_to_aioquic(name: str, seed: int) -> None:
    twins, rng, now, sent = Twins(name), random.Random(seed), START_S, []
    for _ in range(400):
        now += rng.random() * 0.02
        sent += [twins.send(1_100, now) for _ in range(rng.randrange(0, 4))]
        if sent and rng.random() < 0.6:
            thin = rng.random() < 0.5
            ranges = [(sent[0] - 7, rng.choice(sent[-3:]) + 1)] if thin else _some_ranges(rng, sent)
            twins.take(ranges, rng.random() * 0.02, now)
        if rng.random() < 0.2:
            now += 0.1
            twins.timers_until(now)
        twins.check()
    assert twins.acked
    assert twins.lost


def _some_ranges(rng: random.Random, sent: list[int]) -> list[tuple[int, int]]:
    picked = sorted(n for n in sent[-12:] if rng.random() < 0.8) or [sent[-1]]
    ranges = [(picked[0], picked[0] + 1)]
    for number in picked[1:]:
        if number == ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], number + 1)
        else:
            ranges.append((number, number + 1))
    return ranges


@pytest.mark.parametrize("seed", range(8))
def test_bursts_are_acknowledged_and_lost_as_their_packets_one_by_one(seed: int) -> None:
    rng, now, number = random.Random(seed), START_S, FIRST
    whole, single = (Recovery(congestion("realtime", MTU), Pacer(MTU)) for _ in range(2))
    ours, theirs = Sink(), Sink()
    sent: list[int] = []
    held = 0
    for _ in range(500):
        now += rng.choice((0.0001, 0.004, 0.0167))
        shape = tuple((rng.choice((700, 1_000)), rng.randrange(1, 4)) for _ in range(rng.randrange(1, 7)))
        size, count, last = (
            sum(size + 27 for size, _ in shape),
            sum(count for _, count in shape),
            number + len(shape) - 1,
        )
        to_ours, to_theirs = (
            sent_burst((number, size, now, sink, number * 10, shape, count, last)) for sink in (ours, theirs)
        )
        whole.add_burst(to_ours)
        for one in to_theirs.singles():
            single.add(one)
        sent += range(number, number + len(shape))
        number += len(shape)
        if rng.random() < 0.7:
            newest = rng.choice(sent[-8:])
            start = sent[0] if rng.random() < 0.8 else rng.choice(sent)
            ranges = [(min(start, newest), newest + 1)]
            for each in (whole, single):
                if not each.take_oldest(*ranges[0], 0.001, now):
                    each.on_ack(ranges, 0.001, now, number)
        held += whole.holds_bursts
        _same(whole, single, ours, theirs)
    assert held > 50


def _same(whole: Recovery, single: Recovery, ours: Sink, theirs: Sink) -> None:
    for each in (whole, single):
        for sink, token, acked in each.take_fates():
            sink.on_fate(token, acked)
    assert sorted(ours.acked) == sorted(theirs.acked)
    assert sorted(ours.lost) == sorted(theirs.lost)
    assert (whole.packets, whole.control.in_flight) == (single.packets, single.control.in_flight)
    assert whole.deadline() == pytest.approx(single.deadline())
    assert (whole.largest_acked, whole.loss_at) == (single.largest_acked, single.loss_at)
    in_flight = [
        n
        for packet in whole.sent.values()
        for n in range(packet.number, getattr(packet, "last", packet.number) + 1)
    ]
    assert in_flight == list(single.sent)


def test_an_ack_of_what_was_never_sent_is_the_peers_fault() -> None:
    from gateway.quic.connection.faults import PeerFault

    twins: Any = Twins("realtime")
    twins.send(1_000, START_S)
    with pytest.raises(PeerFault, match="never sent"):
        twins.ours.on_ack([(FIRST, FIRST + 2)], 0.0, START_S, twins.number)


def test_a_datagram_that_a_probe_takes_for_lost_is_counted_as_a_guess() -> None:
    prepare()
    recovery, sink, now = Recovery(congestion("realtime", MTU), Pacer(MTU)), Sink(), START_S
    for number in range(3):
        recovery.add(sent_packet((number, MTU, now, ((sink, number, 1),), ())))
    recovery.on_deadline(now + 2.0)
    for told, token, acked in recovery.take_fates():
        told.on_fate(token, acked)
    assert sink.lost == [0]
    assert recovery.given_up == 1
