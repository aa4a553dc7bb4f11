"""The sample configuration for haproxy: sessions over TCP, TLS and all, through it to several gateways, and away from one that stops."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.proxied import Proxied, told


@pytest.fixture
def haproxy() -> str:
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        assert os.environ.get("CI") != "true", "haproxy is not installed"
        pytest.skip("haproxy is not installed: its sample configuration is not tried here")
    return found


@pytest.fixture
def proxied(tmp_path: Path, haproxy: str) -> Iterator[Proxied]:
    made = Proxied(tmp_path, "--lame-duck-ms", "3000")
    try:
        config = tmp_path / "haproxy.cfg"
        text = made.here("haproxy.cfg")
        assert len(re.findall(r"127\.0\.0\.1:\d+", text)) == 3
        made.begin(config, text, [haproxy, "-c", "-f", str(config)], [haproxy, "-db", "-f", str(config)])
        yield made
    finally:
        made.close()


async def test_new_connections_go_to_every_gateway_and_to_none_that_is_stopping(proxied: Proxied) -> None:
    first, second = proxied.gateways
    await proxied.both_answer()

    async def stopped() -> None:
        assert (await asyncio.to_thread(first.terminate))[0] == 0
        answered = {await proxied.instance() for _ in range(6)}
        assert answered == {await told(second)}

    await proxied.played(stopped)
