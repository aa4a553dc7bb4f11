"""Links that carry less than they should, and what peers say of marks on packets.

Nobody here looks for a larger path MTU, for nobody has said that packets are sent in one piece (``test_path_mtu.py``): nothing
above 1,200 bytes is sent. Nor are packets sent with ECT: no marks are to be validated, and what a peer counts of them, on a
path that writes into that field, says nothing (section 13.4.2).
"""

from __future__ import annotations

import itertools

import pytest
from aioquic.buffer import encode_uint_var

from gateway.core.bundle import Burst
from gateway.quic.connection import Connection, Refusal
from gateway.quic.connection.framing import framing_of
from gateway.quic.connection.sending import packet_of
from gateway.quic.options import QuicOptions
from tests.quic.conftest import Identity
from tests.quic.pair import Pair, Sink, make_pair
from tests.quic.stock import Stock

LEAST_MTU = 1_200


def _talk(pair: Pair, size: int = 60_000) -> None:
    """A stream of so many bytes each way, and datagrams of every size that is taken."""
    quics = (pair.client.quic, pair.server.quic)
    for quic in quics:
        stream = quic.get_next_available_stream_id(is_unidirectional=True)
        quic.send_stream_data(stream, bytes(size), end_stream=True)
        for token, length in enumerate(range(1, quic.datagram_bytes_max() + 1, 97)):
            quic.queue_datagram(bytes(length), Sink(), token)
        quic.queue_datagram(bytes(quic.datagram_bytes_max()), Sink(), 0)
    pair.run(lambda: not any(quic.has_unsent() for quic in quics), within_s=30)


def test_a_whole_conversation_passes_a_link_that_carries_the_least_that_quic_asks_for(
    identity: Identity,
) -> None:
    pair = make_pair(identity, mtu=LEAST_MTU)
    pair.connect()
    _talk(pair)
    pair.server.quic.send_ping(1)
    pair.client.quic.change_connection_id()
    pair.move_client()
    _talk(pair)
    assert pair.too_large == 0
    assert pair.largest == LEAST_MTU


def test_packets_are_as_large_as_every_path_carries_and_no_larger() -> None:
    assert QuicOptions().max_datagram_size == LEAST_MTU


@pytest.mark.parametrize("narrow_from", ["the start", "mid-stream"])
def test_over_a_link_too_narrow_for_quic_few_packets_go_and_the_connection_ends(
    identity: Identity, narrow_from: str
) -> None:
    pair = make_pair(identity, mtu=LEAST_MTU - 1 if narrow_from == "the start" else LEAST_MTU)
    if narrow_from == "mid-stream":
        pair.connect()
        pair.mtu = LEAST_MTU - 100
        pair.server.quic.send_stream_data(3, bytes(100_000), end_stream=True)
    sent, began = len(pair.server.packets) + len(pair.client.packets), pair.now
    pair.run(lambda: pair.client.terminated() is not None, within_s=600)
    sent = len(pair.server.packets) + len(pair.client.packets) - sent
    assert sent < 100 + 20 * (pair.now - began)


def test_a_peer_without_datagrams_is_said_to_take_none_but_not_before_it_has_said_so(
    identity: Identity,
) -> None:
    pair = make_pair(identity, datagrams=False)
    assert pair.server.quic.offer_datagram(b"x", Sink(), 1) is Refusal.BLOCKED
    pair.connect()
    pair.run_for(0.2)
    assert pair.server.quic.offer_datagram(b"x", Sink(), 1) is Refusal.UNSUPPORTED
    assert pair.server.quic.queue_datagram(b"x", Sink(), 1) is Refusal.UNSUPPORTED
    framing = framing_of(Burst([(b"x", ())]), b"", 1_000)
    assert pair.server.quic.offer_burst(framing, Sink(), 1) is Refusal.UNSUPPORTED
    pair.server.quic.close()
    assert pair.server.quic.offer_datagram(b"x", Sink(), 1) is Refusal.CLOSED


@pytest.mark.parametrize("counts", [(0, 0, 0), (5, 0, 5), (1 << 40, 1 << 40, 1 << 40), (0, 9, 1)])
def test_counts_of_marks_that_were_never_set_are_nothing(
    identity: Identity, counts: tuple[int, int, int]
) -> None:
    """A path that writes into the field, or a peer that counts wrong: each ACK says so, rising and falling."""
    pair = make_pair(identity)
    pair.connect()
    pair.run_for(1.0)
    server, sink = pair.server.quic, Sink()
    window = server.recovery.control.window
    pair.drop_next = lambda data: True
    for token in range(200):
        assert server.offer_datagram(b"frame %d" % token, sink, token) is None
        pair.pump()
        pair.now += 0.01
        factor = token % 3
        numbers = (0x03, server.number - 1, 0, 0, min(token, 3), *(factor * count for count in counts))
        frame = b"".join(map(encode_uint_var, (min(number, (1 << 62) - 1) for number in numbers)))
        pair.give(server, packet_of(pair.client.quic, frame), pair.client.addr)
        pair.pump()
    assert sink.acked == list(range(200))
    assert not sink.lost
    assert server.close_event is None
    assert server.recovery.control.window >= window


def test_a_frame_of_marks_that_is_cut_short_is_malformed(identity: Identity) -> None:
    for size in range(4, 8):
        pair = make_pair(identity)
        pair.connect()
        pair.run_for(0.5)
        whole = b"".join(map(encode_uint_var, (0x03, pair.server.quic.number - 1, 0, 0, 0, 0, 0, 0)))
        pair.give(pair.server.quic, packet_of(pair.client.quic, whole[:size]), pair.client.addr)
        assert pair.server.quic.close_event is not None


@pytest.mark.parametrize(("client", "server"), list(itertools.product([Stock, Connection], repeat=2)))
@pytest.mark.parametrize("late_s", [0.002, 0.03])
def test_what_is_merely_overtaken_arrives_once_and_slows_nothing(
    identity: Identity, client: type, server: type, late_s: float
) -> None:
    pair = make_pair(identity, client=client, server=server, late=0.3, late_s=late_s, delay_s=0.02)
    pair.connect()
    began, sinks = pair.now, {pair.client: Sink(), pair.server: Sink()}
    for token in range(100):
        for end, sink in sinks.items():
            assert end.quic.queue_datagram(b"%d" % token, sink, token) is None
        pair.run_for(0.01)
    pair.run(lambda: all(len(s.acked) + len(s.lost) == 100 for s in sinks.values()))
    assert pair.now - began < 3
    for end in sinks:
        assert sorted(map(int, end.datagrams())) == list(range(100))
