"""What a damaged store file still says, row by row, put into tables that can be asked. Room: store.

Rows come from the trees of SQLite, and then from pages that no tree leads to any more. They are told
apart by what they hold. Contents are believed where their BLAKE3 hash is named by a page's row; a
page's row where it stands in order, and where the change log does not speak against it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import apsw
import zstandard
from blake3 import blake3

from gateway.limits import STORE_PAGE_BYTES_MAX
from gateway.store.embedded import schema
from gateway.store.embedded.content import ZSTD
from gateway.store.embedded.sql import ask
from gateway.store.salvage.btree import INDEX, TABLE, CellRow, Walker
from gateway.store.salvage.image import Image
from gateway.store.unpacking import unpacked

PAGE_SIZE: Final = 4096
"""Of every store file (:func:`gateway.store.embedded.schema.open_writer`)."""
HASH_BYTES: Final = 32

TABLES: Final = """
CREATE TABLE work.ns(rid INTEGER PRIMARY KEY, key, id, floor, base, snapshot, truncated,
  lock_owner, lock_snapshot, lock_nonce, rolling_back, metadata);
CREATE TABLE work.keys(rid INTEGER PRIMARY KEY, key TEXT);
CREATE TABLE work.ids(rid INTEGER PRIMARY KEY, id INTEGER);
CREATE TABLE work.page(ns INTEGER, page INTEGER, version INTEGER, hash BLOB, blob INTEGER,
  PRIMARY KEY(ns, page, version)) WITHOUT ROWID;
CREATE TABLE work.refs(ns INTEGER, hash BLOB, refs INTEGER, PRIMARY KEY(ns, hash)) WITHOUT ROWID;
CREATE TABLE work.blob(id INTEGER PRIMARY KEY, hash BLOB);
CREATE TABLE work.found(hash BLOB PRIMARY KEY, enc INTEGER, data BLOB);
CREATE TABLE work.log(ns INTEGER, version INTEGER, attempt BLOB, pages BLOB, PRIMARY KEY(ns, version)) WITHOUT ROWID;
CREATE TABLE work.meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE work.moment(time INTEGER PRIMARY KEY, version INTEGER);
"""
_PUT: Final = {
    "ns": "INSERT OR IGNORE INTO work.ns VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "sqlite_autoindex_ns_1": "INSERT OR IGNORE INTO work.keys(key, rid) VALUES(?, ?)",
    "sqlite_autoindex_ns_2": "INSERT OR IGNORE INTO work.ids(id, rid) VALUES(?, ?)",
    "page": "INSERT OR IGNORE INTO work.page VALUES(?, ?, ?, ?, ?)",
    "content": "INSERT OR IGNORE INTO work.refs VALUES(?, ?, ?)",
    "log": "INSERT OR IGNORE INTO work.log VALUES(?, ?, ?, ?)",
    "meta": "INSERT OR IGNORE INTO work.meta VALUES(?, ?)",
    "moment": "INSERT OR IGNORE INTO work.moment VALUES(?, ?)",
}
_WITH_ROWID: Final = frozenset({"ns", "blob", "bucket", "moment"})
_ORDERED: Final = {"page": 3, "log": 2}
"""Tables whose rows are believed where they stand in order, and how many columns that goes by."""


class Gathering:
    """Reads all of ``image`` into the schema ``work`` of ``con``. ``tell`` gets a sentence for each fault."""

    def __init__(self, image: Image, con: apsw.Connection, tell: Callable[[str], object]) -> None:
        self._image = image
        self._con = con
        self._tell = tell
        self._walker = Walker(image, image.pages, self._lost)
        self._zstd = zstandard.ZstdDecompressor()
        self.broken_pages: set[int] = set()
        self.broken_tables: set[str] = set()
        """Those of which a page was missing or damaged."""
        self._walking = ""

    def _lost(self, page: int, why: str) -> None:
        self.broken_tables.add(self._walking)
        if page not in self.broken_pages:
            self.broken_pages.add(page)
            self._tell(f"page {page} of the file {why}")

    def gather(self) -> None:
        """All of it: by the trees, then what no tree leads to."""
        first = self._image.page(1)
        for name, root in self._roots().items():
            self._walking = name
            self._take_all(name, self._walker.rows(root, TABLE if name in _WITH_ROWID else INDEX))
        self._walking = ""
        if first is not None:
            # After the trees and before the orphans: what the freelist has is rightly in no tree, and holds
            # rows that were deleted.
            self._walker.free(first)
        for number, data, kind in self._walker.orphans():
            rows = list(self._walker.cells(number, data, kind))
            for name in _SHAPES:
                self._take_all(name, [row for row in rows if _kind_of(kind, row.values) == name])

    def _roots(self) -> dict[str, int]:
        """Where each table begins: as the file says, or else as every file that this engine makes has it."""
        roots = _usual_roots()
        for row in self._walker.rows(1, TABLE):
            # What the file says counts before what is usual: a VACUUM moves roots.
            if len(row.values) == 5 and row.values[1] in roots and isinstance(row.values[3], int):
                roots[row.values[1]] = row.values[3]
        return roots

    def _take_all(self, name: str, rows: Iterable[CellRow]) -> None:
        if name == "blob":
            for row in rows:
                self._take_blob(row)
        elif name in _PUT:
            for some in _by_page(rows):
                self._take(name, some)
        else:
            for _ in rows:
                pass  # walked all the same: what is part of it is no orphan

    def _take(self, name: str, rows: list[CellRow]) -> None:
        good = [row for row in rows if _is_good(name, row)]
        if name in _ORDERED:
            kept = _in_order([tuple(row.values[: _ORDERED[name]]) for row in good])
            good = [good[at] for at in kept]
        if len(good) < len(rows):
            self._lost(rows[0].page, f"has {len(rows) - len(good)} rows of {name} that make no sense")
        self._con.executemany(_PUT[name], [_values(name, row) for row in good])

    def _take_blob(self, row: CellRow) -> None:
        if len(row.values) != 3 or not isinstance(row.values[2], bytes):
            self._lost(row.page, "has a row of blob that makes no sense")
            return
        enc, data = row.values[1:]
        try:
            plain = data if enc != ZSTD else unpacked(self._zstd, data, STORE_PAGE_BYTES_MAX)
        except zstandard.ZstdError:
            self._lost(row.page, "has a content that does not unpack")
            return
        digest = blake3(plain).digest()
        self._con.execute("INSERT OR IGNORE INTO work.blob VALUES(?, ?)", (row.rowid, digest))
        self._con.execute(
            # As it was packed: it unpacked to this hash, and packing it again would cost more than all
            # else.
            "INSERT OR IGNORE INTO work.found VALUES(?, ?, ?)",
            (digest, int(enc == ZSTD), data),
        )


_SHAPES: Final = ("blob", "ns", "page", "content", "log")


def _usual_roots() -> dict[str, int]:
    """A store's tables are made in one go, so they begin on the same pages everywhere."""
    con = apsw.Connection(":memory:")
    try:
        con.execute(f"PRAGMA page_size={PAGE_SIZE}")
        schema.create_or_verify(con, Path(":memory:"))
        return {name: root for name, root in ask(con, "SELECT name, rootpage FROM sqlite_schema") if root}
    finally:
        con.close()


def _by_page(rows: Iterable[CellRow]) -> Iterator[list[CellRow]]:
    some: list[CellRow] = []
    for row in rows:
        if some and row.page != some[0].page:
            yield some
            some = []
        some.append(row)
    if some:
        yield some


def _kind_of(kind: int, values: list[object]) -> str | None:
    """Which table a row without a tree belongs to."""
    if kind == TABLE[1]:
        return {3: "blob", 12: "ns"}.get(len(values))
    if len(values) == 5:
        return "content" if isinstance(values[1], bytes) else "page"
    return "log" if len(values) == 4 else None


def _is_good(name: str, row: CellRow) -> bool:
    values = row.values
    if name == "page":
        return len(values) == 5 and _are_whole(*values[:3], values[4]) and _is_hash(values[3])
    if name == "content":
        return len(values) == 5 and _are_whole(values[0], *values[2:]) and _is_hash(values[1])
    if name == "log":
        return (
            len(values) == 4
            and _are_whole(*values[:2])
            and isinstance(values[2], bytes)
            and _is_pages(values[3])
        )
    if name == "ns":
        return (
            len(values) == 12 and isinstance(values[1], str | None) and _are_whole(values[2], values[6] or 0)
        )
    if name == "moment":
        return len(values) == 2 and _are_whole(values[1])
    if name == "sqlite_autoindex_ns_1":
        return len(values) == 2 and isinstance(values[0], str | None) and _are_whole(values[1])
    if name == "sqlite_autoindex_ns_2":
        return len(values) == 2 and _are_whole(*values)
    return len(values) == 2 and isinstance(values[0], str)


def _are_whole(*values: object) -> bool:
    return all(isinstance(value, int) and value >= 0 for value in values)


def _is_hash(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == HASH_BYTES


def _is_pages(value: object) -> bool:
    return value is None or (isinstance(value, bytes) and len(value) % 4 == 0)


def _values(name: str, row: CellRow) -> tuple[object, ...]:
    if name in ("ns", "moment"):
        return (row.rowid, *row.values[1:])
    if name == "content":
        return (row.values[0], row.values[1], row.values[3])
    return tuple(row.values)


def _in_order(keys: list[tuple[object, ...]]) -> list[int]:
    """The places of the longest rising run of ``keys``: what stands out of order was hit."""
    ends: list[tuple[object, ...]] = []
    places: list[int] = []
    before = [-1] * len(keys)
    for at, key in enumerate(keys):
        # Patience sorting: `ends` holds the smallest end of a run of each length.
        length = bisect_left(ends, key)
        before[at] = places[length - 1] if length else -1
        ends[length : length + 1] = [key]
        places[length : length + 1] = [at]
    kept: list[int] = []
    at = places[-1] if places else -1
    while at >= 0:
        kept.append(at)
        at = before[at]
    return kept[::-1]
