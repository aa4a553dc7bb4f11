"""Who asks mvstore to let go of old versions, and how often: gateways over the stand-in, which counts it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway import limits
from gateway.runtime.entities import registry
from gateway.runtime.gateway import Gateway
from gateway.runtime.host import WorldHost
from gateway.store.world import maintenance
from gateway.wire import Frame, Record, encode_frame
from tests.runtime.conftest import FRAMES, body, client_of, settings_in
from tests.store.standin import Served, serving
from tests.store.standin.names import Clock

STARTED_BEFORE_S = 60.0


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A store that has kept points of time for a while: one from before a second is needed to name a version by it."""
    async with serving(tmp_path / "mvstore", clock=Clock(lambda: time.time() - STARTED_BEFORE_S)) as served:
        yield served


@pytest.fixture
async def start(served: Served, tmp_path: Path) -> AsyncIterator[Callable[[str], Awaitable[Gateway]]]:
    running: list[Gateway] = []

    async def start(name: str) -> Gateway:
        urls = {"store": served.url, "store_admin": served.admin_url}
        running.append(await Gateway.start(settings_in(tmp_path / name, **urls)))
        return running[-1]

    yield start
    for gateway in running:
        await gateway.drain(0.5)


@pytest.fixture
def due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written is old, little is enough, and nothing is done but what the test does."""
    monkeypatch.setattr(limits, "MAINTAIN_S", 1e9)
    for name in ("VERSIONS_KEPT_S", "VERSIONS_KEPT_RECORD_S", "UPKEEP_WAIT_S_MAX", "UPKEEP_PAGES_MIN"):
        monkeypatch.setattr(maintenance, name, 0)


async def publish(gateway: Gateway, ticks: range) -> WorldHost:
    frames = body(*(encode_frame(Frame(0, tick, [Record(1, b"%d" % tick)])) for tick in ticks))
    async with client_of(gateway) as http:
        answer = await http.post(
            "/v1/worlds/w/frames?durable=1", content=frames, headers={"content-type": FRAMES}
        )
        answer.raise_for_status()
    return await gateway.worlds.host("w")


async def test_the_home_alone_asks_and_only_for_what_was_written(
    served: Served, start: Callable[[str], Awaitable[Gateway]], due_at_once: None
) -> None:
    counts = served.standin.counts
    home, other = await start("a"), await start("b")
    host = await publish(home, range(1, 20))
    await served.standin.advance(6.0)
    await host.tidy()
    assert counts.truncations == 1
    elsewhere = await other.worlds.host("w")
    async with client_of(other) as http:
        for n in range(3):
            (await http.put("/v1/worlds/w/entities/e", content=b"%d" % n)).raise_for_status()
        (await http.get("/v1/worlds/w")).raise_for_status()
    await elsewhere.tidy()
    assert counts.truncations == 1
    await publish(home, range(20, 40))
    await served.standin.advance(6.0)
    await host.tidy()
    assert counts.truncations == 2


async def test_a_world_that_is_not_written_to_is_not_asked_about(
    served: Served, start: Callable[[str], Awaitable[Gateway]], due_at_once: None
) -> None:
    host = await publish(await start("a"), range(1, 20))
    await served.standin.advance(6.0)
    await host.tidy()
    counts = served.standin.counts
    before = (counts.truncations, counts.collections)
    for _ in range(20):
        await served.standin.advance(6.0)
        await host.database.world.maintain(int(served.standin.clock()))
    assert (counts.truncations, counts.collections) <= (before[0] + 1, before[1] + 1)


async def write_items(gateway: Gateway, values: range, owner: str = "ann") -> None:
    async with client_of(gateway) as http:
        for n in values:
            path = f"/v1/inventories/{owner}/items/sword"
            (await http.put(path, json={"state": {"n": n}})).raise_for_status()


async def test_old_versions_of_an_inventory_go_also_once_it_is_closed(
    served: Served,
    start: Callable[[str], Awaitable[Gateway]],
    due_at_once: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "ENTITY_DATABASES_MAX", 1)
    gateway, counts = await start("a"), served.standin.counts
    for owner in ("ann", "ben", "cid"):
        await write_items(gateway, range(5), owner)
    await served.standin.advance(6.0)
    upkeep = gateway.entities.registry.upkeep
    await upkeep.tidy()
    assert counts.truncations == 3
    await upkeep.tidy()
    assert counts.truncations == 3
    await write_items(gateway, range(5, 6))
    async with client_of(gateway) as http:
        assert (await http.get("/v1/inventories/ann/items/sword")).json()["state"] == {"n": 5}
