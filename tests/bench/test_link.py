"""The real link: packets between real kernels get the delay, loss and rate that were asked for."""

from __future__ import annotations

import os

import pytest

from bench.link import Direction, LinkPath, Network, unavailable_because
from bench.link.check import check_loss, check_rate, check_round_trip, round_trip, through

REASON = unavailable_because()
if REASON and os.environ.get("CI") == "true":
    raise RuntimeError(f"CI must be able to make the link: {REASON}")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no lossy link: {REASON}")


def test_the_round_trip_is_the_sum_of_both_delays() -> None:
    finding = check_round_trip(LinkPath(up=Direction(delay_ms=10.0), down=Direction(delay_ms=30.0)))
    assert finding.ok, str(finding)


def test_every_packet_missing_at_the_far_end_was_dropped_by_the_model() -> None:
    finding = check_loss(LinkPath.symmetric(Direction(loss=0.05)), packets=4_000)
    assert finding.asked > 100
    assert finding.ok, str(finding)


def test_the_bottleneck_lets_its_rate_through() -> None:
    finding = check_rate(LinkPath.symmetric(Direction(rate_kbps=4_000.0)), seconds=1.0)
    assert finding.ok, str(finding)


def test_a_lossless_link_delivers_every_packet() -> None:
    with Network([LinkPath.symmetric(Direction())]) as network:
        sent, received = through(network, packets=2_000, size_bytes=500, per_second=4_000)
    assert received["packets"] == sent["sent"] == 2_000


def test_other_rules_hold_for_the_same_hosts_and_the_counters_begin_at_zero() -> None:
    with Network([LinkPath.symmetric(Direction(loss=1.0))], addresses=2) as network:
        assert round_trip(network, count=5)["rtt_ms_median"] is None
        network.begin([LinkPath.symmetric(Direction())], seed=2)
        sent, got = through(network, packets=500, size_bytes=100, per_second=2_000)
        counters = network.counters()
    assert got["packets"] == sent["sent"] == 500
    assert counters["dropped_loss"] == 0
    assert counters["bytes_down"] == {"10.77.1.1": 500 * 100}
