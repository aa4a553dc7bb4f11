"""Commits: prepared in the caller's thread, decided and applied in the writer. Room: store.

The rules are those of ``/batch/commit`` in ``docs/STORE.md``. Preparing does what needs no
order: bounds, hashes, compression. Applying first checks every namespace and only then changes
anything, so a refused commit leaves its transaction as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.errors import BadInput, Conflict, Gone, PreconditionFailed, TooLarge
from gateway.limits import (
    STORE_COMMIT_INLINE_PAGES_MAX,
    STORE_COMMIT_NAMESPACES_MAX,
    STORE_COMMIT_PAGES_MAX,
    STORE_LOG_PAGES_MAX,
    STORE_PAGE_CHECK_PAGES_MAX,
    STORE_READ_SET_PAGES_MAX,
)
from gateway.store.base import CommitRequest, Committed, NamespaceCommit
from gateway.store.embedded import versions
from gateway.store.embedded.attempts import Attempts
from gateway.store.embedded.content import PackedContent, pack
from gateway.store.embedded.namespaces import NsState, Registry
from gateway.store.embedded.reading import interval, pack_pages
from gateway.store.embedded.sql import ask
from gateway.store.embedded.transaction import WriteTxn

_NOTHING_PACKED: Final[Mapping[bytes, PackedContent]] = {}
_OWN = "SELECT 1 FROM log WHERE ns = ? AND version = ?"
_NEWEST = "SELECT version FROM page WHERE ns = ? AND page = ? ORDER BY version DESC LIMIT 1"


class CommitPart(NamedTuple):
    """One namespace's part: its pages (page -> hash), inline content by hash, and the read set to check by."""

    key: str
    rid: int
    assumed: int
    pages: Mapping[int, bytes]
    inline: Mapping[bytes, PackedContent]
    read_set: frozenset[int] | None


class Prepared(NamedTuple):
    """A commit that can be applied. ``size`` (bytes) and ``weight`` (pages) count against the writer's bounds;
    ``contents`` is what will be looked up, as (namespace, hash)."""

    attempt: bytes
    first_attempt: bool
    lock_owner: str | None
    parts: list[CommitPart]
    weight: int
    size: int
    contents: list[tuple[int, bytes]]


def prepare(
    request: CommitRequest, registry: Registry, packed: Mapping[bytes, PackedContent] = _NOTHING_PACKED
) -> Prepared:
    """Check bounds, proofs and hashes; compress what is not in ``packed`` (by hash). Raises
    :class:`BadInput` and its kind."""
    count = len(request.namespaces)
    if not 1 <= count <= STORE_COMMIT_NAMESPACES_MAX:
        raise PreconditionFailed(
            f"commit over {count} namespaces; between 1 and {STORE_COMMIT_NAMESPACES_MAX} are taken"
        )
    if len(request.idempotency_key) not in (0, 16):
        raise BadInput(
            f"idempotency key of {len(request.idempotency_key)} bytes; it has 16 (or none: no retries)"
        )
    weight, reads = _check_pages(request)
    # Past these a commit is held against the whole namespace, not page by page: to look each page up within
    # the transaction would hold up every other writer.
    by_page = weight < STORE_PAGE_CHECK_PAGES_MAX and reads <= STORE_READ_SET_PAGES_MAX
    parts = [_part(each, registry, by_page, packed) for each in request.namespaces]
    if count > 1 and len({part.key for part in parts}) != count:
        raise BadInput("a commit names the same namespace twice; put its pages together")
    contents = [(part.rid, digest) for part in parts for digest in part.pages.values()]
    size = sum(len(packed.data) for part in parts for packed in part.inline.values())
    return Prepared(
        request.idempotency_key, request.first_attempt, request.lock_owner, parts, weight, size, contents
    )


def _check_pages(request: CommitRequest) -> tuple[int, int]:
    """How many pages the commit writes, and how many its read sets hold. Raises :class:`TooLarge`."""
    weight = reads = inline = 0
    for each in request.namespaces:
        weight += len(each.pages)
        reads += len(each.read_set or ())
        for page in each.pages:
            inline += page.data is not None
    if weight > STORE_COMMIT_PAGES_MAX:
        raise TooLarge(f"commit of {weight} pages; the bound is {STORE_COMMIT_PAGES_MAX}, commit in parts")
    if inline > STORE_COMMIT_INLINE_PAGES_MAX:
        raise TooLarge(
            f"{inline} inline pages; the bound is {STORE_COMMIT_INLINE_PAGES_MAX}, write the others ahead"
        )
    return weight, reads


def _part(
    each: NamespaceCommit, registry: Registry, by_page: bool, packed: Mapping[bytes, PackedContent]
) -> CommitPart:
    state = registry.get(each.namespace)
    pages: dict[int, bytes] = {}
    inline: dict[bytes, PackedContent] = {}
    for page, digest, data in each.pages:
        if len(digest) != 32:
            raise BadInput(f"hash of {len(digest)} bytes; a BLAKE3-256 hash has 32")
        if not 0 <= page <= 0xFFFFFFFF:
            raise BadInput(f"page {page} is not a 32-bit page number")
        pages[page] = digest
        if data is not None:
            inline[digest] = packed.get(digest) or pack(data, digest)
    return CommitPart(
        state.key, state.rid, versions.parse(each.version), pages, inline, each.read_set if by_page else None
    )


def apply(
    txn: WriteTxn, prepared: Prepared, registry: Registry, attempts: Attempts, *, settles: bool
) -> Committed:
    """Decide and write one commit. ``settles``: what it names needs no grace any more. Raises
    :class:`Conflict`, :class:`Gone`, ``NotFound``."""
    # Anew, within the transaction: what preparing saw may be over by now.
    states = [registry.require(part.key) for part in prepared.parts]
    # Before every check: a commit whose answer was lost finds its own version in its way, and would be
    # refused for it.
    again = _same_attempt(txn, prepared, states[0], attempts)
    if again is not None:
        return Committed(versions.text(again))
    # All that may refuse comes before next_version(), the first change: a refused commit shares its transaction
    # with others.
    blobs = [_find_blobs(txn, state, part) for state, part in zip(states, prepared.parts, strict=True)]
    for state, part in zip(states, prepared.parts, strict=True):
        _check_lock(state, prepared.lock_owner)
        _check_conflict(txn, state, part)
    changelog = {}
    for state, part in zip(states, prepared.parts, strict=True):
        others = _others(txn, state, part)
        if others is not None:
            changelog[part.key] = others
    version = txn.next_version()
    for state, part, found in zip(states, prepared.parts, blobs, strict=True):
        _write(txn, state, part, found, version, prepared.attempt)
        if settles:
            txn.settle(state.rid, found.own)
    attempts.record(txn, prepared.attempt, states[0].rid, version)
    return Committed(versions.text(version), changelog)


def _same_attempt(txn: WriteTxn, prepared: Prepared, state: NsState, attempts: Attempts) -> int | None:
    if not prepared.attempt:
        return None
    version, attempt = txn.written(state)
    # The namespace's newest commit first: a retry comes at once as a rule, and then no table has to be
    # asked.
    if attempt == prepared.attempt:
        return version
    return None if prepared.first_attempt else attempts.find(txn, prepared.attempt, state.rid)


class _Blobs(NamedTuple):
    """Blob ids by hash: the namespace's own content, and what only a base of it has."""

    own: dict[bytes, int]
    lent: dict[bytes, int]


def _find_blobs(txn: WriteTxn, state: NsState, part: CommitPart) -> _Blobs:
    """Where the pages are that are not inline. Raises :class:`Gone` for a hash never written."""
    found = _Blobs({}, {})
    for digest in part.pages.values():
        if digest in part.inline or digest in found.own or digest in found.lent:
            continue
        blob = txn.find_content(state.rid, digest)
        if blob is None and (lent := txn.find_lent((rid for rid, _ in state.chain), digest)) is not None:
            found.lent[digest] = lent
        elif blob is None:
            raise Gone(
                f"bad page reference: content {digest.hex()} was never written here, or was collected",
                hash=digest.hex(),
            )
        else:
            found.own[digest] = blob
    return found


def _check_lock(state: NsState, owner: str | None) -> None:
    lock = state.lock
    if lock is None:
        if owner is not None:
            raise Gone(f"{owner!r:.80} does not own the lock of {state.key!r}: it is not locked")
    elif owner is None:
        raise Conflict(f"namespace {state.key!r} is locked", owner=lock.owner)
    elif lock.owner != owner:
        raise Gone(f"{owner!r:.80} no longer owns the lock of {state.key!r}", owner=lock.owner)
    elif lock.rolling_back:
        raise Gone(f"the lock of {state.key!r} is being rolled back")


def _check_conflict(txn: WriteTxn, state: NsState, part: CommitPart) -> None:
    written, _ = txn.written(state)
    if part.assumed > (written or state.id):
        raise Conflict(f"assumed version {versions.text(part.assumed)} is ahead of the head of {part.key!r}")
    _check_same(txn, state, part, written)
    # Nobody committed since: what was read cannot have changed.
    if part.assumed >= written:
        return
    if part.read_set is None:
        raise Conflict(
            f"{part.key!r} was committed to after the assumed version {versions.text(part.assumed)}"
        )
    # Commits of this very transaction, which the tables do not hold yet, may have written the page.
    txn.flush()
    for page in part.read_set:
        rows = ask(txn.cursor, _NEWEST, (state.rid, page))
        if rows and rows[0][0] > part.assumed:
            raise Conflict(f"page {page} of {part.key!r} changed after the assumed version", page=page)


def _check_same(txn: WriteTxn, state: NsState, part: CommitPart, written: int) -> None:
    """Raise :class:`Conflict` where the assumed version is of another namespace that had this key: it was
    deleted and made again, or another was renamed to it. Its pages would be written over these."""
    head = written or state.id
    if part.assumed in (head, 0):
        return  # version zero is no namespace's: it assumes nothing
    older = part.assumed < min(state.id, head)
    if not older and part.assumed < state.named and part.read_set is not None:
        txn.flush()
        older = not ask(txn.cursor, _OWN, (state.rid, part.assumed))
    if older:
        raise Conflict(
            f"assumed version {versions.text(part.assumed)} is not of the namespace that {part.key!r} names now: "
            "it was deleted and made again, or renamed; read the head anew"
        )


def _others(txn: WriteTxn, state: NsState, part: CommitPart) -> tuple[int, ...] | None:
    """The pages that others changed since the assumed version; None where the log cannot tell."""
    written, _ = txn.written(state)
    if part.assumed >= written:
        return ()
    txn.flush()
    return interval(txn.cursor, state.rid, part.assumed, written, inclusive=True)


def _write(
    txn: WriteTxn, state: NsState, part: CommitPart, found: _Blobs, version: int, attempt: bytes
) -> None:
    for page, digest in part.pages.items():
        blob = _blob(txn, state, part, found, digest)
        txn.put_page(state.rid, page, version, digest, blob)
    # NULL: too many to tell, which makes an interval over it unknown: "/stat" of docs/STORE.md says so with null.
    changed = pack_pages(sorted(part.pages)) if len(part.pages) < STORE_LOG_PAGES_MAX else None
    txn.put_commit(state, version, attempt, changed)


def _blob(txn: WriteTxn, state: NsState, part: CommitPart, found: _Blobs, digest: bytes) -> int:
    """The blob id of a page's content, one more reference counted. What a base has is copied, so that the base may
    let it go."""
    packed = part.inline.get(digest)
    if packed is not None:
        return txn.put_content(state.rid, packed, 1)
    blob = found.own.get(digest)
    if blob is None:
        # Not kept from before: of two namespaces in this commit the first may have copied it in.
        blob = txn.find_content(state.rid, digest)
    if blob is None:
        return txn.copy_content(state.rid, digest, found.lent[digest], 1)
    txn.refer(state.rid, digest, 1)
    return blob
