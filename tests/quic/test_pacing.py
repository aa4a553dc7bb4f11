"""How much leaves at once."""

from __future__ import annotations

import pytest

from tests.quic.conftest import Identity
from tests.quic.pair import Sink, make_pair


def _at_once(identity: Identity, before: int, window_packets: int) -> int:
    """How many of sixty datagrams leave together, a second after ``before`` others."""
    pair = make_pair(identity)
    pair.connect()
    pair.run_for(1.0)
    quic, sink = pair.server.quic, Sink()
    recovery = quic.recovery
    recovery.control.window = recovery.pacer.window = 1_200 * window_packets
    recovery.pacer.rate_due = True
    for token in range(before):
        assert quic.queue_datagram(bytes(1_000), sink, token) is None
    pair.run_for(1.0)
    assert len(sink.acked) == before
    recovery.control.window = 1_200 * window_packets
    sent = len(pair.server.packets)
    for token in range(60):
        assert quic.queue_datagram(bytes(1_000), sink, before + token) is None
    pair.pump()
    return len(pair.server.packets) - sent


@pytest.mark.parametrize("before", [1, 3, 9, 10, 11])
@pytest.mark.parametrize("window_packets", [12, 50, 200])
def test_what_is_left_of_an_old_burst_does_not_come_on_top_of_a_new_one(
    identity: Identity, before: int, window_packets: int
) -> None:
    fresh = _at_once(identity, 0, window_packets)
    assert abs(_at_once(identity, before, window_packets) - fresh) <= 1, "a part of a packet more or less"
    assert fresh < 60
