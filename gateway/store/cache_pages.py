"""Pages by namespace, number and range of versions, within a bound of bytes. Room: store. Thread-safe.

A page read at version V and written at version W is the page's content at every version from W to
V. A namespace's *head* is the newest version that was seen of it. A range that reaches the head
is *current*: it grows with the head as long as the head's changes are known and the page is not
among them. Only versions up to the head are kept, for what is above it may still come.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from blake3 import blake3

from gateway import limits
from gateway.store.base import (
    ZERO_VERSION,
    Committed,
    NamespaceCommit,
    PageContent,
    PageRead,
    PageWrite,
    Version,
)


class _Entry:
    """One content of one page. ``until`` None: current, as long as ``lap`` is the namespace's own."""

    __slots__ = ("content", "lap", "page", "since", "space", "until")

    def __init__(self, space: _Space, page: int, content: PageContent) -> None:
        self.space = space
        self.page = page
        self.content = content
        self.since: Version = content.version or ZERO_VERSION
        self.until: Version | None = None
        self.lap = space.lap

    def last(self) -> Version:
        """The newest version at which it is known to hold."""
        return self.until or self.space.lap_ends.get(self.lap, self.space.head)


class _Space:
    """One namespace. A *lap* is a time over which all changes are known; it ends where some aren't."""

    __slots__ = ("head", "lap", "lap_ends", "pages")

    def __init__(self, head: Version) -> None:
        self.head = head
        self.lap = 0
        self.lap_ends: dict[int, Version] = {}
        self.pages: dict[int, list[_Entry]] = {}

    def end_lap(self) -> None:
        """All that was current stays good up to the head as it is now, and no further."""
        self.lap_ends[self.lap] = self.head
        self.lap += 1
        # Ends of laps stand apart from the entries, so that ending one costs nothing a page; some day they
        # are written to each.
        if len(self.lap_ends) > limits.STORE_CACHE_LAPS_MAX:
            self._settle()

    def _settle(self) -> None:
        for entry in (entry for entries in self.pages.values() for entry in entries):
            entry.until = entry.last()
        self.lap_ends.clear()


class PageCache:
    """At most ``bytes_max`` of content and bookkeeping; what was longest unused goes first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._lock = threading.Lock()
        self._spaces: OrderedDict[str, _Space] = OrderedDict()
        self._used: OrderedDict[_Entry, None] = OrderedDict()
        self.hits = 0
        self.misses = 0
        self.evicted = 0

    def facts(self) -> dict[str, object]:
        """Hits, misses, evictions and what is held."""
        return {
            "cache_hits": self.hits,
            "cache_misses": self.misses,
            "cache_evicted": self.evicted,
            "cache_pages": len(self._used),
            "cache_bytes": self._bytes,
            "cache_bytes_max": self._bytes_max,
        }

    # -- pages --------------------------------------------------------------------------------

    def get(self, key: str, reads: Sequence[PageRead]) -> list[PageContent | None]:
        """The pages that are here, None for the others."""
        with self._lock:
            space = self._spaces.get(key)
            found = [None if space is None else self._find(space, read) for read in reads]
            there = len(found) - found.count(None)
            self.hits += there
            self.misses += len(found) - there
            return found

    def _find(self, space: _Space, read: PageRead) -> PageContent | None:
        if read.hash is None:
            version = read.version
            for entry in space.pages.get(read.page, ()):
                if entry.since <= version <= (entry.until or entry.last()):
                    self._used.move_to_end(entry)
                    return entry.content
        return None

    def put(self, key: str, reads: Sequence[PageRead], contents: Sequence[PageContent]) -> None:
        """Keep what reads answered."""
        with self._lock:
            space = self._spaces.get(key)
            # Forgotten while the read was on its way: what it brings may be from before.
            if space is None:
                return
            for read, content in zip(reads, contents, strict=True):
                if read.hash is None and read.version <= space.head:
                    self._hold(space, read.page, content, read.version)

    def _hold(self, space: _Space, page: int, content: PageContent, version: Version) -> None:
        entries = space.pages.setdefault(page, [])
        since = content.version or ZERO_VERSION
        for entry in entries:
            # Written at the same version, so it is the same content: only how far it is known to reach may
            # grow.
            if entry.since == since:
                break
        else:
            entry = _Entry(space, page, content)
            entry.until = version
            entries.append(entry)
            self._bytes += len(content.data) + limits.STORE_CACHE_PAGE_COST_BYTES
        if version == space.head:
            entry.until, entry.lap = None, space.lap
        elif entry.last() < version:
            entry.until = version
        # Taken out and put back, so that the order of the dict is that of use.
        self._used.pop(entry, None)
        self._used[entry] = None
        while self._bytes > self._bytes_max and self._used:
            self._drop(next(iter(self._used)))
            self.evicted += 1

    def _drop(self, entry: _Entry) -> None:
        del self._used[entry]
        self._bytes -= _cost(entry)
        entries = entry.space.pages[entry.page]
        entries.remove(entry)
        if not entries:
            del entry.space.pages[entry.page]

    # -- heads --------------------------------------------------------------------------------

    def head(self, key: str) -> Version | None:
        """The newest version seen of a namespace."""
        with self._lock:
            space = self._spaces.get(key)
            return None if space is None else space.head

    def learn(self, key: str, version: Version, since: Version | None, changed: Iterable[int] | None) -> None:
        """The head is ``version``; ``changed`` are all pages changed after ``since``, if that is known."""
        with self._lock:
            space = self._space(key, version)
            if version < space.head:
                # back by a rollback, or an answer overtaken by a newer one: nothing is sure any more
                self._forget(key)
                self._space(key, version)
            elif version > space.head:
                known = changed is not None and since is not None and since <= space.head
                self._advance(space, version, changed if known else None)

    def committed(self, part: NamespaceCommit, done: Committed) -> None:
        """A commit to the namespace was answered: its pages are the newest, and others' are named."""
        key, others = part.namespace.key, done.changelog.get(part.namespace.key)
        with self._lock:
            space = self._space(key, part.version)
            # Somebody's answer has overtaken this one: what the head is made of is learnt from that.
            if done.version <= space.head:
                return
            # Before the head moves on: the pages that are current now are what hashes alone may name.
            newest = {page.page: self._written(space, page) for page in part.pages}  # the last write counts
            if others is not None and part.version <= space.head:
                self._advance(space, done.version, {*others, *(page.page for page in part.pages)})
            else:
                self._advance(space, done.version, None)
            for number, data in newest.items():
                if data is not None:
                    self._hold(space, number, PageContent(done.version, data), done.version)

    def _written(self, space: _Space, page: PageWrite) -> bytes | None:
        """What the commit wrote there, if it is known: a page by its hash alone may be one that is here."""
        if page.data is not None:
            return page.data
        newest = max(space.pages.get(page.page, ()), key=lambda entry: entry.since, default=None)
        if newest is None or blake3(newest.content.data).digest() != page.hash:
            return None
        return newest.content.data

    def forget(self, key: str) -> None:
        """Keep nothing of a namespace."""
        with self._lock:
            self._forget(key)

    def _space(self, key: str, head: Version) -> _Space:
        space = self._spaces.get(key)
        if space is None:
            space = self._spaces[key] = _Space(head)
            if len(self._spaces) > limits.STORE_CACHE_NAMESPACES_MAX:
                self._forget(next(iter(self._spaces)))
        self._spaces.move_to_end(key)
        return space

    def _advance(self, space: _Space, version: Version, changed: Iterable[int] | None) -> None:
        if changed is None:
            space.end_lap()
        else:
            for page in changed:
                for entry in space.pages.get(page, ()):
                    entry.until = entry.last()
        space.head = version

    def _forget(self, key: str) -> None:
        space = self._spaces.pop(key, None)
        if space is not None:
            for entry in [entry for entries in space.pages.values() for entry in entries]:
                self._drop(entry)


def _cost(entry: _Entry) -> int:
    return len(entry.content.data) + limits.STORE_CACHE_PAGE_COST_BYTES
