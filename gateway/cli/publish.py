"""``mvgateway publish``: send frames into a world. Room: cli."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, BinaryIO

from gateway import limits
from gateway.cli._bounds import check
from gateway.cli._client import add_client_flags, connection, http_client, opened, say_what_walkers_are
from gateway.errors import ConfigError, MalformedMessage, PublisherPresent

if TYPE_CHECKING:
    from gateway.client import Publisher
    from gateway.wire import Frame


NAME = "publish"
HELP = "publish a world: moving avatars, or frames from a file or standard input"
EXAMPLE = """
mvgateway publish arena --players 10 --hz 60
mvgateway publish arena --from recording.frames --hz 20
mvgateway replay arena --out - | mvgateway publish copy --from -
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world")
    add_client_flags(parser)
    parser.add_argument("--hz", type=float, default=60.0, help="ticks a second (default 60)")
    parser.add_argument("--seconds", type=float, default=None, help="stop after so long (default: never)")
    parser.add_argument("--players", type=int, default=10, help="avatars (default 10)")
    parser.add_argument("--bones", type=int, default=1, help="records of 100 bytes an avatar (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other walks")
    parser.add_argument(
        "--from", dest="source", metavar="FILE", help="length-prefixed messages instead; - is standard input"
    )
    parser.add_argument("--takeover", action="store_true", help="throw out the publisher that is there")
    parser.add_argument("--epoch", type=int, default=None, help="ask for this epoch back")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")


def run(args: argparse.Namespace) -> int:
    import asyncio

    check("--hz", args.hz, limits.PUBLISH_HZ_MIN, limits.PUBLISH_HZ_MAX, "ticks a second")
    check("--seconds", args.seconds, 0, limits.CLI_SECONDS_MAX)
    check("--players", args.players, 1, limits.PUBLISH_RECORDS_MAX)
    check("--bones", args.bones, 1, limits.PUBLISH_RECORDS_MAX)
    check("--players times --bones", args.players * args.bones, 1, limits.PUBLISH_RECORDS_MAX, "records")
    check("--epoch", args.epoch, 1, 0xFFFF_FFFF)
    if args.source and args.source != "-":
        _check_readable(args.source)
    return asyncio.run(publish(args))


def _check_readable(source: str) -> None:
    """Before a gateway is asked. Raises :class:`ConfigError`."""
    try:
        with open(source, "rb"):
            pass
    except OSError as error:
        raise ConfigError(
            f"--from {source}: {error.strerror}; a file of messages, or - for standard input"
        ) from error


Records = Mapping[int, bytes | None]


async def publish(args: argparse.Namespace) -> int:
    """Send at a steady rate until the time, the file or the user ends it."""
    try:
        await _publish(args)
    except PublisherPresent as error:
        raise PublisherPresent(
            f"world {args.world} has a publisher; --takeover replaces it, another world's name leaves it be"
        ) from error
    return 0


async def _publish(args: argparse.Namespace) -> None:
    from gateway.client import Publisher
    from gateway.wire.xrgrid import PACKET_BYTES

    stride = 0 if args.source else PACKET_BYTES
    frames = frames_of(args.source) if args.source else _avatars(args)
    asked = Publisher(
        args.url, args.world, stride=stride, epoch=args.epoch, takeover=args.takeover, **connection(args)
    )
    async with opened(asked) as publisher:
        try:
            _announce(args, publisher)
            if not args.source:
                await say_what_walkers_are(http_client(args), args.world)
            with _progress(args, publisher):
                await _send_all(publisher, frames, args.hz, args.seconds, bool(args.source))
        finally:
            _tell(args, publisher)


async def _send_all(
    publisher: Publisher,
    frames: Iterator[tuple[Records, bool]],
    hz: float,
    seconds: float | None,
    from_file: bool,
) -> None:
    import asyncio

    async for _ in paced(hz, seconds):
        frame = await asyncio.to_thread(next, frames, None) if from_file else next(frames, None)
        if frame is None:
            break
        publisher.send(frame[0], keyframe=frame[1])
    if publisher.counts.frames and publisher.connected:
        try:
            await asyncio.wait_for(publisher.wait_durable(), limits.CLI_DURABLE_S)
        except TimeoutError:
            pass  # the store is behind; the frames are sent all the same


async def paced(hz: float, seconds: float | None = None) -> AsyncIterator[int]:
    """0, 1, 2, … at ``hz`` a second for ``seconds``; a late tick does not shift those after it."""
    import asyncio

    start = time.monotonic()
    tick = 0
    while seconds is None or tick < hz * seconds:
        yield tick
        tick += 1
        wait = start + tick / hz - time.monotonic()
        if wait < -1.0:
            start = time.monotonic() - tick / hz
        await asyncio.sleep(max(wait, 0))


def _avatars(args: argparse.Namespace) -> Iterator[tuple[Records, bool]]:
    """The first frame is all there is: who walked here in another run is gone, unless this one goes on with it."""
    from gateway.cli._motion import Avatars

    avatars = Avatars(args.players, bones=args.bones, hz=args.hz, seed=args.seed)
    tick = 0
    while True:
        tick += 1
        yield avatars.frame(tick), tick == 1 and args.epoch is None


def frames_of(source: str) -> Iterator[tuple[Records, bool]]:
    """The frames of a file of length-prefixed messages (``-``: standard input): (records, keyframe).
    Messages of one tick are one frame. Raises :class:`ConfigError`, :class:`MalformedMessage`."""
    if source == "-":
        yield from _grouped(sys.stdin.buffer)
        return
    try:
        with open(source, "rb") as file:
            yield from _grouped(file)
    except OSError as error:
        raise ConfigError(f"--from {source}: {error.strerror}") from error


def _grouped(file: BinaryIO) -> Iterator[tuple[Records, bool]]:
    group: dict[int, bytes | None] = {}
    mark: tuple[int, int, bool] | None = None
    for frame in _messages(file):
        here = (frame.epoch, frame.tick, frame.keyframe)
        if mark is not None and here != mark:
            yield group, mark[2]
            group = {}
        mark = here
        group.update((row.key, row.data) for row in frame.records)
    if mark is not None:
        yield group, mark[2]


def _messages(file: BinaryIO) -> Iterator[Frame]:
    from gateway.wire import Frame, MessageStream, decode_message

    stream = MessageStream()
    while chunk := file.read1(limits.MIB) if hasattr(file, "read1") else file.read(limits.MIB):
        stream.feed(chunk)
        for message in stream:
            decoded = decode_message(message)
            if isinstance(decoded, Frame):
                yield decoded
    try:
        stream.finish()
    except MalformedMessage as error:
        raise MalformedMessage(f"--from: {error.message}") from error


def _announce(args: argparse.Namespace, publisher: Publisher) -> None:
    """Say that it is under way: where nobody looks on, this is all that is said before the end."""
    if not args.json:
        print(
            f"publishing {args.world} at {args.hz:g} Hz by {publisher.transport}, epoch {publisher.epoch}; "
            "Ctrl-C ends it",
            file=sys.stderr,
            flush=True,
        )


def _progress(args: argparse.Namespace, publisher: Publisher) -> AbstractContextManager[object]:
    if args.json or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def line() -> Text:
        counts, durable = publisher.counts, publisher.durable
        return Text(
            f"{args.world}  {publisher.transport or _not_connected(publisher)}  epoch {publisher.epoch}  "
            f"tick {publisher.tick}  durable {durable.tick if durable else '-'}  "
            f"lost {counts.lost_datagrams}  repaired {counts.repaired_records}"
        )

    return Live(get_renderable=line, console=Console(stderr=True), refresh_per_second=8, transient=True)


def _not_connected(publisher: Publisher) -> str:
    return "connecting …" if publisher.refusal is None else f"connecting … ({publisher.refusal.message})"


def _tell(args: argparse.Namespace, publisher: Publisher) -> None:
    facts = {
        "world": args.world,
        "transport": publisher.transport,
        "epoch": publisher.epoch,
        "tick": publisher.tick,
        "durable": _mark(publisher),
        **publisher.facts(),
    }
    if args.json:
        print(json.dumps(facts), flush=True)
    else:
        print(
            f"sent {facts['frames']} frames to {args.world} (epoch {facts['epoch']}, tick {facts['tick']}) "
            f"over {facts['transport']}; {_durable(publisher)}"
            f"{_not_yet(facts['not_durable'])}{_dropped(facts['dropped_frames'])}{_held(facts['held_frames'])}; "
            f"durable lag {_lag(facts['durable_lag_ms'])}"
        )


def _not_yet(frames: int) -> str:
    return f", {frames} frames are not yet" if frames else ""


def _dropped(frames: int) -> str:
    return f", {frames} never will be (the store was too slow)" if frames else ""


def _held(frames: int) -> str:
    return (
        f", {frames} waited for those before them (the gateway, this machine or the path takes fewer)"
        if frames
        else ""
    )


def _lag(summary: Mapping[str, float | None]) -> str:
    if summary["p50"] is None:
        return "unknown"
    return f"p50 {summary['p50']:g} ms, p99 {summary['p99']:g} ms, every frame counted"


def _durable(publisher: Publisher) -> str:
    epoch, tick = publisher.durable_order()
    if not epoch:
        return "nothing is durable yet"
    return f"durable up to tick {tick}" + (f" of epoch {epoch}" if epoch != publisher.epoch else "")


def _mark(publisher: Publisher) -> dict[str, int] | None:
    durable = publisher.durable
    return {"epoch": durable.epoch, "tick": durable.tick} if durable else None
