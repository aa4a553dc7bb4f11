"""One address, however busy: worlds, requests, page plane and works of others go on."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import websockets

from gateway.wire import Control, decode_message, encode_control
from tests.abuse.attackers import put_state
from tests.abuse.conftest import LONG, Innocent, StartTarget, Target, attack_on, given_back
from tests.abuse.test_publishers import flood
from tests.patience import HANG_S
from tests.runtime.conftest import body, frame


async def test_two_hundred_and_fifty_six_worlds_of_one_address_leave_room_for_others(
    target: Target, innocent: Innocent
) -> None:
    held, refused = 0, 0
    async with attack_on(target, innocent) as attack, AsyncExitStack() as stack:
        for n in range(300 if LONG else 150):
            url = f"ws://127.0.0.1:{target.port('plain')}/v1/worlds/held{n}/live?role=publish"
            socket = await stack.enter_async_context(websockets.connect(url, open_timeout=HANG_S))
            told = decode_message(await asyncio.wait_for(socket.recv(), HANG_S))  # type: ignore[arg-type]
            assert isinstance(told, Control)
            held += told.type == "welcome"
            refused += told.type == "error" and "--worlds-per-address-max" in str(told["message"])
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=transport, timeout=HANG_S) as other:
            url = f"{target.base_url}/v1/worlds/theirs/frames"
            assert (await other.post(url, content=body(frame(1, {1: b"x"})))).status_code == 202
    assert held <= 128
    assert refused >= 20
    attack.check()
    assert await target.metric("mvgateway_refusals_total", bound="worlds_per_address_max") == refused


async def test_a_flood_of_requests_is_answered_with_429_and_costs_less_than_a_core(
    start_target: StartTarget,
) -> None:
    target = start_target("--requests-per-address-per-s", "5")
    statuses: dict[int, int] = {}
    async with attack_on(target) as attack, target.client() as client:
        for _ in range(20 if LONG else 6):
            asked = await asyncio.gather(*(client.get("/metrics") for _ in range(200)))
            for answer in asked:
                statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    assert statuses[429] > statuses[200]
    attack.check()
    await given_back(target, attack)


async def test_verifications_of_one_address_run_one_at_a_time_and_frames_go_on(
    target: Target, innocent: Innocent
) -> None:
    async with attack_on(target, innocent) as attack, target.client() as client:
        for tick in range(1, 40):
            answer = await client.post(
                "/v1/worlds/deep/frames?durable=1", content=body(flood(tick % 8 + 1, 50))
            )
            assert answer.status_code in (200, 400, 413)
        asked = await asyncio.gather(*(client.get("/v1/worlds/deep/verify") for _ in range(20)))
        assert {answer.status_code for answer in asked} <= {200, 429, 503}
    attack.check(growth_mib=96)
    await given_back(target, attack)


def test_sql_through_the_public_door_changes_nothing(start_target: StartTarget, tmp_path: Path) -> None:
    target = start_target("--host", "0.0.0.0", "--insecure-public")
    httpx.put(f"{target.base_url}/v1/inventories/ann/items/gold", content=b"x").raise_for_status()
    store = f"https://127.0.0.1:{target.port('https')}"
    command = [sys.executable, "-m", "gateway.cli", "sql", "inv~ann"]
    statement = "UPDATE entities SET quantity = 999999999"
    done = subprocess.run(
        [*command, statement, "--write", "--store", store, "--ca", str(target.ca)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "--page-plane public" in done.stderr
    item = httpx.get(f"{target.base_url}/v1/inventories/ann/items/gold")
    assert item.headers.get("x-entity-quantity") != "999999999"


async def test_a_flood_of_seeks_leaves_frames_to_others(target: Target, innocent: Innocent) -> None:
    async with target.client() as client:
        for tick in range(1, 60):
            await client.post("/v1/worlds/deep/frames", content=body(flood(tick % 8 + 1, 50)))
    url = f"ws://127.0.0.1:{target.port('plain')}/v1/worlds/deep/replay"
    sent = refused = 0
    async with attack_on(target, innocent) as attack, AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(websockets.connect(url)) for _ in range(4)]
        until = asyncio.get_running_loop().time() + (20 if LONG else 3)

        async def seek(viewer: websockets.ClientConnection) -> None:
            nonlocal sent, refused
            try:
                while asyncio.get_running_loop().time() < until:
                    await viewer.send(encode_control("seek", tick=1 + sent % 40))
                    sent += 1
                    await asyncio.sleep(0)
            except websockets.ConnectionClosed:
                refused += 1

        async def take(viewer: websockets.ClientConnection) -> None:
            with contextlib.suppress(websockets.ConnectionClosed):
                while True:
                    await viewer.recv()

        taking = [asyncio.ensure_future(take(viewer)) for viewer in viewers]
        await asyncio.gather(*map(seek, viewers))
        for task in taking:
            task.cancel()
    assert sent > 100
    attack.check(cpu_s=1 + attack.seconds)
    await given_back(target, attack)


async def test_branches_of_one_address_are_made_one_at_a_time_and_bounded(
    start_target: StartTarget, tmp_path: Path
) -> None:
    target = start_target("--branches-per-world-max", "12")
    watcher = Innocent(target)
    try:
        watcher.ask()
        async with target.client() as client:
            await client.post("/v1/worlds/trunk/frames?durable=1", content=body(flood(1, 50)))
        async with attack_on(target, watcher) as attack, target.client() as client:
            asked = await asyncio.gather(
                *(client.post("/v1/worlds/trunk/branch", json={"name": f"b{n}"}) for n in range(60))
            )
        statuses = sorted(answer.status_code for answer in asked)
        assert statuses.count(201) <= 12
        assert set(statuses) <= {201, 409, 429, 503}
        assert await target.metric("mvgateway_refusals_total", bound="branches_per_world_max") > 0
        attack.check()
        await given_back(target, attack)
    finally:
        watcher.end()


async def test_a_big_world_as_json_is_made_off_the_loop_and_a_few_at_a_time(
    target: Target, innocent: Innocent
) -> None:
    async with target.client() as client:
        await put_state(client, "big", 4 * 1_000_000)
        await client.get("/v1/worlds/big/frames/last")
    headers = {"accept": "application/json"}
    async with attack_on(target, innocent) as attack, target.client() as client:
        for _ in range(6 if LONG else 1):
            asked = await asyncio.gather(
                *(client.get("/v1/worlds/big/frames/last", headers=headers) for _ in range(20))
            )
            assert {answer.status_code for answer in asked} <= {200, 429, 503}
            assert any(answer.status_code == 200 and answer.json()["records"] for answer in asked[:3])
    attack.check()
    await given_back(target, attack)
