"""What a reader may ask for, of several workers: the same at each of them, whichever is the world's home."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import websockets

from gateway.wire import Control, Frame, decode_message, encode_control
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess, StartProcess, frame
from tests.runtime.test_two_gateways import control, durable, publish, session
from tests.runtime.test_workers import (
    Link,
    home_of,
    living,
    process_of,
    readers_by_worker,
    readers_everywhere,
    reconnected,
    world,
)

__all__ = ["living", "world"]


async def message_of(link: Link) -> Frame | Control:
    async with asyncio.timeout(HANG_S):
        while True:
            data = await link.recv()
            assert isinstance(data, bytes)
            message = decode_message(data)
            assert not (isinstance(message, Control) and message.type in ("bye", "error")), message
            if isinstance(message, Frame | Control):
                return message


async def values_until(link: Link, wanted: dict[int, bytes | None]) -> dict[int, bytes | None]:
    """What a reader holds once that is among it."""
    held: dict[int, bytes | None] = {}
    while not wanted.items() <= held.items():
        message = await message_of(link)
        if isinstance(message, Frame):
            held.update({record.key: record.data for record in message.records})
    return held


async def moves(gateway: GatewayProcess, entity: str, source: str, to: str) -> None:
    """An entity's transfer; the two requests come to whichever worker the kernel picks."""
    async with httpx.AsyncClient(
        base_url=gateway.base_url, timeout=HANG_S, headers={"connection": "close"}
    ) as client:
        offer = {"entities": [entity], "from": source, "to": to}
        offered = await client.post("/v1/transfers", json=offer)
        assert offered.status_code < 300, offered.text
        accepted = await client.post(f"/v1/transfers/{offered.json()['ticket']}:accept", json={})
        assert accepted.status_code < 300, accepted.text


@asynccontextmanager
async def replays(gateway: GatewayProcess, world: str, query: str) -> AsyncIterator[Link]:
    url = f"ws://127.0.0.1:{gateway.port('plain')}/v1/worlds/{world}/replay?{query}"
    async with websockets.connect(url, max_size=None) as link:
        yield link


async def test_who_follows_an_entity_at_any_worker_goes_with_it_from_world_to_world_and_back(
    living: GatewayProcess, world: str
) -> None:
    worlds = [world, world + "-b"]
    async with AsyncExitStack() as stack:
        publishers = []
        for name in worlds:
            link, _ = await stack.enter_async_context(session(living, name, "role=publish"))
            await publish(link, range(1, 6))
            await durable(link, 5)
            publishers.append(link)
        async with httpx.AsyncClient(base_url=living.base_url, timeout=HANG_S) as client:
            put = await client.put(f"/v1/worlds/{world}/entities/hero", content=b"x")
            assert put.status_code == 201, put.text
        readers = await stack.enter_async_context(readers_everywhere(living, world, "follow=hero"))
        newest = [5, 5]
        for turn in (1, 2, 3):
            at = turn % 2
            source, to = worlds[1 - at], worlds[at]
            await moves(living, "hero", source, to)
            for link, _ in readers:
                moved = await control(link, "moved")
                assert (moved["world"], moved["entity"]) == (to, "hero")
                welcome = await control(link, "welcome")
                assert (welcome["world"], welcome["tick"]) == (to, newest[at])
            newest[at] += 1
            await publishers[at].send(frame(newest[at], {9: b"turn %d" % turn}))
            for link, _ in readers:
                assert (await values_until(link, {9: b"turn %d" % turn}))[1] == b"5"


async def test_a_replay_is_the_same_at_any_worker_while_the_world_is_live(
    living: GatewayProcess, world: str
) -> None:
    async with session(living, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 41))
        await durable(publisher, 40)
        async with readers_everywhere(living, world):
            for _ in range(8):
                async with replays(living, world, "speed=max&epoch=1") as link:
                    assert (await control(link, "welcome"))["world"] == world
                    held = await values_until(link, {1: b"40"})
                    assert held == {1: b"40"}
            await publish(publisher, range(41, 43))
            await durable(publisher, 42)


async def test_what_a_reader_focuses_on_comes_first_at_any_worker(living: GatewayProcess, world: str) -> None:
    keys = range(400)
    async with session(living, world, "role=publish") as (publisher, _):
        await publisher.send(frame(1, {key: bytes(200) for key in keys}))
        async with readers_everywhere(living, world, "budget_kbps=128") as readers:
            for link, _ in readers:
                await values_until(link, {key: bytes(200) for key in keys})
                await link.send(encode_control("focus", keys=[399], weights=[64]))
                await link.send(encode_control("ping"))
                await control(link, "pong")
            await publisher.send(frame(2, dict.fromkeys(keys, b"2" * 200)))
            for link, _ in readers:
                came: list[int] = []
                while not came or came[-1] != 399:
                    message = await message_of(link)
                    if isinstance(message, Frame) and message.epoch == 1:
                        came += [record.key for record in message.records if record.data != bytes(200)]
                        came = came[: came.index(399) + 1] if 399 in came else came
                assert len(came) < 200, "what it focuses on had to wait for half of all there is"
                await values_until(link, {key: b"2" * 200 for key in (0, 1, 2) if key not in came})


@pytest.mark.parametrize("query", ["redundancy=off", "redundancy=auto&parity=1", "parity=1&zstd=1"])
async def test_redundancy_is_understood_at_any_worker(living: GatewayProcess, world: str, query: str) -> None:
    async with session(living, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 3))
        async with readers_everywhere(living, world, query) as readers:
            for link, _ in readers:
                await link.send(encode_control("redundancy", mode="auto", parity=False))
                await link.send(encode_control("ping"))
                await control(link, "pong")
            await publish(publisher, range(3, 30))
            for link, _ in readers:
                await values_until(link, {1: b"29"})


async def test_a_world_that_is_deleted_is_gone_for_the_readers_of_every_worker(
    living: GatewayProcess, world: str
) -> None:
    async with session(living, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 3))
        async with readers_everywhere(living, world) as readers:
            async with httpx.AsyncClient(base_url=living.base_url, timeout=HANG_S) as client:
                assert (await client.delete(f"/v1/worlds/{world}")).status_code == 200
            for link, _ in readers:
                assert (await control(link, "bye"))["reason"] == "world deleted"


async def test_readers_that_stay_get_no_resync_when_their_worker_becomes_the_home_of_the_same_run(
    start_process: StartProcess, world: str, tmp_path: Any
) -> None:
    gateway = start_process("--workers", "2", log=tmp_path / "log").wait_ready()
    async with AsyncExitStack() as stack:
        publisher, _ = await stack.enter_async_context(session(gateway, world, "role=publish"))
        await publish(publisher, range(1, 31))
        await durable(publisher, 30)
        home = await home_of(gateway, world)
        readers = await stack.enter_async_context(readers_everywhere(gateway, world))
        os.kill(process_of(gateway, home), signal.SIGKILL)
        again, welcome = await stack.enter_async_context(reconnected(gateway, world, "role=publish&epoch=1"))
        assert (welcome.type, welcome["epoch"]) == ("welcome", 1)
        await publish(again, range(31, 61))
        stayed = 0
        for link, _ in readers:
            with suppress(websockets.ConnectionClosed):
                stayed += await said_until(link, 60) == ["resync"]
        assert stayed >= 1
        assert await readers_by_worker(gateway, world)


async def said_until(link: Link, tick: int) -> list[str]:
    """The control messages that come before that tick."""
    said = []
    while True:
        message = await message_of(link)
        if isinstance(message, Control):
            said.append(message.type)
        elif message.tick == tick:
            return said
