"""Films are looked at without a gateway: their own page, and nothing written to them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from starlette.routing import BaseRoute

from gateway import limits
from gateway.config import Settings
from gateway.http.films import film_routes
from gateway.recordings.films import FilmWriter
from gateway.runtime.films import Films
from gateway.runtime.gateway import Gateway
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
    ("content", "says", "code"),
    [(None, "no film", 2), (b"", "it is empty", 1), (b"not SQLite" * 100, "is no film", 1)],
)
async def test_what_is_no_film_is_refused(
    tmp_path: Path, content: bytes | None, says: str, code: int
) -> None:
    file = tmp_path / "x.sqlite"
    if content is not None:
        file.write_bytes(content)
    child = await verb(str(file))
    _, err = await child.communicate()
    assert child.returncode == code
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


async def test_a_film_that_is_brought_later_opens_beside_the_others(tmp_path: Path) -> None:
    goal, other = film(tmp_path / "goal.sqlite", 3), film(tmp_path / "other.sqlite", 5)
    child = await verb()
    assert child.stdout is not None
    async with asyncio.timeout(HANG_S):
        address = (await child.stdout.readline()).decode().strip()
    assert address.endswith("/")
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        for file, name, world, count in [
            (goal, "goal.sqlite", "goal", 3),
            (other, "goal.sqlite", "film-2", 5),
            (other, "", "film-3", 5),
        ]:
            made = await client.post("/v1/films", params={"name": name}, content=file.read_bytes())
            assert (made.status_code, made.json()) == (201, {"world": world}), made.text
            state = await client.get(
                f"/v1/worlds/{world}/frames?tick=7", headers={"accept": "application/json"}
            )
            assert len(state.json()["records"]) == count
            assert (await client.get(f"/v1/worlds/{world}")).json()["retention"] == "record"
        assert (await client.get("/web/films.js")).text == "export const takesThem = true;\n"
        for content, says in [(b"", "empty"), (b"not SQLite" * 100, "no film")]:
            refused = await client.post("/v1/films", content=content)
            assert refused.status_code == 422
            assert says in refused.json()["detail"]
        foreign = await client.post("/v1/films", content=b"", headers={"origin": "https://elsewhere.example"})
        assert foreign.status_code == 403
        assert [one["world"] for one in (await client.get("/v1/worlds")).json()["worlds"]] == [
            "film-2",
            "film-3",
            "goal",
        ]
    child.terminate()
    _, err = await child.communicate()
    assert child.returncode == 0, err


async def test_a_film_beyond_the_bound_and_one_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, with bounds that are soon reached; what came of a film that is refused is gone."""
    settings = Settings(
        port=0, plain="127.0.0.1:0", store=str(tmp_path / "store"), certs=str(tmp_path / "certs")
    )
    (tmp_path / "came").mkdir()

    def films(made: Gateway) -> Sequence[BaseRoute]:
        return film_routes(Films(made.store.blocking(), made.worlds, tmp_path / "came", []))

    whole = film(tmp_path / "goal.sqlite", 3).read_bytes()
    gateway = await Gateway.start(settings, more=films)
    try:
        assert gateway.plain_server is not None
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{gateway.plain_server.port}", timeout=30
        ) as client:
            monkeypatch.setattr(limits, "FILM_UPLOAD_BYTES_MAX", len(whole) - 1)
            refused = await client.post("/v1/films?name=goal.sqlite", content=whole)
            assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
            monkeypatch.setattr(limits, "FILM_UPLOAD_BYTES_MAX", len(whole))
            monkeypatch.setattr(limits, "FILMS_MAX", 1)
            assert (await client.post("/v1/films?name=goal.sqlite", content=whole)).status_code == 201
            refused = await client.post("/v1/films?name=goal.sqlite", content=whole)
            assert (refused.status_code, "1 films are open" in refused.json()["detail"]) == (422, True)
            assert list((tmp_path / "came").iterdir()) == []
    finally:
        await gateway.drain(1.0)


async def test_a_gateway_takes_no_films(tmp_path: Path) -> None:
    settings = Settings(
        port=0, plain="127.0.0.1:0", store=str(tmp_path / "store"), certs=str(tmp_path / "certs")
    )
    gateway = await Gateway.start(settings)
    try:
        assert gateway.plain_server is not None
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.plain_server.port}") as client:
            assert (await client.post("/v1/films", content=b"")).status_code == 404
    finally:
        await gateway.drain(1.0)
