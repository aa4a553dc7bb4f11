"""``mvgateway clip``: a stretch of a recording as a film of its own. Room: cli."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli._files import tidy_at_term
from gateway.cli._source import add_source_flags, open_recording
from gateway.errors import ConfigError
from gateway.wallclock import now_us

if TYPE_CHECKING:
    from gateway.cli._span import Span
    from gateway.recordings.exports import UnreadRecords
    from gateway.recordings.recording import Recording


NAME = "clip"
HELP = "cut a stretch of a recording into a film (SQLite), or into CSV, Parquet, MCAP, glTF"
EXAMPLE = """
mvgateway clip arena --from 90s-ago --out goal.sqlite
mvgateway clip arena --from 3:51000 --to 3:54600 --out goal.sqlite --store /var/lib/mvgateway
mvgateway replay goal.sqlite --to-world rerun
mvgateway clip arena --from goal --out goal.mcap
mvgateway clip goal.sqlite --format csv --out goal.csv
mvgateway clip arena --from goal --values --out goal.sqlite
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", help="a world, or a film's file name")
    add_source_flags(parser)
    parser.add_argument("--from", dest="begin", metavar="WHEN", help="a tick, EPOCH:TICK, a time, or a mark")
    parser.add_argument("--to", dest="end", metavar="WHEN", help="the last one, likewise")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="what to write; its end names the format (.csv, .parquet, .mcap, .glb, .gltf), any other is a film",
    )
    parser.add_argument(
        "--format",
        choices=("sqlite", "csv", "parquet", "mcap", "gltf"),
        help="with the world's layout as schema; default: by the end of --out",
    )
    parser.add_argument(
        "--values",
        action="store_true",
        help="a film with the table `records` too: values by field, for any SQLite",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    import asyncio

    with tidy_at_term():
        return asyncio.run(clip(args))


async def clip(args: argparse.Namespace) -> int:
    """Cut the span out of a recording into a film of its own, or into what others read."""
    from gateway.cli._span import find_span
    from gateway.recordings.exports import FORMAT_OF_SUFFIX

    if args.out == "-":
        raise ConfigError(
            "--out - is no file: it gets its name when it is whole, so name one, and read that (./- is one of this name)"
        )
    path = Path(args.out)
    form = args.format or FORMAT_OF_SUFFIX.get(path.suffix.lower(), "sqlite")
    if args.values and form != "sqlite":
        raise ConfigError(f"--values is for films; --format {form} has values as it is")
    async with open_recording(args) as recording:
        span = await find_span(recording, args.begin, args.end, now_us())
        frames, gaps, unread = await write_clip(
            recording, span, path, form, values=args.values, quiet=args.json
        )
    # Blocks, and harms nobody: nothing else runs on this loop, and the file is written.
    size = path.stat().st_size  # noqa: ASYNC240
    facts = {
        "world": args.world,
        "from": {"epoch": span.begin[0], "tick": span.begin[1]},
        "to": {"epoch": span.end[0], "tick": span.end[1]},
        "frames": frames,
        "gaps": gaps,
        "unread": unread.count,
        "bytes": size,
        "out": args.out,
        "format": form,
    }
    place = f"{span.begin[0]}:{span.begin[1]}"
    text = (
        f"{args.out}: the state at {place} and {frames} frames after it, {gaps} gaps, {size} bytes ({place} to "
        f"{span.end[0]}:{span.end[1]} of {args.world})"
    )
    print(json.dumps(facts) if args.json else text)
    if unread.first is not None:
        epoch, tick, key = unread.first
        print(
            f"mvgateway clip: {unread.count} times a record is not whole by the world's layout, and was "
            f"{'left out' if form == 'gltf' else 'written with empty values'}; the first is {key} at {epoch}:{tick}, whose bytes "
            f"`mvgateway recover {shlex.quote(args.world)} --epoch {epoch} --tick {tick} --decode hex` shows",
            file=sys.stderr,
        )
    return 0


async def write_clip(
    recording: Recording, span: Span, path: Path, form: str, *, values: bool, quiet: bool
) -> tuple[int, int, UnreadRecords]:
    """Write the span to ``path``; answers frames, gaps and what could not be read. Nothing half-written ever has that name."""
    from gateway.cli._progress import progress, way_of
    from gateway.cli._span import rows_of
    from gateway.recordings.exports.cutting import Cut
    from gateway.wire.journal import Gap
    from gateway.wire.layouts import told

    summary = await recording.summary()
    layout, stride = told(summary.get("layout")), summary["stride"]
    making = Cut(
        form,
        path,
        world=summary["world"],
        stride=stride,
        layout=layout,
        now_us=now_us(),
        values=values,
    )
    way = await way_of(recording, span, quiet=quiet)
    with progress(path.name, way.total, way.unit, quiet=quiet) as upto, making as cut:
        cut.begin(span.start.messages, *span.begin, span.start.at_us)
        async for item in rows_of(recording, span):
            cut.add(item)
            if not isinstance(item, Gap):
                upto(way.upto(item))
        for mark in await recording.marks():
            if span.begin <= (mark["epoch"], mark["tick"]) <= span.end:
                data = mark["data"] if isinstance(mark["data"], str | None) else json.dumps(mark["data"])
                cut.mark(mark["name"], mark["epoch"], mark["tick"], mark["at_us"], data)
    return cut.frames, cut.gaps, cut.unread
