"""What a connection answers about itself: before its handshake, after it, and at its end."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from aioquic.quic.events import PingAcknowledged

from gateway.quic.connection import Connection
from gateway.quic.options import QuicOptions
from tests.quic.conftest import Identity
from tests.quic.pair import Pair, make_pair


def _announcing(identity: Identity, **said: object) -> Pair:
    """A pair whose client announces that."""
    options = QuicOptions()
    far = dataclasses.replace(identity.trust().configuration("localhost", options, None), **said)
    near = identity.server().configuration(options)
    return Pair(
        Connection(configuration=far),
        lambda cid: Connection(configuration=near, original_destination_connection_id=cid),
    )


def test_requests_may_be_sent_from_the_handshake_until_somebody_closes(identity: Identity) -> None:
    pair = make_pair(identity)
    ends = pair.client.quic, pair.server.quic
    assert not any(quic.is_established for quic in ends)
    pair.connect()
    assert all(quic.is_established for quic in ends)
    pair.client.quic.close()
    assert not pair.client.quic.is_established
    pair.run(lambda: pair.server.terminated() is not None)
    assert not pair.server.quic.is_established


def test_round_trips_are_those_of_the_link_and_none_before_the_first(identity: Identity) -> None:
    pair = make_pair(identity, delay_s=0.03)
    assert pair.client.quic.round_trips() is None
    pair.connect()
    pair.run_for(1.0)
    for end in (pair.client, pair.server):
        latest, least, *_ = end.quic.round_trips()
        assert 0.06 - 1e-6 <= least <= latest < 0.1


@pytest.mark.parametrize("size", [1, 5_000])
def test_bytes_are_unsent_until_the_peer_has_them(identity: Identity, size: int) -> None:
    pair = make_pair(identity)
    pair.connect()
    pair.run_for(1.0)
    quic = pair.client.quic
    assert not quic.has_unsent()
    quic.send_stream_data(0, bytes(size))
    assert quic.has_unsent()
    pair.pump()
    assert quic.has_unsent()
    pair.run_for(1.0)
    assert not quic.has_unsent()


def test_a_client_has_seen_the_servers_certificate_and_a_server_none(identity: Identity) -> None:
    pair = make_pair(identity)
    for until in (pair.connect, lambda: pair.run_for(1.0)):
        until()
        assert hashlib.sha256(pair.client.quic.peer_leaf_der()).digest() == identity.leaf_hash
        assert pair.server.quic.peer_leaf_der() is None


def test_a_ping_asked_for_at_any_time_is_answered_once(identity: Identity) -> None:
    pair = make_pair(identity)
    pair.client.quic.send_ping(1)
    pair.connect()
    pair.client.quic.send_ping(2)
    pair.run_for(1.0)
    pair.client.quic.send_ping(3)
    pair.run_for(1.0)
    assert [e.uid for e in pair.client.events if isinstance(e, PingAcknowledged)] == [1, 2, 3]


@pytest.mark.parametrize("said", [100, 500, 1_000])
def test_a_datagram_is_no_larger_than_the_frame_that_the_peer_takes(identity: Identity, said: int) -> None:
    pair = _announcing(identity, max_datagram_frame_size=said)
    pair.connect()
    pair.run_for(1.0)
    assert said - 3 <= pair.server.quic.datagram_bytes_max() < said, "less the frame's head"
    assert pair.client.quic.datagram_bytes_max() > 1_000


def test_silence_lasts_as_long_as_the_shorter_of_both_ends_says(identity: Identity) -> None:
    pair = _announcing(identity, idle_timeout=7.0)
    pair.connect()
    pair.run_for(1.0)
    assert pair.server.quic.idle_timeout_s() == pair.client.quic.idle_timeout_s() == 7.0


def test_what_a_connection_abandons_is_asked_for_at_once_and_nothing_after_its_end(
    identity: Identity,
) -> None:
    pair = make_pair(identity)
    pair.connect()
    pair.run_for(1.0)
    quic = pair.server.quic
    pair.client.quic.send_stream_data(0, b"x")
    pair.run_for(0.5)
    sent = len(pair.server.packets)
    quic.abandon_receiving(0, 7)
    pair.pump()
    assert len(pair.server.packets) == sent + 1
    quic.close()
    pair.run(lambda: pair.server.terminated() is not None)
    sent = len(pair.server.packets)
    quic.abandon_receiving(0, 7)
    pair.pump()
    assert len(pair.server.packets) == sent
