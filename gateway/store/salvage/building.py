"""A new store file from what was gathered of an old one, and what did not make it. Room: store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import apsw

from gateway.limits import SALVAGE_NAMED_MAX
from gateway.store.embedded import numbers, versions
from gateway.store.embedded.reading import unpack_pages
from gateway.store.embedded.sql import ask

NO_HASH: Final = bytes(32)
"""Stands for the content of a page version that is known from the change log alone."""
HASH_BYTES_RIGHT: Final = 16
"""Of 32, in which a hash that was hit has to agree with the one it is taken for."""
NAMELESS: Final = "salvaged-"
"""Before the number of a namespace whose name is lost."""


@dataclass(slots=True)
class Salvaged:
    """One namespace. ``ok``: page versions that are there, each checked by its hash; ``lost``: those known
    to be missing, the first ones named in ``missing`` ({"page", "version"}, None where that is lost as well).
    ``database``: what became of it at its head: ``whole``, ``restored`` (to an earlier version, in a new one),
    ``rebuilt`` (from its rows), ``unproven`` (it reads well, but not all is known), ``damaged``, ``gone`` (nothing is
    left), ``none`` (no SQLite database)."""

    name: str
    rid: int
    ok: int = 0
    lost: int = 0
    unknown: int = 0
    missing: list[dict[str, object]] = field(default_factory=list)
    database: str = "none"
    detail: str | None = None

    def lose(self, page: int | None, version: int | None, count: int = 1) -> None:
        self.lost += count
        if len(self.missing) < SALVAGE_NAMED_MAX:
            self.missing.append(
                {"page": page, "version": None if version is None else versions.text(version)}
            )

    def as_json(self) -> dict[str, object]:
        return {
            "namespace": self.name,
            "ok": self.ok,
            "lost": self.lost,
            "missing": self.missing,
            "database": self.database,
            "detail": self.detail,
        }


def build(con: apsw.Connection, *, log_is_whole: bool) -> list[Salvaged]:
    """Fill the tables of ``main`` from those of ``work``; each namespace, in order of its name.
    ``log_is_whole``: no row of the change log is known to be missing."""
    _drop_the_impossible(con)
    _settle_namespaces(con)
    _drop_what_the_log_denies(con)
    if log_is_whole:
        _drop_what_the_log_does_not_know(con)
    _mend_hashes(con)
    _note_what_the_log_misses(con)
    _copy(con)
    found = [Salvaged(key, rid) for rid, key in ask(con, "SELECT rid, key FROM main.ns ORDER BY key")]
    for each in found:
        _count(con, each)
    return found


def _drop_the_impossible(con: apsw.Connection) -> None:
    """Versions above the number that the file has reserved were never given."""
    reserved = ask(con, "SELECT value FROM work.meta WHERE name = 'number' AND typeof(value) = 'integer'")
    # A version out of bounds would otherwise be the newest of its page, and hide all others.
    if reserved:
        bound = (reserved[0][0],)
        con.execute("DELETE FROM work.page WHERE version >> 16 > ?", bound)
        con.execute("DELETE FROM work.log WHERE version >> 16 > ?", bound)
        con.execute("DELETE FROM work.ns WHERE id >> 16 > ?", bound)


def _settle_namespaces(con: apsw.Connection) -> None:
    """Rows of ``ns`` that are lost are made from its indexes, or from nothing but pages that need one."""
    con.execute(
        "INSERT OR IGNORE INTO work.ns(rid, key, id, truncated, rolling_back) "
        "SELECT rid, key, id, 0, 0 FROM work.keys JOIN work.ids USING(rid) WHERE key IS NOT NULL"
    )
    con.execute(
        "INSERT OR IGNORE INTO work.ns(rid, key, id, truncated, rolling_back) "
        "SELECT ns, coalesce((SELECT key FROM work.keys WHERE rid = ns), ? || ns), "
        "coalesce((SELECT id FROM work.ids WHERE rid = ns), min(version) - 1), 0, 0 FROM work.page "
        "WHERE ns NOT IN (SELECT rid FROM work.ns) GROUP BY ns HAVING count(*) > 0",
        (NAMELESS,),
    )
    con.execute("DELETE FROM work.ns WHERE key IS NULL")
    con.execute(
        # Two of one name: a row that was hit. The first one keeps it, and the others stay to be looked at.
        "UPDATE work.ns SET key = ? || rid WHERE rid > (SELECT min(rid) FROM work.ns n WHERE n.key = work.ns.key)",
        (NAMELESS,),
    )
    con.execute(
        "UPDATE work.ns SET id = rid WHERE id IN (SELECT id FROM work.ns GROUP BY id HAVING count(*) > 1)"
    )
    for table in ("page", "log", "refs"):
        con.execute(f"DELETE FROM work.{table} WHERE ns NOT IN (SELECT rid FROM work.ns)")


def _drop_what_the_log_denies(con: apsw.Connection) -> None:
    """A page version that its commit did not write, or that is newer than the head, is no version."""
    # The newest entry of the log is the head: entries are trimmed from the old end only.
    heads = dict(ask(con, "SELECT ns, max(version) FROM work.log GROUP BY ns"))
    for rid, head in heads.items():
        con.execute("DELETE FROM work.page WHERE ns = ? AND version > ?", (rid, head))
    for rid, version, pages in ask(con, "SELECT ns, version, pages FROM work.log WHERE pages IS NOT NULL"):
        written = set(unpack_pages(pages))
        query = "SELECT page FROM work.page WHERE ns = ? AND version = ?"
        wrong = [(rid, page, version) for (page,) in ask(con, query, (rid, version)) if page not in written]
        con.executemany("DELETE FROM work.page WHERE ns = ? AND page = ? AND version = ?", wrong)


def _drop_what_the_log_does_not_know(con: apsw.Connection) -> None:
    """From its first entry on the log has every commit."""
    query = (
        "DELETE FROM work.page WHERE version >= (SELECT min(version) FROM work.log l WHERE l.ns = work.page.ns) "
        "AND NOT EXISTS(SELECT 1 FROM work.log l WHERE l.ns = work.page.ns AND l.version = work.page.version)"
    )
    con.execute(query)


def _mend_hashes(con: apsw.Connection) -> None:
    """A row names its content twice, by hash and by number. Where the hash leads to nothing and the number
    to a content of almost that hash, a few bytes of it were hit."""
    query = (
        "SELECT p.ns, p.page, p.version, p.hash, b.hash FROM work.page p JOIN work.blob b ON b.id = p.blob "
        "WHERE p.hash NOT IN (SELECT hash FROM work.found)"
    )
    mended = [
        (right, rid, page, version)
        for rid, page, version, hit, right in ask(con, query)
        # Sixteen of 32 bytes by chance alone: one in 2^100.
        if sum(one == other for one, other in zip(hit, right, strict=True)) >= HASH_BYTES_RIGHT
    ]
    con.executemany("UPDATE work.page SET hash = ? WHERE ns = ? AND page = ? AND version = ?", mended)


def _note_what_the_log_misses(con: apsw.Connection) -> None:
    """Page versions that a commit wrote and that are gone stay known, so that reading them is an error and
    not the version before. Below the truncation mark they may be gone rightly."""
    query = (
        "SELECT l.ns, l.version, l.pages FROM work.log l JOIN work.ns n ON n.rid = l.ns "
        "WHERE l.pages IS NOT NULL AND l.version >= coalesce(n.truncated, 0) AND NOT coalesce(n.rolling_back, 0)"
    )
    for rid, version, pages in ask(con, query):
        con.executemany(
            "INSERT OR IGNORE INTO work.page VALUES(?, ?, ?, ?, 0)",
            [(rid, page, version, NO_HASH) for page in unpack_pages(pages)],
        )


def _copy(con: apsw.Connection) -> None:
    con.execute(
        "CREATE TABLE work.content(ns INTEGER, hash BLOB, blob INTEGER, refs INTEGER, PRIMARY KEY(ns, hash)) WITHOUT ROWID"
    )
    con.execute(
        "INSERT INTO work.content SELECT ns, hash, row_number() OVER (ORDER BY ns, min(version)), count(*) "
        "FROM work.page WHERE hash IN (SELECT hash FROM work.found) GROUP BY ns, hash"
    )
    con.execute(
        "INSERT INTO main.blob SELECT c.blob, f.enc, f.data FROM work.content c JOIN work.found f USING(hash) ORDER BY c.blob"
    )
    con.execute("INSERT INTO main.content SELECT ns, hash, blob, refs, 0 FROM work.content")
    con.execute(
        "INSERT INTO main.page SELECT p.ns, p.page, p.version, p.hash, coalesce(c.blob, 0) "
        "FROM work.page p LEFT JOIN work.content c USING(ns, hash)"
    )
    con.execute("INSERT INTO main.log SELECT * FROM work.log")
    con.execute(
        "INSERT INTO main.ns SELECT rid, key, id, max(coalesce(floor, 0), coalesce((SELECT max(version) FROM work.page "
        "WHERE ns = rid), 0)), base, snapshot, coalesce(truncated, 0), lock_owner, lock_snapshot, lock_nonce, "
        "coalesce(rolling_back, 0), metadata FROM work.ns"
    )
    con.execute("INSERT OR IGNORE INTO main.moment SELECT time, version FROM work.moment")
    con.execute("INSERT OR IGNORE INTO main.meta SELECT name, value FROM work.meta")
    newest = ask(
        con,
        "SELECT max(coalesce(max(version), 0), coalesce((SELECT max(id) FROM main.ns), 0)) FROM main.page",
    )
    # A block above the newest that was found: a lost row may have had a version of the block that was
    # reserved.
    number = (newest[0][0] >> versions.ORDER_BITS) + 1 + numbers.BLOCK
    con.execute(
        "INSERT INTO main.meta VALUES('number', ?1) ON CONFLICT(name) DO UPDATE SET value = max(?1, "
        "CASE WHEN typeof(value) = 'integer' AND value < ?2 THEN value ELSE 0 END)",
        (number, numbers.NUMBER_MAX // 2),
    )


def _count(con: apsw.Connection, each: Salvaged) -> None:
    rid = (each.rid,)
    each.ok = ask(con, "SELECT count(*) FROM main.page WHERE ns = ? AND blob > 0", rid)[0][0]
    for page, version in con.execute("SELECT page, version FROM main.page WHERE ns = ? AND blob = 0", rid):
        each.lose(page, version)
    query = (
        "SELECT count(*) FROM work.refs r WHERE r.ns = ?1 AND r.refs > "
        "(SELECT count(*) FROM main.page p WHERE p.ns = ?1 AND p.hash = r.hash)"
    )
    con.execute("CREATE INDEX IF NOT EXISTS work.page_by_hash ON page(ns, hash)")
    unseen = ask(con, query.replace("main.page", "work.page"), rid)[0][0]
    told = ask(con, "SELECT count(*) FROM work.page WHERE ns = ? AND hash = ?", (*rid, NO_HASH))[0][0]
    # Those that the log told of are named already.
    if unseen > told:
        each.unknown = unseen - told
        each.lose(None, None, each.unknown)
