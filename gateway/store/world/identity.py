"""What a world is known by, once it was found: its identity, and the guard that keeps others from passing for it. Room: store."""

from __future__ import annotations

from typing import NamedTuple

import apsw

from gateway.errors import NameTaken, NoNamespace, UnknownWorld, WorldDeleted
from gateway.store.world.catalogue import CatalogueEntry, EntryState, key_of


class Identity(NamedTuple):
    """What a name means: its generation (1, 2, …), and what the catalogue says of it (None: nothing)."""

    name: str
    generation: int = 1
    state: EntryState | None = None

    @property
    def key(self) -> str:
        """The namespace."""
        return key_of(self.name, self.generation)

    @property
    def entry(self) -> CatalogueEntry | None:
        """Its row."""
        return None if self.state is None else CatalogueEntry(self.generation, self.state)

    def is_of(self, entry: CatalogueEntry | None) -> bool:
        """Whether a row of its name (None: there is none) still means it."""
        if entry is None:
            return self.generation == 1
        return entry.generation == self.generation and entry.state != "deleted"


class Guard:
    """Tells whether a database is still the world that was opened. Called within a transaction."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.born_us: int | None = None
        """When the world was made (µs, Unix), once known: tells it from another under the same key."""

    def __call__(self, connection: apsw.Connection) -> None:
        """Raises :class:`WorldDeleted`."""
        facts = _facts(connection)
        born_us = facts.get("created_at")
        if "deleted_at" in facts or (self.born_us is not None and born_us != self.born_us):
            raise self.gone()
        # Learnt from the first look, and held against every later one.
        self.born_us = born_us

    def gone(self) -> WorldDeleted:
        """The error that names it, and this opening as its source."""
        error = deleted(self.name)
        error.source = self
        return error

    def of(self, error: BaseException) -> BaseException:
        """What ``error`` means: a namespace that was there and is not found any more was deleted."""
        # Never found at all is another fault: an unknown world, or one that is only being made.
        return self.gone() if self.born_us is not None and isinstance(error, NoNamespace) else error


def _facts(connection: apsw.Connection) -> dict[str, int]:
    query = "SELECT name, value FROM meta WHERE name IN ('created_at', 'deleted_at')"
    try:
        return dict(connection.execute(query))
    except apsw.SQLError:  # no such table: nothing was made here yet
        return {}


def deleted(name: str) -> WorldDeleted:
    """The error of who still works on a world that is no more."""
    return WorldDeleted(f"world {name} was deleted meanwhile; ask again for the one of that name now, if any")


def unknown(name: str) -> UnknownWorld:
    """The error for a name that means nothing."""
    return UnknownWorld(
        f"there is no world {name!r} in this store; GET /v1/worlds or `mvgateway worlds` lists those there are"
    )


def taken(name: str) -> NameTaken:
    """The error of who comes second."""
    return NameTaken(f"world {name} exists already; choose another name")


def mark_deleted(connection: apsw.Connection, now_us: int) -> None:
    """Write into a world that it is no more. Within a transaction."""
    connection.execute("REPLACE INTO meta(name, value) VALUES('deleted_at', ?)", (now_us,))
