"""Larger packets are looked for where there is bulk to send, found, lost again, and never in the way of a game."""

from __future__ import annotations

import random
from typing import Any

import pytest
from aioquic.quic.events import StreamDataReceived

from gateway import limits
from gateway.quic.connection.congestion import RealtimeCongestion
from gateway.quic.connection.mixed import in_flight
from gateway.quic.connection.pacing import Pacer
from gateway.quic.connection.pathmtu import PathMtu
from gateway.quic.connection.recovery import Recovery
from tests.quic.conftest import Identity
from tests.quic.pair import End, Pair, Sink, make_pair
from tests.quic.stock import Stock

BASE = 1_200
STEPS = limits.QUIC_PACKET_BYTES_STEPS
ETHERNET = 1_472
"""What Ethernet leaves of UDP payload under IPv4."""
BULK_BYTES = 3_000_000


def _pair(identity: Identity, **options: object) -> Pair:
    """A connected pair whose ends send no fragments."""
    pair = make_pair(identity, **options)  # type: ignore[arg-type]
    for end in (pair.client, pair.server):
        if not isinstance(end.quic, Stock):
            end.quic.send_unfragmented(65_507)
    pair.connect()
    pair.run_for(0.3)
    return pair


def _send(pair: Pair, end: End, size: int = BULK_BYTES) -> list[int]:
    """Send so many bytes on a stream to their end; answers the sizes of the packets that this end sent for it."""
    before = len(end.packets)
    data = random.Random(1).randbytes(size)
    stream = end.quic.get_next_available_stream_id(is_unidirectional=True)
    end.quic.send_stream_data(stream, data, end_stream=True)
    pair.run(lambda: not end.quic.has_unsent(), within_s=120)
    far = pair.client if end is pair.server else pair.server
    got = b"".join(
        event.data
        for event in far.events
        if isinstance(event, StreamDataReceived) and event.stream_id == stream
    )
    assert got == data
    return [len(packet) for packet in end.packets[before:]]


@pytest.mark.parametrize("sender", ["server", "client"])
def test_bulk_on_a_wide_path_goes_in_the_largest_packets(identity: Identity, sender: str) -> None:
    pair = _pair(identity)
    sizes = _send(pair, getattr(pair, sender))
    assert max(sizes) == STEPS[-1]
    assert len(sizes) < BULK_BYTES / BASE / 5


def test_a_stock_peer_takes_what_it_says_that_it_takes(identity: Identity) -> None:
    pair = _pair(identity, client=Stock)
    assert max(_send(pair, pair.server)) == STEPS[-1]


def test_on_ethernet_bulk_goes_in_what_ethernet_carries_and_few_probes_are_lost(identity: Identity) -> None:
    pair = _pair(identity, mtu=ETHERNET)
    sizes = _send(pair, pair.server)
    assert pair.server.quic.mtu.confirmed == STEPS[0]
    assert sizes.count(STEPS[0]) > 0.9 * len(sizes)
    assert pair.too_large == limits.QUIC_MTU_PROBES_MAX
    _send(pair, pair.server)
    assert pair.too_large == limits.QUIC_MTU_PROBES_MAX


def test_the_search_begins_again_after_a_while_and_finds_what_has_become_wider(identity: Identity) -> None:
    pair = _pair(identity, mtu=ETHERNET)
    _send(pair, pair.server)
    pair.mtu = 9_000
    for n in range(int(limits.QUIC_MTU_AGAIN_S / 10)):
        pair.server.quic.send_ping(n + 1)
        pair.run_for(10)
    _send(pair, pair.server)
    assert pair.server.quic.mtu.confirmed == STEPS[1]


def test_a_path_that_carries_the_least_costs_bulk_a_few_probes_and_nothing_else(identity: Identity) -> None:
    pair = _pair(identity, mtu=BASE)
    plain = make_pair(identity, mtu=BASE)
    plain.connect()
    plain.run_for(0.3)
    sizes, expected = _send(pair, pair.server), _send(plain, plain.server)
    assert sum(size > BASE for size in sizes) == limits.QUIC_MTU_PROBES_MAX
    assert len(sizes) < 1.02 * len(expected)
    assert pair.server.quic.recovery.control.window >= plain.server.quic.recovery.control.window


def test_nothing_larger_is_sent_by_who_may_be_cut_into_fragments(identity: Identity) -> None:
    pair = make_pair(identity)
    pair.connect()
    assert max(_send(pair, pair.server)) == BASE


def test_a_game_is_sent_not_one_byte_more(identity: Identity) -> None:
    """Frames as datagrams and bursts of them, and some by streams: the same packets, whether larger ones may be looked for
    or not."""
    sent = []
    for bytes_max in (0, 65_507):
        pair = make_pair(identity)
        for end in (pair.client, pair.server):
            end.quic.send_unfragmented(bytes_max)
        pair.connect()
        server = pair.server.quic
        for tick in range(240):
            for token in range(1 + tick % 5):
                server.queue_datagram(bytes(1_000), Sink(), token)
            if tick % 60 == 0:
                stream = server.get_next_available_stream_id(is_unidirectional=True)
                server.send_stream_data(stream, bytes(limits.QUIC_BULK_BYTES_MIN - 1), end_stream=True)
            pair.run_for(1 / 60)
        sent.append([len(packet) for packet in pair.server.packets])
    assert sent[0] == sent[1]
    assert max(sent[0]) == BASE


def test_datagrams_beside_bulk_stay_as_small_as_they_were(identity: Identity) -> None:
    pair = _pair(identity)
    server, sink = pair.server.quic, Sink()
    largest = server.datagram_bytes_max()
    _send(pair, pair.server)
    assert server.datagram_bytes_max() == largest
    assert server.content_bytes_max < BASE
    stream = server.get_next_available_stream_id(is_unidirectional=True)
    server.send_stream_data(stream, bytes(BULK_BYTES), end_stream=True)
    before = len(pair.server.packets)
    for token in range(20):
        assert server.queue_datagram(bytes(largest), sink, token) is None
    pair.pump()
    assert max(len(packet) for packet in pair.server.packets[before : before + 10]) == BASE
    pair.run(lambda: len(sink.acked) == 20)


@pytest.mark.parametrize(("mtu", "after"), [(ETHERNET, STEPS[0]), (BASE, BASE)])
def test_a_path_that_becomes_narrower_in_mid_stream_costs_a_moment(
    identity: Identity, mtu: int, after: int
) -> None:
    pair = _pair(identity)
    _send(pair, pair.server)
    assert pair.server.quic.mtu.confirmed == STEPS[-1]
    pair.mtu, began = mtu, pair.now
    _send(pair, pair.server)
    assert pair.server.quic.mtu.holes == 1
    assert pair.now - began < 10
    pair.run_for(2 * limits.QUIC_MTU_HOLE_S)
    _send(pair, pair.server)
    assert pair.server.quic.mtu.confirmed == after


def test_a_peer_that_stands_still_is_no_black_hole(identity: Identity) -> None:
    pair = _pair(identity)
    _send(pair, pair.server)
    server = pair.server.quic
    stream = server.get_next_available_stream_id(is_unidirectional=True)
    server.send_stream_data(stream, bytes(BULK_BYTES), end_stream=True)
    resumes_at = pair.now + 1.0
    pair.down = lambda _, now: max(now + pair.delay_s, resumes_at)
    pair.run_for(0.9)
    assert server.recovery.probes > 2
    pair.run(lambda: not server.has_unsent())
    assert server.mtu.holes == 0
    assert server.mtu.confirmed == STEPS[-1]


def test_a_probe_does_not_delay_what_is_said_of_the_stream_behind_it(identity: Identity) -> None:
    """A PING alone may be acknowledged late; data on a stream that comes after it is so at once."""
    pair = _pair(identity, delay_s=0.001)
    server = pair.server.quic
    server.send_ping(1)
    pair.pump()
    pair.run_for(0.0005)
    stream = server.get_next_available_stream_id(is_unidirectional=True)
    server.send_stream_data(stream, b"data", end_stream=True)
    began = pair.now
    pair.run(lambda: not server.has_unsent())
    assert pair.now - began < 0.01


def test_loss_at_random_is_no_black_hole(identity: Identity) -> None:
    pair = _pair(identity, loss=0.05, mtu=ETHERNET, seed=7)
    _send(pair, pair.server)
    assert pair.server.quic.mtu.confirmed == STEPS[0]
    assert pair.server.quic.mtu.holes == 0


def test_another_path_is_searched_anew(identity: Identity) -> None:
    pair = _pair(identity)
    _send(pair, pair.server)
    assert pair.server.quic.mtu.confirmed == STEPS[-1]
    pair.mtu = ETHERNET
    pair.move_client()
    pair.client.quic.send_ping(1)
    pair.run_for(0.3)
    assert pair.server.quic.mtu.confirmed == BASE
    _send(pair, pair.server)
    assert pair.server.quic.mtu.confirmed == STEPS[0]
    assert pair.server.quic.mtu.holes == 0


def test_a_client_that_moves_searches_anew_itself(identity: Identity) -> None:
    pair = _pair(identity)
    _send(pair, pair.client)
    pair.mtu = ETHERNET
    pair.client.quic.change_connection_id()
    pair.move_client()
    _send(pair, pair.client)
    assert pair.client.quic.mtu.confirmed == STEPS[0]
    assert pair.client.quic.mtu.holes == 0


def test_a_lost_probe_is_no_congestion() -> None:
    mtu = PathMtu(BASE)
    mtu.allow(65_507)
    mtu.learn(65_527)
    lost: list[int] = []

    class Told(RealtimeCongestion):
        def on_lost(self, size: int, *args: Any, **kwargs: Any) -> None:
            lost.append(size)
            super().on_lost(size, *args, **kwargs)

    control = Told(BASE)
    recovery = Recovery(control, Pacer(BASE), mtu)
    size = mtu.probe_bytes(control.window, 1.0)
    assert size == STEPS[0]
    mtu.on_probe_sent(0, 1.0)
    recovery.add(in_flight(0, size, 1.0, ((mtu.on_probe_fate, ()),)))
    for number in range(1, 9):
        recovery.add(in_flight(number, BASE, 1.0, ()))
    window = control.window
    recovery.on_ack([(1, 9)], 0.0, 1.02, 9)
    assert mtu.probe_number == -1
    assert control.in_flight == 0
    assert control.window >= window
    assert lost == []


@pytest.mark.parametrize(
    ("said", "tried"), [(BASE, ()), (1_452, (1_452,)), (1_472, (1_452,)), (65_527, STEPS)]
)
def test_no_more_is_tried_than_the_peer_takes(said: int, tried: tuple[int, ...]) -> None:
    mtu, number = PathMtu(BASE), 0
    mtu.allow(65_507)
    mtu.learn(said)
    sizes = []
    while size := mtu.probe_bytes(1 << 30, 0.0):
        sizes.append(size)
        mtu.on_probe_sent(number, 0.0)
        mtu.on_probe_fate(True)
        number += 1
    assert tuple(sizes) == tried


def test_no_packet_is_more_than_a_part_of_the_window() -> None:
    mtu = PathMtu(BASE)
    mtu.allow(65_507)
    mtu.learn(65_527)
    for number in range(len(STEPS)):
        mtu.probe_bytes(1 << 30, 0.0)
        mtu.on_probe_sent(number, 0.0)
        mtu.on_probe_fate(True)
    for window in range(2_400, 2_000_000, 997):
        size = mtu.packet_bytes(window)
        assert size == BASE or size * limits.QUIC_PACKETS_A_WINDOW_MIN <= window
    assert mtu.packet_bytes(2_000_000) == STEPS[-1]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_becomes_of_its_packets_probes_are_few_and_sizes_sound(seed: int) -> None:
    chance, mtu = random.Random(seed), PathMtu(BASE)
    mtu.allow(chance.choice((0, 1_500, 65_507)))
    mtu.learn(chance.choice((BASE, 1_472, 65_527)))
    now, probes = 0.0, 0
    for number in range(1, 5_001):
        now += chance.random() * 0.1
        deed = chance.random()
        if deed < 0.5 and mtu.probe_bytes(1 << 24, now):
            mtu.on_probe_sent(number, now)
            probes += 1
        elif deed < 0.6 and mtu.probe_number >= 0:
            mtu.on_probe_fate(chance.random() < 0.5)
        elif deed < 0.7:
            mtu.on_carried(chance.randrange(number))
        elif deed < 0.8:
            mtu.on_lost(chance.randrange(number), now)
            mtu.unanswered += chance.randrange(2)
            mtu.on_answered(now)
        elif deed < 0.801:
            mtu.begin_anew(number)
        elif deed < 0.802:
            mtu.allow(chance.choice((0, 1_500, 65_507)))
        assert mtu.confirmed in (BASE, *STEPS)
        assert BASE <= mtu.packet_bytes(chance.randrange(1 << 22)) <= 65_000
    assert probes < 300
