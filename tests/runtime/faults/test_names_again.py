"""A world deleted and made again in a loop, with readers and ``kill -9`` at any moment: what was told durable
of each life is there until that life is deleted, and what was deleted never comes back. Short here; ``make
faults`` runs it long (MVGATEWAY_FAULTS=long).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess, StartProcess, until
from tests.runtime.faults.driver import WORLD, Publisher, Reader, Recovered
from tests.store.standin import Process

LONG = os.environ.get("MVGATEWAY_FAULTS") == "long"
LIVES = 60 if LONG else 4
HZ = 240.0


@pytest.fixture
def dice() -> random.Random:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def mvstore(tmp_path: Path) -> Iterator[Process]:
    with Process(tmp_path / "mvstore", "--planes", "2", "--commit-ms", "1:4") as running:
        yield running


class Fleet:
    """Gateways over one store: one publishes, any may delete, each may be killed and started again."""

    def __init__(self, start: StartProcess, flags: list[tuple[str, ...]], dice: random.Random) -> None:
        self._start = start
        self._flags = flags
        self._dice = dice
        self.gateways: list[GatewayProcess] = [start(*each).wait_ready() for each in flags]

    async def restart(self, at: int) -> None:
        await asyncio.to_thread(self.gateways[at].kill)
        child = await asyncio.to_thread(self._start, *self._flags[at])
        self.gateways[at] = await asyncio.to_thread(child.wait_ready)

    @property
    def anybody(self) -> int:
        return self._dice.randrange(len(self.gateways))

    def client(self, at: int) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.gateways[at].base_url, timeout=HANG_S)

    async def status(self, at: int) -> int:
        async with self.client(at) as http:
            return (await http.get(f"/v1/worlds/{WORLD}")).status_code

    async def listed(self, at: int) -> list[str]:
        async with self.client(at) as http:
            answer = await http.get("/v1/worlds")
        assert answer.status_code == 200, answer.text
        return [world["world"] for world in answer.json()["worlds"]]

    async def live(self) -> Publisher:
        """One life: published at the first gateway, read at any, and killed or not on the way."""
        publisher = Publisher(self.gateways[0].port("plain"))
        reader = Reader(self.gateways[self.anybody].port("plain"))
        tasks = [asyncio.ensure_future(publisher.run(1 << 20, HZ)), asyncio.ensure_future(reader.run())]
        await until(lambda: publisher.durable_tick > 0, HANG_S)
        await asyncio.sleep(self._dice.uniform(0, 0.3))
        if self._dice.random() < 0.5:
            await self.restart(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return publisher

    async def judge(self, publisher: Publisher) -> None:
        """Everything that was promised of this life is there, at each gateway, and adds up."""
        for at, gateway in enumerate(self.gateways):
            (await Recovered.ask(gateway.base_url, publisher.epoch)).judge(publisher)
            assert WORLD in await self.listed(at)
        async with self.client(self.anybody) as http:
            assert (await http.get(f"/v1/worlds/{WORLD}/verify")).json()["damaged"] == []

    async def delete(self, publisher: Publisher) -> None:
        """Deleted by anybody, who may be killed while at it: then it was, or it is as it was."""
        at = self.anybody
        if self._dice.random() < 0.5:
            deleting = asyncio.ensure_future(self._delete(at))
            await asyncio.sleep(self._dice.uniform(0, 0.08))
            await self.restart(at)
            with suppress(httpx.HTTPError):
                await deleting
        if await self.status(at) == 200:
            await self.judge(publisher)
            await self._delete(at)
        for each in range(len(self.gateways)):
            await self.gone(each)

    async def _delete(self, at: int) -> None:
        async with self.client(at) as http:
            answer = await http.delete(f"/v1/worlds/{WORLD}")
        assert answer.status_code == 200, answer.text

    async def gone(self, at: int) -> None:
        async def is_gone() -> bool:
            return await self.status(at) == 404

        await until(is_gone, HANG_S)
        assert await self.listed(at) == ["beside"]


async def live_and_die(fleet: Fleet) -> None:
    async with fleet.client(0) as http:
        assert (await http.put("/v1/worlds/beside")).status_code == 201
    for _ in range(LIVES):
        publisher = await fleet.live()
        await fleet.judge(publisher)
        await fleet.delete(publisher)
    publisher = await fleet.live()
    for at in range(len(fleet.gateways)):
        await fleet.restart(at)
    await fleet.judge(publisher)


async def test_a_world_made_again_and_again_on_the_embedded_engine(
    start_process: StartProcess, dice: random.Random
) -> None:
    await live_and_die(Fleet(start_process, [()], dice))


async def test_a_world_made_again_and_again_by_two_gateways_over_an_mvstore(
    start_process: StartProcess, mvstore: Process, dice: random.Random
) -> None:
    admin = ("--store-admin", mvstore.admin_url)
    fleet = Fleet(start_process, [("--store", url, *admin) for url in mvstore.url.split(",")], dice)
    await live_and_die(fleet)
