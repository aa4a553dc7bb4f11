"""Two gateways over one store, each a process, and the store another: every world has one home, and everybody is
told where it is. Over our own engine and over the stand-in for the real mvstore."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import websockets

from gateway import limits
from gateway.client import Subscriber
from gateway.config import Settings, load
from gateway.core.ports import LiveOptions
from gateway.errors import ConfigError, WorldHeld
from gateway.runtime.local import LocalLink
from gateway.wire import Control, Frame, decode_message
from tests.kits.abilities import proves
from tests.patience import HANG_S
from tests.runtime.conftest import FRAMES, GatewayProcess, StartGateway, StartProcess, body, frame, until
from tests.runtime.faults.driver import StoreProcess
from tests.store.standin import Process as StandInProcess


class Pair(NamedTuple):
    """Two gateways that live as long as this module's tests, and a world for one test."""

    a: GatewayProcess
    b: GatewayProcess
    world: str
    folder: Path


@contextmanager
def store_flags(kind: str, folder: Path) -> Iterator[tuple[str, ...]]:
    """How a gateway is told of a store, which is there within."""
    if kind == "engine":
        store = StoreProcess(folder)
        yield store.flags
        store.kill()
        return
    with StandInProcess(folder) as process:
        yield "--store", process.url.split(",")[0], "--store-admin", process.admin_url


@pytest.fixture(scope="module", params=["engine", "stand-in"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def flags(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    with store_flags(kind, tmp_path_factory.mktemp("remote")) as flags:
        yield flags


@pytest.fixture(scope="module")
def living(
    flags: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[GatewayProcess, GatewayProcess, Path]]:
    folder = tmp_path_factory.mktemp("gateways")
    more = (*flags, "--linger-ms", "200", "--udp", "127.0.0.1:0")
    a, b = (GatewayProcess(folder, *more, log=folder / f"{name}.log") for name in "ab")
    try:
        yield a.wait_ready(), b.wait_ready(), folder
    finally:
        a.kill()
        b.kill()


@pytest.fixture
def pair(living: tuple[GatewayProcess, GatewayProcess, Path], request: pytest.FixtureRequest) -> Pair:
    a, b, folder = living
    return Pair(a, b, "w-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:16], folder)


@pytest.fixture
def mortal(flags: tuple[str, ...], start_process: StartProcess, pair: Pair, tmp_path: Path) -> Pair:
    """Two gateways of this test's own, to be killed."""
    a, b = start_process(*flags), start_process(*flags)
    return Pair(a.wait_ready(), b.wait_ready(), pair.world, tmp_path)


def node(gateway: GatewayProcess) -> str:
    return f"https://127.0.0.1:{gateway.port('https')}"


def url_of(gateway: GatewayProcess, world: str, query: str = "") -> str:
    return f"ws://127.0.0.1:{gateway.port('plain')}/v1/worlds/{world}/live?{query}"


@asynccontextmanager
async def session(
    gateway: GatewayProcess, world: str, query: str = ""
) -> AsyncIterator[tuple[websockets.ClientConnection, Control]]:
    """A session, and its first message."""
    async with websockets.connect(url_of(gateway, world, query), max_size=None) as link:
        yield link, await control(link)


@asynccontextmanager
async def welcomed(
    gateway: GatewayProcess, world: str, query: str
) -> AsyncIterator[tuple[websockets.ClientConnection, Control]]:
    """A session that is welcome, where the home of before has said nothing: whoever was refused, since the machine stood still for
    longer than a refusal waits, asks again, as it is told."""
    while True:
        async with session(gateway, world, query) as (link, first):
            if first.get("code") != "store_unavailable":
                yield link, first
                return


async def control(link: websockets.ClientConnection, *types: str) -> Control:
    """The next control message (of one of these types)."""
    async with asyncio.timeout(HANG_S):
        while True:
            data = await link.recv()
            assert isinstance(data, bytes)
            message = decode_message(data)
            if isinstance(message, Control) and (not types or message.type in types):
                return message


async def publish(link: websockets.ClientConnection, ticks: range) -> None:
    for tick in ticks:
        await link.send(frame(tick, {1: b"%d" % tick}))


async def durable(link: websockets.ClientConnection, tick: int) -> None:
    while (await control(link, "durable"))["tick"] < tick:
        pass


async def recorded(gateway: GatewayProcess, world: str, epoch: int) -> list[int]:
    async with httpx.AsyncClient(base_url=gateway.base_url, timeout=HANG_S) as client:
        answer = await client.get(f"/v1/worlds/{world}/frames", params={"epoch": epoch})
        verified = (await client.get(f"/v1/worlds/{world}/verify")).json()
    assert verified["ok"], verified
    found, at = [], 0
    while at < len(answer.content):
        size = int.from_bytes(answer.content[at : at + 4], "little")
        message = decode_message(answer.content[at + 4 : at + 4 + size])
        if isinstance(message, Frame):
            found.append(message.tick)
        at += 4 + size
    return found


async def test_a_second_publisher_is_refused_with_the_homes_address_by_every_door(pair: Pair) -> None:
    a, b, world, _ = pair
    async with session(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 31))
        await durable(publisher, 30)
        async with session(b, world, "role=publish") as (_, refusal):
            assert (refusal.type, refusal["code"]) == ("error", "world_held")
            assert (refusal["world"], refusal["url"]) == (world, node(a))
            assert node(a) in refusal["message"]
            assert "--takeover" in refusal["message"]
        async with httpx.AsyncClient(base_url=b.base_url, timeout=HANG_S) as client:
            posted = await client.post(
                f"/v1/worlds/{world}/frames",
                content=body(frame(1, {1: b"x"})),
                headers={"content-type": FRAMES},
            )
            live = await client.get(f"/v1/worlds/{world}/live")
            events = await client.get(f"/v1/worlds/{world}/live", headers={"accept": "text/event-stream"})
            woken = await client.post(f"/v1/worlds/{world}/entities/e:hibernate", json={"key": 1})
            for answer in (posted, live, events, woken):
                assert answer.status_code == 409
                assert {"code": "world_held", "world": world, "url": node(a)}.items() <= answer.json().items()
            assert (await client.get(f"/v1/worlds/{world}")).json()["home"] == node(a)
        assert await recorded(a, world, 1) == list(range(1, 31))


async def test_a_plain_udp_token_is_refused_too(pair: Pair) -> None:
    a, b, world, _ = pair
    async with session(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 3))
        async with httpx.AsyncClient(base_url=b.base_url, timeout=HANG_S) as client:
            answer = await client.post(f"/v1/worlds/{world}/udp")
        assert (answer.status_code, answer.json()["code"], answer.json()["url"]) == (
            409,
            "world_held",
            node(a),
        )


async def test_a_takeover_ends_the_other_gateways_publisher_and_sends_its_readers_on(pair: Pair) -> None:
    a, b, world, _ = pair
    async with session(a, world, "role=publish") as (publisher, _), session(a, world) as (reader, _):
        await publish(publisher, range(1, 31))
        await durable(publisher, 30)
        async with session(b, world, "role=publish&takeover=1") as (taker, welcome):
            assert (welcome.type, welcome["epoch"]) == ("welcome", 2)
            await publish(taker, range(1, 31))
            with suppress(websockets.ConnectionClosed):
                await publish(publisher, range(31, 41))
            bye = await control(publisher, "bye")
            assert (bye["reason"], bye["url"]) == ("taken_over", node(b))
            moved = await control(reader, "moved")
            assert (moved["world"], moved["url"]) == (world, f"{node(b)}/v1/worlds/{world}/live")
            assert (await control(reader, "bye"))["reason"] == "moved"
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await reader.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4_007
            await durable(taker, 30)
            assert await recorded(b, world, 1) == list(range(1, 31))
            assert await recorded(b, world, 2) == list(range(1, 31))


async def test_after_a_kill_of_the_home_another_gateway_publishes_at_the_first_try(mortal: Pair) -> None:
    a, b, world, _ = mortal
    async with session(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 31))
        await durable(publisher, 30)
        await asyncio.to_thread(a.kill)
        async with session(b, world, "role=publish") as (successor, welcome):
            assert (welcome.type, welcome["epoch"]) == ("welcome", 2)
            assert welcome["durable"] == {"epoch": 1, "tick": 30}
            await publish(successor, range(1, 31))
            await durable(successor, 30)
            assert await recorded(b, world, 1) == list(range(1, 31))
            assert await recorded(b, world, 2) == list(range(1, 31))


async def test_the_same_run_goes_on_in_its_epoch_at_another_gateway(mortal: Pair) -> None:
    a, b, world, _ = mortal
    async with session(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 31))
        await durable(publisher, 30)
        await asyncio.to_thread(a.kill)
    async with session(b, world, "role=publish&epoch=1") as (again, welcome):
        assert (welcome["epoch"], welcome["tick"]) == (1, 30)
        await publish(again, range(31, 61))
        await durable(again, 60)
        assert await recorded(b, world, 1) == list(range(1, 61))


async def test_a_home_that_was_stopped_and_wakes_as_a_ghost_commits_nothing(mortal: Pair) -> None:
    a, b, world, _ = mortal
    async with session(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 31))
        await durable(publisher, 30)
        a.process.send_signal(signal.SIGSTOP)
        try:
            await publish(publisher, range(31, 61))
            async with welcomed(b, world, "role=publish") as (successor, welcome):
                assert welcome.type == "welcome"
                await publish(successor, range(1, 31))
                await durable(successor, 30)
                a.process.send_signal(signal.SIGCONT)
                bye = await control(publisher, "bye")
                assert (bye["reason"], bye["url"]) == ("taken_over", node(b))
                await publish(successor, range(31, 61))
                await durable(successor, 60)
                assert await recorded(b, world, 1) == list(range(1, 31))
                assert await recorded(b, world, 2) == list(range(1, 61))
        finally:
            a.process.send_signal(signal.SIGCONT)
    _, said = await asyncio.to_thread(a.terminate)
    (lost,) = [line for line in map(json.loads, said.splitlines()) if line["event"] == "home lost"]
    assert {"world": world, "fence": 1, "by_fence": 2, "url": node(b)}.items() <= lost.items()


async def test_a_gateway_that_stops_gives_its_worlds_up_at_once(mortal: Pair) -> None:
    a, b, world, _ = mortal
    async with session(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 31))
        await durable(publisher, 30)
        assert (await asyncio.to_thread(a.terminate))[0] == 0
    async with httpx.AsyncClient(base_url=b.base_url, timeout=HANG_S) as client:
        (await client.put(f"/v1/worlds/{world}")).raise_for_status()
        assert (await client.get(f"/v1/worlds/{world}")).json()["home"] is None
    async with session(b, world, "role=publish") as (_, welcome):
        assert welcome["epoch"] == 2


async def test_a_publisher_that_left_leaves_the_world_to_others_once_it_has_lingered(pair: Pair) -> None:
    a, b, world, _ = pair
    async with session(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 31))
        await durable(publisher, 30)

    async def is_free() -> bool:
        async with session(b, world, "role=publish") as (_, first):
            return first.type == "welcome"

    await until(is_free, HANG_S)


async def test_a_world_that_nobody_publishes_is_read_at_any_gateway_as_it_is_in_the_store(pair: Pair) -> None:
    a, b, world, _ = pair

    async def publish_at_a(epoch: int) -> None:
        async with session(a, world, "role=publish") as (publisher, welcome):
            assert welcome["epoch"] == epoch
            await publish(publisher, range(1, 10 * epoch))
            await durable(publisher, 10 * epoch - 1)

    async def state_at_b() -> tuple[str | None, Any]:
        async with httpx.AsyncClient(base_url=b.base_url, timeout=HANG_S) as client:
            info = (await client.get(f"/v1/worlds/{world}")).json()
            last = await client.get(f"/v1/worlds/{world}/frames/last")
        assert (info["epoch"], info["tick"]) == (int(last.headers["x-epoch"]), int(last.headers["x-tick"]))
        return info["home"], (info["epoch"], info["tick"])

    for epoch in (1, 2, 3):
        await publish_at_a(epoch)

        async def given_up() -> bool:
            return (await state_at_b())[0] is None

        await until(given_up, HANG_S)
        assert (await state_at_b())[1] == (epoch, 10 * epoch - 1)
        async with session(b, world) as (reader, welcome):
            assert (welcome.type, welcome["epoch"], welcome["tick"]) == ("welcome", epoch, 10 * epoch - 1)
            assert (await control(reader, "resync"))["reason"] == "joined"


async def test_who_reads_a_quiet_world_is_sent_on_when_it_gets_a_home_elsewhere(pair: Pair) -> None:
    a, b, world, _ = pair
    async with httpx.AsyncClient(base_url=a.base_url, timeout=HANG_S) as client:
        (await client.put(f"/v1/worlds/{world}")).raise_for_status()
    async with session(b, world) as (reader, welcome):
        assert welcome.type == "welcome"
        async with session(a, world, "role=publish") as (publisher, _):
            await publish(publisher, range(1, 10))
            moved = await control(reader, "moved")
            assert moved["url"] == f"{node(a)}/v1/worlds/{world}/live"


@proves("python", "homes")
@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_the_python_reader_follows_the_world_from_home_to_home(pair: Pair, transport: Any) -> None:
    a, b, world, folder = pair
    ca = folder / "certs" / "ca.pem"
    async with session(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 31))
        async with Subscriber(node(b), world, transport=transport, ca=ca) as reader:
            assert reader.address.base_url == node(a)
            await until(lambda: reader.records() == {1: b"30"}, HANG_S)
            async with session(b, world, "role=publish&takeover=1") as (taker, _):
                await publish(taker, range(1, 6))
                await until(lambda: reader.records() == {1: b"5"}, HANG_S)
                assert reader.address.base_url == node(b)
                assert reader.error is None


async def test_a_refused_publisher_of_the_cli_is_told_what_to_do(pair: Pair) -> None:
    a, b, world, folder = pair
    async with session(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 3))
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "publish", world, "--seconds", "1"),
            *("--url", node(b), "--ca", str(folder / "certs" / "ca.pem")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await child.communicate()
    assert child.returncode != 0
    assert node(a).encode() in said
    assert b"publish --takeover" in said


async def test_entities_are_written_at_both_gateways_whoever_is_the_home(pair: Pair) -> None:
    a, b, world, _ = pair
    async with session(a, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 5))
        async with httpx.AsyncClient(timeout=HANG_S) as client:
            for turn in range(6):
                at, other = (a, b) if turn % 2 else (b, a)
                put = await client.put(
                    f"{at.base_url}/v1/worlds/{world}/entities/e{turn}", content=b"%d" % turn
                )
                assert put.status_code == 201, put.text
                got = await client.get(f"{other.base_url}/v1/worlds/{world}/entities/e{turn}")
                assert got.content == b"%d" % turn
                await publish(publisher, range(5 + turn, 6 + turn))
            lease = await client.post(f"{b.base_url}/v1/worlds/{world}/leases", json={"owner": "s"})
            assert lease.status_code == 201
            again = await client.post(f"{a.base_url}/v1/worlds/{world}/leases", json={"owner": "s"})
            assert again.status_code == 409
        await durable(publisher, 10)
        assert await recorded(a, world, 1) == list(range(1, 11))


async def test_two_gateways_of_one_process_are_two(
    flags: tuple[str, ...], start_gateway: StartGateway, pair: Pair
) -> None:
    url, admin = flags[1], flags[3]
    a, b = [await start_gateway(store=url, store_admin=admin) for _ in range(2)]
    options = LiveOptions(role="publish")
    publisher = await a.worlds.open_session(pair.world, options, LocalLink("local"))
    with pytest.raises(WorldHeld):
        await b.worlds.open_session(pair.world, options, LocalLink("local"))
    publisher.on_closed(0.0)


def test_a_lease_is_out_soon_enough_for_another_gateway_to_publish_within_five_seconds() -> None:
    assert limits.HOME_LEASE_MS / 1_000 + 10 * limits.HOME_POLL_S < 5.0
    assert limits.HOME_BEAT_S * 3 * 1_000 <= limits.HOME_LEASE_MS


def test_node_is_an_address_that_readers_can_be_sent_to() -> None:
    import argparse

    for wrong in (
        "game-1",
        "ftp://x",
        "https://x/path",
        "https://u@x",
        "https://x?y",
        "https://" + "x" * 600,
    ):
        with pytest.raises(ConfigError, match="--node"):
            load(argparse.Namespace(node=wrong), {})
    assert load(argparse.Namespace(node="https://game-1.example:4433"), {}).node
    assert Settings().node == ""
    assert WorldHeld.status == 409
