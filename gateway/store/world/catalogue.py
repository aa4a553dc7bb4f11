"""The catalogue: which namespace a name means, once it is not the plain name any more. Room: store.

mvstore goes on serving the old namespace under a key that was deleted, for up to two minutes, and takes
commits there. So a key is never used twice: what is made again under a name gets the next *generation* of
it, whose key nobody has ever asked for. A small database of the store, under a key that no world can have,
says which generation a name means; a name that was never deleted has no row, and means its own key.

Every method blocks. ``docs/STORE.md``, "Names", describes the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple, TypeVar, cast

import apsw

from gateway.errors import GatewayError, NotFound, StoreUnavailable, Unprocessable
from gateway.store.base import OWN_KEYS, AdministeredStore, BlockingStore, Namespace
from gateway.store.database import Database, transact_together
from gateway.store.world.namespaces import reaches

T = TypeVar("T")

CATALOGUE_KEY: Final = f"{OWN_KEYS}catalogue"
"""The namespace of the catalogue itself. Never deleted: what it says cannot be told from elsewhere."""

APPLICATION_ID: Final = 0x6D76_6763
"""``mvgc`` in ASCII."""

_TABLES: Final = f"""
CREATE TABLE names(
  name TEXT PRIMARY KEY,
  generation INTEGER NOT NULL,
  state TEXT NOT NULL,
  changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE retired(
  key TEXT PRIMARY KEY,
  ns_id TEXT,
  retired_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = 1;
"""

EntryState = Literal["live", "opening", "deleted"]
"""``opening``: its first opener has not finished; whoever comes joins in."""


class CatalogueEntry(NamedTuple):
    """A name's row."""

    generation: int
    state: EntryState


class Retired(NamedTuple):
    """A namespace that no name means any more, and since when (microseconds, Unix). ``ns_id``: which one
    it was, where the store told."""

    key: str
    ns_id: str | None
    retired_at_us: int


def key_of(name: str, generation: int) -> str:
    """The namespace key of a name's generation. Generation 1 is the plain name, as mvSQLite users know it;
    a ``~`` stands in no name."""
    return name if generation == 1 else f"{name}~{generation}"


def read(store: BlockingStore, fn: Callable[[apsw.Connection], T], empty: T) -> T:
    """``fn(connection)`` on the catalogue; ``empty`` where there is none yet."""
    # Asked first where it can be: to open a namespace may make it, and no store should get a catalogue by
    # being looked at.
    if is_missing(store):
        return empty
    database = Database.open(store, Namespace(CATALOGUE_KEY), read_only=True)
    try:
        return database.read(lambda connection: fn(connection) if _is_made(connection) else empty)
    except NotFound:
        return empty
    finally:
        database.close()


def is_missing(store: BlockingStore) -> bool:
    """True where it is certain that there is none: asking for a page would make it, where namespaces are made
    by use."""
    try:
        if isinstance(store, AdministeredStore):
            store.namespace_info(CATALOGUE_KEY)
    except NotFound:
        return True
    except GatewayError:  # the admin API is away, or none was given: the page tells
        pass
    return False


def entry_of(store: BlockingStore, name: str) -> CatalogueEntry | None:
    """The name's row; None: it means its own key."""
    return read(store, lambda connection: find(connection, name), None)


def entries(store: BlockingStore) -> dict[str, CatalogueEntry]:
    """All rows."""

    def all_rows(connection: apsw.Connection) -> dict[str, CatalogueEntry]:
        rows = connection.execute("SELECT name, generation, state FROM names")
        return {name: CatalogueEntry(generation, state) for name, generation, state in rows}

    return read(store, all_rows, {})


def retired(store: BlockingStore) -> list[Retired]:
    """The namespaces that wait for their end, oldest first."""
    query = "SELECT key, ns_id, retired_at FROM retired ORDER BY retired_at"
    return read(store, lambda connection: [Retired(*row) for row in connection.execute(query)], [])


@contextmanager
def _writable(store: BlockingStore) -> Iterator[Database]:
    database = Database.open(store, Namespace(CATALOGUE_KEY), create=True)
    try:
        # After the opening, which may have made it: what was deleted a moment ago is still served by
        # mvstore, and a commit there would be lost.
        if not reaches(store, CATALOGUE_KEY):
            raise StoreUnavailable(
                f"the store still serves a namespace {CATALOGUE_KEY} that was deleted (it must never be); "
                "it lets go of it within two minutes"
            )
        yield database
    finally:
        database.close()


def change(store: BlockingStore, fn: Callable[[apsw.Connection], T]) -> T:
    """``fn(connection)`` on the catalogue, and one commit."""
    return change_with(store, (), lambda connections: fn(connections[0]))


def change_with(
    store: BlockingStore, others: Sequence[Database], fn: Callable[[Sequence[apsw.Connection]], T]
) -> T:
    """``fn([catalogue, *others])`` and **one** commit over all of them."""

    def run(connections: Sequence[apsw.Connection]) -> T:
        if not _is_made(connections[0]):
            # In the transaction of the first change, so that there is never a catalogue without tables for
            # another to fill.
            connections[0].execute(_TABLES, can_cache=False)
        return fn(connections)

    with _writable(store) as database:
        return transact_together([database, *others], run)


def _is_made(connection: apsw.Connection) -> bool:
    # Namespaces made by use are empty databases: no catalogue yet, and no foreign one either.
    if connection.execute("SELECT count(*) FROM sqlite_schema").get == 0:
        return False
    found = connection.execute("PRAGMA application_id").get
    if found != APPLICATION_ID:
        raise Unprocessable(
            f"the namespace {CATALOGUE_KEY} of this store is no catalogue (application_id {found:#x}); "
            "no name can be told without it: move away what was put there"
        )
    return True


# --- within a transaction ----------------------------------------------------------------------


def find(connection: apsw.Connection, name: str) -> CatalogueEntry | None:
    """The name's row."""
    row = connection.execute("SELECT generation, state FROM names WHERE name = ?", (name,)).fetchone()
    return None if row is None else CatalogueEntry(row[0], cast(EntryState, row[1]))


def put(connection: apsw.Connection, name: str, entry: CatalogueEntry, now_us: int) -> None:
    """Set the name's row."""
    connection.execute(
        "REPLACE INTO names(name, generation, state, changed_at) VALUES(?, ?, ?, ?)", (name, *entry, now_us)
    )


def put_retired(connection: apsw.Connection, gone: Retired) -> None:
    """Note a namespace that is to be deleted when nobody can reach it any more."""
    connection.execute("REPLACE INTO retired(key, ns_id, retired_at) VALUES(?, ?, ?)", gone)


def forget(connection: apsw.Connection, keys: Sequence[str], forget_before_us: int) -> None:
    """The namespaces ``keys`` are gone. Names deleted before ``forget_before_us`` (microseconds, Unix) of
    which nothing is left are new names again."""
    connection.executemany("DELETE FROM retired WHERE key = ?", [(key,) for key in keys])
    connection.execute(
        # substr() and not LIKE, to which `_` in a name is any letter.
        "DELETE FROM names WHERE state = 'deleted' AND changed_at < ? AND NOT EXISTS("
        "SELECT 1 FROM retired WHERE key = name OR substr(key, 1, length(name) + 1) = name || '~')",
        (forget_before_us,),
    )
