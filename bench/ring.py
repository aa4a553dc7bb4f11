"""A ring's store over an hour: does its size stay within three times the ring's? Room: bench.

``python -m bench.ring [--minutes 60] [--hz 60] [--frame-bytes 5000] [--ring-s 60] [--speed 0] [--folder DIR] [--json]``

One world with a ring, published to at 60 Hz with frames of records of 100 bytes that are noise but for their
keys, so that nothing packs. The journal (``core/``), the world's database, its upkeep and the embedded
engine are the real ones, one durable commit a frame; the clock is a number that moves by a tick as soon
as a frame's commit was answered. Upkeep runs beside the commits every 5 s of that clock, as in a gateway;
where it is still at work when it is due again, the clock waits for it, and as long as the engine copies a full log.

Told each minute: the store's file and its log in bytes, and their sum as a multiple of the ring's size,
ring_s × hz × frame_bytes. Exit 1 where one of them, measured each second, is above three.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from bench.world_life import Kind, TickLink
from gateway.core.state import WorldState
from gateway.core.world import World
from gateway.core.worldsettings import WorldSettings
from gateway.limits import DATAGRAM_SAFE_BYTES, MAINTAIN_S, STORE_MOMENT_S, STORE_SWEEP_S, STORE_WAL_PAGES
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import Retention
from gateway.store.world.lanes import WorldLanes as WorldStore
from gateway.store.world.state import MakeState
from gateway.wire import Frame, Record, split

STRIDE = 100
TIMES_MAX = 3.0
START_US = 1_700_000_000_000_000


@dataclass(frozen=True)
class Size:
    """The store after so many minutes; ``times``: the worst of that minute, file and log against the ring."""

    minute: int
    file_bytes: int
    log_bytes: int
    times: float
    oldest_s: float


class FastClock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.ticked_s = 0.0

    def unix_s(self) -> float:
        return START_US / 1e6 + self.ticked_s

    def unix_us(self) -> int:
        return START_US + round(self.ticked_s * 1e6)


class Ring:
    """A world with its publisher, its journal and its store, on a fast clock. Made by :func:`opened`."""

    def __init__(
        self, store: EmbeddedStore, database: WorldStore, clock: FastClock, hz: int, frame_bytes: int
    ) -> None:
        self.store, self.database, self.clock = store, database, clock
        self._hz, self._frame_bytes = hz, frame_bytes
        self._noise = random.Random(1).randbytes
        self._tick = 0
        self._upkeep: asyncio.Task[None] | None = None
        self._world = World("w", WorldSettings(stride=STRIDE), mono=0.0, now_us=clock.unix_us())

    async def begin(self) -> None:
        """Attach the publisher."""
        epoch = await self.database.begin_epoch(None, self.clock.unix_us())
        link = TickLink(Kind(), random.Random(1), len)
        self._session = self._world.attach_publisher(link, epoch, 0.0)

    async def second(self) -> None:
        """A second of frames, each down before the next is sent."""
        for _ in range(self._hz):
            self._tick += 1
            self.clock.ticked_s = mono = self._tick / self._hz
            for message in split(self._frame(), DATAGRAM_SAFE_BYTES):
                self._session.on_message(message, mono)
            self._world.poll(mono, self.clock.unix_us())
            while (batch := self._world.take_batch(mono)) is not None:
                await self.database.append(batch)
                self._world.committed(batch, mono)
            await self._log_copied()
        await self._keep_house()

    def _frame(self) -> Frame:
        rows = [
            Record(key, key.to_bytes(4, "little") + self._noise(STRIDE - 4))
            for key in range(1, self._frame_bytes // STRIDE + 1)
        ]
        return Frame(0, self._tick, rows, stride=STRIDE, sent_at=self.clock.unix_us())

    async def _keep_house(self) -> None:
        """What a gateway and the engine's own thread do each some seconds, by this clock."""
        second = self._tick // self._hz
        if second % int(STORE_MOMENT_S) == 0:
            await asyncio.to_thread(self.store.engine.keep_time)
        if second % int(STORE_SWEEP_S) == 0:
            await asyncio.to_thread(self.store.engine.sweep)
        if second % int(MAINTAIN_S) == 0:
            await self.rest()
            self._upkeep = asyncio.create_task(self._maintain())

    async def _log_copied(self) -> None:
        """Until the engine's own thread has copied a full log: it has whole seconds of 60 commits for that."""
        writer, end = self.store.engine.writer, time.monotonic() + 1.0
        while writer.wal_pages >= STORE_WAL_PAGES and not writer.copy_rest and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def _maintain(self) -> None:
        await self.database.prune(self.clock.unix_us())
        await self.database.maintain(int(self.clock.unix_s()))

    async def rest(self) -> None:
        """Until no upkeep is under way."""
        if self._upkeep is not None:
            await self._upkeep

    async def oldest_s(self) -> float:
        """How far back the recording goes."""
        first = (await self.database.summary())["first"]
        assert first is not None
        return float((self.clock.unix_us() - first["received_at_us"]) / 1e6)

    def sizes(self) -> tuple[int, int]:
        """Bytes on disk: the file, and its log (what there is beside it)."""
        files = dict(self.store.engine.stats()["files"])
        file = files.pop("store.sqlite")
        return file, sum(files.values())


@contextlib.asynccontextmanager
async def opened(folder: Path, hz: int, frame_bytes: int, ring_s: int) -> AsyncIterator[Ring]:
    """A new ring in ``folder``, with its publisher attached."""
    clock = FastClock()
    async with contextlib.aclosing(EmbeddedStore.open(folder, clock=clock.unix_s)) as store:
        database = await WorldStore.open(
            store,
            "w",
            make_state=cast(MakeState, WorldState),
            now_us=clock.unix_us(),
            stride=STRIDE,
            retention=Retention("ring", ring_s),
        )
        ring = Ring(store, database, clock, hz, frame_bytes)
        await ring.begin()
        try:
            yield ring
        finally:
            await ring.rest()
            await database.close()


async def play(
    folder: Path, minutes: int, hz: int, frame_bytes: int, ring_s: int, speed: float
) -> list[Size]:
    """The whole run; a line on standard error each minute."""
    began = time.monotonic()
    ring_bytes, found = ring_s * hz * frame_bytes, []
    async with opened(folder, hz, frame_bytes, ring_s) as ring:
        for minute in range(1, minutes + 1):
            worst = 0
            for _ in range(60):
                await ring.second()
                ahead_s = ring.clock.ticked_s / speed - (time.monotonic() - began) if speed else 0.0
                await asyncio.sleep(max(0.0, ahead_s))
                worst = max(worst, sum(ring.sizes()))
            size = Size(minute, *ring.sizes(), round(worst / ring_bytes, 2), round(await ring.oldest_s(), 1))
            found.append(size)
            print(
                " ".join(f"{name}={value}" for name, value in asdict(size).items()),
                file=sys.stderr,
                flush=True,
            )
    return found


def main() -> int:
    """Entry. Exit 0: within three times the ring's size at every second."""
    parser = argparse.ArgumentParser(prog="python -m bench.ring", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=60, help="minutes of the fast clock")
    parser.add_argument("--hz", type=int, default=60, help="frames a second")
    parser.add_argument("--frame-bytes", type=int, default=5_000)
    parser.add_argument("--ring-s", type=int, default=60, help="the ring's length")
    parser.add_argument("--speed", type=float, default=0.0, help="the clock's at most, 1: real time, 0: any")
    parser.add_argument("--folder", type=Path, help="where the store is made; it must not be there yet")
    parser.add_argument("--json", action="store_true", help="the sizes as JSON on standard output")
    args = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "store"
        sizes = asyncio.run(play(folder, args.minutes, args.hz, args.frame_bytes, args.ring_s, args.speed))
    if args.json:
        print(json.dumps([asdict(size) for size in sizes]))
    worst = max(size.times for size in sizes)
    print(
        f"{args.minutes} minutes at {args.hz} Hz with {args.frame_bytes} bytes a frame, a ring of {args.ring_s} s, in "
        f"{time.perf_counter() - began:.0f} s: the store is at most {worst:.2f} times the ring's size"
    )
    return 1 if worst > TIMES_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
