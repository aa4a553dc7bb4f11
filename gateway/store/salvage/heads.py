"""Each database at its head, after its pages were salvaged: whole, put back, or rebuilt. Room: store. Blocks.

Where the head lacks a page, the newest version that lacks none is put on top of it, in a new version:
nothing that is there is taken away. Where no version is whole (what is missing has not changed for as long as
versions are kept), the rows that can still be read are put into a new database on top.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import apsw

from gateway.errors import GatewayError
from gateway.limits import SALVAGE_VERSIONS_TRIED_MAX
from gateway.store.base import Namespace, PageRead
from gateway.store.database import Database
from gateway.store.embedded import versions
from gateway.store.embedded.engine import EmbeddedOptions, Engine
from gateway.store.embedded.sql import ask
from gateway.store.salvage.building import Salvaged
from gateway.store.salvage.rebuilding import count_rows, rebuild, write
from gateway.store.world.schema import APPLICATION_ID

_MAGIC: Final = b"SQLite format 3\0"


def mend(engine: Engine, found: list[Salvaged], tell: Callable[[str], object], *, hurt: bool) -> None:
    """Look at every database and say in ``found`` what became of it. ``hurt``: the file was damaged, so one
    that is empty may not have been."""
    for each in found:
        try:
            _mend(engine, each, hurt=hurt or bool(each.lost))
        except (GatewayError, apsw.Error) as error:
            each.database, each.detail = "damaged", str(error)
        if each.database not in ("whole", "none", "gone"):
            tell(f"{each.name}: the database is {each.database}: {each.detail}")


def opened(folder: str) -> Engine:
    """The engine on a folder, doing nothing by itself."""
    return Engine(folder, options=EmbeddedOptions(background=False))


def _mend(engine: Engine, each: Salvaged, *, hurt: bool) -> None:
    ns = Namespace(each.name)
    state = engine.registry.require(each.name)
    # An overlay without pages of its own reads its base's.
    if not state.chain and not _has_pages(engine, each.rid):
        if hurt:
            each.database, each.detail = "gone", "no page of it is left, if it had any"
        return
    if not _holds_a_database(engine, ns):
        return
    wrong = _wrong(engine, ns, None, hurt=hurt)
    if wrong is None:
        each.database = "unproven" if each.unknown else "whole"
        if each.unknown:
            each.detail = (
                f"it reads well, but {each.unknown} page versions are gone whose pages are not known"
            )
    else:
        _replace(engine, ns, each, state.truncated, wrong)


def _replace(engine: Engine, ns: Namespace, each: Salvaged, mark: int, wrong: str) -> None:
    """Put on top what has more rows: the newest whole version, or what can be read of the head."""
    version = _newest_whole(engine, ns, each.rid, mark)
    kept = -1 if version is None else _rows_at(engine, ns, version)
    # Both are tried: a whole version of yesterday may have less than what is left of today's.
    rebuilt = rebuild(engine, ns, lambda rows: rows > kept)
    if rebuilt.taken:
        each.database, each.detail = "rebuilt", f"{rebuilt.rows} rows, {rebuilt.missing}, since {wrong}"
    elif version is not None:
        _put_on_top(engine, ns, each.rid, version)
        each.database, each.detail = "restored", f"as of version {version}, since at its head {wrong}"


def _rows_at(engine: Engine, ns: Namespace, version: str) -> int:
    database = Database.open(engine, ns, version=version, read_only=True)
    try:
        return database.read(count_rows)
    finally:
        database.close()


def _has_pages(engine: Engine, rid: int) -> bool:
    with engine.pool.cursor() as cursor:
        return bool(ask(cursor, "SELECT 1 FROM page WHERE ns = ? LIMIT 1", (rid,)))


def _holds_a_database(engine: Engine, ns: Namespace) -> bool:
    """Whether it holds a SQLite database, or what is left of one."""
    try:
        first = engine.read(ns, [PageRead(0, engine.stat(ns).version)])[0].data
    except GatewayError:
        return True
    return not first or first.startswith(_MAGIC)


def _wrong(engine: Engine, ns: Namespace, version: str | None, *, hurt: bool = True) -> str | None:
    """What is wrong with the database at ``version`` (None: the head); None: nothing. ``hurt``: a world's rows
    are looked at, too, for holes that an older page in place of a lost one leaves."""
    database = Database.open(engine, ns, version=version, read_only=True)
    try:
        return database.read(lambda connection: _look(connection, hurt=hurt))
    except (GatewayError, apsw.Error) as error:
        return str(error)
    finally:
        database.close()


def _look(connection: apsw.Connection, *, hurt: bool) -> str | None:
    found = str(connection.execute("PRAGMA integrity_check(1)").get)
    if found != "ok":
        return found.replace("\n", " ")
    if not hurt or connection.execute("PRAGMA application_id").get != APPLICATION_ID:
        return None
    # An older page in a lost one's place passes integrity_check; numbers of rows that do not rise by one
    # tell.
    holes = "SELECT count(*) FROM frames HAVING max(seq) - min(seq) + 1 <> count(*)"
    if (there := connection.execute(holes).get) is not None:
        return f"of its frames {there} are there, with holes between them"
    loose = "SELECT count(*) FROM keyframes WHERE seq NOT IN (SELECT seq FROM frames WHERE keyframe = 1)"
    if connection.execute(loose).get:
        return "it names keyframes that are not there"
    return None


def _newest_whole(engine: Engine, ns: Namespace, rid: int, mark: int) -> str | None:
    """The newest version before the head at which nothing is missing."""
    query = "SELECT DISTINCT version FROM page WHERE ns = ? AND version >= ? ORDER BY version DESC LIMIT ?"
    with engine.pool.cursor() as cursor:
        rows = ask(cursor, query, (rid, mark, SALVAGE_VERSIONS_TRIED_MAX))
    for (at,) in rows:
        # The cheap look first: integrity_check reads the whole database, for each version that is tried.
        if not _lacks(engine, rid, at) and _wrong(engine, ns, versions.text(at)) is None:
            return versions.text(at)
    return None


def _lacks(engine: Engine, rid: int, version: int) -> bool:
    """Whether any page's newest version at ``version`` is lost: asked of the tables, which is cheap."""
    query = (
        "SELECT 1 FROM page p WHERE p.ns = ?1 AND p.blob = 0 AND p.version <= ?2 AND NOT EXISTS("
        "SELECT 1 FROM page q WHERE q.ns = ?1 AND q.page = p.page AND q.version > p.version AND q.version <= ?2) LIMIT 1"
    )
    with engine.pool.cursor() as cursor:
        return bool(ask(cursor, query, (rid, version)))


def _put_on_top(engine: Engine, ns: Namespace, rid: int, version: str) -> None:
    """Write the pages as of ``version`` again, where they have changed since."""
    with engine.pool.cursor() as cursor:
        query = "SELECT DISTINCT page FROM page WHERE ns = ? AND version > ?"
        pages = [page for (page,) in ask(cursor, query, (rid, versions.parse(version)))]

    def read(page: int) -> bytes:
        return engine.read(ns, [PageRead(page, version)])[0].data

    # Pages that were first written later stay: the header's size rules, and they lie beyond it.
    write(engine, ns, [page for page in pages if read(page)], read)
