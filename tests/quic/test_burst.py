"""Bursts: their packets, window, pacing and fates are those of the same datagrams sent one by one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway import limits
from gateway.core.bundle import Burst
from gateway.quic.connection.fast import FastConnection
from gateway.quic.connection.framing import Framing, Run, framing_of
from gateway.quic.options import QuicOptions
from tests.quic.conftest import Identity
from tests.quic.pair import Pair, Sink
from tests.quic.test_fast_path import _numbers, _twins

PREFIX = b"\x00"


def _framing(quic: Any, messages: list[bytes]) -> Framing:
    return Framing(Burst([(message, ()) for message in messages]), PREFIX, quic.content_bytes_max)


def _packets(sent: Any) -> list[bytes]:
    return sent.split() if isinstance(sent, Run) else sent


def _pair(identity: Identity) -> tuple[Pair, Any]:
    client = FastConnection(configuration=identity.trust().configuration("localhost", QuicOptions(), None))
    pair = Pair(
        client,
        lambda cid: FastConnection(
            configuration=identity.server().configuration(QuicOptions()),
            original_destination_connection_id=cid,
        ),
    )
    pair.connect()
    pair.run_for(1)
    return pair, pair.server.quic


@pytest.mark.parametrize("seed", range(6))
def test_a_burst_leaves_and_is_acknowledged_as_its_datagrams_would(identity: Identity, seed: int) -> None:
    one, steps = _twins(identity, "realtime")
    steps._packet_number = one._packet_number
    vars(steps._pacer).update(vars(one._pacer))
    rng, now, token, sink = random.Random(seed), 1_000.0, 0, Sink()
    whole = taken_apart = 0
    for _ in range(400):
        now += rng.choice((0.0001, 0.004, 0.0167, 0.03))
        size = rng.choice((700, 1_000, one.datagram_bytes_max() - 1))
        messages = [bytes(size)] * rng.randrange(1, 9)
        framing = _framing(one, messages)
        needed = framing.content_bytes + framing.packets * (19 + len(one._peer_cid.cid))
        if not one._queue and needed <= one._loss._cc.congestion_window - one._loss._cc.bytes_in_flight:
            assert one.offer_burst(framing, sink, token)
            for n, message in enumerate(messages):
                assert steps.offer_datagram(PREFIX + message, sink, token + n)
            token += len(messages)
        packets = _packets(one.fast_packets(now))
        others = _packets(steps.fast_packets(now))
        assert [len(packet) for packet in packets] == [len(packet) for packet in others]
        assert one.datagram_bytes_queued == steps.datagram_bytes_queued
        assert one._close_at == steps._close_at
        assert one.fast_deadline() == pytest.approx(steps.fast_deadline())
        whole += one._bursts_out
        sent = list(steps._space.sent_packets)
        if sent and rng.random() < 0.7:
            newest = sent[-1] if rng.random() < 0.6 else rng.choice(sent)
            start = sent[0] if rng.random() < 0.8 else rng.choice(sent[: sent.index(newest) + 1])
            at = now + rng.choice((0.0003, 0.02))
            for quic in (one, steps):
                if not quic._take_oldest_acks(quic._space, start, newest + 1, 0.001, at):
                    quic._take_ack(quic._space, [(start, newest + 1)], 0.001, at)
            taken_apart += not one._bursts_out
            now = at
        elif sent and rng.random() < 0.3:
            assert one.get_timer() == steps.get_timer()
            now = max(now, steps.get_timer())
            for quic in (one, steps):
                quic.handle_timer(now)
                quic._ping_pending, quic._probe_pending = [], False
                quic._stock_due = False
        in_flight = [
            number
            for packet in one._space.sent_packets.values()
            for number in range(packet.packet_number, getattr(packet, "last", packet.packet_number) + 1)
        ]
        assert in_flight == list(steps._space.sent_packets)
        mine, theirs = _numbers(one), _numbers(steps)
        assert mine[:11] == theirs[:11]
        assert mine[12:14] == pytest.approx(theirs[12:14])
        assert mine[14:] == theirs[14:]
    assert whole > 20
    assert taken_apart > 20


def test_whatever_asks_for_single_packets_finds_them(identity: Identity) -> None:
    pair, quic = _pair(identity)
    sink = Sink()
    assert quic.offer_burst(_framing(quic, [bytes(1_000)] * 3), sink, 5)
    assert len(_packets(quic.fast_packets(pair.now))) == 3
    (burst,) = quic._space.sent_packets.values()
    assert quic._space.ack_eliciting_in_flight == 3
    quic._take_bursts_apart()
    packets = list(quic._space.sent_packets.values())
    assert sum(packet.sent_bytes for packet in packets) == burst.sent_bytes
    assert [packet.packet_number for packet in packets] == list(range(burst.packet_number, burst.last + 1))
    assert [packet.fates for packet in packets] == [((sink, token, 1),) for token in (5, 6, 7)]


def test_at_the_end_every_message_of_a_burst_has_its_fate(identity: Identity) -> None:
    pair, quic = _pair(identity)
    sink = Sink()
    assert quic.offer_burst(_framing(quic, [bytes(900)] * 4), sink, 0)
    quic.fast_packets(pair.now)
    assert quic.offer_burst(_framing(quic, [bytes(900)] * 2), sink, 4)
    quic.forget_datagrams()
    assert sorted((token, acked) for _, token, acked in quic.take_fates()) == [(n, False) for n in range(6)]
    assert quic._loss.bytes_in_flight == 0
    assert quic.datagram_bytes_queued == 0


def test_a_burst_that_must_wait_waits_in_the_queue_in_its_order(identity: Identity) -> None:
    _, quic = _pair(identity)
    sink = Sink()
    assert quic.offer_burst(_framing(quic, [b"%d" % n * 500 for n in range(3)]), sink, 0)
    assert quic.offer_datagram(PREFIX + b"later", sink, 3)
    assert [token for _, _, token in quic._queue] == [0, 1, 2, 3]
    assert not quic.offer_burst(_framing(quic, [b"second"]), sink, 4)


def test_a_burst_larger_than_window_or_packet_is_not_taken(identity: Identity) -> None:
    _, quic = _pair(identity)
    room = quic._loss._cc.congestion_window
    assert not quic.offer_burst(_framing(quic, [bytes(1_000)] * (room // 1_000)), Sink(), 0)
    large = Framing(Burst([(bytes(quic.content_bytes_max), ())]), PREFIX, 9_000)
    assert not quic.offer_burst(large, Sink(), 0)
    assert quic.datagram_bytes_queued == 0


def test_a_receiver_gets_every_message_once_over_loss_and_reordering(identity: Identity) -> None:
    pair, quic = _pair(identity)
    pair.loss, pair.duplicates, pair.jitter_s = 0.05, 0.02, 0.01
    sink, sent = Sink(), 0
    rng = random.Random(1)
    for _ in range(200):
        messages = [
            (sent + n).to_bytes(4, "big") * rng.choice((5, 60, 250)) for n in range(rng.randrange(1, 6))
        ]
        if quic.offer_burst(_framing(quic, messages), sink, sent):
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
        assert quic.offer_burst(_framing(quic, [bytes(900)] * 5), sink, token)
        quic.fast_packets(now)
    first = next(iter(quic._space.sent_packets))
    flying = quic._loss.bytes_in_flight
    for count in (2, 4, 5, 7):
        assert quic._take_oldest_acks(quic._space, first, first + count, 0.0, now + 0.001 * count)
        assert quic._bursts_out
        assert quic._space.ack_eliciting_in_flight == 10 - count
        assert quic._loss.bytes_in_flight == flying * (10 - count) // 10
    assert [token for _, token, acked in quic.take_fates() if acked] == list(range(7))
    quic._take_bursts_apart()
    assert list(quic._space.sent_packets) == [first + 7, first + 8, first + 9]
    assert [packet.fates[0][1] for packet in quic._space.sent_packets.values()] == [7, 8, 9]
