"""``mvgateway demo --gateways 3``: the gateway that has the world is killed, and readers at the others go on. Room: cli."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli._child import ChildFailed, GatewayChild
from gateway.cli._motion import Avatars
from gateway.cli.publish import paced
from gateway.limits import CLI_CHILD_READY_S_MAX, DEMO_SETTLE_LOOK_S, DEMO_SETTLE_S

if TYPE_CHECKING:
    from gateway.client import Publisher, ReceivedFrame, Subscriber

WORLD = "demo"
HZ = 60.0
PLAYERS = 10
READERS = 5
"""At each gateway but the first."""
_STORE = re.compile(r"data plane (http://\S+), admin API (http://\S+)")


@dataclass(slots=True)
class Told:
    """The figures."""

    gateways: int
    readers: int
    frames_sent: int = 0
    killed_at_tick: int = 0
    known_durable_tick: int = 0
    recorded_tick: int = 0
    reconnects: int = 0
    longest_pause_ms: int = 0
    """Of any reader, between two frames: the kill is in it."""
    all_have_the_last_frame: bool = False

    @property
    def is_well(self) -> bool:
        """Whether everything is as it should be."""
        kept = self.recorded_tick >= self.known_durable_tick > 0
        return kept and self.reconnects == 0 and self.all_have_the_last_frame


def run(gateways: int, seconds: float, *, as_json: bool) -> int:
    """Play it; answers the exit code."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Several(gateways, seconds, as_json).run())


class _Several:
    def __init__(self, gateways: int, seconds: float, as_json: bool) -> None:
        self._seconds = seconds
        self._as_json = as_json
        self._told = Told(gateways, READERS * (gateways - 1))
        self._avatars = Avatars(PLAYERS, hz=HZ)
        self._readers: list[Subscriber] = []
        self._came: dict[int, float] = {}

    def _say(self, line: str) -> None:
        if not self._as_json:
            print(line, file=sys.stderr, flush=True)

    async def run(self) -> int:
        with tempfile.TemporaryDirectory(prefix="mvgateway-demo-") as name:
            folder = Path(name)
            async with store(folder) as flags:
                self._say(f"a store, and {self._told.gateways} gateways over it: each a process of its own")
                more = (*flags, "--peers", "store")
                children = [GatewayChild(folder, more=more) for _ in range(self._told.gateways)]
                try:
                    for child in children:
                        await child.start()
                    await self._play(children)
                finally:
                    await asyncio.gather(*(child.stop() for child in children))
        self._tell()
        return 0 if self._told.is_well else 1

    async def _play(self, children: list[GatewayChild]) -> None:
        from gateway.client import Publisher, fetch_last

        told, (first, second, *_) = self._told, children
        async with AsyncExitStack() as stack:
            async with Publisher(first.url, WORLD, ca=first.ca) as publisher:
                publisher.send(self._avatars.frame(1))
                await self._open_readers(children[1:], stack)
                self._say(f"publishing at {HZ:g} Hz at the first; {told.readers} readers at the others")
                await self._send_for(publisher, self._seconds / 2)
                await first.kill()
                self._say("killed the first (SIGKILL): the game server goes on at the second, in its epoch")
                told.killed_at_tick = publisher.tick
                told.known_durable_tick = 0 if publisher.durable is None else publisher.durable.tick
                epoch, resume, tick, values = (
                    publisher.epoch,
                    publisher.resume,
                    publisher.tick,
                    publisher.records(),
                )
            async with Publisher(second.url, WORLD, ca=second.ca, epoch=epoch, resume=resume) as again:
                again.send(values, tick=tick + 1, keyframe=True)
                await self._send_for(again, self._seconds / 2)
                self._say("waiting until every reader has the last frame, and the store")
                await again.wait_durable()
                await self._settle(again)
                told.recorded_tick = (await fetch_last(second.url, WORLD, ca=second.ca)).tick
            told.reconnects = sum(reader.connects - 1 for reader in self._readers)

    async def _open_readers(self, children: list[GatewayChild], stack: AsyncExitStack) -> None:
        from gateway.client import Subscriber

        for at in range(self._told.readers):
            child = children[at % len(children)]
            reader = Subscriber(child.url, WORLD, ca=child.ca, on_message=self._noting(at))
            self._readers.append(await stack.enter_async_context(reader))

    def _noting(self, at: int) -> Callable[[ReceivedFrame], None]:
        def note(frame: ReceivedFrame) -> None:
            now, before = time.monotonic(), self._came.get(at)
            self._came[at] = now
            if before is not None:
                pause_ms = round((now - before) * 1_000)
                self._told.longest_pause_ms = max(self._told.longest_pause_ms, pause_ms)

        return note

    async def _send_for(self, publisher: Publisher, seconds: float) -> None:
        async for _ in paced(HZ, seconds):
            self._told.frames_sent += 1
            publisher.send(self._avatars.frame(publisher.tick + 1))

    async def _settle(self, publisher: Publisher) -> None:
        for _ in range(int(DEMO_SETTLE_S / DEMO_SETTLE_LOOK_S)):
            if all(reader.records() == publisher.records() for reader in self._readers):
                self._told.all_have_the_last_frame = True
                return
            await asyncio.sleep(DEMO_SETTLE_LOOK_S)

    def _tell(self) -> None:
        told = self._told
        if self._as_json:
            print(json.dumps(asdict(told)), flush=True)
            return
        last = "all have the last frame" if told.all_have_the_last_frame else "NOT ALL HAVE THE LAST FRAME"
        for name, text in {
            "frames sent": f"{told.frames_sent} at {HZ:g} Hz",
            "killed (SIGKILL)": f"at tick {told.killed_at_tick}, known durable {told.known_durable_tick}",
            "recorded": f"tick {told.recorded_tick}, in the same epoch, by the next home",
            "readers": f"{told.readers} at {told.gateways - 1} gateways; {told.reconnects} connected anew; {last}",
            "longest pause": f"{told.longest_pause_ms} ms between two frames of any reader",
        }.items():
            print(f"{name:<20}{text}")


@asynccontextmanager
async def store(folder: Path) -> AsyncIterator[tuple[str, ...]]:
    """``mvgateway store`` in a process of its own, while within: how a gateway is told of it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "store", "--path", str(folder / "pages")),
        *("--auto-create-namespace", "--data-plane", "127.0.0.1:0", "--admin-api", "127.0.0.1:0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=(folder / "store.log").open("ab"),
    )
    try:
        async with asyncio.timeout(CLI_CHILD_READY_S_MAX):
            flags = await _flags_of(process, folder)
        yield flags
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def _flags_of(process: asyncio.subprocess.Process, folder: Path) -> tuple[str, ...]:
    assert process.stdout is not None
    flags: tuple[str, ...] = ()
    while line := (await process.stdout.readline()).decode().strip():
        found = _STORE.search(line)
        if found:
            flags = ("--store", found[1], "--store-admin", found[2])
        if line == "ready" and flags:
            return flags
    log = (folder / "store.log").read_text().strip()
    raise ChildFailed(f"the store did not start: {log.splitlines()[-1] if log else 'no word'}")
