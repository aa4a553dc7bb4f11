"""Connections that end in the middle of a burst: every fate is told once, and nothing stays behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from gateway.quic import QuicOptions
from gateway.quic.connection import Connection, Refusal
from tests.quic.conftest import Identity
from tests.quic.pair import End, Pair, Sink, make_pair
from tests.quic.serving import Served, open_session, serving, until
from tests.quic.stock import Stock

ENDS = [Stock, Connection]
PAIRINGS = [(client, server) for client in ENDS for server in ENDS]


def _burst(pair: Pair, sinks: dict[End, Sink], first: int, count: int) -> None:
    for n in range(first, first + count):
        for end, sink in sinks.items():
            end.quic.queue_datagram(n.to_bytes(4, "big") * 200, sink, n)


@pytest.mark.parametrize("closer", ["client", "server"])
def test_a_close_whose_first_packet_is_lost_is_heard_nevertheless(identity: Identity, closer: str) -> None:
    """Nothing asks for it again: whoever closes is mostly gone then."""
    pair = make_pair(identity, client=Connection, server=Connection)
    pair.connect()
    pair.run_for(1.0)
    pair.drop_next = lambda data: bool(setattr(pair, "drop_next", None)) or True
    closes, hears = (pair.client, pair.server) if closer == "client" else (pair.server, pair.client)
    before = pair.now
    closes.quic.close(reason_phrase="enough")
    pair.run(lambda: hears.terminated() is not None)
    ended: Any = hears.terminated()
    assert ended.reason_phrase == "enough"
    assert pair.now - before < 1.0


@pytest.mark.parametrize(("client", "server"), PAIRINGS)
@pytest.mark.parametrize("closer", ["client", "server", "both"])
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_each_datagram_ends_once_when_a_connection_closes_in_mid_burst(
    identity: Identity, client: type, server: type, closer: str, loss: float
) -> None:
    pair = make_pair(identity, client=client, server=server, loss=loss, jitter_s=0.01, seed=3)
    pair.connect()
    pair.run_for(1.0)
    sinks = {pair.client: Sink(), pair.server: Sink()}
    _burst(pair, sinks, 0, 30)
    pair.run_for(0.025)
    _burst(pair, sinks, 30, 30)
    pair.pump()
    _burst(pair, sinks, 60, 30)
    pair.loss = 0.0
    for end in {"client": [pair.client], "server": [pair.server], "both": [*sinks]}[closer]:
        end.quic.close(reason_phrase="enough")
    pair.run(lambda: pair.client.quic.is_ended and pair.server.quic.is_ended)
    pair.run_for(5.0)
    for end, other in ((pair.client, pair.server), (pair.server, pair.client)):
        sink = sinks[end]
        if isinstance(end.quic, Connection):
            assert sorted(sink.acked + sink.lost) == list(range(90))
        came = {int.from_bytes(data[:4], "big") for data in other.datagrams()}
        assert set(sink.acked) <= came
        ended: Any = end.terminated()
        assert ended is not None
        assert ended.reason_phrase == "enough"
        assert end.quic.recovery.control.in_flight == 0
        assert end.quic.get_timer() is None
        assert end.quic.queue_datagram(b"late", sink, 91) is Refusal.CLOSED
        if isinstance(end.quic, Connection):
            assert end.quic.datagrams.size == 0


@pytest.mark.parametrize("server", [Connection])
def test_an_idle_timeout_with_packets_in_flight_tells_each_fate_once(
    identity: Identity, server: type
) -> None:
    pair = make_pair(identity, client=Stock, server=server)
    pair.connect()
    pair.run_for(1.0)
    sink = Sink()
    _burst(pair, {pair.server: sink}, 0, 5)
    pair.loss = 1.0
    pair.run(lambda: pair.server.terminated() is not None, within_s=120)
    assert sorted(sink.lost) == list(range(5))
    assert not sink.acked


@pytest.mark.parametrize("server", [Connection])
def test_forgetting_twice_tells_once(identity: Identity, server: type) -> None:
    pair = make_pair(identity, client=Stock, server=server)
    pair.connect()
    pair.run_for(1.0)
    sink = Sink()
    _burst(pair, {pair.server: sink}, 0, 40)
    pair.pump()
    for _ in range(2):
        pair.server.quic.forget_datagrams()
        pair.pump()
    assert sorted(sink.lost) == list(range(40))


@pytest.mark.parametrize("closer", ["client", "server", "endpoint"])
async def test_an_endpoint_keeps_nothing_of_connections_closed_in_mid_burst(
    identity: Identity, closer: str
) -> None:
    async with serving(identity) as served:
        gone: list[weakref.ref[Any]] = []
        for _ in range(3):
            gone += await _close_in_mid_burst(served, closer)
            if closer == "endpoint":
                break
        endpoint = served.endpoint
        await until(lambda: not endpoint.peers)
        assert not endpoint.context.admission.half_open
        assert endpoint.counters["faults"] == 0
        served.doors.sessions.clear()
        await until(lambda: gc.collect() >= 0 and not any(ref() for ref in gone))


async def _close_in_mid_burst(served: Served, closer: str) -> list[weakref.ref[Any]]:
    client = await served.connect(options=QuicOptions())
    link, session = await open_session(client)
    far = served.doors.sessions[-1]
    sent: list[tuple[Any, set[int]]] = [(session, set()), (far, set())]
    for n in range(60):
        for near, tokens in sent:
            if near.link.send(n.to_bytes(2, "big") * 500, n):
                tokens.add(n)
        if n == 20:
            await until(lambda: len(session.acked) > 5)
    (peer,) = (peer for peer in served.endpoint.peers if peer.sessions)  # others are still drained
    if closer == "client":
        client.close()
    elif closer == "server":
        peer.close()
    else:
        served.endpoint.close()
    await until(lambda: session.closed == 1 and far.closed == 1)
    client.close()
    for near, tokens in sent:
        assert len(tokens) >= 10, "an initial window"
        assert sorted(near.acked + near.lost) == sorted(tokens)
    assert link.closed_code is not None
    return [weakref.ref(peer), weakref.ref(peer.quic), weakref.ref(far.link)]


@pytest.mark.parametrize("closer", ["client", "server"])
async def test_a_session_ends_with_its_peers_close_and_not_only_once_that_is_drained(
    identity: Identity, closer: str
) -> None:
    """Whoever comes back at once would find its own place taken: draining takes three probe timeouts."""
    async with serving(identity) as served:
        client = await served.connect(options=QuicOptions())
        _, session = await open_session(client)
        (far,) = served.doors.sessions
        (peer,) = served.endpoint.peers
        drained: list[bool] = []
        hearer, end = (far, peer) if closer == "client" else (session, client.peer)
        hearer.on_closed = lambda mono: drained.append(end.ended is not None)  # type: ignore[method-assign]
        (client if closer == "client" else peer).close()
        await until(lambda: bool(drained))
        assert drained == [False]


@pytest.mark.parametrize("size", [*range(21, 43), 1_200])
def test_a_stateless_reset_of_any_length_ends_a_client(identity: Identity, size: int) -> None:
    """The answer is shorter than what it answers, and a lone ping takes 29 bytes (RFC 9000 section 10.3)."""
    pair = make_pair(identity, client=Connection, server=Connection)
    pair.connect()
    pair.run_for(1.0)
    client, now = pair.client.quic, pair.now
    token = client.peer_ids.current.token
    noise = bytes([0x40]) + bytes([0xA5]) * (size - 17)
    client.receive(noise + bytes(16), pair.server.addr, now)
    assert not client.is_ended
    client.receive(noise + token, pair.server.addr, now)
    assert client.is_ended


def test_a_datagram_too_short_for_a_reset_ends_nobody(identity: Identity) -> None:
    pair = make_pair(identity, client=Connection, server=Connection)
    pair.connect()
    pair.run_for(1.0)
    client = pair.client.quic
    for size in range(21):
        client.receive(
            (b"\x40" * 4 + client.peer_ids.current.token)[-size:][:size], pair.server.addr, pair.now
        )
    assert not client.is_ended
