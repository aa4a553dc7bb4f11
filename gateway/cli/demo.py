"""``mvgateway demo``: everything once, with a crash in the middle. Room: cli."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.client.counts import EverySample
from gateway.limits import DEMO_SETTLE_LOOK_S, DEMO_SETTLE_S

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gateway.cli._child import GatewayChild
    from gateway.client import FetchedState, Publisher, ReceivedFrame, Subscriber
    from gateway.core.ports import Mark


NAME = "demo"
HELP = "publish, follow, kill the gateway, recover and go on: in one command"
EXAMPLE = """
mvgateway demo
mvgateway demo --seconds 6 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=12.0, help="how long in all (default 12)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    import asyncio

    import uvloop

    from gateway.errors import ConfigError

    if not 2 <= args.seconds <= 3600:
        raise ConfigError(f"--seconds {args.seconds:g} is outside 2 to 3600")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Demo(args.seconds, as_json=args.json).run())


WORLD = "demo"
FILM = "demo.sqlite"
"""In the user's folder for what can be made again; the next demo replaces it."""
HZ = 60.0
PLAYERS = 10
READERS = {"webtransport": 20, "websocket": 5}
NEXT = """
Now with a gateway of your own, in two terminals (. .venv/bin/activate first):
  mvgateway serve              # names the page where its worlds are seen live
  mvgateway publish plaza      # then kill -9 it, and: mvgateway recover plaza"""


@dataclass(slots=True)
class Crash:
    """What the kill cost. ``durable_tick``: the last that the publisher had heard to be stored."""

    last_sent_tick: int
    durable_tick: int
    recovered_tick: int
    recovered_equal: bool
    away_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "last_sent_tick": self.last_sent_tick,
            "durable_tick": self.durable_tick,
            "recovered_tick": self.recovered_tick,
            "recovered_equal": self.recovered_equal,
        }


@dataclass(slots=True)
class Sent:
    """What was sent, tick by tick, and how late the store confirmed it."""

    frames: int = 0
    motion_tick: int = 0
    states: dict[Mark, dict[int, bytes]] = field(default_factory=dict)
    durable_lag_ms: EverySample = field(default_factory=EverySample)
    durable_lag_ticks: EverySample = field(default_factory=EverySample)

    def close(self, publisher: Publisher) -> None:
        """A publisher's run is over: keep its figures, of every frame."""
        ms, ticks = publisher.lags()
        self.durable_lag_ms.merge(ms)
        self.durable_lag_ticks.merge(ticks)


class Demo:
    """One run; :meth:`run` answers the exit code."""

    def __init__(self, seconds: float, *, as_json: bool) -> None:
        from gateway.cli._motion import Avatars

        self.seconds = seconds
        self.as_json = as_json
        self.avatars = Avatars(PLAYERS, hz=HZ)
        self.sent = Sent()
        self.readers: list[Subscriber] = []
        self.publisher: Publisher | None = None
        self.crash: Crash | None = None
        self.film: Path | None = None
        self.phase = ""
        self._console: Console | None = None

    async def run(self) -> int:
        """Everything in turn. 0 only if the recovered state equals what was sent at that tick."""
        from gateway.cli._child import GatewayChild

        with tempfile.TemporaryDirectory(prefix="mvgateway-demo-") as folder:
            child = GatewayChild(Path(folder))
            try:
                with self._live_table():
                    await self._play(child)
            finally:
                await child.stop()
            self.film = await self._cut(child)
        self._tell()
        return 0 if self.crash is not None and self.crash.recovered_equal else 1

    async def _cut(self, child: GatewayChild) -> Path | None:
        """What was recorded, as a film that stays. None where it could not be written: that is not what the demo is for."""
        from gateway.cli._source import local_recording
        from gateway.cli._span import find_span
        from gateway.cli.clip import write_film
        from gateway.errors import GatewayError
        from gateway.store.embedded import ReadOnlyStore

        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mvgateway")
        path = cache / FILM
        try:
            os.makedirs(cache, exist_ok=True)
            store = ReadOnlyStore.open(child.folder / "store")
            async with local_recording(store, WORLD) as recording:
                await write_film(recording, await find_span(recording, None, None, 0), path)
        except (GatewayError, OSError):
            return None
        return path

    def _now(self, phase: str, meaning: str = "") -> None:
        """Say what begins, and what it is in plain words: lines that stay above the live table."""
        self.phase = phase
        if self.as_json:
            return
        line = f"{phase}: {meaning}" if meaning else phase
        if self._console is not None:
            self._console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    async def _play(self, child: GatewayChild) -> None:
        self._now("starting a gateway", "a process of its own, on an empty store")
        await child.start()
        async with AsyncExitStack() as stack:
            await self._publish_and_kill(child, stack)
            recovered = await self._recover(child)
            await self._go_on(child, recovered)

    async def _publish_and_kill(self, child: GatewayChild, stack: AsyncExitStack) -> None:
        from gateway.cli._client import say_what_walkers_are
        from gateway.client import HttpClient, Trust

        async with self._new_publisher(child) as publisher:
            self._send(publisher)
            await say_what_walkers_are(HttpClient(child.url, trust=Trust.of(ca=child.ca)), WORLD)
            await self._open_readers(child, stack)
            self._now(f"publishing at {HZ:g} Hz", f"{PLAYERS} avatars, to {sum(READERS.values())} readers")
            await self._send_for(publisher, self.seconds / 2)
            await child.kill()
            self._now("killed it (SIGKILL)", "it had no chance to save anything; nothing was waited for")
            durable = publisher.durable.tick if publisher.durable else 0
            self.crash = Crash(publisher.tick, durable, 0, False, away_s=time.monotonic())
            self.sent.close(publisher)

    async def _recover(self, child: GatewayChild) -> FetchedState:
        from gateway.client import fetch_last
        from gateway.core.ports import Mark

        assert self.crash is not None
        self._now("starting it again", "on the same store; readers come back by themselves")
        await child.start()
        recovered = await fetch_last(child.url, WORLD, ca=child.ca)
        sent = self.sent.states.get(Mark(recovered.epoch, recovered.tick))
        crash = self.crash
        crash.away_s = time.monotonic() - crash.away_s
        crash.recovered_tick = recovered.tick
        crash.recovered_equal = sent == recovered.records and recovered.tick >= crash.durable_tick
        return recovered

    async def _go_on(self, child: GatewayChild, recovered: FetchedState) -> None:
        self._now(
            "recovered",
            f"tick {recovered.tick}; the game server goes on from there, in epoch {recovered.epoch + 1}",
        )
        self.sent.motion_tick = recovered.tick
        async with self._new_publisher(child) as publisher:
            publisher.send(dict(recovered.records), keyframe=True)
            self._note(publisher)
            await self._send_for(publisher, self.seconds / 2)
            self._now("waiting until every reader has the last frame")
            await self._settle(publisher)
            self.sent.close(publisher)

    async def _settle(self, publisher: Publisher) -> None:
        import asyncio

        for _ in range(int(DEMO_SETTLE_S / DEMO_SETTLE_LOOK_S)):
            if all(reader.records() == publisher.records() for reader in self.readers):
                return
            await asyncio.sleep(DEMO_SETTLE_LOOK_S)

    def _new_publisher(self, child: GatewayChild) -> Publisher:
        from gateway.client import Publisher
        from gateway.wire.xrgrid import PACKET_BYTES

        self.publisher = Publisher(child.url, WORLD, stride=PACKET_BYTES, ca=child.ca)
        return self.publisher

    async def _open_readers(self, child: GatewayChild, stack: AsyncExitStack) -> None:
        from gateway.client import Subscriber

        self._now(
            "connecting the readers", ", ".join(f"{count} by {name}" for name, count in READERS.items())
        )
        for transport, count in READERS.items():
            self.readers += [
                Subscriber(child.url, WORLD, transport=transport, ca=child.ca, on_message=_nothing)
                for _ in range(count)
            ]
        for reader in self.readers:
            await stack.enter_async_context(reader)

    async def _send_for(self, publisher: Publisher, seconds: float) -> None:
        from gateway.cli.publish import paced

        async for _ in paced(HZ, seconds):
            self._send(publisher)

    def _send(self, publisher: Publisher) -> None:
        self.sent.motion_tick += 1
        publisher.send(self.avatars.frame(self.sent.motion_tick))
        self._note(publisher)

    def _note(self, publisher: Publisher) -> None:
        from gateway.core.ports import Mark

        self.sent.frames += 1
        self.sent.states[Mark(publisher.epoch, publisher.tick)] = publisher.records()

    # -- what a user sees --

    def results(self) -> dict[str, Any]:
        """The figures, JSON-ready."""
        assert self.crash is not None
        latencies = [ms for reader in self.readers for ms in reader.counts.latency.samples()]
        return {
            "frames_sent": self.sent.frames,
            "delivered": {name: self._delivered(name) for name in READERS},
            "latency_ms": _percentiles(latencies),
            "durable_lag_ms": self.sent.durable_lag_ms.summary(),
            "crash": self.crash.as_json(),
        }

    def _of(self, transport: str) -> list[Subscriber]:
        first = READERS["webtransport"]
        return self.readers[:first] if transport == "webtransport" else self.readers[first:]

    def _delivered(self, transport: str) -> int:
        return sum(reader.counts.ticks.seen for reader in self._of(transport))

    def _tell(self) -> None:
        from gateway.wire.xrgrid import PACKET_BYTES

        if self.crash is None:
            return
        results = self.results()
        if self.as_json:
            print(json.dumps(results), flush=True)
            return
        crash, lag_ticks = self.crash, self.sent.durable_lag_ticks.summary()
        equal = "byte for byte equal" if crash.recovered_equal else "NOT EQUAL"
        agree = self.publisher is not None and all(
            r.records() == self.publisher.records() for r in self.readers
        )
        for name, text in {
            "frames sent": f"{results['frames_sent']} at {HZ:g} Hz, {PLAYERS} records of {PACKET_BYTES} bytes",
            **{
                f"delivered, {n}": f"{results['delivered'][n]} to {len(self._of(n))} readers" for n in READERS
            },
            "readers at the end": "all hold the publisher's state" if agree else "NOT ALL UP TO DATE",
            "latency": _p50_p99(results["latency_ms"], "ms"),
            "durable lag": f"{_p50_p99(results['durable_lag_ms'], 'ms')}; {_p50_p99(lag_ticks, 'ticks')}",
            "crash (SIGKILL)": f"last tick sent {crash.last_sent_tick}, known durable {crash.durable_tick}",
            "recovered": f"tick {crash.recovered_tick}, {equal} to what was sent",
            "lost in the crash": f"{crash.last_sent_tick - crash.recovered_tick} ticks; back after {crash.away_s:.2f} s",
        }.items():
            print(f"{name:<25}{text}")
        print(NEXT)
        if self.film is not None:
            print(f"And what was recorded, in a browser:\n  mvgateway film {_short(self.film)}")

    def _live_table(self) -> AbstractContextManager[object]:
        if not sys.stderr.isatty():
            return nullcontext()
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        return Live(get_renderable=self._table, console=self._console, refresh_per_second=4, transient=True)

    def _table(self) -> Table:
        from rich.table import Table

        publisher = self.publisher
        title = f"{self.phase}   tick {publisher.tick if publisher else 0}"
        table = Table(title=title, title_justify="left")
        for column in ("transport", "connected", "frames", "lost", "repaired", "p50 ms", "p99 ms"):
            table.add_column(column, justify="right")
        for name in READERS:
            readers = self._of(name)
            samples = _percentiles([ms for r in readers for ms in r.counts.latency.samples()[-120:]])
            table.add_row(
                name,
                f"{sum(r.connected for r in readers)} of {READERS[name]}",
                str(self._delivered(name)),
                str(sum(r.counts.ticks.lost for r in readers)),
                str(sum(r.counts.repaired_records for r in readers)),
                *(f"{samples[p] or 0:.1f}" for p in ("p50", "p99")),
            )
        return table


def _nothing(_: ReceivedFrame) -> None:
    """The reader counts and keeps the state; nobody takes the frames."""


def _percentiles(samples: list[float]) -> dict[str, float | None]:
    from gateway.client.counts import percentile

    found = {name: percentile(samples, percent) for name, percent in (("p50", 50), ("p99", 99))}
    return {name: None if value is None else round(value, 3) for name, value in found.items()}


def _p50_p99(values: dict[str, float | None], unit: str) -> str:
    return " / ".join("-" if v is None else f"{v:.4g}" for v in values.values()) + f" {unit} (p50 / p99)"


def _short(path: Path) -> str:
    """As a shell takes it."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
