"""A delayed view over a store that is elsewhere: it hangs, dies and comes back, and others write to it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.client import Publisher, ReceivedFrame, Subscriber
from tests.client.conftest import until
from tests.patience import HANG_S
from tests.ports import free_port
from tests.runtime.conftest import StartProcess
from tests.runtime.faults.driver import StoreProcess

DELAY_S = 1.0


class Seen:
    """A delayed reader, and what it saw too soon."""

    def __init__(self, url: str, sent_at: dict[tuple[int, int], float], ca: Path) -> None:
        self.sent_at = sent_at
        self.early: list[int] = []
        self.count = 0
        self.reader = Subscriber(
            url, "w", delay_s=DELAY_S, ca=ca, on_message=self._got, connect_timeout_s=HANG_S
        )

    def _got(self, frame: ReceivedFrame) -> None:
        self.count += 1
        sent_at = self.sent_at.get((frame.epoch, frame.tick))
        if sent_at is not None and time.monotonic() - sent_at < DELAY_S:
            self.early.append(frame.tick)


async def play(publisher: Publisher, sent_at: dict[tuple[int, int], float], ticks: int) -> None:
    for number in range(ticks):
        at = time.monotonic()
        sent_at[publisher.epoch, publisher.send({number % 9: b"%d" % number, 50: b"n%d" % number})] = at
        await asyncio.sleep(1 / 60)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreProcess]:
    made = StoreProcess(tmp_path / "remote")
    try:
        yield made
    finally:
        made.kill()


@pytest.mark.parametrize("how", ["hangs", "dies"])
async def test_a_store_that_is_away_holds_the_view_up_and_nothing_is_missing_afterwards(
    store: StoreProcess, start_process: StartProcess, tmp_path: Path, how: str
) -> None:
    gateway = start_process(*store.flags).wait_ready()
    url, ca = f"https://127.0.0.1:{gateway.port('https')}", tmp_path / "certs" / "ca.pem"
    sent_at: dict[tuple[int, int], float] = {}
    async with Publisher(url, "w", ca=ca) as publisher:
        seen = Seen(url, sent_at, ca)
        await play(publisher, sent_at, 60)
        async with seen.reader:
            await until(lambda: seen.reader.records() == publisher.records(), HANG_S)
            if how == "hangs":
                store.process.send_signal(signal.SIGSTOP)
            else:
                store.kill()
            await play(publisher, sent_at, 120)
            before = seen.count
            if how == "hangs":
                store.process.send_signal(signal.SIGCONT)
            else:
                store.process = store._start()
            await play(publisher, sent_at, 30)
            await until(lambda: seen.reader.records() == publisher.records(), HANG_S)
            assert seen.count > before
    assert seen.early == []


async def test_any_gateway_over_the_store_shows_the_past_of_a_world_that_another_records(
    store: StoreProcess, start_process: StartProcess, tmp_path: Path
) -> None:
    home, other = (start_process(*store.flags).wait_ready() for _ in range(2))
    ca = tmp_path / "certs" / "ca.pem"
    sent_at: dict[tuple[int, int], float] = {}
    async with Publisher(f"https://127.0.0.1:{home.port('https')}", "w", ca=ca) as publisher:
        await play(publisher, sent_at, 10)
        url = f"https://127.0.0.1:{other.port('https')}"
        seen = Seen(url, sent_at, ca)
        async with seen.reader:
            await play(publisher, sent_at, 90)
            await until(lambda: seen.reader.records() == publisher.records(), HANG_S)
            assert seen.reader.address.base_url == url
    assert seen.early == []


async def test_a_gateway_that_dies_comes_back_with_the_past(
    start_process: StartProcess, tmp_path: Path
) -> None:
    port = str(free_port())
    gateway = start_process("--port", port).wait_ready()
    url, ca = f"https://127.0.0.1:{port}", tmp_path / "certs" / "ca.pem"
    sent_at: dict[tuple[int, int], float] = {}
    async with Publisher(url, "w", ca=ca) as publisher:
        seen = Seen(url, sent_at, ca)
        async with seen.reader:
            await play(publisher, sent_at, 90)
            gateway.kill()
            start_process("--port", port).wait_ready()
            await until(lambda: publisher.connects > 1, HANG_S)
            await play(publisher, sent_at, 90)
            await until(lambda: seen.reader.records() == publisher.records(), HANG_S)
    assert seen.early == []
