"""A client that changes its address in mid-stream, and what may be sent to an address that nobody proved."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from gateway.core.bundle import Burst
from gateway.quic.connection import Connection
from gateway.quic.connection.framing import Framing
from tests.quic.conftest import Identity
from tests.quic.pair import CLIENT, SERVER, Pair, Sink, make_pair
from tests.quic.stock import Stock

ENDS = [Stock, Connection]
PAIRINGS = [(client, server) for client in ENDS for server in ENDS]
SPOOFED = ("10.66.6.6", 666)


def _up(identity: Identity, client: type, server: type, **link: float) -> Pair:
    pair = make_pair(identity, client=client, server=server, **link)
    pair.connect()
    pair.run_for(1.0)
    return pair


def _watch_addresses(pair: Pair) -> dict[Any, Counter[str]]:
    """Bytes that went to and came from each address of the client's side, as the server sees it."""
    seen: dict[Any, Counter[str]] = {}
    give = pair.give

    def on_sent(data: bytes, source: Any, to: Any) -> None:
        if source == SERVER:
            seen.setdefault(to, Counter())["sent"] += len(data)

    def watching_give(quic: Any, data: bytes, source: Any) -> None:
        if quic is pair.server.quic:
            seen.setdefault(source, Counter())["received"] += len(data)
        give(quic, data, source)

    pair.on_sent, pair.give = on_sent, watching_give  # type: ignore[method-assign]
    return seen


def _send(quic: Any, data: bytes, sink: Sink, token: int) -> None:
    """A datagram; every other one as a burst, where the connection takes one now."""
    if token % 2 and quic.content_bytes_max:
        framing = Framing(Burst([(data, ())]), b"", quic.content_bytes_max)
        if quic.offer_burst(framing, sink, token) is None:
            return
    assert quic.queue_datagram(data, sink, token) is None


def _both_ways(pair: Pair, count: int, at: dict[int, Any], size: int = 200) -> tuple[Sink, Sink]:
    up, down = Sink(), Sink()
    for n in range(count):
        if n in at:
            at[n]()
        for end, sink in ((pair.client, up), (pair.server, down)):
            _send(end.quic, n.to_bytes(4, "big") * (size // 4), sink, n)
        pair.run_for(0.01)
    pair.run_for(3.0)
    return up, down


def _numbers(datagrams: list[bytes]) -> list[int]:
    return sorted(int.from_bytes(data[:4], "big") for data in datagrams)


@pytest.mark.parametrize(("client", "server"), PAIRINGS)
@pytest.mark.parametrize("how", ["rebinding", "deliberate"])
def test_datagrams_flow_on_both_ways_when_the_client_moves(
    identity: Identity, client: type, server: type, how: str
) -> None:
    pair = _up(identity, client, server, jitter_s=0.004, seed=2)
    cids = (pair.client.quic.peer_ids.current.cid, pair.server.quic.peer_ids.current.cid)

    def move() -> None:
        if how == "deliberate":
            pair.client.quic.change_connection_id()
        pair.move_client()

    up, down = _both_ways(pair, 80, {25: move})
    (old, new) = (CLIENT, pair.client.addr)
    assert old != new
    assert pair.server.quic.address == new
    assert pair.server.quic.paths.active.is_proved
    assert (how == "deliberate") == (pair.client.quic.peer_ids.current.cid != cids[0])
    if how == "deliberate":
        assert pair.server.quic.peer_ids.current.cid != cids[1], (
            "no connection ID is seen on two paths (RFC 9000 section 9.5)"
        )
    for end, sink in ((pair.server, up), (pair.client, down)):
        assert _numbers(end.datagrams()) == list(range(80)), "a move by itself loses nothing"
        assert sorted(sink.acked + sink.lost) == list(range(80))
        assert set(range(40, 80)) <= set(sink.acked)
        assert end.terminated() is None


@pytest.mark.parametrize(("client", "server"), PAIRINGS)
def test_a_client_moves_again_and_again(identity: Identity, client: type, server: type) -> None:
    pair = _up(identity, client, server, delay_s=0.005, jitter_s=0.002, seed=3)

    def deliberate() -> None:
        pair.client.quic.change_connection_id()
        pair.move_client()

    moves = {n: (deliberate if n % 20 else pair.move_client) for n in range(10, 100, 10)}
    _both_ways(pair, 110, moves)
    assert pair.server.quic.address == pair.client.addr
    for end in (pair.client, pair.server):
        assert _numbers(end.datagrams()) == list(range(110))
        assert len(end.quic.paths) <= 8
        assert len(end.quic.our_ids.known) <= 8


@pytest.mark.parametrize(("client", "server"), PAIRINGS)
@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_a_move_over_a_bad_link_comes_to_its_end(
    identity: Identity, client: type, server: type, loss: float
) -> None:
    pair = _up(identity, client, server, seed=4)
    pair.loss = loss
    up, down = _both_ways(pair, 80, {20: pair.move_client})
    pair.loss = 0.0
    pair.run(lambda: len(up.acked + up.lost) == len(down.acked + down.lost) == 80, within_s=60)
    more_up, more_down = _both_ways(pair, 20, {})
    assert pair.server.quic.address == pair.client.addr
    assert pair.server.quic.paths.active.is_proved
    assert len(more_up.acked) == len(more_down.acked) == 20
    for sink in (up, down):
        assert sorted(sink.acked + sink.lost) == list(range(80))


@pytest.mark.parametrize("server", ENDS)
@pytest.mark.parametrize("how", ["rebinding", "deliberate"])
def test_a_new_address_gets_no_more_than_thrice_what_came_from_it_until_it_is_proved(
    identity: Identity, server: type, how: str
) -> None:
    pair = _up(identity, Stock, server)
    seen = _watch_addresses(pair)
    quic, sink = pair.server.quic, Sink()
    if how == "deliberate":
        pair.client.quic.change_connection_id()
    pair.move_client()
    pair.client.quic.queue_datagram(b"x" * 30, sink, 1)
    for n in range(40):
        quic.queue_datagram(bytes(1000), sink, 100 + n)
    pair.pump()
    tried = 0
    while not quic.paths.active.is_proved or quic.address != pair.client.addr:
        assert pair.step()
        for addr, bytes_ in seen.items():
            proved = [path.address for path in quic.paths if path.is_proved]
            if addr not in proved:
                tried += 1
                assert bytes_["sent"] <= 3 * bytes_["received"], addr
    assert tried
    pair.run(lambda: len(sink.acked + sink.lost) == 41)


@pytest.mark.parametrize(("client", "server"), PAIRINGS)
def test_a_packet_sent_again_from_a_forged_address_moves_nobody_for_long(
    identity: Identity, client: type, server: type
) -> None:
    """RFC 9000 sections 9.3.1 to 9.3.3: an attacker on the side copies a packet and is faster."""
    pair = _up(identity, client, server, delay_s=0.03)
    seen = _watch_addresses(pair)
    quic, sink, up = pair.server.quic, Sink(), Sink()
    pair.client.quic.queue_datagram(b"stolen", up, 0)
    pair.pump()
    pair.give(quic, pair.client.packets[-1], SPOOFED)
    for n in range(60):
        quic.queue_datagram(bytes(1000), sink, n)
        pair.client.quic.queue_datagram(b"mine%d" % n, up, 1 + n)
        pair.run_for(0.02)
        if SPOOFED not in [path.address for path in quic.paths if path.is_proved]:
            assert seen[SPOOFED]["sent"] <= 3 * seen[SPOOFED]["received"]
    pair.run_for(5.0)
    assert quic.address == pair.client.addr
    assert sorted(up.acked) == list(range(61))
    assert sorted(sink.acked + sink.lost) == list(range(60))
    assert set(range(30, 60)) <= set(sink.acked)
    assert [path.address for path in quic.paths if path.is_proved][:1] == [CLIENT]


@pytest.mark.parametrize("server", ENDS)
def test_a_handshake_from_a_forged_address_gets_no_more_than_thrice_what_came(
    identity: Identity, server: type
) -> None:
    pair = make_pair(identity, server=server)
    packets = pair.intercept()
    hello = b"".join(packets)
    quic = pair.server.quic
    for data in packets:
        pair.give(quic, data, pair.client.addr)
    sent = 0
    while not quic.is_ended:
        sent += sum(len(data) for data, _ in pair.take_packets(quic))
        assert sent <= 3 * len(hello)
        timer = quic.get_timer()
        assert timer is not None
        pair.now = max(timer, pair.now)
        quic.handle_timer(pair.now)
    assert sent > len(hello)
