"""``mvgateway archive``: move a recording to any place. Room: cli."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import limits
from gateway.cli._files import tidy_at_term
from gateway.cli._source import add_source_flags, open_recording
from gateway.errors import ConfigError, Conflict, NothingRecorded
from gateway.wallclock import now_us

if TYPE_CHECKING:
    from gateway.cli._span import Span
    from gateway.recordings.archives import ArchivePlace, Manifest
    from gateway.recordings.recording import Recording
    from gateway.wire.journal import Gap, JournalFrame

    Item = JournalFrame | Gap

NAME = "archive"
HELP = "copy a recording to a folder, S3 or whatever fsspec can write; resumable"
EXAMPLE = """
mvgateway archive arena /backups/arena
mvgateway archive arena s3://films/arena --from 2h-ago
mvgateway archive arena s3://films/arena --storage endpoint_url=http://127.0.0.1:8333
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", help="a world, or a film's file name")
    parser.add_argument("place", help="a folder, s3://BUCKET/PREFIX, or another URL that fsspec knows")
    add_source_flags(parser)
    parser.add_argument("--from", dest="begin", metavar="WHEN", help="a tick, EPOCH:TICK, a time, or a mark")
    parser.add_argument("--to", dest="end", metavar="WHEN", help="the last one, likewise")
    parser.add_argument(
        "--storage",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option for fsspec, such as endpoint_url=http://127.0.0.1:8333",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    import asyncio

    with tidy_at_term():
        return asyncio.run(archive(args))


def storage_options(pairs: list[str]) -> dict[str, Any]:
    """``--storage KEY=VALUE`` as fsspec takes it; a value that is JSON is taken as such."""
    options: dict[str, object] = {}
    for pair in pairs:
        name, given, value = pair.partition("=")
        if not given or not name:
            raise ConfigError(f"--storage {pair!r} is not KEY=VALUE")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


async def archive(args: argparse.Namespace) -> int:
    """Send what the place does not have yet."""
    import asyncio

    from gateway.recordings.archives import ArchivePlace, Manifest

    place = ArchivePlace(args.place, **storage_options(args.storage))
    manifest = await asyncio.to_thread(
        place.manifest
    )  # first: whoever cannot reach the place learns it at once
    async with open_recording(args) as recording:
        summary = await recording.summary()
        manifest = manifest or Manifest(summary["world"], summary["stride"])
        if manifest.world != summary["world"]:
            raise Conflict(f"{args.place} holds the archive of {manifest.world}; give another place")
        # Each time anew: the world may have got one, or another, since it was archived last.
        manifest.layout = summary.get("layout")
        left = await _left(args, recording, manifest)
        sent = await _send(recording, place, manifest, left, quiet=args.json)
    facts = {
        "world": manifest.world,
        "place": args.place,
        "parts": len(manifest.parts),
        "sent": sent,
        "frames": sum(part.frames for part in manifest.parts),
        "bytes": sum(part.bytes for part in manifest.parts),
        "to": manifest.end and {"epoch": manifest.end[0], "tick": manifest.end[1]},
    }
    text = f"{args.place}: {facts['parts']} parts ({sent} sent now), {facts['frames']} frames, {facts['bytes']} bytes"
    print(json.dumps(facts) if args.json else text)
    return 0


async def _left(args: argparse.Namespace, recording: Recording, manifest: Manifest) -> Span | None:
    """The span that is still to be sent; None where everything is there."""
    from gateway.cli._span import Span, find_span
    from gateway.recordings.recording import Moment

    span = await find_span(recording, args.begin, args.end, now_us())
    done = manifest.end
    if done is None or done < span.begin:
        return span
    if done >= span.end:
        return None
    try:
        start = await recording.state(Moment(*done))
    except NothingRecorded:
        return span
    return Span(done, span.end, start)


async def _send(
    recording: Recording, place: ArchivePlace, manifest: Manifest, span: Span | None, *, quiet: bool
) -> int:
    import asyncio

    from gateway.cli._progress import progress, way_of
    from gateway.cli._span import rows_of
    from gateway.recordings.films import FilmWriter
    from gateway.wire.journal import Gap

    sent = 0
    if span is not None:
        marks = await recording.marks()
        begin, messages, at_us = span.begin, span.start.messages, span.start.at_us
        way = await way_of(recording, span, quiet=quiet)
        with (
            progress("archiving", way.total, way.unit, quiet=quiet) as upto,
            tempfile.TemporaryDirectory() as folder,
        ):
            async for chunk in _chunks(rows_of(recording, span), empty=not manifest.parts):
                file = Path(folder) / f"part-{len(manifest.parts):06d}.sqlite"
                with FilmWriter(file, world=manifest.world, stride=manifest.stride, now_us=now_us()) as film:
                    film.begin(messages, received_at_us=at_us)
                    end = begin
                    for item in chunk:
                        film.add(item)
                        if not isinstance(item, Gap):
                            end, at_us = max(end, (item.epoch, item.tick)), item.received_at_us
                            upto(way.upto(item))
                    for mark in marks:
                        if begin <= (mark["epoch"], mark["tick"]) <= end:
                            film.mark(
                                mark["name"], mark["epoch"], mark["tick"], mark["at_us"], _text(mark["data"])
                            )
                    messages = film.state()
                await asyncio.to_thread(_send_part, place, manifest, file, (begin, end), chunk)
                begin, sent = end, sent + 1
                file.unlink()
    manifest.complete = True
    await asyncio.to_thread(place.put_manifest, manifest)
    return sent


def _text(data: object) -> str | None:
    return data if isinstance(data, str | None) else json.dumps(data)


def _send_part(
    place: ArchivePlace,
    manifest: Manifest,
    file: Path,
    span: tuple[tuple[int, int], tuple[int, int]],
    chunk: list[Item],
) -> None:
    from gateway.recordings.archives import ArchivedPart
    from gateway.wire.journal import Gap

    size, digest = place.put_part(file, file.name)
    gaps = sum(isinstance(item, Gap) for item in chunk)
    part = ArchivedPart(file.name, span[0], span[1], len(chunk) - gaps, gaps, size, digest)
    manifest.parts.append(part)
    # Until the whole span is there: a transfer that breaks off here must not look finished.
    manifest.complete = False
    place.put_manifest(manifest)


async def _chunks(rows: AsyncIterator[Item], *, empty: bool) -> AsyncIterator[list[Item]]:
    """The rows in parts. ``empty``: where there are none, one part all the same, for the state that
    the span begins with."""
    from gateway.wire.journal import Gap

    chunk: list[Item] = []
    size = 0
    async for item in rows:
        full = len(chunk) >= limits.ARCHIVE_PART_FRAMES_MAX or size >= limits.ARCHIVE_PART_BYTES_MAX
        # Not within a tick: its rows would be in two parts, and who goes on after the last part's end would
        # leave the second out.
        if full and not isinstance(item, Gap) and _place(item) > _place(chunk[-1]):
            yield chunk
            chunk, size, empty = [], 0, False
        chunk.append(item)
        size += 0 if isinstance(item, Gap) else item.size_bytes
    if chunk or empty:
        yield chunk


def _place(item: Item) -> tuple[int, int]:
    from gateway.wire.journal import Gap

    return (item.epoch, item.to_tick if isinstance(item, Gap) else item.tick)
