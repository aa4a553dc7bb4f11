"""One database's pages over a store: snapshot, cache, buffered writes, one commit. Room: store.

Knows nothing of SQLite's API: :mod:`gateway.store.vfs` turns its calls into these. Lays pages out
as an mvSQLite client does: page 0 faked when absent, its change counter zeroed in storage and
filled in on reading, the size taken from its header. Source: ``docs/STORE.md``, mvSQLite 0.3.22.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from blake3 import blake3

from gateway.errors import BadInput, TooLarge
from gateway.limits import (
    STORE_COMMIT_INLINE_PAGES_MAX,
    STORE_COMMIT_PAGES_MAX,
    STORE_READ_PAGES_MAX,
    STORE_WRITE_PAGES_MAX,
    VFS_DIRTY_PAGES_MAX,
    VFS_INLINE_PAGES_MAX,
    VFS_READ_AHEAD_PAGES_MAX,
    VFS_READ_SET_PAGES_MAX,
)
from gateway.store.base import (
    BlockingStore,
    CommitRequest,
    Committed,
    Namespace,
    NamespaceCommit,
    PageRead,
    PageWrite,
    Version,
)

PAGE_SIZES: Final = (4096, 8192, 16384, 32768)
PAGE_SIZE: Final = 8192
_COUNTER_START: Final = 24
_VALID_FOR_START: Final = 92
_SIZE_START: Final = 28
_TRUNK_START: Final = 32
_U32: Final = struct.Struct(">I")
_ZERO: Final = bytes(4)
_MAGIC: Final = b"SQLite format 3\0"


def empty_first_page(page_size: int) -> bytes:
    """Page 0 of an empty database of one page, counters zeroed (the SQLite file format, section 1.3)."""
    header = _MAGIC + struct.pack(">HBBBBBB", page_size, 1, 1, 0, 64, 32, 32)
    header += struct.pack(">IIIIII", 0, 1, 0, 0, 0, 0)
    header += bytes(_VALID_FOR_START + 8 - len(header))
    leaf = struct.pack(">BHHHB", 13, 0, 0, page_size, 0)
    return (header + leaf).ljust(page_size, b"\0")


def size_of(first_page: bytes) -> int:
    """How many pages the database has, as its page 0 says; 0 where there is none.
    https://sqlite.org/fileformat2.html section 1.3."""
    return int(_U32.unpack_from(first_page, _SIZE_START)[0]) if first_page else 0


def without_counter(first_page: bytes) -> bytes:
    """Page 0 as it is stored: change counter and version-valid-for zeroed. https://sqlite.org/fileformat2.html section 1.3."""
    return first_page[:24] + _ZERO + first_page[28:92] + _ZERO + first_page[96:]


def with_counter(first_page: bytes, counter: int) -> bytes:
    """Page 0 as SQLite reads it: both fields filled with ``counter``. https://sqlite.org/fileformat2.html section 1.3."""
    value = _U32.pack(counter & 0xFFFF_FFFF)
    return first_page[:24] + value + first_page[28:92] + value + first_page[96:]


class Pages:
    """The pages of one namespace as one connection sees them.

    ``version``: read-only at that version. ``follow_head`` False (a single writer): the head is
    asked for once, then known from the own commits, and a commit conflicts with *any* other;
    True: :meth:`begin` asks ``/stat`` every time, and a commit conflicts with changes of the pages read.
    """

    def __init__(
        self,
        store: BlockingStore,
        ns: Namespace,
        *,
        new_key: Callable[[], bytes],
        version: Version | None = None,
        page_size: int = PAGE_SIZE,
        follow_head: bool = True,
        writable: bool = True,
        cache_bytes: int,
    ) -> None:
        if page_size not in PAGE_SIZES:
            raise BadInput(f"page size {page_size} is not one of {PAGE_SIZES}; choose one of them")
        self._store = store
        self.ns = ns
        self._new_key = new_key
        self.page_size = page_size
        self.read_only = version is not None or not writable
        self._fixed = version is not None
        self._follow = follow_head and version is None
        self.head: Version | None = version
        self.beside_others = False
        """True: a commit that leaves page 0 alone does not mind that others write it. For a change within pages
        that nobody else changes, in a database to which others write all the time."""
        self.hold = False
        """True: COMMIT leaves the dirty pages in place for :func:`commit_together`."""
        self.committed: Committed | None = None
        self.on_committed: Callable[[int, int], None] | None = None
        """Told after each commit: the page versions that it made, the pages that the database has (0: not known now)."""
        self.lineage = 0
        """How often the head was asked for. Between two equal ones a single writer saw all commits there were: its own."""
        self._counter = 1
        self._first: bytes | None = None
        self._dirty: dict[int, bytes] = {}
        self._ahead: dict[int, bytes] = {}
        self._read_set: set[int] | None = set()
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cache_pages_max = max(1, cache_bytes // page_size)
        self._next_page = -1
        self._run = 1
        self._anchors = not follow_head and not self.read_only and store.traits.takes_any_version
        self._anchor: bytes | None = None
        """The hash of page 0 as this connection committed it: content that the namespace itself holds."""
        self._next_anchor: bytes | None = None

    # --- a transaction's start and end -------------------------------------------------------

    def begin(self) -> None:
        """Take a snapshot: the newest head, cached pages that changed dropped."""
        self.discard()
        if self.head is None or self._follow:
            self._ask_head()
        if self._first is None:
            self._load_first()

    def _ask_head(self) -> Version:
        known = self.head
        self.lineage += 1
        stat = self._store.stat(self.ns, from_version=known)
        if stat.version != known:
            self._forget(None if known is None else stat.interval)
        if not self.read_only or stat.version != known:
            # Whatever else changes, a new number: SQLite drops its own page cache where the header's change counter is not the one it
            # knows (the SQLite file format, "File change counter"). In the store it is zero, or page 0 would change with each commit.
            self._counter += 1
        self.head = stat.version
        return stat.version

    def discard(self) -> None:
        """Give up what was written since :meth:`begin`."""
        self._dirty.clear()
        self._ahead.clear()
        self._read_set = set() if self._follow and not self.read_only else None

    def forget(self) -> None:
        """Give up everything known, the head too: somebody else has written."""
        self.discard()
        self._forget(None)
        if not self._fixed:
            self.head = None

    def _forget(self, interval: Sequence[int] | None) -> None:
        self._anchor = None
        if interval is None:
            self._cache.clear()
            self._first = None
            return
        for page in interval:
            self._cache.pop(page, None)
        if 0 in interval:
            self._first = None

    # --- reading -----------------------------------------------------------------------------

    @property
    def size_pages(self) -> int:
        """The database's size as page 0's header says."""
        return size_of(self._dirty.get(0) or self._first_page())

    def read(self, page: int) -> bytes:
        """One page as this transaction sees it; zeros where nothing was ever written."""
        data = self._dirty.get(page)
        if data is not None:
            return with_counter(data, self._counter) if page == 0 else data
        if self._read_set is not None:
            self._note_read(page)
        # Apart from the cache: page 0 is read at each transaction's start, and must not be what the cache lets go.
        if page == 0 and 0 not in self._ahead:
            return with_counter(self._first_page(), self._counter)
        if self._ahead and (content := self._ahead.get(page)) is not None:
            return self._store.read(self.ns, [PageRead(page, self._version(), content)])[0].data
        data = self._cache.get(page)
        if data is None:
            return self._fetch(page)
        self._cache.move_to_end(page)
        return data

    def _note_read(self, page: int) -> None:
        assert self._read_set is not None
        self._read_set.add(page)
        if len(self._read_set) > VFS_READ_SET_PAGES_MAX:
            # Too many to send: without a read set any commit of others is a conflict, which errs on the safe side.
            self._read_set = None

    def _version(self) -> Version:
        """The snapshot's version. SQLite reads the header before it takes a lock."""
        return self._ask_head() if self.head is None else self.head

    def _first_page(self) -> bytes:
        if self._first is None:
            self._load_first()
        assert self._first is not None
        return self._first

    def _load_first(self) -> None:
        data = self._store.read(self.ns, [PageRead(0, self._version())])[0].data
        self._first = data or empty_first_page(self.page_size)
        size = int.from_bytes(self._first[16:18], "big")
        if not self._first.startswith(_MAGIC) or size not in PAGE_SIZES:
            raise BadInput(
                f"namespace {self.ns.key!r} at version {self.head} does not hold a SQLite database: "
                f"page 0 says page size {size}; export it with the tool that wrote it"
            )
        self.page_size = size

    def _fetch(self, page: int) -> bytes:
        wanted = self._read_ahead(page)
        version = self._version()
        answers = self._store.read(self.ns, [PageRead(each, version) for each in wanted])
        for each, answer in zip(wanted, answers, strict=True):
            if answer.data:
                self._keep(each, answer.data)
        return answers[0].data or bytes(self.page_size)

    def _read_ahead(self, page: int) -> list[int]:
        """The page, and more after it when misses follow each other in order."""
        # Doubles while misses follow each other and falls back to one page: a scan soon costs a round trip for many pages,
        # a lookup by an index never pays for neighbours.
        self._run = min(self._run * 2, VFS_READ_AHEAD_PAGES_MAX) if page == self._next_page else 1
        end = min(page + self._run, max(self.size_pages, page + 1))
        wanted = [page, *(each for each in range(page + 1, end) if each not in self._cache)]
        self._next_page = end
        return wanted[:STORE_READ_PAGES_MAX]

    def _keep(self, page: int, data: bytes) -> None:
        self._cache[page] = data
        self._cache.move_to_end(page)
        while len(self._cache) > self._cache_pages_max:
            self._cache.popitem(last=False)

    # --- writing -----------------------------------------------------------------------------

    def write(self, page: int, data: bytes) -> None:
        """Buffer one page; beyond the bound, content is written ahead and only its hash kept."""
        if page == 0:
            # SQLite has counted its own change: the next transaction's number must differ from this one, too.
            self._counter = max(self._counter, _U32.unpack_from(data, _COUNTER_START)[0])
            data = without_counter(data)
        self._ahead.pop(page, None)
        self._dirty[page] = data
        if len(self._dirty) > VFS_DIRTY_PAGES_MAX:
            self._write_ahead([each for each in self._dirty if each])

    def _write_ahead(self, pages: Sequence[int]) -> None:
        for start in range(0, len(pages), STORE_WRITE_PAGES_MAX):
            batch = pages[start : start + STORE_WRITE_PAGES_MAX]
            hashes = self._store.write(self.ns, [self._dirty[page] for page in batch])
            for page, content in zip(batch, hashes, strict=True):
                self._ahead[page] = content
                del self._dirty[page]

    @property
    def dirty(self) -> bool:
        """True while there are written pages that are not committed."""
        return bool(self._dirty or self._ahead)

    def commit(self) -> None:
        """What was written since :meth:`begin`, as one commit. Raises what the store raises."""
        commit_together(self._store, [self], self._new_key())

    def prepare(self, inline_pages: int) -> NamespaceCommit | None:
        """This namespace's part of a commit; None where nothing changed. At most ``inline_pages`` inline."""
        self._blank_trunk()
        # With its counter blanked it is as it was: SQLite writes page 0 with each commit, if only to count.
        if 0 in self._dirty and self._first == self._dirty[0]:
            del self._dirty[0]
        if self.dirty and self._anchors and self._anchor is None and 0 not in self._ahead:
            self._dirty.setdefault(0, self._first_page())  # to be named by its hash from now on
        count = len(self._dirty) + len(self._ahead)
        if not count:
            return None
        if count > STORE_COMMIT_PAGES_MAX:
            raise TooLarge(
                f"a transaction that changes {count} pages is over the store's bound of "
                f"{STORE_COMMIT_PAGES_MAX}; commit in smaller steps"
            )
        if count > inline_pages:
            self._write_ahead(list(self._dirty))
        writes = [PageWrite(page, blake3(data).digest(), data) for page, data in self._dirty.items()]
        writes += [PageWrite(page, content) for page, content in self._ahead.items()]
        read_set = None if self._read_set is None else frozenset(self._read_set)
        # Page 0 is read by each transaction and written by each that makes the database larger: with it in the read set all
        # would conflict with all.
        if read_set is not None and self.beside_others and not any(write.page == 0 for write in writes):
            read_set -= {0}
        anchored = self._weigh_anchor(writes)
        return NamespaceCommit(self.ns, self._version(), writes, read_set, anchored=anchored)

    def _weigh_anchor(self, writes: list[PageWrite]) -> bool:
        """Put page 0's committed content first, by its hash alone, so that a store which has another namespace
        under this key refuses the commit: mvstore remembers names, and takes any version where nothing was
        written (``docs/STORE.md``). Where page 0 changes, its later write counts."""
        if not self._anchors:
            return False
        self._next_anchor = next((write.hash for write in writes if write.page == 0), self._anchor)
        if self._anchor is None:
            return False
        writes.insert(0, PageWrite(0, self._anchor))
        return True

    def _blank_trunk(self) -> None:
        """Zero what the first freelist page does not use (the file format, section 1.5): SQLite leaves
        the bytes of a deleted page there, which would be stored again with each commit."""
        trunk = _U32.unpack_from(self._dirty.get(0) or self._first_page(), _TRUNK_START)[0] - 1
        data = self._dirty.get(trunk) if trunk > 0 else None
        if data is not None:
            used = 8 + 4 * int(_U32.unpack_from(data, 4)[0])
            self._dirty[trunk] = data[:used].ljust(len(data), b"\0")

    def accept(self, committed: Committed) -> None:
        """The commit is down: the written pages are the head's now."""
        count = len(self._dirty) + len(self._ahead) + (self._anchor is not None)
        size = 0 if 0 in self._ahead else self.size_pages
        # Their content went ahead and only hashes are here, so what the cache has is from before the commit.
        for page in self._ahead:
            self._cache.pop(page, None)
        if 0 in self._ahead:
            self._first = None
        for page, data in self._dirty.items():
            if page:
                self._keep(page, data)
            else:
                self._first = data
        if self._follow:
            self._forget_foreign(committed.changelog.get(self.ns.key))
        self.head = committed.version
        self.committed = committed
        # Only now that it is down: a hash that was never committed would have every later commit refused.
        self._anchor = self._next_anchor
        self.discard()
        if self.on_committed is not None:
            self.on_committed(count, size)

    def _forget_foreign(self, changed: Sequence[int] | None) -> None:
        if changed is None:
            self._forget(None)
        else:
            # What this commit wrote stands, though others changed it before: the store has it as the newest.
            self._forget([page for page in changed if page not in self._dirty])


def commit_together(store: BlockingStore, parts: Sequence[Pages], key: bytes) -> None:
    """One atomic commit of the dirty pages of one to sixteen databases over the same store.
    ``key``: the 16 bytes by which the store knows a retry. What need not travel goes inline as far as
    the store takes it: content written ahead costs a sync of its own."""
    inline_pages = STORE_COMMIT_INLINE_PAGES_MAX if store.traits.in_process else VFS_INLINE_PAGES_MAX
    prepared: list[tuple[Pages, NamespaceCommit]] = []
    for pages in parts:
        part = pages.prepare(inline_pages)
        if part is None:
            pages.discard()
            continue
        inline_pages -= sum(write.data is not None for write in part.pages)
        # The room for inline pages is one for the whole commit: the later ones get what the earlier leave.
        prepared.append((pages, part))
    if not prepared:
        return
    committed = store.commit(CommitRequest(key, [part for _, part in prepared], first_attempt=True))
    for pages, _ in prepared:
        pages.accept(committed)
