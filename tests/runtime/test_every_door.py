"""Worlds that one address holds count the same by whatever door it came: one connection keeps nobody out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets

from gateway.client.trust import Trust
from gateway.quic.client import SessionRefused
from gateway.quic.client import connect as connect_quic
from gateway.runtime.gateway import Gateway
from gateway.wire import Control, MessageStream, decode_message
from tests.http.test_websocket_h2 import Tunnel
from tests.patience import HANG_S
from tests.runtime.conftest import StartGateway, body, client_of, frame

HELD = 2
Hold = Callable[[str], Awaitable[str]]
"""Takes a place in the world of that name and keeps it; what a refusal said, "" where there was none."""
Door = Callable[[Gateway, AsyncExitStack], Awaitable[Hold]]


def port_of(gateway: Gateway) -> int:
    assert gateway.plain_server is not None
    return gateway.plain_server.port


def ca_of(gateway: Gateway) -> str:
    return str(gateway.certificates.ca_path)


def told(data: bytes) -> str:
    message = decode_message(data)
    assert isinstance(message, Control)
    return "" if message.type == "welcome" else str(message["message"])


async def over_http(gateway: Gateway, stack: AsyncExitStack, **more: Any) -> Hold:
    """One client; over HTTP/2 that is one connection."""
    context = ssl.create_default_context(cafile=ca_of(gateway))
    client = await stack.enter_async_context(
        httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{gateway.port}", verify=context, timeout=HANG_S, **more
        )
    )

    async def hold(world: str) -> str:
        answer = await stack.enter_async_context(client.stream("GET", f"/v1/worlds/{world}/live"))
        assert answer.http_version == ("HTTP/2" if more.get("http2") else "HTTP/1.1")
        if answer.status_code >= 400:
            return (await answer.aread()).decode()
        stream, pieces = MessageStream(), answer.aiter_bytes()
        while (first := stream.pull()) is None:
            stream.feed(await anext(pieces))
        stack.push_async_callback(keep, pieces)
        return told(first)

    return hold


async def by_http_1(gateway: Gateway, stack: AsyncExitStack) -> Hold:
    return await over_http(gateway, stack)


async def by_http_2(gateway: Gateway, stack: AsyncExitStack) -> Hold:
    return await over_http(gateway, stack, http1=False, http2=True)


async def by_http_3(gateway: Gateway, stack: AsyncExitStack) -> Hold:
    client = await stack.enter_async_context(
        await connect_quic(
            "127.0.0.1", gateway.port, trust=Trust.of(ca=ca_of(gateway)).for_quic(), timeout_s=HANG_S
        )
    )

    async def hold(world: str) -> str:
        answer = await client.request("GET", f"/v1/worlds/{world}/live")
        if answer.status >= 400:
            return (await answer.read(65_536)).decode()
        stack.push_async_callback(keep, answer)
        return ""

    return hold


async def keep(answer: object) -> None:
    """Until the end: an answer that nobody holds is given up."""


async def by_websocket(gateway: Gateway, stack: AsyncExitStack) -> Hold:
    async def hold(world: str) -> str:
        url = f"ws://127.0.0.1:{port_of(gateway)}/v1/worlds/{world}/live"
        socket = await stack.enter_async_context(websockets.connect(url))
        first = await asyncio.wait_for(socket.recv(), HANG_S)
        assert isinstance(first, bytes)
        return told(first)

    return hold


async def by_websocket_in_http_2(gateway: Gateway, stack: AsyncExitStack) -> Hold:
    async def hold(world: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(gateway))
        stack.callback(writer.transport.abort)
        tunnel = Tunnel(reader, writer)
        stack.push_async_callback(keep, tunnel)
        assert await tunnel.open(f"/v1/worlds/{world}/live") == "200"
        return told(bytes((await tunnel.receive()).payload))

    return hold


class Silent:
    """A session that only stays."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


async def by_webtransport(gateway: Gateway, stack: AsyncExitStack) -> Hold:
    client = await stack.enter_async_context(
        await connect_quic(
            "127.0.0.1", gateway.port, trust=Trust.of(ca=ca_of(gateway)).for_quic(), timeout_s=HANG_S
        )
    )

    async def hold(world: str) -> str:
        try:
            link = await client.webtransport(f"/v1/worlds/{world}/live", lambda link: Silent())  # type: ignore[arg-type, return-value]
        except SessionRefused as refused:
            return str(refused.problem)
        stack.push_async_callback(keep, link)
        return ""

    return hold


async def by_udp(gateway: Gateway, stack: AsyncExitStack) -> Hold:
    async def hold(world: str) -> str:
        async with client_of(gateway) as client:
            answer = await client.post(f"/v1/worlds/{world}/udp")
        return answer.text if answer.status_code >= 400 else ""

    return hold


async def by_posts(gateway: Gateway, stack: AsyncExitStack) -> Hold:
    async def hold(world: str) -> str:
        async with client_of(gateway) as client:
            answer = await client.post(f"/v1/worlds/{world}/frames", content=body(frame(1, {1: b"x"})))
        return answer.text if answer.status_code >= 400 else ""

    return hold


DOORS = {
    "HTTP/1.1": by_http_1,
    "HTTP/2": by_http_2,
    "HTTP/3": by_http_3,
    "WebSocket": by_websocket,
    "WebSocket in HTTP/2": by_websocket_in_http_2,
    "WebTransport": by_webtransport,
    "UDP": by_udp,
    "POST": by_posts,
}


@asynccontextmanager
async def made(gateway: Gateway, count: int) -> AsyncIterator[None]:
    """Worlds w0, w1, … are there."""
    async with client_of(gateway) as client:
        for n in range(count):
            (await client.put(f"/v1/worlds/w{n}")).raise_for_status()
    yield


@pytest.mark.parametrize("door", DOORS)
async def test_one_address_holds_so_many_worlds_by_each_door_and_no_other_lets_it_have_more(
    start_gateway: StartGateway, door: str
) -> None:
    gateway = await start_gateway(udp="127.0.0.1:0", worlds_per_address_max=HELD, worlds_max=HELD + 2)
    async with AsyncExitStack() as stack, made(gateway, HELD + 1):
        hold = await DOORS[door](gateway, stack)
        for n in range(HELD):
            assert await hold(f"w{n}") == ""
        assert "--worlds-per-address-max" in await hold(f"w{HELD}")
        assert gateway.refusals.counts["worlds_per_address_max"] == 1
        for name, other in DOORS.items():
            assert "--worlds-per-address-max" in await (await other(gateway, stack))(f"w{HELD}"), name
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=transport, timeout=HANG_S) as elsewhere:
            url = f"http://127.0.0.1:{port_of(gateway)}/v1/worlds/theirs/frames"
            assert (await elsewhere.post(url, content=body(frame(1, {1: b"x"})))).status_code == 202


@pytest.mark.parametrize("door", DOORS)
async def test_what_left_by_a_door_gives_its_world_back(start_gateway: StartGateway, door: str) -> None:
    if door in ("UDP", "POST"):
        pytest.skip("a publisher without a connection leaves when it has been silent for long")
    gateway = await start_gateway(worlds_per_address_max=1)
    async with made(gateway, 2):
        for n in range(2):
            async with AsyncExitStack() as stack:
                assert await (await DOORS[door](gateway, stack))(f"w{n}") == ""
            async with asyncio.timeout(HANG_S):
                while gateway.worlds.sessions:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
