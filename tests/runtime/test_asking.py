"""What a person with curl gets: history with its gaps, moments, and an answer to every slip."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import httpx
import pytest
from blake3 import blake3

from gateway.runtime.gateway import Gateway
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageWrite
from gateway.store.database import Database
from gateway.wire import Frame, MessageStream, Record, decode_message, encode_frame
from tests.runtime.conftest import StartGateway, body, client_of, frame, until
from tests.store.standin.fixtures import EACH_STORE

OVER = EACH_STORE


async def recorded(client: httpx.AsyncClient, world: str = "w") -> None:
    """Ticks 1 to 3, 6 and 7 of epoch 1 (4 and 5 never came)."""
    for tick in (1, 2, 3, 6, 7):
        sent = await client.post(
            f"/v1/worlds/{world}/frames", params={"durable": 1}, content=body(frame(tick, {1: b"%d" % tick}))
        )
        sent.raise_for_status()


@pytest.fixture
async def world(client: httpx.AsyncClient) -> httpx.AsyncClient:
    await recorded(client)

    async def gap_is_down() -> bool:
        return bool((await client.get("/v1/worlds/w/gaps")).json()["gaps"])

    await until(gap_is_down)
    return client


async def test_a_span_is_told_in_order_with_a_marker_where_ticks_are_missing(
    world: httpx.AsyncClient,
) -> None:
    answer = await world.get("/v1/worlds/w/frames", params={"epoch": 1, "from": 3, "to": 6})
    stream = MessageStream()
    stream.feed(answer.content)
    told: list[Any] = [
        message.tick if isinstance(message, Frame) else (message.type, dict(message.fields))
        for message in map(decode_message, stream)
    ]
    gap = ("gap", {"epoch": 1, "from": 4, "to": 5, "reason": "unseen"})
    assert told == [3, gap, 6]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("from=6&to=3", "from=6 is after to=3; give the smaller tick as from"),
        ("from=-1", "from='-1' is not a whole number from 0 to 4294967295"),
        ("to=4294967296", "to='4294967296' is not a whole number from 0 to 4294967295"),
        ("epoch=x", "epoch='x' is not a whole number"),
        ("tick=1.5", "tick='1.5' is not a whole number"),
        ("tick=3&from=1", "tick and from are given together"),
        ("tick=3&at=1s-ago", "at and tick are given together"),
        ("at=1s-ago&epoch=1", "at and epoch are given together"),
        ("at=yesterday", "'yesterday' is no time; write 2026-11-20T21:14:03Z"),
        ("at=999999999d-ago", "'999999999d-ago' is before 1970"),
        ("at=0001-01-01T00:00:00Z", "'0001-01-01T00:00:00Z' is before 1970"),
        (
            "tock=3",
            "query key 'tock' is unknown; this request takes the keys at, delay_s, epoch, from, rows, tick, to",
        ),
    ],
)
async def test_a_slip_in_the_query_is_answered_with_the_value_and_the_way_out(
    world: httpx.AsyncClient, query: str, says: str
) -> None:
    answer = await world.get(f"/v1/worlds/w/frames?{query}")
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (
            "tick=4",
            "tick 4 of epoch 1 is not recorded: the nearest before it is tick 3 of epoch 1, after it tick 6",
        ),
        ("tick=0", "tick 0 of epoch 1 is before the recording, which begins at tick 1 of epoch 1 (20"),
        ("at=1990-01-01T00:00:00Z", "the time 1990-01-01T00:00:00.000Z is before the recording"),
        ("epoch=9&tick=1", "tick 1 of epoch 9 is not recorded: the nearest before it is tick 7 of epoch 1"),
    ],
)
async def test_a_moment_that_is_not_there_is_answered_with_those_that_are(
    world: httpx.AsyncClient, query: str, says: str
) -> None:
    answer = await world.get(f"/v1/worlds/w/frames?{query}")
    assert (answer.status_code, answer.json()["code"]) == (404, "nothing_recorded")
    assert says in answer.json()["detail"]


async def test_the_time_that_a_refusal_names_can_be_asked_back(world: httpx.AsyncClient) -> None:
    refused = (await world.get("/v1/worlds/w/frames?at=1990-01-01T00:00:00Z")).json()["detail"]
    first = refused.partition("epoch 1 (")[2].partition(")")[0]
    later = await world.get("/v1/worlds/w/frames", params={"at": first[:-1] + "999Z"})
    assert (later.status_code, later.headers["x-epoch"]) == (200, "1")


async def test_an_offset_whose_plus_was_not_escaped_is_understood(world: httpx.AsyncClient) -> None:
    answer = await world.get("/v1/worlds/w/frames?at=2100-01-01T00:00:00+01:00")
    assert (answer.status_code, answer.headers["x-tick"]) == (200, "7")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"ring_s": 0},
            "ring_s 0 is not a whole number from 1 to 604800; to keep more, say retention 'record'",
        ),
        ({"ring_s": "60"}, "ring_s '60' is not a whole number"),
        ({"ring_s": 1.5}, "ring_s 1.5 is not a whole number"),
        ({"retention": "x" * 500}, "is neither 'ring' nor 'record'"),
        ({"stride": 8}, "option 'stride' is unknown here; known are retention, ring_s"),
    ],
)
async def test_a_retention_that_cannot_be_is_refused_by_value(
    world: httpx.AsyncClient, options: dict[str, Any], says: str
) -> None:
    answer = await world.patch("/v1/worlds/w", json=options)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 200


async def test_the_longest_ring_is_taken(world: httpx.AsyncClient) -> None:
    answer = await world.patch("/v1/worlds/w", json={"ring_s": 604_800})
    assert (answer.status_code, answer.json()["ring_s"]) == (200, 604_800)


async def test_a_post_beside_a_publisher_is_told_what_it_can_do(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(udp="127.0.0.1:0")
    async with client_of(gateway) as client:
        token = (await client.post("/v1/worlds/w/udp")).json()
        refused = await client.post("/v1/worlds/w/frames", content=body(frame(1, {1: b"a"})))
        assert (refused.status_code, refused.json()["code"]) == (409, "publisher_present")
        assert "/v1/worlds/w/live?role=publish&takeover=1" in refused.json()["detail"]
        again = await client.post("/v1/worlds/w/udp")
        assert again.status_code == 409
        await publish_plainly(client, token)


async def publish_plainly(client: httpx.AsyncClient, token: dict[str, Any]) -> None:
    """A publisher of a dozen lines: a socket, the token, and messages; junk beside them harms nothing."""
    assert token["silence_ms_max"] > 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((token["host"], token["port"]))
        key = bytes.fromhex(token["token"])
        for junk in (b"", b"short", key, key + b"\xff" * 40, bytes(8) + encode_frame(Frame(0, 9))):
            sock.send(junk)
        for tick in (1, 2):
            sock.send(key + encode_frame(Frame(0, tick, [Record(1, b"udp %d" % tick)])))

    async def there() -> bool:
        return bool((await client.get("/v1/worlds/w")).json()["tick"] == 2)

    await until(there)
    last = (await client.get("/v1/worlds/w")).json()
    assert (last["publisher"], last["epoch"], last["records"]) == ("udp", token["epoch"], 1)


async def test_events_are_named_and_end_with_bye_when_the_world_is_deleted(world: httpx.AsyncClient) -> None:
    names: list[str] = []
    async with world.stream("GET", "/v1/worlds/w/live", headers={"accept": "text/event-stream"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            if names == ["welcome", "resync", "frame"] and not line:
                (await world.delete("/v1/worlds/w")).raise_for_status()
    assert names == ["welcome", "resync", "frame", "bye"]


async def test_databases_that_are_no_worlds_are_not_listed_as_such(gateway: Gateway) -> None:
    store = gateway.worlds.store

    def foreign() -> None:
        database = Database.open(store.blocking(), Namespace("scores"), create=True)
        database.transact(lambda c: c.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)"))
        database.close()

    await asyncio.to_thread(foreign)
    await store.create_namespace("empty")
    await store.create_namespace("bytes")
    data = b"no database at all".ljust(4_096, b"\0")
    part = NamespaceCommit(
        Namespace("bytes"),
        (await store.stat(Namespace("bytes"))).version,
        [PageWrite(0, blake3(data).digest(), data)],
        frozenset(),
    )
    await store.commit(CommitRequest(os.urandom(16), [part], True))
    async with client_of(gateway) as client:
        (await client.put("/v1/worlds/arena")).raise_for_status()

        async def listed() -> list[tuple[str, bool]]:
            worlds = (await client.get("/v1/worlds")).json()["worlds"]
            return [(world["world"], world["open"]) for world in worlds]

        assert await listed() == [("arena", True)]
        await gateway.worlds._close(gateway.worlds.hosts["arena"])
        assert await listed() == [("arena", False)]
        (await client.delete("/v1/worlds/arena")).raise_for_status()
        assert await listed() == []
        for name in ("scores", "empty"):
            assert (await client.get(f"/v1/worlds/{name}")).status_code in (404, 422)


async def test_a_world_whose_opening_fails_beside_others_is_opened_once(gateway: Gateway) -> None:
    """Whoever waits for a world that is being opened goes on alone, also when that fails."""
    worlds = gateway.worlds
    first = asyncio.ensure_future(worlds.host("late"))
    waiting = asyncio.ensure_future(worlds.host("late", create={}))
    newcomers: list[asyncio.Future[Any]] = []
    first.add_done_callback(lambda _: newcomers.append(asyncio.ensure_future(worlds.host("late", create={}))))
    await asyncio.wait([first])
    opened = await waiting
    assert first.exception() is not None
    assert await newcomers[0] is opened
    assert worlds.hosts["late"] is opened
