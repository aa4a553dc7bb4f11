"""What a connection holds once it is up."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from aioquic import tls
from aioquic.buffer import encode_uint_var
from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode

from gateway.quic.connection import Connection
from tests.quic.conftest import Identity
from tests.quic.pair import End, inject, make_pair
from tests.quic.stock import Stock

COUNT = 10
KEY_UPDATE = b"\x18\x00\x00\x01\x00"
"""A TLS message that QUIC has no use for (RFC 9001 section 6)."""


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


def test_an_idle_connection_holds_less_than_a_third_of_aioquics(identity: Identity) -> None:
    _held_bytes(identity, Stock)
    assert 3 * _held_bytes(identity, Connection) < _held_bytes(identity, Stock)


def test_packets_of_the_handshake_that_come_late_do_no_harm(identity: Identity) -> None:
    pair = make_pair(identity, client=Connection, server=Connection)
    pair.connect()
    pair.run_for(1)
    for end, other in ((pair.client, pair.server), (pair.server, pair.client)):
        for packet in other.packets[:6]:
            pair.give(end.quic, packet, other.addr)
    pair.run_for(1)
    assert pair.server.terminated() is None
    assert pair.client.terminated() is None


@pytest.mark.parametrize("server", [Stock, Connection])
def test_a_tls_message_after_the_handshake_ends_the_connection(identity: Identity, server: type) -> None:
    pair = make_pair(identity, server=server)
    pair.connect()
    pair.run_for(0.5)
    inject(pair, pair.client, b"\x06" + b"\x00" + encode_uint_var(len(KEY_UPDATE)) + KEY_UPDATE)
    pair.run(lambda: pair.client.terminated() is not None)
    event = pair.client.terminated()
    assert event is not None
    assert event.error_code == QuicErrorCode.CRYPTO_ERROR + tls.AlertDescription.unexpected_message


def test_a_trimmed_connection_still_changes_its_keys_and_opens_streams(identity: Identity) -> None:
    pair = make_pair(identity, client=Connection, server=Connection)
    pair.connect()
    pair.run_for(0.5)
    for end, other in ((pair.client, pair.server), (pair.server, pair.client)):
        end.quic.request_key_update()
        for unidirectional in (True, False):
            stream_id = end.quic.get_next_available_stream_id(is_unidirectional=unidirectional)
            end.quic.send_stream_data(stream_id, b"hello", end_stream=True)
            pair.run(lambda at=other, of=stream_id: (of, b"hello", True) in _stream_data(at))
    assert pair.client.terminated() is None
    assert pair.server.terminated() is None


def _stream_data(end: End) -> list[tuple[int, bytes, bool]]:
    return [
        (event.stream_id, event.data, event.end_stream)
        for event in end.events
        if isinstance(event, events.StreamDataReceived)
    ]
