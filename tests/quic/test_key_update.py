"""Keys change in mid-stream and nothing that was on its way is lost (RFC 9001 sections 6.1 and 6.5)."""

from __future__ import annotations

from typing import Any

import pytest
from aioquic.quic.events import StreamDataReceived

from gateway.quic.connection import Connection
from tests.quic.conftest import Identity
from tests.quic.pair import End, Pair, Sink, make_pair
from tests.quic.stock import Stock

ENDS = [Connection]
PAIRINGS = [(Connection, Connection)]
COUNT = 80


def _keys(end: End) -> Any:
    return end.quic.keys


def _up(identity: Identity, client: type, server: type, **link: float) -> Pair:
    pair = make_pair(identity, client=client, server=server, **link)
    pair.connect()
    pair.run_for(1.0)
    return pair


def _both_ways(pair: Pair, updates: dict[int, list[End]]) -> None:
    """Datagrams and stream data both ways with key updates between them, and time for all to arrive."""
    sink = Sink()
    streams = {end: end.quic.get_next_available_stream_id() for end in (pair.client, pair.server)}
    for n in range(COUNT):
        for end in updates.get(n, []):
            end.quic.request_key_update()
        for end, stream in streams.items():
            assert end.quic.queue_datagram(b"%d-" % n * 60, sink, n) is None
            end.quic.send_stream_data(stream, b"%d." % n, end_stream=n == COUNT - 1)
        pair.run_for(0.005)
    pair.run_for(2.0)


def _assert_all_came(pair: Pair) -> None:
    for end in (pair.client, pair.server):
        came = sorted(int(data.split(b"-")[0]) for data in end.datagrams())
        assert came == list(range(COUNT))
        text = b"".join(e.data for e in end.events if isinstance(e, StreamDataReceived))
        assert text == b"".join(b"%d." % n for n in range(COUNT))
        assert end.terminated() is None
        assert not end.quic.has_unsent()


@pytest.mark.parametrize(("client", "server"), PAIRINGS)
@pytest.mark.parametrize("who", ["client", "server", "both"])
def test_packets_overtaken_by_a_key_update_are_still_read(
    identity: Identity, client: type, server: type, who: str
) -> None:
    pair = _up(identity, client, server, jitter_s=0.03, duplicates=0.1, seed=5)
    ends = {"client": [pair.client], "server": [pair.server], "both": [pair.client, pair.server]}[who]
    phases = [_keys(end).phase for end in (pair.client, pair.server)]
    _both_ways(pair, {30: ends})
    _assert_all_came(pair)
    assert [_keys(end).phase for end in (pair.client, pair.server)] == [1 - p for p in phases]


@pytest.mark.parametrize(("client", "server"), PAIRINGS)
def test_keys_are_updated_again_and_again(identity: Identity, client: type, server: type) -> None:
    pair = _up(identity, client, server, delay_s=0.002, jitter_s=0.003, seed=6)
    _both_ways(pair, {n: [(pair.client, pair.server)[n // 10 % 2]] for n in range(10, COUNT, 10)})
    _assert_all_came(pair)
    assert _keys(pair.client).phase == _keys(pair.server).phase == 1


@pytest.mark.parametrize("server", ENDS)
def test_old_keys_are_let_go_three_probe_timeouts_after_the_new_ones_came(
    identity: Identity, server: type
) -> None:
    pair = _up(identity, Connection, server)
    late: list[bytes] = []
    sink, to = Sink(), pair.server.quic
    pair.drop_next = lambda data: not late and not data[0] & 0x80 and late.append(data) is None
    pair.client.quic.queue_datagram(b"late", sink, 0)
    pair.pump()
    assert late
    pair.client.quic.request_key_update()
    for n in range(3):
        pair.client.quic.queue_datagram(b"new%d" % n, sink, n)
        pair.run_for(0.04)
    assert _keys(pair.server).old is not None
    pair.run_for(3 * to.recovery.probe_timeout() + 0.01)
    pair.give(to, late[0], pair.client.addr)
    assert _keys(pair.server).old is None
    pair.run_for(0.5)
    assert b"late" not in pair.server.datagrams()
    assert pair.server.terminated() is None


def test_packets_are_read_in_line_again_once_the_old_keys_are_gone(identity: Identity) -> None:
    pair = _up(identity, Connection, Connection)
    _both_ways(pair, {10: [pair.client]})
    server: Any = pair.server.quic
    for n in range(5):
        pair.client.quic.queue_datagram(b"x%d" % n, Sink(), n)
        pair.run_for(0.1)
    assert pair.server.datagrams()[-5:] == [b"x%d" % n for n in range(5)]
    assert server.reads_in_line


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize(("client", "server"), [(Stock, Connection), (Connection, Stock)])
def test_an_end_of_another_kind_updates_and_follows(
    identity: Identity, client: type, server: type, who: str
) -> None:
    pair = _up(identity, client, server, delay_s=0.002)
    getattr(pair, who).quic.request_key_update()
    sinks = {pair.client: Sink(), pair.server: Sink()}
    for n in range(40):
        for end, sink in sinks.items():
            assert end.quic.queue_datagram(b"%d" % n, sink, n) is None
        pair.run_for(0.01)
    pair.run_for(1.0)
    for sink in sinks.values():
        assert set(range(10, 40)) <= set(sink.acked)
    assert [_keys(end).phase for end in sinks] == [1, 1]


def test_forged_packets_of_the_other_phase_change_no_keys(identity: Identity) -> None:
    pair = _up(identity, Connection, Connection)
    pair.client.quic.queue_datagram(b"real", Sink(), 1)
    before = _keys(pair.server).phase
    server: Any = pair.server.quic
    pair.pump()
    packet = bytearray(pair.client.packets[-1])
    for flip in (0x04, 0x14, 0x1C):
        forged = bytes([packet[0] ^ flip, *packet[1:]])
        pair.give(server, forged, pair.client.addr)
    assert _keys(pair.server).phase == before
    assert _keys(pair.server).old is None
    pair.run_for(0.1)
    assert pair.server.datagrams() == [b"real"]


@pytest.mark.parametrize(("client", "server"), PAIRINGS)
def test_keys_are_renewed_by_themselves_before_they_have_protected_too_much(
    identity: Identity, client: type, server: type
) -> None:
    """RFC 9001 section 6.6."""
    pair = _up(identity, client, server, jitter_s=0.01, seed=8)
    ends = (pair.client, pair.server)
    assert all(end.quic.sending.renew_at <= 1 << 22 for end in ends)
    for end in ends:
        end.quic.sending.renew_at = end.quic.number + 20
    _both_ways(pair, {})
    _assert_all_came(pair)
    renewed = [end.quic.sending.renew_at > 1 << 22 for end in ends]
    assert any(renewed), "whoever comes first changes the keys of both"
    assert _keys(pair.client).phase == _keys(pair.server).phase
