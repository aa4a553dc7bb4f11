"""Worlds deleted and made again under their names, over a store that behaves as the real mvstore: it goes on
serving a deleted namespace under its key. What was told durable is there, and nothing else stops."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import apsw
import httpx
import pytest
import websockets
from blake3 import blake3

from gateway.errors import NotFound
from gateway.runtime.gateway import Gateway
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageWrite
from gateway.store.world import catalogue, retiring
from gateway.wire import Control, decode_message
from tests.runtime.conftest import StartGateway, body, client_of, frame
from tests.store.standin import Served, serving

Start = Callable[[], Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def mvstore(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path / "mvstore", planes=2) as served:
        yield served


@pytest.fixture
async def start(mvstore: Served, start_gateway: StartGateway) -> AsyncIterator[Start]:
    """Another gateway over the same mvstore, each by a data plane of its own; its client."""
    clients: list[httpx.AsyncClient] = []
    urls = iter(mvstore.urls * 8)

    async def new() -> httpx.AsyncClient:
        gateway = await start_gateway(store=next(urls), store_admin=mvstore.admin_urls[0], retention="record")
        clients.append(client_of(gateway))
        clients[-1].gateway = gateway  # type: ignore[attr-defined]
        return clients[-1]

    yield new
    for client in clients:
        await client.aclose()


@pytest.fixture
async def a(start: Start) -> httpx.AsyncClient:
    return await start()


@pytest.fixture
async def b(start: Start) -> httpx.AsyncClient:
    return await start()


def gateway_of(client: httpx.AsyncClient) -> Gateway:
    gateway: Gateway = client.gateway  # type: ignore[attr-defined]
    return gateway


async def publish(client: httpx.AsyncClient, world: str, text: bytes, tick: int = 1) -> None:
    answer = await client.post(
        f"/v1/worlds/{world}/frames", content=body(frame(tick, {1: text})), params={"durable": 1}
    )
    assert answer.status_code == 200, answer.text


async def state(client: httpx.AsyncClient, world: str) -> dict[int, bytes]:
    answer = await client.get(f"/v1/worlds/{world}/frames/last", headers={"accept": "application/json"})
    assert answer.status_code == 200, answer.text
    return {int(key): base64.b64decode(data) for key, data in answer.json()["records"].items()}


async def listed(client: httpx.AsyncClient) -> list[str]:
    answer = await client.get("/v1/worlds")
    assert answer.status_code == 200, answer.text
    return [world["world"] for world in answer.json()["worlds"]]


async def delete(client: httpx.AsyncClient, world: str) -> None:
    answer = await client.delete(f"/v1/worlds/{world}")
    assert answer.status_code == 200, answer.text


async def test_a_world_deleted_and_made_again_at_once_keeps_what_was_told_durable(
    a: httpx.AsyncClient, start: Start, mvstore: Served
) -> None:
    await publish(a, "other", b"beside")
    for life in range(5):
        await publish(a, "zed", b"life %d" % life)
        assert await state(a, "zed") == {1: b"life %d" % life}
        if life < 4:
            await delete(a, "zed")
            assert await listed(a) == ["other"]
    await mvstore.standin.advance(130)
    for client in (a, await start()):
        assert await state(client, "zed") == {1: b"life 4"}
        assert await state(client, "other") == {1: b"beside"}
        assert await listed(client) == ["other", "zed"]
        frames = await client.get("/v1/worlds/zed/verify")
        assert frames.json()["damaged"] == []


async def test_a_world_never_deleted_costs_no_catalogue_and_has_its_plain_name(
    a: httpx.AsyncClient, mvstore: Served
) -> None:
    await publish(a, "zed", b"x")
    assert [info.key for info in await mvstore.standin.list("")] == ["zed"]


async def test_who_publishes_to_a_world_that_another_gateway_deletes_is_told_and_begins_anew(
    a: httpx.AsyncClient, b: httpx.AsyncClient
) -> None:
    plain = gateway_of(a).plain_server
    assert plain is not None
    url = f"ws://127.0.0.1:{plain.port}/v1/worlds/zed/live?role=publish"
    async with websockets.connect(url) as first:
        await first.send(frame(1, {1: b"old"}))
        await durable(first, 1)
        await delete(b, "zed")
        with suppress(websockets.ConnectionClosed):
            await first.send(frame(2, {2: b"lost, and never told durable"}))
        await publish(b, "zed", b"new")
        told = [message async for message in controls(first)]
        assert ("bye", "world deleted") in [(m.type, m.get("reason")) for m in told]
        assert not [m for m in told if m.type == "durable" and m["tick"] == 2]
    assert await state(a, "zed") == {1: b"new"}
    assert await state(b, "zed") == {1: b"new"}


async def durable(link: websockets.ClientConnection, tick: int) -> None:
    async for message in controls(link):
        if message.type == "durable" and message["tick"] >= tick:
            return


async def controls(link: websockets.ClientConnection) -> AsyncIterator[Control]:
    """Until the connection ends; the test's time-out bounds it."""
    with suppress(websockets.ConnectionClosed):
        async for data in link:
            assert isinstance(data, bytes)
            message = decode_message(data)
            if isinstance(message, Control):
                yield message


async def test_a_world_can_be_deleted_elsewhere_while_it_is_published_fast(
    a: httpx.AsyncClient, b: httpx.AsyncClient
) -> None:
    plain = gateway_of(a).plain_server
    assert plain is not None
    url = f"ws://127.0.0.1:{plain.port}/v1/worlds/zed/live?role=publish"
    for life in range(3):
        async with websockets.connect(url) as link:
            sending = asyncio.ensure_future(send_fast(link, life))
            told = controls(link)
            async for message in told:
                if message.type == "durable" and message["tick"] >= 20:
                    break
            await delete(b, "zed")
            assert [m["reason"] async for m in told if m.type == "bye"] == ["world deleted"]
            await sending
        assert (await b.get("/v1/worlds/zed")).status_code == 404
    await publish(b, "zed", b"last")
    assert await state(a, "zed") == {1: b"last"}


async def send_fast(link: websockets.ClientConnection, life: int) -> None:
    with suppress(websockets.ConnectionClosed):
        for tick in range(1, 1 << 20):
            await link.send(frame(tick, {tick % 50: b"life %d" % life}))
            await asyncio.sleep(0.004)


async def test_readers_of_a_world_that_another_gateway_deletes_are_told(
    a: httpx.AsyncClient, b: httpx.AsyncClient
) -> None:
    await b.put("/v1/worlds/zed")
    plain = gateway_of(a).plain_server
    assert plain is not None
    async with websockets.connect(f"ws://127.0.0.1:{plain.port}/v1/worlds/zed/live") as reader:
        told = controls(reader)
        assert (await anext(told)).type == "welcome"
        await delete(b, "zed")
        assert [message["reason"] async for message in told if message.type == "bye"] == ["world deleted"]
    assert (await a.get("/v1/worlds/zed")).status_code == 404


async def test_two_gateways_that_delete_and_publish_at_once_agree_on_one_world(
    a: httpx.AsyncClient, b: httpx.AsyncClient
) -> None:
    for life in range(4):
        for client in (a, b):
            answer = await client.post(
                "/v1/worlds/zed/frames", content=body(frame(1, {life: b"x"})), params={"durable": 1}
            )
            assert answer.status_code in (200, 409, 410), answer.text
        answers = await asyncio.gather(*(client.delete("/v1/worlds/zed") for client in (a, b)))
        assert sorted(answer.status_code for answer in answers) == [200, 404]
    await publish(a, "zed", b"last")
    assert await state(b, "zed") == await state(a, "zed") == {1: b"last"}


def damage(folder: Path, key: str) -> None:
    """Spoil every page of a namespace of the store in ``folder``, as a failing disk does."""
    disk = apsw.Connection(str(folder / "store.sqlite"))
    blobs = "SELECT blob FROM page JOIN ns ON page.ns = ns.rid WHERE ns.key = ?"
    disk.execute(f"UPDATE blob SET data = zeroblob(64) WHERE id IN ({blobs})", (key,))
    disk.close()


async def test_a_world_that_cannot_be_read_is_listed_with_its_error_and_can_be_deleted(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    first = await start_gateway()
    async with client_of(first) as client:
        for world in ("good", "bad"):
            await publish(client, world, b"fine")
    await first.drain(1.0)
    damage(tmp_path / "store", "bad")
    async with client_of(await start_gateway()) as client:
        rows = {world["world"]: world for world in (await client.get("/v1/worlds")).json()["worlds"]}
        assert rows["bad"]["error"]
        assert "error" not in rows["good"]
        assert (await client.get("/v1/worlds/bad")).status_code >= 500
        await delete(client, "bad")
        assert await listed(client) == ["good"]
        await publish(client, "bad", b"anew")
        assert await state(client, "bad") == {1: b"anew"}


async def test_a_namespace_deleted_behind_the_gateways_back_is_given_up_and_the_name_made_anew(
    a: httpx.AsyncClient, b: httpx.AsyncClient, mvstore: Served
) -> None:
    await publish(a, "zed", b"old")
    await publish(a, "other", b"beside")
    await mvstore.standin.delete("zed")
    refused = await a.post("/v1/worlds/zed/frames", content=body(frame(2, {1: b"x"})), params={"durable": 1})
    assert refused.status_code == 409, "a commit to a namespace that is no more is not told durable"
    await publish(a, "zed", b"new")
    await mvstore.standin.advance(130)
    assert await state(a, "zed") == {1: b"new"}
    assert await state(b, "zed") == {1: b"new"}
    assert await listed(b) == ["other", "zed"]


async def test_a_name_deleted_by_mvstores_tools_before_anybody_opened_it_can_be_used_at_once(
    a: httpx.AsyncClient, start: Start, mvstore: Served
) -> None:
    await publish(a, "zed", b"old")
    await gateway_of(a).drain(1.0)
    await mvstore.standin.delete("zed")
    again = [await start(), await start()][1]  # by the first data plane again, which remembers the name
    await publish(again, "zed", b"new")
    await mvstore.standin.advance(130)
    assert await state(again, "zed") == {1: b"new"}
    assert await state(await start(), "zed") == {1: b"new"}


async def test_a_branch_can_be_made_again_under_the_name_of_one_that_was_deleted(
    a: httpx.AsyncClient, mvstore: Served
) -> None:
    await publish(a, "zed", b"parent")
    await publish(a, "zed", b"what the branch has not", 2)
    wanted = {"name": "b", "epoch": 1, "tick": 1}
    for life in range(3):
        made = await a.post("/v1/worlds/zed/branch", json=wanted)
        assert made.status_code in (200, 201), made.text
        assert await state(a, "b") == {1: b"parent"}
        assert (await a.post("/v1/worlds/zed/branch", json=wanted)).status_code == 409
        await publish(a, "b", b"branch %d" % life, 5)
        assert await state(a, "b") == {1: b"branch %d" % life}
        await delete(a, "b")
    assert (await a.post("/v1/worlds/zed/branch", json=wanted)).status_code in (200, 201)
    await mvstore.standin.advance(130)
    assert await state(a, "b") == {1: b"parent"}
    assert await listed(a) == ["b", "zed"]


async def test_a_branch_that_fails_leaves_its_name_free(
    a: httpx.AsyncClient, mvstore: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(a, "zed", b"parent")
    committed, failures = mvstore.standin.commit, iter(range(2))

    async def failing(request: CommitRequest, named: object) -> object:
        if (
            any("making" in part.namespace.key for part in request.namespaces)
            and next(failures, None) is not None
        ):
            raise NotFound("the store lost it")
        return await committed(request, named)  # type: ignore[arg-type]

    monkeypatch.setattr(mvstore.standin, "commit", failing)
    for _ in range(2):
        assert (await a.post("/v1/worlds/zed/branch", json={"name": "b"})).status_code >= 400
        assert await listed(a) == ["zed"]
    assert (await a.post("/v1/worlds/zed/branch", json={"name": "b"})).status_code in (200, 201)
    assert await state(a, "b") == {1: b"parent"}
    assert [info.key for info in await mvstore.standin.list("")] == ["b", "zed"]


async def test_a_deleted_world_can_be_branched_no_more_and_its_branches_live_on(
    a: httpx.AsyncClient, mvstore: Served
) -> None:
    await publish(a, "zed", b"parent")
    assert (await a.post("/v1/worlds/zed/branch", json={"name": "b"})).status_code in (200, 201)
    await delete(a, "zed")
    assert (await a.post("/v1/worlds/zed/branch", json={"name": "c"})).status_code == 404
    assert await state(a, "b") == {1: b"parent"}
    await publish(a, "zed", b"another")
    assert await state(a, "b") == {1: b"parent"}


async def put(client: httpx.AsyncClient, where: str, ident: str, text: bytes) -> None:
    answer = await client.put(
        f"/v1/{where}/{ident}", content=text, headers={"content-type": "application/octet-stream"}
    )
    assert answer.status_code in (200, 201), answer.text


async def test_entities_of_a_world_made_again_are_the_new_ones_at_every_gateway(
    a: httpx.AsyncClient, b: httpx.AsyncClient, mvstore: Served
) -> None:
    await a.put("/v1/worlds/zed")
    await put(a, "worlds/zed/entities", "chest", b"old")
    assert (await b.get("/v1/worlds/zed/entities/chest")).content == b"old"
    for life in range(3):
        await delete(a, "zed")
        await a.put("/v1/worlds/zed")
        await put(a, "worlds/zed/entities", f"chest-{life}", b"new")
        assert (await b.get(f"/v1/worlds/zed/entities/chest-{life}")).content == b"new"
        await put(b, "worlds/zed/entities", "from-b", b"b")
        assert (await a.get("/v1/worlds/zed/entities/from-b")).content == b"b"
        assert (await b.get("/v1/worlds/zed/entities/chest")).status_code == 404
    await mvstore.standin.advance(130)
    assert (await b.get("/v1/worlds/zed/entities/chest-2")).content == b"new"


async def test_an_inventory_taken_away_by_mvstores_tools_can_be_filled_again(
    a: httpx.AsyncClient, b: httpx.AsyncClient, mvstore: Served
) -> None:
    await put(a, "inventories/bob/items", "sword", b"old")
    await mvstore.standin.delete("inv~bob")
    await put(a, "inventories/bob/items", "shield", b"new")
    await mvstore.standin.advance(130)
    for client in (a, b):
        assert (await client.get("/v1/inventories/bob/items/shield")).content == b"new"
        assert (await client.get("/v1/inventories/bob/items/sword")).status_code == 404


async def test_what_was_deleted_is_removed_when_nobody_can_reach_it_and_never_comes_back(
    a: httpx.AsyncClient, mvstore: Served
) -> None:
    await publish(a, "zed", b"old")
    await delete(a, "zed")
    keys = [info.key for info in await mvstore.standin.list("")]
    assert keys == [catalogue.CATALOGUE_KEY, "zed"]
    store = gateway_of(a).store.blocking()
    (old,) = await asyncio.to_thread(catalogue.retired, store)
    left = await asyncio.to_thread(retiring.reap, store, old.retired_at_us + 299_000_000, 300.0)
    assert left == pytest.approx(1.0)
    assert await asyncio.to_thread(retiring.reap, store, old.retired_at_us + 301_000_000, 300.0) is None
    assert [info.key for info in await mvstore.standin.list("")] == [catalogue.CATALOGUE_KEY]
    await publish(a, "zed", b"new")
    assert await asyncio.to_thread(retiring.reap, store, old.retired_at_us + 10**12, 300.0) is None
    assert await state(a, "zed") == {1: b"new"}


async def test_removal_leaves_alone_what_others_have_put_under_the_key_since(
    a: httpx.AsyncClient, mvstore: Served
) -> None:
    await publish(a, "zed", b"old")
    await delete(a, "zed")
    await mvstore.standin.delete("zed")
    await mvstore.standin.create("zed")
    store = gateway_of(a).store.blocking()
    (old,) = await asyncio.to_thread(catalogue.retired, store)
    await asyncio.to_thread(retiring.reap, store, old.retired_at_us + 301_000_000, 300.0)
    assert [info.key for info in await mvstore.standin.list("")] == [catalogue.CATALOGUE_KEY, "zed"]


async def test_a_foreign_database_of_a_worlds_name_is_not_deleted(
    a: httpx.AsyncClient, mvstore: Served
) -> None:
    store = gateway_of(a).store
    await store.create_namespace("notes")
    data = b"SQLite format 3\0".ljust(8192, b"\0")
    ns = Namespace("notes")
    part = NamespaceCommit(ns, (await store.stat(ns)).version, [PageWrite(0, blake3(data).digest(), data)])
    await store.commit(CommitRequest(os.urandom(16), [part]))
    assert (await a.delete("/v1/worlds/notes")).status_code in (404, 422)
    assert "notes" in [info.key for info in await mvstore.standin.list("")]
