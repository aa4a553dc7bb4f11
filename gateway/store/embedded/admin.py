"""Namespaces made, renamed, deleted, locked and unlocked: each alone in its transaction. Room: store. Source: docs/STORE.md."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from gateway.errors import BadInput, Conflict, Gone, Unprocessable
from gateway.limits import STORE_LOCK_OWNER_BYTES_MAX, STORE_NAMESPACE_KEY_BYTES_MAX, STORE_OVERLAY_DEPTH_MAX
from gateway.store.base import LockInfo, OverlayBase
from gateway.store.embedded import versions
from gateway.store.embedded.namespaces import NsState, load, named_row, not_found
from gateway.store.embedded.sql import ask
from gateway.store.embedded.transaction import WriteTxn


def check_key(key: str) -> None:
    """Raise :class:`BadInput` for an empty key or one over its bound."""
    if not key or len(key.encode()) > STORE_NAMESPACE_KEY_BYTES_MAX:
        raise BadInput(
            f"namespace key of {len(key)} characters; it has 1 to {STORE_NAMESPACE_KEY_BYTES_MAX} bytes"
        )


def create(txn: WriteTxn, key: str, base: OverlayBase | None) -> None:
    """Raises :class:`Unprocessable` if it exists, :class:`Conflict` if the base is truncated beyond or locked."""
    if ask(txn.cursor, "SELECT 1 FROM ns WHERE key = ?", (key,)):
        raise Unprocessable(f"namespace {key!r:.200} exists already", namespace=key[:200])
    under = snapshot = None
    if base is not None:
        under, snapshot = versions.parse(base.ns_id), versions.parse(base.snapshot_version)
        # No higher than the head, or the base's next commits would show through what is called frozen.
        snapshot = min(snapshot, _check_base(txn, under, snapshot).head)
    txn.cursor.execute(
        "INSERT INTO ns(key, id, base, snapshot) VALUES(?, ?, ?, ?)",
        (key, txn.next_version(), under, snapshot),
    )
    txn.stale.append(key)


def _check_base(txn: WriteTxn, base: int, snapshot: int) -> NsState:
    rows = ask(txn.cursor, "SELECT key FROM ns WHERE id = ? AND key IS NOT NULL", (base,))
    if not rows:
        raise BadInput(f"overlay base {versions.text(base)} is no namespace's id")
    state = _state(txn, rows[0][0])
    if snapshot < state.truncated:
        raise Conflict(
            f"overlay base is truncated before {versions.text(state.truncated)}; fork at that or later"
        )
    if state.lock is not None:
        raise Conflict("overlay base is locked; fork it when the lock is released", owner=state.lock.owner)
    if snapshot >= txn.number << versions.ORDER_BITS:
        raise BadInput(
            f"overlay snapshot {versions.text(snapshot)} lies in the future; fork at the head or before"
        )
    if len(state.chain) + 1 >= STORE_OVERLAY_DEPTH_MAX:
        raise BadInput(f"overlay over {len(state.chain) + 1} others; the bound is {STORE_OVERLAY_DEPTH_MAX}")
    # Asked again by whoever holds it: its first answer may have been lost.
    return state


def rename(txn: WriteTxn, old_key: str, new_key: str) -> None:
    """Raises :class:`NotFound`, or :class:`Unprocessable` if the new key is taken."""
    state = _state(txn, old_key)
    if ask(txn.cursor, "SELECT 1 FROM ns WHERE key = ?", (new_key,)):
        raise Unprocessable(f"namespace {new_key!r:.200} exists already", namespace=new_key[:200])
    txn.cursor.execute("UPDATE ns SET key = ? WHERE rid = ?", (new_key, state.rid))
    txn.cursor.execute(
        "INSERT OR REPLACE INTO meta(name, value) VALUES(?, ?)", (named_row(state.rid), txn.next_version())
    )
    txn.stale += [old_key, new_key]


def delete(txn: WriteTxn, key: str) -> None:
    """Take its name; background work removes the rows. Raises :class:`Conflict` with overlays on it."""
    state = _state(txn, key)
    if ask(txn.cursor, "SELECT 1 FROM ns WHERE base = ? LIMIT 1", (state.id,)):
        raise Conflict(f"namespace {key!r:.200} has overlays on it; delete those first")
    # The row stays until the last of its pages has gone: a crash in between leaves no pages without an owner.
    txn.cursor.execute("UPDATE ns SET key = NULL, base = NULL, lock_owner = NULL WHERE rid = ?", (state.rid,))
    txn.stale.append(key)


def acquire(txn: WriteTxn, key: str, owner: str, version: int | None) -> None:
    """Lock at ``version`` (the head if None). Raises :class:`Conflict`, with ``owner`` if another has it."""
    if not owner or len(owner.encode()) > STORE_LOCK_OWNER_BYTES_MAX:
        raise BadInput(f"lock owner of {len(owner.encode())} bytes; it has 1 to {STORE_LOCK_OWNER_BYTES_MAX}")
    state = _state(txn, key)
    if state.lock is not None:
        if state.lock.owner != owner:
            raise Conflict(
                f"namespace {key!r:.200} is locked by {state.lock.owner!r}", owner=state.lock.owner
            )
        return
    at = state.head if version is None else version
    if at > state.head:
        raise Conflict(f"lock version {versions.text(at)} is newer than the head {versions.text(state.head)}")
    if at < state.truncated:
        raise Conflict(
            f"lock version {versions.text(at)} is before the truncation mark {versions.text(state.truncated)}"
        )
    # The head is above every overlay's snapshot by itself.
    if version is not None:
        _check_children(txn, state, at)
    txn.cursor.execute(
        "UPDATE ns SET lock_owner = ?, lock_snapshot = ?, lock_nonce = ?, rolling_back = 0 WHERE rid = ?",
        # The nonce tells this lock from the next of the same owner: a rollback that was slow must not go on
        # under that one.
        (owner, at, secrets.token_hex(16), state.rid),
    )
    txn.stale.append(key)


def release(txn: WriteTxn, key: str, owner: str) -> None:
    """Unlock and keep the writes. Raises :class:`Unprocessable` (not locked by ``owner``), :class:`Conflict`."""
    state = _state(txn, key)
    if held_lock(state, owner).rolling_back:
        raise Conflict(f"the lock of {key!r:.200} is being rolled back")
    txn.cursor.execute("UPDATE ns SET lock_owner = NULL WHERE rid = ?", (state.rid,))
    txn.stale.append(key)


def begin_rollback(txn: WriteTxn, key: str, owner: str) -> tuple[int, str, int]:
    """Mark the lock as rolling back; answers (rid, nonce, snapshot). May be called again to go on."""
    state = _state(txn, key)
    lock = held_lock(state, owner)
    snapshot = versions.parse(lock.snapshot_version)
    # Marked before the first page goes: after a crash in between nobody but the owner may go on, and only
    # with the rollback.
    if not lock.rolling_back:
        _check_children(txn, state, snapshot)
        txn.cursor.execute("UPDATE ns SET rolling_back = 1 WHERE rid = ?", (state.rid,))
        txn.stale.append(key)
    return state.rid, lock.nonce, snapshot


def finish_rollback(txn: WriteTxn, key: str, nonce: str, snapshot: int) -> None:
    """The newer page versions are gone: lower the head, clear the log above it, unlock."""
    state = _state(txn, key)
    if state.lock is None or state.lock.nonce != nonce:
        raise Gone(f"the lock of {key!r:.200} is gone")
    txn.cursor.execute("DELETE FROM log WHERE ns = ? AND version > ?", (state.rid, snapshot))
    txn.cursor.execute("UPDATE ns SET lock_owner = NULL, floor = ? WHERE rid = ?", (snapshot, state.rid))
    txn.stale.append(key)


def mark_truncated(txn: WriteTxn, key: str, before: int) -> tuple[int, int]:
    """Set the truncation mark as far as may be: the head, a lock's and overlays' snapshots hold it back.
    Answers (rid, mark)."""
    state = _state(txn, key)
    mark = _mark(txn, state, before)
    if mark > state.truncated:
        txn.cursor.execute("UPDATE ns SET truncated = ? WHERE rid = ?", (mark, state.rid))
        txn.stale.append(key)
    return state.rid, mark


def would_truncate(txn: WriteTxn, key: str, before: int) -> tuple[int, int]:
    """The same answer, and nothing changed."""
    state = _state(txn, key)
    return state.rid, _mark(txn, state, before)


def _mark(txn: WriteTxn, state: NsState, before: int) -> int:
    # Overlays and locks read at their snapshots for as long as they are there, so no page of those may go.
    bounds = [before, state.head]
    if state.lock is not None:
        bounds.append(versions.parse(state.lock.snapshot_version))
    oldest, _ = _children(txn, state)
    if oldest is not None:
        bounds.append(oldest)
    return min(bounds)


def held_lock(state: NsState, owner: str) -> LockInfo:
    """The lock that ``owner`` holds. Raises :class:`Unprocessable` where it holds none."""
    if not owner:
        raise BadInput("lock owner is empty")
    if state.lock is None:
        raise Unprocessable(f"namespace {state.key!r:.200} is not locked")
    if state.lock.owner != owner:
        raise Unprocessable(
            f"namespace {state.key!r:.200} is locked by {state.lock.owner!r}", owner=state.lock.owner
        )
    return state.lock


def create_if_missing(key: str) -> Callable[[WriteTxn], None]:
    """For namespaces made on first use: two that come at once both find it there."""

    def apply(txn: WriteTxn) -> None:
        if not ask(txn.cursor, "SELECT 1 FROM ns WHERE key = ?", (key,)):
            create(txn, key, None)

    return apply


def _check_children(txn: WriteTxn, state: NsState, version: int) -> None:
    _, newest = _children(txn, state)
    if newest is not None and version < newest:
        raise Conflict(
            f"version {versions.text(version)} is before an overlay's snapshot {versions.text(newest)}"
        )


def _children(txn: WriteTxn, state: NsState) -> tuple[int | None, int | None]:
    """The oldest and the newest snapshot that an overlay on this namespace reads at."""
    # Deleted overlays have no base any more (delete), so they hold nothing back though their rows are still
    # there.
    oldest, newest = ask(
        txn.cursor, "SELECT min(snapshot), max(snapshot) FROM ns WHERE base = ?", (state.id,)
    )[0]
    return oldest, newest


def _state(txn: WriteTxn, key: str) -> NsState:
    state = load(txn.cursor, key)
    if state is None:
        raise not_found(key)
    return state
