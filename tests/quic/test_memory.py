"""What a connection holds once it is up."""

from __future__ import annotations

import gc
import tracemalloc

from gateway.quic.connection import Connection
from gateway.quic.fast import FastConnection
from tests.quic.conftest import Identity
from tests.quic.pair import make_pair

COUNT = 10


def _held_bytes(identity: Identity, server: type) -> float:
    """Bytes of Python memory per server connection, its client gone."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = []
    for _ in range(COUNT):
        pair = make_pair(identity, server=server)
        pair.connect()
        pair.run_for(0.5)
        kept.append(pair.server.quic)
        pair.client.quic.close()
    del pair
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return held / len(kept)


def test_an_idle_connection_holds_less_than_half_of_aioquics(identity: Identity) -> None:
    _held_bytes(identity, Connection)
    assert _held_bytes(identity, FastConnection) < 0.5 * _held_bytes(identity, Connection)


def test_packets_of_the_handshake_that_come_late_do_no_harm(identity: Identity) -> None:
    pair = make_pair(identity, client=FastConnection, server=FastConnection)
    pair.connect()
    pair.run_for(1)
    for end, other in ((pair.client, pair.server), (pair.server, pair.client)):
        for packet in other.packets[:6]:
            end.quic.receive_datagram(packet, other.addr, pair.now)
    pair.run_for(1)
    assert pair.server.terminated() is None
    assert pair.client.terminated() is None
