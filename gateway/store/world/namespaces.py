"""What a namespace of a store is, before anything of it is opened: there, written to, a world, the one meant. Room: store. Blocks."""

from __future__ import annotations

from contextlib import suppress

from gateway.errors import Forbidden, GatewayError, NotFound, StoreUnavailable
from gateway.store.base import AdministeredStore, BlockingStore, Namespace, PageRead

_NO_KEY = "mvgateway~none"
"""A prefix that no key has."""


def is_in_process(store: BlockingStore) -> bool:
    """Whether the store is in this process: then nobody else has it, and a deleted namespace is gone at once."""
    return store.traits.in_process


def ns_id_of(store: BlockingStore, key: str) -> str | None:
    """The id of the namespace of that key; None where there is none, or it cannot be told."""
    with suppress(NotFound, Forbidden):
        # The bridge to a store without an admin API has the methods too, and refuses: hence both the look
        # and the suppressed refusal.
        if isinstance(store, AdministeredStore):
            return store.namespace_info(key).ns_id
    return None


def reaches(store: BlockingStore, key: str) -> bool:
    """False where the data plane still serves another namespace under ``key``, which was deleted or renamed:
    no namespace's head is older than itself. True also where that cannot be told."""
    if is_in_process(store):
        return True
    ns_id = ns_id_of(store, key)
    return ns_id is None or store.stat(Namespace(key)).version >= ns_id


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
    try:
        # Of a database that was ever written to the first page is never empty: it holds SQLite's header.
        return bool(first_page(store, key))
    except StoreUnavailable:
        raise
    except GatewayError:
        return True


def first_page(store: BlockingStore, key: str) -> bytes:
    """The namespace's first page; empty where nothing was ever written to it, or where there is none. Raises
    what the store raises."""
    ns = Namespace(key)
    try:
        return store.read(ns, [PageRead(0, store.stat(ns).version)])[0].data if is_there(store, key) else b""
    except NotFound:
        return b""


def is_served(store: BlockingStore, key: str) -> bool:
    """False where the data plane serves a namespace under ``key`` which is not the store's of that key (any
    more). True also where there is none, or where it cannot be told."""
    if is_in_process(store) or not can_tell(store):
        return True
    if ns_id_of(store, key) is None and not is_there(store, key):  # which may make it, by use
        return True
    return ns_id_of(store, key) is not None and reaches(store, key)


def can_tell(store: BlockingStore) -> bool:
    """Whether the store tells its namespaces: by its admin API, or because it is here."""
    try:
        # A question that costs nothing and finds nothing: only whether it is refused counts.
        administered(store).list_namespaces(_NO_KEY)
    except Forbidden:
        return False
    return True


def administered(store: BlockingStore) -> AdministeredStore:
    """The store, where its namespaces can be changed. Raises :class:`Forbidden`."""
    if isinstance(store, AdministeredStore):
        return store
    raise Forbidden("this store's namespaces cannot be renamed or deleted")
