"""Health goes by the age of the oldest frame that is not in the store, and refusals reach who caused them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.client import Publisher, Subscriber
from gateway.errors import Overloaded, StoreUnavailable
from gateway.limits import HEALTH_LATE_S, HEALTH_NAMED_MAX
from gateway.runtime.gateway import Gateway
from gateway.runtime.health import Health
from gateway.store.base import Namespace
from gateway.wire import Record
from tests.patience import HANG_S
from tests.ports import free_port
from tests.runtime.conftest import StartGateway, body, client_of, frame, until, what_is_told


@pytest.fixture
def free_ports() -> tuple[int, int]:
    """Two TCP ports where nobody listens."""
    one, other = free_port(), free_port()
    assert one != other
    return one, other


def journal(waiting_s: float, newest_commit: float, failure: str = "") -> Any:
    return SimpleNamespace(waiting_s=lambda mono: waiting_s, newest_commit=newest_commit, failure=failure)


def health(journals: dict[str, Any], failure: str | None = None) -> dict[str, Any]:
    return Health(lambda: journals, lambda: failure, clock=lambda: 100.0).facts()


def test_nothing_is_said_where_nothing_waits_for_long() -> None:
    assert health({}) == {"store": "ok"}
    assert health({"w": journal(HEALTH_LATE_S / 2, 0.0)}) == {"store": "ok"}


def test_a_store_that_takes_nothing_fails_and_one_that_takes_others_lags() -> None:
    late = journal(5.0, 90.0, "disk full")
    named = [{"world": "w", "waiting_ms": 5000, "why": "disk full"}]
    assert health({"w": late}) == {"store": "failing", "oldest_waiting_ms": 5000, "late_worlds": named}
    assert health({"w": late, "v": journal(0.0, 99.9)})["store"] == "lagging"
    assert health({"w": late, "v": journal(0.0, 50.0)})["store"] == "failing"


def test_a_store_that_does_not_answer_fails_though_no_world_is_open() -> None:
    assert health({}, "refused") == {"store": "failing", "store_failure": "refused"}


def test_what_health_names_is_bounded_and_the_latest_come_first() -> None:
    told = health({f"w{n}": journal(float(n + 2), 0.0) for n in range(100)})
    assert len(told["late_worlds"]) == HEALTH_NAMED_MAX
    assert told["late_worlds"][0]["world"] == "w99"
    assert told["oldest_waiting_ms"] == 101_000


async def told_until(
    holds: Callable[[dict[str, Any]], bool], told: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    async with asyncio.timeout(HANG_S):
        while not holds(found := await told()):
            pass
    return found


async def test_the_world_alone_whose_namespace_is_locked_is_named(gateway: Gateway) -> None:
    async with client_of(gateway) as client:
        for world in ("locked", "free"):
            await client.post(f"/v1/worlds/{world}/frames?durable=1", content=body(frame(1, {1: b"x"})))
        assert (await client.get("/healthz")).json()["store"] == "ok"
        await gateway.store.lock(Namespace("locked"), "somebody")
        locked, free = gateway.worlds.hosts["locked"], gateway.worlds.hosts["free"]
        now = asyncio.get_running_loop().time
        locked.world.put([Record(1, b"late")], now())
        tick = 1

        async def told() -> dict[str, Any]:
            nonlocal tick
            tick += 1
            free.world.put([Record(1, b"%d" % tick)], now())
            answer = await client.get("/healthz")
            assert answer.status_code == 200
            return dict(answer.json())

        found = await told_until(lambda found: found["store"] != "ok", told)
        assert found["store"] == "lagging"
        assert [late["world"] for late in found["late_worlds"]] == ["locked"]
        assert found["oldest_waiting_ms"] >= HEALTH_LATE_S * 1e3
        ready = await client.get("/readyz")
        assert ready.status_code == 200
        await gateway.store.unlock(Namespace("locked"), "somebody", rollback=False)
        await told_until(lambda found: found["store"] == "ok", told)


# --- a store that is not there ---------------------------------------------------------------


@asynccontextmanager
async def store_process(folder: Path, data: int, admin: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", "store", "--path", str(folder), "--data-plane", f"127.0.0.1:{data}",
        "--admin-api", f"127.0.0.1:{admin}", stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(HANG_S):
            while (await process.stdout.readline()).strip() != b"ready":
                pass
        yield
    finally:
        process.terminate()
        await process.wait()


async def test_a_store_that_is_not_there_at_the_start_is_named_and_tried_until_it_is(
    start_gateway: StartGateway, tmp_path: Path, free_ports: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mvgateway")
    data, admin = free_ports
    url = f"http://127.0.0.1:{data}"
    gateway = await start_gateway(store=url, store_admin=f"http://127.0.0.1:{admin}")
    ca = tmp_path / "certs" / "ca.pem"
    assert f"{url} does not answer" in gateway.facts()["store"]
    assert "the store does not answer" in caplog.text
    async with client_of(gateway) as client:
        told = (await client.get("/healthz")).json()
        assert (told["status"], told["store"]) == ("ok", "failing")
        assert url in told["store_failure"]
        posted = await client.post("/v1/worlds/w/frames", content=body(frame(1, {1: b"x"})))
        assert (posted.status_code, posted.json()["code"]) == (503, "store_unavailable")
        assert url in posted.json()["detail"]
        for transport in ("webtransport", "websocket"):
            publisher = Publisher(f"https://127.0.0.1:{gateway.port}", "w", ca=ca, transport=transport)
            assert url in str(await what_is_told(publisher, StoreUnavailable))
        async with store_process(tmp_path / "far", data, admin):
            async with Publisher(
                f"https://127.0.0.1:{gateway.port}", "w", ca=ca, connect_timeout_s=HANG_S
            ) as publisher:
                publisher.send({1: b"here"})
                await asyncio.wait_for(publisher.wait_durable(), HANG_S)
            await until(lambda: gateway.health()["store"] == "ok", HANG_S)
        await until(lambda: gateway.health()["store"] == "failing", HANG_S)
    assert "the store answers again" in caplog.text


@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_who_asks_for_a_world_too_many_is_told_so_in_the_gateways_words(
    start_gateway: StartGateway, tmp_path: Path, transport: Any
) -> None:
    gateway = await start_gateway(worlds_max=1)
    url, ca = f"https://127.0.0.1:{gateway.port}", tmp_path / "certs" / "ca.pem"
    async with Publisher(url, "one", ca=ca):
        for kind in (Publisher, Subscriber):
            second = kind(url, "two", ca=ca, transport=transport)
            assert "raise --worlds-max or leave one" in str(await what_is_told(second, Overloaded))


async def test_the_command_line_tells_the_refusal(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(worlds_max=1)
    url, ca = f"https://127.0.0.1:{gateway.port}", tmp_path / "certs" / "ca.pem"
    async with Publisher(url, "one", ca=ca):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.cli", "publish", "two", "--url", url, "--ca", str(ca), "--seconds", "1",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        _, told = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode != 0
    assert "raise --worlds-max or leave one" in told.decode()


async def test_where_nobody_listens_it_says_so(free_ports: tuple[int, int]) -> None:
    publisher = Publisher(f"http://127.0.0.1:{free_ports[0]}", "w", connect_timeout_s=0.5)
    with pytest.raises(StoreUnavailable, match=r"no gateway answered at http://127\.0\.0\.1"):
        await publisher.start()
