"""A clock that somebody sets while a world is recorded or followed costs nobody any time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.client import Publisher, Subscriber
from gateway.client.counts import ClockOffset
from gateway.runtime.gateway import Gateway
from gateway.wire import Control, Frame, MessageStream, decode_message
from tests.client.conftest import Served, settings_in, until
from tests.patience import HANG_S
from tests.recordings.filming import film

HOUR_US = 3_600_000_000
STEPS = {"ahead": {60: HOUR_US}, "back": {60: -HOUR_US}, "ahead and back": {30: HOUR_US, 90: -HOUR_US}}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
async def test_a_replay_session_is_not_held_up_either_way(tmp_path: Path, steps: dict[int, int]) -> None:
    made = film(tmp_path / "store", epochs=1, ticks=120, loss=0.0, steps=steps)
    gateway = await Gateway.start(settings_in(tmp_path))
    ended = asyncio.Event()
    right: list[bool] = []

    def on_event(control: Control) -> None:
        if control.type == "position" and control.get("ended"):
            ended.set()

    def on_message(frame: Any) -> None:
        right.append(viewer.records() == made.states.get((frame.epoch, frame.tick)))

    try:
        viewer = Subscriber(
            f"https://127.0.0.1:{gateway.port}", "w", ca=tmp_path / "certs" / "ca.pem",
            replay={"tick": 1, "speed": 4}, on_event=on_event, on_message=on_message,
        )  # fmt: skip
        async with viewer:
            await asyncio.wait_for(ended.wait(), HANG_S)
            assert (viewer.tick, all(right)) == (120, True)
            ended.clear()
            viewer.control("play", speed=-4)
            await asyncio.wait_for(ended.wait(), HANG_S)
            assert viewer.records() == made.states[1, 1]
    finally:
        await gateway.drain(1.0)


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_a_replay_from_the_command_line_is_not_held_up(tmp_path: Path, steps: dict[int, int]) -> None:
    film(tmp_path / "store", epochs=1, ticks=120, loss=0.0, steps=steps)
    subprocess.run(
        [sys.executable, "-m", "gateway.cli", "replay", "w", "--store", str(tmp_path / "store"), "--out",
         str(tmp_path / "out"), "--speed", "4"],
        check=True, timeout=HANG_S, capture_output=True,
    )  # fmt: skip
    stream = MessageStream()
    stream.feed((tmp_path / "out").read_bytes())
    frames = [what for what in map(decode_message, stream) if isinstance(what, Frame)]
    assert [frame.tick for frame in frames if not frame.keyframe] == list(range(2, 121))


async def test_a_reader_tells_latencies_and_not_what_the_clocks_differ_by(served: Served) -> None:
    step_us = 0

    def clock_us() -> int:
        return time.time_ns() // 1_000 + step_us

    async with (
        Publisher(served.url, "w", clock_us=clock_us, **served.trusted()) as publisher,
        Subscriber(served.url, "w", on_message=lambda frame: None, **served.trusted()) as reader,
    ):
        for step_us in (0, HOUR_US, 0, -HOUR_US, 0):  # noqa: B007
            for _ in range(20):
                tick = publisher.send({1: b"x"})
                await until(lambda tick=tick: reader.tick >= tick)
        counts = reader.counts
        assert len(counts.latency) >= 95
        assert all(0 <= ms <= 60_000 for ms in counts.latency.samples())
        assert counts.as_json()["clock_offset_ms"] == 0


def test_an_offset_is_taken_off_until_the_clocks_agree_again() -> None:
    clock = ClockOffset()
    assert [clock.corrected_ms(ms) for ms in (5.0, 7.0)] == [5.0, 7.0]
    assert [clock.corrected_ms(ms) for ms in (-3_600_000.0, -3_599_995.0)] == [0.0, 5.0]
    assert clock.ms == -3_600_000
    assert [clock.corrected_ms(ms) for ms in (3.0, 4.0)] == [3.0, 4.0]
    assert [clock.corrected_ms(ms) for ms in (7_200_000.0, 7_200_009.0)] == [0.0, 9.0]
    assert clock.corrected_ms(59_000.0) == 59_000.0
