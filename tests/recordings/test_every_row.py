"""Every way of reading a recording gives exactly the rows of its table, whatever their number."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.client import HttpClient, ReceivedFrame, Subscriber, Trust
from gateway.client.address import world_path
from gateway.recordings.recording import Moment, open_film
from gateway.wire import Control, MessageStream, decode_message
from gateway.wire.journal import JournalFrame
from tests.patience import HANG_S
from tests.recordings.once import SIZES, Row, rows_in, rows_of_once, states_add_up
from tests.runtime.conftest import GatewayProcess


class Place:
    """Where a way reads from and may write to."""

    def __init__(self, size: int, folder: Path, serving: GatewayProcess, out: Path) -> None:
        self.world = f"once-{size}"
        self.size = size
        self.folder = folder
        self.serving = serving
        self.out = out

    @property
    def by_url(self) -> list[str]:
        return ["--url", self.url, "--ca", str(self.ca)]

    @property
    def by_store(self) -> list[str]:
        return ["--store", str(self.folder)]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.serving.port('https')}"

    @property
    def ca(self) -> Path:
        return self.serving.folder / "certs" / "ca.pem"


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def messages_of(data: bytes) -> list[bytes]:
    stream = MessageStream()
    stream.feed(data)
    return list(stream)


def replayed(place: Place, *source: str, name: str | None = None) -> list[Row]:
    out = place.out / "replayed.frames"
    run("replay", name or place.world, *source, "--out", out, "--speed", "max")
    return rows_in(messages_of(out.read_bytes()))


def filmed(path: Path) -> list[Row]:
    """The rows of a film's table, its first state as the row of its tick; keyframes of its own left out."""
    with open_film(path) as film:

        async def read() -> list[Row]:
            rows = [item async for item in film.rows() if isinstance(item, JournalFrame)]
            return rows_in([message for row in rows for message in row.messages])

        first = film.snapshot(Moment(1, 1))
        return [
            (first.epoch, first.tick, dict(first.records)),
            *(row for row in asyncio.run(read()) if row[1] > 1),
        ]


def clipped(place: Place, *source: str) -> list[Row]:
    run("clip", place.world, *source, "--out", place.out / "clip.sqlite")
    return filmed(place.out / "clip.sqlite")


def archived(place: Place, *source: str) -> list[Row]:
    run("archive", place.world, place.out / "archive", *source)
    run("restore", place.out / "archive", "--out", place.out / "back.sqlite")
    return filmed(place.out / "back.sqlite")


def archived_from_a_film(place: Place) -> list[Row]:
    run("clip", place.world, *place.by_store, "--out", place.out / "clip.sqlite")
    run("archive", place.out / "clip.sqlite", place.out / "archive")
    run("restore", place.out / "archive", "--out", place.out / "back.sqlite")
    return filmed(place.out / "back.sqlite")


def restored_into_a_store(place: Place) -> list[Row]:
    run("archive", place.world, place.out / "archive", *place.by_store)
    (place.out / "store").mkdir()
    run("restore", place.out / "archive", "--store", place.out / "store", "--world", "again")
    return replayed(place, "--store", str(place.out / "store"), name="again")


def replayed_from_a_film(place: Place) -> list[Row]:
    run("clip", place.world, *place.by_store, "--out", place.out / "clip.sqlite")
    return replayed(place, name=str(place.out / "clip.sqlite"))


def exported(place: Place) -> list[Row]:
    run("export", place.world, place.out / "all.sqlite", *place.by_store)
    with closing(sqlite3.connect(place.out / "all.sqlite")) as plain:
        assert plain.execute("SELECT count(*) FROM frames").fetchone() == (place.size,)
    return filmed(place.out / "all.sqlite")


def got(place: Place) -> list[Row]:
    """``GET …/frames``."""

    async def get() -> list[bytes]:
        async with HttpClient(place.url, trust=Trust.of(ca=place.ca)) as client:
            path = world_path(place.world, "frames", epoch=1)
            return messages_of(b"".join([chunk async for chunk in client.stream(path)]))

    return rows_in(asyncio.run(get()))


def watched(place: Place, transport: str) -> list[Row]:
    """A replay session by WebTransport or WebSocket."""
    rows: list[Row] = []

    def take(frame: ReceivedFrame) -> None:
        if not rows or rows[-1][1] != frame.tick:
            rows.append((frame.epoch, frame.tick, {}))
        rows[-1][2].update(frame.records)

    async def watch() -> None:
        over = asyncio.Event()

        def hear(control: Control) -> None:
            if control.type == "position" and control["ended"]:
                over.set()

        async with (
            asyncio.timeout(HANG_S),
            Subscriber(
                place.url,
                place.world,
                replay={"speed": "max"},
                transport=transport,
                ca=place.ca,
                on_message=take,
                on_event=hear,
            ),
        ):
            await over.wait()

    asyncio.run(watch())
    return rows


def streamed(place: Place) -> list[Row]:
    """A replay session by a plain ``GET``."""

    async def read() -> list[bytes]:
        found: list[bytes] = []
        stream = MessageStream()
        async with asyncio.timeout(HANG_S), HttpClient(place.url, trust=Trust.of(ca=place.ca)) as client:
            async for chunk in client.stream(world_path(place.world, "replay", speed="max")):
                stream.feed(chunk)
                for message in stream:
                    decoded = decode_message(message)
                    if not isinstance(decoded, Control):
                        found.append(message)
                    elif decoded.type == "position" and decoded["ended"]:
                        return found
        return found

    return rows_in(asyncio.run(read()))


WAYS: dict[str, Callable[[Place], list[Row]]] = {
    "session by webtransport": lambda place: watched(place, "webtransport"),
    "session by websocket": lambda place: watched(place, "websocket"),
    "session by http": streamed,
    "GET frames": got,
    "replay --url": lambda place: replayed(place, *place.by_url),
    "replay --store": lambda place: replayed(place, *place.by_store),
    "replay of a film": replayed_from_a_film,
    "clip --url": lambda place: clipped(place, *place.by_url),
    "clip --store": lambda place: clipped(place, *place.by_store),
    "archive --url": lambda place: archived(place, *place.by_url),
    "archive --store": lambda place: archived(place, *place.by_store),
    "archive of a film": archived_from_a_film,
    "restore --store": restored_into_a_store,
    "export": exported,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_reading_yields_exactly_the_rows_of_the_table(
    way: str, size: int, filled: Path, serving: GatewayProcess, tmp_path: Path
) -> None:
    rows = WAYS[way](Place(size, filled, serving, tmp_path))
    wanted = rows_of_once(size)
    assert len(rows) == len(wanted)
    assert rows == wanted
    assert states_add_up(rows, size)
