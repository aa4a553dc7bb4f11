"""The gateway dies by SIGKILL while entities go to sleep and wake: each is at one place, byte for byte.

Short here; long with ``MVGATEWAY_FAULTS=long`` (``make faults``).
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.entity_servers import GatewayChild, StoreChild
from gateway.wire import Frame, Record, encode_frame, prefix
from tests.patience import HANG_S

LONG = os.environ.get("MVGATEWAY_FAULTS") == "long"
CRASHES = 100 if LONG else 3
ENTITIES = 12
MOVING = 1_000
WORLD = "/v1/worlds/w"


class Herd:
    """Entities whose contents never change, each asleep (a row) or awake (a live record).

    ``place`` is what the last answer said; None while a request is under way whose answer never came.
    """

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        self.contents = {
            key: b"%d:" % key + dice.randbytes(dice.randrange(1, 600)) for key in range(ENTITIES)
        }
        self.place: dict[int, str | None] = dict.fromkeys(self.contents, "awake")
        self.answers = 0

    async def publish(self, client: httpx.AsyncClient) -> None:
        """All awake, and in the store."""
        records = [Record(key, data) for key, data in self.contents.items()]
        answer = await client.post(
            f"{WORLD}/frames", params={"durable": 1}, content=prefix(encode_frame(Frame(0, 1, records)))
        )
        answer.raise_for_status()

    async def toss(self, client: httpx.AsyncClient, key: int) -> None:
        """To sleep and awake again, until the gateway is gone."""
        with suppress(httpx.TransportError):
            while True:
                before = self.place[key]
                verb = "hibernate" if before == "awake" else "wake"
                self.place[key] = None
                answer = await client.post(f"{WORLD}/entities/e:{key}:{verb}", json={"key": key})
                assert answer.is_success, answer.text
                self.place[key] = "asleep" if before == "awake" else "awake"
                self.answers += 1

    async def judge(self, client: httpx.AsyncClient) -> None:
        """Each entity stands in one place, where its last answer said if there was one; contents are whole."""
        last = await client.get(f"{WORLD}/frames/last", headers={"accept": "application/json"})
        rows = await client.get(f"{WORLD}/entities", params={"limit": 1_000})
        last.raise_for_status()
        awake = {int(key): base64.b64decode(data) for key, data in last.json()["records"].items()}
        awake.pop(MOVING, None)
        asleep: dict[int, bytes] = {}
        for row in rows.raise_for_status().json()["entities"]:
            assert row["id"] == f"e:{row['key']}"
            asleep[row["key"]] = (await client.get(f"{WORLD}/entities/{row['id']}")).content
        assert awake.keys() & asleep.keys() == set(), "doubled"
        assert awake | asleep == self.contents
        found: dict[int, str | None] = {**dict.fromkeys(awake, "awake"), **dict.fromkeys(asleep, "asleep")}
        assert {k: found[k] for k, v in self.place.items() if v} == {k: v for k, v in self.place.items() if v}
        self.place = found


async def play_on(client: httpx.AsyncClient) -> None:
    """A publisher that goes on meanwhile: its frames share commits with what falls asleep."""
    with suppress(httpx.TransportError):
        for tick in range(2, 1 << 20):
            frame = Frame(0, tick, [Record(MOVING, b"%d" % tick)])
            await client.post(f"{WORLD}/frames", content=prefix(encode_frame(frame)))
            await asyncio.sleep(0.002)


async def crash_again_and_again(gateway: GatewayChild, dice: random.Random, herd: Herd, crashes: int) -> None:
    await gateway.start()
    async with httpx.AsyncClient(base_url=gateway.plain, timeout=HANG_S) as client:
        await herd.publish(client)
    for _ in range(crashes):
        pool = httpx.Limits(max_connections=ENTITIES + 4)
        async with httpx.AsyncClient(base_url=gateway.plain, timeout=HANG_S, limits=pool) as client:
            tasks = [asyncio.ensure_future(herd.toss(client, key)) for key in herd.contents]
            playing = asyncio.ensure_future(play_on(client))
            wanted = herd.answers + dice.randrange(1, 4 * ENTITIES)
            async with asyncio.timeout(HANG_S):
                while herd.answers < wanted and not any(task.done() for task in tasks):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            await asyncio.sleep(dice.uniform(0, 0.02))
            await gateway.kill()
            await asyncio.gather(*tasks, playing)
        await gateway.start()
        async with httpx.AsyncClient(base_url=gateway.plain, timeout=HANG_S) as client:
            await herd.judge(client)


@pytest.fixture
def dice() -> random.Random:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture(params=["embedded", "remote"])
async def gateway(request: Any, tmp_path: Path) -> AsyncIterator[GatewayChild]:
    """A gateway with a folder of its own, or over a store that outlives it."""
    store = None
    if request.param == "remote":
        store = await StoreChild(tmp_path).start()
    child = GatewayChild(tmp_path, str(tmp_path / "store") if store is None else store.url)
    yield child
    await child.kill()
    if store is not None:
        await store.kill()


@pytest.mark.timeout(3_600 if LONG else 300)
async def test_no_entity_is_lost_or_doubled_while_the_gateway_dies_under_hibernation_and_waking(
    gateway: GatewayChild, dice: random.Random
) -> None:
    herd = Herd(dice.randrange(1 << 32))
    await crash_again_and_again(gateway, dice, herd, CRASHES)
    assert herd.answers >= CRASHES
