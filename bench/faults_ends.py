"""The two ends of the fault rounds: game servers that remember what they were promised, and readers. Room: bench.

``python -m bench.faults_ends publishers|readers|record``: a process on a machine of its own (:mod:`bench.faults`), told by lines of JSON on
its standard input (``do`` names a method); each is answered by one line. Every value that is sent says who sent it, in
which session, at which tick and when (``time.monotonic``, which all namespaces of a machine share): so a reader knows by itself when the
first that was sent after a moment came, and a judge to whom each row of a recording belongs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.client import Publisher, Subscriber
from gateway.client.subscriber import ReceivedFrame
from gateway.errors import GatewayError
from gateway.wire import Control, Frame, decode_message
from gateway.wire.journal import Gap, JournalFrame

HZ = 50.0
KEYS = 64
"""A value that is repaired comes within a second of its tick: none is overtaken by the next one of its key."""
CONNECT_S = 30.0
"""After so long a game server begins anew to ask a gateway, which it asks all the while."""
AGAIN_S = 0.05


class Said(NamedTuple):
    """What a value says of itself."""

    server: str
    run: int
    tick: int
    at: float

    @classmethod
    def read(cls, data: bytes) -> Said:
        """The inverse of :meth:`data`."""
        server, run, tick, at = data.decode().split(" ")
        return cls(server, int(run), int(tick), float(at))

    def data(self) -> bytes:
        """As it is sent."""
        return f"{self.server} {self.run} {self.tick} {self.at:.4f}".encode()


@dataclass
class Run:
    """One session of a game server: what it sent in which epoch at which gateway, and up to which tick it was told durable."""

    server: str
    number: int
    gateway: str
    door: str
    epoch: int
    first: int
    began: float
    durable: int = 0
    sent: dict[int, str] = field(default_factory=dict)
    """Tick to value."""
    dropped: list[list[int]] = field(default_factory=list)
    """Ticks, both ends included, that it was told not to find."""


class _Session(Publisher):
    """Notes what it is promised as it is told."""

    run: Run | None = None

    def on_control(self, control: Control) -> None:
        super().on_control(control)
        if self.run is not None and control.type == "durable" and control.get("epoch") == self.run.epoch:
            self.run.durable = max(self.run.durable, int(control["tick"]))
            self.run.dropped += [list(span) for span in control.get("dropped") or ()]


class GameServer:
    """Publishes one world at the first gateway of a list that takes it, and goes on in its epoch elsewhere when told."""

    def __init__(
        self, name: str, world: str, ca: str, door: Any, at: list[str], *, takeover: bool = False
    ) -> None:
        self.name, self.at = name, at
        self.runs: list[Run] = []
        self.refusals: Counter[str] = Counter()
        self._world, self._ca, self._door, self._takeover = world, ca, door, takeover
        self._resume: str | None = None
        self._session: _Session | None = None
        self._is_quiet = False
        self._playing = asyncio.get_running_loop().create_task(self._play())

    async def _play(self) -> None:
        while True:
            for url in list(self.at):
                if url in self.at:
                    await self._publish(url)
            await asyncio.sleep(AGAIN_S)

    async def _publish(self, url: str) -> None:
        last = self.runs[-1] if self.runs else None
        session = _Session(
            url,
            self._world,
            ca=self._ca,
            transport=self._door,
            connect_timeout_s=CONNECT_S,
            epoch=None if last is None else last.epoch,
            resume=self._resume,
            takeover=self._takeover and last is None,
        )
        starting = asyncio.ensure_future(session.start())
        try:
            while not starting.done() and url in self.at:
                await asyncio.wait([starting], timeout=AGAIN_S)
            if not starting.done():
                return
            starting.result()
            await self._send(session, url)
        except GatewayError as error:
            self.refusals[error.code] += 1
        finally:
            starting.cancel()
            self._session = None
            await session.aclose()

    async def _send(self, session: _Session, url: str) -> None:
        before = self.runs[-1] if self.runs else None
        run = Run(self.name, len(self.runs), url, self._door, session.epoch, session.tick, time.monotonic())
        if before is not None and before.epoch == run.epoch:
            session.tick = max(session.tick, *before.sent)  # a game counts on, whatever the gateway has seen
        self.runs.append(run)
        session.run, self._session, self._resume = run, session, session.resume
        while session.connected and session.connects == 1 and url in self.at:
            # A session that begins in the silence says its state once: what the last one said may have gone with its home.
            if not self._is_quiet or not run.sent:
                tick = session.tick + 1
                data = Said(self.name, run.number, tick, time.monotonic()).data()
                run.sent[tick] = data.decode()
                with suppress(GatewayError):
                    session.send({tick % KEYS: data}, tick=tick)
            await asyncio.sleep(1 / HZ)

    def hush(self) -> None:
        """Send nothing more, and stay; what has to connect anew sends one frame."""
        self._is_quiet = True

    def told(self) -> dict[str, Any]:
        """How it stands."""
        session, run = self._session, self.runs[-1] if self.runs else None
        records = {} if session is None else session.records()
        return {
            "at": None if session is None or run is None else run.gateway,
            "began": 0.0 if run is None else run.began,
            "epoch": 0 if run is None else run.epoch,
            "tick": 0 if session is None else session.tick,
            "durable": 0 if run is None else run.durable,
            "runs": len(self.runs),
            "refusals": self.refusals,
            "state": digest(records.values()),
        }

    async def end(self) -> list[Run]:
        """No more: every run."""
        self._playing.cancel()
        await asyncio.gather(self._playing, return_exceptions=True)
        return self.runs


def digest(values: Iterable[bytes]) -> str:
    """The same values have the same."""
    return hashlib.sha256(b"\n".join(sorted(values))).hexdigest()


class Publishers:
    """Every game server of a round, by name."""

    def __init__(self) -> None:
        self._servers: dict[str, GameServer] = {}

    async def begin(
        self, name: str, world: str, ca: str, door: str, at: list[str], takeover: bool = False
    ) -> None:
        """A game server comes."""
        self._servers[name] = GameServer(name, world, ca, door, at, takeover=takeover)

    async def go(self, name: str, at: list[str]) -> None:
        """It publishes at one of these from here on."""
        self._servers[name].at = at

    async def hush(self, name: str) -> None:
        """It sends nothing more."""
        self._servers[name].hush()

    async def look(self) -> dict[str, Any]:
        """How they stand."""
        return {name: server.told() for name, server in self._servers.items()}

    async def end(self) -> list[dict[str, Any]]:
        """All leave: their sessions."""
        servers, self._servers = self._servers, {}
        return [vars(run) for server in servers.values() for run in await server.end()]


class Reader:
    """One reader at one gateway."""

    def __init__(self, url: str, world: str, ca: str, door: Any) -> None:
        self.url, self.door = url, door
        self._since, self._server, self._met_at = 0.0, "", 0.0
        self._end = Subscriber(url, world, ca=ca, transport=door, on_message=self._take)
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        while True:
            with suppress(GatewayError):
                await self._end.start()
                return
            await asyncio.sleep(AGAIN_S)

    def _take(self, frame: ReceivedFrame) -> None:
        if self._met_at:
            return
        for data in frame.records.values():
            if data is not None:
                said = Said.read(data)
                if said.server == self._server and said.at >= self._since:
                    self._met_at = time.monotonic()

    def watch(self, server: str, since: float) -> None:
        """Note when the first comes that this game server sent at this moment or later."""
        self._server, self._since, self._met_at = server, since, 0.0

    def told(self, server: str, run: int) -> dict[str, Any]:
        """How it stands. ``state`` is of what that session sent: what one before it sent last is lost at one reader, and not at another."""
        end = self._end
        beginning = f"{server} {run} ".encode()
        return {
            "gateway": self.url,
            "door": self.door,
            "connects": end.connects,
            "asks": end.address.base_url,
            "met_at": self._met_at,
            "refusal": None if end.refusal is None else end.refusal.message,
            "seen": [end.state.epoch, end.state.tick],
            "state": digest(value for value in end.records().values() if value.startswith(beginning)),
        }

    async def end(self) -> None:
        """It leaves."""
        self._starting.cancel()
        await asyncio.gather(self._starting, return_exceptions=True)
        await self._end.aclose()


class Readers:
    """Every reader of a round."""

    def __init__(self) -> None:
        self._readers: list[Reader] = []

    async def begin(self, world: str, ca: str, at: list[str]) -> None:
        """One by each door at each of these gateways."""
        self._readers = [Reader(url, world, ca, door) for url in at for door in ("webtransport", "websocket")]

    async def watch(self, server: str, since: float) -> None:
        """As :meth:`Reader.watch`, all of them."""
        for reader in self._readers:
            reader.watch(server, since)

    async def look(self, server: str = "", run: int = 0) -> list[dict[str, Any]]:
        """As :meth:`Reader.told`, each."""
        return [reader.told(server, run) for reader in self._readers]

    async def end(self) -> None:
        """All leave."""
        readers, self._readers = self._readers, []
        await asyncio.gather(*(reader.end() for reader in readers))


class Record:
    """Reads recordings from the store itself, on the store's own machine: no gateway has a say in it."""

    async def read(self, url: str, world: str) -> dict[str, Any]:
        """``rows``: (seq, epoch, tick, values) in the order of the recording, of which ``values`` are those of the row's own tick first;
        ``later``: values that came as repairs; ``gaps``: (epoch, from, to, reason)."""
        from gateway.cli._source import local_recording
        from gateway.runtime.stores.opening import open_store

        store = await open_store(url, cache_bytes=0)
        rows: list[list[Any]] = []
        later: list[list[Any]] = []
        gaps: list[list[Any]] = []
        try:
            async with local_recording(store, world) as recording:
                async for item in recording.rows():
                    if isinstance(item, Gap):
                        gaps.append([item.epoch, item.from_tick, item.to_tick, item.reason])
                    else:
                        own, others = _values(item)
                        rows.append([item.seq, item.epoch, item.tick, own])
                        later += [[item.epoch, value] for value in others]
        finally:
            await store.aclose()
        return {"rows": rows, "later": later, "gaps": gaps}


def _values(row: JournalFrame) -> tuple[list[str], list[str]]:
    """Of the row's own tick, and of earlier ones."""
    own: list[str] = []
    later: list[str] = []
    for message in map(decode_message, row.messages):
        if isinstance(message, Frame):
            is_own = not (message.ticks or message.keyframe or message.repair)
            values = [record.data.decode() for record in message.records if record.data is not None]
            (own if is_own else later).extend(values)
    return own, later


ROLES: dict[str, Callable[[], Any]] = {"publishers": Publishers, "readers": Readers, "record": Record}


async def serve(role: Any) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        told = json.loads(line)
        method: Callable[..., Awaitable[Any]] = getattr(role, told.pop("do"))
        try:
            answer = {"ok": await method(**told)}
        except GatewayError as error:
            answer = {"error": error.message}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        made = ROLES[sys.argv[1]]()
        asyncio.run(serve(made))
