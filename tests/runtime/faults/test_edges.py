"""Three gateways over one store, and what may happen to them while a world is published at one and read at all: in every
round frames that were told durable are found, and readers whose own gateway lives go on without connecting anew.

``MVGATEWAY_FAULTS=long``: a hundred rounds, and how long each took to converge is written to standard output.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import websockets

from gateway.core.state import WorldState
from gateway.wire import Control, Frame, MessageStream, decode_message
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess, frame, until
from tests.runtime.faults.driver import StoreProcess
from tests.runtime.test_edges import PEERS
from tests.runtime.test_two_gateways import url_of

HZ = 50
LONG = os.environ.get("MVGATEWAY_FAULTS") == "long"
ROUNDS = int(os.environ.get("MVGATEWAY_ROUNDS") or (100 if LONG else 1))


class Reader:
    """By WebSocket, at one gateway, and counts how often it had to connect."""

    def __init__(self, gateway: GatewayProcess, world: str) -> None:
        self.state, self.connects, self.is_open = WorldState(), 0, False
        self.gateway = gateway
        self._url = url_of(gateway, world)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            with suppress(OSError, websockets.WebSocketException):
                async with websockets.connect(self._url, max_size=None, ping_interval=None) as link:
                    await self._read(link)
            self.is_open = False
            await asyncio.sleep(0.05)

    async def _read(self, link: websockets.ClientConnection) -> None:
        async for data in link:
            assert isinstance(data, bytes)
            message = decode_message(data)
            if isinstance(message, Frame):
                self.state.apply(message)
            elif message.type == "welcome":
                self.connects += 1
                self.is_open = True


@dataclass
class Run:
    """One session of the publisher: what it sent in which epoch, and up to where it was told that it is durable."""

    epoch: int
    sent: set[int] = field(default_factory=set)
    durable: int = 0


class Publisher:
    """Publishes at the first gateway of a list that takes it, going on in its epoch, and keeps what it was promised."""

    def __init__(self, world: str) -> None:
        self._world = world
        self.at: list[GatewayProcess] = []
        self.epoch = self.tick = 0
        self.runs: list[Run] = []
        self._resume = ""
        self.home: GatewayProcess | None = None
        """Where it is let in."""

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            for gateway in list(self.at):
                query = f"role=publish&epoch={self.epoch}" + (
                    f"&resume={self._resume}" if self._resume else ""
                )
                with suppress(OSError, websockets.WebSocketException, TimeoutError):
                    async with websockets.connect(
                        url_of(gateway, self._world, query),
                        open_timeout=5,
                        close_timeout=0.1,
                        ping_interval=None,
                    ) as link:
                        await self._publish(link, gateway)
                self.home = None
                await asyncio.sleep(0.05)

    async def _publish(self, link: websockets.ClientConnection, gateway: GatewayProcess) -> None:
        listening = asyncio.ensure_future(self._listen(link, gateway))
        try:
            while not listening.done():
                if self.home is gateway:
                    self.tick += 1
                    self.runs[-1].sent.add(self.tick)
                    await link.send(frame(self.tick, {self.tick % 7: b"%d/%d" % (self.epoch, self.tick)}))
                await asyncio.sleep(1 / HZ)
                if self.at and gateway not in self.at:
                    return
        finally:
            listening.cancel()

    async def _listen(self, link: websockets.ClientConnection, gateway: GatewayProcess) -> None:
        with suppress(websockets.WebSocketException):
            async for data in link:
                assert isinstance(data, bytes)
                message = decode_message(data)
                if not isinstance(message, Control):
                    continue
                if message.type == "welcome":
                    if message["epoch"] != self.epoch:
                        self.tick = 0
                    self.epoch = message["epoch"]
                    self.tick = max(self.tick, message["tick"])
                    self.runs.append(Run(self.epoch))
                    self._resume, self.home = message.get("resume") or self._resume, gateway
                elif message.type == "durable" and message["epoch"] == self.epoch:
                    self.runs[-1].durable = max(self.runs[-1].durable, message["tick"])


class Stage(NamedTuple):
    """What a round is played on."""

    store: StoreProcess
    gateways: list[GatewayProcess]
    publisher: Publisher
    readers: list[Reader]
    world: str

    def converged(self, since: tuple[int, int]) -> bool:
        """Whether every reader has seen something newer than that (epoch, tick)."""
        return all(
            (reader.state.order >> 32, reader.state.order & 0xFFFFFFFF) > since for reader in self.readers
        )

    async def settle(self) -> float:
        """Until what is published from now on is seen by all: seconds."""
        began, publisher = time.monotonic(), self.publisher
        await until(lambda: publisher.home is not None, HANG_S)
        since = (publisher.epoch, publisher.tick)
        await until(lambda: self.converged(since), HANG_S)
        return time.monotonic() - began


class Pool:
    """A store, and three gateways over it that live: killed ones are replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.store = StoreProcess(folder / "remote")
        self.gateways: list[GatewayProcess] = []
        self._started = 0

    def _start(self) -> GatewayProcess:
        self._started += 1
        log = self._folder / f"{self._started}.log"
        return GatewayProcess(self._folder, *self.store.flags, *PEERS, "--retention", "record", log=log)

    async def three(self, rng: random.Random) -> list[GatewayProcess]:
        """In random order."""
        living = [gateway for gateway in self.gateways if gateway.process.poll() is None]
        fresh = [self._start() for _ in range(3 - len(living))]
        self.gateways = living + fresh
        for gateway in fresh:
            await asyncio.to_thread(gateway.wait_ready)
        return rng.sample(self.gateways, 3)

    def end(self) -> None:
        for gateway in self.gateways:
            if gateway.process.poll() is None:
                gateway.kill()
        self.store.kill()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    made = Pool(tmp_path_factory.mktemp("edges"))
    yield made
    made.end()


@asynccontextmanager
async def staged(pool: Pool, world: str, rng: random.Random) -> AsyncIterator[Stage]:
    gateways = await pool.three(rng)
    publisher = Publisher(world)
    publisher.at = gateways[:1]
    tasks = [asyncio.create_task(publisher.run())]
    try:
        await until(lambda: publisher.home is not None, HANG_S)
        readers = [Reader(gateway, world) for gateway in gateways]
        tasks += [asyncio.create_task(reader.run()) for reader in readers]
        stage = Stage(pool.store, gateways, publisher, readers, world)
        await stage.settle()
        yield stage
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for process in (pool.store.process, *(gateway.process for gateway in gateways)):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)


async def recorded(gateway: GatewayProcess, world: str, epoch: int) -> set[int]:
    """Ticks of that epoch in the store; those told as gaps are none."""
    async with httpx.AsyncClient(base_url=gateway.base_url, timeout=HANG_S) as client:
        answer = await client.get(f"/v1/worlds/{world}/frames", params={"epoch": epoch})
    assert answer.status_code == 200, answer.text
    stream = MessageStream()
    stream.feed(answer.content)
    return {message.tick for message in map(decode_message, stream) if isinstance(message, Frame)}


async def judge(stage: Stage, living: GatewayProcess) -> None:
    """Every frame that was told durable is found."""
    promised = [
        (run.epoch, {tick for tick in run.sent if tick <= run.durable}) for run in stage.publisher.runs
    ]
    assert any(ticks for _, ticks in promised)
    found = {epoch: await recorded(living, stage.world, epoch) for epoch in {epoch for epoch, _ in promised}}
    for epoch, ticks in promised:
        assert ticks <= found[epoch], f"told durable, and lost: {sorted(ticks - found[epoch])[:20]}"


async def home_killed(stage: Stage, rng: random.Random) -> float:
    """The publisher's gateway is killed; it goes to the next one at once."""
    dead, *rest = stage.gateways
    stage.publisher.at = rest
    stage.publisher.home = None
    await asyncio.to_thread(dead.kill)
    others = stage._replace(readers=stage.readers[1:])
    seconds = await others.settle()
    assert [reader.connects for reader in others.readers] == [1, 1]
    return seconds


async def edge_killed(stage: Stage, rng: random.Random) -> float:
    """A gateway that only has readers is killed: the others notice nothing."""
    await asyncio.to_thread(stage.gateways[1].kill)
    others = stage._replace(readers=[stage.readers[0], stage.readers[2]])
    seconds = await others.settle()
    assert [reader.connects for reader in others.readers] == [1, 1]
    return seconds


async def home_stopped(stage: Stage, rng: random.Random) -> float:
    """The home stands still; its publisher goes elsewhere; it wakes as a ghost."""
    ghost, *rest = stage.gateways
    ghost.process.send_signal(signal.SIGSTOP)
    stage.publisher.at = rest
    stage.publisher.home = None
    others = stage._replace(readers=stage.readers[1:])
    await others.settle()
    await asyncio.sleep(rng.uniform(0.0, 2.0))
    ghost.process.send_signal(signal.SIGCONT)
    seconds = await stage.settle()
    assert [reader.connects for reader in stage.readers] == [1, 1, 1]
    return seconds


async def home_paused(stage: Stage, rng: random.Random) -> float:
    """The home stands still for a while, nobody takes the world, and it goes on."""
    stage.gateways[0].process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(rng.uniform(1.0, 4.0))
    stage.gateways[0].process.send_signal(signal.SIGCONT)
    seconds = await stage.settle()
    assert [reader.connects for reader in stage.readers] == [1, 1, 1]
    return seconds


async def store_away(stage: Stage, rng: random.Random) -> float:
    """The store stands still: nobody's game stops."""
    stage.store.process.send_signal(signal.SIGSTOP)
    try:
        before = await stage.settle()
        assert before < HANG_S
        await asyncio.sleep(rng.uniform(1.0, 3.0))
        await stage.settle()
    finally:
        stage.store.process.send_signal(signal.SIGCONT)
    seconds = await stage.settle()
    assert [reader.connects for reader in stage.readers] == [1, 1, 1]
    return seconds


FAULTS = {
    fault.__name__: fault for fault in (home_killed, edge_killed, home_stopped, home_paused, store_away)
}


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("fault", list(FAULTS))
async def test_readers_go_on_and_nothing_that_was_told_durable_is_lost(fault: str, pool: Pool) -> None:
    took = []
    for at in range(ROUNDS):
        rng = random.Random(f"{fault} {at}")
        async with staged(pool, f"{fault.replace('_', '-')}-{at}", rng) as stage:
            await asyncio.sleep(rng.uniform(0.0, 0.5))
            took.append(await FAULTS[fault](stage, rng))
            await judge(stage, stage.gateways[2])
    took.sort()
    print(
        f"\n{fault}: {len(took)} rounds, s until all converged: p50 {took[len(took) // 2]:.2f}, most {took[-1]:.2f}"
    )
