"""Access control where several processes are one gateway: whichever of them is asked, the same grant gives the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
import websockets

from gateway.wire import Control, decode_message, encode_control
from tests.access.conftest import ALL, Maker
from tests.patience import HANG_S
from tests.runtime.conftest import FRAMES, GatewayProcess, body, frame
from tests.runtime.test_two_gateways import control, durable, publish, session

ROUNDS = 8
"""Connections, each of which the kernel deals to one of two workers."""


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def gated(maker: Maker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gated")
    gateway = GatewayProcess(folder, "--workers", "2", "--auth-keys", str(maker.folder), log=folder / "log")
    try:
        yield gateway.wait_ready()
    finally:
        gateway.terminate()


def client_of(gateway: GatewayProcess, token: str | None) -> httpx.AsyncClient:
    """Each request on a connection of its own."""
    headers = {"connection": "close", **({} if token is None else {"authorization": f"Bearer {token}"})}
    return httpx.AsyncClient(base_url=gateway.base_url, timeout=HANG_S, headers=headers)


async def test_a_grant_counts_at_every_worker_and_what_is_passed_on_needs_one_as_well(
    gated: GatewayProcess, maker: Maker
) -> None:
    token = maker.token({"sub": ["plaza"], "pub": ["plaza"], "ent": ["plaza"]})
    other = maker.token({"sub": ["plaza"], "pub": ["other"]})
    async with AsyncExitStack() as stack:
        publisher, welcome = await stack.enter_async_context(
            session(gated, "plaza", f"role=publish&token={token}")
        )
        assert welcome.type == "welcome"
        await publish(publisher, range(1, 6))
        await durable(publisher, 5)
        ours = await stack.enter_async_context(client_of(gated, token))
        theirs = await stack.enter_async_context(client_of(gated, other))
        nobody = await stack.enter_async_context(client_of(gated, None))
        for _ in range(ROUNDS):
            for client, status in ((nobody, 401), (theirs, 403), (ours, 404)):
                slept = await client.post("/v1/worlds/plaza/entities/e:hibernate", json={"key": 9})
                assert slept.status_code == status, slept.text
            for client, status in ((nobody, 401), (theirs, 403), (ours, 409)):
                posted = await client.post(
                    "/v1/worlds/plaza/frames",
                    content=body(frame(9, {1: b"x"})),
                    headers={"content-type": FRAMES},
                )
                assert posted.status_code == status, posted.text
            assert (await nobody.delete("/v1/worlds/plaza")).status_code == 401
            assert (await ours.delete("/v1/worlds/plaza")).status_code == 403
            _, first = await stack.enter_async_context(session(gated, "plaza", f"token={token}"))
            assert (first.type, first["tick"]) == ("welcome", 5)
            _, first = await stack.enter_async_context(
                session(gated, "plaza", f"role=publish&epoch=1&resume={welcome['resume']}&token={token}")
            )
            assert (first.type, first["epoch"]) == ("welcome", 1)


async def test_a_session_that_is_passed_on_goes_on_under_a_fresh_token(
    gated: GatewayProcess, maker: Maker
) -> None:
    token = maker.token({"sub": ["arena"], "pub": ["arena"]}, sub="server")
    resume = ""
    async with AsyncExitStack() as stack:
        for _ in range(ROUNDS):
            query = f"role=publish&token={token}" + (f"&epoch=1&resume={resume}" if resume else "")
            publisher, welcome = await stack.enter_async_context(session(gated, "arena", query))
            resume = welcome["resume"]
            fresh = maker.token({"sub": ["arena"], "pub": ["arena"]}, sub="server", for_s=900)
            await publisher.send(encode_control("token", token=fresh))
            assert (await control(publisher, "granted"))["expires"] > 0


async def test_what_is_revoked_at_one_worker_ends_at_all(gated: GatewayProcess, maker: Maker) -> None:
    token = maker.token({"sub": ["revoked"], "pub": ["revoked"]}, sub="cheat")
    async with client_of(gated, maker.token(ALL)) as client, AsyncExitStack() as stack:
        (await client.put("/v1/worlds/revoked")).raise_for_status()
        readers = [
            await stack.enter_async_context(session(gated, "revoked", f"token={token}"))
            for _ in range(ROUNDS)
        ]
        assert {first.type for _, first in readers} == {"welcome"}
        told = (await client.delete("/v1/grants/cheat")).json()
        assert told["ended"] == ROUNDS
        for link, _ in readers:
            assert (await control(link, "bye"))["reason"] == "revoked"
        for _ in range(ROUNDS):
            assert await refused(gated, f"token={token}")


async def refused(gateway: GatewayProcess, query: str) -> bool:
    url = f"ws://127.0.0.1:{gateway.port('plain')}/v1/worlds/revoked/live?{query}"
    try:
        async with asyncio.timeout(HANG_S), websockets.connect(url) as link:
            first = decode_message(await link.recv())  # type: ignore[arg-type]
            return isinstance(first, Control) and first.type == "error"
    except (websockets.InvalidStatus, websockets.ConnectionClosed):
        return True
