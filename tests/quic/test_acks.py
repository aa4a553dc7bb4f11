"""Packets of one ACK alone, and when an endpoint sends them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.quic.connection import Connection
from gateway.quic.connection.packets import ACKS_BETWEEN_PINGS
from gateway.quic.connection.received import ACK_DELAY_S, ACK_EVERY
from tests.quic.conftest import Identity
from tests.quic.pair import Pair, Sink, make_pair
from tests.quic.stock import Stock


class AckingAlone(Connection):
    """Sends what ACKs it can by :meth:`Connection.ack_alone`, as an endpoint does."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alone = 0
        self.wanted: list[float] = []
        self.listen(on_ack=self.wanted.append)

    def packets(self, now: float) -> list[bytes] | None:
        packet = self.ack_alone(now)
        if packet:
            self.alone += 1
            return [packet]
        return super().packets(now)


def opened(identity: Identity, server: type = AckingAlone, **link: float) -> Pair:
    pair = make_pair(identity, client=Connection, server=server, **link)
    pair.connect()
    pair.run_for(1.0)
    return pair


def publish(pair: Pair, sink: Sink, tokens: range, every_s: float) -> None:
    for token in tokens:
        assert pair.client.quic.queue_datagram(b"frame %d" % token, sink, token) is None
        pair.run_for(every_s)


@pytest.mark.parametrize("client", [Stock, Connection, AckingAlone])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_datagram_is_acknowledged_or_lost_over_a_bad_link(
    identity: Identity, client: type, seed: int
) -> None:
    pair = make_pair(
        identity, client=client, server=AckingAlone, loss=0.1, duplicates=0.1, jitter_s=0.02, seed=seed
    )
    pair.connect()
    sink = Sink()
    publish(pair, sink, range(200), 1 / 60)
    pair.run(lambda: len(sink.acked) + len(sink.lost) == 200, within_s=60)
    arrived = {int(data.split()[1]) for data in pair.server.datagrams()}
    assert set(sink.acked) <= arrived
    assert pair.server.quic.alone > 20
    assert pair.client.terminated() is None


@pytest.mark.parametrize("server", [Connection, AckingAlone])
def test_acks_come_as_often_and_say_the_same_as_those_of_a_flush(identity: Identity, server: type) -> None:
    pair = opened(identity, server)
    sink, before = Sink(), len(pair.server.packets)
    publish(pair, sink, range(120), 1 / 60)
    pair.run_for(0.2)
    assert sink.acked == list(range(120))
    assert 60 <= len(pair.server.packets) - before <= 66
    assert pair.client.quic.recovery.rtt_smoothed == pytest.approx(0.04, abs=0.002)


def test_now_and_then_an_ack_takes_a_ping_along_so_that_old_ranges_go(identity: Identity) -> None:
    pair = opened(identity)
    sink, before, alone = Sink(), len(pair.server.packets), pair.server.quic.received.acks_alone
    publish(pair, sink, range(4 * ACKS_BETWEEN_PINGS), 1 / 30)
    said = len(pair.server.packets) - before
    assert pair.server.quic.alone - alone == said - (alone + said) // ACKS_BETWEEN_PINGS
    (block,) = pair.server.quic.received.ranges
    assert len(block) <= 2 * ACKS_BETWEEN_PINGS + ACK_EVERY
    assert pair.server.quic.alone >= 3 * ACKS_BETWEEN_PINGS


def test_an_ack_is_wanted_at_once_out_of_order_and_else_just_in_time(identity: Identity) -> None:
    pair = opened(identity)
    pair.server.quic.wanted.clear()
    publish(pair, Sink(), range(1), 0.021)
    (wanted,) = pair.server.quic.wanted
    assert wanted == pytest.approx(pair.now - 0.001 + ACK_DELAY_S, abs=1e-4)
    pair.run_for(0.5)
    pair.server.quic.wanted.clear()
    pair.drop_next = lambda data: bool(setattr(pair, "drop_next", None)) or True
    publish(pair, Sink(), range(2), 0.001)
    pair.run_for(0.0195)
    (wanted,) = pair.server.quic.wanted
    assert wanted <= pair.now


def test_none_is_built_where_there_is_more_to_say_and_nothing_where_none_is_due(identity: Identity) -> None:
    pair = opened(identity)
    server: Any = pair.server.quic
    assert server.ack_alone(pair.now) == b""
    server.received.ack_at = pair.now + 0.01
    assert server.ack_alone(pair.now) == b""
    server.received.ack_at = pair.now
    assert server.queue_datagram(b"a notice", Sink(), 1) is None
    assert server.ack_alone(pair.now) is None
    before = server.packets_fast
    server.forget_datagrams()
    packet = server.ack_alone(pair.now)
    assert packet
    assert server.packets_fast == before + 1
    assert server.received.ack_at is None
