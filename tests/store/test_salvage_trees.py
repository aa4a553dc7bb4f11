"""SQLite's pages read one by one: what SQLite itself reads of a sound file, and all but what was hit of another."""

from __future__ import annotations

import struct
from pathlib import Path

import apsw
import pytest

from gateway.limits import SALVAGE_PAYLOAD_BYTES_MAX
from gateway.store.salvage.btree import (
    INDEX,
    TABLE,
    BrokenTree,
    CellRow,
    Walker,
    cell_offsets,
    header_at,
    kind_of,
    local_bytes,
    record,
    varint,
)

SMALL = 512
"""SQLite's smallest page: trees grow deep, and payloads overflow soon."""
VALUES = (
    *(None, 0, 1, 2, -1, 127, 128, -128, -129, 32_767, 32_768, -32_768, 8_388_607, 8_388_608, -8_388_608),
    *(2**31 - 1, 2**31, -(2**31), 2**47 - 1, 2**47, -(2**47), 2**63 - 1, -(2**63), 0.5, -1e300),
    *("", "a", "ü\U0001f30d", "x" * 60, b"", b"\0", bytes(range(60))),
)


class Pages:
    """Pages in memory, which a test may change."""

    def __init__(self, data: bytes, page_size: int = SMALL) -> None:
        self.page_size = page_size
        self.held = {
            at // page_size + 1: bytearray(data[at : at + page_size]) for at in range(0, len(data), page_size)
        }

    def page(self, number: int) -> bytes | None:
        return bytes(self.held[number]) if number in self.held else None


class Walked:
    """A database as SQLite wrote it, its pages in memory, and what a walker says of it."""

    def __init__(self, folder: Path, *statements: str, page_size: int = SMALL) -> None:
        self.path = folder / "some.sqlite"
        self.con = apsw.Connection(str(self.path))
        self.con.execute(f"PRAGMA page_size={page_size}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
        for statement in statements:
            self.con.execute(statement)
        self.lost: list[tuple[int, str]] = []

    def walker(self) -> Walker:
        self.pages = Pages(self.path.read_bytes(), int(self.con.execute("PRAGMA page_size").get))
        return self.again()

    def again(self) -> Walker:
        return Walker(self.pages, max(self.pages.held), lambda page, why: self.lost.append((page, why)))

    def root(self, name: str) -> int:
        return int(self.con.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).get)

    def table(self, name: str) -> dict[int, list[object]]:
        """By rowid, as SQLite reads it."""
        return {row[0]: list(row[1:]) for row in self.con.execute(f"SELECT rowid, * FROM {name}")}

    def close(self) -> None:
        self.con.close()


def by_rowid(rows: list[CellRow]) -> dict[int | None, list[object]]:
    assert len({row.rowid for row in rows}) == len(rows)
    return {row.rowid: row.values for row in rows}


def test_values_of_every_kind_are_read_as_sqlite_reads_them(tmp_path: Path) -> None:
    some = Walked(tmp_path, "CREATE TABLE t(a, b)")
    for number, value in enumerate(VALUES):
        some.con.execute("INSERT INTO t(rowid, a, b) VALUES(?, ?, ?)", (number * 3_000 - 9, value, number))
    for rowid in (-(2**63), 2**63 - 1, 2**56, -1, 127, 128, 16_383, 16_384):
        some.con.execute("INSERT OR IGNORE INTO t(rowid, a, b) VALUES(?, 'edge', 0)", (rowid,))
    walker = some.walker()
    assert by_rowid(list(walker.rows(some.root("t"), TABLE))) == some.table("t")
    assert some.lost == []
    some.close()


@pytest.mark.parametrize("page_size", [SMALL, 1_024])
def test_rows_of_every_length_are_whole_and_their_pages_are_known_to_be_theirs(
    tmp_path: Path, page_size: int
) -> None:
    """What stands on the page itself and what overflows follows from the length alone, otherwise for tables and for indexes."""
    some = Walked(
        tmp_path,
        "CREATE TABLE t(a)",
        "CREATE TABLE w(k INTEGER PRIMARY KEY, a) WITHOUT ROWID",
        page_size=page_size,
    )
    lengths = [*range(80, 140), *range(460, 500), *range(960, 1_060), *range(2_000, 2_060), 5_000]
    with some.con:
        for number in lengths:
            data = struct.pack(">I", number) * (number // 4) + bytes(number % 4)
            some.con.execute("INSERT INTO t(rowid, a) VALUES(?, ?)", (number, data))
            some.con.execute("INSERT INTO w VALUES(?, ?)", (number, data))
    walker = some.walker()
    assert by_rowid(list(walker.rows(some.root("t"), TABLE))) == some.table("t")
    found = {row.values[0]: row.values[1] for row in walker.rows(some.root("w"), INDEX)}
    assert found == dict(some.con.execute("SELECT * FROM w"))
    assert [row.values[1] for row in walker.rows(1, TABLE)] == ["t", "w"]
    assert all(walker.seen[1:]), (
        "a page that belongs to something would be taken for one that nothing leads to"
    )
    assert list(walker.orphans()) == []
    assert some.lost == []
    some.close()


def test_a_tree_of_several_levels_is_walked_to_its_last_leaf(tmp_path: Path) -> None:
    some = Walked(tmp_path, "CREATE TABLE t(a)", "CREATE TABLE w(k PRIMARY KEY) WITHOUT ROWID")
    with some.con:
        for number in range(3_000):
            some.con.execute("INSERT INTO t VALUES(?)", (f"row {number} of the table",))
            some.con.execute("INSERT INTO w VALUES(?)", (f"row {number} without a rowid",))
    walker = some.walker()
    rows = list(walker.rows(some.root("t"), TABLE))
    assert by_rowid(rows) == some.table("t")
    assert {kind_of(some.pages.page(row.page), row.page) for row in rows} == {TABLE[1]}
    keys = [row.values[0] for row in walker.rows(some.root("w"), INDEX)]
    assert sorted(keys) == sorted(key for (key,) in some.con.execute("SELECT k FROM w"))
    assert {row.rowid for row in walker.rows(some.root("w"), INDEX)} == set()
    some.close()


def test_pages_that_are_free_are_nobodys_and_no_orphans(tmp_path: Path) -> None:
    """Their old rows would come back from the dead: 300 free pages are three pages that list them."""
    some = Walked(tmp_path, "CREATE TABLE kept(a)", "CREATE TABLE t(a)", "INSERT INTO kept VALUES('here')")
    with some.con:
        for number in range(300):
            some.con.execute("INSERT INTO t VALUES(?)", (bytes([number % 256]) * 400,))
    some.con.execute("DELETE FROM t")
    free = int(some.con.execute("PRAGMA freelist_count").get)
    assert free > 250
    walker = some.walker()
    for name in ("kept", "t"):
        list(walker.rows(some.root(name), TABLE))
    list(walker.rows(1, TABLE))
    used = sum(walker.seen)
    first = some.pages.page(1)
    assert first is not None
    walker.free(first)
    assert sum(walker.seen) == used + free
    assert list(walker.orphans()) == []
    some.close()


def test_a_list_of_free_pages_that_was_hit_marks_what_it_still_names(tmp_path: Path) -> None:
    some = Walked(tmp_path, "CREATE TABLE t(a)")
    walker = some.walker()
    first = bytearray(some.pages.held[1])
    size = max(some.pages.held)
    trunk, leaf = size + 1, size + 2
    first[32:36] = struct.pack(">I", trunk)
    some.pages.held[trunk] = bytearray(struct.pack(">III", trunk, 0xFFFF_FFFF, leaf).ljust(SMALL, b"\0"))
    some.pages.held[leaf] = bytearray(SMALL)
    walker = some.again()
    walker.free(bytes(first))  # it names itself as the next one, and counts more than there is room for
    assert [number for number in range(size + 3) if walker.seen[number]] == [trunk, leaf]
    some.pages.held[trunk] = bytearray(struct.pack(">IIII", 0, 2, leaf + 1, 0).ljust(SMALL, b"\0"))
    walker = some.again()
    walker.free(bytes(first))  # pages that the file does not have
    assert [number for number in range(size + 3) if walker.seen[number]] == [trunk]
    walker = Walker(some.pages, leaf + 5, lambda page, why: None)
    first[32:36] = struct.pack(">I", leaf + 5)
    walker.free(bytes(first))  # one that cannot be read
    assert sum(walker.seen) == 0
    first[32:36] = struct.pack(">I", leaf)
    some.pages.held[leaf][:12] = struct.pack(">III", 0, 1, leaf + 5)
    walker.free(bytes(first))  # the last page of a file may be free, too
    assert walker.seen[leaf + 5] == 1
    some.pages.held[leaf][:] = struct.pack(">II", 0, 0xFFFF_FFFF).ljust(SMALL - 4, b"\0") + struct.pack(
        ">I", trunk
    )
    walker = some.again()
    walker.free(bytes(first))  # the last page lists others, up to its own end
    assert [number for number in range(size + 3) if walker.seen[number]] == [trunk, leaf]
    some.close()


def test_the_second_page_is_an_orphan_like_any_other(tmp_path: Path) -> None:
    some = Walked(tmp_path, "CREATE TABLE t(a)", "INSERT INTO t VALUES('here')")
    assert some.root("t") == 2
    assert [(number, kind) for number, _, kind in some.walker().orphans()] == [(2, TABLE[1])]
    some.close()


def test_a_page_that_names_its_parts_at_its_very_end_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    some = filled(tmp_path)
    root = some.root("t")
    walker = some.walker()
    rows = list(walker.rows(root, TABLE))
    some.pages.held[root][12:14] = struct.pack(">H", SMALL - 1)  # where its first child would be named
    found = list(some.again().rows(root, TABLE))
    assert 0 < len(rows) - len(found) < 7
    assert set(map(str, found)) < set(map(str, rows))
    some.close()


def filled(tmp_path: Path) -> Walked:
    """A table of two levels and many leaves."""
    some = Walked(tmp_path, "CREATE TABLE t(a)")
    with some.con:
        for number in range(60):
            some.con.execute("INSERT INTO t VALUES(?)", (f"{number:03}" * 25,))
    return some


def test_where_a_page_is_lost_the_others_are_read_and_it_is_named(tmp_path: Path) -> None:
    some = filled(tmp_path)
    walker = some.walker()
    rows = list(walker.rows(some.root("t"), TABLE))
    leaves = sorted({row.page for row in rows})
    missing, other, hit = leaves[1], leaves[3], leaves[-1]
    some.lost.clear()
    pages = max(some.pages.held)
    del some.pages.held[missing]
    some.pages.held[other][0] = INDEX[1]
    some.pages.held[hit][0] = 0x77
    walker = Walker(some.pages, pages, lambda page, why: some.lost.append((page, why)))
    found = list(walker.rows(some.root("t"), TABLE))
    assert found == [row for row in rows if row.page not in (missing, other, hit)]
    assert sorted(some.lost) == sorted(
        [(missing, "is missing"), (other, "is no page of its tree"), (hit, "is no page of its tree")]
    )
    some.close()


def test_a_page_that_is_named_twice_or_not_there_is_read_once_at_most(tmp_path: Path) -> None:
    some = filled(tmp_path)
    root = some.root("t")
    walker = some.walker()
    rows = list(walker.rows(root, TABLE))
    leaves = sorted({row.page for row in rows})
    at = cell_offsets(bytes(some.pages.held[root]), root, TABLE[0])
    last = max(some.pages.held)
    for place, child in zip(at, (last + 1, 0, root), strict=False):
        some.pages.held[root][place : place + 4] = struct.pack(">I", child)
    some.lost.clear()
    found = list(some.again().rows(root, TABLE))
    assert {number for number, why in some.lost} == {last + 1, 0, root}
    assert {why for _, why in some.lost} == {"is named twice, or beyond the file"}
    assert len({row.page for row in found}) == len(leaves) - 3
    some.close()


def test_a_row_that_was_hit_takes_no_other_of_its_page_with_it(tmp_path: Path) -> None:
    some = Walked(
        tmp_path, "CREATE TABLE t(a, b)", "INSERT INTO t VALUES('one', 1), ('two', 2), ('three', 3)"
    )
    walker = some.walker()
    root = some.root("t")
    places = cell_offsets(bytes(some.pages.held[root]), root, TABLE[1])
    header = places[1] + 2
    for at, value in ((header, 0x7F), (header + 1, 0x0B), (header + 1, 0x7E), (places[1], 0x7F), (header, 0)):
        some.lost.clear()
        kept = some.pages.held[root][at]
        some.pages.held[root][at] = value
        found = list(some.again().rows(root, TABLE))
        assert [row.values for row in found] == [["one", 1], ["three", 3]], (at, value)
        assert [page for page, _ in some.lost] == [root]
        assert "has a row that cannot be read" in some.lost[0][1]
        some.pages.held[root][at] = kept
    some.pages.held[root][header + 3] = 0xFF  # a letter of its text, which is none now
    some.lost.clear()
    assert [row.rowid for row in some.again().rows(root, TABLE)] == [1, 3]
    assert len(some.lost) == 1
    assert [row.rowid for row in walker.cells(root, bytes(SMALL), TABLE[1])] == []
    some.close()


def chained(tmp_path: Path) -> tuple[Walked, list[int]]:
    """Two rows, the first of which goes on over some pages: which."""
    some = Walked(tmp_path, "CREATE TABLE t(a)")
    some.con.execute("INSERT INTO t VALUES(?), ('short')", (bytes(2_000),))
    walker = some.walker()
    assert len(list(walker.rows(some.root("t"), TABLE))) == 2
    chain = [number for number in range(2, max(some.pages.held) + 1) if number != some.root("t")]
    return some, chain


def test_a_row_whose_further_pages_are_lost_is_lost_and_marks_none_of_them(tmp_path: Path) -> None:
    some, chain = chained(tmp_path)
    assert len(chain) > 2
    for wrong in (0, max(some.pages.held) + 1, chain[1]):
        kept = bytes(some.pages.held[chain[1]])
        some.pages.held[chain[1]][:4] = struct.pack(">I", wrong)
        some.lost.clear()
        walker = some.again()
        assert [row.values for row in walker.rows(some.root("t"), TABLE)] == [["short"]]
        assert len(some.lost) == 1
        assert [number for number in chain if walker.seen[number]] == []
        some.pages.held[chain[1]][:] = kept
    walker = some.again()
    walker.seen[chain[-1]] = 1  # it is part of another row already
    assert [row.values for row in walker.rows(some.root("t"), TABLE)] == [["short"]]
    some.close()


def test_a_row_ends_on_its_last_page_whatever_that_names_as_the_next(tmp_path: Path) -> None:
    some, chain = chained(tmp_path)
    some.pages.held[chain[-1]][:4] = struct.pack(">I", 9_999)
    assert [row.rowid for row in some.again().rows(some.root("t"), TABLE)] == [1, 2]
    some.close()


def test_what_no_tree_leads_to_any_more_is_found_by_what_it_looks_like(tmp_path: Path) -> None:
    some = filled(tmp_path)
    some.con.execute("CREATE TABLE w(k PRIMARY KEY) WITHOUT ROWID")
    some.con.execute("INSERT INTO w VALUES('a key')")
    walker = some.walker()
    root = some.root("t")
    rows = list(walker.rows(root, TABLE))
    some.pages.held[root][:] = bytes(SMALL)
    walker = some.again()
    list(walker.rows(1, TABLE))
    found = {number: (data, kind) for number, data, kind in walker.orphans()}
    assert set(found) == {row.page for row in rows} | {some.root("w")}
    assert all(data == some.pages.page(number) for number, (data, _) in found.items())
    again = [row for number, (data, kind) in found.items() for row in walker.cells(number, data, kind)]
    assert sorted(row for row in again if row.rowid is not None) == sorted(rows)
    assert [row.values for row in again if row.rowid is None] == [["a key"]]
    assert found[some.root("w")][1] == INDEX[1]
    some.close()


def test_a_page_says_what_it_is_in_its_first_byte_and_the_first_page_after_the_files_header() -> None:
    assert [header_at(number) for number in (1, 2, 3)] == [100, 0, 0]
    assert kind_of(None, 1) == 0
    for kind in (*TABLE, *INDEX):
        assert kind_of(bytes([kind]) + bytes(99), 2) == kind
        assert kind_of(bytes(100) + bytes([kind]), 1) == kind
    assert [kind_of(bytes([kind]), 2) for kind in (0, 1, 3, 6, 9, 11, 12, 14)] == [0] * 8


def test_places_of_rows_that_cannot_be_are_left_out() -> None:
    leaf = bytearray(SMALL)
    leaf[0] = TABLE[1]
    leaf[3:5] = struct.pack(">H", 4)
    leaf[8:16] = struct.pack(">HHHH", 511, 512, 7, 8)
    assert cell_offsets(bytes(leaf), 2, TABLE[1]) == [511, 8]
    leaf[0] = TABLE[0]
    leaf[12:20] = struct.pack(">HHHH", 11, 12, 600, 100)
    assert cell_offsets(bytes(leaf), 2, TABLE[0]) == [12, 100]
    leaf[3:5] = struct.pack(">H", 0xFFFF)  # more than there is room for
    leaf[12:] = struct.pack(">H", 300) * 250
    assert cell_offsets(bytes(leaf), 2, INDEX[0]) == [300] * 250
    assert len(cell_offsets(bytes(leaf), 2, INDEX[1])) == 250 + 1, "a leaf's header is four bytes shorter"


def test_numbers_of_one_to_nine_bytes_are_read_and_where_they_end() -> None:
    for data, value in (
        (b"\x00", 0),
        (b"\x7f", 127),
        (b"\x81\x00", 128),
        (b"\x80\x7f", 127),
        (b"\xff" * 7 + b"\x7f", 2**56 - 1),
        (b"\xff" * 9, 2**64 - 1),
        (b"\x80" * 8 + b"\x2a", 42),
        (b"\x81" + b"\x80" * 7 + b"\x01", 2**57 + 1),
    ):
        assert varint(b"??" + data + b"\x05", 2) == (value, 2 + len(data))
    with pytest.raises(IndexError):
        varint(b"\xff\xff", 0)


def test_a_record_that_contradicts_itself_is_none() -> None:
    assert record(b"\x01") == []
    assert record(b"\x04\x00\x08\x09") == [None, 0, 1]
    assert record(b"\x03\x01\x0f\xffz") == [-1, "z"]
    assert record(b"\x02\x0c") == [b""]
    assert record(b"\x02\x07" + struct.pack(">d", 1.5)) == [1.5]
    for wrong in (
        b"\x00",  # a header that ends before it begins
        b"\x05\x00\x08",  # one that is longer than all
        b"\x02\x0a",  # types that are kept for later
        b"\x02\x0b",
        b"\x02\x01",  # values that reach over the end
        b"\x02\x02\x00",
        b"\x02\x0e",
        b"\x02\x0f",
        b"\x02\x00\x00",  # or leave something over
        b"\x02\x01\x05\x05",
    ):
        with pytest.raises(BrokenTree):
            record(wrong)


def test_what_stands_on_the_page_itself_is_as_the_file_format_says() -> None:
    """Section 1.6.2, for 4,096 bytes a page: U-35 = 4061 of a table and X = 1002 of an index stay; M = 489."""
    table = [
        local_bytes(size, 4_096, is_table=True) for size in (0, 4_061, 4_062, 4_581, 4_582, 8_153, 8_154)
    ]
    assert table == [0, 4_061, 489, 489, 490, 4_061, 489]
    index = [
        local_bytes(size, 4_096, is_table=False) for size in (0, 1_002, 1_003, 4_581, 4_582, 5_094, 5_095)
    ]
    assert index == [0, 1_002, 489, 489, 490, 1_002, 489]


def test_a_length_that_no_row_has_is_not_believed(tmp_path: Path) -> None:
    """Else one bit of a length would have a gigabyte put together."""
    some, chain = chained(tmp_path)
    root = some.root("t")
    at = cell_offsets(bytes(some.pages.held[root]), root, TABLE[1])[0]
    for far in (SALVAGE_PAYLOAD_BYTES_MAX, SALVAGE_PAYLOAD_BYTES_MAX + 1):
        septets = [far >> shift & 0x7F | 0x80 for shift in (28, 21, 14, 7)] + [far & 0x7F]
        some.pages.held[root][at : at + 5] = bytes(septets)
        some.lost.clear()
        walker = some.again()
        assert [row.values for row in walker.rows(root, TABLE)] == [["short"]]
        (lost,) = some.lost
        assert ("its length" in lost[1]) == (far > SALVAGE_PAYLOAD_BYTES_MAX), (
            "the rest of the other is looked for"
        )
        assert not any(walker.seen[number] for number in chain)
    some.close()


def test_a_row_that_reaches_over_its_page_is_none(tmp_path: Path) -> None:
    some = Walked(tmp_path, "CREATE TABLE t(a)", "INSERT INTO t VALUES('first'), ('second')")
    walker = some.walker()
    root = some.root("t")
    at = cell_offsets(bytes(some.pages.held[root]), root, TABLE[1])[0]  # it ends with the page
    assert [row.rowid for row in walker.rows(root, TABLE)] == [1, 2]
    some.pages.held[root][at] += 1
    some.lost.clear()
    assert [row.rowid for row in some.again().rows(root, TABLE)] == [2]
    assert "reaches over the page's end" in some.lost[0][1]
    some.close()
