"""Every bound that an operator meets: at it all is well, one over is refused by the name of its setting, and counted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import websockets

from gateway.config import SETTINGS
from gateway.runtime.gateway import Gateway
from gateway.wire import Control, decode_message
from tests.runtime.conftest import StartGateway, body, client_of, frame

Work = Callable[[Gateway, AsyncExitStack, int], Awaitable[str]]
"""Does the n-th thing that a bound is on; what a refusal said, "" where it was let in."""


async def first_words(gateway: Gateway, stack: AsyncExitStack, path: str) -> str:
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}{path}"
    try:
        socket = await stack.enter_async_context(websockets.connect(url))
    except websockets.InvalidStatus as refused:
        return refused.response.body.decode()
    message = await asyncio.wait_for(socket.recv(), 10)
    assert isinstance(message, bytes)
    told = decode_message(message)
    assert isinstance(told, Control)
    return "" if told.type == "welcome" else str(told["message"])


async def answered(gateway: Gateway, method: str, path: str, **more: Any) -> str:
    async with client_of(gateway) as client:
        answer = await client.request(method, path, **more)
    return answer.text if answer.status_code >= 400 else ""


async def publish_another(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    return await first_words(gateway, stack, f"/v1/worlds/w{n}/live?role=publish")


async def read(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    await answered(gateway, "PUT", "/v1/worlds/w")
    return await first_words(gateway, stack, "/v1/worlds/w/live")


async def replay(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    await answered(gateway, "PUT", "/v1/worlds/w")
    return await first_words(gateway, stack, "/v1/worlds/w/replay")


async def make(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    return await answered(gateway, "PUT", f"/v1/worlds/w{n}")


async def mark(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    if not n:
        await answered(gateway, "POST", "/v1/worlds/w/frames?durable=1", content=body(frame(1, {1: b"x"})))
    return await answered(gateway, "POST", "/v1/worlds/w/marks", json={"name": f"m{n}"})


async def ask(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    told = ""
    async with client_of(gateway) as client:
        for _ in range(1 if n < 10 else 40):  # what comes back meanwhile is one a second
            answer = await client.get("/healthz")
            told = told or (answer.text if answer.status_code == 429 else "")
    return told


async def put_entity(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    if n:  # to replace what is there is no more of it
        assert await answered(gateway, "PUT", "/v1/inventories/ann/items/e0", content=b"y") == ""
    return await answered(gateway, "PUT", f"/v1/inventories/ann/items/e{n}", content=b"x")


async def put_record(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    return await answered(
        gateway, "POST", "/v1/worlds/w/frames", content=body(frame(n + 1, {n: os.urandom(500)}))
    )


async def put_bytes(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    return await answered(
        gateway, "POST", "/v1/worlds/w/frames", content=body(frame(n + 1, {n: bytes(1_088)}))
    )


async def send_message(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    size = 2_000 + n - len(frame(1, {1: b""}))
    return await answered(
        gateway, "POST", "/v1/worlds/w/frames", content=body(frame(n + 1, {1: bytes(size)}))
    )


BOUNDS: list[tuple[str, dict[str, int], int, Work]] = [
    ("worlds_max", {"worlds_max": 2}, 2, publish_another),
    ("worlds_per_address_max", {"worlds_per_address_max": 2}, 2, publish_another),
    ("worlds_made_per_address_per_min", {"worlds_made_per_address_per_min": 3}, 3, make),
    ("readers_per_world_max", {"readers_per_world_max": 3}, 3, read),
    ("replays_max", {"replays_max": 4}, 1, replay),
    ("marks_per_world_max", {"marks_per_world_max": 2}, 2, mark),
    ("entities_per_world_max", {"entities_per_world_max": 3}, 3, put_entity),
    ("requests_per_address_per_s", {"requests_per_address_per_s": 1}, 10, ask),
    ("records_per_world_max", {"records_per_world_max": 4}, 4, put_record),
    ("world_bytes_max", {"world_bytes_max": 3_300}, 3, put_bytes),
    ("max_message_bytes", {"max_message_bytes": 2_000}, 1, send_message),
]


@pytest.mark.parametrize(("bound", "settings", "at", "work"), BOUNDS, ids=[row[0] for row in BOUNDS])
async def test_at_the_bound_all_is_well_and_one_over_is_refused_by_name(
    start_gateway: StartGateway, bound: str, settings: dict[str, int], at: int, work: Work
) -> None:
    gateway = await start_gateway(**settings)
    async with AsyncExitStack() as stack:
        for n in range(at):
            assert await work(gateway, stack, n) == "", f"{n + 1} of {at}"
        refusal = await work(gateway, stack, at)
        named = "2000" if bound == "max_message_bytes" else "--" + bound.replace("_", "-")
        assert named in refusal
        if bound != "max_message_bytes":
            assert gateway.refusals.counts[bound] >= 1
            shown = "".join(
                f"{s.labels}" for m in gateway.metrics.gather() for s in m.samples if "refusals" in m.name
            )
            assert bound in shown


async def test_what_was_left_is_there_again(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(worlds_per_address_max=1, readers_per_world_max=1, replays_max=4)
    for _ in range(3):
        async with AsyncExitStack() as stack:
            assert await publish_another(gateway, stack, 0) == ""
            assert await first_words(gateway, stack, "/v1/worlds/w0/live") == ""
            assert await first_words(gateway, stack, "/v1/worlds/w0/replay") == ""
        async with asyncio.timeout(10):
            while gateway.worlds.sessions or gateway.recordings._replays:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert not gateway.worlds.shares._sessions


async def test_worlds_held_by_one_address_leave_room_for_another(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(worlds_max=4, worlds_per_address_max=2, host="127.0.0.1")
    assert gateway.plain_server is not None
    async with AsyncExitStack() as stack:
        for n in range(6):
            await publish_another(gateway, stack, n)
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=transport) as other:
            url = f"http://127.0.0.1:{gateway.plain_server.port}/v1/worlds/theirs/frames"
            assert (await other.post(url, content=body(frame(1, {1: b"x"})))).status_code == 202


def test_every_bound_has_a_range_and_a_test() -> None:
    elsewhere = {
        "quic_connections_max": "tests/quic/test_admission.py",
        "connections_per_address_max": "tests/quic/test_admission.py",
        "handshakes_per_address_per_s": "tests/quic/test_admission.py",
        "tcp_connections_max": "tests/abuse/test_tcp.py",
        "reader_datagrams_max": "tests/core/test_reader.py",
    }
    bounds = {s.name for s in SETTINGS if s.name.endswith(("_max", "_per_s", "_per_min")) or "max_" in s.name}
    assert bounds == {row[0] for row in BOUNDS} | set(elsewhere)
    assert all(s.metadata["low"] and s.metadata["high"] for s in SETTINGS if s.name in bounds)
