"""A database made anew from the rows that can still be read of a damaged one. Room: store. Blocks.

As `.recover` of the sqlite3 shell does it, with pages from the store. A world's recording is then put in
order: rows that lean on a lost one go, up to the next keyframe, and a gap says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import apsw

from gateway.errors import GatewayError
from gateway.limits import RING_S_DEFAULT, STORE_COMMIT_INLINE_PAGES_MAX, STORE_COMMIT_PAGES_MAX
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageRead, PageWrite
from gateway.store.embedded.engine import Engine
from gateway.store.embedded.sql import ask
from gateway.store.pages import PAGE_SIZE, PAGE_SIZES, without_counter
from gateway.store.salvage.btree import INDEX, TABLE, CellRow, Walker
from gateway.store.world import schema
from gateway.wire.framecodec import PREFIXED, FrameDecoder
from gateway.wire.frames import decode_frame

_MAGIC = b"SQLite format 3\0"


class NamedTable(NamedTuple):
    """One that the schema names: where its tree begins, how it is made."""

    name: str
    root: int
    sql: str


class HeadPages:
    """A :class:`gateway.store.salvage.btree.PageSource`: a namespace at its head."""

    def __init__(self, engine: Engine, ns: Namespace) -> None:
        self._engine = engine
        self._ns = ns
        self._head = engine.stat(ns).version
        self.page_size = PAGE_SIZE
        first = self.page(1) or b""
        said = int.from_bytes(first[16:18], "big")
        if first.startswith(_MAGIC) and said in PAGE_SIZES:
            self.page_size = said
        with engine.pool.cursor() as cursor:
            rid = engine.registry.require(ns.key).rid
            self.pages = 1 + (ask(cursor, "SELECT max(page) FROM page WHERE ns = ?", (rid,))[0][0] or 0)
        said = int.from_bytes(first[28:32], "big")
        # Pages beyond the header's size are left from before a truncation, and hold rows that were deleted.
        self.pages = min(self.pages, said) if said > 0 else self.pages

    def page(self, number: int) -> bytes | None:
        """Its bytes; None where they are lost."""
        try:
            data = self._engine.read(self._ns, [PageRead(number - 1, self._head)])[0].data
        except GatewayError:
            return None
        # SQLite's smallest page: a shorter one was never a page.
        return data if len(data) >= 512 else None


class Rebuilt(NamedTuple):
    """A database made anew: how many rows it has, in words what is missing, and whether it was taken."""

    rows: int
    missing: str
    taken: bool


def rebuild(engine: Engine, ns: Namespace, is_wanted: Callable[[int], bool]) -> Rebuilt:
    """Make a new database of what can be read of ``ns`` at its head, and put it on top of that if ``is_wanted``
    says so of its rows. Raises where nothing can be made of it."""
    source = HeadPages(engine, ns)
    lost: set[int] = set()
    walker = Walker(source, source.pages, lambda page, why: lost.add(page))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rebuilt.sqlite"
        con = apsw.Connection(str(path))
        try:
            con.execute(
                f"PRAGMA page_size={source.page_size}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF"
            )
            with con:
                refused = _fill(con, walker, source.page(1) or b"")
                dropped = _put_in_order(con)
                rows = count_rows(con)  # those that were read, without what is filled in
                _fill_in(con, ns.key)
        finally:
            con.close()
        taken = is_wanted(rows)
        if taken:
            _put(engine, ns, path, source.page_size)
    hit = sum(
        1 <= page <= source.pages for page in lost
    )  # a table may be looked for beyond what is left of the file
    words = f"{hit} of {source.pages} pages lost or damaged"
    words += f", {refused} rows did not fit" if refused else ""
    words += f", {dropped} frames that lean on lost ones left out" if dropped else ""
    return Rebuilt(rows, words, taken)


def _put(engine: Engine, ns: Namespace, path: Path, page_size: int) -> None:
    with path.open("rb") as file:

        def read(page: int) -> bytes:
            file.seek(page * page_size)
            data = file.read(page_size)
            return data if page else without_counter(data)

        write(engine, ns, list(range(path.stat().st_size // page_size)), read)


def count_rows(connection: apsw.Connection) -> int:
    """Of all tables together."""
    query = (
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite_%'"
    )
    names = [name for (name,) in ask(connection, query)]
    return sum(ask(connection, f"SELECT count(*) FROM {_quoted(name)}")[0][0] for name in names)


def _fill(con: apsw.Connection, walker: Walker, first: bytes) -> int:
    """Make the tables and put the rows in; how many did not fit."""
    tables, others = _schema(walker)
    header = first.startswith(_MAGIC)
    if not tables:
        tables, header = _world_tables(), False
    numbers = (
        (int.from_bytes(first[68:72], "big"), int.from_bytes(first[60:64], "big"))
        if header
        else (schema.APPLICATION_ID, schema.USER_VERSION)
    )
    con.execute(f"PRAGMA application_id={numbers[0]}; PRAGMA user_version={numbers[1]}")
    refused = 0
    for table in tables:
        try:
            con.execute(table.sql)
        except apsw.Error:
            refused += 1
            continue
        refused += _copy(con, walker, table)
    # After the rows: an index that is made once costs less, and triggers must not run for rows that are put
    # back.
    for sql in others:
        try:
            con.execute(sql)
        except apsw.Error:
            refused += 1
    return refused


def _schema(walker: Walker) -> tuple[list[NamedTable], list[str]]:
    """The tables, and the statements of all else (indexes, views, triggers)."""
    tables: list[NamedTable] = []
    others: list[str] = []
    for row in walker.rows(1, TABLE):
        if len(row.values) != 5 or not isinstance(row.values[4], str) or not isinstance(row.values[3], int):
            continue
        kind, name, _, root, sql = row.values
        if kind == "table" and root:
            if not str(name).startswith("sqlite_"):
                tables.append(NamedTable(str(name), root, sql))
        elif kind in ("index", "view", "trigger"):
            others.append(sql)
    return tables, others


def _world_tables() -> list[NamedTable]:
    """Those of a world whose schema is lost: they begin on the same pages everywhere."""
    con = apsw.Connection(":memory:")
    try:
        con.execute(f"PRAGMA page_size={PAGE_SIZE}")
        schema.create(con, schema.WorldInfo("w", 0, schema.Retention(), 0))
        query = (
            "SELECT name, rootpage, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        return [NamedTable(*row) for row in ask(con, query)]
    finally:
        con.close()


def _copy(con: apsw.Connection, walker: Walker, table: NamedTable) -> int:
    """The rows of one table; how many did not fit."""
    name = _quoted(table.name)
    info = ask(con, f"PRAGMA table_xinfo({name})")
    columns = [(column[1], column[2], column[5]) for column in info if not column[6]]
    without = bool(ask(con, "SELECT wr FROM pragma_table_list(?)", (table.name,))[0][0])
    order, alias = _order(columns, without)
    targets = [_quoted(columns[at][0]) for at in order]
    # Its rowid is no column, but views and foreign tools may go by it: it stays what it was.
    if not without and alias is None:
        targets.insert(0, "_rowid_")
    insert = f"INSERT OR IGNORE INTO {name}({', '.join(targets)}) VALUES({', '.join('?' * len(targets))})"
    make = _maker(len(columns), alias, without)
    bad = 0
    for row in walker.rows(table.root, INDEX if without else TABLE):
        values = make(row)
        if values is None:
            bad += 1
            continue
        try:
            con.execute(insert, values)
        except apsw.Error:
            bad += 1
    return bad


def _order(columns: list[tuple[str, str, int]], without: bool) -> tuple[list[int], int | None]:
    """The columns in the order in which a row holds them; the one that stands for the rowid."""
    keys = sorted((at for at, column in enumerate(columns) if column[2]), key=lambda at: columns[at][2])
    if without:
        return keys + [at for at in range(len(columns)) if at not in keys], None
    alias = keys[0] if len(keys) == 1 and columns[keys[0]][1].upper() == "INTEGER" else None
    return list(range(len(columns))), alias


def _maker(count: int, alias: int | None, without: bool) -> Callable[[CellRow], list[object] | None]:
    def make(row: CellRow) -> list[object] | None:
        if len(row.values) > count:
            return None
        # A row from before an ALTER TABLE ADD COLUMN has fewer (section 2.1).
        values = row.values + [None] * (count - len(row.values))
        if alias is not None:
            values[alias] = row.rowid
        return [row.rowid, *values] if not without and alias is None else values

    return make


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _put_in_order(con: apsw.Connection) -> int:
    """A world's frames in order: from a hole on, none up to the next keyframe, a gap in their place, and numbers
    that rise by one again. Answers how many went."""
    names = {name for (name,) in ask(con, "SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not {"frames", "keyframes", "gaps", "meta"} <= names:
        return 0
    con.execute("DELETE FROM keyframes WHERE seq NOT IN (SELECT seq FROM frames WHERE keyframe = 1)")
    rows = ask(con, "SELECT seq, epoch, tick, keyframe, codec FROM frames ORDER BY seq")
    indexed = {seq for (seq,) in ask(con, "SELECT seq FROM keyframes")}
    moves: list[tuple[int, int]] = []
    gone: list[tuple[int]] = []
    gaps: list[tuple[int, int, int, str]] = []
    last: tuple[int, int, int] | None = None
    # The first row stands alone only as the very first, or as a keyframe: all others may lean on one that
    # is lost.
    whole = bool(rows) and (rows[0][0] == 0 or rows[0][0] in indexed) and rows[0][4] < PREFIXED
    for seq, epoch, tick, keyframe, _ in rows:
        if last is not None and whole and seq != last[0] + 1:
            whole = False
        if not whole and keyframe and seq in indexed:
            whole = True
            first = last[2] + 1 if last is not None and last[1] == epoch else 0
            if first < tick:
                gaps.append((epoch, first, tick - 1, "dropped"))
        if not whole:
            gone.append((seq,))
            continue
        moves.append((len(moves), seq))
        last = (seq, epoch, tick)
    con.executemany("DELETE FROM frames WHERE seq = ?", gone)
    con.executemany("DELETE FROM keyframes WHERE seq = ?", gone)
    begin = rows[0][0] if rows else 0
    # Numbers only fall, in rising order, so that none is taken by another when its turn comes.
    changed = [(begin + at, seq) for at, seq in moves if begin + at != seq]
    for table in ("frames", "keyframes"):
        con.executemany(f"UPDATE {table} SET seq = ? WHERE seq = ?", changed)
    con.executemany("INSERT OR IGNORE INTO gaps(epoch, from_tick, to_tick, reason) VALUES(?, ?, ?, ?)", gaps)
    return len(gone)


def _fill_in(con: apsw.Connection, key: str) -> None:
    """What a world needs to be one: facts of itself where they are lost, and a row for each epoch, so that
    none is given twice."""
    if con.execute("PRAGMA application_id").get != schema.APPLICATION_ID:
        return
    began_us = con.execute("SELECT min(received_at) FROM frames").get or 0
    facts = {
        "world": key.partition("~")[0],
        "stride": _stride(con),
        "retention": "record",
        "ring_s": RING_S_DEFAULT,
        "created_at": began_us,
    }
    con.executemany("INSERT OR IGNORE INTO meta(name, value) VALUES(?, ?)", list(facts.items()))
    con.execute(
        "INSERT OR IGNORE INTO epochs(epoch, started_at) SELECT epoch, min(received_at) FROM frames GROUP BY epoch"
    )


def _stride(con: apsw.Connection) -> int:
    row = con.execute("SELECT codec, body FROM frames WHERE codec < ? LIMIT 1", (PREFIXED,)).fetchone()
    try:
        return 0 if row is None else decode_frame(FrameDecoder().decode(*row)[0]).stride
    except (GatewayError, IndexError):
        return 0


def write(engine: Engine, ns: Namespace, pages: Sequence[int], read: Callable[[int], bytes]) -> None:
    """Pages on top of the head, page 0 in the last commit: until then what was there is the database."""
    # From the end, which leaves page 0 for the last commit.
    order = sorted(pages, reverse=True)
    for at in range(0, len(order), STORE_COMMIT_PAGES_MAX):
        some = order[at : at + STORE_COMMIT_PAGES_MAX]
        writes: list[PageWrite] = []
        for begin in range(0, len(some), STORE_COMMIT_INLINE_PAGES_MAX):
            chunk = some[begin : begin + STORE_COMMIT_INLINE_PAGES_MAX]
            hashes = engine.write(ns, [read(page) for page in chunk])
            writes += [PageWrite(page, digest) for page, digest in zip(chunk, hashes, strict=True)]
        engine.commit(CommitRequest(b"", [NamespaceCommit(ns, engine.stat(ns).version, writes)]))
