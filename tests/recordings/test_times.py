"""What a gateway tells of a recording's rows: when each was sent, and when it was received."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.client import HttpClient, Trust
from gateway.client.address import world_path
from gateway.recordings.recording import RemoteRecording
from gateway.wire import Control, MessageStream, decode_message
from gateway.wire.journal import JournalFrame
from tests.recordings.once import BEGIN_US, TICK_US
from tests.runtime.conftest import GatewayProcess

SIZE = 513
WORLD = f"once-{SIZE}"


def url_of(serving: GatewayProcess) -> str:
    return f"https://127.0.0.1:{serving.port('https')}"


def ca_of(serving: GatewayProcess) -> Path:
    return serving.folder / "certs" / "ca.pem"


def test_each_row_is_told_with_its_times_where_they_are_asked_for(serving: GatewayProcess) -> None:
    async def get(**query: int) -> list[Control]:
        async with HttpClient(url_of(serving), trust=Trust.of(ca=ca_of(serving))) as client:
            stream = MessageStream()
            async for chunk in client.stream(world_path(WORLD, "frames", epoch=1, **query)):
                stream.feed(chunk)
            return [what for message in stream if isinstance(what := decode_message(message), Control)]

    rows = asyncio.run(get(rows=1))
    assert [(row.type, row["seq"], row["epoch"], row["tick"]) for row in rows] == [
        ("row", tick - 1, 1, tick) for tick in range(1, SIZE + 1)
    ]
    assert [row["received_at"] for row in rows] == [BEGIN_US + tick * TICK_US for tick in range(1, SIZE + 1)]
    assert all(row["received_at"] - row["sent_at"] == 500 for row in rows)
    assert asyncio.run(get()) == []


def test_a_remote_recording_has_the_times_of_the_table(serving: GatewayProcess) -> None:
    async def read() -> list[JournalFrame]:
        async with HttpClient(url_of(serving), trust=Trust.of(ca=ca_of(serving))) as client:
            recording = RemoteRecording(WORLD, client)
            return [item async for item in recording.rows((1, 2), (1, 300)) if isinstance(item, JournalFrame)]

    rows = asyncio.run(read())
    assert [row.tick for row in rows] == list(range(2, 301))
    assert all(row.received_at_us == BEGIN_US + row.tick * TICK_US for row in rows)
    assert all(row.received_at_us - row.sent_at_us == 500 for row in rows)


def test_a_plot_draws_the_same_from_a_gateway_as_from_its_store(
    serving: GatewayProcess, filled: Path, tmp_path: Path
) -> None:
    by_url = ["--url", url_of(serving), "--ca", str(ca_of(serving))]
    for name, source in (("url", by_url), ("store", ["--store", str(filled)])):
        assert main(["plot", WORLD, str(tmp_path / f"{name}.svg"), *source]) == 0
    drawn = (tmp_path / "url.svg").read_text()
    assert drawn == (tmp_path / "store.svg").read_text()
    (largest,) = re.findall(r"ms from the publisher to the gateway.*\n.*>([0-9.e+-]+)</text>", drawn)
    assert float(largest) == 0.5


def test_a_film_from_a_gateway_has_both_times(serving: GatewayProcess, tmp_path: Path) -> None:
    film = tmp_path / "film.sqlite"
    by_url = ["--url", url_of(serving), "--ca", str(ca_of(serving))]
    assert main(["clip", WORLD, *by_url, "--out", str(film)]) == 0
    with closing(sqlite3.connect(film)) as plain:
        rows = plain.execute("SELECT tick, received_at, sent_at FROM frames WHERE keyframe = 0").fetchall()
    assert len(rows) == SIZE - 1
    assert all(received == BEGIN_US + tick * TICK_US == sent + 500 for tick, received, sent in rows)


def test_a_gateway_verifies_the_rows_before_the_first_keyframe_too(
    serving: GatewayProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    by_url = ["--url", url_of(serving), "--ca", str(ca_of(serving))]
    assert main(["verify", WORLD, *by_url, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["ok"], report["damaged"]) == (SIZE, 1, [])
