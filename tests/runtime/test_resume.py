"""At real doors: the public epoch throws nobody out, the secret lets its publisher back in, and no log knows it."""

from __future__ import annotations

import asyncio
import time

import pytest
import websockets

from gateway.client import Publisher
from gateway.core.ports import LiveOptions
from gateway.errors import PublisherPresent
from gateway.runtime.gateway import Gateway
from gateway.runtime.local import LocalLink
from gateway.wire import Control, decode_message
from tests.runtime.conftest import StartGateway, StartProcess, until


def live(gateway: Gateway, query: str) -> str:
    assert gateway.plain_server is not None
    return f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live?role=publish{query}"


async def control(socket: websockets.ClientConnection) -> Control:
    message = await socket.recv()
    assert isinstance(message, bytes)
    found = decode_message(message)
    assert isinstance(found, Control)
    return found


async def test_only_the_secret_gets_an_epoch_back_from_a_connected_publisher(gateway: Gateway) -> None:
    async with websockets.connect(live(gateway, "")) as first:
        welcome = await control(first)
        secret = welcome["resume"]
        assert (welcome["epoch"], len(bytes.fromhex(secret))) == (1, 16)
        for query in ("&epoch=1", "&epoch=1&resume=" + "0" * 32, ""):
            async with websockets.connect(live(gateway, query)) as other:
                refused = await control(other)
                assert (refused.type, refused["code"]) == ("error", "publisher_present")
                assert secret not in refused["message"]
        async with websockets.connect(live(gateway, f"&epoch=1&resume={secret}")) as again:
            back = await control(again)
            assert (back["epoch"], back["resume"]) == (1, secret)
            assert (await control(first))["reason"] == "reconnected"


async def test_an_older_client_gets_its_epoch_back_once_its_place_is_empty(gateway: Gateway) -> None:
    async with websockets.connect(live(gateway, "")) as first:
        await control(first)
    world = gateway.worlds.hosts["w"].world
    await until(lambda: world.publisher is None)
    async with websockets.connect(live(gateway, "&epoch=1")) as again:
        welcome = await control(again)
        assert welcome["epoch"] == 1
        assert welcome.get("resume") is None


@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_the_python_client_comes_back_though_its_old_connection_is_still_held(
    start_gateway: StartGateway, transport: str
) -> None:
    gateway = await start_gateway()
    url, ca = f"https://127.0.0.1:{gateway.port}", gateway.certificates.ca_path
    async with Publisher(url, "w", ca=ca, transport=transport) as lost:
        assert lost.resume is not None
        with pytest.raises(PublisherPresent):
            async with Publisher(url, "w", ca=ca, transport=transport, epoch=1):
                pass
        again = Publisher(url, "w", ca=ca, transport=transport, epoch=1, resume=lost.resume)
        async with again:
            assert (again.epoch, again.resume) == (1, lost.resume)
            await lost.aclose()


async def test_a_publisher_that_comes_back_before_its_end_was_heard_gets_the_place(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two connections are in no order: the end of the first may be heard after the second has asked."""
    options = LiveOptions(role="publish")
    first = await gateway.worlds.open_session("w", options, LocalLink("local"))
    world = gateway.worlds.hosts["w"].world
    reclaim_epoch = world.reclaim_epoch

    def asked(options: LiveOptions) -> int | None:
        asyncio.get_running_loop().call_soon(first.on_closed, time.monotonic())
        return reclaim_epoch(options)

    monkeypatch.setattr(world, "reclaim_epoch", asked)
    await gateway.worlds.open_session("w", options, LocalLink("local"))
    assert world.last_epoch == 2


async def test_no_log_at_any_level_knows_the_secret(start_process: StartProcess) -> None:
    child = start_process("--log-level", "debug", "--access-log").wait_ready()
    secret = "deadbeef" * 4
    at = f"ws://127.0.0.1:{child.port('plain')}/v1/worlds/w/live?role=publish"
    async with websockets.connect(at) as first:
        told = (await control(first))["resume"]
        for query in (f"&epoch=1&resume={secret}", f"&resume={secret}x", f"&resume={secret}&&=&x"):
            async with websockets.connect(at + query) as other:
                assert (await control(other)).type == "error"
        async with websockets.connect(f"{at}&epoch=1&resume={told}") as again:
            await control(again)
    _, errors = child.terminate()
    assert "session" in errors
    assert secret not in errors
    assert told not in errors
