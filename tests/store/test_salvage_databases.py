"""What becomes of a database of which pages are lost: put back, made anew from its rows, or told as what it is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from blake3 import blake3

from gateway.core.state import WorldState
from gateway.errors import GatewayError
from gateway.limits import STORE_COMMIT_PAGES_MAX
from gateway.store.base import Namespace
from gateway.store.database import Database
from gateway.store.embedded import EmbeddedOptions, Engine, versions
from gateway.store.salvage import heads
from gateway.store.salvage.btree import INDEX, TABLE, Walker
from gateway.store.salvage.building import NO_HASH, Salvaged
from gateway.store.salvage.rebuilding import HeadPages, Rebuilt, count_rows, rebuild, write
from gateway.store.world import schema
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.framechain import join
from gateway.wire.framecodec import PREFIXED

NS = Namespace("zone-1")


class Bench:
    """An engine, and databases in it that are made by SQLite itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = Engine(folder / "store", auto_create=True, options=EmbeddedOptions(background=False))
        self.made = 0

    def put(self, *statements: str, page_size: int = 4_096, ns: Namespace = NS) -> str:
        """Write a database as the namespace's head; the version."""
        return self.put_by(lambda con: [con.execute(each) for each in statements], page_size=page_size, ns=ns)

    def put_by(
        self, fill: Callable[[apsw.Connection], object], *, page_size: int = 4_096, ns: Namespace = NS
    ) -> str:
        self.made += 1
        path = self.folder / f"{self.made}.sqlite"
        con = apsw.Connection(str(path))
        con.execute(f"PRAGMA page_size={page_size}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
        with con:
            fill(con)
        con.close()
        self.engine.stat(ns)
        data = path.read_bytes()
        write(
            self.engine,
            ns,
            range(len(data) // page_size),
            lambda page: data[page * page_size : (page + 1) * page_size],
        )
        return self.engine.stat(ns).version

    def lose(self, *pages: int, version: str | None = None, ns: Namespace = NS) -> None:
        """Pages (from 1, as SQLite counts them) of which the content is gone, as a salvage leaves them."""
        rid = self.engine.registry.require(ns.key).rid
        con = apsw.Connection(str(self.folder / "store" / "store.sqlite"))
        for page in pages:
            con.execute(
                "UPDATE page SET hash = ?, blob = 0 WHERE ns = ? AND page = ? AND (?4 IS NULL OR version = ?4)",
                (NO_HASH, rid, page - 1, version and versions.parse(version)),
            )
        con.close()

    def leaves(self, table: str, kinds: tuple[int, int] = TABLE) -> list[int]:
        """The pages that the rows of a table stand on."""
        source = HeadPages(self.engine, NS)
        walker = Walker(source, source.pages, lambda page, why: None)
        root = self.ask(f"SELECT rootpage FROM sqlite_schema WHERE name = '{table}'")[0][0]
        return sorted({row.page for row in walker.rows(root, kinds)})

    def ask(self, query: str, ns: Namespace = NS, version: str | None = None) -> list[tuple[Any, ...]]:
        database = Database.open(self.engine, ns, version=version, read_only=True)
        try:
            return database.read(lambda con: con.execute(query).fetchall())
        finally:
            database.close()

    def mend(self, **more: Any) -> tuple[Salvaged, list[str]]:
        """What becomes of the one namespace, and what is told."""
        rid = self.engine.registry.require(NS.key).rid
        each = Salvaged(NS.key, rid, **{"unknown": 0, "lost": 1, **more})
        told: list[str] = []
        heads.mend(self.engine, [each], told.append, hurt=False)
        return each, told

    def rebuild(self) -> Rebuilt:
        return rebuild(self.engine, NS, lambda rows: True)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path)
    yield one
    one.engine.close()


MANY = (
    "CREATE TABLE t(k INTEGER PRIMARY KEY, a TEXT, b)",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) "
    "INSERT INTO t SELECT i, printf('%060d', i), i * 1.5 FROM n",
)
DIFFERENT = (
    "CREATE TABLE plain(a, b)",
    "INSERT INTO plain(rowid, a, b) VALUES(7, 'seven', x'00ff'), (900, NULL, -5)",
    'CREATE TABLE "odd ""name"""("the key" INTEGER PRIMARY KEY, "a b")',
    'INSERT INTO "odd ""name""" VALUES(3, \'three\')',
    "CREATE TABLE without(b TEXT, a INTEGER, c, d TEXT, PRIMARY KEY(d, a)) WITHOUT ROWID",
    "INSERT INTO without VALUES('b1', 1, 'c1', 'd1'), ('b2', 2, NULL, 'd0')",
    "CREATE TABLE grown(a)",
    "INSERT INTO grown VALUES('short')",
    "ALTER TABLE grown ADD COLUMN b",
    "ALTER TABLE grown ADD COLUMN c",
    "INSERT INTO grown VALUES('long', 'b', 'c')",
    "CREATE TABLE stored(a, twice GENERATED ALWAYS AS (a * 2) VIRTUAL)",
    "INSERT INTO stored VALUES(21)",
    "CREATE TABLE texts(k TEXT PRIMARY KEY, v)",
    "INSERT INTO texts VALUES('key', 'value')",
    "CREATE TABLE two(a INTEGER, b INTEGER, PRIMARY KEY(b, a))",
    "INSERT INTO two VALUES(1, 2)",
    "CREATE TABLE empty(a)",
    "CREATE INDEX by_b ON plain(b)",
    "CREATE VIEW seen AS SELECT a FROM plain",
    "CREATE TRIGGER noted AFTER INSERT ON empty BEGIN INSERT INTO plain VALUES('by trigger', 1); END",
    "PRAGMA application_id = 1234567",
    "PRAGMA user_version = 42",
)
NAMES = ("plain", '"odd ""name"""', "without", "grown", "stored", "texts", "two", "empty")


def test_a_database_of_tables_of_every_kind_is_made_anew_as_it_was(bench: Bench) -> None:
    bench.put(*DIFFERENT)
    before = {name: bench.ask(f"SELECT * FROM {name}") for name in NAMES}
    rowids = bench.ask("SELECT rowid FROM plain")
    made = sorted(bench.ask("SELECT type, name, sql FROM sqlite_schema WHERE sql NOT NULL"))
    pages = HeadPages(bench.engine, NS).pages
    rebuilt = bench.rebuild()
    assert rebuilt == Rebuilt(sum(map(len, before.values())), f"0 of {pages} pages lost or damaged", True)
    assert {name: bench.ask(f"SELECT * FROM {name}") for name in NAMES} == before
    assert bench.ask("SELECT rowid FROM plain") == rowids
    assert sorted(bench.ask("SELECT type, name, sql FROM sqlite_schema WHERE sql NOT NULL")) == made
    assert bench.ask("PRAGMA application_id") == [(1_234_567,)]
    assert bench.ask("PRAGMA user_version") == [(42,)]
    assert bench.ask("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("page_size", [4_096, 8_192, 16_384])
def test_all_rows_but_those_of_a_lost_page_are_in_the_new_database(bench: Bench, page_size: int) -> None:
    bench.put(*MANY, page_size=page_size)
    whole = bench.ask("SELECT * FROM t")
    leaf = bench.leaves("t")[1]
    pages = HeadPages(bench.engine, NS).pages
    bench.lose(leaf)
    rebuilt = bench.rebuild()
    left = bench.ask("SELECT * FROM t")
    assert set(left) < set(whole)
    assert rebuilt == Rebuilt(len(left), f"1 of {pages} pages lost or damaged", True)
    assert len(left) > 400 - 400 // 3 if page_size < 16_384 else len(left) > 100
    assert bench.ask("PRAGMA page_size") == [(page_size,)]


def test_a_database_that_is_not_wanted_is_not_written(bench: Bench) -> None:
    version = bench.put(*MANY)
    asked: list[int] = []
    rebuilt = rebuild(bench.engine, NS, lambda rows: bool(asked.append(rows)))
    assert (rebuilt.rows, rebuilt.taken, asked) == (400, False, [400])
    assert bench.engine.stat(NS).version == version


def test_rows_that_the_new_tables_refuse_are_counted(bench: Bench) -> None:
    """A row of a strict table whose bytes were hit, a statement that makes no table any more."""

    def fill(con: apsw.Connection) -> None:
        con.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, a INTEGER)")
        con.execute("INSERT INTO t VALUES(1, 5), (2, 'no number'), (3, NULL)")
        con.execute("CREATE TABLE u(a, b)")
        con.execute("INSERT INTO u VALUES(1, 2), (3, 4)")
        con.execute("CREATE TABLE gone(a)")
        con.execute("CREATE INDEX by_a ON t(a)")
        con.execute("PRAGMA writable_schema=ON")
        con.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE t(k INTEGER PRIMARY KEY, a INTEGER) STRICT' WHERE name = 't'"
        )
        con.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE u(a)' WHERE name = 'u'")
        con.execute("UPDATE sqlite_schema SET sql = 'CREATE nonsense' WHERE name IN ('gone', 'by_a')")

    bench.put_by(fill)
    pages = HeadPages(bench.engine, NS).pages
    rebuilt = bench.rebuild()
    assert bench.ask("SELECT * FROM t") == [(1, 5), (3, None)]
    assert bench.ask("SELECT * FROM u") == []
    assert rebuilt == Rebuilt(2, f"0 of {pages} pages lost or damaged, {1 + 2 + 2} rows did not fit", True)


def test_rows_of_the_schema_that_make_no_sense_are_passed_over(bench: Bench) -> None:
    def fill(con: apsw.Connection) -> None:
        con.execute("CREATE TABLE kept(a)")
        con.execute("INSERT INTO kept VALUES(1)")
        con.execute("CREATE TABLE textual(a)")
        con.execute("CREATE TABLE rootless(a)")
        con.execute("CREATE TABLE counted(k INTEGER PRIMARY KEY AUTOINCREMENT)")
        con.execute("INSERT INTO counted DEFAULT VALUES")
        con.execute("PRAGMA writable_schema=ON")
        con.execute("UPDATE sqlite_schema SET rootpage = 'x' WHERE name = 'textual'")
        con.execute("UPDATE sqlite_schema SET rootpage = 0 WHERE name = 'rootless'")
        con.execute("INSERT INTO sqlite_schema VALUES('table', 'unsaid', 'unsaid', 9, NULL)")

    bench.put_by(fill)
    bench.rebuild()
    assert sorted(bench.ask("SELECT name FROM sqlite_schema")) == [
        ("counted",),
        ("kept",),
        ("sqlite_sequence",),
    ]
    assert bench.ask("SELECT a FROM kept") == [(1,)]


def test_rows_are_counted_over_all_tables_that_are_the_owners(bench: Bench) -> None:
    con = apsw.Connection(":memory:")
    assert count_rows(con) == 0
    con.execute(
        'CREATE TABLE "a ""b"""(k INTEGER PRIMARY KEY AUTOINCREMENT); CREATE TABLE c(x); CREATE TABLE d(x)'
    )
    con.execute('INSERT INTO "a ""b""" VALUES(1), (2); INSERT INTO c VALUES(1), (2), (3)')
    con.execute("CREATE VIEW e AS SELECT * FROM c")
    assert count_rows(con) == 5
    con.close()


def test_pages_behind_a_databases_end_are_not_its_own(bench: Bench) -> None:
    """They stand there since it was larger: a tree of it that names one was hit."""
    bench.put(*MANY)
    larger = HeadPages(bench.engine, NS).pages
    bench.put("CREATE TABLE t(a)")
    smaller = HeadPages(bench.engine, NS)
    assert (larger > 5, smaller.pages) == (True, 2)
    assert smaller.page(5) is not None
    bench.lose(1)
    assert HeadPages(bench.engine, NS).pages == larger, "what it says of itself is lost"


def test_what_is_shorter_than_the_smallest_page_is_none(bench: Bench) -> None:
    bench.engine.stat(NS)
    write(bench.engine, NS, [0, 1, 2], lambda page: bytes(511 + page))
    source = HeadPages(bench.engine, NS)
    assert [source.page(number) and len(source.page(number) or b"") for number in (1, 2, 3)] == [
        None,
        512,
        513,
    ]
    assert source.pages == 3
    assert source.page(9) is None


def test_a_large_database_is_written_in_several_commits_its_first_page_last(bench: Bench) -> None:
    """Until the first page is there, what was there is the database."""
    count = STORE_COMMIT_PAGES_MAX + 3
    bench.engine.stat(NS)
    before = bench.engine.stat(NS).version
    read: list[int] = []

    def page(number: int) -> bytes:
        read.append(number)
        return b"page %d" % (number % 7)

    write(bench.engine, NS, [*range(1, count), 0], page)
    assert sorted(read) == list(range(count))
    con = apsw.Connection(str(bench.folder / "store" / "store.sqlite"))
    placed = list(
        con.execute("SELECT version, count(*), min(page) FROM page GROUP BY version ORDER BY version")
    )
    con.close()
    assert [row[1:] for row in placed] == [(STORE_COMMIT_PAGES_MAX, 3), (3, 0)]
    assert placed[0][0] > versions.parse(before)


# --- a world ----------------------------------------------------------------------------------------


class Play:
    """A world's database: frames at each tick of some epochs, keyframes at each tenth."""

    def __init__(self, ticks: int = 40, epochs: tuple[int, ...] = (1, 2), first: int = 0) -> None:
        self.rows: list[tuple[Any, ...]] = []
        dice, state = random.Random(1), WorldState()
        for epoch in epochs:
            for tick in range(1, ticks + 1):
                frame = Frame(epoch, tick, [Record(dice.randrange(4), dice.randbytes(90))], sent_at=5)
                state.apply(frame)
                self._add(first, epoch, tick, 0, encode_frame(frame))
                if tick % 10 == 0:
                    self._add(first, epoch, tick, 1, state.keyframe_messages(65_535)[0])

    def _add(self, first: int, epoch: int, tick: int, keyframe: int, message: bytes) -> None:
        seq = first + len(self.rows)
        self.rows.append((seq, epoch, tick, 1_000 + seq, 5, keyframe, 0, join([message])))

    def fill(self, con: apsw.Connection) -> None:
        schema.create(con, schema.WorldInfo(NS.key, 0, schema.Retention("record"), 77))
        con.executemany("INSERT INTO frames VALUES(?, ?, ?, ?, ?, ?, ?, ?)", self.rows)
        keys = [row for row in self.rows if row[5]]
        con.executemany(
            "INSERT INTO keyframes VALUES(?, ?, ?, ?, 4, x'00')", [(row[0], *row[1:4]) for row in keys]
        )
        for epoch in {row[1] for row in self.rows}:
            con.execute("INSERT INTO epochs VALUES(?, 9, NULL)", (epoch,))

    def places(self) -> list[tuple[int, int, int]]:
        return [(row[1], row[2], row[5]) for row in self.rows]


def frames(bench: Bench) -> list[tuple[int, int, int]]:
    """Epoch, tick and whether it is a keyframe, of every row, whose numbers rise by one."""
    found = bench.ask("SELECT seq, epoch, tick, keyframe FROM frames ORDER BY seq")
    assert [row[0] for row in found] == [found[0][0] + at for at in range(len(found))] if found else True
    return [row[1:] for row in found]


def keyframes_agree(bench: Bench) -> None:
    query = "SELECT seq, epoch, tick FROM {} ORDER BY seq"
    assert bench.ask(query.format("frames WHERE keyframe = 1")) == bench.ask(query.format("keyframes"))


def without(
    play: Play, gone: Callable[[int, int, int], bool], *statements: str
) -> Callable[[apsw.Connection], None]:
    """The world without the frames of which the epoch, the tick and the kind are told."""

    def fill(con: apsw.Connection) -> None:
        play.fill(con)
        for row in play.rows:
            if gone(row[1], row[2], row[5]):
                con.execute("DELETE FROM frames WHERE seq = ?", (row[0],))
        for statement in statements:
            con.execute(statement)

    return fill


def test_a_whole_world_is_as_it_was(bench: Bench) -> None:
    play = Play()
    bench.put_by(play.fill)
    tables = ("meta", "epochs", "frames", "keyframes", "gaps")
    before = {table: bench.ask(f"SELECT * FROM {table}") for table in tables}
    rebuilt = bench.rebuild()
    assert "left out" not in rebuilt.missing
    assert {table: bench.ask(f"SELECT * FROM {table}") for table in tables} == before


def test_from_a_hole_on_a_world_goes_on_at_the_next_keyframe_and_a_gap_says_so(bench: Bench) -> None:
    """A frame after a lost one would be laid over a state that it does not belong to."""
    play = Play()
    bench.put_by(without(play, lambda epoch, tick, key: (epoch, tick) == (1, 13)))
    rebuilt = bench.rebuild()
    kept = [
        place
        for place in play.places()
        if place[0] == 2 or place[1] < 13 or place[1] > 20 or place == (1, 20, 1)
    ]
    assert frames(bench) == kept
    keyframes_agree(bench)
    assert bench.ask("SELECT * FROM gaps") == [(1, 13, 19, "dropped")]
    gone = len(play.rows) - len(kept) - 1
    assert rebuilt.missing.endswith(f", {gone} frames that lean on lost ones left out")


def test_a_hole_over_an_epochs_end_is_told_in_the_epoch_that_lost_its_beginning(bench: Bench) -> None:
    play = Play()
    bench.put_by(without(play, lambda epoch, tick, key: (epoch, tick) >= (1, 38) and (epoch, tick) < (2, 4)))
    bench.rebuild()
    kept = [place for place in play.places() if place < (1, 38) or place[:2] > (2, 10) or place == (2, 10, 1)]
    assert frames(bench) == kept
    assert bench.ask("SELECT * FROM gaps") == [(2, 0, 9, "dropped")]


def test_after_the_last_keyframe_nothing_is_left_of_a_world_with_a_hole(bench: Bench) -> None:
    play = Play(ticks=35, epochs=(1,))
    bench.put_by(without(play, lambda epoch, tick, key: tick == 32))
    bench.rebuild()
    assert frames(bench) == [place for place in play.places() if place[1] < 32]
    assert bench.ask("SELECT * FROM gaps") == []


def test_a_hole_just_before_a_keyframe_costs_what_was_in_it_alone(bench: Bench) -> None:
    play = Play(epochs=(1,))
    bench.put_by(without(play, lambda epoch, tick, key: tick == 20 and not key))
    bench.rebuild()
    assert frames(bench) == [place for place in play.places() if place != (1, 20, 0)]
    assert bench.ask("SELECT * FROM gaps") == [], "the keyframe has that tick's state"


def test_a_keyframe_that_nothing_names_is_none_to_go_on_from(bench: Bench) -> None:
    """Its hash, which says that the state is whole, is lost."""
    play = Play(epochs=(1,))
    fill = without(play, lambda epoch, tick, key: tick == 13, "DELETE FROM keyframes WHERE tick = 20")
    bench.put_by(fill)
    bench.rebuild()
    assert frames(bench) == [p for p in play.places() if p[1] < 13 or p[1] > 30 or p == (1, 30, 1)]
    assert bench.ask("SELECT * FROM gaps") == [(1, 13, 29, "dropped")]


def test_an_entry_of_a_keyframe_that_is_lost_goes(bench: Bench) -> None:
    play = Play(epochs=(1,))
    bench.put_by(without(play, lambda epoch, tick, key: (tick, key) in ((20, 1), (30, 0))))
    bench.rebuild()
    keyframes_agree(bench)
    assert [tick for (tick,) in bench.ask("SELECT tick FROM keyframes")] == [10, 30, 40]


def test_a_ring_whose_beginning_is_a_keyframe_is_whole_and_another_begins_at_the_next_one(
    bench: Bench,
) -> None:
    """Of a ring the first frames are gone rightly: it begins at a keyframe, and not with number 0."""
    play = Play(epochs=(1,), first=500)
    bench.put_by(without(play, lambda epoch, tick, key: tick < 10 or (tick, key) == (10, 0)))
    bench.rebuild()
    whole = [place for place in play.places() if place[1] > 10 or place == (1, 10, 1)]
    assert frames(bench) == whole
    assert bench.ask("SELECT min(seq) FROM frames") == [(510,)]
    bench.put_by(without(play, lambda epoch, tick, key: tick <= 10))
    bench.rebuild()
    assert frames(bench) == [place for place in play.places() if place[1] > 20 or place == (1, 20, 1)]
    assert bench.ask("SELECT * FROM gaps") == [(1, 0, 19, "dropped")]


def test_a_world_that_begins_with_a_frame_packed_by_others_begins_at_the_next_keyframe(bench: Bench) -> None:
    play = Play(epochs=(1,))
    bench.put_by(without(play, lambda *_: False, f"UPDATE frames SET codec = {PREFIXED} WHERE seq = 0"))
    bench.rebuild()
    assert frames(bench) == [place for place in play.places() if place[1] > 10 or place == (1, 10, 1)]


def test_a_world_without_a_frame_is_one(bench: Bench) -> None:
    play = Play(epochs=())
    bench.put_by(play.fill)
    rebuilt = bench.rebuild()
    assert "left out" not in rebuilt.missing
    assert bench.ask("SELECT count(*) FROM frames") == [(0,)]
    assert ("created_at", 77) in bench.ask("SELECT * FROM meta")


def test_facts_of_a_world_that_are_lost_are_filled_in_from_its_frames(bench: Bench) -> None:
    ns = Namespace(NS.key)
    play = Play()
    bench.put_by(
        without(play, lambda *_: False, "DELETE FROM meta", "DELETE FROM epochs WHERE epoch = 2"), ns=ns
    )
    read = len(play.rows) + len([row for row in play.rows if row[5]]) + 1
    assert bench.rebuild().rows == read, "what is filled in was not got out"
    meta = dict(bench.ask("SELECT * FROM meta"))
    assert (meta["world"], meta["stride"], meta["retention"], meta["created_at"]) == (
        NS.key,
        0,
        "record",
        1_000,
    )
    began = min(row[3] for row in play.rows if row[1] == 2)
    assert bench.ask("SELECT * FROM epochs") == [(1, 9, None), (2, began, None)]


def test_records_of_one_length_are_told_by_the_first_frame_that_can_be_read(bench: Bench) -> None:
    def fill(con: apsw.Connection) -> None:
        Play(epochs=(1,)).fill(con)
        message = encode_frame(Frame(1, 1, [Record(0, bytes(12))], stride=12))
        con.execute("UPDATE frames SET body = ? WHERE keyframe = 0", (join([message]),))
        con.execute("DELETE FROM meta")

    bench.put_by(fill)
    bench.rebuild()
    assert dict(bench.ask("SELECT * FROM meta"))["stride"] == 12
    bench.put_by(
        without(Play(epochs=(1,)), lambda *_: False, "DELETE FROM meta", "UPDATE frames SET body = x'ff'")
    )
    bench.rebuild()
    assert dict(bench.ask("SELECT * FROM meta"))["stride"] == 0


def test_a_world_whose_schema_is_lost_has_its_tables_where_every_world_has_them(bench: Bench) -> None:
    play = Play(ticks=12, epochs=(1,))
    bench.put_by(play.fill)
    bench.lose(1)
    rebuilt = bench.rebuild()
    assert frames(bench) == play.places()
    assert bench.ask("PRAGMA application_id") == [(schema.APPLICATION_ID,)]
    assert bench.ask("PRAGMA user_version") == [(schema.USER_VERSION,)]
    assert rebuilt.missing.startswith("1 of ")


def test_of_a_world_of_which_no_page_is_left_nothing_is_said_to_be_there(bench: Bench) -> None:
    """Its tables are looked for on pages beyond what is left: those are not lost ones of it."""
    bench.put("CREATE TABLE t(a)")
    pages = HeadPages(bench.engine, NS).pages
    bench.lose(*range(1, pages + 1))
    assert bench.rebuild() == Rebuilt(0, f"{pages} of {pages} pages lost or damaged", True)
    assert bench.ask("SELECT count(*) FROM frames") == [(0,)]


def test_of_a_world_without_frames_and_facts_nothing_is_made_up(bench: Bench) -> None:
    bench.put_by(without(Play(epochs=()), lambda *_: False, "DELETE FROM meta"))
    assert bench.rebuild().rows == 0
    meta = dict(bench.ask("SELECT * FROM meta"))
    assert (meta["stride"], meta["created_at"]) == (0, 0)


def test_another_database_with_tables_of_these_names_is_left_as_it_is(bench: Bench) -> None:
    bench.put("CREATE TABLE frames(seq)", "INSERT INTO frames VALUES(1), (5)", "CREATE TABLE gaps(a)")
    rebuilt = bench.rebuild()
    assert rebuilt.rows == 2
    assert bench.ask("SELECT name FROM sqlite_schema") == [("frames",), ("gaps",)]


# --- its head ---------------------------------------------------------------------------------------


def test_a_head_that_lacks_nothing_is_whole_and_left_as_it_is(bench: Bench) -> None:
    version = bench.put(*MANY)
    assert bench.mend(lost=0) == (Salvaged(NS.key, 1, database="whole"), [])
    assert bench.mend()[0].database == "whole", "what was lost is not of the head"
    assert bench.engine.stat(NS).version == version


def test_a_head_that_reads_well_is_unproven_where_it_is_not_known_what_is_gone(bench: Bench) -> None:
    version = bench.put(*MANY)
    each, told = bench.mend(unknown=3)
    assert each.database == "unproven"
    assert each.detail == "it reads well, but 3 page versions are gone whose pages are not known"
    assert told == [f"{NS.key}: the database is unproven: {each.detail}"]
    assert bench.engine.stat(NS).version == version


def test_the_newest_version_that_lacks_nothing_is_put_on_top(bench: Bench) -> None:
    """Where more rows are there than can be read of the head. Nothing of the versions between is taken away."""
    bench.put("CREATE TABLE t(a)", "INSERT INTO t VALUES('older')")
    good = bench.put(*MANY)
    whole = bench.ask("SELECT * FROM t")
    last = bench.put(*MANY, "UPDATE t SET b = 0")
    bench.lose(*bench.leaves("t")[:5], version=last)
    each, told = bench.mend()
    assert each.database == "restored"
    assert each.detail is not None
    assert each.detail.startswith(f"as of version {good}, since at its head ")
    assert told == [f"{NS.key}: the database is restored: {each.detail}"]
    assert bench.ask("SELECT * FROM t") == whole
    assert bench.engine.stat(NS).version > last
    with pytest.raises((GatewayError, apsw.Error)):
        bench.ask("SELECT sum(b) FROM t", version=last)


def test_what_can_be_read_of_the_head_is_taken_where_it_has_more_rows_than_the_last_whole_version(
    bench: Bench,
) -> None:
    bench.put("CREATE TABLE t(a)", "INSERT INTO t VALUES('older')")
    last = bench.put(*MANY)
    bench.lose(bench.leaves("t")[2], version=last)
    each, told = bench.mend()
    left = bench.ask("SELECT * FROM t")
    assert 1 < len(left) < 400
    assert each.database == "rebuilt"
    assert each.detail is not None
    assert each.detail.startswith(f"{len(left)} rows, 1 of ")
    assert ", since " in each.detail
    assert len(told) == 1


def test_a_head_in_which_sqlite_finds_a_fault_is_made_anew(bench: Bench) -> None:
    def fill(con: apsw.Connection) -> None:
        for statement in (*MANY, "CREATE INDEX by_a ON t(a)", "PRAGMA writable_schema=ON"):
            con.execute(statement)
        con.execute("UPDATE sqlite_schema SET sql = 'CREATE INDEX by_a ON t(b)' WHERE name = 'by_a'")

    bench.put_by(fill)
    each, _ = bench.mend()
    assert each.database == "rebuilt"
    assert each.detail is not None
    assert each.detail.startswith("400 rows, 0 of ")
    assert "missing from index by_a" in each.detail
    assert bench.ask("PRAGMA integrity_check") == [("ok",)]


def test_of_as_many_rows_the_whole_version_is_taken(bench: Bench) -> None:
    bench.put(*MANY, "CREATE INDEX by_a ON t(a)")
    last = bench.put(*MANY, "CREATE INDEX by_a ON t(a)", "UPDATE t SET b = 0")
    bench.lose(bench.leaves("by_a", INDEX)[1], version=last)
    each, _ = bench.mend()
    assert each.database == "whole" or each.database == "restored"
    assert len(bench.ask("SELECT * FROM t")) == 400


def test_versions_below_the_mark_are_none_to_go_back_to(bench: Bench) -> None:
    bench.put(*MANY)
    last = bench.put(*MANY, "UPDATE t SET b = 0")
    bench.lose(*bench.leaves("t")[:5], version=last)
    con = apsw.Connection(str(bench.folder / "store" / "store.sqlite"))
    con.execute("UPDATE ns SET truncated = ?", (versions.parse(last),))
    con.close()
    bench.engine.close()
    bench.engine = Engine(bench.folder / "store", options=EmbeddedOptions(background=False))
    assert bench.mend()[0].database == "rebuilt"


def test_what_is_no_database_is_left_alone(bench: Bench) -> None:
    bench.engine.stat(NS)
    write(bench.engine, NS, [0, 1], lambda page: b"no database" * 50)
    version = bench.engine.stat(NS).version
    assert bench.mend() == (Salvaged(NS.key, 1, lost=1), [])
    assert bench.engine.stat(NS).version == version


def test_a_namespace_without_a_page_is_gone_where_the_file_was_damaged(bench: Bench) -> None:
    bench.engine.stat(NS)
    assert bench.mend(lost=0)[0].database == "none"
    each, told = bench.mend(lost=1)
    assert (each.database, each.detail) == ("gone", "no page of it is left, if it had any")
    assert told == []
    each = Salvaged(NS.key, 1)
    heads.mend(bench.engine, [each], told.append, hurt=True)
    assert each.database == "gone"


def test_a_database_whose_first_page_is_lost_is_one(bench: Bench) -> None:
    bench.put(*MANY)
    bench.lose(1)
    each, told = bench.mend()
    assert each.database in ("rebuilt", "damaged")
    assert len(told) == 1


def test_a_world_with_holes_between_its_frames_is_not_whole_though_sqlite_finds_it_so(bench: Bench) -> None:
    """An older page in the place of a lost one leaves them."""
    play = Play(epochs=(1,))
    bench.put_by(without(play, lambda epoch, tick, key: tick == 13))
    assert bench.mend(lost=0)[0].database == "whole", (
        "of a file that was not damaged, it is what its gateway wrote"
    )
    each, _ = bench.mend()
    assert each.database == "rebuilt"
    assert each.detail is not None
    assert f"of its frames {len(play.rows) - 1} are there, with holes between them" in each.detail
    assert bench.mend()[0].database == "whole"


def test_a_world_that_names_keyframes_which_are_not_there_is_not_whole(bench: Bench) -> None:
    play = Play(epochs=(1,))
    bench.put_by(without(play, lambda *_: False, "UPDATE frames SET keyframe = 0 WHERE tick = 20"))
    each, _ = bench.mend()
    assert each.database == "rebuilt"
    assert each.detail is not None
    assert "it names keyframes that are not there" in each.detail


def test_a_world_without_frames_is_whole(bench: Bench) -> None:
    bench.put_by(Play(epochs=()).fill)
    assert bench.mend()[0].database == "whole"
    assert blake3(b"").digest() != NO_HASH
