"""How much leaves at once: the same on both paths."""

from __future__ import annotations

import pytest

from gateway.quic.connection import Connection
from gateway.quic.connection.fast import FastConnection
from tests.quic.conftest import Identity
from tests.quic.pair import Sink, make_pair


@pytest.mark.parametrize("before", [1, 3, 9, 10, 11])
@pytest.mark.parametrize("window_packets", [12, 50, 200])
def test_what_is_left_of_an_old_burst_does_not_come_on_top_of_a_new_one(
    identity: Identity, before: int, window_packets: int
) -> None:
    at_once = {}
    for server in (FastConnection, Connection):
        pair = make_pair(identity, client=FastConnection, server=server)
        pair.connect()
        pair.run_for(1.0)
        quic, sink = pair.server.quic, Sink()
        loss = quic._loss
        loss._cc.congestion_window = 1_200 * window_packets
        loss._pacer.update_rate(loss._cc.congestion_window, loss._rtt_smoothed)
        for token in range(before):
            assert quic.queue_datagram(bytes(1_000), sink, token)
        pair.run_for(1.0)
        assert len(sink.acked) == before
        sent = len(pair.server.packets)
        for token in range(60):
            assert quic.queue_datagram(bytes(1_000), sink, before + token)
        pair.pump()
        at_once[server] = len(pair.server.packets) - sent
    assert abs(at_once[FastConnection] - at_once[Connection]) <= 1, "a part of a packet more or less"
