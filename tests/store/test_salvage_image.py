"""The newest pages of a file and its log: as SQLite has them, and past what was hit of the log, where SQLite stops."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterable
from pathlib import Path

import apsw
import pytest

from gateway.store.salvage.image import Image

SIZE = 512
HEAD, FRAME = 32, 24
"""Bytes of a log's header, and of a frame's (the SQLite file format, section 4.1)."""


class Lived:
    """A database whose process died with four commits in its log: folder, and what SQLite reads of it."""

    def __init__(self, folder: Path) -> None:
        living = folder / "living"
        living.mkdir()
        self.path = folder / "dead.sqlite"
        con = apsw.Connection(str(living / "dead.sqlite"))
        con.execute(f"PRAGMA page_size={SIZE}; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0")
        con.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, a)")
        self.fill(con, range(12))
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for first in (3, 12, 5, 20):
            self.fill(con, range(first, first + 4))
        for name in ("dead.sqlite", "dead.sqlite-wal"):
            shutil.copy(living / name, folder / name)
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        con.close()
        self.whole = pages_in((living / "dead.sqlite").read_bytes())
        self.before = pages_in(self.path.read_bytes())
        self.wal = folder / "dead.sqlite-wal"

    @staticmethod
    def fill(con: apsw.Connection, keys: Iterable[int]) -> None:
        with con:
            for key in keys:
                con.execute(
                    "INSERT OR REPLACE INTO t VALUES(?, ?)", (key, bytes([con.total_changes() % 251]) * 300)
                )

    def frames(self) -> list[tuple[int, int]]:
        """The page of each frame, and the pages that the file has after it where it ends a commit."""
        data = self.wal.read_bytes()
        return [struct.unpack_from(">II", data, at) for at in range(HEAD, len(data), FRAME + SIZE)]

    def after(self, count: int) -> dict[int, bytes]:
        """The pages once the commits among the first ``count`` frames are there."""
        data, state, waiting = self.wal.read_bytes(), dict(self.before), dict[int, bytes]()
        for number, (page, pages) in enumerate(self.frames()[:count]):
            at = HEAD + number * (FRAME + SIZE) + FRAME
            waiting[page] = data[at : at + SIZE]
            if pages:
                state.update(waiting)
                waiting = {}
        return state

    def change(self, at: int, data: bytes) -> None:
        with self.wal.open("r+b") as file:
            file.seek(at)
            file.write(data)


def pages_in(data: bytes) -> dict[int, bytes]:
    return {at // SIZE + 1: data[at : at + SIZE] for at in range(0, len(data), SIZE)}


def look(path: Path) -> tuple[dict[int, bytes | None], list[str], int]:
    """All pages, what is told of the log, and how many pages there are."""
    image = Image(path, SIZE)
    try:
        return (
            {number: image.page(number) for number in range(1, image.pages + 1)}, image.damage, image.pages
        )  # fmt: skip
    finally:
        image.close()


@pytest.fixture
def lived(tmp_path: Path) -> Lived:
    return Lived(tmp_path)


def commits(lived: Lived) -> list[int]:
    """How many frames there are up to the end of each commit."""
    return [number + 1 for number, (_, pages) in enumerate(lived.frames()) if pages]


def test_the_newest_pages_are_those_that_sqlite_reads(lived: Lived) -> None:
    assert len(commits(lived)) == 4
    assert lived.before != lived.whole
    assert look(lived.path) == (lived.whole, [], len(lived.whole))
    lived.wal.unlink()
    assert look(lived.path) == (lived.before, [], len(lived.before))
    for empty in (b"", bytes(HEAD), bytes(HEAD - 1), b"\x37\x7f"):
        lived.wal.write_bytes(empty)
        assert look(lived.path) == (lived.before, [], len(lived.before))


def test_a_log_written_on_a_big_endian_machine_is_read_as_well(lived: Lived) -> None:
    """Its checksums go by words of the other order, and the last bit of the magic number says so."""
    data = bytearray(lived.wal.read_bytes())
    data[:4] = struct.pack(">I", 0x377F0683)
    sums = sums_of(data[:24], (0, 0))
    data[24:32] = struct.pack(">II", *sums)
    for at in range(HEAD, len(data), FRAME + SIZE):
        sums = sums_of(data[at : at + 8] + data[at + FRAME : at + FRAME + SIZE], sums)
        data[at + 16 : at + 24] = struct.pack(">II", *sums)
    lived.wal.write_bytes(data)
    assert look(lived.path) == (lived.whole, [], len(lived.whole))
    con = apsw.Connection(str(lived.path))  # and SQLite takes the log that is made here, too
    rows = con.execute("SELECT max(k) FROM t").get
    con.close()
    assert rows == 23


def sums_of(data: bytes, start: tuple[int, int]) -> tuple[int, int]:
    first, second = start
    for at in range(0, len(data), 8):
        one, other = struct.unpack_from(">II", data, at)
        first = (first + one + second) & 0xFFFF_FFFF
        second = (second + other + first) & 0xFFFF_FFFF
    return first, second


def test_what_stands_behind_the_logs_end_from_an_earlier_round_is_not_read(lived: Lived) -> None:
    """A log is written anew from its beginning: old frames have other salts."""
    data = lived.wal.read_bytes()
    kept = commits(lived)[1]
    begin = HEAD + kept * (FRAME + SIZE)
    old = bytearray(data[begin:])
    for at in range(0, len(old), FRAME + SIZE):
        old[at + 8 : at + 16] = b"old salt"
    lived.wal.write_bytes(data[:begin] + old)
    found, damage, _ = look(lived.path)
    assert (found, damage) == (lived.after(kept), [])
    for salt in (8, 12):  # one of the two is enough
        again = bytearray(data)
        for at in range(begin, len(again), FRAME + SIZE):
            again[at + salt : at + salt + 4] = b"salt"
        lived.wal.write_bytes(again)
        assert look(lived.path)[:2] == (lived.after(kept), [])


def test_a_frame_that_was_hit_takes_no_later_one_with_it(lived: Lived) -> None:
    """SQLite stops there. Each frame tells the sum up to itself, by which the next one can be checked."""
    frames = lived.frames()
    newest = {page: number for number, (page, _) in enumerate(frames)}
    for number, (page, _) in enumerate(frames):
        data = lived.wal.read_bytes()
        at = HEAD + number * (FRAME + SIZE) + FRAME + 200
        lived.change(at, bytes([data[at] ^ 0xFF]))
        found, damage, pages = look(lived.path)
        assert damage == ["1 frames of the log are damaged, or follow one that is"]
        assert pages == len(lived.whole) or number == len(frames) - 1, "that one tells how many there are"
        wrong = {each for each in lived.whole if found.get(each) != lived.whole[each]}
        assert wrong <= {page}
        assert not wrong or newest[page] == number or frames[number][1], (
            "an older frame of the page, or its end"
        )
        lived.wal.write_bytes(data)


def test_a_frame_after_one_whose_sum_was_hit_is_read_by_what_it_looks_like(lived: Lived) -> None:
    frames = lived.frames()
    middle = commits(lived)[1]
    lived.change(
        HEAD + middle * (FRAME + SIZE) + 16, b"other!!!"
    )  # the sum of the first frame of the third commit
    found, damage, _ = look(lived.path)
    assert damage == ["2 frames of the log are damaged, or follow one that is"]
    hit = frames[middle][0]
    later = {page for page, _ in frames[middle + 1 :]}
    assert {page for page in lived.whole if found[page] != lived.whole[page]} <= {hit} - later
    assert frames[middle + 1][0] in lived.whole


def test_a_frame_that_looks_like_no_page_is_not_taken_for_one(lived: Lived) -> None:
    frames = lived.frames()
    middle = commits(lived)[1]
    at = HEAD + middle * (FRAME + SIZE)
    lived.change(at + 16, b"other!!!")
    lived.change(
        at + FRAME + SIZE + FRAME, b"\xff" * SIZE
    )  # the next one's page: no kind, and no number in its place
    found, damage, _ = look(lived.path)
    assert damage == ["2 frames of the log are damaged, or follow one that is"]
    assert b"\xff" * SIZE not in found.values()
    assert found[frames[middle + 1][0]] is not None


@pytest.mark.parametrize(("beyond", "taken"), [(0, True), (1, False)])
def test_a_page_of_a_long_row_after_a_hit_frame_is_taken_where_the_next_one_can_be(
    lived: Lived, beyond: int, taken: bool
) -> None:
    """It has no kind: its first four bytes name the next page, and a file may have grown by half since."""
    middle = commits(lived)[1]
    at = HEAD + middle * (FRAME + SIZE)
    pages = len(lived.after(middle))
    page = struct.pack(">I", pages + pages // 2 + beyond).ljust(SIZE, b"\x01")
    lived.change(at + 16, b"other!!!")
    lived.change(at + FRAME + SIZE + FRAME, page)
    assert (look(lived.path)[0][lived.frames()[middle + 1][0]] == page) == taken
    lived.change(at + FRAME + SIZE + FRAME, bytes(SIZE))  # the last page of a row names none
    assert look(lived.path)[0][lived.frames()[middle + 1][0]] == bytes(SIZE)


def test_the_first_page_is_never_one_of_a_long_row(lived: Lived) -> None:
    ends = commits(lived)
    first = next(n for n, (page, _) in enumerate(lived.frames()) if page == 1 and n >= ends[0])
    at = HEAD + first * (FRAME + SIZE)
    lived.change(at - FRAME - SIZE + 16, b"other!!!")
    lived.change(at + FRAME, bytes(SIZE))
    found, damage, _ = look(lived.path)
    assert found[1] != bytes(SIZE)
    assert damage


def test_a_damaged_header_of_the_log_is_told_and_its_frames_are_read_all_the_same(lived: Lived) -> None:
    """The salts stand in each frame again. The first frame has nothing that vouches for it but what it looks like."""
    data = lived.wal.read_bytes()
    for at in (0, 9, 17, 25, 30):
        lived.wal.write_bytes(data)
        lived.change(at, bytes([data[at] ^ 0x55]))
        found, damage, _ = look(lived.path)
        assert damage[0] == "the header of the log is damaged"
        changed = {page for page, _ in lived.frames()}
        same = {page for page in changed if found.get(page) == lived.whole[page]}
        assert changed - same <= {lived.frames()[0][0]}, at


def test_a_log_of_another_page_size_is_not_believed(lived: Lived) -> None:
    data = bytearray(lived.wal.read_bytes())
    data[8:12] = struct.pack(">I", 2 * SIZE)
    data[24:32] = struct.pack("<II", *sums_little(bytes(data[:24])))[::1]
    lived.wal.write_bytes(data)
    assert "the header of the log is damaged" in look(lived.path)[1]


def sums_little(data: bytes) -> tuple[int, int]:
    first = second = 0
    for at in range(0, len(data), 8):
        one, other = struct.unpack_from("<II", data, at)
        first = (first + one + second) & 0xFFFF_FFFF
        second = (second + other + first) & 0xFFFF_FFFF
    return first, second


def test_a_log_that_is_cut_gives_what_was_committed_before_and_says_so(lived: Lived) -> None:
    data = lived.wal.read_bytes()
    whole = FRAME + SIZE
    for number in range(len(lived.frames())):
        lived.wal.write_bytes(data)
        wanted = lived.after(number)
        open_pages = number - max([0, *(end for end in commits(lived) if end <= number)])
        for more in (0, 1, FRAME - 8, FRAME + 9, whole - 1):
            lived.wal.write_bytes(data[: HEAD + number * whole + more])
            found, damage, pages = look(lived.path)
            assert (found, pages) == (wanted, len(wanted)), (number, more)
            inside = (
                [f"the log ends inside a transaction of {open_pages} pages or more"] if open_pages else []
            )
            cut = ["the log ends within a page: what it went on with is lost, if it did"]
            tail = data[HEAD + number * whole :][:more]
            told = cut if tail and (len(tail) >= FRAME - 8 or not any(tail)) else []
            assert damage == inside + told, (number, more)


def test_zeros_at_the_logs_end_are_told_as_an_end_within_a_page(lived: Lived) -> None:
    """As a file system leaves it after the power went: the length was written, and the data was not."""
    with lived.wal.open("ab") as file:
        file.write(bytes(100))
    found, damage, _ = look(lived.path)
    assert found == lived.whole
    assert damage == ["the log ends within a page: what it went on with is lost, if it did"]
    data = lived.wal.read_bytes()[:-100]
    lived.wal.write_bytes(data + b"x" * 100)  # what is neither is from another round
    assert look(lived.path)[1] == []


def test_a_last_transaction_whose_end_was_hit_is_taken(lived: Lived) -> None:
    """Its publisher may have been told that it is durable."""
    last = len(lived.frames()) - 1
    assert last - commits(lived)[-2] >= 1, "it has more pages than the one that is hit"
    at = HEAD + last * (FRAME + SIZE)
    lived.change(at + FRAME, b"\xff" * SIZE)
    found, damage, pages = look(lived.path)
    assert damage == ["1 frames of the log are damaged, or follow one that is"]
    hit = lived.frames()[last][0]
    assert {page for page in lived.whole if found.get(page) != lived.whole[page]} <= {hit}
    assert pages >= max(page for page, _ in lived.frames()[:last])


def test_a_file_that_is_cut_within_a_page_gives_the_page_with_zeros_and_tells_how_much_is_there(
    lived: Lived,
) -> None:
    lived.wal.unlink()
    data = lived.path.read_bytes()
    for more in (1, 100, SIZE - 1):
        lived.path.write_bytes(data[: 2 * SIZE + more])
        image = Image(lived.path, SIZE)
        assert (image.pages, image.cut_bytes) == (3, more)
        assert image.page(3) == data[2 * SIZE : 2 * SIZE + more] + bytes(SIZE - more)
        assert image.page(2) == data[SIZE : 2 * SIZE]
        assert image.page(4) is None
        image.close()
    lived.path.write_bytes(data)
    image = Image(lived.path, SIZE)
    assert image.cut_bytes == 0
    image.close()


def test_both_files_are_let_go_of(lived: Lived) -> None:
    """A salvage of a store on a full disk frees what its operator deletes meanwhile."""
    there = set(open_files())
    image = Image(lived.path, SIZE)
    assert len(set(open_files()) - there) == 2
    image.close()
    assert set(open_files()) == there


def open_files() -> list[str]:
    return [name.name for name in Path("/proc/self/fd").iterdir() if name.is_symlink()]
