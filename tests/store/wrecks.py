"""Store files to be damaged, and what a salvage of them has to find."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from gateway.core.state import WorldState
from gateway.recordings.recording import MAKE_STATE
from gateway.store.embedded import EmbeddedOptions, Engine
from gateway.store.salvage.btree import INDEX, TABLE, BrokenTree, CellRow, Walker
from gateway.store.salvage.gathering import PAGE_SIZE
from gateway.store.salvage.image import Image
from gateway.store.world import Retention, WorldDatabase
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.journal import Batch, JournalFrame

Place = tuple[int, int]
Version = tuple[str, int, int]
"""Namespace, page, version."""
BEGIN_US = 1_790_000_000_000_000
WORLDS = ("arena", "lobby", "zone-1")


@dataclass
class Wreck:
    """A store folder. ``states``: of each world, the state at each of its ticks; ``hashes``: every page
    version there is; ``pages``: the file's pages that each one stands on."""

    folder: Path
    states: dict[str, dict[Place, dict[int, bytes]]] = field(default_factory=dict)
    hashes: dict[Version, bytes] = field(default_factory=dict)
    pages: dict[Version, set[int]] = field(default_factory=dict)
    root: set[int] = field(default_factory=set)
    """Pages of the tables that name things: without them names and heads are lost."""


def make(folder: Path, *, log: bool, ticks: int = 150) -> Wreck:
    """A store of three worlds and a branch, written in many commits; ``log``: the last ones still stand in
    SQLite's log, as after ``kill -9``."""
    engine = Engine(folder / "living", options=EmbeddedOptions(background=False))
    wreck = Wreck(folder / "store")
    for number, world in enumerate(WORLDS):
        engine.create_namespace(world)
        wreck.states[world] = _play(engine, world, ticks, seed=number)
        if log and number == 0:
            engine.close()
            engine = Engine(folder / "living", options=EmbeddedOptions(background=False))
    shutil.copytree(folder / "living", wreck.folder)
    engine.close()
    if not log:
        shutil.rmtree(wreck.folder)
        shutil.copytree(folder / "living", wreck.folder)
    _survey(wreck)
    return wreck


def _play(engine: Engine, world: str, ticks: int, *, seed: int) -> dict[Place, dict[int, bytes]]:
    dice, states = random.Random(seed), {}
    database, _ = WorldDatabase.create(
        engine, world, make_state=MAKE_STATE, now_us=BEGIN_US, retention=Retention("record")
    )
    state, seq = WorldState(), 0
    for epoch in (1, 2):
        database.begin_epoch(None, BEGIN_US)
        rows: list[JournalFrame] = []
        for tick in range(1, ticks + 1):
            at_us = BEGIN_US + (epoch * ticks + tick) * 16_667
            records = [
                Record(key, dice.randbytes(dice.randrange(40, 200))) for key in dice.sample(range(20), 5)
            ]
            frame = Frame(epoch, tick, records, sent_at=at_us - 500)
            state.apply(frame)
            states[epoch, tick] = state.snapshot()
            rows.append(JournalFrame(seq, epoch, tick, at_us, at_us - 500, False, (encode_frame(frame),)))
            seq += 1
            if tick % 30 == 0:
                messages = tuple(state.keyframe_messages(65_535))
                rows.append(JournalFrame(seq, epoch, tick, at_us, at_us, True, messages))
                seq += 1
            if tick % 10 == 0:
                database.append(Batch(tuple(rows), (), epoch, tick, sum(row.size_bytes for row in rows)))
                rows = []
    database.close()
    return states


class _Surveyor(Walker):
    """Remembers which pages a row stands on."""

    def __init__(self, image: Image) -> None:
        super().__init__(image, image.pages, self.fail)
        self.chain: list[int] = []

    def fail(self, page: int, why: str) -> None:
        raise AssertionError(f"page {page} {why}")

    def _overflow(self, number: int, left: int) -> bytes:
        begin = number
        data = super()._overflow(number, left)
        while left > 0:
            self.chain.append(begin)
            page = self.source.page(begin)
            if page is None:
                raise BrokenTree(str(begin))
            left -= len(page) - 4
            begin = struct.unpack_from(">I", page)[0]
        return data

    def placed(self, root: int, kinds: tuple[int, int]) -> Iterator[tuple[CellRow, set[int]]]:
        for row in self.rows(root, kinds):
            yield row, {row.page, *self.chain}
            self.chain = []


def _survey(wreck: Wreck) -> None:
    image = Image(wreck.folder / "store.sqlite", PAGE_SIZE)
    try:
        walker = _Surveyor(image)
        roots = {row.values[1]: row.values[3] for row in walker.rows(1, TABLE) if row.values[3]}
        names = {}
        for name in ("ns", "log", "meta"):
            for row, pages in walker.placed(roots[name], TABLE if name == "ns" else INDEX):
                wreck.root |= pages
                if name == "ns":
                    names[row.rowid] = row.values[1]
        blobs = {row.rowid: pages for row, pages in walker.placed(roots["blob"], TABLE)}
        for row, pages in walker.placed(roots["page"], INDEX):
            rid, page, version, digest, blob = row.values
            wreck.hashes[names[rid], page, version] = digest
            wreck.pages[names[rid], page, version] = pages | blobs[blob]
    finally:
        image.close()


def versions_in(folder: Path) -> dict[Version, bytes]:
    """Every page version of a sound store whose content is there."""
    con = apsw.Connection(str(folder / "store.sqlite"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        query = "SELECT n.key, p.page, p.version, p.hash FROM page p JOIN ns n ON n.rid = p.ns JOIN blob b ON b.id = p.blob"
        return {(key, page, version): digest for key, page, version, digest in con.execute(query)}
    finally:
        con.close()


def hurt(wreck: Wreck, to: Path, seed: int) -> tuple[str, set[int]]:
    """A copy, cut short or with bytes flipped at a place that the seed chooses: what was done, and which
    pages of the database file (from 1) were hit."""
    dice = random.Random(seed)
    shutil.copytree(wreck.folder, to)
    name = dice.choice(
        [path.name for path in to.iterdir() if path.name in ("store.sqlite", "store.sqlite-wal")]
    )
    path = to / name
    size = path.stat().st_size
    at = dice.randrange(size)
    if seed % 4 == 0:
        with path.open("r+b") as file:
            file.truncate(at)
        return f"{name} cut at {at} of {size}", _hit(wreck, name, at, size)
    count = dice.choice((1, 1, 16, 512, 9_000))
    with path.open("r+b") as file:
        file.seek(at)
        data = file.read(count)
        file.seek(at)
        file.write(bytes(byte ^ dice.randrange(1, 256) for byte in data))
    return f"{len(data)} bytes flipped at {at} of {name}", _hit(wreck, name, at, at + len(data))


def _hit(wreck: Wreck, name: str, begin: int, end: int) -> set[int]:
    if name == "store.sqlite":
        return set(range(begin // PAGE_SIZE + 1, (end - 1) // PAGE_SIZE + 2))
    frame = PAGE_SIZE + 24
    path = wreck.folder / name
    with path.open("rb") as file:
        hit = set()
        for number in range(max(begin - 32, 0) // frame, max(end - 32, 0) // frame + 1):
            file.seek(32 + number * frame)
            if head := file.read(4):
                hit.add(struct.unpack(">I", head)[0])
        return hit
