"""``mvgateway restore``: bring an archived recording back. Room: cli."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli._files import tidy_at_term
from gateway.cli._progress import progress
from gateway.cli._source import add_target_flags, open_store_of
from gateway.cli.archive import storage_options
from gateway.errors import ConfigError, Conflict
from gateway.wallclock import now_us

if TYPE_CHECKING:
    import apsw

    from gateway.recordings.archives import ArchivedPart, ArchivePlace, Manifest
    from gateway.recordings.films import FilmWriter
    from gateway.store.base import BlockingStore
    from gateway.store.world import WorldDatabase
    from gateway.wire.journal import Gap, JournalFrame
    from gateway.wire.recorded import KeptMark

    Item = JournalFrame | Gap

NAME = "restore"
HELP = "bring an archive back: as a world of a store, or as one film"
EXAMPLE = """
mvgateway restore s3://films/arena --out arena.sqlite
mvgateway restore /backups/arena --store /var/lib/mvgateway --world arena-again
mvgateway restore s3://films/arena --check
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", help="where the archive is: a folder, s3://BUCKET/PREFIX, …")
    parser.add_argument("--out", metavar="FILE.sqlite", help="one film, for every verb that takes a world")
    parser.add_argument(
        "--values",
        action="store_true",
        help="with --out: the table `records` too, values by field for any SQLite",
    )
    add_target_flags(parser)
    parser.add_argument("--world", help="its name there (default: the archived one's)")
    parser.add_argument("--check", action="store_true", help="only fetch every part and compare its checksum")
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

    if (args.out is not None) + (args.store is not None) + args.check != 1:
        raise ConfigError("say what to make: --out FILE.sqlite, --store DIR, or only --check")
    if args.values and args.out is None:
        raise ConfigError("--values goes with --out: in a store, `mvgateway sql` shows values by field")
    if "://" not in args.place and not Path(args.place).is_dir():
        raise ConfigError(
            f"no archive at {args.place}: there is no such folder; `mvgateway archive WORLD DIR` makes one"
        )
    with tidy_at_term():
        return asyncio.run(restore(args))


async def restore(args: argparse.Namespace) -> int:
    """Fetch every part, check it, and put it where it was asked for."""
    import asyncio

    from gateway.recordings.archives import ArchivePlace

    place = ArchivePlace(args.place, **storage_options(args.storage))
    manifest = await asyncio.to_thread(place.need_manifest)
    if args.check:
        await asyncio.to_thread(_check, place, manifest, args.json)
        made = "every part matches its checksum"
    elif args.out:
        await asyncio.to_thread(_to_film, place, manifest, Path(args.out), args.values, args.json)
        made = args.out
    else:
        made = args.world or manifest.world
        async with open_store_of(args, read_only=False) as store:
            await asyncio.to_thread(_to_store, place, manifest, store.blocking(), made, args.json)
    facts = {"place": args.place, "parts": [asdict(part) for part in manifest.parts], "made": made}
    text = (
        f"{args.place}: {len(manifest.parts)} parts, {sum(p.frames for p in manifest.parts)} frames; {made}"
    )
    if not manifest.complete:
        text += " (the archive was never finished: what there is)"
    print(json.dumps({**facts, "complete": manifest.complete}) if args.json else text)
    return 0


def _check(place: ArchivePlace, manifest: Manifest, quiet: bool) -> None:
    for _ in _fetched(place, manifest.parts, quiet):
        pass


def _fetched(
    place: ArchivePlace, parts: list[ArchivedPart], quiet: bool
) -> Iterator[tuple[ArchivedPart, Path]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        progress("fetching", len(parts), "parts", quiet=quiet) as upto,
    ):
        for number, part in enumerate(parts):
            file = Path(folder) / "part.sqlite"
            place.get_part(part, file)
            yield part, file
            file.unlink()
            upto(number + 1)


@contextmanager
def _film_of(file: Path) -> Iterator[tuple[list[Item], list[KeptMark]]]:
    from gateway.recordings.recording import open_film

    with open_film(file) as film:
        yield list(film.history.frames(keyframes=True)), film.history.marks()


def _to_film(place: ArchivePlace, manifest: Manifest, out: Path, values: bool, quiet: bool) -> None:
    from gateway.recordings.films import FilmWriter
    from gateway.wire.layouts import told

    with FilmWriter(
        out,
        world=manifest.world,
        stride=manifest.stride,
        now_us=now_us(),
        layout=told(manifest.layout),
        values=values,
    ) as film:
        for number, (_, file) in enumerate(_fetched(place, manifest.parts, quiet)):
            with _film_of(file) as (items, marks):
                _add_all(film, items, first=number == 0)
                for mark in marks:
                    film.mark(mark["name"], mark["epoch"], mark["tick"], mark["at_us"], mark["data"])


def _add_all(film: FilmWriter, items: list[Item], *, first: bool) -> None:
    from gateway.wire.journal import JournalFrame

    for item in items:
        if isinstance(item, JournalFrame) and item.keyframe:
            if first:
                film.begin(item.messages, received_at_us=item.received_at_us)
                first = False
            continue
        film.add(item)


def _to_store(place: ArchivePlace, manifest: Manifest, store: BlockingStore, name: str, quiet: bool) -> None:
    from gateway.recordings.recording import MAKE_STATE
    from gateway.store.world import Retention, WorldDatabase
    from gateway.wire.layouts import told

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
        layout = told(manifest.layout)
        if layout is not None:
            world.set_layout(layout.text())
        seq = opened.last_seq + 1
        left = [part for part in manifest.parts if done is None or part.end > done]
        for part, file in _fetched(place, left, quiet):
            with _film_of(file) as (items, marks):
                seq = _append(world, part, items, seq)
                for mark in marks:
                    world.set_mark(mark["name"], mark["epoch"], mark["tick"], mark["at_us"], mark["data"])
    finally:
        world.close()


def _append(world: WorldDatabase, part: ArchivedPart, items: list[Item], seq: int) -> int:
    """One part in one commit, so that it is there whole or not at all."""
    from gateway.wire.journal import Batch, Gap, JournalFrame

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


def _newest_epoch(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT max(epoch) FROM epochs").get or 0)
