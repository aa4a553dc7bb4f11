"""The Store interface: whatever serves pages by mvstore's rules. Room: store.

Values are plain and immutable; every engine takes and answers the same ones. A *version* is
20 lower-case hex digits, so text order is version order. Source: ``docs/STORE.md`` and the
protocol of mvSQLite 0.3.22.

Two faces of one interface: :class:`Store` is awaited on the event loop, :class:`BlockingStore`
is called from a SQLite thread. Engines raise only classes of :mod:`gateway.errors`:
``NoNamespace`` (or a wrong proof), ``Conflict``, ``Gone`` (a hash never written,
a lock lost, a read below the truncation mark), ``BadInput``, ``TooLarge``,
``PreconditionFailed`` (namespaces out of bounds), ``StoreUnavailable``, ``StoreDamaged``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from gateway.errors import GatewayError

Version = str
"""20 lower-case hex digits: 8 bytes commit version big-endian, 2 bytes order within it."""

OWN_KEYS = "mvgateway~"
"""Before the keys of the gateway's own namespaces. They are made on purpose, never by use."""

ZERO_VERSION: Version = "0" * 20
MAX_VERSION: Version = "f" * 20


class Namespace(NamedTuple):
    """A namespace as a client names it: its key and, for ``name:HASH`` keys, the proof in hex."""

    key: str
    proof: str | None = None


@dataclass(frozen=True, slots=True)
class Stat:
    """What ``/stat`` answers. ``interval``: pages changed in (from_version, version]; None = unknown."""

    version: Version
    read_only: bool = False
    interval: tuple[int, ...] | None = None
    metadata: str = ""


class PageRead(NamedTuple):
    """One page wanted: newest at or below ``version``, or by content ``hash`` (32 bytes) if given."""

    page: int
    version: Version
    hash: bytes | None = None


class PageContent(NamedTuple):
    """One page's answer. A page that never existed: ``("", b"")``."""

    version: Version
    data: bytes


class PageWrite(NamedTuple):
    """One page of a commit: its content's BLAKE3-256 ``hash`` (32 bytes), and ``data`` if inline."""

    page: int
    hash: bytes
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class NamespaceCommit:
    """One namespace's part of a commit, on the assumed head ``version``.

    ``anchored``: one of the pages names, by its hash alone, content that the namespace is known to hold. A store
    that has another namespace under the key by now has no such content, and refuses the commit as ``Gone``."""

    namespace: Namespace
    version: Version
    pages: Sequence[PageWrite]
    read_set: frozenset[int] | None = None
    metadata: str | None = None
    anchored: bool = False


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """One atomic commit over 1 to 16 namespaces. ``idempotency_key``: 16 bytes."""

    idempotency_key: bytes
    namespaces: Sequence[NamespaceCommit]
    first_attempt: bool = False
    lock_owner: str | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit's answer: its version, and per namespace key the pages that *others* changed
    between the assumed version and this one (a namespace is left out when that is unknown)."""

    version: Version
    changelog: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class TimePoint(NamedTuple):
    """A recorded (version, seconds since the Unix epoch) of the time keeper."""

    version: Version
    time: int


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """``/time2version``: ``after`` newest recorded point before t; ``not_after`` oldest at or after t."""

    after: TimePoint | None
    not_after: TimePoint | None


@dataclass(frozen=True, slots=True)
class OverlayBase:
    """What a fork is laid over: the base's id (20 hex digits) and the version it is frozen at."""

    ns_id: str
    snapshot_version: Version


@dataclass(frozen=True, slots=True)
class LockInfo:
    """A namespace lock as stored: owner, snapshot version, nonce (hex), rolling back or not."""

    owner: str
    snapshot_version: Version
    nonce: str
    rolling_back: bool = False


@dataclass(frozen=True, slots=True)
class NamespaceInfo:
    """One namespace as the admin API tells it. ``ns_id``: 20 hex digits."""

    key: str
    ns_id: str
    lock: LockInfo | None = None
    overlay_base: OverlayBase | None = None
    truncated_before: Version | None = None


@dataclass(frozen=True, slots=True)
class Traits:
    """What a store is like, for those who do something differently by it. The defaults ask nothing of it."""

    in_process: bool = False
    """Nobody else has it, a deleted namespace is gone at once, and no answer is lost on the way: commits need no
    idempotency key."""
    takes_any_version: bool = False
    """What is behind may take a commit for another namespace that has the key by now."""
    content_kept_s: float = 0.0
    """How long content that nothing refers to stays, whenever a collection is asked for."""
    overlay_depth: int = 1
    """Through how many overlays a page is looked for."""


@runtime_checkable
class Store(Protocol):
    """Pages by mvstore's rules, awaited on the event loop."""

    @property
    def traits(self) -> Traits: ...

    def facts(self) -> Mapping[str, object]:
        """What it counts, for ``/metrics``: numbers by name, or by name and label."""

    async def stat(
        self, ns: Namespace, *, from_version: Version | None = None, lock_owner: str | None = None
    ) -> Stat:
        """The head version and what changed since ``from_version``."""

    async def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        """The pages, in request order (at most 200 at the remote engine: it splits for you)."""

    async def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        """Store content ahead of a commit; answers the BLAKE3-256 hashes (32 bytes each)."""

    async def commit(self, request: CommitRequest) -> Committed:
        """All namespaces atomically at one version. Returned means durable."""

    async def time2version(self, t: int) -> TimeBounds:
        """The recorded points around ``t`` (Unix seconds; 0 = now)."""

    async def lock(self, ns: Namespace, owner: str, version: Version | None = None) -> None:
        """Acquire the namespace lock (idempotent for the same owner). ``Conflict`` carries fact ``owner``."""

    async def unlock(self, ns: Namespace, owner: str, *, rollback: bool) -> None:
        """Release it, keeping the writes or rolling them back."""

    async def create_namespace(self, key: str, overlay_base: OverlayBase | None = None) -> None:
        """``Unprocessable`` if it exists; ``Conflict`` if the base is truncated beyond or locked."""

    async def rename_namespace(self, old_key: str, new_key: str) -> None: ...

    async def delete_namespace(self, key: str) -> None: ...

    async def list_namespaces(self, prefix: str = "") -> list[NamespaceInfo]: ...

    async def namespace_info(self, key: str) -> NamespaceInfo: ...

    def truncate_namespace(
        self, key: str, before_version: Version, *, apply: bool = True
    ) -> AsyncIterator[str]:
        """Progress lines, then the end of iteration; a failure is raised."""

    def delete_unreferenced_content(self, key: str, *, apply: bool = True) -> AsyncIterator[str]: ...

    def blocking(self) -> BlockingStore:
        """The same store for a SQLite thread."""

    async def aclose(self) -> None:
        """Flush and close; idempotent."""


@runtime_checkable
class GroupStore(Protocol):
    """A store that takes many independent commits at once, since they share what one costs."""

    def commit_each(self, requests: Sequence[CommitRequest]) -> list[Committed | GatewayError]:
        """Each as by :meth:`BlockingStore.commit`; its answer or its error, in their order."""


class BlockingStore(Protocol):
    """The part of the interface that SQLite's threads need. Thread-safe."""

    @property
    def traits(self) -> Traits: ...

    def stat(
        self, ns: Namespace, *, from_version: Version | None = None, lock_owner: str | None = None
    ) -> Stat: ...

    def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]: ...

    def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]: ...

    def commit(self, request: CommitRequest) -> Committed: ...

    def time2version(self, t: int) -> TimeBounds: ...

    def create_namespace(self, key: str, overlay_base: OverlayBase | None = None) -> None: ...


@runtime_checkable
class AdministeredStore(BlockingStore, Protocol):
    """One whose namespaces can be told and changed from a thread, too; each may raise ``Forbidden`` where
    that needs an admin API that was not given."""

    def rename_namespace(self, old_key: str, new_key: str) -> None: ...

    def delete_namespace(self, key: str) -> None: ...

    def list_namespaces(self, prefix: str = "") -> list[NamespaceInfo]: ...

    def namespace_info(self, key: str) -> NamespaceInfo: ...
