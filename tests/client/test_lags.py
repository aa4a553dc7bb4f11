"""The durable lag that a publisher reports is that of every frame, of those not yet stored as well."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway import limits
from gateway.client import Publisher
from gateway.client.counts import EverySample
from gateway.client.lags import FrameLags
from gateway.store.embedded import Engine
from tests.client.conftest import Served
from tests.held import longest
from tests.patience import HANG_S


def lags() -> FrameLags:
    return FrameLags(EverySample(), EverySample())


def test_a_notice_counts_every_frame_up_to_its_tick() -> None:
    seen = lags()
    for tick in range(1, 101):
        seen.sent(tick, tick / 100)
    seen.stored(100, {}, 1.0)
    assert len(seen.ms) == 100
    assert (seen.ms.percentile(50), seen.ms.percentile(100)) == (490, 990)
    assert seen.ticks.percentile(100) == 99


def test_the_commits_of_a_notice_count_each_from_its_own_time() -> None:
    seen = lags()
    for tick in range(1, 11):
        seen.sent(tick, tick / 100)
    seen.stored(10, {"commits": [[tick, 10 * (10 - tick)] for tick in range(1, 11)]}, 0.105)
    assert (seen.ms.percentile(0), seen.ms.percentile(100)) == (5, 5)
    assert seen.ticks.percentile(100) == 0


def test_an_outage_of_some_seconds_is_in_the_percentiles_whether_it_is_over_or_not() -> None:
    seen = lags()
    for tick in range(1, 3_601):
        seen.sent(tick, tick / 60)
        if not 1_000 < tick <= 2_500:
            seen.stored(tick, {}, tick / 60 + 0.01)
    assert seen.ms.summary()["p99"] == pytest.approx(24_500, rel=0.05)
    for tick in range(3_601, 3_901):
        seen.sent(tick, tick / 60)
    ms, ticks = seen.so_far(3_901 / 60 + 100)
    assert ms.percentile(100) == pytest.approx(105_000, rel=0.01)
    assert (len(ms), len(ticks), len(seen.ms), len(seen)) == (3_900, 3_900, 3_600, 300)
    assert seen.settle(3_901 / 60 + 100) == 300
    assert len(seen.ms) == 3_900


def test_what_is_remembered_is_bounded_and_what_is_forgotten_counts() -> None:
    seen = lags()
    for tick in range(limits.CLIENT_LAG_TICKS_MAX + 10):
        seen.sent(tick, float(tick))
    assert len(seen) == limits.CLIENT_LAG_TICKS_MAX
    assert len(seen.ms) == 10


@pytest.mark.parametrize(
    "commits", [None, 7, "x", [[1]], [["a", 1]], [[1, -5]], [[True, 1]], [1, 2], {"a": 1}]
)
def test_commits_that_make_no_sense_are_nothing(commits: Any) -> None:
    seen = lags()
    seen.sent(1, 0.0)
    seen.stored(1, {"commits": commits, "dropped": commits}, 0.5)
    assert seen.ms.percentile(50) == 500
    assert seen.dropped == 0


def test_dropped_spans_are_counted_once_though_every_notice_names_them() -> None:
    seen = lags()
    for dropped in ([[5, 9]], [[5, 9]], [[5, 9], [20, 20]], [[5, 20]]):
        seen.stored(30, {"dropped": dropped}, 1.0)
    assert seen.dropped == 16
    seen.settle(1.0)
    seen.stored(3, {"dropped": [[1, 2]]}, 2.0)
    assert seen.dropped == 18


def test_every_sample_keeps_its_percentiles_however_many_there_are() -> None:
    samples = EverySample()
    for value in range(100_000):
        samples.add(value / 7)
    assert samples.percentile(50) == pytest.approx(50_000 / 7, rel=0.01)
    assert samples.percentile(99) == pytest.approx(99_000 / 7, rel=0.01)
    assert longest(samples) < 5_000
    assert EverySample().summary() == {"p50": None, "p99": None}


async def test_a_store_that_takes_nothing_for_a_while_shows_in_what_the_publisher_tells(
    served: Served, until: Callable[..., Any]
) -> None:
    engine = served.gateway.store.blocking()
    assert isinstance(engine, Engine)
    gate = threading.Event()
    gate.set()
    run_each = engine.writer.run_each
    engine.writer.run_each = lambda jobs: (gate.wait(HANG_S), run_each(jobs))  # type: ignore[method-assign,assignment,return-value]
    async with Publisher(served.url, "w", **served.trusted()) as publisher:
        publisher.send({1: b"first"})
        await publisher.wait_durable()
        gate.clear()
        for _ in range(50):
            publisher.send({1: b"held"})
        world = served.gateway.worlds.hosts["w"].world
        await until(lambda: world.state.tick == 51)
        before = publisher.facts()
        assert before["not_durable"] == 50
        gate.set()
        await publisher.wait_durable()
        after = publisher.facts()
        assert (after["not_durable"], len(publisher.counts.durable_lag)) == (0, 51)
        assert after["durable_lag_ms"]["p50"] >= before["durable_lag_ms"]["p50"] > 0
