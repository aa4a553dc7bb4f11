"""How fast a recording gives a world back: the last state, and the state at any tick. Room: bench.

``python -m bench.recovery [--frames 100000] [--records 1800] [--moving 1800] [--store FOLDER] [--json]``

A recording of one world (records of 100 bytes, 20 frames a second, a keyframe each second) is made by a
clock that runs as fast as the journal's writer; then a ``mvgateway serve`` answers from it:

* ``GET …/frames/last``, warm, from a gateway that nobody publishes to (wanted: within 50 ms);
* the same while a publisher goes on at 20 Hz, so that the newest state is not down yet;
* the first such request after a restart (wanted: within 250 ms);
* the state at random ticks, by ``GET …/frames?tick=`` and by ``seek`` in a replay session (wanted: p99
  below 100 ms).

``--store`` keeps the recording there and takes it again the next time; what is published comes on top.
One core is the gateway's, one ours.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import quantiles
from typing import cast

import httpx
import numpy as np

from bench.gateway import Gateway
from bench.payload import STRIDE
from gateway import limits
from gateway.client import Publisher, Subscriber
from gateway.core.state import WorldState
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import Retention, WorldDatabase
from gateway.store.world.state import MakeState
from gateway.wire import Control, Frame, decode_frame, split
from gateway.wire.journal import Batch, JournalFrame
from gateway.wire.records import RecordColumns

HZ = 20
MESSAGE_BYTES = 1_100
START_US = 1_700_000_000_000_000
WORLD = "w"
REQUESTS = 60
RESTARTS = 5

_ROW = np.dtype([("key", "<u4"), ("place", "<i4", 3), ("turn", "<i2", 4), ("sent", "<u8"), ("rest", "V68")])
assert _ROW.itemsize == STRIDE


@dataclass
class Figures:
    """What was measured; times in ms: each with its median, its 99th percentile and its worst."""

    frames: int
    records: int
    moving: int
    last_warm: dict[str, float]
    last_while_publishing: dict[str, float]
    last_after_restart: dict[str, float]
    tick_by_http: dict[str, float]
    seek_in_replay: dict[str, float]
    bytes_per_frame: dict[str, float]
    """Of records as they were sent, and in the store's folder, keyframes and indices included."""


class Film:
    """Frames of records that drift, with small noise: positions, turns, and the time they were sent."""

    def __init__(self, records: int, moving: int) -> None:
        dice = np.random.default_rng(1)
        self._dice = dice
        self._rows = np.zeros(records, dtype=_ROW)
        self._rows["key"] = np.arange(1, records + 1)
        self._rows["place"] = dice.integers(-(1 << 24), 1 << 24, (records, 3))
        self._speed = dice.integers(-500, 500, (moving, 3))
        self._moving = moving
        self.state = WorldState()

    def frame(self, tick: int, now_us: int) -> Frame:
        """Everything at tick 1, from then on what moves."""
        moved = self._rows[: self._moving]
        moved["place"] += self._speed + self._dice.integers(-3, 4, self._speed.shape)
        moved["turn"] += self._dice.integers(-20, 21, moved["turn"].shape, dtype=np.int16)
        moved["sent"] = now_us
        rows = self._rows if tick == 1 else moved
        body = rows.tobytes()
        values = [body[at : at + STRIDE] for at in range(0, len(body), STRIDE)]
        columns = RecordColumns(tuple(rows["key"].tolist()), values, None)
        return Frame.of_columns(1, tick, columns, stride=STRIDE, sent_at=now_us)

    def rows(self, frames: int) -> Iterator[JournalFrame]:
        """The rows that a journal would hand over, a keyframe each second."""
        seq = itertools.count()
        for tick in range(1, frames + 1):
            now_us = START_US + tick * 1_000_000 // HZ
            frame = self.frame(tick, now_us)
            yield JournalFrame(next(seq), 1, tick, now_us, now_us, False, tuple(split(frame, MESSAGE_BYTES)))
            self.state.apply(frame)
            if tick % HZ == 1:
                whole = self.state.keyframe_messages(limits.WEBSOCKET_MESSAGE_BYTES_MAX)
                yield JournalFrame(next(seq), 1, tick, now_us, now_us, True, tuple(whole))


async def record(folder: Path, frames: int, records: int, moving: int) -> None:
    """Make the recording in a store in ``folder``."""
    async with contextlib.aclosing(EmbeddedStore.open(folder)) as store:
        world, _ = WorldDatabase.create(
            store.blocking(),
            WORLD,
            make_state=cast(MakeState, WorldState),
            now_us=START_US,
            stride=STRIDE,
            retention=Retention("record"),
        )
        world.begin_epoch(1, START_US)
        film = Film(records, moving).rows(frames)
        while rows := tuple(itertools.islice(film, HZ + 1)):
            world.append(Batch(rows, (), 1, rows[-1].tick, sum(row.size_bytes for row in rows)))
        world.close()


def spread(times_s: list[float]) -> dict[str, float]:
    """p50, p99 and the worst, in ms."""
    cuts = quantiles(times_s, n=100, method="inclusive")
    found = {"p50": cuts[49], "p99": cuts[98], "worst": max(times_s)}
    return {name: round(value * 1_000, 1) for name, value in found.items()}


async def timed(count: int, act: Callable[[], Awaitable[object]], pause_s: float = 0.0) -> list[float]:
    """How long each of so many takes, seconds; one after the other."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await act()
        times.append(time.perf_counter() - started)
        await asyncio.sleep(pause_s)
    return times


async def _get(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/v1/worlds/{WORLD}{path}")
    answer.raise_for_status()
    decode_frame(answer.content[4 : 4 + int.from_bytes(answer.content[:4], "little")])


async def after_restart(work: Path, store: Path) -> float:
    """Seconds of the first request to a gateway that has just started."""
    with Gateway(work, extra=("--store", str(store))) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, verify=False) as client:
            await client.get("/healthz")
            return (await timed(1, lambda: _get(client, "/frames/last")))[0]


async def seeks(url: str, ca: Path, ticks: list[int]) -> list[float]:
    """Seconds from each ``seek`` to its ``position``, in one paused replay session."""
    heard = asyncio.Event()

    def told(control: Control) -> None:
        if control.type in ("position", "refused"):
            heard.set()

    async def seek() -> None:
        heard.clear()
        viewer.control("seek", epoch=1, tick=ticks.pop())
        await asyncio.wait_for(heard.wait(), 10)

    replay = {"paused": 1}
    async with Subscriber(url, WORLD, replay=replay, transport="websocket", ca=ca, on_event=told) as viewer:
        await asyncio.wait_for(heard.wait(), 10)
        return await timed(len(ticks), seek)


async def publish(url: str, ca: Path, records: int) -> None:
    """Every record anew at 20 Hz until the process is ended."""
    film = Film(records, records)
    async with Publisher(url, WORLD, transport="websocket", ca=ca, stride=STRIDE) as publisher:
        for tick in itertools.count(1):
            keys, values, _ = film.frame(tick, tick).columns()
            publisher.send(dict(zip(keys, values, strict=True)))
            await asyncio.sleep(1 / HZ)


def publishing(url: str, ca: Path, records: int) -> None:
    """As :func:`publish`, for a process of its own."""
    asyncio.run(publish(url, ca, records))


def stored_bytes(store: Path) -> int:
    """What a store's folder takes on disk."""
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


async def measure(work: Path, store: Path, frames: int, records: int, moving: int) -> Figures:
    """Everything, of the recording in ``store``."""
    sizes: dict[str, float] = {"sent": STRIDE * moving, "stored": round(stored_bytes(store) / frames, 1)}
    restarts = [await after_restart(work, store) for _ in range(RESTARTS)]
    dice = random.Random(1)
    with Gateway(work, extra=("--store", str(store))) as gateway:
        ca = gateway.ca
        async with httpx.AsyncClient(base_url=gateway.url, verify=False) as client:
            await _get(client, "/frames/last")
            warm = await timed(REQUESTS, lambda: _get(client, "/frames/last"))
            ticks = iter([dice.randint(1, frames) for _ in range(4 * REQUESTS)])
            by_http = await timed(4 * REQUESTS, lambda: _get(client, f"/frames?epoch=1&tick={next(ticks)}"))
            by_replay = await seeks(gateway.url, ca, [dice.randint(1, frames) for _ in range(4 * REQUESTS)])
            publisher = get_context("spawn").Process(target=publishing, args=(gateway.url, ca, moving))
            publisher.start()
            await asyncio.sleep(3)
            busy = await timed(REQUESTS, lambda: _get(client, "/frames/last"), 0.07)
            publisher.kill()
    shown = [*(spread(times) for times in (warm, busy, restarts, by_http, by_replay)), sizes]
    return Figures(frames, records, moving, *shown)


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=1_800)
    parser.add_argument("--moving", type=int, default=1_800)
    parser.add_argument("--store", type=Path, help="folder of the recording, made where it is not there")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        store = args.store or work / "recording"
        if not store.exists():
            asyncio.run(record(store, args.frames, args.records, args.moving))
        figures = asyncio.run(measure(work, store, args.frames, args.records, args.moving))
    if args.json:
        print(json.dumps(asdict(figures)))
        return
    for name, value in asdict(figures).items():
        print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
