"""When an epoch ends, and that it says so: ``epochs.ended_at``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.client import Publisher
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess, StartProcess

Ends = list[tuple[int, int | None]]


class Epochs:
    """The table, read from the folder beside the gateway that writes it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys = capsys
        self._folder = str(folder)

    def read(self) -> Ends:
        query = "SELECT epoch, ended_at FROM epochs ORDER BY epoch"
        assert main(["sql", "w", query, "--json", "--store", self._folder]) == 0
        rows = json.loads(self._capsys.readouterr().out)
        return [(row["epoch"], row["ended_at"]) for row in rows]

    async def until(self, condition: Callable[[Ends], bool]) -> Ends:
        async with asyncio.timeout(HANG_S):
            while not condition(found := await asyncio.to_thread(self.read)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return found


@pytest.fixture
def epochs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Epochs:
    return Epochs(capsys, tmp_path / "store")


def publisher_of(child: GatewayProcess, **more: Any) -> Publisher:
    return Publisher(child.base_url, "w", transport="websocket", **more)


async def publish_some(child: GatewayProcess, **more: Any) -> int:
    """A publisher that comes, publishes and leaves; its epoch."""
    async with publisher_of(child, **more) as publisher:
        tick = publisher.send({1: b"x"})
        await asyncio.wait_for(publisher.wait_durable(tick), HANG_S)
        return publisher.epoch


def now_us() -> int:
    return time.time_ns() // 1_000


async def test_an_epoch_ends_when_its_publisher_left(start_process: StartProcess, epochs: Epochs) -> None:
    child = start_process("--linger-ms", "100").wait_ready()
    before_us = now_us()
    async with publisher_of(child) as publisher:
        await asyncio.wait_for(publisher.wait_durable(publisher.send({1: b"x"})), HANG_S)
        assert await asyncio.to_thread(epochs.read) == [(1, None)]
    after_us = now_us()
    ((_, ended_us),) = await epochs.until(lambda ends: ends[0][1] is not None)
    assert ended_us is not None
    assert before_us < ended_us < after_us + 5_000_000


async def test_an_epoch_that_is_taken_up_again_has_not_ended(
    start_process: StartProcess, epochs: Epochs
) -> None:
    child = start_process("--linger-ms", "100").wait_ready()
    epoch = await publish_some(child)
    await epochs.until(lambda ends: ends[0][1] is not None)
    async with publisher_of(child, epoch=epoch) as publisher:
        assert publisher.epoch == epoch
        assert await asyncio.to_thread(epochs.read) == [(1, None)]
    await epochs.until(lambda ends: ends[0][1] is not None)
    assert await publish_some(child) == 2
    first, _ = await epochs.until(lambda ends: len(ends) == 2 and ends[1][1] is not None)
    assert first[1] is not None


async def test_a_gateway_that_is_stopped_ends_the_epoch_and_one_that_is_killed_does_not(
    start_process: StartProcess, epochs: Epochs
) -> None:
    child = start_process().wait_ready()
    async with publisher_of(child) as publisher:
        await asyncio.wait_for(publisher.wait_durable(publisher.send({1: b"x"})), HANG_S)
        await asyncio.to_thread(child.terminate)
    ((_, ended_us),) = await asyncio.to_thread(epochs.read)
    assert ended_us is not None
    child = start_process().wait_ready()
    async with publisher_of(child) as publisher:
        await asyncio.wait_for(publisher.wait_durable(publisher.send({1: b"x"})), HANG_S)
        child.kill()
    assert await asyncio.to_thread(epochs.read) == [(1, ended_us), (2, None)]
    child = start_process().wait_ready()
    assert await publish_some(child) == 3
    assert (await asyncio.to_thread(epochs.read))[1][1] is not None
