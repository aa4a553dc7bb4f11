"""The load generators on loopback: nothing is lost where nothing is lossy, and a process serves many jobs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.ages import AgeHistogram
from bench.gateway import Gateway
from bench.payload import records_for
from bench.processes import BenchError, Station, cpu_s_of
from tests.patience import HANG_S

HZ, SECONDS = 10, 2.0
TIMER_FINE_TO_S = 0.001
"""The event loop counts its time in whole milliseconds, so that a wait may end one early."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(Path(tmp_path_factory.mktemp("gateway"))) as made:
        yield made


@pytest.fixture(scope="module")
def stations() -> Iterator[tuple[Station, Station]]:
    with Station() as publisher, Station() as reader:
        yield publisher, reader


WAYS = {
    "lean": {"door": "webtransport", "lean": True},
    "webtransport": {"door": "webtransport"},
    "websocket": {"door": "websocket"},
    "http": {"door": "http"},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_lossless_run_delivers_every_frame(
    gateway: Gateway, stations: tuple[Station, Station], way: str
) -> None:
    publisher, reader = stations
    load = {"records": records_for(1_024), "target": gateway.target(f"w-{way}"), "warmup_s": 0.0}
    publisher.begin("publish", {**load, "door": "websocket", "hz": HZ, "seconds": SECONDS})
    publisher.wait_ready()
    reader.begin("read", {**load, **WAYS[way], "readers": 3, "seconds": 4.0})
    reader.wait_ready()
    reader.go()
    publisher.go()
    published, read = publisher.result(HANG_S), reader.result(HANG_S)
    assert published["frames"] == HZ * SECONDS
    assert read["frames_seen_in_all"] == 3 * published["frames"]
    assert AgeHistogram.load(read["histogram"]).quantile_ms(0.5) is not None


def test_cpu_time_is_told_finer_than_the_ticks_of_the_kernel() -> None:
    before_s, worked_s = cpu_s_of(os.getpid()), time.process_time()
    sum(range(2_000_000))
    assert cpu_s_of(os.getpid()) - before_s >= 0.5 * (time.process_time() - worked_s)
    assert cpu_s_of(2**22 + 1) == 0.0


def test_readers_answer_once_for_each_window(gateway: Gateway, stations: tuple[Station, Station]) -> None:
    _, reader = stations
    load: dict[str, Any] = {"records": 1, "target": gateway.target("w-lean"), "warmup_s": 0.0}
    reader.begin("read", {**load, "door": "webtransport", "readers": 2, "seconds": 0.05, "windows": 3})
    reader.wait_ready()
    for _ in range(3):
        reader.go()
        assert reader.result(HANG_S)["seconds"] >= 0.05 - TIMER_FINE_TO_S


def test_a_job_that_fails_says_why_and_the_next_one_is_served(
    gateway: Gateway, stations: tuple[Station, Station]
) -> None:
    _, reader = stations
    load = {"records": 1, "warmup_s": 0.0, "seconds": 0.05, "readers": 1, "door": "websocket"}
    reader.begin("read", {**load, "target": gateway.target("there is no such world")})
    with pytest.raises(BenchError, match="did not start"):
        reader.wait_ready()
    reader.begin("read", {**load, "target": gateway.target("w-lean")})
    reader.wait_ready()
    reader.go()
    assert (
        reader.result(HANG_S)["frames_seen"] <= 1
    )  # the keyframe of a world that stands still, if it came after "go"
