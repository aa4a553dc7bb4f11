"""The work of ``mvgateway archive`` and ``mvgateway restore``. Room: cli."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway import limits
from gateway.cli._clip import progress
from gateway.cli._source import open_recording, open_store_of
from gateway.cli._span import Span, find_span, rows_of
from gateway.client.live import now_us
from gateway.errors import ConfigError, Conflict, NothingRecorded
from gateway.recordings.archives import ArchivedPart, ArchivePlace, Manifest
from gateway.recordings.films import FilmWriter
from gateway.recordings.recording import MAKE_STATE, Moment, Recording, open_film
from gateway.store.base import BlockingStore
from gateway.store.world import Retention, WorldDatabase
from gateway.wire.journal import Batch, Gap, JournalFrame

Item = JournalFrame | Gap


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
    place = ArchivePlace(args.place, **storage_options(args.storage))
    async with open_recording(args) as recording:
        summary = await recording.summary()
        manifest = await asyncio.to_thread(place.manifest)
        manifest = manifest or Manifest(summary["world"], summary["stride"])
        if manifest.world != summary["world"]:
            raise Conflict(f"{args.place} holds the archive of {manifest.world}; give another place")
        sent = await _send(recording, place, manifest, await _left(args, recording, manifest))
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


async def _send(recording: Recording, place: ArchivePlace, manifest: Manifest, span: Span | None) -> int:
    sent = 0
    if span is not None:
        marks = await recording.marks()
        begin, messages, at_us = span.begin, span.start.messages, span.start.at_us
        with progress("archiving") as advance, tempfile.TemporaryDirectory() as folder:
            async for chunk in _chunks(rows_of(recording, span), empty=not manifest.parts):
                file = Path(folder) / f"part-{len(manifest.parts):06d}.sqlite"
                with FilmWriter(file, world=manifest.world, stride=manifest.stride, now_us=now_us()) as film:
                    film.begin(messages, received_at_us=at_us)
                    end = begin
                    for item in chunk:
                        film.add(item)
                        if not isinstance(item, Gap):
                            end, at_us = max(end, (item.epoch, item.tick)), item.received_at_us
                        advance()
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
    place: ArchivePlace, manifest: Manifest, file: Path, span: tuple[Any, Any], chunk: list[Item]
) -> None:
    size, digest = place.put_part(file, file.name)
    gaps = sum(isinstance(item, Gap) for item in chunk)
    part = ArchivedPart(file.name, span[0], span[1], len(chunk) - gaps, gaps, size, digest)
    manifest.parts.append(part)
    manifest.complete = False
    place.put_manifest(manifest)


async def _chunks(rows: AsyncIterator[Item], *, empty: bool) -> AsyncIterator[list[Item]]:
    """The rows in parts. ``empty``: where there are none, one part all the same, for the state that
    the span begins with."""
    chunk: list[Item] = []
    size = 0
    async for item in rows:
        full = len(chunk) >= limits.ARCHIVE_PART_FRAMES_MAX or size >= limits.ARCHIVE_PART_BYTES_MAX
        if full and not isinstance(item, Gap) and _place(item) > _place(chunk[-1]):
            yield chunk
            chunk, size, empty = [], 0, False
        chunk.append(item)
        size += 0 if isinstance(item, Gap) else item.size_bytes
    if chunk or empty:
        yield chunk


def _place(item: Item) -> tuple[int, int]:
    return (item.epoch, item.to_tick if isinstance(item, Gap) else item.tick)


async def restore(args: argparse.Namespace) -> int:
    """Fetch every part, check it, and put it where it was asked for."""
    place = ArchivePlace(args.place, **storage_options(args.storage))
    manifest = await asyncio.to_thread(place.need_manifest)
    if args.check:
        await asyncio.to_thread(_check, place, manifest)
        made = "every part matches its checksum"
    elif args.out:
        await asyncio.to_thread(_to_film, place, manifest, Path(args.out))
        made = args.out
    else:
        made = args.world or manifest.world
        async with open_store_of(args, read_only=False) as store:
            await asyncio.to_thread(_to_store, place, manifest, store.blocking(), made)
    facts = {"place": args.place, "parts": [asdict(part) for part in manifest.parts], "made": made}
    text = (
        f"{args.place}: {len(manifest.parts)} parts, {sum(p.frames for p in manifest.parts)} frames; {made}"
    )
    if not manifest.complete:
        text += " (the archive was never finished: what there is)"
    print(json.dumps({**facts, "complete": manifest.complete}) if args.json else text)
    return 0


def _check(place: ArchivePlace, manifest: Manifest) -> None:
    for _ in _fetched(place, manifest.parts):
        pass


def _fetched(place: ArchivePlace, parts: list[ArchivedPart]) -> Iterator[tuple[ArchivedPart, Path]]:
    with tempfile.TemporaryDirectory() as folder, progress("fetching parts") as advance:
        for part in parts:
            file = Path(folder) / "part.sqlite"
            place.get_part(part, file)
            advance()
            yield part, file
            file.unlink()


@contextmanager
def _film_of(file: Path) -> Iterator[tuple[list[Item], list[dict[str, Any]]]]:
    with open_film(file) as film:
        yield list(film.history.frames(keyframes=True)), film.history.marks()


def _to_film(place: ArchivePlace, manifest: Manifest, out: Path) -> None:
    with FilmWriter(out, world=manifest.world, stride=manifest.stride, now_us=now_us()) as film:
        for number, (_, file) in enumerate(_fetched(place, manifest.parts)):
            with _film_of(file) as (items, marks):
                _add_all(film, items, first=number == 0)
                for mark in marks:
                    film.mark(mark["name"], mark["epoch"], mark["tick"], mark["at_us"], mark["data"])


def _add_all(film: FilmWriter, items: list[Item], *, first: bool) -> None:
    for item in items:
        if isinstance(item, JournalFrame) and item.keyframe:
            if first:
                film.begin(item.messages, received_at_us=item.received_at_us)
                first = False
            continue
        film.add(item)


def _to_store(place: ArchivePlace, manifest: Manifest, store: BlockingStore, name: str) -> None:
    world, opened = WorldDatabase.create(
        store,
        name,
        make_state=MAKE_STATE,
        now_us=now_us(),
        stride=manifest.stride,
        retention=Retention("record"),
    )
    try:
        newest = opened.newest
        done = (newest.epoch, newest.tick) if newest else None
        if done is not None and done not in [part.end for part in manifest.parts]:
            raise Conflict(
                f"world {name} exists in this store and is not a part of this archive; use --world"
            )
        seq = opened.last_seq + 1
        left = [part for part in manifest.parts if done is None or part.end > done]
        for part, file in _fetched(place, left):
            with _film_of(file) as (items, marks):
                seq = _append(world, part, items, seq)
                for mark in marks:
                    world.set_mark(mark["name"], mark["epoch"], mark["tick"], mark["at_us"], mark["data"])
    finally:
        world.close()


def _append(world: WorldDatabase, part: ArchivedPart, items: list[Item], seq: int) -> int:
    """One part in one commit, so that it is there whole or not at all."""
    frames = [item for item in items if isinstance(item, JournalFrame)]
    numbered = tuple(
        JournalFrame(seq + at, f.epoch, f.tick, f.received_at_us, f.sent_at_us, f.keyframe, f.messages)
        for at, f in enumerate(frames)
    )
    gaps = tuple(item for item in items if isinstance(item, Gap))
    size = sum(frame.size_bytes for frame in numbered)
    while (opened := world.transact(_newest_epoch)) < part.end[0]:
        world.begin_epoch(None, now_us())
        assert opened < world.transact(_newest_epoch)
    world.append(Batch(numbered, gaps, part.end[0], part.end[1], size))
    return seq + len(numbered)


def _newest_epoch(connection: Any) -> int:
    return int(connection.execute("SELECT max(epoch) FROM epochs").get or 0)
