"""A gateway before mvstore as it really is: whole processes, real kills, names that are remembered, sunken heads."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gateway.client import Publisher, fetch_last
from gateway.config import Settings
from gateway.runtime.gateway import Gateway
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess
from tests.store.protocol.backends import commit, framed, opened, page, part
from tests.store.standin import Process
from tests.store.standin.fixtures import STANDIN

OVER = (STANDIN,)


@pytest.fixture
def mvstore(tmp_path: Path) -> Iterator[Process]:
    with Process(tmp_path / "mvstore", "--commit-ms", "1:6", "--seed", "7") as store:
        yield store


StartGateway = Callable[[], GatewayProcess]


@pytest.fixture
def gateway_before(mvstore: Process, tmp_path: Path) -> Iterator[StartGateway]:
    """Starts gateways before the store, and ends those that are left."""
    running: list[GatewayProcess] = []

    def start() -> GatewayProcess:
        flags = ("--store", mvstore.url, "--store-admin", mvstore.admin_url)
        running.append(GatewayProcess(tmp_path, *flags))
        return running[-1].wait_ready()

    yield start
    for each in running:
        if each.process.poll() is None:
            each.kill()


async def cli(*words: str) -> tuple[int, str, str]:
    """A verb of ``mvgateway`` in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def namespaces(api: httpx.AsyncClient) -> list[str]:
    lines = (await api.get("/api/list_namespace")).text.splitlines()
    return [json.loads(line)["nskey"] for line in lines]


async def sink_every_head(store: Process) -> int:
    """Marks above all heads, as an earlier release asked for them where nothing was written for a while."""
    async with (
        httpx.AsyncClient(base_url=store.admin_url) as api,
        httpx.AsyncClient(base_url=store.url) as data,
    ):
        now = (await data.get("/time2version", params={"t": 0})).json()["after"]["version"]
        keys = await namespaces(api)
        for key in keys:
            told = {"key": key, "before_version": now, "apply": True}
            assert (await api.post("/api/truncate_namespace", json=told)).text.endswith("DONE\n")
    await asyncio.to_thread(store.advance, 5.0)
    return len(keys)


ENTITY = {"state": {"hp": 7}}


async def test_worlds_and_inventories_whose_heads_an_earlier_release_sank_go_on(
    mvstore: Process, gateway_before: StartGateway, tmp_path: Path
) -> None:
    first = gateway_before()
    ca = str(tmp_path / "certs" / "ca.pem")
    url = f"https://127.0.0.1:{first.port('https')}"
    async with Publisher(url, "w", ca=ca) as publisher:
        publisher.send({1: b"before"})
        await publisher.wait_durable()
    async with httpx.AsyncClient(base_url=first.base_url, timeout=HANG_S) as http:
        for owner in ("/v1/worlds/w/entities", "/v1/inventories/p/items"):
            (await http.put(f"{owner}/e", json=ENTITY)).raise_for_status()
    await asyncio.to_thread(first.kill)
    assert await sink_every_head(mvstore) >= 2
    again = gateway_before()
    try:
        url = f"https://127.0.0.1:{again.port('https')}"
        assert (await fetch_last(url, "w", ca=ca)).records == {1: b"before"}
        async with httpx.AsyncClient(base_url=again.base_url, timeout=HANG_S) as http:
            for owner in ("/v1/worlds/w/entities", "/v1/inventories/p/items"):
                assert (await http.get(f"{owner}/e")).json()["state"] == ENTITY["state"]
                (await http.put(f"{owner}/f", json=ENTITY)).raise_for_status()
        async with Publisher(url, "w", ca=ca) as publisher:
            publisher.send({2: b"after"})
            await publisher.wait_durable()
        assert (await fetch_last(url, "w", ca=ca)).records[2] == b"after"
    finally:
        _, log = await asyncio.to_thread(again.terminate)
    assert "lay below its truncation mark" in log


@pytest.mark.parametrize(
    "verb", [("recover", "w"), ("branch", "w", "copy"), ("verify", "w")], ids=lambda verb: verb[0]
)
async def test_the_command_line_opens_a_world_whose_head_was_sunk(
    mvstore: Process, gateway_before: StartGateway, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    gateway = gateway_before()
    ca = str(tmp_path / "certs" / "ca.pem")
    async with Publisher(f"https://127.0.0.1:{gateway.port('https')}", "w", ca=ca) as publisher:
        publisher.send({1: b"before"})
        await publisher.wait_durable()
    await asyncio.to_thread(gateway.kill)
    await sink_every_head(mvstore)
    stores = ("--store", mvstore.url, "--store-admin", mvstore.admin_url)
    code, out, errors = await cli(*verb, *stores, "--json")
    assert code == 0, out + errors


async def test_what_was_announced_as_durable_outlives_the_store_s_death_at_random_latency(
    mvstore: Process, gateway_before: StartGateway, tmp_path: Path
) -> None:
    gateway = gateway_before()
    ca = str(tmp_path / "certs" / "ca.pem")
    url = f"https://127.0.0.1:{gateway.port('https')}"
    sent: dict[int, dict[int, bytes]] = {}
    try:
        async with Publisher(url, "w", ca=ca) as publisher:
            for round_ in range(3):
                mark = publisher.tick + 15
                while publisher.durable_order()[1] < mark:
                    publisher.send({round_: b"%d" % (publisher.tick + 1), 99: b"x"})
                    sent[publisher.tick] = publisher.records()
                    await asyncio.sleep(0.005)
                await asyncio.to_thread(mvstore.kill)
                for _ in range(20):
                    publisher.send({round_: b"%d" % (publisher.tick + 1)})
                    sent[publisher.tick] = publisher.records()
                    await asyncio.sleep(0.005)
                await asyncio.to_thread(mvstore.start)
            await publisher.wait_durable()
            durable = publisher.durable_order()[1]
        await asyncio.to_thread(gateway.kill)
        gateway = gateway_before()
        found = await fetch_last(f"https://127.0.0.1:{gateway.port('https')}", "w", ca=ca)
        assert found.tick >= durable
        assert found.records == sent[found.tick]
    finally:
        await asyncio.to_thread(gateway.kill)


async def test_a_namespace_made_again_behind_the_gateway_s_back_loses_nothing_announced(
    tmp_path: Path, backend: dict[str, str]
) -> None:
    """What its publisher is told to be durable from then on is in a world made for it, and nothing is written over
    what is there now."""
    async with httpx.AsyncClient(base_url=backend["store_admin"]) as api:
        gateway = await Gateway.start(
            Settings(port=0, plain="127.0.0.1:0", certs=str(tmp_path / "certs"), drain_ms=500, **backend)
        )
        ca = str(tmp_path / "certs" / "ca.pem")
        async with Publisher(f"https://127.0.0.1:{gateway.port}", "w", ca=ca) as publisher:
            publisher.send({1: b"before"})
            await publisher.wait_durable()
            durable = publisher.durable_order()
            (key,) = [key for key in await namespaces(api) if key == "w"]
            for path in ("delete_namespace", "create_namespace"):
                (await api.post(f"/api/{path}", json={"key": key})).raise_for_status()
            made = (await api.post("/api/stat_namespace", json={"key": key})).json()["nsid"]
            sent = {}
            async with asyncio.timeout(HANG_S):
                while publisher.durable_order()[1] < 30:
                    publisher.send({1: b"%d" % (publisher.tick + 1)})
                    sent[publisher.tick] = publisher.records()
                    await asyncio.sleep(0.01)
            promised = publisher.durable_order()
            assert promised > durable
        await gateway.drain(0.5)
        again = await Gateway.start(
            Settings(port=0, plain="127.0.0.1:0", certs=str(tmp_path / "certs"), drain_ms=500, **backend)
        )
        found = await fetch_last(f"https://127.0.0.1:{again.port}", "w", ca=ca)
        await again.drain(0.5)
        assert (found.epoch, found.tick) >= promised
        assert found.records == sent[found.tick]
        async with httpx.AsyncClient(base_url=backend["store"]) as data:
            (await api.post("/standin", json={"advance_s": 6.0})).raise_for_status()
            head = (await data.get("/stat", headers={"x-namespace-key": key})).json()["version"]
    assert head == made


@pytest.mark.parametrize("remembered", [True, False], ids=["at once", "when the name is forgotten"])
@pytest.mark.parametrize("read_set", [None, [1]], ids=["namespace", "pages"])
async def test_a_client_of_the_page_plane_is_refused_what_mvstore_would_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_set: list[int] | None, remembered: bool
) -> None:
    async with opened("before-standin/h2", tmp_path, monkeypatch) as door:
        assert door.standin is not None
        key = await door.namespace()
        version = (await door.ask("GET", "/stat", headers={"x-namespace-key": key})).json()["version"]
        body = commit(part(key, version, {1: page(1)}, read_set=read_set))
        version = (await door.ask("POST", "/batch/commit", body)).headers["x-committed-version"]
        await door.admin("delete_namespace", key=key)
        await door.admin("create_namespace", key=key)
        if not remembered:
            await door.standin.advance(5.0)
        stale = commit(part(key, version, {1: page(2)}, read_set=read_set))
        assert (await door.ask("POST", "/batch/commit", stale)).status == 409


async def test_a_commit_that_the_store_below_can_never_take_is_413_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened("before-standin/h2", tmp_path, monkeypatch) as door:
        key, data = await door.namespace(), b"x" * 512
        named = {"x-namespace-key": key}
        await door.ask("POST", "/batch/write", framed({"data": data, "delta_base": None}, b""), named)
        version = (await door.ask("GET", "/stat", headers=named)).json()["version"]
        body = commit(part(key, version, dict.fromkeys(range(20_000), data), inline=False))
        answer = await door.ask("POST", "/batch/commit", body)
        assert (answer.status, answer.json()["retry"]) == (413, False)
        assert "20000 pages" in answer.json()["detail"]
