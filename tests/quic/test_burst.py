"""Bursts: their packets, window, pacing and fates are those of the same datagrams sent one by one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway import limits
from gateway.core.bundle import Burst
from gateway.quic.connection import Connection, Refusal
from gateway.quic.connection.congestion import congestion
from gateway.quic.connection.framing import Framing, Run, framing_of
from gateway.quic.connection.pacing import Pacer
from gateway.quic.options import QuicOptions
from tests.quic.conftest import Identity
from tests.quic.pair import Pair, Sink

PREFIX = b"\x00"


class Unpaced(Pacer):
    """Lets all go that the window lets go: a burst's account is kept a little differently from that of its packets."""

    def admit(self, now: float) -> float | None:
        return None

    def admit_burst(self, packets: int, now: float) -> bool:
        return True


def _framing(quic: Any, messages: list[bytes]) -> Framing:
    return Framing(Burst([(message, ()) for message in messages]), PREFIX, quic.content_bytes_max)


def _packets(sent: Any) -> list[bytes]:
    return sent.split() if isinstance(sent, Run) else sent


def _pair(identity: Identity) -> tuple[Pair, Any]:
    client = Connection(configuration=identity.trust().configuration("localhost", QuicOptions(), None))
    pair = Pair(
        client,
        lambda cid: Connection(
            configuration=identity.server().configuration(QuicOptions()),
            original_destination_connection_id=cid,
        ),
    )
    pair.connect()
    pair.run_for(1)
    return pair, pair.server.quic


@pytest.mark.parametrize("seed", range(6))
def test_a_burst_leaves_as_its_datagrams_would(identity: Identity, seed: int) -> None:
    """Two servers in the same state: one is offered bursts, the other the same messages one by one."""
    (_, one), (_, steps) = _pair(identity), _pair(identity)
    for quic in (one, steps):
        quic.recovery.control, quic.recovery.pacer = congestion("realtime", 1_200), Unpaced(1_200)
        quic.recovery.adopt_rtt(0.03, 0.03, 0.03, 0.004)
        quic.number = 1_000
    rng, now, token, sink = random.Random(seed), 1_000.0, 0, Sink()
    whole = 0
    for _ in range(400):
        now += rng.choice((0.0001, 0.004, 0.0167, 0.03))
        size = rng.choice((700, 1_000, one.datagram_bytes_max() - 1))
        messages = [bytes(size)] * rng.randrange(1, 9)
        if not one.datagrams.queue and one.offer_burst(_framing(one, messages), sink, token) is None:
            for n, message in enumerate(messages):
                assert steps.offer_datagram(PREFIX + message, sink, token + n) is None
            token += len(messages)
        packets, others = _packets(one.packets(now)), _packets(steps.packets(now))
        assert [len(packet) for packet in packets] == [len(packet) for packet in others]
        assert one.datagrams.size == steps.datagrams.size
        assert one.state.close_at == steps.state.close_at
        assert one.deadline() == pytest.approx(steps.deadline())
        whole += one.recovery.holds_bursts
        sent = list(steps.recovery.sent)
        if sent and rng.random() < 0.7:
            newest = sent[-1] if rng.random() < 0.6 else rng.choice(sent)
            at = now + rng.choice((0.0003, 0.02))
            for quic in (one, steps):
                if not quic.recovery.take_oldest(sent[0], newest + 1, 0.001, at):
                    quic.recovery.on_ack([(sent[0], newest + 1)], 0.001, at, quic.number)
                quic.take_fates()
            now = at
        assert one.recovery.packets == steps.recovery.packets
        assert one.recovery.control.in_flight == steps.recovery.control.in_flight
        assert one.recovery.control.window == pytest.approx(steps.recovery.control.window, abs=150)
        steps.recovery.control.window = one.recovery.control.window
        # What rounding leaves is kept beside the window; without it the two part by a packet now and then.
        steps.recovery.control._stash = one.recovery.control._stash
    assert whole > 20


def test_whatever_asks_for_single_packets_finds_them(identity: Identity) -> None:
    pair, quic = _pair(identity)
    sink = Sink()
    assert quic.offer_burst(_framing(quic, [bytes(1_000)] * 3), sink, 5) is None
    assert len(_packets(quic.packets(pair.now))) == 3
    (burst,) = quic.recovery.sent.values()
    assert quic.recovery.packets == 3
    quic.recovery.take_apart()
    packets = list(quic.recovery.sent.values())
    assert sum(packet.size for packet in packets) == burst.size
    assert [packet.number for packet in packets] == list(range(burst.number, burst.last + 1))
    assert [packet.fates for packet in packets] == [((sink, token, 1),) for token in (5, 6, 7)]


def test_at_the_end_every_message_of_a_burst_has_its_fate(identity: Identity) -> None:
    pair, quic = _pair(identity)
    sink = Sink()
    assert quic.offer_burst(_framing(quic, [bytes(900)] * 4), sink, 0) is None
    quic.packets(pair.now)
    assert quic.offer_burst(_framing(quic, [bytes(900)] * 2), sink, 4) is None
    quic.forget_datagrams()
    assert sorted((token, acked) for _, token, acked in quic.take_fates()) == [(n, False) for n in range(6)]
    assert quic.recovery.control.in_flight == 0
    assert quic.datagrams.size == 0


def test_a_burst_that_must_wait_waits_in_the_queue_in_its_order(identity: Identity) -> None:
    _, quic = _pair(identity)
    sink = Sink()
    assert quic.offer_burst(_framing(quic, [b"%d" % n * 500 for n in range(3)]), sink, 0) is None
    assert quic.offer_datagram(PREFIX + b"later", sink, 3) is None
    assert [token for _, _, token in quic.datagrams.queue] == [0, 1, 2, 3]
    assert quic.offer_burst(_framing(quic, [b"second"]), sink, 4) is Refusal.BLOCKED


def test_a_burst_larger_than_window_or_packet_is_not_taken(identity: Identity) -> None:
    _, quic = _pair(identity)
    room = quic.recovery.control.window
    assert quic.offer_burst(_framing(quic, [bytes(1_000)] * (room // 1_000)), Sink(), 0) is Refusal.BLOCKED
    large = Framing(Burst([(bytes(quic.content_bytes_max), ())]), PREFIX, 9_000)
    assert quic.offer_burst(large, Sink(), 0) is Refusal.TOO_LARGE
    assert quic.datagrams.size == 0


def test_a_receiver_gets_every_message_once_over_loss_and_reordering(identity: Identity) -> None:
    pair, quic = _pair(identity)
    pair.loss, pair.duplicates, pair.jitter_s = 0.05, 0.02, 0.01
    sink, sent = Sink(), 0
    rng = random.Random(1)
    for _ in range(200):
        messages = [
            (sent + n).to_bytes(4, "big") * rng.choice((5, 60, 250)) for n in range(rng.randrange(1, 6))
        ]
        if quic.offer_burst(_framing(quic, messages), sink, sent) is None:
            sent += len(messages)
        pair.run_for(0.016)
    pair.run(lambda: len(sink.acked) + len(sink.lost) == sent, within_s=30)
    assert sorted(sink.acked + sink.lost) == list(range(sent))
    came = [int.from_bytes(data[1:5], "big") for data in pair.client.datagrams()]
    assert len(came) == len(set(came))
    assert set(sink.acked) <= set(came)
    assert len(sink.lost) < sent // 4
    assert quic.packets_fast > sent // 3


def test_small_messages_share_packets_and_equal_ones_make_a_run() -> None:
    framing = Framing(Burst([(bytes(300), ())] * 7), PREFIX, 1_150)
    assert [count for _, count in framing.shape] == [3, 3, 1]
    assert framing.is_run
    assert framing.payload_bytes == 7 * 301
    assert not Framing(Burst([(bytes(800), ()), (bytes(900), ())]), PREFIX, 1_150).is_run
    assert not Framing(Burst([(bytes(900), ())] * (limits.QUIC_SEGMENTS_MAX + 1)), PREFIX, 1_150).is_run


def test_framings_are_kept_up_to_their_bound() -> None:
    burst = Burst([(b"frame", ())])
    assert framing_of(burst, PREFIX, 1_150) is framing_of(burst, PREFIX, 1_150)
    for n in range(3 * limits.FRAMINGS_CACHED_MAX):
        framing_of(burst, bytes((n,)), 1_150)
    assert len(burst.framings) <= limits.FRAMINGS_CACHED_MAX


def test_both_ends_of_a_run_are_the_packets_that_went_in() -> None:
    packets = [b"a" * 10, b"b" * 10, b"c" * 3]
    assert Run(b"".join(packets), 10, 3).split() == packets


def test_a_peer_that_acknowledges_every_second_packet_does_not_take_bursts_apart(identity: Identity) -> None:
    pair, quic = _pair(identity)
    sink, now = Sink(), pair.now
    for token in (0, 5):
        assert quic.offer_burst(_framing(quic, [bytes(900)] * 5), sink, token) is None
        quic.packets(now)
    first = next(iter(quic.recovery.sent))
    flying = quic.recovery.control.in_flight
    for count in (2, 4, 5, 7):
        assert quic.recovery.take_oldest(first, first + count, 0.0, now + 0.001 * count)
        assert quic.recovery.holds_bursts
        assert quic.recovery.packets == 10 - count
        assert quic.recovery.control.in_flight == flying * (10 - count) // 10
    assert [token for _, token, acked in quic.take_fates() if acked] == list(range(7))
    quic.recovery.take_apart()
    assert list(quic.recovery.sent) == [first + 7, first + 8, first + 9]
    assert [packet.fates[0][1] for packet in quic.recovery.sent.values()] == [7, 8, 9]
