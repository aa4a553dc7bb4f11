"""Which rows of a damaged store are believed, and what a new store is made of them."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import zstandard
from blake3 import blake3

from gateway.errors import ConfigError
from gateway.limits import SALVAGE_NAMED_MAX, STORE_PAGE_BYTES_MAX
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageRead, PageWrite
from gateway.store.embedded import EmbeddedOptions, Engine, numbers, schema
from gateway.store.salvage import SalvageReport, salvage
from gateway.store.salvage.btree import INDEX, TABLE, Walker, cell_offsets
from gateway.store.salvage.building import NAMELESS, NO_HASH, Salvaged, build
from gateway.store.salvage.gathering import PAGE_SIZE, TABLES, Gathering
from gateway.store.salvage.image import Image

# --- what is gathered -------------------------------------------------------------------------------


class Kept:
    """A store of two namespaces with some hundred page versions, closed: every table has rows."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "store" / schema.FILE_NAME
        engine = Engine(folder / "store", auto_create=True, options=EmbeddedOptions(background=False))
        for name in ("arena", "lobby"):
            ns = Namespace(name)
            version = engine.stat(ns).version
            for number in range(60):
                pages = [os.urandom(40) if page else b"the same" * 90 for page in range(4)]
                writes = [PageWrite(page, blake3(data).digest(), data) for page, data in enumerate(pages)]
                part = NamespaceCommit(ns, version, writes, metadata=f"m{number}" if number == 7 else None)
                version = engine.commit(CommitRequest(os.urandom(16), [part], True)).version
        engine.close()
        self.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self.sql("INSERT INTO moment VALUES(1700000000, 77), (1700000001, 78)")
        self.sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        con = apsw.Connection(str(self.path))
        try:
            return [row for statement in statements for row in con.execute(statement)]
        finally:
            con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            con.close()

    def root(self, name: str) -> int:
        return int(self.sql(f"SELECT rootpage FROM sqlite_schema WHERE name = '{name}'")[0][0])

    def leaves(self, name: str, kinds: tuple[int, int]) -> list[int]:
        """The pages of a table that hold rows."""
        image = Image(self.path, PAGE_SIZE)
        try:
            walker = Walker(image, image.pages, lambda page, why: None)
            return sorted({row.page for row in walker.rows(self.root(name), kinds)})
        finally:
            image.close()

    def write(self, page: int, at: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek((page - 1) * PAGE_SIZE + at)
            file.write(data)

    def page(self, number: int) -> bytes:
        return self.path.read_bytes()[(number - 1) * PAGE_SIZE :][:PAGE_SIZE]

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        return self.sql(f"SELECT {SAME[table][0]} FROM {table} ORDER BY 1, 2")


SAME = {
    "ns": ("rid, key, id, metadata, truncated", "rid, key, id, metadata, truncated"),
    "page": ("ns, page, version, hash, blob", "ns, page, version, hash, blob"),
    "content": ("ns, hash, refs", "ns, hash, refs"),
    "log": ("ns, version, attempt, pages", "ns, version, attempt, pages"),
    "meta": ("name, value", "name, value"),
    "moment": ("time, version", "time, version"),
}
"""The columns that are taken of each table, here and there."""


class Gathered:
    """All that a file says, in tables, and what was told."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self.con = apsw.Connection(":memory:")
        self.con.execute("ATTACH ':memory:' AS work")
        self.con.execute(TABLES)
        image = Image(path, PAGE_SIZE)
        try:
            gathering = Gathering(image, self.con, self.told.append)
            gathering.gather()
        finally:
            image.close()
        self.broken_tables = gathering.broken_tables
        self.broken_pages = gathering.broken_pages

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        name = "refs" if table == "content" else table
        return list(self.con.execute(f"SELECT {SAME[table][1]} FROM work.{name} ORDER BY 1, 2"))

    def ask(self, query: str) -> Any:
        return self.con.execute(query).get

    def close(self) -> None:
        self.con.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    Kept(folder)
    return folder


@pytest.fixture
def kept(original: Path, tmp_path: Path) -> Kept:
    shutil.copytree(original / "store", tmp_path / "store")
    one = Kept.__new__(Kept)
    one.path = tmp_path / "store" / schema.FILE_NAME
    return one


@pytest.fixture
def gather(kept: Kept) -> Iterator[Callable[[], Gathered]]:
    made: list[Gathered] = []

    def gathered() -> Gathered:
        made.append(Gathered(kept.path))
        return made[-1]

    yield gathered
    for each in made:
        each.close()


def test_of_a_sound_store_every_row_is_gathered_and_nothing_told(
    kept: Kept, gather: Callable[[], Gathered]
) -> None:
    found = gather()
    for table in SAME:
        assert found.rows(table) == kept.rows(table), table
        assert found.rows(table), "the store has some, so that it is asked"
    assert found.ask("SELECT count(*) FROM work.keys JOIN work.ids USING(rid)") == 2
    blobs = {
        number: blake3(data).digest() for number, data in kept.sql("SELECT id, data FROM blob WHERE enc = 0")
    }
    packed = kept.sql("SELECT id FROM blob WHERE enc = 1")
    assert packed
    assert dict(found.con.execute("SELECT id, hash FROM work.blob")).items() >= blobs.items()
    assert found.ask("SELECT count(*) FROM work.blob") == len(blobs) + len(packed)
    assert found.ask("SELECT count(*) FROM work.found WHERE enc = 1") == 1
    assert found.ask("SELECT count(*) FROM work.page WHERE hash NOT IN (SELECT hash FROM work.found)") == 0
    assert (found.told, found.broken_tables, found.broken_pages) == ([], set(), set())


NONSENSE = {
    "a page number below zero": ("page", "UPDATE page SET page = -1 WHERE {one}"),
    "a version that is a text": ("page", "UPDATE page SET version = 'x' WHERE {one}"),
    "a hash that is short": ("page", "UPDATE page SET hash = x'0011' WHERE {one}"),
    "a hash that is a text": ("page", "UPDATE page SET hash = printf('%32d', 1) WHERE {one}"),
    "a place below zero": ("page", "UPDATE page SET blob = -1 WHERE {one}"),
    "refs below zero": ("content", "UPDATE content SET refs = -1 WHERE {one}"),
    "a content's short hash": ("content", "UPDATE content SET hash = x'00' WHERE {one}"),
    "a content's namespace": ("content", "UPDATE content SET ns = 'x' WHERE {one}"),
    "a commit of no version": ("log", "UPDATE log SET version = 'x' WHERE {one}"),
    "an attempt that is a text": ("log", "UPDATE log SET attempt = 'x' WHERE {one}"),
    "pages of which one is cut": ("log", "UPDATE log SET pages = x'0000000001' WHERE {one}"),
    "pages that are a number": ("log", "UPDATE log SET pages = 4 WHERE {one}"),
    "an id below zero": ("ns", "UPDATE ns SET id = -7 WHERE key = 'lobby'"),
    "a mark below zero": ("ns", "UPDATE ns SET truncated = -7 WHERE key = 'lobby'"),
    "a name that is none": ("meta", "UPDATE meta SET name = x'00' WHERE name = 'number'"),
    "a point in time of no version": ("moment", "UPDATE moment SET version = 'x' WHERE time = 1700000001"),
    "a point in time below zero": ("moment", "UPDATE moment SET version = -2 WHERE time = 1700000001"),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_row_that_makes_no_sense_is_told_and_all_others_are_taken(
    kind: str, kept: Kept, gather: Callable[[], Gathered]
) -> None:
    table, statement = NONSENSE[kind]
    whole = gather().rows(table)
    one = {
        "page": "ns = 1 AND page = 2 AND version = (SELECT max(version) FROM page WHERE ns = 1)",
        "content": "ns = 1 AND hash = (SELECT max(hash) FROM content WHERE ns = 1)",
        "log": "ns = 1 AND version = (SELECT max(version) FROM log WHERE ns = 1)",
    }.get(table, "")
    kept.sql(statement.format(one=one))
    found = gather()
    left = found.rows(table)
    assert len(left) == len(whole) - 1
    assert set(left) < set(whole)
    assert table in found.broken_tables
    assert [line for line in found.told if f"has 1 rows of {table} that make no sense" in line]


def test_a_key_that_is_no_name_is_told_and_its_pages_are_kept(
    kept: Kept, gather: Callable[[], Gathered]
) -> None:
    kept.sql("UPDATE ns SET key = x'00ff' WHERE key = 'lobby'")
    found = gather()
    assert [row[1] for row in found.rows("ns")] == ["arena"]
    assert {"ns", "sqlite_autoindex_ns_1"} <= found.broken_tables
    assert found.ask("SELECT count(*) FROM work.ids") == 2
    assert found.ask("SELECT count(*) FROM work.page WHERE ns = 2") == 240
    kept.sql("UPDATE ns SET key = NULL WHERE id = (SELECT max(id) FROM ns)")
    found = gather()
    assert found.told == [], "a namespace that is being deleted has no name, and that is no damage"
    assert [row[1] for row in found.rows("ns")] == ["arena", None]


@pytest.mark.parametrize(
    "what",
    [
        "a text",
        "not zstd",
        "zstd of more than a page",
        "zstd of more than is stated",
        "zstd of petabytes",
        "an enc that is unknown",
    ],
)
def test_a_content_that_cannot_be_had_is_told_and_a_hash_says_what_it_is(
    what: str, kept: Kept, gather: Callable[[], Gathered]
) -> None:
    plain = bytes(STORE_PAGE_BYTES_MAX + 1)
    big = zstandard.ZstdCompressor().compress(plain).hex()
    untold = zstandard.ZstdCompressor(write_content_size=False).compress(plain).hex()
    # a frame of one segment that states its length in eight bytes: four petabytes
    hit = (struct.pack("<IBQ", zstandard.MAGIC_NUMBER, 0xE0, 1 << 52) + bytes.fromhex(big)[9:]).hex()
    statement = {
        "a text": "UPDATE blob SET data = 'text'",
        "not zstd": "UPDATE blob SET enc = 1, data = x'00112233'",
        "zstd of more than a page": f"UPDATE blob SET enc = 1, data = x'{big}'",
        "zstd of more than is stated": f"UPDATE blob SET enc = 1, data = x'{untold}'",
        "zstd of petabytes": f"UPDATE blob SET enc = 1, data = x'{hit}'",
        "an enc that is unknown": "UPDATE blob SET enc = 0, data = x'0011'",
    }[what]
    kept.sql(f"{statement} WHERE id = (SELECT max(id) FROM blob)")
    whole = kept.sql("SELECT count(*) FROM blob")[0][0]
    found = gather()
    if what == "an enc that is unknown":  # it is another content now, which no page names
        assert found.ask("SELECT count(*) FROM work.blob") == whole
        assert found.told == []
    else:
        assert found.ask("SELECT count(*) FROM work.blob") == whole - 1
        assert len(found.told) == 1
        assert found.broken_tables == {"blob"}
    assert found.ask("SELECT count(*) FROM work.page WHERE hash NOT IN (SELECT hash FROM work.found)") == 1


@pytest.mark.parametrize("table", ["page", "log"])
def test_a_row_that_stands_out_of_order_was_hit(
    table: str, kept: Kept, gather: Callable[[], Gathered]
) -> None:
    """One bit of a version makes another version; the rows around it say that it is none of theirs."""
    whole = gather().rows(table)
    leaf = kept.leaves(table, INDEX)[1 if table == "page" else -1]
    data = kept.page(leaf)
    at = sorted(cell_offsets(data, leaf, INDEX[1]))[5]
    version = next(struct.pack(">Q", row[2 if table == "page" else 1])[2:] for row in whole[:1])[:2]
    place = data.index(version, at)
    for byte in (data[place] - 1, data[place] + 1, data[place] ^ 0x80):
        kept.write(leaf, place, bytes([byte % 256]))
        found = gather()
        assert set(found.rows(table)) < set(whole)
        assert len(found.rows(table)) == len(whole) - 1
        assert found.told == [f"page {leaf} of the file has 1 rows of {table} that make no sense"]
        assert found.broken_tables == {table}


@pytest.mark.parametrize("table", ["blob", "ns", "page", "content", "log"])
def test_rows_that_no_tree_leads_to_are_told_apart_by_what_they_hold(
    table: str, kept: Kept, gather: Callable[[], Gathered]
) -> None:
    whole = gather()
    kinds = TABLE if table in ("blob", "ns") else INDEX
    root, leaves = kept.root(table), kept.leaves(table, kinds)
    kept.sql(
        "PRAGMA writable_schema=ON",
        f"UPDATE sqlite_schema SET rootpage = 99999 WHERE name = '{table}'",
        "PRAGMA writable_schema=OFF",
    )
    found = gather()
    assert found.told[0] == "page 99999 of the file is named twice, or beyond the file"
    assert found.broken_tables == {table}
    for other in SAME:
        if other != table or root in leaves:
            assert found.rows(other) == whole.rows(other), other
    if table == "blob":
        assert found.ask("SELECT count(*) FROM work.blob") == whole.ask("SELECT count(*) FROM work.blob")
    elif root not in leaves:  # what stood on the pages between is among the orphans, too
        assert found.rows(table) == whole.rows(table)


def test_where_the_names_of_the_tables_are_lost_they_are_where_every_store_has_them(
    kept: Kept, gather: Callable[[], Gathered]
) -> None:
    whole = gather()
    kept.write(1, 100, bytes(PAGE_SIZE - 100))
    found = gather()
    for table in SAME:
        assert found.rows(table) == whole.rows(table), table
    assert found.told == ["page 1 of the file is no page of its tree"]
    assert found.broken_pages == {1}


def test_rows_on_pages_that_are_free_do_not_come_back(kept: Kept, gather: Callable[[], Gathered]) -> None:
    """SQLite leaves what stood there: a version that was truncated, or a namespace that was deleted, is gone."""
    whole = gather().rows("page")
    kept.sql("DELETE FROM page WHERE ns = 2", "DELETE FROM page WHERE ns = 1 AND page = 0")
    assert kept.sql("PRAGMA freelist_count")[0][0] > 1
    found = gather()
    assert found.rows("page") == [row for row in whole if row[:2] in {(1, page) for page in (1, 2, 3)}]
    assert found.told == []


def test_each_page_that_was_hit_is_told_once(kept: Kept, gather: Callable[[], Gathered]) -> None:
    leaf = kept.leaves("page", INDEX)[1]
    data = kept.page(leaf)
    for at in cell_offsets(data, leaf, INDEX[1])[:3]:
        kept.write(leaf, at, b"\xff\xff")
    found = gather()
    assert len(found.told) == 1
    assert found.told[0].startswith(f"page {leaf} of the file has a row that cannot be read")


# --- what is made of it -----------------------------------------------------------------------------


def v(number: int, order: int = 0) -> int:
    """A version by its commit's number."""
    return number << 16 | order


def text(number: int) -> str:
    return f"{v(number):020x}"


def h(word: str) -> bytes:
    return blake3(word.encode()).digest()


class Made:
    """Rows as they were gathered; :meth:`build` makes a store of them."""

    def __init__(self) -> None:
        self.con = apsw.Connection(":memory:")
        schema.create_or_verify(self.con, Path(":memory:"))
        self.con.execute("ATTACH ':memory:' AS work")
        self.con.execute(TABLES)

    def ns(self, rid: int, key: str | None, number: int = 1, **more: object) -> None:
        row = {"rid": rid, "key": key, "id": v(number, rid), "truncated": 0, "rolling_back": 0, **more}
        marks = ", ".join("?" * len(row))
        self.con.execute(f"INSERT INTO work.ns({', '.join(row)}) VALUES({marks})", tuple(row.values()))

    def page(self, ns: int, page: int, number: int, word: str, *, there: bool = True, blob: int = 0) -> None:
        self.con.execute("INSERT INTO work.page VALUES(?, ?, ?, ?, ?)", (ns, page, v(number), h(word), blob))
        if there:
            self.found(word)

    def found(self, word: str) -> None:
        self.con.execute("INSERT OR IGNORE INTO work.found VALUES(?, 0, ?)", (h(word), word.encode()))

    def log(self, ns: int, number: int, *pages: int) -> None:
        packed = struct.pack(f"<{len(pages)}I", *pages) if pages else None
        self.con.execute("INSERT INTO work.log VALUES(?, ?, x'00', ?)", (ns, v(number), packed))

    def build(self, *, log_is_whole: bool = True) -> dict[str, Salvaged]:
        found = build(self.con, log_is_whole=log_is_whole)
        assert [each.name for each in found] == sorted(each.name for each in found)
        return {each.name: each for each in found}

    def pages(self) -> list[tuple[int, int, int, bytes | None]]:
        """Namespace, page, commit's number, content (None: lost)."""
        query = "SELECT p.ns, p.page, p.version >> 16, b.data FROM page p LEFT JOIN blob b ON b.id = p.blob ORDER BY 1, 2, 3"
        return list(self.con.execute(query))

    def ask(self, query: str) -> Any:
        return self.con.execute(query).get


@pytest.fixture
def made() -> Iterator[Made]:
    one = Made()
    yield one
    one.con.close()


def test_what_is_whole_is_whole_afterwards_and_the_same_content_is_kept_once(made: Made) -> None:
    made.ns(1, "zone", metadata="said", lock_owner="me", floor=v(2))
    made.ns(2, "arena")
    for number, word in ((5, "one"), (6, "two"), (7, "one")):
        made.page(1, 0, number, word)
        made.log(1, number, 0)
    made.page(2, 9, 6, "one")
    made.log(2, 6, 9)
    found = made.build()
    assert [
        (each.name, each.rid, each.ok, each.lost, each.unknown, each.missing) for each in found.values()
    ] == [
        ("arena", 2, 1, 0, 0, []),
        ("zone", 1, 3, 0, 0, []),
    ]
    assert made.pages() == [(1, 0, 5, b"one"), (1, 0, 6, b"two"), (1, 0, 7, b"one"), (2, 9, 6, b"one")]
    assert sorted(made.con.execute("SELECT ns, hash, refs, written FROM content")) == sorted(
        [(1, h("one"), 2, 0), (1, h("two"), 1, 0), (2, h("one"), 1, 0)]
    )
    assert made.ask("SELECT count(*) FROM blob") == 3
    assert list(made.con.execute("SELECT floor, metadata, lock_owner FROM ns WHERE rid = 1")) == [
        (v(7), "said", "me")
    ]
    assert made.ask("SELECT count(*) FROM log") == 4


def test_versions_above_what_the_file_has_reserved_were_never_given(made: Made) -> None:
    made.ns(1, "zone")
    made.ns(2, "hit", number=900)
    for number in (5, 8, 9):
        made.page(1, 0, number, f"{number}")
        made.log(1, number, 0)
    made.con.execute("INSERT INTO work.meta VALUES('number', 8)")
    found = made.build()
    assert list(found) == ["zone"]
    assert made.pages() == [(1, 0, 5, b"5"), (1, 0, 8, b"8")]
    assert made.ask("SELECT max(version) FROM log") == v(8)
    assert (found["zone"].ok, found["zone"].lost) == (2, 0)


def test_a_version_above_those_given_is_none_also_where_the_log_says_nothing(made: Made) -> None:
    made.ns(1, "zone")
    made.page(1, 0, 5, "5")
    made.page(1, 0, 9, "9")
    made.con.execute("INSERT INTO work.meta VALUES('number', 8)")
    made.build(log_is_whole=False)
    assert made.pages() == [(1, 0, 5, b"5")]


def test_a_version_above_the_newest_commit_is_none_where_rows_of_the_log_are_lost(made: Made) -> None:
    made.ns(1, "zone")
    for number in (4, 5, 6):
        made.page(1, 0, number, f"{number}")
    made.log(1, 5, 0)
    made.build(log_is_whole=False)
    assert [number for _, _, number, _ in made.pages()] == [4, 5]


def test_the_next_commits_number_is_above_all_that_were_given(made: Made) -> None:
    """Else a version would come twice, with another content."""
    made.ns(1, "zone")
    made.page(1, 0, 50, "x")
    made.build()
    assert made.ask("SELECT value FROM meta WHERE name = 'number'") == 50 + 1 + numbers.BLOCK


@pytest.mark.parametrize(
    ("said", "then"),
    [
        (10**9, 10**9),
        (60, 51 + numbers.BLOCK),
        (numbers.NUMBER_MAX // 2 - 1, numbers.NUMBER_MAX // 2 - 1),
        (numbers.NUMBER_MAX // 2, 51 + numbers.BLOCK),
        ("a text", 51 + numbers.BLOCK),
    ],
)
def test_a_number_that_the_file_tells_is_kept_where_it_can_be_true(
    made: Made, said: object, then: int
) -> None:
    made.ns(1, "zone")
    made.page(1, 0, 50, "x")
    made.con.execute("INSERT INTO work.meta VALUES('number', ?)", (said,))
    made.build()
    assert made.ask("SELECT value FROM meta WHERE name = 'number'") == then


def test_an_empty_namespaces_id_counts_among_the_numbers_given(made: Made) -> None:
    made.ns(1, "zone", number=70)
    made.page(1, 0, 50, "x")
    made.build()
    assert made.ask("SELECT value FROM meta WHERE name = 'number'") == 70 + 1 + numbers.BLOCK


def test_a_namespace_whose_row_is_lost_is_made_from_what_else_names_it(made: Made) -> None:
    made.con.execute("INSERT INTO work.keys VALUES(1, 'by its indexes')")
    made.con.execute("INSERT INTO work.ids VALUES(1, ?)", (v(3),))
    made.con.execute("INSERT INTO work.keys VALUES(2, 'by its name')")
    made.page(2, 0, 9, "two")
    made.page(3, 0, 8, "three")
    made.log(4, 8, 0)
    found = made.build()
    assert {name: each.ok for name, each in found.items()} == {
        "by its indexes": 0, "by its name": 1, f"{NAMELESS}3": 1,
    }  # fmt: skip
    assert dict(made.con.execute("SELECT rid, id FROM ns")) == {1: v(3), 2: v(9) - 1, 3: v(8) - 1}
    assert made.ask("SELECT count(*) FROM log") == 0, "of a namespace that nobody knows"


def test_two_of_one_name_or_id_are_both_kept(made: Made) -> None:
    made.ns(1, "zone")
    made.ns(2, "zone")
    made.ns(3, "arena", id=v(1, 1))
    made.ns(4, None)
    assert list(made.build()) == ["arena", f"{NAMELESS}2", "zone"]
    assert len({row[0] for row in made.con.execute("SELECT id FROM ns")}) == 3


def test_a_page_that_its_commit_did_not_write_is_no_version(made: Made) -> None:
    made.ns(1, "zone")
    made.log(1, 5, 0, 1)
    made.log(1, 6)  # 500 pages or more: which, it does not say
    for page, number in ((0, 5), (1, 5), (2, 5), (7, 6), (0, 7)):
        made.page(1, page, number, f"{page} at {number}")
    found = made.build()
    assert [(page, number) for _, page, number, _ in made.pages()] == [(0, 5), (1, 5), (7, 6)]
    assert (found["zone"].ok, found["zone"].lost) == (3, 0)


def test_a_version_that_the_log_does_not_know_is_one_only_where_rows_of_the_log_are_lost() -> None:
    for log_is_whole in (True, False):
        made = Made()
        made.ns(1, "zone")
        for number in (3, 5, 6, 7):
            made.page(1, 0, number, f"{number}")
        made.log(1, 5, 0)
        made.log(1, 7, 0)
        found = made.build(log_is_whole=log_is_whole)
        wanted = [3, 5, 7] if log_is_whole else [3, 5, 6, 7]  # before its first entry the log says nothing
        assert [number for _, _, number, _ in made.pages()] == wanted
        assert found["zone"].ok == len(wanted)
        made.con.close()


def test_a_hash_of_which_some_bytes_were_hit_is_taken_for_the_one_that_it_was(made: Made) -> None:
    """A row names its content by number, too."""
    made.ns(1, "zone")
    right = h("content")
    made.found("content")
    made.con.execute("INSERT INTO work.blob VALUES(44, ?)", (right,))
    for page, wrong in ((0, 1), (1, 16), (2, 17), (3, 32)):
        hit = bytes(byte ^ 0xFF for byte in right[:wrong]) + right[wrong:]
        made.con.execute("INSERT INTO work.page VALUES(1, ?, ?, ?, 44)", (page, v(5), hit))
    made.log(1, 5, 0, 1, 2, 3)
    found = made.build()["zone"]
    assert [data for _, _, _, data in made.pages()] == [b"content", b"content", None, None]
    assert (found.ok, found.lost) == (2, 2)
    assert found.missing == [{"page": 2, "version": text(5)}, {"page": 3, "version": text(5)}]


def test_what_a_commit_wrote_and_is_gone_is_known_to_be_missing(made: Made) -> None:
    """Else a read would answer with the version before, and nobody would know."""
    made.ns(1, "zone", truncated=v(5))
    for number in (4, 5, 6):
        made.log(1, number, 0, 3)
        made.page(1, 0, number, f"{number}")
    found = made.build()["zone"]
    assert (found.ok, found.lost) == (3, 2)
    assert found.missing == [{"page": 3, "version": text(5)}, {"page": 3, "version": text(6)}]
    assert [(page, number, data) for _, page, number, data in made.pages() if page == 3] == [
        (3, 5, None),
        (3, 6, None),
    ]
    assert dict(made.con.execute("SELECT hash, blob FROM page WHERE page = 3")) == {NO_HASH: 0}
    assert found.as_json() == {
        "namespace": "zone", "ok": 3, "lost": 2, "missing": found.missing, "database": "none", "detail": None,
    }  # fmt: skip


def test_what_a_rollback_has_taken_away_is_not_missing(made: Made) -> None:
    made.ns(1, "zone", rolling_back=1)
    made.log(1, 5, 0, 1)
    made.page(1, 0, 5, "kept")
    assert (made.build()["zone"].ok, made.ask("SELECT count(*) FROM page")) == (1, 1)


def test_versions_that_only_their_contents_count_tells_of_are_lost_by_number(made: Made) -> None:
    """What refers to a content is counted with it: where more did than rows are there, rows are gone."""
    made.ns(1, "zone")
    for page in range(3):
        made.page(1, page, 5, f"{page}")
    made.con.execute(
        "INSERT INTO work.refs VALUES(1, ?, 1), (1, ?, 2), (1, ?, 4)", (h("0"), h("1"), h("gone"))
    )
    found = made.build()["zone"]
    assert (found.ok, found.lost, found.unknown) == (3, 2, 2)
    assert found.missing == [{"page": None, "version": None}]


def test_what_the_log_names_is_not_counted_again_by_its_content(made: Made) -> None:
    made.ns(1, "zone")
    made.log(1, 5, 0, 1)
    made.page(1, 0, 5, "0")
    made.con.execute("INSERT INTO work.refs VALUES(1, ?, 1), (1, ?, 1)", (h("0"), h("1")))
    found = made.build()["zone"]
    assert (found.ok, found.lost, found.unknown) == (1, 1, 0)
    assert found.missing == [{"page": 1, "version": text(5)}]


def test_of_what_contents_count_only_the_rest_is_lost_by_number(made: Made) -> None:
    made.ns(1, "zone")
    made.log(1, 5, 0, 1)
    made.page(1, 0, 5, "0")
    words = ("0", "1", "2", "3")
    made.con.executemany("INSERT INTO work.refs VALUES(1, ?, 1)", [(h(word),) for word in words])
    found = made.build()["zone"]
    assert (found.ok, found.lost, found.unknown) == (1, 3, 2)
    assert found.missing == [{"page": 1, "version": text(5)}, {"page": None, "version": None}]


def test_the_first_hundred_that_are_missing_are_named_and_all_are_counted(made: Made) -> None:
    made.ns(1, "zone")
    for page in range(SALVAGE_NAMED_MAX + 7):
        made.page(1, page, 5, f"{page}", there=False)
    found = made.build()["zone"]
    assert (found.ok, found.lost) == (0, SALVAGE_NAMED_MAX + 7)
    assert found.missing == [{"page": page, "version": text(5)} for page in range(SALVAGE_NAMED_MAX)]


def test_points_in_time_and_what_else_the_file_says_of_itself_are_kept(made: Made) -> None:
    made.ns(1, "zone")
    made.page(1, 0, 5, "x")
    made.con.execute("INSERT INTO work.moment VALUES(1700000000, 7)")
    made.con.execute("INSERT INTO work.meta VALUES('named:1', 44)")
    made.build()
    assert list(made.con.execute("SELECT * FROM moment")) == [(1_700_000_000, 7)]
    assert made.ask("SELECT value FROM meta WHERE name = 'named:1'") == 44


def test_a_store_that_was_salvaged_takes_new_commits_above_the_old_ones(kept: Kept, tmp_path: Path) -> None:
    report = salvage(kept.path.parent, tmp_path / "out")
    assert report.is_whole
    assert (report.ok, report.lost) == (480, 0)
    engine = Engine(tmp_path / "out", options=EmbeddedOptions(background=False))
    ns = Namespace("arena")
    head = engine.stat(ns).version
    page = PageWrite(0, blake3(b"new").digest(), b"new")
    version = engine.commit(CommitRequest(os.urandom(16), [NamespaceCommit(ns, head, [page])], True)).version
    assert version > head
    assert engine.read(ns, [PageRead(0, head), PageRead(0, version)])[1].data == b"new"
    engine.close()


# --- from folder to folder --------------------------------------------------------------------------


def test_what_was_told_on_the_way_stands_in_the_report(kept: Kept, tmp_path: Path) -> None:
    kept.write(kept.leaves("page", INDEX)[1], 0, bytes(64))
    with kept.path.open("ab") as file:
        file.write(b"more")
    told: list[str] = []
    report = salvage(kept.path.parent, tmp_path / "new" / "out", told.append)
    assert told[0] == report.damage[0] == "the file ends within a page, after 4 bytes of it"
    rest = told[len(report.damage) :]
    assert told == [*report.damage, *rest]
    assert len(report.damage) == 2
    assert [line for line in rest if ": the database is " not in line] == []
    assert report.as_json() == {
        "ok": sum(each.ok for each in report.namespaces),
        "lost": sum(each.lost for each in report.namespaces),
        "whole": False,
        "namespaces": [each.as_json() for each in report.namespaces],
        "damage": report.damage,
    }
    assert report.ok > 0
    assert report.lost > 0
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir() if "part" in path.name) == []


def test_damage_of_the_log_is_told_too(kept: Kept, tmp_path: Path) -> None:
    kept.path.with_name("store.sqlite-wal").write_bytes(b"no log at all, but as long as one's header")
    told: list[str] = []
    report = salvage(kept.path.parent, tmp_path / "out", told.append)
    assert told[0] == "the header of the log is damaged"
    assert report.damage == told
    assert not report.is_whole
    assert (report.ok, report.lost) == (480, 0)


def test_what_is_missing_without_damage_is_not_whole_either() -> None:
    assert SalvageReport().is_whole
    assert SalvageReport([Salvaged("a", 1, database="whole"), Salvaged("b", 2)]).is_whole
    assert not SalvageReport([Salvaged("a", 1, database="whole"), Salvaged("b", 2, lost=1)]).is_whole
    assert not SalvageReport([Salvaged("a", 1, database="unproven")]).is_whole
    assert not SalvageReport([Salvaged("a", 1, database="whole")], ["a page"]).is_whole


def test_a_folder_without_a_store_or_with_something_in_it_is_refused_before_a_byte_is_written(
    kept: Kept, tmp_path: Path
) -> None:
    source = kept.path.parent
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no store in .*store\.sqlite is missing"):
        salvage(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for inside in (source, source / "in" / "side"):
        with pytest.raises(ConfigError, match="lies in the folder to be salvaged"):
            salvage(source, inside)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        salvage(source, tmp_path / "full")
    with pytest.raises(ConfigError, match="cannot be written"):
        salvage(source, tmp_path / "full" / "mine")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    assert not (source / "in").exists()
    assert salvage(source, tmp_path / "empty").is_whole, "an empty folder will do"


def test_a_salvage_lets_go_of_every_file(kept: Kept, tmp_path: Path) -> None:
    salvage(kept.path.parent, tmp_path / "first")
    there = len(list(Path("/proc/self/fd").iterdir()))
    salvage(kept.path.parent, tmp_path / "second")
    assert len(list(Path("/proc/self/fd").iterdir())) == there
    Engine(tmp_path / "second", options=EmbeddedOptions(background=False)).close()  # nobody holds it
