"""Entities live: changes as they commit, cold starts, sleep and waking, following from world to world."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.client import Publisher, Subscriber
from gateway.client.entities import Entities, EntityChange
from gateway.errors import NotFound, PreconditionFailed
from gateway.runtime.gateway import Gateway
from gateway.wire import MessageStream, decode_control, variant
from gateway.wire.entities.messages import ENTITIES_TYPE
from tests.kits.abilities import proves
from tests.patience import HANG_S
from tests.store.standin.fixtures import EACH_STORE

from .conftest import StartGateway, client_of

OVER = EACH_STORE

TOWN = "/v1/worlds/town/entities"


def url_of(gateway: Gateway) -> str:
    return f"https://127.0.0.1:{gateway.port}"


def entities(gateway: Gateway, name: str = "town", **more: Any) -> Entities:
    return Entities(url_of(gateway), name, certificate_sha256=gateway.certificates.current.sha256, **more)


async def take(watch: AsyncIterator[EntityChange], count: int) -> list[EntityChange]:
    found: list[EntityChange] = []
    async with asyncio.timeout(HANG_S):
        while len(found) < count:
            found.append(await anext(watch))
    return found


async def until(condition: Any, timeout_s: float = HANG_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@proves("python", "entities")
@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_the_client_puts_gets_lists_and_deletes(
    http: httpx.AsyncClient, gateway: Gateway, transport: Any
) -> None:
    async with entities(gateway, transport=transport) as town:
        revision = await town.put("chest:7", {"gold": 12}, class_name="Chest", tags=["a b", "ü"], key=9)
        got = await town.get("chest:7")
        assert (got.value, got.class_name, got.tags, got.key) == (
            variant.Dictionary({"gold": 12}),
            "Chest",
            ("a b", "ü"),
            9,
        )
        assert got.revision == revision
        with pytest.raises(PreconditionFailed):
            await town.put("chest:7", b"", create_only=True)
        with pytest.raises(PreconditionFailed) as lost:
            await town.put("chest:7", b"", if_match=revision + 1)
        assert lost.value.facts["revision"] == revision
        await town.patch("chest:7", owner="srv")
        results = await town.batch(
            [({"op": "put", "id": "b", "kind": "bytes"}, b"x"), ({"op": "get", "id": "chest:7"}, b"")]
        )
        assert [one["status"] for one in results] == [201, 200]
        assert [entity.id async for entity in town.all()] == ["b", "chest:7"]
        await town.delete("b")
        with pytest.raises(NotFound):
            await town.get("b")


async def test_a_watcher_hears_every_commit_in_order(http: httpx.AsyncClient, gateway: Gateway) -> None:
    async with entities(gateway) as town, entities(gateway) as writer:
        await writer.put("before", b"0")
        watch = town.watch(since=0)
        assert [change.id for change in await take(watch, 1)] == ["before"]
        for n in range(5):
            await writer.put(f"e{n}", b"%d" % n)
        await writer.delete("e0")
        changes = await take(watch, 6)
        assert changes[-1].id == "e0"
        assert changes[-1].entity is None
        assert [change.revision for change in changes] == sorted(change.revision for change in changes)
        stored = {change.id: change.entity.state for change in changes if change.entity}
        assert {name: stored[name] for name in ("e1", "e2", "e3", "e4")} == {
            f"e{n}": b"%d" % n for n in range(1, 5)
        }
        await watch.aclose()  # type: ignore[attr-defined]


async def test_nothing_is_missed_over_a_reconnect(http: httpx.AsyncClient, gateway: Gateway) -> None:
    async with entities(gateway) as town:
        first = await town.put("a", b"1")
        watch = town.watch(since=first)
        await town.put("b", b"2")
        seen = (await take(watch, 1))[0]
        assert seen.id == "b"
        await watch.aclose()  # type: ignore[attr-defined]
        await town.put("c", b"3")
        await town.delete("a")
        await town.put("b", b"4")
        again = town.watch(since=seen.revision)
        changes = await take(again, 3)
        assert {change.id: change.entity and change.entity.state for change in changes} == {
            "c": b"3", "a": None, "b": b"4",
        }  # fmt: skip
        await again.aclose()  # type: ignore[attr-defined]


async def test_server_sent_events_go_on_from_the_last_event_id(http: httpx.AsyncClient) -> None:
    await http.put(f"{TOWN}/a", content=b"1")
    events: list[tuple[str, Any]] = []

    async def read(headers: dict[str, str], count: int) -> str:
        last = ""
        events.clear()
        async with http.stream(
            "GET", f"{TOWN}/live", headers={"accept": "text/event-stream", **headers}
        ) as answer:
            name = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("id: "):
                    last = line[4:]
                elif line.startswith("data: "):
                    events.append((name, json.loads(line[6:])))
                    if len(events) == count:
                        return last
        return last

    last = await read({"last-event-id": "0"}, 2)
    assert [name for name, _ in events] == ["entity", "revision"]
    await http.put(f"{TOWN}/b", content=b"2")
    await http.delete(f"{TOWN}/a")
    await read({"last-event-id": last}, 3)
    assert [(name, value.get("op"), value.get("id")) for name, value in events[:2]] == [
        ("entity", "put", "b"), ("entity", "delete", "a"),
    ]  # fmt: skip


async def test_a_filter_tells_also_what_matches_no_more(http: httpx.AsyncClient, gateway: Gateway) -> None:
    async with entities(gateway) as town:
        await town.put("a", b"", class_name="Mob")
        watch = town.watch(since=0, class_="Mob")
        assert (await take(watch, 1))[0].entity is not None
        await town.patch("a", **{"class": "Pet"})
        assert (await take(watch, 1))[0].entity is None
        await watch.aclose()  # type: ignore[attr-defined]


async def test_a_change_by_another_gateway_is_heard_here(
    http: httpx.AsyncClient, gateway: Gateway, start_gateway: StartGateway
) -> None:
    assert gateway.plain_server is not None
    other = await start_gateway(store=f"http://127.0.0.1:{gateway.plain_server.port}")
    async with entities(gateway) as town, client_of(other) as far:
        watch = town.watch(since=0)
        await far.put(f"{TOWN}/a", content=b"far")
        change = (await take(watch, 1))[0]
        assert change.entity is not None
        assert change.entity.state == b"far"
        await watch.aclose()  # type: ignore[attr-defined]


async def test_forty_cold_starts_at_once_read_the_store_once(
    http: httpx.AsyncClient, gateway: Gateway
) -> None:
    async with entities(gateway) as town:
        for start in range(0, 2000, 500):
            heads = [
                ({"op": "put", "id": f"e{n:04}", "kind": "bytes"}, bytes(500))
                for n in range(start, start + 500)
            ]
            await town.batch(heads)

    async def start_up() -> int:
        answer = await http.get(TOWN, headers={"accept": ENTITIES_TYPE})
        stream = MessageStream(1 << 20)
        stream.feed(answer.content)
        return len(list(stream)) - 1

    assert await asyncio.gather(*(start_up() for _ in range(40))) == [2000] * 40
    metrics = gateway.entities.metrics()
    assert metrics["entity_scans"] == 1
    assert metrics["entity_scans_shared"] == 39


async def test_a_cold_start_ends_with_the_revision_to_watch_from(http: httpx.AsyncClient) -> None:
    revision = (await http.put(f"{TOWN}/a", content=b"1")).json()["revision"]
    answer = await http.get(TOWN, headers={"accept": ENTITIES_TYPE})
    stream = MessageStream(1 << 20)
    stream.feed(answer.content)
    last = list(stream)[-1]
    assert (decode_control(last).type, decode_control(last)["revision"]) == ("end", revision)


async def test_a_live_record_goes_to_sleep_and_wakes(http: httpx.AsyncClient, gateway: Gateway) -> None:
    trust = {"certificate_sha256": gateway.certificates.current.sha256}
    async with (
        Publisher(url_of(gateway), "town", **trust) as pub,
        Subscriber(url_of(gateway), "town", **trust) as sub,
        entities(gateway) as town,
    ):
        pub.send({7: b"goblin", 8: b"tree"})
        await until(lambda: sub.records() == {7: b"goblin", 8: b"tree"})
        await town.hibernate("goblin:1", 7, tags=["mob"])
        await until(lambda: sub.records() == {8: b"tree"})
        asleep = await town.get("goblin:1")
        assert (asleep.state, asleep.key, asleep.tags) == (b"goblin", 7, ("mob",))
        with pytest.raises(NotFound):
            await town.hibernate("goblin:1", 7)
        woken = await town.wake("goblin:1")
        assert woken["key"] == 7
        await until(lambda: sub.records() == {7: b"goblin", 8: b"tree"})
        with pytest.raises(NotFound):
            await town.get("goblin:1")


@proves("python", "sleep")
@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_a_publisher_hears_of_sleep_and_waking_and_its_keyframe_undoes_neither(
    http: httpx.AsyncClient, gateway: Gateway, transport: Any
) -> None:
    more: dict[str, Any] = {
        "transport": transport,
        "certificate_sha256": gateway.certificates.current.sha256,
    }
    changed: list[Any] = []
    async with (
        Publisher(url_of(gateway), "town", on_changed=changed.append, **more) as pub,
        Subscriber(url_of(gateway), "town", **more) as sub,
        entities(gateway) as town,
    ):
        pub.send({7: b"goblin", 8: b"tree"})
        await until(lambda: sub.records() == {7: b"goblin", 8: b"tree"})
        await town.hibernate("goblin:1", 7)
        await until(lambda: changed == [{7: None}])
        assert pub.records() == {8: b"tree"}
        pub.send({8: b"oak"}, keyframe=False)
        pub.keyframe()
        await until(lambda: sub.records() == {8: b"oak"})
        woken = await town.wake("goblin:1")
        await until(lambda: changed[1:] == [{7: b"goblin"}])
        assert pub.records() == {7: b"goblin", 8: b"oak"}
        assert pub.send({7: b"awake"}) > woken["tick"]
        await until(lambda: sub.records() == {7: b"awake", 8: b"oak"})
        pub.keyframe()
        pub.send({8: b"elm"})
        await until(lambda: sub.records() == {7: b"awake", 8: b"elm"})


@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_what_wakes_before_a_new_publishers_first_frame_outlives_it(
    http: httpx.AsyncClient, gateway: Gateway, transport: Any
) -> None:
    more: dict[str, Any] = {"transport": transport, "certificate_sha256": gateway.certificates.current.sha256}
    changed: list[Any] = []
    async with entities(gateway) as town, Subscriber(url_of(gateway), "town", **more) as sub:
        async with Publisher(url_of(gateway), "town", **more) as before:
            before.send({7: b"goblin", 8: b"tree"})
            await before.wait_durable()
            await town.hibernate("goblin:1", 7)
        host = gateway.worlds.hosts["town"]
        await until(lambda: host.world.publisher is None)
        async with Publisher(url_of(gateway), "town", on_changed=changed.append, **more) as after:
            assert after.epoch > before.epoch
            await until(lambda: host.world.publisher is not None and host.world.publisher.wants_changes)
            await town.wake("goblin:1")
            await until(lambda: changed == [{7: b"goblin"}])
            after.send({8: b"oak"})
            after.keyframe()
            await until(lambda: sub.records() == {7: b"goblin", 8: b"oak"})


async def test_a_refused_hibernation_leaves_the_record_live(
    http: httpx.AsyncClient, gateway: Gateway
) -> None:
    trust = {"certificate_sha256": gateway.certificates.current.sha256}
    await http.put(f"{TOWN}/a", content=b"old", headers={"x-entity-owner": "srv"})
    (await http.post("/v1/worlds/town/leases", json={"owner": "srv"})).raise_for_status()
    async with Publisher(url_of(gateway), "town", **trust) as pub:
        pub.send({7: b"live"})
        host = gateway.worlds.hosts["town"]
        await until(lambda: host.world.state.get(7) is not None)
        answer = await http.post(f"{TOWN}/a:hibernate", json={"key": 7})
        assert answer.status_code == 403
        assert host.world.state.snapshot() == {7: b"live"}
        assert (await http.get(f"{TOWN}/a")).content == b"old"


@proves("python", "follow")
@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_who_follows_an_entity_is_taken_to_its_new_world(
    http: httpx.AsyncClient, gateway: Gateway, transport: Any
) -> None:
    trust: dict[str, Any] = {"certificate_sha256": gateway.certificates.current.sha256}
    heard: list[Any] = []
    async with (
        Publisher(url_of(gateway), "town", **trust) as here,
        Publisher(url_of(gateway), "forest", **trust) as there,
        Subscriber(
            url_of(gateway), "town", follow="hero", transport=transport, on_event=heard.append, **trust
        ) as sub,
        entities(gateway) as town,
    ):
        here.send({1: b"town"})
        there.send({2: b"forest"})
        await until(lambda: sub.records() == {1: b"town"})
        await town.put("hero", b"h")
        await town.accept(await town.transfer("hero", to="forest"))
        await until(lambda: sub.records() == {2: b"forest"})
        assert [(c.type, c["world"]) for c in heard if c.type == "moved"] == [("moved", "forest")]
        there.send({2: b"forest 2"})
        await until(lambda: sub.records() == {2: b"forest 2"})
        assert sub.connects == 1


async def test_a_session_holds_its_owners_lease(http: httpx.AsyncClient, gateway: Gateway) -> None:
    from gateway.client.websocket import connect_websocket
    from gateway.wire import Control, decode_message

    heard: list[Any] = []

    class Session:
        def __init__(self, link: Any) -> None:
            self.link = link

        def on_message(self, data: bytes, mono: float) -> None:
            heard.append(data if data[0] == 32 else decode_message(data))

        def on_stream_data(self, *args: Any) -> None: ...
        def on_stream_reset(self, *args: Any) -> None: ...
        def on_acked(self, *args: Any) -> None: ...
        def on_lost(self, *args: Any) -> None: ...
        def on_writable(self, *args: Any) -> None: ...
        def on_closed(self, *args: Any) -> None: ...

    assert gateway.plain_server is not None
    path = "/v1/worlds/town/entities/live?lease=srv&since=0"
    link = await connect_websocket(
        "127.0.0.1", gateway.plain_server.port, path, tls=None, make_session=Session
    )
    await until(lambda: any(isinstance(m, Control) and m.type == "welcome" for m in heard))
    lease = heard[0]["lease"]
    await http.put(f"{TOWN}/a", content=b"1", headers={"x-entity-owner": "srv", "x-owner-lease": lease})
    assert (await http.put(f"{TOWN}/a", content=b"2")).status_code == 403
    await until(lambda: any(isinstance(m, bytes) and m.endswith(b"1") for m in heard))
    from gateway.core.ports import CloseCode

    link.close(CloseCode.OK, "")


async def test_a_gateway_stops_in_time_while_watchers_are_there(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    async with client_of(gateway) as http:
        await http.put("/v1/worlds/town")
        async with http.stream("GET", f"{TOWN}/live", params={"since": "0"}) as answer:
            await anext(answer.aiter_bytes())
            async with asyncio.timeout(HANG_S):
                await gateway.drain(2.0)


async def test_changes_come_over_webtransport_in_order(http: httpx.AsyncClient, gateway: Gateway) -> None:
    from gateway.client import Trust
    from gateway.quic import connect
    from gateway.wire.entities.messages import decode_entity

    heads: list[dict[str, Any]] = []
    streams: dict[int, MessageStream] = {}

    class Session:
        def __init__(self, link: Any) -> None:
            self.link = link

        def on_message(self, data: bytes, mono: float) -> None: ...

        def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
            stream = streams.setdefault(stream_id, MessageStream(2 << 20))
            stream.feed(data)
            heads.extend(decode_entity(message)[0] for message in stream if message[0] == 32)

        def on_stream_reset(self, stream_id: int) -> None: ...
        def on_acked(self, token: int, count: int = 1) -> None: ...
        def on_lost(self, token: int) -> None: ...
        def on_writable(self, mono: float) -> None: ...
        def on_closed(self, mono: float) -> None: ...

    trust = Trust.of(certificate_sha256=gateway.certificates.current.sha256).for_quic()
    async with await connect("127.0.0.1", gateway.port, trust=trust) as quic:
        await quic.webtransport("/v1/worlds/town/entities/live?since=0", Session)
        for n in range(20):
            await http.put(f"{TOWN}/e{n:02}", content=bytes(3000))
        await until(lambda: len(heads) >= 20)
    assert [head["id"] for head in heads] == [f"e{n:02}" for n in range(20)]
    assert [head["revision"] for head in heads] == sorted(head["revision"] for head in heads)


async def test_a_watch_that_begins_during_a_commit_hears_of_it(
    http: httpx.AsyncClient, gateway: Gateway
) -> None:
    from gateway.core.entities import EntityPlace
    from gateway.wire.entities.values import Actor, Filter, Put

    place = EntityPlace("world", "town")
    database = await gateway.entities.registry.get(place)
    async with database.writer.exclusive():
        writing = asyncio.ensure_future(gateway.entities.put(place, Put("a", "bytes", b"1"), Actor()))
        await until(lambda: database._task is not None)  # it has begun, and nothing has come of it yet
        for _ in range(10):
            await asyncio.sleep(0)
        watch = await gateway.entities.watch(place, Filter(), 0)
        assert (await anext(watch)).changes == []
    await writing
    async with asyncio.timeout(HANG_S):
        assert [change.id for change in (await anext(watch)).changes] == ["a"]
    await watch.aclose()  # type: ignore[attr-defined]
