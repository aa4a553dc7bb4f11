"""``mvgateway watch``: follow a world and say how well it arrives. Room: cli."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from gateway import limits
from gateway.cli._bounds import check
from gateway.cli._client import add_client_flags, connection, http_client, opened
from gateway.cli._values import Values, parse_keys

if TYPE_CHECKING:
    from gateway.client import ReceivedFrame, Subscriber


NAME = "watch"
HELP = "follow a world: tick rate, lost, repaired, latency"
EXAMPLE = """
mvgateway watch arena
mvgateway watch arena --transport websocket --seconds 10 --json
mvgateway watch arena --delay-s 30
mvgateway watch arena --values
mvgateway watch arena --values 7,9 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world")
    add_client_flags(parser)
    parser.add_argument("--seconds", type=float, default=None, help="stop after so long (default: never)")
    parser.add_argument("--budget-kbps", type=int, default=None, help="take at most so many kbit/s")
    parser.add_argument(
        "--delay-s", type=float, default=0.0, help="watch the world as it was so many seconds ago (1 to 3600)"
    )
    parser.add_argument("--zstd", action="store_true", help="ask for compressed frames")
    parser.add_argument(
        "--values",
        nargs="?",
        const="",
        metavar="KEYS",
        help="show the records by the world's layout: those of these keys (7,9), or the first ones",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a second on standard output")


def run(args: argparse.Namespace) -> int:
    import asyncio

    check("--seconds", args.seconds, 0, limits.CLI_SECONDS_MAX)
    check("--budget-kbps", args.budget_kbps, 1, 0xFFFF_FFFF, "kbit/s")
    if args.delay_s:
        check("--delay-s", args.delay_s, 1, limits.DELAY_S_MAX, "seconds; 0 is live")
    return asyncio.run(watch(args))


async def watch(args: argparse.Namespace) -> int:
    """Follow the world until the time or the user ends it; the session's final error is raised."""
    from gateway.client import Subscriber

    values = None
    if args.values is not None:
        values = Values(partial(http_client, args), args.world, parse_keys(args.values))
        await values.look()
    subscriber = Subscriber(
        args.url,
        args.world,
        zstd=args.zstd,
        budget_kbps=args.budget_kbps,
        delay_s=args.delay_s,
        on_message=_nothing,
        **connection(args),
    )
    async with opened(subscriber):
        meter = Meter(subscriber, values)
        try:
            with _live(args, meter):
                await _until_over(args, subscriber, meter)
        finally:  # also at Ctrl-C
            if not args.json:
                meter.measure_all()
                print(meter.text(), flush=True)
    if subscriber.error is not None:
        raise subscriber.error
    return 0


async def _until_over(args: argparse.Namespace, subscriber: Subscriber, meter: Meter) -> None:
    import asyncio

    end = None if args.seconds is None else time.monotonic() + args.seconds
    while subscriber.error is None and (end is None or time.monotonic() < end):
        left = 1.0 if end is None else min(1.0, max(0.0, end - time.monotonic()))
        await asyncio.sleep(left)
        meter.measure()
        if meter.values is not None:
            await meter.values.look()
        if args.json:
            print(json.dumps(meter.as_json()), flush=True)


def _nothing(_: ReceivedFrame) -> None:
    """The subscriber counts; nobody takes the frames."""


class Meter:
    """Rates between two looks at a subscriber's counts."""

    def __init__(self, subscriber: Subscriber, values: Values | None = None) -> None:
        self.subscriber = subscriber
        self.values = values
        self._began = self._looked = time.monotonic()
        self._ticks = 0
        self._bytes = 0
        self.tick_rate = 0.0
        self.kbps = 0.0

    def measure(self) -> None:
        """Take the rates since the last look."""
        counts, now = self.subscriber.counts, time.monotonic()
        passed = max(now - self._looked, 1e-3)
        self.tick_rate = (counts.ticks.seen - self._ticks) / passed
        self.kbps = (counts.bytes - self._bytes) * 8 / 1000 / passed
        self._looked, self._ticks, self._bytes = now, counts.ticks.seen, counts.bytes

    def measure_all(self) -> None:
        """Take the rates since the beginning, for what is told at the end."""
        self._looked, self._ticks, self._bytes = self._began, 0, 0
        self.measure()

    def as_json(self) -> dict[str, object]:
        sub = self.subscriber
        return {
            "world": sub.world,
            "transport": sub.transport,
            "epoch": sub.epoch,
            "tick": sub.tick,
            "records": len(sub.state),
            "tick_rate": round(self.tick_rate, 2),
            "kbps": round(self.kbps, 1),
            **sub.counts.as_json(),
            **({} if self.values is None else {"values": self.values.of(sub.state.snapshot())}),
        }

    def text(self) -> str:
        """The line, and the records below it where they are shown."""
        values = [] if self.values is None else self.values.lines(self.subscriber.state.snapshot())
        return "\n".join([self.line(), *values])

    def line(self) -> str:
        sub, counts = self.subscriber, self.subscriber.counts
        p50, p99 = (counts.latency.percentile(p) or 0.0 for p in (50, 99))
        return (
            f"{sub.world}  {sub.transport or 'connecting …'}  epoch {sub.epoch}  tick {sub.tick}  "
            f"{self.tick_rate:.1f}/s  {self.kbps:.0f} kbit/s  {len(sub.state)} records  "
            f"lost {counts.ticks.lost}  repaired {counts.repaired_records}  late {counts.late_messages}  "
            f"latency {p50:.1f}/{p99:.1f} ms (p50/p99){_clocks(counts.clock.ms)}"
        )


def _clocks(offset_ms: float) -> str:
    return f"  clocks differ by {-offset_ms / 1e3:+.1f} s" if offset_ms else ""


def _live(args: argparse.Namespace, meter: Meter) -> AbstractContextManager[object]:
    if args.json or not sys.stdout.isatty():
        return nullcontext()
    from rich.live import Live
    from rich.text import Text

    return Live(get_renderable=lambda: Text(meter.text()), refresh_per_second=4, transient=True)
