"""Gateways over one store that serve each other's worlds, each a process that is killed or stopped for real."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import websockets

from gateway.client import Publisher, Subscriber
from gateway.wire import Control, Frame, encode_control
from tests.patience import HANG_S
from tests.runtime.conftest import FRAMES, GatewayProcess, StartProcess, body, frame, until
from tests.runtime.faults.driver import StoreProcess
from tests.runtime.test_two_gateways import control, durable, node, publish, recorded, session
from tests.runtime.test_workers_readers import message_of, moves, replays, said_until, values_until

PEERS = ("--peers", "store", "--linger-ms", "120000")


class Three(NamedTuple):
    """Gateways over one store, and a world for one test."""

    a: GatewayProcess
    b: GatewayProcess
    c: GatewayProcess
    world: str


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    store = StoreProcess(tmp_path_factory.mktemp("remote"))
    yield store.flags
    store.kill()


@pytest.fixture(scope="module")
def living(
    flags: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[GatewayProcess]]:
    folder = tmp_path_factory.mktemp("gateways")
    found = [GatewayProcess(folder, *flags, *PEERS, log=folder / f"{name}.log") for name in "abc"]
    try:
        yield [gateway.wait_ready() for gateway in found]
    finally:
        for gateway in found:
            gateway.kill()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> str:
    return "w-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:16]


@pytest.fixture
def three(living: list[GatewayProcess], world: str) -> Three:
    a, b, c = living
    return Three(a, b, c, world)


@pytest.fixture
def mortal(flags: tuple[str, ...], start_process: StartProcess, world: str, tmp_path: Path) -> Three:
    """Three of this test's own, to be killed."""
    found = [start_process(*flags, *PEERS, log=tmp_path / f"{name}.log") for name in "abc"]
    a, b, c = (gateway.wait_ready() for gateway in found)
    return Three(a, b, c, world)


@asynccontextmanager
async def served(
    gateway: GatewayProcess, world: str, query: str = ""
) -> AsyncIterator[tuple[websockets.ClientConnection, Control]]:
    """A session that is welcome. Where the machine stood still for seconds the home was not followed in time, and the first
    answer was its address: then once more."""
    async with asyncio.timeout(HANG_S) as patience, AsyncExitStack() as stack:
        while True:
            link, first = await stack.enter_async_context(session(gateway, world, query))
            if first.type == "welcome":
                break
            assert first["code"] in ("world_held", "store_unavailable"), first
        patience.reschedule(None)
        yield link, first


async def info(gateway: GatewayProcess, world: str) -> Any:
    async with httpx.AsyncClient(base_url=gateway.base_url, timeout=HANG_S) as client:
        return (await client.get(f"/v1/worlds/{world}")).json()


async def test_a_reader_is_answered_where_it_lands_and_gets_every_frame(three: Three) -> None:
    a, b, c, world = three
    async with served(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 11))
        await durable(publisher, 10)
        async with (
            served(b, world, "conflate=0") as (near, first),
            served(c, world, "conflate=0") as (other, second),
        ):
            for welcome in (first, second):
                assert (welcome.type, welcome["epoch"], welcome["tick"]) == ("welcome", 1, 10)
                assert welcome["hops"] == 1
            for link in (near, other):
                assert await values_until(link, {1: b"10"}) == {1: b"10"}
            await publish(publisher, range(11, 61))
            for link in (near, other):
                found = []
                while not found or found[-1] < 60:
                    message = await message_of(link)
                    if isinstance(message, Frame):
                        found.append(message.tick)
                assert found == list(range(11, 61))
        await durable(publisher, 60)
    assert await recorded(c, world, 1) == list(range(1, 61))


async def test_how_far_and_how_old_a_world_is_told_where_it_is_followed(three: Three) -> None:
    a, b, _, world = three
    async with served(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 4))
        await durable(publisher, 3)
        async with served(b, world) as (reader, welcome):
            assert (welcome["hops"], welcome["stale_ms"] < 5_000) == (1, True)
            await values_until(reader, {1: b"3"})
            async with httpx.AsyncClient(timeout=HANG_S) as client:
                for gateway, hops in ((b, "1"), (a, None)):
                    last = await client.get(f"{gateway.base_url}/v1/worlds/{world}/frames/last")
                    assert (last.headers["x-tick"], last.headers.get("x-hops")) == ("3", hops)
                    assert ("x-stale-ms" in last.headers) is (hops is not None)
                answer = await client.get(f"{b.base_url}/v1/worlds/{world}")
                assert answer.headers["x-hops"] == "1"
                assert answer.json()["hops"] == 1
                assert int(answer.headers["x-stale-ms"]) == answer.json()["stale_ms"] < 5_000
                assert answer.json()["home"] == node(a)
                assert answer.json()["tick"] == 3
                own = await client.get(f"{a.base_url}/v1/worlds/{world}")
                assert "x-hops" not in own.headers


async def test_a_publisher_is_welcome_where_it_lands_once_no_other_publishes(three: Three) -> None:
    world, tick = three.world, 0
    for turn, gateway in enumerate((three.a, three.b, three.c, three.b, three.a)):
        query = f"role=publish&epoch={1 if turn else 0}"
        async with served(gateway, world, query) as (publisher, welcome):
            assert (welcome.type, welcome["epoch"], welcome["tick"]) == ("welcome", 1, tick), turn
            await publish(publisher, range(tick + 1, tick + 11))
            tick += 10
            assert (await info(gateway, world))["home"] == node(gateway)
    async with served(three.c, world, "role=publish&epoch=1") as (publisher, welcome):
        assert welcome["tick"] == tick
    assert await recorded(three.a, world, 1) == list(range(1, tick + 1))


async def test_the_same_publisher_goes_on_at_another_gateway_by_its_secret_and_readers_see_no_resync(
    three: Three,
) -> None:
    a, b, c, world = three
    async with AsyncExitStack() as stack:
        first, welcome = await stack.enter_async_context(served(a, world, "role=publish"))
        await publish(first, range(1, 6))
        readers = [(await stack.enter_async_context(served(at, world)))[0] for at in (a, b, c)]
        for reader in readers:
            await values_until(reader, {1: b"5"})
        async with session(b, world, "role=publish&epoch=1") as (_, refusal):
            assert (refusal["code"], refusal["url"]) == ("world_held", node(a))
        query = f"role=publish&epoch=1&resume={welcome['resume']}"
        second, again = await stack.enter_async_context(served(b, world, query))
        assert (again.type, again["epoch"], again["tick"]) == ("welcome", 1, 5)
        bye = await control(first, "bye")
        assert (bye["reason"], bye["url"]) == ("reconnected", node(b))
        tick = 5

        async def all_have_it() -> bool:
            nonlocal tick
            tick += 1
            await publish(second, range(tick, tick + 1))
            return all(
                [(await info(at, world))["tick"] >= tick for at in (a, c)]
            )  # readers at both follow by now

        await until(all_have_it, HANG_S)
        await publish(second, range(tick + 1, tick + 2))
        for reader in readers:
            assert await said_until(reader, tick + 1) == []
        await durable(second, tick + 1)
        assert await recorded(c, world, 1) == list(range(1, tick + 2))


async def test_a_takeover_at_another_gateway_loses_nothing_and_says_where_it_is(three: Three) -> None:
    a, b, c, world = three
    async with AsyncExitStack() as stack:
        first, _ = await stack.enter_async_context(served(a, world, "role=publish"))
        reader, _ = await stack.enter_async_context(served(c, world))
        await publish(first, range(1, 31))
        await values_until(reader, {1: b"30"})
        taker, welcome = await stack.enter_async_context(served(b, world, "role=publish&takeover=1"))
        assert (welcome["epoch"], welcome["durable"]) == (2, {"epoch": 1, "tick": 30})
        bye = await control(first, "bye")
        assert (bye["reason"], bye["url"]) == ("taken_over", node(b))
        await publish(taker, range(1, 4))
        await values_until(reader, {1: b"3"})
        assert await recorded(c, world, 1) == list(range(1, 31))


async def test_posts_to_any_gateway_are_taken(three: Three) -> None:
    world = three.world
    async with httpx.AsyncClient(timeout=HANG_S) as client:
        for turn, gateway in enumerate((three.a, three.b, three.c, three.a)):
            posted = await client.post(
                f"{gateway.base_url}/v1/worlds/{world}/frames?durable=1",
                content=body(frame(1, {turn: b"%d" % turn})),
                headers={"content-type": FRAMES},
            )
            assert posted.status_code == 200, posted.text
        last = await client.get(
            f"{three.b.base_url}/v1/worlds/{world}/frames/last", headers={"accept": "application/json"}
        )
        assert set(last.json()["records"]) == {"0", "1", "2", "3"}


async def test_entities_sleep_wake_and_are_leased_at_any_gateway_whatever_the_home(three: Three) -> None:
    a, b, c, world = three
    async with (
        served(a, world, "role=publish") as (publisher, _),
        served(c, world) as (reader, _),
        httpx.AsyncClient(timeout=HANG_S) as client,
    ):
        await publish(publisher, range(1, 5))
        await values_until(reader, {1: b"4"})
        for turn, at in enumerate((b, c, a, b)):
            path = f"{at.base_url}/v1/worlds/{world}/entities/e%20%C3%A9%3A1"
            slept = await client.post(path + ":hibernate", json={"key": 1})
            assert slept.status_code in (200, 201), (turn, slept.text)
            await values_until(reader, {1: None})
            assert (
                await client.get(f"{c.base_url}/v1/worlds/{world}/entities/e%20%C3%A9%3A1")
            ).content == b"4"
            woken = await client.post(path + ":wake", json={"key": 1})
            assert woken.status_code == 200, (turn, woken.text)
            await values_until(reader, {1: b"4"})
        missing = await client.post(f"{b.base_url}/v1/worlds/{world}/entities/nobody:wake", json={})
        assert missing.status_code == 404, missing.text
        assert missing.headers["content-type"] == "application/problem+json"
        lease = await client.post(f"{b.base_url}/v1/worlds/{world}/leases", json={"owner": "s"})
        assert lease.status_code == 201
        again = await client.post(f"{c.base_url}/v1/worlds/{world}/leases", json={"owner": "s"})
        assert again.status_code == 409


async def test_budget_focus_redundancy_replay_and_follow_are_the_same_through_an_edge(three: Three) -> None:
    a, b, c, world = three
    keys = range(300)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        publisher, _ = await enter(served(a, world, "role=publish"))
        there, _ = await enter(served(c, world + "-b", "role=publish"))
        await publisher.send(frame(1, dict.fromkeys(keys, bytes(200))))
        await publish(there, range(1, 4))
        await durable(publisher, 1)
        async with httpx.AsyncClient(timeout=HANG_S) as client:
            put = await client.put(f"{c.base_url}/v1/worlds/{world}/entities/hero", content=b"x")
            assert put.status_code == 201, put.text
        slow, _ = await enter(served(b, world, "budget_kbps=128&redundancy=off"))
        fast, _ = await enter(served(b, world, "zstd=1&parity=1&follow=hero"))
        await values_until(slow, dict.fromkeys(keys, bytes(200)))
        await values_until(fast, dict.fromkeys(keys, bytes(200)))
        await slow.send(encode_control("focus", keys=[299], weights=[64]))
        await slow.send(encode_control("ping"))
        await control(slow, "pong")
        await publisher.send(frame(2, dict.fromkeys(keys, b"2" * 200)))
        await values_until(fast, dict.fromkeys(keys, b"2" * 200))
        came: list[int] = []
        while 299 not in came:
            message = await message_of(slow)
            if isinstance(message, Frame):
                came += [record.key for record in message.records if record.data != bytes(200)]
        assert came.index(299) < 150, "what it focuses on had to wait for half of all there is"
        await durable(publisher, 2)
        replay = await enter(replays(b, world, "speed=max&epoch=1"))
        assert await values_until(replay, {299: b"2" * 200})
        await moves(c, "hero", world, world + "-b")
        assert (await control(fast, "moved"))["world"] == world + "-b"
        assert (await control(fast, "welcome"))["tick"] == 3
        await values_until(fast, {1: b"3"})


@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_the_python_client_reads_and_publishes_through_edges(three: Three, transport: Any) -> None:
    a, b, c, world = three
    async with (
        served(a, world, "role=publish") as (first, _),
        served(b, world),
        served(c, world),
    ):
        await first.close()
        await reads_and_publishes(three, transport)


async def reads_and_publishes(three: Three, transport: Any) -> None:
    a, b, c, world = three
    ca = a.folder / "certs" / "ca.pem"
    async with (
        Publisher(node(a), world, transport=transport, ca=ca) as publisher,
        Subscriber(node(b), world, transport=transport, ca=ca) as near,
        Subscriber(node(c), world, transport=transport, ca=ca) as other,
    ):
        tick = 0

        def arrived() -> bool:
            nonlocal tick
            tick += 1
            publisher.send({7: b"%d" % tick}, tick=tick)
            return all(int((one.records() or {}).get(7, b"0")) > 20 for one in (near, other))

        await until(arrived, HANG_S)
        assert (near.address.base_url, other.address.base_url) == (node(b), node(c))


async def test_a_world_that_nobody_publishes_is_read_anywhere_and_its_readers_follow_the_home_it_gets(
    three: Three,
) -> None:
    a, b, c, world = three
    async with httpx.AsyncClient(timeout=HANG_S) as client:
        (await client.put(f"{a.base_url}/v1/worlds/{world}")).raise_for_status()
    async with served(b, world) as (reader, welcome):
        assert welcome.type == "welcome"
        for epoch, gateway in enumerate((a, c, b, a), start=1):
            async with served(gateway, world, "role=publish") as (publisher, told):
                assert told["epoch"] == epoch
                await publish(publisher, range(1, 6))
                while True:
                    message = await message_of(reader)
                    if isinstance(message, Frame) and (message.epoch, message.tick) == (epoch, 5):
                        break


async def test_nobody_is_told_anything_but_those_who_ask_and_no_message_of_theirs_ends_a_gateway(
    three: Three,
) -> None:
    a, _, _, world = three
    async with served(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 3))
        async with served(a, world) as (reader, _):
            for _ in range(50):
                await reader.send(encode_control("edge"))
            told = await control(reader, "source")
            assert (told["home"], told["hops"], told["epoch"], told["records"]) == (True, 0, 1, 1)
            assert len(told["via"]) == 1
            await reader.send(encode_control("ping"))
            said = []
            while "pong" not in said:
                said.append((await control(reader)).type)
            assert said.count("source") < 25, "it was answered each time that it asked"


async def test_gateways_of_several_workers_follow_and_are_followed(
    flags: tuple[str, ...], start_process: StartProcess, three: Three, tmp_path: Path
) -> None:
    one, world = three.a, three.world
    several = start_process(
        *flags, *PEERS, "--workers", "2", "--certs", str(one.folder / "certs"), log=tmp_path / "log"
    ).wait_ready()
    for epoch, (home, other) in enumerate(((several, one), (one, several)), start=1):
        async with AsyncExitStack() as stack:
            publisher, welcome = await stack.enter_async_context(served(home, world, "role=publish"))
            assert welcome["epoch"] == epoch
            await publish(publisher, range(1, 4))
            readers = [
                (await stack.enter_async_context(served(at, world)))[0] for at in [home] * 4 + [other] * 4
            ]
            for reader in readers:
                await values_until(reader, {1: b"3"})
            await publish(publisher, range(4, 31))
            for reader in readers:
                await values_until(reader, {1: b"30"})
