"""One SQLite transaction of the writer: what several commits put into it. Room: store.

Rows are gathered and go to SQLite many at a call: the cost of one small commit is mostly that of
calling SQLite (and of giving up the interpreter's lock for each call), so calls are what is saved. Checks always come before the first
change, so a commit that is refused leaves nothing behind in the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw

from gateway.errors import StoreDamaged
from gateway.limits import STORE_COPIES_HELD_MAX, STORE_LOG_COMMITS_KEPT
from gateway.store.embedded import versions
from gateway.store.embedded.content import PackedContent
from gateway.store.embedded.namespaces import NsState
from gateway.store.embedded.sql import Insert, Select, ask

_NEW_CONTENT = Insert("INTO content(ns, hash, blob, refs, written)", 5)
_NEW_BLOB = Insert("INTO blob(id, enc, data)", 3)
_NEW_PAGE = Insert("INTO page(ns, page, version, hash, blob)", 5)
_NEW_LOG = Insert("INTO log(ns, version, attempt, pages)", 4)
_NEW_ATTEMPT = Insert("OR REPLACE INTO attempt(bucket, key, version)", 3)
_REFER = "UPDATE content SET refs = refs + ?, written = max(written, ?) WHERE ns = ? AND hash = ?"
_SETTLE = "UPDATE content SET written = 0 WHERE ns = ? AND hash = ?"
_FIND = "SELECT blob FROM content WHERE ns = ? AND hash = ?"
_FIND_MANY = Select(
    "c.blob, v.column1, v.column2", "CROSS JOIN content c ON c.ns = v.column1 AND c.hash = v.column2", 2
)
_TRIM = (
    "DELETE FROM log WHERE ns = ? AND version < "
    "(SELECT version FROM log WHERE ns = ? ORDER BY version DESC LIMIT 1 OFFSET ?)"
)


class WriteTxn:
    """Begun by the writer; ``number`` is the commit number shared by all in it, ``now`` Unix seconds."""

    __slots__ = (
        "_absent",
        "_ahead",
        "_attempts",
        "_blobs",
        "_fresh",
        "_known",
        "_logs",
        "_pages",
        "_references",
        "_settled",
        "cursor",
        "heads",
        "next_blob",
        "now",
        "number",
        "order",
        "stale",
    )

    def __init__(self, cursor: apsw.Cursor, number: int, next_blob: int, now: int) -> None:
        self.cursor = cursor
        self.number = number
        self.order = 0
        self.next_blob = next_blob
        self.now = now
        self.heads: dict[int, tuple[NsState, int, bytes]] = {}
        self.stale: list[str] = []
        self._known: dict[tuple[int, bytes], int] = {}
        self._fresh: dict[tuple[int, bytes], int] = {}
        self._references: dict[tuple[int, bytes], int] = {}
        self._settled: list[tuple[int, bytes]] = []
        self._absent: set[tuple[int, bytes]] = set()
        self._ahead: dict[tuple[int, bytes], int] = {}
        self._blobs: list[tuple[int, int, bytes]] = []
        self._pages: list[tuple[int, int, int, bytes, int]] = []
        self._logs: list[tuple[int, int, bytes, bytes | None]] = []
        self._attempts: list[tuple[int, bytes, int]] = []

    def next_version(self) -> int:
        """A version above all before it: the transaction's commit number and the next order in it."""
        version = self.number << versions.ORDER_BITS | self.order
        self.order += 1
        return version

    def look_up(self, keys: Sequence[tuple[int, bytes]]) -> None:
        """Ask for many contents (namespace, hash) at once, so that :meth:`find_content` knows them."""
        for blob, *key in _FIND_MANY.run(self.cursor, keys):
            self._known[key[0], key[1]] = blob
        # All of them, not just the ones not found: find_content() asks _known first, and this is one call.
        self._absent.update(keys)

    def find_content(self, rid: int, digest: bytes) -> int | None:
        """The blob id of content that the namespace has, or None."""
        key = (rid, digest)
        blob = self._known.get(key)
        if blob is None and key not in self._absent:
            rows = ask(self.cursor, _FIND, key)
            if not rows:
                return None
            blob = self._known[key] = rows[0][0]
        return blob

    def find_lent(self, bases: Iterable[int], digest: bytes) -> int | None:
        """The blob id of content that one of ``bases``, the nearest first, has; or None."""
        return next((blob for base in bases if (blob := self.find_content(base, digest)) is not None), None)

    def copy_content(self, rid: int, digest: bytes, blob: int, references: int) -> int:
        """Store what another namespace has under ``blob`` for this one too; answers its own blob id."""
        # What SQLite has not been given yet cannot be read back from it.
        if len(self._blobs) >= STORE_COPIES_HELD_MAX or blob >= self._first_held():
            self.flush()
        rows = ask(self.cursor, "SELECT enc, data FROM blob WHERE id = ?", (blob,))
        if not rows:
            raise StoreDamaged(f"content {digest.hex()} is missing on disk", hash=digest.hex())
        return self.put_content(rid, PackedContent(digest, *rows[0]), references)

    def _first_held(self) -> int:
        """The first blob id that SQLite has not been given yet."""
        return self._blobs[0][0] if self._blobs else self.next_blob

    def put_content(self, rid: int, packed: PackedContent, references: int) -> int:
        """Store content unless it is there; answers its blob id. Without references it is written
        ahead of a commit, and kept for the grace; what a commit brings along needs none."""
        blob = self.find_content(rid, packed.hash)
        key = (rid, packed.hash)
        if not references:
            self._ahead[key] = self.now
        if blob is not None:
            self.refer(rid, packed.hash, references)
            return blob
        blob = self._known[key] = self.next_blob
        self.next_blob += 1
        self._fresh[key] = references
        self._blobs.append((blob, packed.enc, packed.data))
        return blob

    def refer(self, rid: int, digest: bytes, references: int) -> None:
        """Count more references to content that is there, or none: then its time is renewed."""
        key = (rid, digest)
        if key in self._fresh:
            # Its row is not written yet, so an UPDATE would find nothing.
            self._fresh[key] += references
        else:
            self._references[key] = self._references.get(key, 0) + references

    def settle(self, rid: int, digests: Iterable[bytes]) -> None:
        """Their grace is over, unless they were written ahead anew in this very transaction."""
        self._settled += [(rid, digest) for digest in digests if (rid, digest) not in self._ahead]

    def put_page(self, rid: int, page: int, version: int, digest: bytes, blob: int) -> None:
        """A page's new version. Its content has been put or referred to."""
        self._pages.append((rid, page, version, digest, blob))

    def put_commit(self, state: NsState, version: int, attempt: bytes, pages: bytes | None) -> None:
        """The namespace's change log entry, and its head once the transaction is on disk."""
        self._logs.append((state.rid, version, attempt, pages))
        self.heads[state.rid] = (state, version, attempt)

    def put_attempt(self, bucket: int, key: bytes, version: int) -> None:
        """An idempotency record."""
        self._attempts.append((bucket, key, version))

    def written(self, state: NsState) -> tuple[int, bytes]:
        """The version and attempt key of the namespace's last commit, those of this transaction included."""
        head = self.heads.get(state.rid)
        return (head[1], head[2]) if head else (state.written, state.last_attempt)

    def flush(self) -> None:
        """Give SQLite what was gathered, so that its tables can be asked."""
        if self._fresh:
            known, times = self._known, self._ahead
            # In this order: references count on rows of content, and what was settled must not be renewed
            # by a reference.
            rows = [(*key, known[key], n, times.get(key, 0)) for key, n in self._fresh.items()]
            _NEW_CONTENT.run(self.cursor, rows)
            self._fresh = {}
        if self._references:
            times = self._ahead
            more = [(n, times.get(key, 0), *key) for key, n in self._references.items()]
            self.cursor.executemany(_REFER, more)
            self._references = {}
        if self._settled:
            self.cursor.executemany(_SETTLE, self._settled)
            self._settled = []
        if self._blobs:
            _NEW_BLOB.run(self.cursor, self._blobs)
            self._blobs = []
        self._flush_commits()

    def _flush_commits(self) -> None:
        if self._pages:
            _NEW_PAGE.run(self.cursor, self._pages)
            self._pages = []
        if self._logs:
            _NEW_LOG.run(self.cursor, self._logs)
            self._logs = []
        if self._attempts:
            _NEW_ATTEMPT.run(self.cursor, self._attempts)
            self._attempts = []

    def trim_logs(self) -> None:
        """Drop change log entries that no interval reaches, once in so many commits of a namespace."""
        for rid, (state, _, _) in self.heads.items():
            state.untrimmed += 1
            # Once in so many: a DELETE at each commit would cost as much as its own row.
            if state.untrimmed >= STORE_LOG_COMMITS_KEPT:
                state.untrimmed = 0
                self.cursor.execute(_TRIM, (rid, rid, STORE_LOG_COMMITS_KEPT))
