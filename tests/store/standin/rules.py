"""mvstore's rules over the embedded engine: what it does otherwise than our own engine.

Namespaces are known by their id here, as in mvstore: a name that was deleted may still lead to the
id that it had. Pages, versions, conflicts and locks are the engine's.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.errors import BadInput, Conflict, Gone, NotFound
from gateway.store.base import (
    CommitRequest,
    Namespace,
    NamespaceCommit,
    NamespaceInfo,
    OverlayBase,
    PageContent,
    PageRead,
    PageWrite,
    Stat,
    TimeBounds,
    Version,
)
from gateway.store.embedded import EmbeddedOptions, EmbeddedStore, reading
from gateway.store.embedded.sql import ask
from gateway.store.embedded.timekeeper import _record
from tests.store.standin.names import Clock

GONE = "\x01gone/"
"""Where the engine keeps what still arrives under a deleted name, by id."""
TRANSACTION_BYTES_MAX = 10_000_000
PAGE_OVERHEAD_BYTES = 510
"""What a page costs a transaction beside its content: keys, values and conflict ranges. 10,000 pages
were taken by the real one, 20,000 were not."""
PAGE_S = 0.000_24
TRANSACTION_S_MAX = 5.0
READ_VERSION_S = 2.0
"""A version that was read is served so long as if nothing had been truncated since."""
MULTI_PHASE_PAGES = 1_000
READ_SET_MAX = 2_000
KEEP_TIME_S = 5


class Failed(Exception):
    """What mvstore answers with 500 and no word."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """``commit_ms``: how long a commit takes, from and to (uniform; equal: fixed). ``auto_create``:
    namespaces are made by use. ``collect_s``: how long a collection takes at least, its lock held.
    ``seed``: of the random latency."""

    commit_ms: tuple[float, float] = (0.0, 0.0)
    auto_create: bool = False
    collect_s: float = 0.0
    content_kept_s: int = 3_600
    seed: int = 0


@dataclass(slots=True)
class Counts:
    """What was asked since the start, and what it cost."""

    stats: int = 0
    reads: int = 0
    writes: int = 0
    commits: int = 0
    admin: int = 0
    truncations: int = 0
    collections: int = 0
    rows_scanned: int = 0
    """By truncations and collections: page versions and contents looked at."""
    refused_collections: int = 0


class StandIn:
    """The store itself. Every door (:mod:`.dataplane`, :mod:`.adminapi`) works on the same one."""

    def __init__(self, store: EmbeddedStore, folder: Path, clock: Clock, knobs: Knobs) -> None:
        self.engine = store
        self.clock = clock
        self.knobs = knobs
        self.counts = Counts()
        self._folder = folder
        self._random = random.Random(knobs.seed)
        self._keys: dict[str, str] = {}
        self._gone: set[str] = set()
        self._marks: dict[str, list[tuple[Version, float]]] = {}
        self._read_at: dict[Version, float] = {}
        self._busy: set[tuple[str, str]] = set()
        self._kept_at = 0

    @classmethod
    async def open(
        cls, folder: Path | str, *, clock: Clock | None = None, knobs: Knobs | None = None
    ) -> StandIn:
        """Open the folder. Names are known from scratch, as by a process that has just started."""
        clock, knobs, folder = clock or Clock(), knobs or Knobs(), Path(folder)
        options = EmbeddedOptions(content_grace_s=knobs.content_kept_s)
        store = EmbeddedStore.open(folder, clock=clock, options=options)
        self = cls(store, folder, clock, knobs)
        store.engine.keep_time = self.keep_time  # type: ignore[method-assign]
        await asyncio.to_thread(self.keep_time)
        for info in await store.list_namespaces():
            if info.key.startswith(GONE):
                await store.delete_namespace(info.key)
            else:
                self._keys[info.ns_id] = info.key
        self._load_marks()
        return self

    async def aclose(self) -> None:
        """Close the engine."""
        await self.engine.aclose()

    # --- time ----------------------------------------------------------------------------------

    def keep_time(self) -> None:
        """A point of the time keeper, every five seconds also where nothing happens."""
        now = int(self.clock())
        first = max(self._kept_at + KEEP_TIME_S, now - 1_000 * KEEP_TIME_S) if self._kept_at else now
        for moment in range(first, now + 1, KEEP_TIME_S):
            self.engine.engine.writer.step(_record(moment, move=False))
            self._kept_at = moment

    async def advance(self, seconds: float) -> None:
        """It is later now, and the time keeper has kept its points meanwhile."""
        self.clock.advance(seconds)
        await asyncio.to_thread(self.keep_time)

    async def read_version(self) -> Version:
        """The newest version that anything in the store can have."""
        bounds = await self.engine.time2version(0)
        assert bounds.after is not None
        return bounds.after.version

    async def time2version(self, t: int) -> TimeBounds:
        """As the time keeper knows it."""
        return await self.engine.time2version(t)

    # --- names -----------------------------------------------------------------------------------

    def find(self, key: str) -> str | None:
        """The id of a name as the database has it now, past every cache."""
        state = None if key.startswith(GONE) else self.engine.engine.registry.find(key)
        return None if state is None else f"{state.id:020x}"

    async def create(self, key: str, base: OverlayBase | None = None) -> str:
        """Make a namespace; its id. Raises ``Unprocessable``, ``Conflict`` (base truncated, or locked)."""
        if base is not None and base.snapshot_version < self._mark(base.ns_id):
            raise Conflict("base namespace has been truncated past the requested snapshot_version")
        await self.engine.create_namespace(key, base)
        ns_id = self.find(key)
        assert ns_id is not None
        self._keys[ns_id] = key
        return ns_id

    async def rename(self, old_key: str, new_key: str) -> None:
        """The id stays."""
        await self.engine.rename_namespace(old_key, new_key)
        ns_id = self.find(new_key)
        assert ns_id is not None
        self._keys[ns_id] = new_key

    async def delete(self, key: str) -> None:
        """Its data goes; what comes under a name that is still remembered lands in an empty one."""
        ns_id = self.find(key)
        await self.engine.delete_namespace(key)
        assert ns_id is not None
        await self.engine.create_namespace(GONE + ns_id)
        self._keys[ns_id] = GONE + ns_id
        self._gone.add(ns_id)
        self._marks.pop(ns_id, None)
        self._save_marks()

    async def list(self, prefix: str) -> list[NamespaceInfo]:
        """Names and ids."""
        return [info for info in await self.engine.list_namespaces(prefix) if not info.key.startswith(GONE)]

    async def info(self, key: str) -> NamespaceInfo:
        """A namespace, its mark included. Raises ``NotFound``."""
        if self.find(key) is None:
            raise NotFound("this key does not exist\n")
        info = await self.engine.namespace_info(key)
        return replace(info, truncated_before=self._mark(info.ns_id) or None)

    def _ns(self, ns_id: str, proof: str | None = None) -> Namespace:
        return Namespace(self._keys[ns_id], proof)

    async def lock(self, ns_id: str, proof: str | None, owner: str, at: Version | None) -> None:
        """Lock at the head, or at ``at``, which the mark bounds: the engine below does not know of it."""
        if at is not None and at < self._mark(ns_id):
            raise Conflict("the lock's version is before the truncation watermark")
        await self.engine.lock(self._ns(ns_id, proof), owner, at)

    async def unlock(self, ns_id: str, proof: str | None, owner: str, *, rollback: bool) -> None:
        """Let go of a lock, with or without what was written under it."""
        await self.engine.unlock(self._ns(ns_id, proof), owner, rollback=rollback)

    # --- reading -----------------------------------------------------------------------------------

    async def stat(
        self, ns_id: str, proof: str | None, from_version: Version | None, owner: str | None
    ) -> Stat:
        """The head. After a mark above it, nothing is known of what changed before."""
        self.counts.stats += 1
        stat = await self.engine.stat(self._ns(ns_id, proof), from_version=from_version, lock_owner=owner)
        if ns_id in self._gone and stat.version == self._own_id(ns_id):
            stat = replace(stat, version=ns_id, interval=None)
        if from_version and from_version == stat.version:
            return replace(stat, interval=())
        if from_version and from_version < self._mark(ns_id):
            return replace(stat, interval=None)
        return stat

    async def read(self, ns_id: str, proof: str | None, read: PageRead) -> PageContent:
        """One page. Raises :class:`Gone` where the body ends early."""
        self.counts.reads += 1
        if read.hash is None:
            await self._check_version(ns_id, read.version)
        return await asyncio.to_thread(self._read, self._ns(ns_id, proof), read)

    def _read(self, ns: Namespace, read: PageRead) -> PageContent:
        engine = self.engine.engine
        state = copy.copy(engine.registry.get(ns))
        state.chain = () if read.hash is not None else state.chain[:1]  # one base, and not its own base
        (page,) = reading.read_pages(engine.pool, state, [read])
        return page

    async def _check_version(self, ns_id: str, version: Version) -> None:
        now = self.clock()
        since = self._read_at.get(version)
        if since is None or now - since >= READ_VERSION_S:
            if len(self._read_at) >= 1_000:
                self._read_at.clear()
            since = self._read_at[version] = now
        if version < self._mark(ns_id, by=since):
            raise Gone(f"requested version {version} is before truncation watermark")
        state = self.engine.engine.registry.find(self._keys[ns_id])
        head = await self.read_version() if ns_id in self._gone or state is None else f"{state.head:020x}"
        if version > head:
            raise Gone("fdb read version older than requested version - causal read fault?")

    # --- writing -------------------------------------------------------------------------------------

    async def write(self, ns_id: str, proof: str | None, pages: Sequence[bytes]) -> list[bytes]:
        """Content ahead of a commit."""
        self.counts.writes += len(pages)
        return await self.engine.write(self._ns(ns_id, proof), pages)

    async def commit(
        self, request: CommitRequest, named: Sequence[tuple[str, str]]
    ) -> tuple[Version, dict[str, tuple[int, ...]]]:
        """The version, and what others changed by the names in ``named`` (key, id), one a namespace.
        Raises :class:`Failed` for what the database below does not take."""
        self.counts.commits += 1
        if len({ns_id for _, ns_id in named}) != len(named):
            raise BadInput("namespace not distinct")
        self._check_transaction(request)
        read_version = await self.read_version()
        if any(part.version > read_version for part in request.namespaces):
            raise Conflict("")
        await self._take_time()
        parts = [
            await self._part(part, ns_id, request)
            for part, (_, ns_id) in zip(request.namespaces, named, strict=True)
        ]
        unknown = [
            self._changes_unknown(part, ns_id)
            for part, (_, ns_id) in zip(request.namespaces, named, strict=True)
        ]
        # the record of an attempt per day is the engine's own: here only the last commit's key is known
        done = await self.engine.commit(replace(request, namespaces=parts, first_attempt=True))
        changed: dict[str, tuple[int, ...]] = {}
        for part, (key, _), hidden in zip(parts, named, unknown, strict=True):
            others = done.changelog.get(part.namespace.key)
            if others is not None and not hidden:
                changed[key] = others
        return done.version, changed

    async def _part(self, part: NamespaceCommit, ns_id: str, request: CommitRequest) -> NamespaceCommit:
        """The part as the engine takes it: content written before, the assumed version one that it accepts
        where mvstore would."""
        ns = self._ns(ns_id, part.namespace.proof)
        ahead = [page.data for page in part.pages if page.data is not None]
        if ahead:
            await self.engine.write(ns, ahead)
        # by the hash that the client names: where it is not that of the data, nothing is found by it
        pages = [PageWrite(page.page, page.hash) for page in part.pages]
        self._check_own(ns_id, pages)
        return NamespaceCommit(ns, self._assumed(part, ns_id, request), pages, part.read_set, part.metadata)

    def _check_own(self, ns_id: str, pages: Sequence[PageWrite]) -> None:
        """A fork has only what was written to itself, not what it is laid over."""
        state = self.engine.engine.registry.find(self._keys[ns_id])
        if state is None or not state.chain:
            return
        with self.engine.engine.pool.snapshot() as cursor:
            for page in pages:
                row = (state.rid, page.hash)
                if not ask(cursor, "SELECT 1 FROM content WHERE ns = ? AND hash = ?", row):
                    raise Gone("bad page reference")

    def _assumed(self, part: NamespaceCommit, ns_id: str, request: CommitRequest) -> Version:
        state = self.engine.engine.registry.find(self._keys[ns_id])
        if state is None:
            return part.version
        if state.written:
            return max(part.version, f"{state.id:020x}")
        by_page = part.read_set is not None and self._checks_by_page(request)
        if by_page and request.first_attempt and part.version > ns_id:
            return part.version if ns_id not in self._gone else "f" * 20
        return f"{state.id:020x}"

    def _checks_by_page(self, request: CommitRequest) -> bool:
        pages = sum(len(part.pages) for part in request.namespaces)
        reads = sum(len(part.read_set or ()) for part in request.namespaces)
        return pages < MULTI_PHASE_PAGES and reads <= READ_SET_MAX

    def _changes_unknown(self, part: NamespaceCommit, ns_id: str) -> bool:
        state = self.engine.engine.registry.find(self._keys[ns_id])
        return state is None or not state.written or part.version < self._mark(ns_id)

    def _check_transaction(self, request: CommitRequest) -> None:
        pages = sum(len(part.pages) for part in request.namespaces)
        inline = sum(len(page.data or b"") for part in request.namespaces for page in part.pages)
        if inline + pages * PAGE_OVERHEAD_BYTES > TRANSACTION_BYTES_MAX:
            raise Failed("transaction exceeds byte limit")
        if pages * PAGE_S > TRANSACTION_S_MAX:
            raise Failed("transaction is too old to perform reads or be committed")

    async def _take_time(self) -> None:
        low, high = self.knobs.commit_ms
        if high:
            await asyncio.sleep(self._random.uniform(low, high) / 1_000)

    def _own_id(self, ns_id: str) -> Version:
        state = self.engine.engine.registry.find(self._keys[ns_id])
        return "" if state is None else f"{state.id:020x}"

    # --- upkeep --------------------------------------------------------------------------------------

    def _mark(self, ns_id: str, by: float | None = None) -> Version:
        marks = self._marks.get(ns_id, ())
        return max((mark for mark, at in marks if by is None or at <= by), default="")

    async def truncate(self, ns_id: str, before: Version, apply: bool) -> AsyncIterator[str]:
        """Sets the mark wherever it is asked to, heads or not; yields counts. Raises :class:`Failed`
        while another truncation of the namespace is under way."""
        self.counts.truncations += 1
        with self._alone("truncate", ns_id):
            self.counts.rows_scanned += await asyncio.to_thread(self._rows, ns_id, "page")
            info = await self.engine.namespace_info(self._keys[ns_id])
            bounds = [before, await self.read_version()]
            bounds += [] if info.lock is None else [info.lock.snapshot_version]
            bounds += await self._children(ns_id)
            mark, now = min(bounds), self.clock()
            earlier = self._mark(ns_id, by=now - READ_VERSION_S)
            if apply and mark > self._mark(ns_id):
                self._marks[ns_id] = [each for each in ((earlier, 0.0), (mark, now)) if each[0]]
                self._save_marks()
            # what goes is what nobody can be reading any more
            upto = earlier if apply else mark
            if upto:
                async for line in self.engine.truncate_namespace(self._keys[ns_id], upto, apply=apply):
                    if line != "0":
                        yield line

    async def _children(self, ns_id: str) -> list[Version]:
        bases = [info.overlay_base for info in await self.engine.list_namespaces()]
        return [base.snapshot_version for base in bases if base is not None and base.ns_id == ns_id]

    async def collect(self, ns_id: str, apply: bool) -> AsyncIterator[str]:
        """Scans all that the namespace has, and removes what nothing has referred to for an hour."""
        self.counts.collections += 1
        with self._alone("collect", ns_id):
            for table in ("page", "page", "content"):
                self.counts.rows_scanned += await asyncio.to_thread(self._rows, ns_id, table)
            await asyncio.sleep(self.knobs.collect_s)
            async for line in self.engine.delete_unreferenced_content(self._keys[ns_id], apply=apply):
                if line != "0":
                    yield line

    def _rows(self, ns_id: str, table: str) -> int:
        engine = self.engine.engine
        state = engine.registry.find(self._keys[ns_id])
        if state is None:
            return 0
        with engine.pool.cursor() as cursor:
            return int(ask(cursor, f"SELECT count(*) FROM {table} WHERE ns = ?", (state.rid,))[0][0])

    def _alone(self, work: str, ns_id: str) -> _Alone:
        return _Alone(self._busy, self.counts, (work, ns_id))

    # --- marks outlive the process ----------------------------------------------------------------------

    def _load_marks(self) -> None:
        path = self._folder / "marks.json"
        if path.exists():
            self._marks = {ns_id: [(mark, 0.0)] for ns_id, mark in json.loads(path.read_text()).items()}

    def _save_marks(self) -> None:
        path = self._folder / "marks.json"
        fresh = path.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump({ns_id: self._mark(ns_id) for ns_id in self._marks}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)


class _Alone:
    """The lock of one kind of work on one namespace."""

    def __init__(self, busy: set[tuple[str, str]], counts: Counts, place: tuple[str, str]) -> None:
        self._busy, self._counts, self._place = busy, counts, place

    def __enter__(self) -> None:
        if self._place in self._busy:
            self._counts.refused_collections += self._place[0] == "collect"
            raise Failed("failed to acquire lock")
        self._busy.add(self._place)

    def __exit__(self, *_: object) -> None:
        self._busy.discard(self._place)
