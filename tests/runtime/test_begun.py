"""What is left where a gateway cannot start, and where what looks after it meets a fault."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.config import split_address
from gateway.errors import ConfigError
from gateway.runtime import keeping
from gateway.runtime.gateway import Gateway
from gateway.runtime.keeping import Keeper
from gateway.store.embedded import EmbeddedStore
from tests.patience import HANG_S
from tests.runtime.conftest import settings_in


async def test_a_start_that_is_refused_leaves_the_stores_folder_free(tmp_path: Path) -> None:
    keys = str(tmp_path / "keys.json")
    with pytest.raises(ConfigError, match=r"keys\.json") as refused:
        await Gateway.start(settings_in(tmp_path, auth_keys=keys))
    assert refused.traceback  # held: what the refused one made is not freed by chance
    gateway = await Gateway.start(settings_in(tmp_path))
    assert await gateway.drain(1.0)


async def test_names_are_looked_after_again_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping, "REAP_S", 0.01)
    store = EmbeddedStore.open(tmp_path / "store", auto_create=True)
    keeper, looked, again = Keeper(store, lambda: ()), 0, asyncio.Event()

    async def look() -> None:
        nonlocal looked
        looked += 1
        if looked == 1:
            raise RuntimeError("a fault")
        again.set()

    monkeypatch.setattr(keeper, "look", look)
    keeper.begin()
    try:
        async with asyncio.timeout(HANG_S):
            await again.wait()
    finally:
        await keeper.stop()
        await store.aclose()
    assert "a fault" in caplog.text


def test_a_port_of_thousands_of_digits_is_told_as_any_other_that_is_none() -> None:
    with pytest.raises(ConfigError, match="is not ADDRESS:PORT"):
        split_address("127.0.0.1:" + "1" * 5_000, "--plain")
