"""From a world's name to the namespace that it means: found, made, given up. Room: store. Blocks.

The one place where that is decided; the rows are those of :mod:`gateway.store.world.catalogue`. Whoever
has opened a world keeps to the namespace that he found, with a :class:`Guard` that tells when the name has
come to mean another one: deleting a world writes so into the world itself, in the commit that changes the
catalogue, so that a writer's next commit conflicts, whatever it believes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import apsw

from gateway.errors import (
    Conflict,
    Forbidden,
    GatewayError,
    NameTaken,
    NotFound,
    StoreUnavailable,
    UnknownWorld,
    Unprocessable,
    WorldDeleted,
)
from gateway.limits import HALF_MADE_S, NAME_ATTEMPTS_MAX, NAME_FORGOTTEN_S
from gateway.store.base import AdministeredStore, BlockingStore, Namespace, PageRead
from gateway.store.database import Database
from gateway.store.world import catalogue
from gateway.store.world.catalogue import (
    Entry,
    EntryState,
    Retired,
    is_in_process,
    key_of,
    ns_id_of,
    reaches,
)
from gateway.store.world.schema import APPLICATION_ID

HALF_MADE: Final = "mvgateway~making~"
"""Before the keys of what is not yet ready to bear its name."""


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
    def entry(self) -> Entry | None:
        """Its row."""
        return None if self.state is None else Entry(self.generation, self.state)


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
            raise deleted(self.name)
        self.born_us = born_us


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


# --- found ----------------------------------------------------------------------------------


def resolve(store: BlockingStore, name: str) -> Identity:
    """What ``name`` means now. Raises ``UnknownWorld`` for a deleted one; whether there is anything in
    the namespace shows when it is opened."""
    identity = _identity(name, catalogue.entry_of(store, name))
    if identity.state == "deleted":
        raise unknown(name)
    return identity


def holds(store: BlockingStore, identity: Identity) -> bool:
    """Whether its name still means it."""
    entry = catalogue.entry_of(store, identity.name)
    return _is_at(entry, identity) and (entry is None or entry.state != "deleted")


def _identity(name: str, entry: Entry | None) -> Identity:
    return Identity(name) if entry is None else Identity(name, *entry)


def _is_at(entry: Entry | None, identity: Identity) -> bool:
    return (1 if entry is None else entry.generation) == identity.generation


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
    if identity.state == "live" and not is_there(store, identity.key):
        return False
    with suppress(Unprocessable):
        store.create_namespace(identity.key)
    return reaches(store, identity.key)


def _next_generation(store: BlockingStore, seen: Identity, now_us: int) -> None:
    """The name gets its next generation, unless another was first."""

    def change(connection: apsw.Connection) -> None:
        if catalogue.find(connection, seen.name) == seen.entry:
            catalogue.put(connection, seen.name, Entry(seen.generation + 1, "opening"), now_us)

    catalogue.change(store, change)


def confirm(store: BlockingStore, identity: Identity, now_us: int) -> bool:
    """The database is made. False where the name has come to mean something else meanwhile."""
    if identity.state != "opening":
        return holds(store, identity)

    def change(connection: apsw.Connection) -> bool:
        entry = catalogue.find(connection, identity.name)
        if entry == identity.entry:
            catalogue.put(connection, identity.name, Entry(identity.generation, "live"), now_us)
        return entry in (identity.entry, Entry(identity.generation, "live"))

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
    while is_occupied(store, following.key):
        following = _later(following)
    return following


def _later(identity: Identity) -> Identity:
    return identity._replace(generation=identity.generation + 1)


def taken(name: str) -> NameTaken:
    """The error of who comes second."""
    return NameTaken(f"world {name} exists already; choose another name")


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
        catalogue.put(connections[0], identity.name, Entry(identity.generation, "live"), now_us)

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


# --- given up -------------------------------------------------------------------------------


def mark_deleted(connection: apsw.Connection, now_us: int) -> None:
    """Write into a world that it is no more. Within a transaction."""
    connection.execute("REPLACE INTO meta(name, value) VALUES('deleted_at', ?)", (now_us,))


def retire(store: BlockingStore, identity: Identity, now_us: int, world: Database | None = None) -> None:
    """Its name means nothing any more; the namespace goes later, by :func:`reap`. ``world``: its database,
    where it can be written: both in one commit. Raises ``UnknownWorld`` where another was first."""
    ns_id = ns_id_of(store, identity.key)

    def change(connections: Sequence[apsw.Connection]) -> None:
        entry = catalogue.find(connections[0], identity.name)
        if not _is_at(entry, identity) or (entry is not None and entry.state == "deleted"):
            raise unknown(identity.name)
        catalogue.put(connections[0], identity.name, Entry(identity.generation, "deleted"), now_us)
        catalogue.put_retired(connections[0], Retired(identity.key, ns_id, now_us))
        for connection in connections[1:]:
            mark_deleted(connection, now_us)

    catalogue.change_with(store, [] if world is None else [world], change)


def bury(store: BlockingStore, identity: Identity, now_us: int) -> None:
    """Its namespace was taken away behind the catalogue's back: the name means nothing, until the next."""

    def change(connection: apsw.Connection) -> None:
        entry = catalogue.find(connection, identity.name)
        if _is_at(entry, identity) and (entry is None or entry.state != "deleted"):
            catalogue.put(connection, identity.name, Entry(identity.generation, "deleted"), now_us)

    catalogue.change(store, change)


def reap(store: BlockingStore, now_us: int, wait_s: float) -> float | None:
    """Delete the namespaces that were given up ``wait_s`` seconds ago; in how many seconds the next one is
    due (None: there is none). One that branches are laid over stays until they are gone."""
    gone: list[str] = []
    left: list[float] = []
    for old in catalogue.retired(store):
        due_s = old.retired_at_us / 1e6 + wait_s - now_us / 1e6
        if due_s > 0:
            left.append(due_s)
        elif _remove(store, old):
            gone.append(old.key)
    if gone:
        before_us = now_us - int(NAME_FORGOTTEN_S * 1e6)
        catalogue.change(store, lambda connection: catalogue.forget(connection, gone, before_us))
    return min(left, default=None)


def _remove(store: BlockingStore, old: Retired) -> bool:
    try:
        admin = administered(store)
        if old.ns_id is None or admin.namespace_info(old.key).ns_id == old.ns_id:
            admin.delete_namespace(old.key)
    except NotFound:
        return True
    except (Conflict, Forbidden):  # branches on it, or no admin API
        return False
    return True


def reap_half_made(store: BlockingStore, now_us: int) -> None:
    """Remove what processes that died have left half made. Raises :class:`Forbidden` without an admin API."""
    admin = administered(store)
    for info in admin.list_namespaces(HALF_MADE):
        began_s = info.key.removeprefix(HALF_MADE).partition("~")[0]
        if began_s.isdigit() and int(began_s) < now_us / 1e6 - HALF_MADE_S:
            with suppress(NotFound, Conflict):
                admin.delete_namespace(info.key)


# --- what a namespace holds -----------------------------------------------------------------


def is_there(store: BlockingStore, key: str) -> bool:
    """Whether there is such a namespace. Where namespaces are made by use, asking may make it."""
    if is_in_process(store):
        return ns_id_of(store, key) is not None
    try:
        store.stat(Namespace(key))
    except NotFound:
        return False
    return True


def is_occupied(store: BlockingStore, key: str) -> bool:
    """Whether anything was ever written to it. What cannot be read counts as something."""
    ns = Namespace(key)
    try:
        return is_there(store, key) and bool(store.read(ns, [PageRead(0, store.stat(ns).version)])[0].data)
    except NotFound:
        return False
    except StoreUnavailable:
        raise
    except GatewayError:
        return True


def is_served(store: BlockingStore, key: str) -> bool:
    """False where the data plane serves a namespace under ``key`` which is not the store's of that key (any
    more). True also where there is none, or where it cannot be told."""
    if is_in_process(store) or not _can_tell(store):
        return True
    if ns_id_of(store, key) is None and not is_there(store, key):  # which may make it, by use
        return True
    return ns_id_of(store, key) is not None and reaches(store, key)


def _can_tell(store: BlockingStore) -> bool:
    try:
        administered(store).list_namespaces(catalogue.CATALOGUE_KEY)
    except Forbidden:
        return False
    return True


def administered(store: BlockingStore) -> AdministeredStore:
    """The store, where its namespaces can be changed. Raises :class:`Forbidden`."""
    if isinstance(store, AdministeredStore):
        return store
    raise Forbidden("this store's namespaces cannot be renamed or deleted")
