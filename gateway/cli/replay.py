"""``mvgateway replay``: play a recording with its timing. Room: cli."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypedDict

from gateway.cli._client import connection, ended_in_order
from gateway.cli._source import add_source_flags, open_recording
from gateway.cli._times import show_time
from gateway.errors import ConfigError
from gateway.limits import DURABLE_S_MAX, REPLAY_SPEED_MAX
from gateway.wallclock import now_us

if TYPE_CHECKING:
    from gateway.cli._span import Span
    from gateway.client import Publisher
    from gateway.core.replay import Pace
    from gateway.recordings.recording import Recording
    from gateway.wire.journal import Gap, JournalFrame
    from gateway.wire.recorded import ToldMark, ToldPlace


NAME = "replay"
HELP = "play a recording with its timing: to a world, a file, or standard output"
EXAMPLE = """
mvgateway replay arena --to-world rerun --speed 2
mvgateway replay film.sqlite --from 1200 --to 3600 --to-world rerun
mvgateway replay arena --from 90s-ago --out - --speed max > last90s.frames
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", help="a world, or a film's file name")
    add_source_flags(parser)
    parser.add_argument("--from", dest="begin", metavar="WHEN", help="a tick, EPOCH:TICK, a time, or a mark")
    parser.add_argument("--to", dest="end", metavar="WHEN", help="the last one, likewise")
    parser.add_argument("--speed", default="1", help="above 0, at most 64, or max (default 1)")
    parser.add_argument("--to-world", metavar="WORLD", help="publish there (at --url), for live readers")
    parser.add_argument("--takeover", action="store_true", help="with --to-world: throw its publisher out")
    parser.add_argument("--out", metavar="FILE", help="length-prefixed messages; - is standard output")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")


def run(args: argparse.Namespace) -> int:
    import asyncio

    return asyncio.run(replay(args))


class FrameSink(Protocol):
    """Where a replay goes."""

    def begin(self, span: Span) -> None: ...

    def show(self, item: JournalFrame | Gap) -> None: ...


class WorldSink:
    """Publishes into a world: the starting state as a keyframe, then every frame as a new tick."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def begin(self, span: Span) -> None:
        self._publisher.send(dict(span.start.records), keyframe=True)

    def show(self, item: JournalFrame | Gap) -> None:
        from gateway.wire import decode_frame
        from gateway.wire.journal import Gap

        if isinstance(item, Gap):
            return
        frames = [decode_frame(message) for message in item.messages]
        records: dict[int, bytes | None] = {}
        for frame in frames:
            keys, values, _ = frame.columns()
            records.update(zip(keys, values, strict=True))
        # What is not in a keyframe is gone: sent as any other frame it would leave that in the world. Only a whole one,
        # since of a part that came late by itself all the rest would be taken for gone.
        is_whole = bool(frames) and len({frame.part for frame in frames}) == frames[0].parts
        self._publisher.send(records, keyframe=is_whole and frames[0].keyframe)


class FileSink:
    """Writes length-prefixed messages: what ``publish --from`` takes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def begin(self, span: Span) -> None:
        from gateway.wire import prefix

        self._file.write(b"".join(map(prefix, span.start.messages)))

    def show(self, item: JournalFrame | Gap) -> None:
        from gateway.wire import encode_control, prefix
        from gateway.wire.journal import Gap

        if isinstance(item, Gap):
            fields = {"epoch": item.epoch, "from": item.from_tick, "to": item.to_tick}
            self._file.write(prefix(encode_control("gap", **fields, reason=item.reason)))
        else:
            self._file.write(b"".join(map(prefix, item.messages)))
        self._file.flush()


async def replay(args: argparse.Namespace) -> int:
    """Play the span once."""
    from gateway.cli._span import find_span

    speed = _speed(args.speed)
    if bool(args.out) == bool(args.to_world):
        raise ConfigError("say where to: --to-world WORLD, or --out FILE (- is standard output)")
    async with open_recording(args) as recording:
        span = await find_span(recording, args.begin, args.end, now_us())
        async with _sink(args, span.start.stride) as sink:
            facts = await _play(args, recording, span, sink, speed)
    out = sys.stderr if args.out == "-" else sys.stdout
    print(json.dumps(facts) if args.json else _line(facts), file=out)
    return 0


Played = TypedDict(
    "Played",
    {
        "world": str,
        "from": "ToldPlace",
        "to": "ToldPlace",
        "frames": int,
        "gaps": int,
        "marks": list[str],
        "out": str,
    },
)
"""What was played, as it is told at the end."""


async def _play(
    args: argparse.Namespace, recording: Recording, span: Span, sink: FrameSink, speed: float
) -> Played:
    import asyncio

    from gateway.cli._span import rows_of
    from gateway.core.replay import Pace
    from gateway.core.steady import SteadyTime
    from gateway.wire.journal import Gap

    frames = gaps = 0
    marks = await recording.marks()
    sink.begin(span)
    pace: Pace | None = None
    steady = SteadyTime()
    with _time_line(args, span, marks) as line:
        async for item in rows_of(recording, span):
            if isinstance(item, Gap):
                gaps += 1
            else:
                frames += 1
                place = (item.epoch, item.tick)
                media_us = steady.follow(place, item.sent_at_us or item.received_at_us)
                pace = pace or Pace(media_us, time.monotonic(), speed)
                wait = pace.due(media_us) - time.monotonic()
                if wait > 0 or frames % 256 == 0:
                    await asyncio.sleep(max(wait, 0))
            sink.show(item)
            line(item)
    return {
        "world": args.world,
        "from": {"epoch": span.begin[0], "tick": span.begin[1]},
        "to": {"epoch": span.end[0], "tick": span.end[1]},
        "frames": frames,
        "gaps": gaps,
        "marks": [mark["name"] for mark in marks if span.begin <= (mark["epoch"], mark["tick"]) <= span.end],
        "out": args.out or args.to_world,
    }


def _line(facts: Played) -> str:
    begin, end = facts["from"], facts["to"]
    marks = f"; marks: {', '.join(facts['marks'])}" if facts["marks"] else ""
    return (
        f"played {facts['frames']} frames of {facts['world']} ({begin['epoch']}:{begin['tick']} to "
        f"{end['epoch']}:{end['tick']}) to {facts['out']}; {facts['gaps']} gaps{marks}"
    )


@asynccontextmanager
async def _sink(args: argparse.Namespace, stride: int) -> AsyncIterator[FrameSink]:
    import asyncio

    from gateway.client import Publisher

    if args.to_world:
        to = Publisher(args.url, args.to_world, stride=stride, takeover=args.takeover, **connection(args))
        with ended_in_order():
            async with to as publisher:
                yield WorldSink(publisher)
                await asyncio.wait_for(publisher.wait_durable(), DURABLE_S_MAX)
        return
    with _file(args.out) as file:
        yield FileSink(file)


@contextmanager
def _file(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdout.buffer
        return
    try:
        with open(name, "wb") as file:
            yield file
    except OSError as error:
        raise ConfigError(f"--out {name}: {error.strerror}") from error


def _speed(text: str) -> float:
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= REPLAY_SPEED_MAX:
        raise ConfigError(f"--speed {text} is not above 0 and at most {REPLAY_SPEED_MAX:g}, nor 'max'")
    return speed


def _time_line(
    args: argparse.Namespace, span: Span, marks: list[ToldMark]
) -> AbstractContextManager[Callable[[JournalFrame | Gap], None]]:
    if args.json or not sys.stderr.isatty():
        return nullcontext(lambda item: None)
    return _shown_line(args.world, span, marks)


@contextmanager
def _shown_line(
    world: str, span: Span, marks: list[ToldMark]
) -> Iterator[Callable[[JournalFrame | Gap], None]]:
    """A line that says where the film is; gaps and marks stay above it as they pass."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from gateway.wire.journal import Gap

    console = Console(stderr=True)
    coming = sorted(((mark["epoch"], mark["tick"]), mark["name"]) for mark in marks)
    coming = [mark for mark in coming if mark[0] >= span.begin]
    now = [Text(world)]
    with Live(get_renderable=lambda: now[0], console=console, refresh_per_second=8, transient=True):

        def show(item: JournalFrame | Gap) -> None:
            if isinstance(item, Gap):
                console.print(f"[yellow]gap[/] ticks {item.from_tick} to {item.to_tick} ({item.reason})")
                return
            while coming and coming[0][0] <= (item.epoch, item.tick):
                console.print(f"[cyan]mark[/] {coming.pop(0)[1]}")
            now[0] = Text(
                f"▶ {world}  {item.epoch}:{item.tick} of {span.end[0]}:{span.end[1]}  "
                f"{show_time(item.received_at_us)}"
            )

        yield show
