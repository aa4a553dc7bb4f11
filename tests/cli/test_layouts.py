"""What records mean, from the command line: given, kept in films, and shown."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.config import Settings
from gateway.runtime.gateway import Gateway
from tests.patience import HANG_S

DOORS = {"name": "doors", "fields": [{"name": "angle", "type": "u16", "offset": 12, "unit": "deg"}]}


class Verbs:
    """``mvgateway`` beside a gateway."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.url = f"https://127.0.0.1:{gateway.port}"
        self.ca = str(folder / "certs" / "ca.pem")

    async def run(self, *words: str, code: int = 0) -> str:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", *words, "--url", self.url, "--ca", self.ca),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await child.communicate()
        assert child.returncode == code, (out, err)
        return (out if code == 0 else err).decode()

    async def values_told(self, world: str, keys: str) -> dict[str, dict[str, object]]:
        """What ``watch --values --json`` tells of these records, once it tells all of them."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "watch", world, "--values", keys, "--json"),
            *("--url", self.url, "--ca", self.ca),
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        try:
            async with asyncio.timeout(HANG_S):
                while len(told := json.loads(await child.stdout.readline())["values"]) < len(keys.split(",")):
                    pass
        finally:
            child.terminate()
            await child.wait()
        return dict(told)

    async def has_layout(self, world: str) -> bool:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "worlds", "show", world, "--json"),
            *("--url", self.url, "--ca", self.ca),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out, _ = await child.communicate()
        return child.returncode == 0 and json.loads(out).get("layout") is not None

    async def layout(self, world: str) -> object:
        return json.loads(await self.run("worlds", "show", world, "--json")).get("layout")


@pytest_asyncio.fixture
async def verbs(tmp_path: Path) -> AsyncIterator[Verbs]:
    folders = {"store": str(tmp_path / "store"), "certs": str(tmp_path / "certs")}
    gateway = await Gateway.start(Settings(port=0, plain="127.0.0.1:0", retention="record", **folders))
    yield Verbs(gateway, tmp_path)
    await gateway.drain(2.0)


async def test_walkers_say_what_they_are_and_a_film_of_them_does(verbs: Verbs, tmp_path: Path) -> None:
    await verbs.run("publish", "arena", "--players", "3", "--seconds", "0.5")
    shown = json.loads(await verbs.run("recover", "arena", "--decode", "layout", "--json"))["decoded"]
    assert {values["player"] for values in shown.values()} == {"avatar-0", "avatar-1", "avatar-2"}
    film = tmp_path / "arena.sqlite"
    await verbs.run("clip", "arena", "--from", "1", "--out", str(film))
    told = json.loads(await verbs.run("recover", str(film), "--decode", "layout", "--json"))["decoded"]
    assert told.keys() == shown.keys()


async def test_a_layout_of_ones_own_is_left_alone(verbs: Verbs, tmp_path: Path) -> None:
    file = tmp_path / "doors.json"
    file.write_text(json.dumps(DOORS))
    await verbs.run("worlds", "create", "arena", "--stride", "100", "--layout", str(file))
    await verbs.run("publish", "arena", "--players", "1", "--seconds", "0.2")
    assert await verbs.layout("arena") == DOORS
    await verbs.run("worlds", "set", "arena", "--layout", "xrgrid")
    layout = await verbs.layout("arena")
    assert isinstance(layout, dict)
    assert layout["name"] == "xrgrid"
    await verbs.run("worlds", "set", "arena", "--layout", "none")
    assert await verbs.layout("arena") is None
    assert "has no layout" in await verbs.run("recover", "arena", "--decode", "layout", code=2)


@pytest.mark.parametrize(
    ("text", "says"), [("{", "doors.json"), ('{"fields": []}', "fields"), (None, "no file")]
)
async def test_a_bad_layout_is_refused_by_its_files_name(
    verbs: Verbs, tmp_path: Path, text: str | None, says: str
) -> None:
    file = tmp_path / "doors.json"
    if text is not None:
        file.write_text(text)
    told = await verbs.run("worlds", "create", "arena", "--layout", str(file), code=2)
    assert says in told
    assert "doors.json" in told


async def test_watch_shows_values_of_a_world_with_a_layout(verbs: Verbs) -> None:
    publisher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "publish", "arena", "--players", "30", "--hz", "20"),
        *("--url", verbs.url, "--ca", verbs.ca),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(HANG_S):
            while not await verbs.has_layout("arena"):
                pass
        told = await verbs.values_told("arena", "2,7")
        assert {key: values["player"] for key, values in told.items()} == {"2": "avatar-1", "7": "avatar-6"}
        shown = await verbs.run("watch", "arena", "--values", "--seconds", "3")
        assert "player avatar-19" in shown
        assert "player avatar-20" not in shown
        assert "10 more" in shown
    finally:
        publisher.terminate()
        await publisher.wait()


async def test_watch_says_what_is_missing_for_values(verbs: Verbs) -> None:
    await verbs.run("worlds", "create", "plain")
    assert "--layout NAME" in await verbs.run("watch", "plain", "--values", "--seconds", "1", code=2)
    assert "'x'" in await verbs.run("watch", "plain", "--values", "x", "--seconds", "1", code=2)
