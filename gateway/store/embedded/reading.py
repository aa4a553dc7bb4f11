"""Reads: pages at a version, content by hash, intervals, times. Never on the writer's connection. Room: store. Source: docs/STORE.md."""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence

import apsw

from gateway.errors import BadInput, Gone, StoreDamaged
from gateway.limits import STORE_INTERVAL_COMMITS_MAX, STORE_INTERVAL_PAGES_MAX
from gateway.store.base import PageContent, PageRead, TimeBounds, TimePoint
from gateway.store.embedded import versions
from gateway.store.embedded.content import unpack
from gateway.store.embedded.namespaces import NsState
from gateway.store.embedded.pool import ConnectionPool
from gateway.store.embedded.sql import ask

_PAGE = (
    "SELECT p.version, p.hash, b.enc, b.data FROM page p LEFT JOIN blob b ON b.id = p.blob"
    " WHERE p.ns = ? AND p.page = ? AND p.version <= ? ORDER BY p.version DESC LIMIT 1"
)
"""A LEFT JOIN: a version whose bytes are lost is damage, and not the version before it."""
_CONTENT = (
    "SELECT b.enc, b.data FROM content c LEFT JOIN blob b ON b.id = c.blob WHERE c.ns = ? AND c.hash = ?"
)
_INTERVAL = "SELECT version, pages FROM log WHERE ns = ? AND version BETWEEN ? AND ? ORDER BY version LIMIT ?"
_NOTHING = PageContent("", b"")


def read_pages(pool: ConnectionPool, state: NsState, reads: Sequence[PageRead]) -> list[PageContent]:
    """The pages in request order. Raises :class:`Gone` below the truncation mark, :class:`StoreDamaged`."""
    wanted = [_target(read) for read in reads]
    # One query is one moment by itself; several need a transaction to be of the same.
    if len(wanted) == 1:
        found = [pool.ask(lambda cursor: _read(cursor, state, *wanted[0]))]
    else:
        with pool.snapshot() as cursor:
            found = [_read(cursor, state, *target) for target in wanted]
    return [_content(*each) if each else _NOTHING for each in found]


def check_mark(state: NsState | None, reads: Sequence[PageRead]) -> None:
    """Raise :class:`Gone` for a read below the truncation mark. To be asked *after* reading: the mark
    is visible before the first version below it is removed, so pages found missing since are caught."""
    mark = state.truncated if state is not None else 0
    if not mark:
        return
    for read in reads:
        if read.hash is None and versions.parse(read.version) < mark:
            raise Gone(
                f"version {read.version} is before the truncation mark {versions.text(mark)}; "
                "read at the mark or later",
                truncated_before=versions.text(mark),
            )


def read_with(cursor: apsw.Cursor, state: NsState, reads: Sequence[PageRead]) -> list[PageContent]:
    """:func:`read_pages` on one cursor. Within a transaction, or on a snapshot."""
    found = [_read(cursor, state, *_target(read)) for read in reads]
    return [_content(*each) if each else _NOTHING for each in found]


_Found = tuple[str, bytes, int, bytes | None]


def _content(version: str, digest: bytes, enc: int, data: bytes | None) -> PageContent:
    if data is None:
        raise StoreDamaged(f"content {digest.hex()} is missing on disk", hash=digest.hex())
    return PageContent(version, unpack(digest, enc, data))


def _target(read: PageRead) -> tuple[int, str, int, bytes | None]:
    """Page, version as text and as integer, hash; checked. A read by hash does not consult the version."""
    if read.hash is not None:
        if len(read.hash) != 32:
            raise BadInput(f"hash of {len(read.hash)} bytes; a BLAKE3-256 hash has 32")
        return 0, read.version, 0, read.hash
    if not 0 <= read.page <= 0xFFFFFFFF:
        raise BadInput(f"page {read.page} is not a 32-bit page number")
    return read.page, read.version, versions.parse(read.version), None


def _read(
    cursor: apsw.Cursor, state: NsState, page: int, version: str, at: int, digest: bytes | None
) -> _Found | None:
    if digest is not None:
        return _read_hash(cursor, state, version, digest)
    rows = ask(cursor, _PAGE, (state.rid, page, at))
    # An overlay's own page hides its bases' at any version; each base is read as it was when it was laid
    # over.
    for rid, frozen_at in state.chain if not rows else ():
        rows = ask(cursor, _PAGE, (rid, page, frozen_at))
        if rows:
            break
    if not rows:
        return None
    found, digest, enc, data = rows[0]
    return versions.text(found), digest, enc, data


def _read_hash(cursor: apsw.Cursor, state: NsState, version: str, digest: bytes) -> _Found | None:
    for rid in (state.rid, *(rid for rid, _ in state.chain)):
        rows = ask(cursor, _CONTENT, (rid, digest))
        if rows:
            return version, digest, *rows[0]
    return None


def interval(
    cursor: apsw.Cursor, rid: int, after: int, to: int, *, inclusive: bool
) -> tuple[int, ...] | None:
    """The pages changed in (after, to] or (after, to), sorted; None where the change log cannot tell
    (``docs/STORE.md``, ``/stat``)."""
    if after > to:
        return None
    if after == to:
        return ()
    # Both ends must be in the log: where `after` is not, what came right behind it may have been trimmed,
    # too.
    rows = ask(cursor, _INTERVAL, (rid, after, to, STORE_INTERVAL_COMMITS_MAX + 1))
    if len(rows) < 2 or rows[0][0] != after or rows[-1][0] != to:
        return None
    pages: set[int] = set()
    for _, packed in rows[1:] if inclusive else rows[1:-1]:
        if packed is None:
            return None
        pages.update(unpack_pages(packed))
        if len(pages) > STORE_INTERVAL_PAGES_MAX:
            return None
    return tuple(sorted(pages))


def pack_pages(pages: Sequence[int]) -> bytes:
    """Page numbers as u32 little-endian."""
    packed = array.array("I", pages)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_pages(packed: bytes) -> array.array[int]:
    """The page numbers of :func:`pack_pages`."""
    pages = array.array("I", packed)
    if sys.byteorder == "big":
        pages.byteswap()
    return pages


def time_bounds(pool: ConnectionPool, t: int) -> TimeBounds:
    """The time keeper's points around ``t`` (Unix seconds)."""
    with pool.snapshot() as cursor:
        return bounds_with(cursor, t)


def bounds_with(cursor: apsw.Cursor, t: int) -> TimeBounds:
    """The same on one cursor. Within a transaction, or on a snapshot."""
    before = ask(cursor, "SELECT version, time FROM moment WHERE time < ? ORDER BY time DESC LIMIT 1", (t,))
    after = ask(cursor, "SELECT version, time FROM moment WHERE time >= ? ORDER BY time LIMIT 1", (t,))
    return TimeBounds(*(TimePoint(versions.text(r[0][0]), r[0][1]) if r else None for r in (before, after)))
