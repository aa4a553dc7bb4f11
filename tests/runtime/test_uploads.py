"""Bodies of frames: a 200 means that all is in the store, and what cannot be kept is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import websockets

from gateway.limits import MIB
from gateway.runtime import host as host_module
from gateway.runtime.gateway import Gateway
from gateway.store.embedded.engine import Engine
from gateway.wire import Frame, MessageStream, Record, decode_message, encode_control, encode_frame
from tests.patience import HANG_S
from tests.runtime.conftest import body, client_of, frame, until


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(gateway) as client:
        client.timeout = httpx.Timeout(120.0)
        yield client


@pytest.fixture
def held(gateway: Gateway) -> Iterator[threading.Event]:
    """The store takes no commit of a world before this is set; at the end it is."""
    engine = gateway.store.blocking()
    assert isinstance(engine, Engine)
    gate = threading.Event()
    run, run_each = engine.writer.run, engine.writer.run_each

    def wait_then(call: Any) -> Any:
        def called(jobs: Any) -> Any:
            gate.wait(HANG_S)
            return call(jobs)

        return called

    engine.writer.run, engine.writer.run_each = wait_then(run), wait_then(run_each)  # type: ignore[method-assign]
    yield gate
    gate.set()
    engine.writer.run, engine.writer.run_each = run, run_each  # type: ignore[method-assign]


def large(tick: int, size: int = MIB) -> bytes:
    return encode_frame(Frame(0, tick, [Record(1, tick.to_bytes(4, "little") * (size // 4))]))


async def recorded(client: httpx.AsyncClient, world: str) -> tuple[set[int], list[tuple[int, int]]]:
    """The ticks that GET frames gives, and the gaps that it names."""
    stream, ticks, gaps = MessageStream(), set(), []
    stream.feed((await client.get(f"/v1/worlds/{world}/frames")).content)
    for message in stream:
        what = decode_message(message)
        if isinstance(what, Frame):
            ticks.add(what.tick)
        else:
            gaps.append((what["from"], what["to"]))
    return ticks, gaps


async def test_a_200_means_that_every_frame_of_a_large_upload_is_in_the_store(
    client: httpx.AsyncClient,
) -> None:
    await client.put("/v1/worlds/w", json={"retention": "record"})

    async def pieces() -> AsyncIterator[bytes]:
        for tick in range(1, 61):
            yield body(large(tick))

    answer = await client.post("/v1/worlds/w/frames?durable=1", content=pieces())
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"epoch": 1, "tick": 60, "frames": 60, "durable": {"epoch": 1, "tick": 60}}
    assert await recorded(client, "w") == (set(range(1, 61)), [])
    assert (await client.get("/v1/worlds/w/gaps")).json()["gaps"] == []


async def test_an_upload_that_the_store_does_not_take_waits_and_is_told_how_far_it_came(
    gateway: Gateway, client: httpx.AsyncClient, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.set()
    await client.put("/v1/worlds/w", json={"retention": "record"})
    await client.post("/v1/worlds/w/frames?durable=1", content=body(large(1)))
    held.clear()
    monkeypatch.setattr(host_module, "DURABLE_S_MAX", 0.5)
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for tick in range(2, 101):
            sent = tick
            yield body(large(tick))

    refused = await client.post("/v1/worlds/w/frames", content=pieces())
    assert refused.status_code == 503
    problem = refused.json()
    assert (problem["code"], problem["durable"]) == ("store_unavailable", {"epoch": 1, "tick": 1})
    assert "tick 1 of epoch 1 is the last in it" in problem["detail"]
    world = gateway.worlds.hosts["w"].world
    kept = world.state.tick
    assert kept < 20
    assert world.counters.journal_dropped == 0
    held.set()
    await until(lambda: world.journal.empty, HANG_S)
    ticks, gaps = await recorded(client, "w")
    assert (ticks, gaps) == (set(range(1, kept + 1)), [])


async def test_a_ring_that_nobody_waits_for_never_stops_its_publisher(
    gateway: Gateway, client: httpx.AsyncClient, held: threading.Event
) -> None:
    held.set()
    await client.put("/v1/worlds/w")
    await client.post("/v1/worlds/w/frames?durable=1", content=body(large(1)))
    held.clear()
    answer = await client.post("/v1/worlds/w/frames", content=body(*map(large, range(2, 41))))
    assert (answer.status_code, answer.json()["tick"]) == (202, 40)
    held.set()
    world = gateway.worlds.hosts["w"].world
    await until(lambda: world.journal.empty, HANG_S)
    durable = await client.post("/v1/worlds/w/frames?durable=1", content=body(large(41)))
    assert durable.status_code == 200
    (dropped,) = durable.json()["dropped"]
    ticks, gaps = await recorded(client, "w")
    assert gaps == [tuple(dropped)]
    assert ticks | set(range(dropped[0], dropped[1] + 1)) == set(range(1, 42))
    told = (await client.get("/v1/worlds/w/gaps")).json()["gaps"]
    assert [(gap["from"], gap["to"]) for gap in told] == gaps


@pytest.mark.parametrize(
    "content",
    [b"", body(encode_control("hello")), body(b"\x01 not a frame"), b"\x10\x00"],
    ids=["empty", "control only", "malformed", "cut off"],
)
@pytest.mark.parametrize("durable", [0, 1])
async def test_a_body_without_a_frame_is_refused_and_takes_no_role(
    gateway: Gateway, client: httpx.AsyncClient, content: bytes, durable: int
) -> None:
    refused = await client.post(f"/v1/worlds/w/frames?durable={durable}", content=content)
    assert refused.status_code == 400
    assert (await client.get("/v1/worlds")).json()["worlds"] == []
    await client.put("/v1/worlds/w")
    await client.post(f"/v1/worlds/w/frames?durable={durable}", content=content)
    info = (await client.get("/v1/worlds/w")).json()
    assert (info["epoch"], info["publisher"]) == (0, None)
    taken = await client.post("/v1/worlds/w/frames?durable=1", content=body(frame(1, {1: b"x"})))
    assert taken.json()["epoch"] == 1


async def test_a_frame_in_parts_counts_once(client: httpx.AsyncClient) -> None:
    parts = [
        encode_frame(Frame(0, tick, [Record(part, b"x")], part=part, parts=3))
        for tick in (1, 2)
        for part in range(3)
    ]
    answer = await client.post("/v1/worlds/w/frames?durable=1", content=body(*parts))
    assert (answer.json()["frames"], answer.json()["tick"]) == (2, 2)


async def test_what_a_session_publishes_faster_than_the_store_takes_is_there_or_told_as_dropped(
    gateway: Gateway, client: httpx.AsyncClient, held: threading.Event
) -> None:
    held.set()
    await client.put("/v1/worlds/w", json={"retention": "record"})
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live?role=publish"
    async with websockets.connect(url, max_size=None) as publisher:
        await publisher.recv()
        held.clear()
        for tick in range(1, 41):
            await publisher.send(large(tick))
        await until(lambda: gateway.worlds.hosts["w"].world.state.tick == 40, HANG_S)
        held.set()
        told: list[dict[str, Any]] = []
        while not told or told[-1]["tick"] < 40:
            what = decode_message(await asyncio.wait_for(publisher.recv(), HANG_S))
            if not isinstance(what, Frame) and what.type == "durable":
                told.append(dict(what.fields))
    ticks, gaps = await recorded(client, "w")
    for notice in told:
        missing = set(range(1, notice["tick"] + 1)) - ticks
        named = {tick for low, high in notice.get("dropped", []) for tick in range(low, high + 1)}
        assert missing <= named
    assert [tuple(span) for span in told[-1]["dropped"]] == gaps
