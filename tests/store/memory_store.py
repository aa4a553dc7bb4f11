"""A small store in memory that keeps mvstore's rules for what a SQLite thread needs."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from blake3 import blake3

from gateway.errors import Conflict, Gone, NoNamespace, Unprocessable
from gateway.store.base import (
    CommitRequest,
    Committed,
    Namespace,
    OverlayBase,
    PageContent,
    PageRead,
    Stat,
    TimeBounds,
    Traits,
    Version,
)


class MemoryStore:
    """One namespace's pages are ``{page: [(version, hash), …]}``; counts what it is asked."""

    traits = Traits()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 1
        self._heads: dict[str, Version] = {}
        self._pages: dict[str, dict[int, list[tuple[Version, bytes]]]] = {}
        self._log: dict[str, list[tuple[Version, tuple[int, ...]]]] = {}
        self._content: dict[bytes, bytes] = {}
        self.calls = {"stat": 0, "read": 0, "write": 0, "commit": 0}
        self.requests: list[CommitRequest] = []

    def _version(self) -> Version:
        self._next += 1
        return f"{self._next:016x}0000"

    def create_namespace(self, key: str, overlay_base: OverlayBase | None = None) -> None:
        with self._lock:
            if key in self._heads:
                raise Unprocessable(f"{key} exists")
            self._heads[key] = self._version()
            self._pages[key] = {}
            self._log[key] = [(self._heads[key], ())]

    def _head(self, ns: Namespace) -> Version:
        if ns.key not in self._heads:
            raise NoNamespace(f"no namespace {ns.key}")
        return self._heads[ns.key]

    def _changed(self, key: str, after: Version) -> tuple[int, ...] | None:
        recent = self._log[key][-101:]
        if after not in [version for version, _ in recent]:
            return None
        return tuple({page for version, pages in recent if version > after for page in pages})

    def stat(
        self, ns: Namespace, *, from_version: Version | None = None, lock_owner: str | None = None
    ) -> Stat:
        with self._lock:
            self.calls["stat"] += 1
            head = self._head(ns)
            return Stat(head, interval=None if from_version is None else self._changed(ns.key, from_version))

    def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        with self._lock:
            self.calls["read"] += 1
            self._head(ns)
            return [self._read(ns, read) for read in reads]

    def _read(self, ns: Namespace, read: PageRead) -> PageContent:
        if read.hash is not None:
            return PageContent(read.version, self._content[read.hash])
        for version, content in reversed(self._pages[ns.key].get(read.page, [])):
            if version <= read.version:
                return PageContent(version, self._content[content])
        return PageContent("", b"")

    def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        with self._lock:
            self.calls["write"] += 1
            hashes = [blake3(page).digest() for page in pages]
            self._content.update(zip(hashes, pages, strict=True))
            return hashes

    def commit(self, request: CommitRequest) -> Committed:
        with self._lock:
            self.calls["commit"] += 1
            self.requests.append(request)
            for part in request.namespaces:
                self._check(part.namespace, part.version, part.read_set)
            version = self._version()
            changelog: dict[str, tuple[int, ...]] = {}
            for part in request.namespaces:
                key = part.namespace.key
                changed = self._changed(key, part.version)
                if changed is not None:
                    changelog[key] = changed
                for write in part.pages:
                    if write.data is not None:
                        assert blake3(write.data).digest() == write.hash
                        self._content[write.hash] = write.data
                    if write.hash not in self._content:
                        raise Gone("bad page reference")
                    self._pages[key].setdefault(write.page, []).append((version, write.hash))
                self._log[key].append((version, tuple(write.page for write in part.pages)))
                self._heads[key] = version
            return Committed(version, changelog)

    def _check(self, ns: Namespace, version: Version, read_set: frozenset[int] | None) -> None:
        if read_set is None:
            if self._head(ns) > version:
                raise Conflict(f"{ns.key} moved on")
            return
        for page in read_set:
            written = self._pages[ns.key].get(page, [])
            if written and written[-1][0] > version:
                raise Conflict(f"page {page} of {ns.key} moved on")

    def time2version(self, t: int) -> TimeBounds:
        return TimeBounds(None, None)
