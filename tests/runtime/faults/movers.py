"""Publishers that go from gateway to gateway all the time, each with a world of its own, and what the store has of it at the
end: every frame that was told durable, byte for byte."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import websockets

from gateway.wire import Control, Frame, MessageStream, Record, decode_message, encode_frame
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess, until
from tests.runtime.faults.driver import StoreProcess
from tests.runtime.test_edges import PEERS
from tests.runtime.test_two_gateways import url_of

CHECKED_AT_ONCE = 8
GAPS_SHOWN = 10


@dataclass(repr=False)
class Run:
    """One session: what it sent, up to where it was told durable, and what it was told not to find there."""

    number: int
    epoch: int
    gateway: int
    first: int
    sent: list[int] = field(default_factory=list)
    durable: int = 0
    dropped: set[int] = field(default_factory=set)

    def data(self, tick: int) -> bytes:
        """What it sends at a tick: no two runs send the same."""
        return f"run {self.number} epoch {self.epoch} tick {tick}".encode()

    def __repr__(self) -> str:
        return (
            f"run {self.number} at gateway {self.gateway}: epoch {self.epoch}, welcome at {self.first}, "
            f"sent {self.sent[:1]} to {self.sent[-1:]}, durable {self.durable}"
        )


class Mover:
    """A game server of one world, at one of the gateways: sometimes it leaves the old one first, sometimes it is at both
    for a moment; sometimes it goes on in its epoch, sometimes it takes over."""

    def __init__(
        self, world: str, gateways: Sequence[GatewayProcess], dice: random.Random, hz: float
    ) -> None:
        self.world, self.hz = world, hz
        self.runs: list[Run] = []
        self.refusals: Counter[str] = Counter()
        self.rests: list[float] = []
        """How long it took each time from the first move until something was durable where it was to be then."""
        self._restless_at: float | None = None
        self._gateways, self._dice = gateways, dice
        self._at = dice.randrange(len(gateways))
        self._takes_over = False
        self._moved = asyncio.Event()
        self._run: Run | None = None
        self._link: websockets.ClientConnection | None = None
        self._listening: set[asyncio.Task[None]] = set()
        self._tick, self._resume = 0, ""

    @property
    def arrived(self) -> bool:
        """Whether it publishes where it is to be."""
        return self._run is not None and self._run.gateway == self._at and not self._moved.is_set()

    @property
    def settled(self) -> bool:
        """Whether something that was sent there is durable."""
        run = self._run
        return self.arrived and run is not None and run.durable > run.first

    def move(self) -> None:
        """To another gateway, at once."""
        if self._restless_at is None:
            self._restless_at = time.monotonic()
        others = [at for at in range(len(self._gateways)) if at != self._at]
        self._at = self._dice.choice(others)
        self._takes_over = self._dice.random() < 0.1
        self._moved.set()

    async def play(self) -> None:
        """Until it is cancelled."""
        sending = asyncio.create_task(self._send())
        try:
            while True:
                self._moved.clear()
                if self._link is not None and self._dice.random() < 0.5:
                    await self._leave()
                with suppress(OSError, websockets.WebSocketException, TimeoutError):
                    await self._come(self._at)
                if self._run is None or not self.arrived:
                    await asyncio.sleep(self._dice.uniform(0.01, 0.1))
                    continue
                await self._stay()
        finally:
            for task in (sending, *self._listening):
                task.cancel()
            await self._leave()

    async def _stay(self) -> None:
        """Until it is to move, or the link has ended."""
        assert self._link is not None
        link, moved = self._link, asyncio.ensure_future(self._moved.wait())
        ended = asyncio.ensure_future(link.wait_closed())
        try:
            await asyncio.wait([moved, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            moved.cancel()
            ended.cancel()
        if link.close_code is not None and self._link is link:
            self._link = self._run = None

    async def _leave(self) -> None:
        link, self._link, self._run = self._link, None, None
        if link is not None:
            await link.close()

    async def _come(self, at: int) -> None:
        query = "role=publish"
        if self._takes_over:
            query += "&takeover=1"
        elif self._resume:
            query += f"&epoch={self.runs[-1].epoch}&resume={self._resume}"
        link = await websockets.connect(
            url_of(self._gateways[at], self.world, query),
            open_timeout=HANG_S,
            close_timeout=0.1,
            ping_interval=None,
        )
        message = await link.recv(decode=False)
        told = decode_message(message)
        if not isinstance(told, Control) or told.type != "welcome":
            self.refusals[str(told.get("code")) if isinstance(told, Control) else "frame"] += 1
            await link.close()
            return
        epoch = told["epoch"]
        same = bool(self.runs) and self.runs[-1].epoch == epoch
        run = Run(len(self.runs), epoch, at, told["tick"])
        # Some game servers go on counting, others from what the gateway has.
        self._tick = max(self._tick, run.first) if same and self._dice.random() < 0.5 else run.first
        self._resume, self._takes_over = told.get("resume") or self._resume, False
        self.runs.append(run)
        old, self._link, self._run = self._link, link, run
        task = asyncio.create_task(self._listen(link, run))
        self._listening.add(task)
        task.add_done_callback(self._listening.discard)
        if old is not None:
            await old.close()

    async def _listen(self, link: websockets.ClientConnection, run: Run) -> None:
        with suppress(websockets.WebSocketException):
            async for data in link:
                assert isinstance(data, bytes)
                told = decode_message(data)
                if isinstance(told, Control) and told.type == "durable" and told["epoch"] == run.epoch:
                    run.durable = max(run.durable, told["tick"])
                    for first, last in told.get("dropped") or ():
                        run.dropped.update(range(first, last + 1))
                    self._rest()

    def _rest(self) -> None:
        if self._restless_at is not None and self.settled:
            self.rests.append(time.monotonic() - self._restless_at)
            self._restless_at = None

    async def _send(self) -> None:
        while True:
            run, link = self._run, self._link
            if run is not None and link is not None:
                self._tick += 1
                run.sent.append(self._tick)
                frame = Frame(0, self._tick, [Record(1, run.data(self._tick))])
                with suppress(websockets.WebSocketException):
                    await link.send(encode_frame(frame))
            await asyncio.sleep(1 / self.hz)

    async def _recorded(self, client: httpx.AsyncClient, epoch: int) -> httpx.Response:
        """What the store has of it. Two hundred worlds opened at once on a busy machine take longer than a refusal waits: it is asked
        again, as it says."""
        async with asyncio.timeout(HANG_S):
            while True:
                answer = await client.get(f"/v1/worlds/{self.world}/frames", params={"epoch": epoch})
                if answer.status_code != 503:
                    return answer
                await asyncio.sleep(0.1)

    async def lost(self, client: httpx.AsyncClient) -> list[str]:
        """What was told durable and is not in the store as it was sent: a line for each run."""
        found: dict[int, dict[int, bytes]] = {}
        for epoch in {run.epoch for run in self.runs}:
            answer = await self._recorded(client, epoch)
            assert answer.status_code == 200, answer.text
            stream = MessageStream()
            stream.feed(answer.content)
            frames = [message for message in map(decode_message, stream) if isinstance(message, Frame)]
            found[epoch] = {
                frame.tick: record.data for frame in frames for record in frame.records if record.data
            }
        wrong = []
        for run in self.runs:
            ticks = [t for t in run.sent if run.first < t <= run.durable and t not in run.dropped]
            missing = [t for t in ticks if found[run.epoch].get(t) != run.data(t)]
            if missing:
                seen = [found[run.epoch].get(t) for t in missing[:GAPS_SHOWN]]
                wrong.append(f"world {self.world}, {run}: lost {missing[:GAPS_SHOWN]}, found {seen}")
        return wrong


@dataclass
class Moved:
    """What came of it."""

    moves: int
    runs: int
    durable: int
    refusals: Counter[str]
    lost: list[str]
    restless: str
    """Who found no gateway to stay at when nobody moved any more; "": nobody."""
    rests: list[float]
    """How long each took to find one, in seconds, rising; how often it was moved on meanwhile counts for nothing."""

    def at(self, share: float) -> float:
        """That share of them took no longer."""
        return self.rests[min(len(self.rests) - 1, int(share * len(self.rests)))]


@contextmanager
def gateways_over_one_store(folder: Path, count: int) -> Iterator[list[GatewayProcess]]:
    """Each a process, ready."""
    store = StoreProcess(folder / "remote")
    gateways: list[GatewayProcess] = []
    try:
        flags = (*store.flags, *PEERS, "--retention", "record")
        gateways += [GatewayProcess(folder, *flags, log=folder / f"{at}.log") for at in range(count)]
        for gateway in gateways:
            gateway.wait_ready()
        yield gateways
    finally:
        for gateway in gateways:
            gateway.kill()
        store.kill()


@asynccontextmanager
async def playing(movers: Sequence[Mover]) -> AsyncIterator[None]:
    """All of them, within."""
    tasks = [asyncio.create_task(mover.play()) for mover in movers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settled(movers: Sequence[Mover]) -> None:
    """Until all have something durable where they are. As long as more and more have, a busy machine may take its time."""
    waiting = [mover for mover in movers if not mover.settled]
    while waiting:
        before = len(waiting)
        try:
            await until(lambda: sum(not mover.settled for mover in movers) < before)  # noqa: B023
        except TimeoutError:
            waiting = [mover for mover in movers if not mover.settled]
            told = [f"{mover.world}: {mover.runs[-1:]}, refused {mover.refusals}" for mover in waiting]
            raise AssertionError(f"{len(waiting)} do not get on: {told[:GAPS_SHOWN]}") from None
        waiting = [mover for mover in movers if not mover.settled]


async def move_about(
    gateways: Sequence[GatewayProcess],
    dice: random.Random,
    *,
    worlds: int,
    hz: float,
    moves_a_second: int,
    seconds: int,
) -> Moved:
    """So many publishers move each second, at any moments of it; when all have arrived somewhere, everything is judged."""
    movers = [Mover(f"mover-{at}", gateways, dice, hz) for at in range(worlds)]
    moves = 0
    async with playing(movers):
        await settled(movers)
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            for mover in dice.sample(movers, moves_a_second):
                mover.move()
                moves += 1
                await asyncio.sleep(1 / moves_a_second)
        restless = ""
        try:
            await settled(movers)
        except AssertionError as error:
            restless = str(error)
    turn = asyncio.Semaphore(CHECKED_AT_ONCE)

    async def judged(mover: Mover) -> list[str]:
        async with turn:
            return await mover.lost(client)

    async with httpx.AsyncClient(base_url=dice.choice(gateways).base_url, timeout=HANG_S) as client:
        lost = await asyncio.gather(*map(judged, movers))
    return Moved(
        moves,
        sum(len(mover.runs) for mover in movers),
        sum(sum(run.first < tick <= run.durable for tick in run.sent) for m in movers for run in m.runs),
        sum((mover.refusals for mover in movers), Counter[str]()),
        [line for lines in lost for line in lines],
        restless,
        sorted(rest for mover in movers for rest in mover.rests),
    )
