"""The example project as its README has it, without a screen: a server walks ten avatars, and a client shows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.client import Publisher, Subscriber
from tests.client.conftest import Served, until
from tests.kits.godot.engine import errors_in, program
from tests.patience import HANG_S


@asynccontextmanager
async def scene(project: Path, name: str, served: Served) -> AsyncIterator[list[str]]:
    """A scene at work; what it has said once the block has ended."""
    words = ["--headless", "--path", str(project), f"res://avatars/{name}.tscn", "--"]
    process = await asyncio.create_subprocess_exec(
        program(),
        *words,
        f"--url={served.url.replace('https', 'wss')}",
        f"--ca={served.ca}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said: list[str] = []
    try:
        yield said
        assert process.returncode is None, "it ended by itself"
    finally:
        if process.returncode is None:
            process.terminate()
        out, _ = await process.communicate()
        said.extend(out.decode(errors="replace").splitlines())


async def test_ten_avatars_walk_and_are_shown(project: Path, served: Served) -> None:
    async with Publisher(served.url, "avatars", ca=served.ca):
        pass  # a reader finds the world there
    async with (
        scene(project, "server", served) as server,
        Subscriber(served.url, "avatars", ca=served.ca) as reader,
    ):
        await until(lambda: len(reader.records()) >= 10, HANG_S)
        before = reader.records()
        await until(lambda: sum(reader.records()[key] != before[key] for key in before) >= 10, HANG_S)
        host = await served.gateway.worlds.host("avatars")
        async with scene(project, "client", served) as client:
            await until(lambda: len(host.world.subscribers) == 2, HANG_S)
    assert errors_in("\n".join([*server, *client])) == []
