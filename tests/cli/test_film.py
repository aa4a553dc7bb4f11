"""Films are looked at without a gateway: their own page, and nothing written to them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sys
from pathlib import Path

import httpx
import pytest

from gateway.recordings.films import FilmWriter
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.layouts import resolve
from tests.patience import HANG_S


def film(path: Path, records: int) -> Path:
    rows = [Record(key, b"\0" * 100) for key in range(records)]
    with FilmWriter(path, world="arena", stride=100, now_us=1, layout=resolve("xrgrid")) as writer:
        writer.begin([encode_frame(Frame(1, 7, rows, keyframe=True))], received_at_us=1_700_000_000_000_000)
    return path


async def verb(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "film", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_each_film_has_a_page_and_stays_as_it_is(tmp_path: Path) -> None:
    films = [film(tmp_path / "goal.sqlite", 3), film(tmp_path / "a b.sqlite", 5)]
    before = [hashlib.sha256(one.read_bytes()).digest() for one in films]
    child = await verb(*map(str, films))
    assert child.stdout is not None
    async with asyncio.timeout(HANG_S):
        pages = [(await child.stdout.readline()).decode().strip() for _ in films]
    assert [page.partition("#")[2] for page in pages] == ["goal", "film-2"]
    async with httpx.AsyncClient() as client:
        for page, count in zip(pages, (3, 5), strict=True):
            address, _, name = page.partition("/film#")
            assert (await client.get(f"{address}/film")).status_code == 200
            told = (await client.get(f"{address}/v1/worlds/{name}")).json()
            assert (told["retention"], told["layout"]["name"]) == ("record", "xrgrid")
            state = await client.get(
                f"{address}/v1/worlds/{name}/frames?tick=7", headers={"accept": "application/json"}
            )
            assert len(state.json()["records"]) == count
    child.terminate()
    out, err = await child.communicate()
    assert (child.returncode, out) == (0, b""), err
    assert [hashlib.sha256(one.read_bytes()).digest() for one in films] == before
    assert sorted(os.listdir(tmp_path)) == sorted(one.name for one in films)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no film"), (b"", "it is empty"), (b"not SQLite" * 100, "is no film")]
)
async def test_what_is_no_film_is_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "x.sqlite"
    if content is not None:
        file.write_bytes(content)
    child = await verb(str(file))
    _, err = await child.communicate()
    assert child.returncode == 2
    assert says in err.decode()
    assert "x.sqlite" in err.decode()
    assert b"Traceback" not in err


async def test_a_port_that_is_taken_is_told_by_this_verbs_own_flag(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        child = await verb(str(film(tmp_path / "goal.sqlite", 1)), "--port", str(taken.getsockname()[1]))
        _, err = await child.communicate()
    assert child.returncode == 2
    assert b"--port" in err
    assert b"--plain" not in err
