"""``serve --workers 2``: several processes that are one gateway, each of them real, and killed for real."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from gateway.client import Subscriber
from gateway.runtime.gateway import Gateway
from gateway.runtime.workers.folder import GroupFolder
from gateway.wire import Control, Frame, decode_message
from tests.patience import HANG_S
from tests.runtime.conftest import (
    FRAMES,
    GatewayProcess,
    StartGateway,
    StartProcess,
    body,
    client_of,
    frame,
    until,
)
from tests.runtime.test_two_gateways import control, durable, publish, recorded, session

TRIES = 200
"""Connections until one is at the worker that is wanted: of two, by chance."""

Link = websockets.ClientConnection


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("workers")
    gateway = GatewayProcess(
        folder, "--workers", "2", "--udp", "127.0.0.1:0", "--linger-ms", "1500", log=folder / "log"
    )
    try:
        yield gateway.wait_ready()
    finally:
        gateway.kill()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> str:
    return "w-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:16]


async def get(gateway: GatewayProcess, path: str) -> Any:
    async with httpx.AsyncClient(base_url=gateway.base_url, timeout=HANG_S) as client:
        answer = await client.get(path)
        return answer.text if "text" in answer.headers["content-type"] else answer.json()


async def samples(gateway: GatewayProcess, name: str, world: str) -> dict[int, float]:
    """By worker."""
    found: dict[int, float] = {}
    for line in (await get(gateway, "/metrics")).splitlines():
        if line.startswith(name + "{") and f'world="{world}"' in line:
            match = re.search(r'worker="(\d+)"', line)
            assert match is not None, line
            found[int(match[1])] = float(line.rpartition(" ")[2])
    return found


async def home_of(gateway: GatewayProcess, world: str) -> int:
    """The worker that is the world's home."""
    homes = [
        worker
        for worker, is_home in (await samples(gateway, "mvgateway_world_home", world)).items()
        if is_home
    ]
    assert len(homes) == 1, homes
    return homes[0]


async def readers_by_worker(gateway: GatewayProcess, world: str) -> dict[int, int]:
    found = await samples(gateway, "mvgateway_world_readers", world)
    return {worker: int(count) for worker, count in found.items() if count}


@asynccontextmanager
async def readers_everywhere(
    gateway: GatewayProcess, world: str, query: str = "conflate=0"
) -> AsyncIterator[list[tuple[Link, Control]]]:
    """Readers until each of two workers has one."""
    async with AsyncExitStack() as stack:
        readers: list[tuple[Link, Control]] = []
        for _ in range(TRIES):
            readers.append(await stack.enter_async_context(session(gateway, world, query)))
            assert readers[-1][1].type == "welcome", readers[-1][1]
            if len(await readers_by_worker(gateway, world)) == 2:
                break
        else:
            raise AssertionError("one worker got every connection")
        yield readers


async def ticks(link: Link, last: int) -> list[int]:
    """Of the frames that come, up to that tick."""
    found: list[int] = []
    async with asyncio.timeout(HANG_S):
        while not found or found[-1] < last:
            data = await link.recv()
            assert isinstance(data, bytes)
            message = decode_message(data)
            if isinstance(message, Frame):
                found.append(message.tick)
    return found


async def test_readers_at_every_worker_get_every_frame_in_order(living: GatewayProcess, world: str) -> None:
    async with session(living, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 2))
        await durable(publisher, 1)
        async with readers_everywhere(living, world) as readers:
            await publish(publisher, range(2, 121))
            for link, welcome in readers:
                assert (welcome["epoch"], welcome["tick"]) == (1, 1)
                assert welcome["durable"] == {"epoch": 1, "tick": 1}
                assert await ticks(link, 120) == list(range(1, 121))
            await durable(publisher, 120)
        assert await recorded(living, world, 1) == list(range(1, 121))


async def test_all_workers_tell_the_same_of_a_world_and_its_readers_are_counted_once(
    living: GatewayProcess, world: str
) -> None:
    async with session(living, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 6))
        await durable(publisher, 5)
        async with readers_everywhere(living, world) as readers:
            for _ in range(12):
                info = await get(living, f"/v1/worlds/{world}")
                assert (info["epoch"], info["tick"], info["records"]) == (1, 5, 1)
                assert info["readers"] == len(readers)
                assert info["publisher"] == "websocket"
                assert info["durable"] == {"epoch": 1, "tick": 5}
                assert info["home"] == f"https://127.0.0.1:{living.port('https')}"
                listed = next(
                    one for one in (await get(living, "/v1/worlds"))["worlds"] if one["world"] == world
                )
                assert {"readers": len(readers), "tick": 5, "home": info["home"]}.items() <= listed.items()


async def test_what_is_changed_of_a_world_is_changed_at_every_worker(
    living: GatewayProcess, world: str
) -> None:
    async with (
        httpx.AsyncClient(
            base_url=living.base_url, timeout=HANG_S, headers={"connection": "close"}
        ) as client,
        readers_of_a_new(living, world, client),
    ):
        for ring_s in range(100, 108):
            changed = await client.patch(f"/v1/worlds/{world}", json={"ring_s": ring_s})
            assert changed.json()["ring_s"] == ring_s
            for _ in range(6):
                assert (await client.get(f"/v1/worlds/{world}")).json()["ring_s"] == ring_s


@asynccontextmanager
async def readers_of_a_new(
    living: GatewayProcess, world: str, client: httpx.AsyncClient
) -> AsyncIterator[list[tuple[Link, Control]]]:
    """So that the world is open at every worker."""
    (await client.put(f"/v1/worlds/{world}")).raise_for_status()
    async with readers_everywhere(living, world) as readers:
        yield readers


async def test_a_publisher_is_served_wherever_it_lands_and_has_its_epoch_back(
    living: GatewayProcess, world: str
) -> None:
    tick = 0
    for turn in range(12):
        async with session(living, world, f"role=publish&epoch={1 if turn else 0}") as (publisher, welcome):
            assert (welcome.type, welcome["epoch"], welcome["tick"]) == ("welcome", 1, tick), turn
            await publish(publisher, range(tick + 1, tick + 6))
            tick += 5
            await durable(publisher, tick)
    assert await recorded(living, world, 1) == list(range(1, tick + 1))


async def test_a_second_publisher_is_refused_wherever_it_lands_unless_it_has_the_secret_or_takes_over(
    living: GatewayProcess, world: str
) -> None:
    async with AsyncExitStack() as stack:
        first, welcome = await stack.enter_async_context(session(living, world, "role=publish"))
        await publish(first, range(1, 6))
        for _ in range(12):
            async with session(living, world, "role=publish") as (_, refusal):
                assert (refusal.type, refusal["code"]) == ("error", "publisher_present")
        async with httpx.AsyncClient(base_url=living.base_url, timeout=HANG_S) as client:
            for _ in range(6):
                posted = await client.post(
                    f"/v1/worlds/{world}/frames",
                    content=body(frame(9, {1: b"x"})),
                    headers={"content-type": FRAMES, "connection": "close"},
                )
                assert (posted.status_code, posted.json()["code"]) == (409, "publisher_present")
        newest = first
        for _ in range(12):
            query = f"role=publish&epoch=1&resume={welcome['resume']}"
            again, told = await stack.enter_async_context(session(living, world, query))
            assert (told.type, told["epoch"]) == ("welcome", 1)
            assert (await control(newest, "bye"))["reason"] == "reconnected"
            newest = again
        for epoch in range(2, 14):
            taker, told = await stack.enter_async_context(session(living, world, "role=publish&takeover=1"))
            assert (told.type, told["epoch"]) == ("welcome", epoch)
            assert (await control(newest, "bye"))["reason"] == "taken_over"
            newest = taker


async def test_posts_that_land_anywhere_are_one_publishers(living: GatewayProcess, world: str) -> None:
    async with httpx.AsyncClient(base_url=living.base_url, timeout=HANG_S) as client:
        for tick in range(1, 25):
            posted = await client.post(
                f"/v1/worlds/{world}/frames?durable=1",
                content=body(frame(tick, {1: b"%d" % tick})),
                headers={"content-type": FRAMES, "connection": "close"},
            )
            assert posted.status_code == 200, posted.text
            assert (posted.json()["epoch"], posted.json()["tick"]) == (1, tick)
            assert posted.json()["durable"] == {"epoch": 1, "tick": tick}
            last = await client.get(f"/v1/worlds/{world}/frames/last", headers={"connection": "close"})
            assert last.headers["x-tick"] == str(tick)
    assert await recorded(living, world, 1) == list(range(1, 25))


async def test_entities_sleep_and_wake_at_any_worker_whatever_the_home(
    living: GatewayProcess, world: str
) -> None:
    async with session(living, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 5))
        async with (
            readers_everywhere(living, world) as readers,
            httpx.AsyncClient(
                base_url=living.base_url, timeout=HANG_S, headers={"connection": "close"}
            ) as client,
        ):
            for turn in range(10):
                slept = await client.post(f"/v1/worlds/{world}/entities/e:hibernate", json={"key": 1})
                assert slept.status_code in (200, 201), (turn, slept.text)
                got = await client.get(f"/v1/worlds/{world}/entities/e")
                assert got.content == b"4"
                woken = await client.post(f"/v1/worlds/{world}/entities/e:wake", json={"key": 1})
                assert woken.status_code == 200, (turn, woken.text)
                assert (await client.get(f"/v1/worlds/{world}/entities/e")).status_code == 404
            for link, _ in readers:
                assert (await ticks(link, 24))[-1] == 24


async def test_leases_transfers_and_inventories_hold_at_any_worker(
    living: GatewayProcess, world: str
) -> None:
    other = world + "-b"
    async with httpx.AsyncClient(
        base_url=living.base_url, timeout=HANG_S, headers={"connection": "close"}
    ) as client:
        for name in (world, other):
            (await client.put(f"/v1/worlds/{name}")).raise_for_status()
        lease = await client.post(f"/v1/worlds/{world}/leases", json={"owner": "s"})
        assert lease.status_code == 201
        for _ in range(6):
            again = await client.post(f"/v1/worlds/{world}/leases", json={"owner": "s"})
            assert again.status_code == 409
        for turn in range(8):
            put = await client.put(f"/v1/inventories/ann/items/i{turn}", content=b"%d" % turn)
            assert put.status_code in (200, 201), put.text
            got = await client.get(f"/v1/inventories/ann/items/i{turn}")
            assert got.content == b"%d" % turn


@pytest.mark.parametrize("lingers", [False, True], ids=["", "over a home that lingers"])
async def test_a_plain_udp_token_is_given_at_any_worker(
    living: GatewayProcess, world: str, lingers: bool
) -> None:
    for turn in range(5):
        await publishes_by_udp(living, f"{world}-{turn}", lingers)


async def publishes_by_udp(living: GatewayProcess, name: str, lingers: bool) -> None:
    if lingers:
        async with session(living, name, "role=publish") as (publisher, _):
            await publish(publisher, range(1, 3))
            await durable(publisher, 2)
    async with httpx.AsyncClient(base_url=living.base_url, timeout=HANG_S) as client:
        place = (await client.post(f"/v1/worlds/{name}/udp")).json()
        assert place["epoch"] == 1 + lingers, place
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=(place["host"], place["port"])
        )
        try:

            async def is_there() -> bool:
                transport.sendto(bytes.fromhex(place["token"]) + frame(7, {1: b"udp"}))
                await asyncio.sleep(0.01)
                return bool((await client.get(f"/v1/worlds/{name}")).json()["tick"] == 7)

            await until(is_there, HANG_S)
        finally:
            transport.close()


async def test_readers_of_a_quiet_world_follow_the_home_that_it_gets_and_the_next_one(
    living: GatewayProcess, world: str
) -> None:
    async with httpx.AsyncClient(base_url=living.base_url, timeout=HANG_S) as client:
        (await client.put(f"/v1/worlds/{world}")).raise_for_status()
    async with readers_everywhere(living, world, "") as readers:
        for epoch in (1, 2, 3):
            async with session(living, world, "role=publish") as (publisher, welcome):
                assert welcome["epoch"] == epoch
                await publish(publisher, range(1, 10))
                await durable(publisher, 9)
                for link, _ in readers:
                    await reads(link, epoch, 9)

            async def has_no_home() -> bool:
                return (await get(living, f"/v1/worlds/{world}"))["home"] is None

            await until(has_no_home, HANG_S)


async def reads(link: Link, epoch: int, tick: int) -> None:
    """Read until that tick of that epoch; the session goes on meanwhile."""
    async with asyncio.timeout(HANG_S):
        while True:
            data = await link.recv()
            assert isinstance(data, bytes)
            message = decode_message(data)
            assert not (isinstance(message, Control) and message.type in ("bye", "moved")), message
            if isinstance(message, Frame) and (message.epoch, message.tick) == (epoch, tick):
                return


async def test_a_reader_with_a_budget_is_held_to_it_at_an_edge_and_converges(
    living: GatewayProcess, world: str
) -> None:
    async with session(living, world, "role=publish") as (publisher, _):
        values = {key: bytes(100) for key in range(200)}
        await publisher.send(frame(1, values))
        async with readers_everywhere(living, world, "budget_kbps=64&zstd=1") as readers:
            for tick in range(2, 40):
                await publisher.send(frame(tick, dict.fromkeys(range(200), b"%d" % tick)))
            for link, _ in readers:
                held: dict[int, bytes | None] = {}
                async with asyncio.timeout(HANG_S):
                    while set(held.values()) != {b"39"} or len(held) != 200:
                        data = await link.recv()
                        assert isinstance(data, bytes)
                        message = decode_message(data)
                        if isinstance(message, Frame):
                            held.update({record.key: record.data for record in message.records})


@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_the_python_reader_reads_through_workers(
    living: GatewayProcess, world: str, transport: Any
) -> None:
    url, ca = f"https://127.0.0.1:{living.port('https')}", living.folder / "certs" / "ca.pem"
    async with session(living, world, "role=publish") as (publisher, _), AsyncExitStack() as stack:
        await publish(publisher, range(1, 10))
        readers = []
        for _ in range(TRIES):
            reader = Subscriber(url, world, transport=transport, ca=ca)
            readers.append(await stack.enter_async_context(reader))
            if len(await readers_by_worker(living, world)) == 2:
                break
        assert len(await readers_by_worker(living, world)) == 2
        await publish(publisher, range(10, 40))
        for reader in readers:
            await until(lambda reader=reader: reader.records() == {1: b"39"}, HANG_S)  # type: ignore[misc]
            assert reader.error is None


def test_metrics_are_of_every_worker_and_health_of_all(living: GatewayProcess) -> None:
    told = httpx.get(f"{living.base_url}/metrics", timeout=HANG_S).text
    lines = [line for line in told.splitlines() if not line.startswith("#")]
    workers = {match[1] for line in lines if (match := re.search(r'\{worker="(\d)"', line))}
    assert workers == {"0", "1"}
    assert all('{worker="' in line for line in lines)
    kinds = [line.split()[2] for line in told.splitlines() if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds))
    assert sum(line.startswith("mvgateway_store_bytes") for line in lines) == 1
    health = httpx.get(f"{living.base_url}/healthz", timeout=HANG_S).json()
    assert health["workers"] == {"wanted": 2, "alive": 2}
    assert httpx.get(f"{living.base_url}/readyz", timeout=HANG_S).json()["ready"] is True


# -- deaths -----------------------------------------------------------------------------------


def process_of(gateway: GatewayProcess, worker: int) -> int:
    """By its metrics; the start time and the number are those of the children."""
    told = httpx.get(f"{gateway.base_url}/metrics", timeout=HANG_S).text
    match = re.search(rf'^mvgateway_worker_process\{{worker="{worker}"\}} (\d+)', told, re.MULTILINE)
    assert match is not None
    return int(match[1])


def children_of(gateway: GatewayProcess) -> set[int]:
    pid = gateway.process.pid
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def folder_of(gateway: GatewayProcess) -> Path:
    """Where its workers talk to each other: one of them has a socket there."""
    listening = Path("/proc/net/unix").read_text().splitlines()
    inodes = {fields[6]: fields[7] for line in listening if len(fields := line.split()) > 7}
    for pid in children_of(gateway):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                inode = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor))
                path = inodes.get(inode[1], "") if inode is not None else ""
                if path.endswith(".sock"):
                    return Path(path).parent
    raise AssertionError("no worker listens for the others")


def is_there(folder: Path) -> bool:
    return folder.exists()


async def all_alive(gateway: GatewayProcess) -> bool:
    with suppress(httpx.HTTPError):
        return bool((await get(gateway, "/healthz"))["workers"] == {"wanted": 2, "alive": 2})
    return False


def events_of(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "log").read_text().splitlines()
    return [told for line in lines if (told := json.loads(line))["event"] == event]


@asynccontextmanager
async def reconnected(gateway: GatewayProcess, world: str, query: str) -> AsyncIterator[tuple[Link, Control]]:
    """A session after a worker has died: a connection that it got as it died ends at once, and is made again."""
    async with AsyncExitStack() as stack:
        for _ in range(TRIES):
            with suppress(OSError, websockets.InvalidHandshake, websockets.ConnectionClosed):
                link, first = await stack.enter_async_context(session(gateway, world, query))
                yield link, first
                return
        raise AssertionError("no worker takes a connection")


@pytest.fixture
def folders_apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A temporary folder that no other start on this machine clears. Its path is short: sockets stand there."""
    with tempfile.TemporaryDirectory(prefix="mvg-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture
def mortal(start_process: StartProcess, tmp_path: Path) -> GatewayProcess:
    return start_process("--workers", "2", log=tmp_path / "log").wait_ready()


async def test_when_the_home_is_killed_the_others_readers_stay_and_the_publisher_goes_on_at_once(
    mortal: GatewayProcess, world: str
) -> None:
    async with AsyncExitStack() as stack:
        publisher, _ = await stack.enter_async_context(session(mortal, world, "role=publish"))
        await publish(publisher, range(1, 31))
        await durable(publisher, 30)
        home = await home_of(mortal, world)
        readers = await stack.enter_async_context(readers_everywhere(mortal, world))
        os.kill(process_of(mortal, home), signal.SIGKILL)
        again, welcome = await stack.enter_async_context(reconnected(mortal, world, "role=publish&epoch=1"))
        assert (welcome.type, welcome["epoch"], welcome["tick"]) == ("welcome", 1, 30)
        await publish(again, range(31, 61))
        await durable(again, 60)
        stayed = 0
        for link, _ in readers:
            with suppress(websockets.ConnectionClosed):
                assert (await ticks(link, 60))[-1] == 60
                stayed += 1
        assert stayed >= 1
        await until(lambda: all_alive(mortal), HANG_S)
        assert await recorded(mortal, world, 1) == list(range(1, 61))
    ended, started = (
        events_of(mortal.folder, "worker ended"),
        events_of(mortal.folder, "worker started again"),
    )
    assert [(one["worker"], one["why"]) for one in ended] == [(home, "signal SIGKILL")]
    assert [one["worker"] for one in started] == [home]


async def test_when_an_edge_is_killed_its_readers_come_back_to_another_worker(
    mortal: GatewayProcess, world: str
) -> None:
    url, ca = f"https://127.0.0.1:{mortal.port('https')}", mortal.folder / "certs" / "ca.pem"
    async with session(mortal, world, "role=publish") as (publisher, _), AsyncExitStack() as stack:
        await publish(publisher, range(1, 10))
        home, readers = await home_of(mortal, world), []
        for _ in range(TRIES):
            reader = Subscriber(url, world, transport="webtransport", ca=ca)
            readers.append(await stack.enter_async_context(reader))
            if len(await readers_by_worker(mortal, world)) == 2:
                break
        os.kill(process_of(mortal, 1 - home), signal.SIGKILL)
        tick = 10

        async def all_have_it() -> bool:
            nonlocal tick
            await publish(publisher, range(tick, tick + 1))
            tick += 1
            await asyncio.sleep(0.02)
            return all((reader.records() or {}).get(1, b"0") >= b"%d" % (tick - 5) for reader in readers)

        tick = 100
        await until(all_have_it, HANG_S)
        await until(lambda: all_alive(mortal), HANG_S)


async def test_when_the_owner_of_the_store_is_killed_nothing_that_was_told_durable_is_lost(
    mortal: GatewayProcess, world: str
) -> None:
    async with session(mortal, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 31))
        await durable(publisher, 30)
        workers = {process_of(mortal, number) for number in (0, 1)}
        (owner,) = children_of(mortal) - workers
        os.kill(owner, signal.SIGKILL)
        await publish(publisher, range(31, 61))
        await durable(publisher, 60)
        assert await recorded(mortal, world, 1) == list(range(1, 61))
    assert [one["why"] for one in events_of(mortal.folder, "store owner ended")] == ["signal SIGKILL"]


async def test_sigterm_drains_every_worker_and_leaves_nothing_behind(
    mortal: GatewayProcess, world: str
) -> None:
    folder = folder_of(mortal)
    async with session(mortal, world, "role=publish") as (publisher, _):
        await publish(publisher, range(1, 31))
        async with readers_everywhere(mortal, world) as readers:
            ending = asyncio.create_task(asyncio.to_thread(mortal.terminate))
            for link, _ in readers:
                assert (await control(link, "bye"))["reconnect_after_ms"] > 0
            assert (await ending)[0] == 0
    children = [event["sessions"] for event in events_of(mortal.folder, "draining")]
    assert len(children) == 2
    assert not is_there(folder)


async def test_a_hangup_reaches_every_worker(mortal: GatewayProcess) -> None:
    mortal.process.send_signal(signal.SIGHUP)
    await until(lambda: len(events_of(mortal.folder, "settings reloaded")) == 2, HANG_S)


async def test_workers_whose_supervisor_is_killed_stop_and_leave_no_folder_behind(
    mortal: GatewayProcess,
) -> None:
    folder, pids = folder_of(mortal), children_of(mortal)
    mortal.kill()
    await until(lambda: not any(map(_runs, pids)), HANG_S)
    assert not is_there(folder)


@pytest.mark.usefixtures("folders_apart")
async def test_a_start_clears_away_what_a_start_that_was_killed_whole_has_left_and_nothing_that_lives(
    mortal: GatewayProcess, start_process: StartProcess, tmp_path: Path
) -> None:
    left, pids = folder_of(mortal), children_of(mortal)
    for how in (
        signal.SIGSTOP,
        signal.SIGKILL,
    ):  # whoever sees the supervisor's end before its own clears away
        for pid in (mortal.process.pid, *pids):
            os.kill(pid, how)
    mortal.end()
    await until(lambda: not any(map(_runs, pids)), HANG_S)
    assert is_there(left)
    second = start_process("--workers", "2", log=tmp_path / "log").wait_ready()
    assert not is_there(left)
    lives = folder_of(second)
    await asyncio.to_thread(lambda: GroupFolder.make().remove())
    assert is_there(lives)
    assert await all_alive(second)


def _runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


# -- nobody else gets in ----------------------------------------------------------------------


async def test_the_store_and_the_workers_answer_nobody_without_the_secret(mortal: GatewayProcess) -> None:
    folder = folder_of(mortal)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    for number in (0, 1):
        for first in (b"\x02\0\0\0\0{}", b'\x10\0\0\0\0{"secret": "no"}', b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_unix_connection(str(folder / f"{number}.sock"))
            writer.write(first)
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), HANG_S) == b""
            writer.close()
    workers = {process_of(mortal, number) for number in (0, 1)}
    (owner,) = children_of(mortal) - workers
    url = f"http://127.0.0.1:{listens_at(owner)}"
    async with httpx.AsyncClient(base_url=url, timeout=HANG_S) as client:
        for headers in ({}, {"authorization": "Bearer no"}, {"authorization": "Bearer " + "0" * 64}):
            for path in ("/stat?ns_key=w", "/api/list_namespaces", "/time2version?t=1"):
                assert (await client.get(path, headers=headers)).status_code == 401


def listens_at(pid: int) -> int:
    """The TCP port on which this process listens, and no other."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(os.readlink(descriptor))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (port,) = {
        int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes
    }
    return port


async def test_a_folder_serves_one_process_or_several_in_turn(
    start_gateway: StartGateway, start_process: StartProcess, tmp_path: Path
) -> None:
    async def post(client: httpx.AsyncClient, tick: int) -> None:
        posted = await client.post(
            "/v1/worlds/kept/frames?durable=1",
            content=body(frame(tick, {tick: b"x"})),
            headers={"content-type": FRAMES},
        )
        assert posted.status_code == 200, posted.text

    async def state(client: httpx.AsyncClient) -> set[str]:
        last = await client.get("/v1/worlds/kept/frames/last", headers={"accept": "application/json"})
        return set(last.json()["records"])

    alone: Gateway = await start_gateway()
    async with client_of(alone) as client:
        await post(client, 1)
        (await client.put("/v1/worlds/kept/entities/e", content=b"e")).raise_for_status()
    assert await alone.drain(5.0)
    several = start_process("--workers", "2").wait_ready()
    async with httpx.AsyncClient(base_url=several.base_url, timeout=HANG_S) as client:
        assert await state(client) == {"1"}
        assert (await client.get("/v1/worlds/kept/entities/e")).content == b"e"
        await post(client, 2)
    assert (await asyncio.to_thread(several.terminate))[0] == 0
    again: Gateway = await start_gateway()
    async with client_of(again) as client:
        assert await state(client) == {"1", "2"}
        assert (await client.get("/v1/worlds/kept/entities/e")).content == b"e"
