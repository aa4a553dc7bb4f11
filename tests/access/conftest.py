"""Keys and tokens for the tests of access control."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.runtime.access.signing import SigningKey
from gateway.runtime.gateway import Gateway
from tests.runtime.conftest import settings_in

ALL: dict[str, Any] = {verb: ["*"] for verb in ("sub", "pub", "ent", "inv", "store", "admin")}


class Maker:
    """A studio's backend: keys in a folder, tokens from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = SigningKey.generate("EdDSA", "first")
        self.key.write(folder)

    def another(self, kid: str, alg: Any = "EdDSA", scope: Any = None) -> SigningKey:
        key = SigningKey.generate(alg, kid, scope)
        key.write(self.folder)
        return key

    def token(self, mv: Any = None, *, for_s: float = 600, key: SigningKey | None = None, **more: Any) -> str:
        claims = {"exp": int(time.time() + for_s), "mv": ALL if mv is None else mv, **more}
        return (key or self.key).sign({name: value for name, value in claims.items() if value is not None})


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "keys")


StartGated = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def start_gated(tmp_path: Path, maker: Maker) -> AsyncIterator[StartGated]:
    """Start a gateway that asks for tokens of ``maker``."""
    running: list[Gateway] = []

    async def start(**changes: Any) -> Gateway:
        settings = settings_in(
            tmp_path,
            **{
                "auth_keys": str(maker.folder),
                "udp": "127.0.0.1:0",
                "admin_api": "127.0.0.1:0",
                **changes,
            },
        )
        running.append(await Gateway.start(settings))
        return running[-1]

    yield start
    for gateway in running:
        await gateway.drain(0.5)


@pytest.fixture
async def gated(start_gated: StartGated) -> Gateway:
    return await start_gated()
