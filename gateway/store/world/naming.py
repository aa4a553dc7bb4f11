"""From a world's name to the namespace that it means: found, or made. Room: store. Blocks.

The one place where that is decided; the rows are those of :mod:`gateway.store.world.catalogue`. Whoever
has opened a world keeps to the namespace that he found, with a guard that tells when the name has
come to mean another one: deleting a world writes so into the world itself, in the commit that changes the
catalogue, so that a writer's next commit conflicts, whatever it believes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import apsw

from gateway.errors import Conflict, GatewayError, Unprocessable
from gateway.limits import NAME_ATTEMPTS_MAX
from gateway.store.base import OWN_KEYS, BlockingStore, Namespace
from gateway.store.database import Database
from gateway.store.world import catalogue
from gateway.store.world.catalogue import CatalogueEntry
from gateway.store.world.identity import Identity, mark_deleted, taken, unknown
from gateway.store.world.namespaces import administered, is_occupied, is_served, is_there, reaches
from gateway.store.world.schema import APPLICATION_ID

HALF_MADE: Final = f"{OWN_KEYS}making~"
"""Before the keys of what is not yet ready to bear its name."""


# --- found ----------------------------------------------------------------------------------


def resolve(store: BlockingStore, name: str) -> Identity:
    """What ``name`` means now. Raises ``UnknownWorld`` for a deleted one; whether there is anything in
    the namespace shows when it is opened."""
    identity = _identity(name, catalogue.entry_of(store, name))
    if identity.state == "deleted":
        raise unknown(name)
    return identity


def expected(store: BlockingStore, name: str) -> Identity:
    """What ``name`` means, or will mean once it is made: for databases that are made with the first write."""
    identity = _identity(name, catalogue.entry_of(store, name))
    return _later(identity) if identity.state == "deleted" else identity


def holds(store: BlockingStore, identity: Identity) -> bool:
    """Whether its name still means it."""
    return identity.is_of(catalogue.entry_of(store, identity.name))


def _identity(name: str, entry: CatalogueEntry | None) -> Identity:
    return Identity(name) if entry is None else Identity(name, *entry)


# --- made -----------------------------------------------------------------------------------


def claim(store: BlockingStore, name: str, now_us: int) -> Identity:
    """What ``name`` means, for one who makes it where it is missing. The namespace is there afterwards;
    :func:`confirm` it once the database is made in it."""
    for _ in range(NAME_ATTEMPTS_MAX):
        identity = _identity(name, catalogue.entry_of(store, name))
        if identity.state != "deleted" and _usable(store, identity):
            return identity
        _next_generation(store, identity, now_us)
    raise Conflict(f"world {name} is deleted and made again by others all the time; ask again")


def _usable(store: BlockingStore, identity: Identity) -> bool:
    """False where the namespace was taken away behind the catalogue's back, or cannot be reached."""
    # Not created again: mvstore goes on serving the old one under that key for up to two minutes.
    if identity.state == "live" and not is_there(store, identity.key):
        return False
    with suppress(Unprocessable):
        store.create_namespace(identity.key)
    return reaches(store, identity.key)


def _next_generation(store: BlockingStore, seen: Identity, now_us: int) -> None:
    """The name gets its next generation, unless another was first."""

    def change(connection: apsw.Connection) -> None:
        # Compared within the transaction: of two who come at once only one raises it.
        if catalogue.find(connection, seen.name) == seen.entry:
            catalogue.put(connection, seen.name, CatalogueEntry(seen.generation + 1, "opening"), now_us)

    catalogue.change(store, change)


def confirm(store: BlockingStore, identity: Identity, now_us: int) -> bool:
    """The database is made. False where the name has come to mean something else meanwhile."""
    if identity.state != "opening":
        return holds(store, identity)

    def change(connection: apsw.Connection) -> bool:
        entry = catalogue.find(connection, identity.name)
        if entry == identity.entry:
            catalogue.put(connection, identity.name, CatalogueEntry(identity.generation, "live"), now_us)
        # Two may open it at once: whoever finds it confirmed by the other has the same world.
        return entry in (identity.entry, CatalogueEntry(identity.generation, "live"))

    return catalogue.change(store, change)


def vacant(store: BlockingStore, name: str) -> Identity:
    """The identity that something new may get, which nobody sees before :func:`publish`; generation 1 is
    seen at once. Raises :class:`NameTaken`."""
    identity = _identity(name, catalogue.entry_of(store, name))
    if identity.state != "deleted" and is_served(store, identity.key):
        if is_occupied(store, identity.key):
            raise taken(name)
        if identity.state is None:
            return identity
    following = _later(identity)
    # Left by one who died before publishing, or of a catalogue that was lost: never written over.
    while is_occupied(store, following.key):
        following = _later(following)
    return following


def _later(identity: Identity) -> Identity:
    return identity._replace(generation=identity.generation + 1)


def publish(store: BlockingStore, identity: Identity, now_us: int, over: Sequence[Database] = ()) -> None:
    """Its name means what :func:`vacant` gave, from now on. ``over``: the empty database of generation 1
    that it replaces. Raises :class:`NameTaken` where another was first."""
    if identity.generation == 1:
        return

    def change(connections: Sequence[apsw.Connection]) -> None:
        entry = catalogue.find(connections[0], identity.name)
        before = None if entry is None else entry.state
        if before != identity.state or (entry is not None and entry.generation >= identity.generation):
            raise taken(identity.name)
        for connection in connections[1:]:
            _close_empty(connection, identity.name, now_us)
        catalogue.put(connections[0], identity.name, CatalogueEntry(identity.generation, "live"), now_us)

    catalogue.change_with(store, over, change)


def _close_empty(connection: apsw.Connection, name: str, now_us: int) -> None:
    """Say in an empty database that its name means another one: who was about to begin there sees it."""
    if connection.execute("SELECT count(*) FROM sqlite_schema").get:
        raise taken(name)
    connection.execute("CREATE TABLE meta(name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    mark_deleted(connection, now_us)


def half_made_key(now_us: int) -> str:
    """A key for what is being made, never used before; :func:`give` it its name when it is whole."""
    return f"{HALF_MADE}{now_us // 1_000_000}~{secrets.token_hex(8)}"


def give(store: BlockingStore, made_key: str, name: str, now_us: int) -> Identity:
    """Give the namespace ``made_key`` to ``name``, at once and whole. Raises :class:`NameTaken`, and has
    removed it then."""
    try:
        for _ in range(NAME_ATTEMPTS_MAX):
            identity = _moved(store, made_key, vacant(store, name))
            made_key = identity.key
            _publish_over(store, identity, now_us)
            if is_served(store, identity.key) and holds(store, identity):
                return identity
            # It landed under a key that is still served as another's, or lost its name: away from there,
            # and once more.
            made_key = half_made_key(now_us)
            administered(store).rename_namespace(identity.key, made_key)
        raise Conflict(f"world {name} is deleted and made again by others all the time; ask again")
    except BaseException:
        with suppress(GatewayError):
            administered(store).delete_namespace(made_key)
        raise


def _moved(store: BlockingStore, made_key: str, identity: Identity) -> Identity:
    while True:
        try:
            administered(store).rename_namespace(made_key, identity.key)
            return identity
        except Unprocessable:  # there is something, if only an empty namespace that was made by use
            identity = _later(identity)


def _publish_over(store: BlockingStore, identity: Identity, now_us: int) -> None:
    # Somebody may be about to make that name's world in its plain namespace, which was made by use: he must
    # find that he is late.
    replaces_plain = (
        identity.generation > 1
        and identity.state is None
        and is_served(store, identity.name)
        and is_there(store, identity.name)
    )
    over = [Database.open(store, Namespace(identity.name))] if replaces_plain else []
    try:
        publish(store, identity, now_us, over)
    finally:
        for database in over:
            database.close()
