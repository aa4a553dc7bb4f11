"""A stretch of a recording as a file, over HTTP."""

from __future__ import annotations

import csv
import io
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from mcap.reader import make_reader

from gateway import limits
from gateway.cli._motion import Avatars
from gateway.recordings.recording import Moment, open_film
from gateway.wire.layouts import resolve
from tests.runtime.conftest import body, frame

LAST = 20
WALKERS = Avatars(3)


@pytest.fixture
async def filmed(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> httpx.AsyncClient:
    """A world of some ticks; clips are made in ``tmp_path/clips``."""
    (tmp_path / "clips").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "clips"))
    await client.put("/v1/worlds/w", json={"stride": 100, "layout": "avatars", "retention": "record"})
    frames = [frame(tick, dict(WALKERS.frame(tick))) for tick in range(1, LAST + 1)]
    answer = await client.post("/v1/worlds/w/frames?durable=1", content=body(*frames))
    assert answer.status_code == 200, answer.text
    return client


async def clip(client: httpx.AsyncClient, query: str) -> bytes:
    answer = await client.get(f"/v1/worlds/w/clip?{query}")
    assert answer.status_code == 200, answer.text
    assert len(answer.content) == int(answer.headers["content-length"])
    return answer.content


async def test_a_stretch_comes_as_a_film_with_marks_and_layout(
    filmed: httpx.AsyncClient, tmp_path: Path
) -> None:
    await filmed.post(
        "/v1/worlds/w/marks", json={"name": "goal", "epoch": 1, "tick": 7, "data": {"score": 1}}
    )
    await filmed.post("/v1/worlds/w/marks", json={"name": "later", "epoch": 1, "tick": 19})
    file = tmp_path / "goal.sqlite"
    file.write_bytes(await clip(filmed, "from=5&to=10"))
    with open_film(file) as film:
        for tick in range(5, 11):
            assert film.snapshot(Moment(1, tick)).records == dict(WALKERS.frame(tick))
        assert [(mark["name"], mark["data"]) for mark in film.history.marks()] == [("goal", '{"score": 1}')]
        assert film.history.summary()["last"]["tick"] == 10
        assert film.history.summary()["layout"]["name"] == "avatars"
    with sqlite3.connect(file) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()
    assert list((tmp_path / "clips").iterdir()) == []  # nothing is left of what was sent


async def test_a_stretch_comes_in_every_form_with_the_same_values(
    filmed: httpx.AsyncClient, tmp_path: Path
) -> None:
    layout = resolve("avatars")
    said = {
        (tick, key): layout.place(data) for tick in range(5, 11) for key, data in WALKERS.frame(tick).items()
    }
    assert len(said) == 18
    rows = list(csv.DictReader(io.StringIO((await clip(filmed, "from=5&to=10&format=csv&epoch=1")).decode())))
    told: dict[str, dict[tuple[int, int], Any]] = {
        "csv": {
            (int(row["tick"]), int(row["key"])): tuple(float(row[f"position_{i}"]) for i in range(3))
            for row in rows
        }
    }
    table = pq.read_table(io.BytesIO(await clip(filmed, "from=5&to=10&format=parquet"))).to_pylist()
    told["parquet"] = {
        (row["tick"], row["key"]): tuple(row[f"position_{i}"] for i in range(3)) for row in table
    }
    for places in told.values():
        assert places == {place: pytest.approx(at) for place, at in said.items()}
    reader = make_reader(io.BytesIO(await clip(filmed, "from=5&to=10&format=mcap")))
    summary = reader.get_summary()
    assert summary is not None
    assert summary.statistics is not None
    assert summary.statistics.message_count == 12
    assert (await clip(filmed, "from=5&to=10&format=gltf")).startswith(b"glTF")
    assert list((tmp_path / "clips").iterdir()) == []


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("from=5", 400, "from and to"),
        ("from=9&to=5", 400, "to=5"),
        ("from=5&to=9&format=avi", 400, "'avi'"),
        ("from=5&to=x", 400, "to="),
        ("from=5&to=9&epoch=0", 404, "epoch 0"),
        ("from=5&to=9&size=1", 400, "size"),
        ("from=5&to=9&delay_s=3600", 404, "not recorded"),
    ],
)
async def test_what_cannot_be_cut_is_refused_by_name(
    filmed: httpx.AsyncClient, tmp_path: Path, query: str, status: int, says: str
) -> None:
    answer = await filmed.get(f"/v1/worlds/w/clip?{query}")
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    assert list((tmp_path / "clips").iterdir()) == []


async def test_a_form_that_the_layout_does_not_allow_is_refused(
    filmed: httpx.AsyncClient, tmp_path: Path
) -> None:
    await filmed.patch("/v1/worlds/w", json={"layout": None})
    answer = await filmed.get("/v1/worlds/w/clip?from=5&to=9&format=gltf")
    assert (answer.status_code, "position" in answer.json()["detail"]) == (422, True)
    assert list((tmp_path / "clips").iterdir()) == []


@pytest.mark.parametrize("bound", ["CLIP_ROWS_MAX", "CLIP_BYTES_MAX"])
async def test_a_clip_beyond_its_bounds_is_refused_and_leaves_nothing(
    filmed: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(limits, bound, 1)
    answer = await filmed.get("/v1/worlds/w/clip?from=5&to=15")
    assert answer.status_code == 413
    assert "mvgateway clip" in answer.json()["detail"]
    assert list((tmp_path / "clips").iterdir()) == []
