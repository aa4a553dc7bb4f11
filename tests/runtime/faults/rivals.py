"""Two game servers that both want a world, each at a gateway of its own; what they sent and were promised, and what the
store has of it. The three processes below them are killed and stopped as a :class:`Arena` is told."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import websockets

from gateway.wire import Control, Frame, MessageStream, Record, decode_message, encode_frame
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess, until
from tests.runtime.faults.driver import WORLD, StoreProcess

HZ = 60.0
PATIENCE_S = 180.0
CONNECT_S = 3.0
KEY = 1


@dataclass
class Run:
    """One session of a publisher: which ticks it sent in which epoch, and up to which it was told that they are durable."""

    number: int
    epoch: int
    first_tick: int
    sent_tick: int = 0
    durable_tick: int = 0

    def data(self, tick: int) -> bytes:
        """What it sends at a tick: no two runs send the same."""
        return f"run {self.number} epoch {self.epoch} tick {tick}".encode()


class Arena:
    """The store and two gateways. ``flags``: of the gateways."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.store = StoreProcess(folder / "remote")
        self._flags = (*self.store.flags, "--retention", "record", "--log-level", "debug", *flags)
        self._logs = 0
        self.gateways: dict[str, GatewayProcess] = {}

    async def start(self, name: str) -> None:
        """(Again.)"""
        self._logs += 1
        log = self.folder / f"{name}-{self._logs}.log"
        child = await asyncio.to_thread(GatewayProcess, self.folder, *self._flags, log=log)
        self.gateways[name] = await asyncio.to_thread(child.wait_ready)

    async def kill(self, name: str) -> None:
        """``kill -9``, and start it again."""
        if name == "store":
            await asyncio.to_thread(self.store.restart)
            return
        gateway = self.gateways.pop(name)
        await asyncio.to_thread(gateway.kill)
        await self.start(name)

    async def pause(self, name: str, seconds: float) -> None:
        """Stop it for a time."""
        process = self.store.process if name == "store" else self.gateways[name].process
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)

    def homes(self) -> list[int]:
        """Every fence that a gateway ever said it has, in no order."""
        found: list[int] = []
        for log in self.folder.glob("*.log"):
            for line in log.read_text().splitlines():
                with suppress(ValueError):
                    told = json.loads(line)
                    if told["event"] == "home taken":
                        found.append(told["fence"])
        return found

    def end(self) -> None:
        """Kill what is there."""
        for gateway in self.gateways.values():
            gateway.process.send_signal(signal.SIGCONT)
            gateway.kill()
        self.store.process.send_signal(signal.SIGCONT)
        self.store.kill()


@dataclass
class Rival:
    """A game server that always wants to publish the world, at one gateway: sometimes by force, sometimes as the run
    that it was before."""

    arena: Arena
    name: str
    dice: random.Random
    runs: list[Run]
    """Of all rivals."""
    refused: int = 0
    taken_over: int = 0
    mine: Run | None = field(default=None)

    async def play(self) -> None:
        """Until cancelled."""
        while True:
            with suppress(websockets.WebSocketException, OSError, TimeoutError, EOFError):
                async with self._session() as (link, run):
                    await self._publish(link, run)
            await asyncio.sleep(self.dice.uniform(0, 0.2))

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[tuple[websockets.ClientConnection, Run]]:
        gateway = self.arena.gateways.get(self.name)
        if gateway is None:
            raise OSError("it is being started again")
        again = self.mine if self.dice.random() < 0.5 else None
        query = "role=publish" + ("&takeover=1" if self.dice.random() < 0.3 else "")
        query += f"&epoch={again.epoch}" if again else ""
        url = f"ws://127.0.0.1:{gateway.port('plain')}/v1/worlds/{WORLD}/live?{query}"
        async with websockets.connect(url, open_timeout=CONNECT_S) as link:
            async with asyncio.timeout(2 * CONNECT_S):
                first = decode_message(await link.recv(decode=False))
            assert isinstance(first, Control)
            if first.type != "welcome":
                self.refused += first.get("code") == "world_held"
                raise EOFError(first["code"])
            is_same = again is not None and first["epoch"] == again.epoch
            begin = max(again.sent_tick, int(first["tick"])) + 1 if again is not None and is_same else 1
            run = self.mine = Run(len(self.runs), first["epoch"], begin, begin - 1)
            self.runs.append(run)
            yield link, run

    async def _publish(self, link: websockets.ClientConnection, run: Run) -> None:
        listening = asyncio.ensure_future(self._listen(link, run))
        try:
            while not listening.done():
                tick = run.sent_tick + 1
                frame = Frame(0, tick, [Record(KEY, run.data(tick))], keyframe=tick == run.first_tick)
                run.sent_tick = tick  # it may be on its way already when the link ends
                sending = asyncio.ensure_future(link.send(encode_frame(frame)))
                await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
                if not sending.done():
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
                    return
                sending.result()
                await asyncio.sleep(1 / HZ)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, link: websockets.ClientConnection, run: Run) -> None:
        with suppress(websockets.ConnectionClosed):
            async for data in link:
                assert isinstance(data, bytes)
                message = decode_message(data)
                if not isinstance(message, Control):
                    continue
                if message.type == "durable" and message["epoch"] == run.epoch:
                    run.durable_tick = max(run.durable_tick, message["tick"])
                self.taken_over += message.type == "bye" and message["reason"] == "taken_over"


async def recorded(arena: Arena, epoch: int) -> list[tuple[int, bytes]]:
    """Tick and data of every frame of that epoch, in the order of the recording, from whichever gateway answers."""
    found: list[list[tuple[int, bytes]]] = []

    async def asked() -> bool:
        for gateway in list(arena.gateways.values()):
            with suppress(httpx.HTTPError):
                async with httpx.AsyncClient(base_url=gateway.base_url, timeout=HANG_S) as client:
                    answer = await client.get(f"/v1/worlds/{WORLD}/frames", params={"epoch": epoch})
                if answer.status_code == 200:
                    found.append(_frames(answer.content))
                    return True
        return False

    await until(asked, PATIENCE_S)
    return found[-1]


def _frames(body: bytes) -> list[tuple[int, bytes]]:
    stream = MessageStream()
    stream.feed(body)
    messages = [decode_message(message) for message in stream]
    stream.finish()
    return [
        (message.tick, record.data)
        for message in messages
        if isinstance(message, Frame) and not message.ticks
        for record in message.records
        if record.data is not None
    ]


def judge(runs: list[Run], epoch: int, found: list[tuple[int, bytes]]) -> None:
    """What was promised is there byte for byte, and the runs of an epoch follow each other: none wrote after the next
    one had begun."""
    mine = [run for run in runs if run.epoch == epoch]
    by_data = {
        run.data(tick): (run, tick) for run in mine for tick in range(run.first_tick, run.sent_tick + 1)
    }
    written = [by_data.get(data) for _, data in found]
    strange = [data for _, data in found if data not in by_data]
    assert not strange, f"epoch {epoch} holds what nobody sent: {strange[:3]}, sent were {mine}"
    order = [(run.number, tick) for run, tick in filter(None, written)]
    assert order == sorted(order), f"epoch {epoch}: a run went on after another had begun"
    assert [tick for _, tick in order] == [tick for tick, _ in found]
    there = set(order)
    for run in mine:
        promised = range(run.first_tick, run.durable_tick + 1)
        lost = [tick for tick in promised if (run.number, tick) not in there]
        assert not lost, (
            f"{run} was promised ticks that are not there: {lost[:5]} … {lost[-1]}, {len(lost)} in all"
        )
