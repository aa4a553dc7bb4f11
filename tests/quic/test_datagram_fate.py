"""Datagrams under tokens: each ends as acknowledged or lost, exactly once."""

from __future__ import annotations

import pytest

from gateway import limits
from gateway.quic.connection import Refusal
from tests.quic.conftest import Identity
from tests.quic.pair import Sink, make_pair


def test_every_datagram_over_a_clean_link_is_acknowledged(identity: Identity) -> None:
    pair = make_pair(identity)
    pair.connect()
    sink = Sink()
    for token in range(8):
        assert pair.server.quic.queue_datagram(b"%d" % token, sink, token) is None
    pair.run(lambda: len(sink.acked) == 8)
    assert sink.lost == []
    assert pair.client.datagrams() == [b"%d" % n for n in range(8)]


@pytest.mark.parametrize("seed", range(6))
def test_every_token_ends_exactly_once_on_a_bad_link(identity: Identity, seed: int) -> None:
    pair = make_pair(identity, loss=0.15, duplicates=0.1, jitter_s=0.03, seed=seed)
    pair.connect()
    sink = Sink()
    sent = 0
    while sent < 200:
        if pair.server.quic.room_bytes() > 1200:
            assert pair.server.quic.queue_datagram(sent.to_bytes(4, "big") * 50, sink, sent) is None
            sent += 1
        pair.run_for(0.004)
    pair.run(lambda: len(sink.acked) + len(sink.lost) == 200, within_s=60)
    assert sorted(sink.acked + sink.lost) == list(range(200))
    arrived = {int.from_bytes(d[:4], "big") for d in pair.client.datagrams()}
    assert set(sink.acked) <= arrived
    assert sink.lost


def test_a_datagram_over_the_path_is_refused_and_blocks_nothing(identity: Identity) -> None:
    pair = make_pair(identity)
    pair.connect()
    quic, sink = pair.server.quic, Sink()
    size = quic.datagram_bytes_max()
    assert quic.queue_datagram(bytes(size + 1), sink, 1) is Refusal.TOO_LARGE
    assert quic.queue_datagram(bytes(size), sink, 2) is None
    assert quic.queue_datagram(b"after", sink, 3) is None
    pair.run(lambda: sink.acked == [2, 3])


def test_the_queue_drops_its_oldest_and_tells_so(identity: Identity) -> None:
    pair = make_pair(identity)
    pair.connect()
    quic, sink = pair.server.quic, Sink()
    count = limits.QUIC_DATAGRAM_QUEUE_BYTES_MAX // 1000 + 20
    for token in range(count):
        quic.queue_datagram(bytes(1000), sink, token)
    assert quic.datagrams.size <= limits.QUIC_DATAGRAM_QUEUE_BYTES_MAX
    assert quic.datagrams.dropped >= 20
    pair.run(lambda: len(sink.acked) + len(sink.lost) == count, within_s=60)
    assert sink.lost[:3] == [0, 1, 2]


def test_room_is_the_congestion_window_less_what_is_out(identity: Identity) -> None:
    pair = make_pair(identity)
    pair.connect()
    pair.run_for(1)
    quic, sink = pair.server.quic, Sink()
    before = quic.room_bytes()
    quic.queue_datagram(bytes(1000), sink, 1)
    assert quic.room_bytes() == before - 1000
    pair.pump()
    assert quic.room_bytes() < before - 1000
    pair.run(lambda: sink.acked == [1])
    assert quic.room_bytes() >= before


def test_what_is_queued_or_in_flight_at_the_end_counts_as_lost(identity: Identity) -> None:
    pair = make_pair(identity)
    pair.connect()
    quic, sink = pair.server.quic, Sink()
    quic.queue_datagram(b"x", sink, 1)
    quic.close()
    pair.pump()
    quic.forget_datagrams()
    pair.pump()
    assert sink.lost == [1]


def test_a_connection_moves_to_a_new_address_in_mid_stream(identity: Identity) -> None:
    pair = make_pair(identity)
    pair.connect()
    pair.run_for(0.5)
    sink = Sink()
    pair.client.quic.queue_datagram(b"old", sink, 1)
    pair.run(lambda: sink.acked == [1])
    pair.move_client()
    pair.client.quic.queue_datagram(b"new", sink, 2)
    pair.run(lambda: sink.acked == [1, 2])
    assert pair.server.quic.address == pair.client.addr
    pair.run_for(0.5)
    back = Sink()
    pair.server.quic.queue_datagram(b"back", back, 3)
    pair.run(lambda: back.acked == [3])


def test_a_server_never_sends_more_than_thrice_to_an_unproven_address(identity: Identity) -> None:
    pair = make_pair(identity)
    first = pair.intercept()[0]
    pair.give(pair.server.quic, first, pair.client.addr)
    sent = 0
    for _ in range(30):
        sent += sum(len(d) for d, _ in pair.take_packets(pair.server.quic))
        timer = pair.server.quic.get_timer()
        assert timer is not None
        pair.now = timer
        pair.server.quic.handle_timer(pair.now)
        if pair.server.quic.is_ended:
            break
    assert sent <= 3 * len(first)
