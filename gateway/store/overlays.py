"""Forking a namespace at its head, over every kind of store. Room: store.

mvstore reads an overlay's missing pages from its base, and no further: what only the base's own base has is
missing (``docs/STORE.md``). So over such a store a fork of a fork gets those pages as its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from blake3 import blake3

from gateway.errors import GatewayError
from gateway.limits import STORE_READ_PAGES_MAX, STORE_WRITE_PAGES_MAX
from gateway.store.base import (
    CommitRequest,
    Namespace,
    NamespaceCommit,
    OverlayBase,
    PageRead,
    PageWrite,
    Store,
    Version,
)
from gateway.store.pages import size_of


async def lay_over(store: Store, base: str, key: str) -> Version:
    """Make the namespace ``key`` over the database in ``base`` as it is at its head; answers that version. Raises
    ``Unprocessable`` where ``key`` exists, ``NotFound``, ``Conflict`` where the base is locked. What fails on the way leaves
    no ``key`` behind."""
    info = await store.namespace_info(base)
    head = (await store.stat(Namespace(base))).version
    # Left by gateways that asked mvstore for a mark above an idle head (store/remote/sunken.py).
    if head < (info.truncated_before or ""):
        head = await _lifted(store, base, head)
    await store.create_namespace(key, OverlayBase(info.ns_id, head))
    under = info.overlay_base
    if under is not None and store.traits.overlay_depth == 1:
        try:
            await _copy_below(store, Namespace(base), Namespace(key), head, under.snapshot_version)
        except BaseException:
            with suppress(GatewayError):
                # Half a fork reads like a whole one, with pages missing.
                await store.delete_namespace(key)
            raise
    return head


async def _lifted(store: Store, base: str, head: Version) -> Version:
    """A head below its truncation mark can't be forked: an empty commit lifts it."""
    part = NamespaceCommit(Namespace(base), head, ())
    return (await store.commit(CommitRequest(os.urandom(16), [part], first_attempt=True))).version


async def _copy_below(store: Store, base: Namespace, fork: Namespace, head: Version, below: Version) -> None:
    """Write to ``fork`` the pages that ``base`` has at ``head`` from its own base, which are those written up to ``below``."""
    (first,) = await store.read(base, [PageRead(0, head)])
    at = (await store.stat(fork)).version
    for start in range(0, size_of(first.data), STORE_READ_PAGES_MAX):
        numbers = range(start, min(start + STORE_READ_PAGES_MAX, size_of(first.data)))
        pages = await store.read(base, [PageRead(number, head) for number in numbers])
        wanted = [
            PageWrite(number, blake3(page.data).digest(), page.data)
            for number, page in zip(numbers, pages, strict=True)
            # Written above it by the base itself: those the fork sees through its base.
            if page.version and page.version <= below
        ]
        for part in range(0, len(wanted), STORE_WRITE_PAGES_MAX):
            at = await _commit(store, fork, at, wanted[part : part + STORE_WRITE_PAGES_MAX])


async def _commit(store: Store, fork: Namespace, at: Version, pages: Sequence[PageWrite]) -> Version:
    part = NamespaceCommit(fork, at, pages)
    return (await store.commit(CommitRequest(os.urandom(16), [part], first_attempt=True))).version
