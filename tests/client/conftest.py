"""What the client's tests share: a real gateway in this process, on ports of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.config import Settings
from gateway.runtime.gateway import Gateway
from tests.patience import HANG_S


class Served:
    """A running gateway and how to reach it."""

    def __init__(self, gateway: Gateway, certs: Path) -> None:
        self.gateway = gateway
        self.url = f"https://127.0.0.1:{gateway.port}"
        self.ca = certs / "ca.pem"
        self.sha256 = gateway.certificates.current.sha256

    def trusted(self, **more: Any) -> dict[str, Any]:
        return {"ca": self.ca, **more}


def settings_in(folder: Path, **more: Any) -> Settings:
    return Settings(port=0, plain="", store=str(folder / "store"), certs=str(folder / "certs"), **more)


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    gateway = await Gateway.start(settings_in(tmp_path))
    try:
        yield Served(gateway, tmp_path / "certs")
    finally:
        await gateway.drain(2.0)


async def until(condition: Callable[[], bool], seconds: float = HANG_S) -> None:
    """Wait for a condition, or fail after a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.005)


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    return until
