"""What the engine keeps in memory of each namespace in use. Room: store.

A :class:`NsState` is loaded from the tables on first use and changed only by
:meth:`Registry.publish`, after the SQLite commit that it tells of: nobody sees a head that is
not on disk. Changes of anything but the head make the state be loaded again.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterable

import apsw
from blake3 import blake3

from gateway.errors import NoNamespace
from gateway.limits import STORE_LOG_COMMITS_KEPT, STORE_NAMESPACES_CACHED_MAX
from gateway.store.base import LockInfo, Namespace, NamespaceInfo, OverlayBase
from gateway.store.embedded import versions
from gateway.store.embedded.pool import ConnectionPool
from gateway.store.embedded.sql import ask

_COLUMNS = (
    "rid, key, id, floor, base, snapshot, truncated, lock_owner, lock_snapshot, lock_nonce, rolling_back"
)


class NsState:
    """One namespace: ``written`` is its last commit's version (0: never), ``head`` that or its id."""

    __slots__ = (
        "chain",
        "head",
        "id",
        "key",
        "last_attempt",
        "lock",
        "named",
        "overlay",
        "rid",
        "truncated",
        "untrimmed",
        "written",
    )

    rid: int
    key: str
    id: int
    written: int
    head: int
    last_attempt: bytes
    truncated: int
    untrimmed: int
    lock: LockInfo | None
    named: int
    """The version at which it was given this key; 0 where it was made with it."""
    overlay: OverlayBase | None
    chain: tuple[tuple[int, int], ...]
    """The namespaces below, nearest first: (rid, version that it is frozen at)."""

    def info(self) -> NamespaceInfo:
        """As the admin API tells it."""
        cut = versions.text(self.truncated) if self.truncated else None
        return NamespaceInfo(self.key, versions.text(self.id), self.lock, self.overlay, cut)


def check_proof(ns: Namespace) -> None:
    """Raise :class:`NoNamespace` unless a key ``name:HASH`` comes with the proof of its hash (constant time)."""
    parts = ns.key.split(":")
    if len(parts) < 2:
        return
    try:
        proof = bytes.fromhex(ns.proof or "")
        wanted = bytes.fromhex(parts[1])
    except ValueError:
        raise not_found(ns.key) from None
    # In constant time: how long it takes must not tell how much of a guess was right.
    if not hmac.compare_digest(blake3(proof).digest(), wanted):
        raise not_found(ns.key)


def not_found(key: str) -> NoNamespace:
    """The error for a namespace that is not there, or whose proof is wrong: the same for both."""
    return NoNamespace(f"namespace {key!r:.200} not found; create it first", namespace=key[:200])


class Registry:
    """The states in use, at most :data:`STORE_NAMESPACES_CACHED_MAX` of them. Thread-safe."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._states: dict[str, NsState] = {}

    def cached(self, key: str) -> NsState | None:
        """The state if it is in memory."""
        return self._states.get(key)

    def find(self, key: str) -> NsState | None:
        """The namespace's state, or None if there is none of that key."""
        state = self._states.get(key)
        return state if state is not None else self._load(key)

    def get(self, ns: Namespace) -> NsState:
        """The state, after the proof. Raises :class:`NoNamespace`."""
        if ":" in ns.key:
            check_proof(ns)
        return self.require(ns.key)

    def require(self, key: str) -> NsState:
        """The state, the proof having been checked. Raises :class:`NoNamespace`."""
        state = self.find(key)
        if state is None:
            raise not_found(key)
        return state

    def publish(self, heads: Iterable[tuple[NsState, int, bytes]], stale: Iterable[str]) -> None:
        """Make committed heads visible: (state, version, attempt key); load ``stale`` keys anew at next use."""
        with self._lock:
            for state, version, attempt in heads:
                # Not `state` itself: it may have been pushed out and read anew meanwhile, and what others
                # see is what stands here.
                current = self._states.get(state.key)
                if current is not None and current.rid == state.rid:
                    current.last_attempt = attempt
                    current.written = version
                    current.head = version
            for key in stale:
                self._states.pop(key, None)

    def forget_all(self) -> None:
        """After a failure whose outcome on disk is unknown: load everything anew."""
        with self._lock:
            self._states.clear()

    def _load(self, key: str) -> NsState | None:
        # Under the lock, so that a commit published meanwhile is not overwritten by an older state.
        with self._lock:
            if key in self._states:
                return self._states[key]
            with self._pool.snapshot() as cursor:
                state = load(cursor, key)
            if state is not None:
                while len(self._states) >= STORE_NAMESPACES_CACHED_MAX:
                    del self._states[next(iter(self._states))]
                self._states[key] = state
            return state


def load(cursor: apsw.Cursor, key: str) -> NsState | None:
    """Read one namespace's row, its last commit and what it is laid over."""
    rows = ask(cursor, f"SELECT {_COLUMNS} FROM ns WHERE key = ?", (key,))
    if not rows:
        return None
    state = NsState()
    (state.rid, state.key, state.id, floor, base, snapshot, state.truncated, *lock) = rows[0]
    state.lock = _lock(*lock)
    # Due at once: how many commits were left untrimmed before the process began is not known.
    state.untrimmed = STORE_LOG_COMMITS_KEPT
    named = ask(cursor, "SELECT value FROM meta WHERE name = ?", (named_row(state.rid),))
    state.named = named[0][0] if named else 0
    newest = ask(
        cursor, "SELECT version, attempt FROM log WHERE ns = ? ORDER BY version DESC LIMIT 1", (state.rid,)
    )
    version, state.last_attempt = newest[0] if newest else (0, b"")
    # After a rollback the head is the lock's snapshot, which need not be a commit's; then no attempt is the
    # newest one either.
    state.written = max(version, floor or 0)
    if state.written != version:
        state.last_attempt = b""
    state.head = state.written or state.id
    state.overlay = None if base is None else OverlayBase(versions.text(base), versions.text(snapshot))
    state.chain = _chain(cursor, base, snapshot)
    return state


def named_row(rid: int) -> str:
    """The row of ``meta`` that tells when the namespace was renamed last."""
    return f"named:{rid}"


def _lock(owner: str | None, snapshot: int, nonce: str, rolling_back: int) -> LockInfo | None:
    if owner is None:
        return None
    return LockInfo(owner, versions.text(snapshot), nonce, bool(rolling_back))


def _chain(cursor: apsw.Cursor, base: int | None, snapshot: int) -> tuple[tuple[int, int], ...]:
    out: list[tuple[int, int]] = []
    while base is not None:
        row = ask(cursor, "SELECT rid, base, snapshot FROM ns WHERE id = ?", (base,))
        # The base was deleted underneath, which the engine refuses: only a damaged file has it. Its pages
        # then read as missing.
        if not row:
            break
        out.append((row[0][0], snapshot))
        _, base, snapshot = row[0]
    return tuple(out)
