"""Short ways to say what the conformance suite says often."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping

from blake3 import blake3

from gateway.store.base import (
    CommitRequest,
    Committed,
    Namespace,
    NamespaceCommit,
    PageRead,
    PageWrite,
    Store,
    Version,
)

_names = itertools.count()
A, B, C, D = (bytes([letter]) * 4096 for letter in b"ABCD")


def digest(data: bytes) -> bytes:
    """BLAKE3-256."""
    return blake3(data).digest()


def shifted(version: Version, by: int) -> Version:
    """The version so many steps on (or back)."""
    return f"{int(version, 16) + by:020x}"


async def new_namespace(store: Store) -> Namespace:
    """A fresh namespace: stores may be shared by tests."""
    ns = Namespace(f"test-{os.getpid()}-{next(_names)}-{os.urandom(4).hex()}")
    await store.create_namespace(ns.key)
    return ns


async def head(store: Store, ns: Namespace) -> Version:
    """The head version."""
    return (await store.stat(ns)).version


def part(
    ns: Namespace,
    version: Version,
    pages: Mapping[int, bytes],
    read_set: Iterable[int] | None = None,
    *,
    inline: bool = True,
) -> NamespaceCommit:
    """One namespace's part of a commit."""
    writes = [PageWrite(page, digest(data), data if inline else None) for page, data in pages.items()]
    return NamespaceCommit(ns, version, writes, None if read_set is None else frozenset(read_set))


def request(
    *parts: NamespaceCommit, key: bytes | None = None, first: bool = True, owner: str | None = None
) -> CommitRequest:
    """A commit; a first attempt with a key of its own unless said otherwise."""
    return CommitRequest(key or os.urandom(16), parts, first, owner)


async def put(store: Store, ns: Namespace, pages: Mapping[int, bytes], owner: str | None = None) -> Committed:
    """Commit these pages on the head."""
    version = (await store.stat(ns, lock_owner=owner)).version
    return await store.commit(request(part(ns, version, pages), owner=owner))


async def get(store: Store, ns: Namespace, page: int, version: Version | None = None) -> bytes:
    """One page's bytes, at the head unless a version is given."""
    at = version or await head(store, ns)
    return (await store.read(ns, [PageRead(page, at)]))[0].data
