"""The embedded engine against a dictionary of versions, with transactions that overlap (hypothesis)."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from gateway.errors import Conflict, GatewayError, Gone, Unprocessable
from gateway.store.base import (
    CommitRequest,
    Namespace,
    NamespaceCommit,
    OverlayBase,
    PageRead,
    PageWrite,
    Version,
)
from gateway.store.embedded import EmbeddedOptions, Engine, check

PAGES = st.integers(0, 5)
DATA = st.sampled_from([b"", b"x" * 40, b"y" * 4096, b"z"]) | st.binary(max_size=12)
WRITES = st.dictionaries(PAGES, DATA, max_size=4)


@dataclass
class Space:
    """A namespace as the rules have it: every version of every page, and what holds it."""

    key: str
    id: Version
    pages: dict[int, dict[Version, bytes]] = field(default_factory=dict)
    commits: list[tuple[Version, frozenset[int]]] = field(default_factory=list)
    floor: Version = ""
    base: tuple[Space, Version] | None = None
    children: int = 0
    owner: str | None = None
    locked_at: Version = ""
    mark: Version = ""

    @property
    def written(self) -> Version:
        return max(self.commits[-1][0] if self.commits else "", self.floor)

    @property
    def head(self) -> Version:
        return self.written or self.id

    def at(self, page: int, version: Version) -> tuple[Version, bytes]:
        known = [v for v in self.pages.get(page, {}) if v <= version]
        if known:
            return max(known), self.pages[page][max(known)]
        return self.base[0].at(page, self.base[1]) if self.base else ("", b"")

    def newest(self, page: int) -> Version:
        return max(self.pages.get(page, {}), default="")

    def refusal(
        self, assumed: Version, read_set: frozenset[int] | None, owner: str | None
    ) -> type[GatewayError] | None:
        if self.owner is None and owner is not None:
            return Gone
        if self.owner is not None and owner != self.owner:
            return Conflict if owner is None else Gone
        if assumed > self.head:
            return Conflict
        if assumed >= self.written:
            return None
        stale = read_set is None or any(self.newest(page) > assumed for page in read_set)
        return Conflict if stale else None

    def apply(self, version: Version, writes: dict[int, bytes]) -> None:
        for page, data in writes.items():
            self.pages.setdefault(page, {})[version] = data
        self.commits.append((version, frozenset(writes)))

    def interval(self, after: Version, to: Version) -> tuple[int, ...] | None:
        if after > to:
            return None
        if after == to:
            return ()
        span = [each for each in self.commits if after <= each[0] <= to]
        if len(span) < 2 or span[0][0] != after or span[-1][0] != to:
            return None
        return tuple(sorted(set().union(*(pages for _, pages in span[1:]))))

    def roll_back(self) -> None:
        for versions in self.pages.values():
            for version in [v for v in versions if v > self.locked_at]:
                del versions[version]
        self.commits = [each for each in self.commits if each[0] <= self.locked_at]
        self.floor, self.owner = self.locked_at.strip("0") and self.locked_at, None


@dataclass
class Transaction:
    """A client's transaction: begun at a version, with what it read since."""

    space: Space
    version: Version
    reads: set[int] = field(default_factory=set)


class StoreModel(RuleBasedStateMachine):
    spaces = Bundle("spaces")
    transactions = Bundle("transactions")
    retries = Bundle("retries")

    @initialize()
    def open_folder(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="store-model-")
        self.now = 1_000_000.0
        self.known: list[Version] = ["0" * 20]
        self.all: list[Space] = []
        self._open()

    def _open(self) -> None:
        options = EmbeddedOptions(content_grace_s=100, background=False)
        self.engine = Engine(self.folder, clock=lambda: self.now, options=options)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()
            report = check(self.folder)
            shutil.rmtree(self.folder)
            assert report.damaged == 0

    @rule(target=spaces)
    def create(self) -> Space:
        return self._create(None)

    @rule(target=spaces, base=spaces, data=st.data())
    def fork(self, base: Space, data: st.DataObject) -> Space:
        version = data.draw(st.sampled_from([v for v in self.known if v <= self.known[-1]]))
        if base.owner is not None or version < base.mark:
            with pytest.raises(Conflict):
                self.engine.create_namespace("refused", OverlayBase(base.id, version))
            return base
        return self._create((base, min(version, base.head)))

    def _create(self, base: tuple[Space, Version] | None) -> Space:
        key = f"space-{len(self.all)}"
        self.engine.create_namespace(key, OverlayBase(base[0].id, base[1]) if base else None)
        space = Space(key, self.engine.namespace_info(key).ns_id, base=base)
        self._learn(space.id)
        self.all.append(space)
        return space

    def _learn(self, version: Version) -> None:
        assert version > max(self.known)
        self.known.append(version)

    @rule(target=transactions, space=spaces)
    def begin(self, space: Space) -> Transaction:
        stat = self.engine.stat(Namespace(space.key))
        assert stat.version == (space.head if space.owner is None else space.locked_at)
        return Transaction(space, stat.version)

    @rule(transaction=transactions, page=PAGES)
    def read(self, transaction: Transaction, page: int) -> None:
        transaction.reads.add(page)
        self._read(transaction.space, page, transaction.version)

    @rule(space=spaces, page=PAGES, data=st.data())
    def read_the_past(self, space: Space, page: int, data: st.DataObject) -> None:
        self._read(space, page, data.draw(st.sampled_from(self.known)))

    def _read(self, space: Space, page: int, version: Version) -> None:
        wanted = [PageRead(page, version)]
        if version < space.mark:
            with pytest.raises(Gone):
                self.engine.read(Namespace(space.key), wanted)
        else:
            assert self.engine.read(Namespace(space.key), wanted) == [space.at(page, version)]

    @rule(
        target=retries,
        transaction=consumes(transactions),
        writes=WRITES,
        by_page=st.booleans(),
        ahead=st.booleans(),
    )
    def commit(
        self, transaction: Transaction, writes: dict[int, bytes], by_page: bool, ahead: bool
    ) -> object:
        space = transaction.space
        return self._commit(
            space, transaction.version, writes, frozenset(transaction.reads) if by_page else None, ahead
        )

    @rule(target=retries, space=spaces, writes=WRITES)
    def commit_as_lock_owner(self, space: Space, writes: dict[int, bytes]) -> object:
        return self._commit(space, space.head, writes, None, False, owner="me")

    def _commit(
        self,
        space: Space,
        version: Version,
        writes: dict[int, bytes],
        read_set: frozenset[int] | None,
        ahead: bool,
        owner: str | None = None,
    ) -> object:
        ns = Namespace(space.key)
        if ahead:
            self.engine.write(ns, list(writes.values()))
        pages = [PageWrite(n, blake3(d).digest(), None if ahead else d) for n, d in writes.items()]
        request = CommitRequest(os.urandom(16), [NamespaceCommit(ns, version, pages, read_set)], True, owner)
        refusal = space.refusal(version, read_set, owner)
        if refusal is not None:
            with pytest.raises(refusal):
                self.engine.commit(request)
            return None
        others = () if version >= space.written else space.interval(version, space.written)
        done = self.engine.commit(request)
        self._learn(done.version)
        assert done.changelog == ({} if others is None else {space.key: others})
        space.apply(done.version, writes)
        return request, done.version, self.now

    @rule(one=spaces, two=spaces, writes=WRITES)
    def commit_over_two(self, one: Space, two: Space, writes: dict[int, bytes]) -> None:
        if one is two:
            return
        pages = [PageWrite(n, blake3(d).digest(), d) for n, d in writes.items()]
        parts = [NamespaceCommit(Namespace(space.key), space.head, pages) for space in (one, two)]
        refusal = one.refusal(one.head, None, None) or two.refusal(two.head, None, None)
        if refusal is not None:
            with pytest.raises(refusal):
                self.engine.commit(CommitRequest(os.urandom(16), parts))
            return
        done = self.engine.commit(CommitRequest(os.urandom(16), parts))
        self._learn(done.version)
        for space in (one, two):
            space.apply(done.version, writes)

    @rule(attempt=retries)
    def retry(self, attempt: tuple[CommitRequest, Version, float] | None) -> None:
        if attempt is None or self.now - attempt[2] > 86_400:
            return
        request, version, _ = attempt
        again = CommitRequest(request.idempotency_key, request.namespaces, False, request.lock_owner)
        assert self.engine.commit(again).version == version

    @rule(space=spaces, data=st.data())
    def stat(self, space: Space, data: st.DataObject) -> None:
        after = data.draw(st.sampled_from(self.known))
        stat = self.engine.stat(Namespace(space.key), from_version=after)
        assert stat.interval == space.interval(after, stat.version)

    @rule(space=spaces, data=st.data())
    def lock(self, space: Space, data: st.DataObject) -> None:
        version = data.draw(st.none() | st.sampled_from(self.known))
        at = version or space.head
        snapshots = [c.base[1] for c in self.all if c.base and c.base[0] is space]
        fits = version is None or (space.mark <= at <= space.head and at >= max(snapshots, default=""))
        if space.owner is None and not fits:
            with pytest.raises(Conflict):
                self.engine.lock(Namespace(space.key), "me", version)
            return
        self.engine.lock(Namespace(space.key), "me", version)
        if space.owner is None:
            space.owner, space.locked_at = "me", at

    @rule(space=spaces, rollback=st.booleans())
    def unlock(self, space: Space, rollback: bool) -> None:
        if space.owner is None:
            with pytest.raises(Unprocessable):
                self.engine.unlock(Namespace(space.key), "me", rollback=rollback)
            return
        self.engine.unlock(Namespace(space.key), "me", rollback=rollback)
        if rollback:
            space.roll_back()
        space.owner = None

    @rule(space=spaces, data=st.data())
    def truncate(self, space: Space, data: st.DataObject) -> None:
        before = data.draw(st.sampled_from(self.known))
        list(self.engine.truncate_namespace(space.key, before))
        bounds = [before, space.head, *(c.base[1] for c in self.all if c.base and c.base[0] is space)]
        mark = min([*bounds, space.locked_at] if space.owner is not None else bounds)
        space.mark = max(space.mark, mark)
        space.commits = [each for each in space.commits if each[0] >= mark] or space.commits
        if space.commits and space.commits[-1][0] < mark:
            space.floor, space.commits = max(space.floor, space.commits[-1][0]), []

    @rule(seconds=st.sampled_from([1, 99, 101, 5_000, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.engine.keep_time()
        self.engine.sweep()
        for space in self.all:
            list(self.engine.delete_unreferenced_content(space.key))

    @rule()
    def reopen(self) -> None:
        self.engine.close()
        self._open()

    @invariant()
    def heads_are_right(self) -> None:
        for space in getattr(self, "all", []):
            info = self.engine.namespace_info(space.key)
            assert info.ns_id == space.id
            assert (info.truncated_before or "") == (space.mark.strip("0") and space.mark)
            assert (info.lock is not None) == (space.owner is not None)
            if info.lock is None:
                assert self.engine.stat(Namespace(space.key)).version == space.head


StoreModel.TestCase.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStoreModel = StoreModel.TestCase
