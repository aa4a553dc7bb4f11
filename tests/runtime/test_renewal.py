"""SIGUSR2 to ``serve --workers``: every process is replaced by what is installed now, while the others serve."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx

from gateway.client import ConnectionEvent, Publisher, Subscriber
from gateway.errors import ShuttingDown
from tests.runtime.conftest import GatewayProcess, StartProcess, until
from tests.runtime.test_workers import all_alive, children_of, events_of, process_of

PATIENCE_S = 90.0
WORLD = "renewed"


async def renew(gateway: GatewayProcess) -> None:
    """Until no process is what it was."""
    before, times = children_of(gateway), len(events_of(gateway.folder, "workers renewed"))
    gateway.process.send_signal(signal.SIGUSR2)
    await until(lambda: len(events_of(gateway.folder, "workers renewed")) > times, PATIENCE_S)
    assert not before & children_of(gateway)


async def test_publisher_and_readers_are_told_to_move_and_go_on_in_their_epoch(
    start_process: StartProcess, tmp_path: Path
) -> None:
    gateway = start_process("--workers", "2", log=tmp_path / "log").wait_ready()
    url, ca = f"https://127.0.0.1:{gateway.port('https')}", tmp_path / "certs" / "ca.pem"
    told: list[ConnectionEvent] = []
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(url, WORLD, ca=ca, on_connection=told.append))
        readers = [
            await stack.enter_async_context(
                Subscriber(url, WORLD, ca=ca, transport=transport, on_connection=told.append)
            )
            for transport in ("webtransport", "websocket") * 3
        ]
        going = asyncio.create_task(publish_on(publisher))
        await until(lambda: all(reader.tick > 0 for reader in readers), PATIENCE_S)
        await renew(gateway)
        tick = publisher.tick + 30
        await until(lambda: all(reader.tick >= tick for reader in readers), PATIENCE_S)
        durable = (await publisher.wait_durable()).tick
        going.cancel()
        assert {session.epoch for session in (publisher, *readers)} == {1}
        moves = [event.error for event in told if event.kind == "disconnected"]
        assert moves
        assert {type(error) for error in moves} == {ShuttingDown}, moves
    assert not [event for event in told if event.error is not None and event.kind == "ended"]
    async with httpx.AsyncClient(base_url=gateway.base_url, timeout=PATIENCE_S) as client:
        info = (await client.get(f"/v1/worlds/{WORLD}")).json()
    assert info["epoch"] == 1
    assert info["durable"]["tick"] >= durable
    assert not events_of(tmp_path, "worker ended")
    assert gateway.terminate()[0] == 0


async def publish_on(publisher: Publisher) -> None:
    while True:
        publisher.send({1: b"%d" % time.monotonic_ns()})
        await asyncio.sleep(1 / 60)


async def test_the_supervisor_stays_the_process_that_it_was_and_takes_its_settings_anew_each_time(
    start_process: StartProcess, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("linger_ms = 1000\n")
    gateway = start_process(
        "--workers", "2", "--config", str(file), "--udp", "127.0.0.1:0", log=tmp_path / "log"
    )
    gateway.wait_ready()
    supervisor = gateway.process.pid
    file.write_text('linger_ms = 2000\nhost = "127.0.0.2"\n')
    await renew(gateway)
    await renew(gateway)
    await until(lambda: all_alive(gateway), PATIENCE_S)
    assert gateway.process.pid == supervisor
    for number in (0, 1):
        assert process_of(gateway, number) in children_of(gateway)
    renewed = events_of(tmp_path, "supervisor renewed")
    assert [event["need_a_restart"] for event in renewed] == [["host"], ["host"]]
    async with httpx.AsyncClient(base_url=gateway.base_url, timeout=PATIENCE_S) as client:
        (await client.put(f"/v1/worlds/{WORLD}")).raise_for_status()
        assert (await client.post(f"/v1/worlds/{WORLD}/udp")).status_code == 201
    assert gateway.terminate()[0] == 0


async def test_what_would_not_start_is_not_started_and_the_log_says_why(
    start_process: StartProcess, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("linger_ms = 1000\n")
    gateway = start_process("--workers", "2", "--config", str(file), log=tmp_path / "log").wait_ready()
    before = children_of(gateway)
    file.write_text("linger_ms = -1\n")
    gateway.process.send_signal(signal.SIGUSR2)
    await until(lambda: bool(events_of(tmp_path, "not renewed")), PATIENCE_S)
    assert "linger" in events_of(tmp_path, "not renewed")[0]["why"]
    assert children_of(gateway) == before
    assert await all_alive(gateway)
    assert gateway.terminate()[0] == 0


async def test_a_worker_that_is_killed_meanwhile_is_started_again_as_what_is_installed_now(
    start_process: StartProcess, tmp_path: Path
) -> None:
    gateway = start_process("--workers", "2", log=tmp_path / "log").wait_ready()
    before = children_of(gateway)
    victim = process_of(gateway, 1)
    gateway.process.send_signal(signal.SIGUSR2)
    await until(lambda: bool(events_of(tmp_path, "supervisor renewed")), PATIENCE_S)
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    await until(lambda: not before & children_of(gateway), PATIENCE_S)
    await until(lambda: all_alive(gateway), PATIENCE_S)
    assert gateway.terminate()[0] == 0


async def test_one_process_alone_says_that_it_cannot_be_replaced_and_serves_on(
    start_process: StartProcess, tmp_path: Path
) -> None:
    gateway = start_process(log=tmp_path / "log").wait_ready()
    gateway.process.send_signal(signal.SIGUSR2)
    await until(lambda: "SIGUSR2" in (tmp_path / "log").read_text(), PATIENCE_S)
    async with httpx.AsyncClient(base_url=gateway.base_url, timeout=PATIENCE_S) as client:
        assert (await client.get("/healthz")).json()["status"] == "ok"
    assert gateway.terminate()[0] == 0
