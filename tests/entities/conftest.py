"""Gateways for entity tests: in this process, over a store of their own or one that they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config import Settings
from gateway.runtime.gateway import Gateway
from tests.patience import HANG_S

StartGateway = Callable[..., Awaitable[Gateway]]


def settings_in(folder: Path, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "port": 0,
        "plain": "127.0.0.1:0",
        "store": str(folder / "store"),
        "certs": str(folder / "certs"),
        "drain_ms": 1_000,
    }
    return Settings(**{**values, **changes})


@pytest.fixture
async def start_gateway(tmp_path: Path, backend: dict[str, str]) -> AsyncIterator[StartGateway]:
    running: list[Gateway] = []

    async def start(**changes: Any) -> Gateway:
        running.append(await Gateway.start(settings_in(tmp_path, **{**backend, **changes})))
        return running[-1]

    yield start
    for gateway in reversed(running):
        await gateway.drain(0.5)


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    return await start_gateway()


def client_of(gateway: Gateway) -> httpx.AsyncClient:
    assert gateway.plain_server is not None
    limits = httpx.Limits(max_connections=100)
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{gateway.plain_server.port}", timeout=HANG_S, limits=limits
    )


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(gateway) as client:
        for world in ("town", "forest"):
            (await client.put(f"/v1/worlds/{world}")).raise_for_status()
        yield client
