"""A catalogue that somebody has deleted, made again from the keys that are there. Room: store. Blocks.

What it said of names that were deleted is lost, and with it only that their first keys must rest a while; the
worlds that had a later generation are found again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import apsw

from gateway.errors import GatewayError, WorldDeleted
from gateway.store.base import BlockingStore, Namespace
from gateway.store.database import Database
from gateway.store.world import catalogue
from gateway.store.world.catalogue import CatalogueEntry, key_of
from gateway.store.world.identity import Guard
from gateway.store.world.namespaces import administered, is_occupied

_LATER: Final = re.compile(r"((?:inv~)?[A-Za-z0-9][A-Za-z0-9._-]*)~([1-9][0-9]{0,8})")
"""The key of a generation after the first (:func:`gateway.store.world.catalogue.key_of`)."""


def rebuild(store: BlockingStore, now_us: int) -> list[str]:
    """Where the catalogue is missing though there are keys of later generations: make it; the names that mean
    something again. Raises :class:`gateway.errors.Forbidden` without an admin API."""
    if not catalogue.is_missing(store):
        return []
    newest: dict[str, int] = {}
    for info in administered(store).list_namespaces():
        if (later := _LATER.fullmatch(info.key)) is not None:
            # Only the newest can be what a name means: each was made after the one before was given up.
            newest[later[1]] = max(newest.get(later[1], 2), int(later[2]))
    if not newest:
        return []
    found = {
        name: _judged(store, name, generation)
        for name, generation in newest.items()
        if not _is_live(store, name)  # made while there was no catalogue: that is what the name means now
    }
    catalogue.change(store, lambda connection: _put(connection, found, now_us))
    return sorted(name for name, entry in found.items() if entry.state == "live")


def _judged(store: BlockingStore, name: str, generation: int) -> CatalogueEntry:
    is_live = _is_live(store, key_of(name, generation))
    return CatalogueEntry(generation, "live" if is_live else "deleted")


def _is_live(store: BlockingStore, key: str) -> bool:
    """Whether there is something that was not deleted."""
    if not is_occupied(store, key):
        return False
    database = Database.open(store, Namespace(key), read_only=True)
    # It raises for a world that bears the mark of its deletion, which stands in the world itself.
    database.guard = Guard(key)
    try:
        database.read(lambda connection: None)
    except WorldDeleted:
        return False
    except (GatewayError, apsw.Error):
        return True  # nothing says that it was deleted
    finally:
        database.close()
    return True


def _put(connection: apsw.Connection, found: Mapping[str, CatalogueEntry], now_us: int) -> None:
    for name, entry in found.items():
        # Another process may have rebuilt it first.
        if catalogue.find(connection, name) is None:
            catalogue.put(connection, name, entry, now_us)
