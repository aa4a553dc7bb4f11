"""What happens in the demo, in turn. Room: cli."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli._child import GatewayChild
from gateway.cli._motion import Avatars
from gateway.cli.demo import told
from gateway.cli.demo.readers import Readers
from gateway.cli.demo.screen import COLUMNS, Screen
from gateway.cli.demo.seen import Crash, Seen, Sent
from gateway.core.ports import Mark
from gateway.limits import DEMO_LOOK_S, DEMO_SETTLE_LOOK_S, DEMO_SETTLE_S, DEMO_SETTLING_S
from gateway.wire.xrgrid import PACKET_BYTES

if TYPE_CHECKING:
    from gateway.cli.demo.ways import Way
    from gateway.client import FetchedState, Publisher

WORLD = "demo"
FILM = "demo.sqlite"
"""In the user's folder for what can be made again; the next demo replaces it."""
HZ = 60.0
PLAYERS = 10
READERS = {"webtransport": 20, "websocket": 5}


class Demo:
    """One run; :meth:`run` answers the exit code."""

    def __init__(self, seconds: float, way: Way, *, as_json: bool) -> None:
        self.seconds = seconds
        self.way = way
        self.as_json = as_json
        self.avatars = Avatars(PLAYERS, hz=HZ)
        self.sent = Sent()
        self.readers = Readers(READERS)
        self.screen = Screen(READERS, quiet=as_json)

    async def run(self) -> int:
        """Everything in turn. 0 only if the recovered state equals what was sent at that tick."""
        with tempfile.TemporaryDirectory(prefix="mvgateway-demo-") as folder:
            child = GatewayChild(Path(folder), self.way.host)
            showing = asyncio.create_task(self._show())
            try:
                with self.screen.live():
                    seen = await self._play(child)
            finally:
                showing.cancel()
                await self.readers.stop()
                await child.stop()
                await self.way.close()
            film = await cut(child)
        self._tell(seen, film)
        return 0 if seen.crash.recovered_equal else 1

    async def _show(self) -> None:
        while True:
            self.screen.show(self.readers.report)
            await asyncio.sleep(DEMO_LOOK_S)

    async def _play(self, child: GatewayChild) -> Seen:
        self.screen.now("starting a gateway", "a process of its own, on an empty store")
        await self.readers.start(self.way.far)
        await child.start()
        crash = await self._publish_and_kill(child)
        recovered = await self._recover(child, crash)
        agree = await self._go_on(child, recovered)
        return Seen(self.sent, crash, await self.readers.figures(), agree, self.way.told, READERS)

    async def _publish_and_kill(self, child: GatewayChild) -> Crash:
        from gateway.cli._client import say_what_walkers_are
        from gateway.client import HttpClient, Trust

        async with _publisher(child) as publisher:
            self._send(publisher)
            await say_what_walkers_are(HttpClient(child.url, trust=Trust.of(ca=child.ca)), WORLD)
            await self._open_readers(child)
            self.screen.now(
                f"publishing at {HZ:g} Hz", f"{PLAYERS} avatars; how old is what the readers show?"
            )
            await self._send_for(publisher, settling := min(DEMO_SETTLING_S, self.seconds / 4))
            self.readers.say("measure")
            await self._send_for(publisher, self.seconds / 2 - settling)
            self.readers.say("rest")
            self.screen.keep_lines()
            await child.kill()
            self.screen.now(
                "killed it (SIGKILL)", "it had no chance to save anything; nothing was waited for"
            )
            durable = publisher.durable.tick if publisher.durable else 0
            self.sent.close(publisher)
            return Crash(publisher.tick, durable, 0, False, away_s=time.monotonic())

    async def _open_readers(self, child: GatewayChild) -> None:
        self.screen.now(
            "connecting the readers", ", ".join(f"{count} by {name}" for name, count in READERS.items())
        )
        self.screen.now("the link", self.way.says)
        url = await self.way.open(child.url)
        await self.readers.follow(url, child.ca, WORLD)

    async def _recover(self, child: GatewayChild, crash: Crash) -> FetchedState:
        from gateway.client import fetch_last

        self.screen.now("starting it again", "on the same store; readers come back by themselves")
        await child.start()
        recovered = await fetch_last(child.url, WORLD, ca=child.ca)
        sent = self.sent.states.get(Mark(recovered.epoch, recovered.tick))
        crash.away_s = time.monotonic() - crash.away_s
        crash.recovered_tick = recovered.tick
        crash.recovered_equal = sent == recovered.records and recovered.tick >= crash.durable_tick
        return recovered

    async def _go_on(self, child: GatewayChild, recovered: FetchedState) -> bool:
        """Answers whether every reader had the last frame in the end."""
        self.screen.now(
            "recovered",
            f"tick {recovered.tick}; the game server goes on from there, in epoch {recovered.epoch + 1}",
        )
        self.sent.motion_tick = recovered.tick
        async with _publisher(child) as publisher:
            publisher.send(dict(recovered.records), keyframe=True)
            self._note(publisher)
            await self._send_for(publisher, self.seconds / 2)
            self.screen.now("waiting until every reader has the last frame")
            agree = await self._settle(publisher)
            self.screen.show(self.readers.report)
            self.screen.keep_lines()
            self.sent.close(publisher)
            return agree

    async def _settle(self, publisher: Publisher) -> bool:
        from gateway.cli.demo.following import digest

        last = digest(publisher.records())
        for _ in range(int(DEMO_SETTLE_S / DEMO_SETTLE_LOOK_S)):
            if self.readers.hold(last):
                return True
            await asyncio.sleep(DEMO_SETTLE_LOOK_S)
        return self.readers.hold(last)

    async def _send_for(self, publisher: Publisher, seconds: float) -> None:
        from gateway.cli.publish import paced

        async for _ in paced(HZ, seconds):
            self._send(publisher)

    def _send(self, publisher: Publisher) -> None:
        self.sent.motion_tick += 1
        publisher.send(self.avatars.frame(self.sent.motion_tick))
        self._note(publisher)

    def _note(self, publisher: Publisher) -> None:
        self.sent.frames += 1
        self.sent.states[Mark(publisher.epoch, publisher.tick)] = publisher.records()

    def _tell(self, seen: Seen, film: Path | None) -> None:
        if self.as_json:
            print(json.dumps(seen.as_json()), flush=True)
            return
        width = shutil.get_terminal_size((COLUMNS, 24)).columns
        for line in (
            *told.figures(seen, hz=HZ, players=PLAYERS, record_bytes=PACKET_BYTES),
            "",
            "What you saw:",
            *told.in_words(seen, width),
            "",
            *told.next_steps(film),
        ):
            print(line)


def _publisher(child: GatewayChild) -> Publisher:
    from gateway.client import Publisher

    return Publisher(child.url, WORLD, stride=PACKET_BYTES, ca=child.ca)


async def cut(child: GatewayChild) -> Path | None:
    """What was recorded, as a film that stays. None where it could not be written: that is not what the demo is for."""
    from gateway.cli._source import local_recording
    from gateway.cli._span import find_span
    from gateway.cli.clip import write_clip
    from gateway.errors import GatewayError
    from gateway.store.embedded import ReadOnlyStore

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mvgateway")
    path = cache / FILM
    try:
        os.makedirs(cache, exist_ok=True)
        store = ReadOnlyStore.open(child.folder / "store")
        async with local_recording(store, WORLD) as recording:
            span = await find_span(recording, None, None, 0)
            await write_clip(recording, span, path, "sqlite", values=False, quiet=True)
    except (GatewayError, OSError):
        return None
    return path
