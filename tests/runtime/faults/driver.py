"""A publisher that remembers everything it sent and was promised, and a judge of what came back."""

from __future__ import annotations

import asyncio
import base64
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import httpx
import websockets

from gateway.core.state import WorldState
from gateway.store.base import BlockingStore, Namespace
from gateway.store.database import Database
from gateway.wire import Control, Frame, MessageStream, Record, decode_message, encode_frame
from tests.patience import HANG_S
from tests.ports import free_port

RECORDS = 12
WORLD = "w"


def frame_at(tick: int, repeat: int = 8) -> Frame:
    """What is sent at a tick: first a keyframe, then three of twelve records, with bytes that name
    key and tick."""
    keys = list(range(RECORDS)) if tick == 1 else [(tick * 3 + i) % RECORDS for i in range(3)]
    return Frame(
        0, tick, [Record(key, f"{key}@{tick}:".encode() * repeat) for key in keys], keyframe=tick == 1
    )


def state_at(tick: int, repeat: int = 8) -> dict[int, bytes]:
    """The state after ticks 1 to ``tick``."""
    state = WorldState()
    for at in range(max(1, tick - 2 * RECORDS), tick + 1):
        state.apply(frame_at(at, repeat))
    return state.snapshot()


class Publisher:
    """Publishes one epoch by WebSocket until the connection ends; keeps what it was promised."""

    def __init__(self, port: int, repeat: int = 8) -> None:
        self._url = f"ws://127.0.0.1:{port}/v1/worlds/{WORLD}/live?role=publish"
        self.repeat = repeat
        self.epoch = 0
        self.sent_tick = 0
        self.durable_tick = 0

    async def run(self, ticks: int, hz: float) -> None:
        """Send ``ticks`` frames, or until the gateway is gone."""
        with suppress(websockets.ConnectionClosed, OSError):
            async with websockets.connect(self._url) as link:
                listening = asyncio.ensure_future(self._listen(link))
                try:
                    while not self.epoch:
                        await asyncio.sleep(0.001)
                        if listening.done():
                            return
                    for tick in range(1, ticks + 1):
                        await link.send(encode_frame(frame_at(tick, self.repeat)))
                        self.sent_tick = tick
                        await asyncio.sleep(1 / hz)
                    await asyncio.sleep(3_600)
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, link: websockets.ClientConnection) -> None:
        with suppress(websockets.ConnectionClosed):
            async for data in link:
                assert isinstance(data, bytes)
                message = decode_message(data)
                if isinstance(message, Control) and message.type == "welcome":
                    self.epoch = message["epoch"]
                elif (
                    isinstance(message, Control)
                    and message.type == "durable"
                    and message["epoch"] == self.epoch
                ):
                    self.durable_tick = max(self.durable_tick, message["tick"])


class Reader:
    """Follows the world by WebSocket and counts."""

    def __init__(self, port: int) -> None:
        self._url = f"ws://127.0.0.1:{port}/v1/worlds/{WORLD}/live"
        self.state = WorldState()

    async def run(self) -> None:
        """Until the connection ends."""
        with suppress(websockets.ConnectionClosed, OSError):
            async with websockets.connect(self._url, max_size=None) as link:
                async for data in link:
                    assert isinstance(data, bytes)
                    message = decode_message(data)
                    if isinstance(message, Frame):
                        self.state.apply(message)


class Recovered:
    """What a gateway gives back: the last state, and the recorded frames and gaps of an epoch."""

    def __init__(self, last: dict[str, Any], history: bytes) -> None:
        self.epoch: int = last["epoch"]
        self.tick: int = last["tick"]
        self.records = {int(key): base64.b64decode(data) for key, data in last["records"].items()}
        stream = MessageStream()
        stream.feed(history)
        messages = [decode_message(message) for message in stream]
        self.ticks = {m.tick for m in messages if isinstance(m, Frame)}
        self.gaps = {t for m in messages if isinstance(m, Control) for t in range(m["from"], m["to"] + 1)}
        self.frames = {m.tick: m for m in messages if isinstance(m, Frame)}

    @classmethod
    async def ask(cls, base_url: str, epoch: int) -> Recovered:
        async with httpx.AsyncClient(base_url=base_url, timeout=HANG_S) as client:
            last = await client.get(f"/v1/worlds/{WORLD}/frames/last", headers={"accept": "application/json"})
            history = await client.get(f"/v1/worlds/{WORLD}/frames", params={"epoch": epoch})
        assert last.status_code == 200, last.text
        return cls(last.json(), history.content)

    def judge(self, publisher: Publisher) -> None:
        """Everything promised is there byte for byte, nothing from the future, gaps are those recorded."""
        assert self.epoch == publisher.epoch
        assert publisher.durable_tick <= self.tick <= publisher.sent_tick
        assert self.records == state_at(self.tick, publisher.repeat), (
            f"the state at tick {self.tick} of epoch {self.epoch}"
        )
        assert {t for t in range(1, self.tick + 1) if t not in self.ticks} == {
            t for t in self.gaps if t <= self.tick
        }
        for tick, frame in self.frames.items():
            assert [(r.key, r.data) for r in frame.records] == [
                (r.key, r.data) for r in frame_at(tick, publisher.repeat).records
            ]


def check_integrity(store: BlockingStore) -> None:
    """SQLite's own check of the world's database."""
    database = Database.open(store, Namespace(WORLD), read_only=True)
    try:
        assert database.read(_integrity) == "ok"
    finally:
        database.close()


def _integrity(connection: apsw.Connection) -> str:
    return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


class StoreProcess:
    """``mvgateway store`` as a child on fixed ports, so that it can die and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.admin_port = free_port(), free_port()
        self.process = self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def flags(self) -> tuple[str, ...]:
        return "--store", self.url, "--store-admin", f"http://127.0.0.1:{self.admin_port}"

    def _start(self) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "gateway.cli",
            "store",
            "--path",
            str(self.folder),
            "--auto-create-namespace",
        ]
        command += ["--data-plane", f"127.0.0.1:{self.port}", "--admin-api", f"127.0.0.1:{self.admin_port}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        while not re.search(r"\bready\b", line := process.stdout.readline()):
            assert line, "the store did not start"
        return process

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=HANG_S)

    def restart(self) -> None:
        self.kill()
        self.process = self._start()


__all__ = ["Publisher", "Reader", "Recovered", "StoreProcess", "check_integrity", "frame_at", "state_at"]
