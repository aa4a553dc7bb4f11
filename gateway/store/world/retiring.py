"""Worlds given up: deleted, and their namespaces removed when nobody can reach them any more. Room: store. Blocks.

Deleting is one commit, over the catalogue and the world: from then on the name means nothing, and whoever
still writes to that world conflicts with it. What is left is garbage: a process that dies here leaves nothing
that could come back under the name.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

import apsw

from gateway.errors import (
    Conflict,
    Forbidden,
    GatewayError,
    NotFound,
    StoreUnavailable,
    Unprocessable,
    WorldDeleted,
)
from gateway.limits import HALF_MADE_S, NAME_FORGOTTEN_S
from gateway.store.base import BlockingStore, Namespace
from gateway.store.database import Database
from gateway.store.world import catalogue, naming, schema
from gateway.store.world.catalogue import CatalogueEntry, Retired
from gateway.store.world.identity import Guard, Identity, mark_deleted, unknown
from gateway.store.world.namespaces import administered, can_tell, first_page, is_occupied, ns_id_of

log = logging.getLogger("mvgateway.world")


def delete_world(store: BlockingStore, name: str, now_us: int) -> Identity:
    """Delete what ``name`` means, by a connection of its own. One that cannot be read any more can be deleted
    all the same. Raises ``UnknownWorld``, ``Unprocessable`` (it is no world), ``Conflict`` (locked)."""
    identity = naming.resolve(store, name)
    _check_kind(store, identity)
    database = Database.open(store, Namespace(identity.key))
    guard = Guard(name)
    database.guard, database.meaning = guard, guard.of
    database.pages.beside_others = True  # a row of `meta`, while its publisher writes frames
    try:
        retire(store, identity, now_us, database)
    except (NotFound, WorldDeleted):
        raise unknown(name) from None
    # Nothing is known to be wrong with the world: it is not deleted without its own mark for that.
    except (StoreUnavailable, Conflict):
        raise
    except (GatewayError, apsw.Error) as error:
        log.warning("world %s is deleted though it cannot be read: %s", name, error)
        retire(store, identity, now_us)
    finally:
        database.close()
    return identity


def _check_kind(store: BlockingStore, identity: Identity) -> None:
    """Raise where there is nothing, or what is known to be no world."""
    try:
        page = first_page(store, identity.key)
    except StoreUnavailable:
        raise
    except GatewayError:
        return
    if not page:
        raise unknown(identity.name)
    if not schema.is_worlds_page(page):
        raise Unprocessable(
            f"{identity.name!r} is a database, but no world; delete it with mvstore's own tools"
        )


def retire(store: BlockingStore, identity: Identity, now_us: int, world: Database | None = None) -> None:
    """Its name means nothing any more; the namespace goes later, by :func:`reap`. ``world``: its database,
    where it can be written: both in one commit. Raises ``UnknownWorld`` where another was first."""
    ns_id = ns_id_of(store, identity.key)

    def change(connections: Sequence[apsw.Connection]) -> None:
        if not identity.is_of(catalogue.find(connections[0], identity.name)):
            raise unknown(identity.name)
        catalogue.put(connections[0], identity.name, CatalogueEntry(identity.generation, "deleted"), now_us)
        catalogue.put_retired(connections[0], Retired(identity.key, ns_id, now_us))
        for connection in connections[1:]:
            mark_deleted(connection, now_us)

    catalogue.change_with(store, [] if world is None else [world], change)


def bury(store: BlockingStore, identity: Identity, now_us: int) -> None:
    """Its namespace was taken away behind the catalogue's back: the name means nothing, until the next."""

    def change(connection: apsw.Connection) -> None:
        if identity.is_of(catalogue.find(connection, identity.name)):
            catalogue.put(connection, identity.name, CatalogueEntry(identity.generation, "deleted"), now_us)

    catalogue.change(store, change)


def settle(store: BlockingStore, identity: Identity, now_us: int) -> None:
    """Whoever had it open found that it is no more. Where that was nobody who asked the catalogue, its key is
    given up, since a store may go on serving what it was. Another database that has the key now keeps it."""
    if not naming.holds(store, identity):
        return
    # Without an admin API "not found" and "not told" look alike, and only the first may end a name.
    is_gone = ns_id_of(store, identity.key) is None if can_tell(store) else False
    if is_gone or not is_occupied(store, identity.key):
        bury(store, identity, now_us)


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
        # By its id: somebody with mvstore's own tools may have made another one under that key meanwhile.
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
    for info in admin.list_namespaces(naming.HALF_MADE):
        # The time stands in the key: a store tells no time of making.
        began_s = info.key.removeprefix(naming.HALF_MADE).partition("~")[0]
        if began_s.isascii() and began_s.isdigit() and int(began_s) < now_us / 1e6 - HALF_MADE_S:
            with suppress(NotFound, Conflict):
                admin.delete_namespace(info.key)
