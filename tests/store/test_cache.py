"""The page cache: what it may answer, what it must ask, and that it never answers wrongly."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from blake3 import blake3

from gateway import limits
from gateway.errors import Conflict, Gone, NotFound, StoreUnavailable
from gateway.store.base import (
    CommitRequest,
    Namespace,
    NamespaceCommit,
    PageContent,
    PageRead,
    PageWrite,
    Store,
)
from gateway.store.cache import CachedStore
from gateway.store.embedded import EmbeddedStore

NS = Namespace("world")


class Watched:
    """A store before another that keeps count of what is asked, and can hold reads up or break them."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.batches: list[list[PageRead]] = []
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken: dict[int, Exception] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        self.batches.append(list(reads))
        self.asked.set()
        await self.gate.wait()
        for read in reads:
            if read.page in self.broken:
                raise self.broken[read.page]
        return await self.inner.read(ns, reads)

    @property
    def pages(self) -> int:
        return sum(map(len, self.batches))


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    store = EmbeddedStore.open(tmp_path / "pages")
    await store.create_namespace(NS.key)
    yield Watched(store)
    await store.aclose()


async def commit(store: Store, pages: dict[int, bytes], ns: Namespace = NS, **more: object) -> str:
    version = (await store.stat(ns)).version
    writes = [PageWrite(page, blake3(data).digest(), data) for page, data in pages.items()]
    part = NamespaceCommit(ns, version, writes)
    return (await store.commit(CommitRequest(os.urandom(16), [part], True, **more))).version  # type: ignore[arg-type]


async def read(store: Store, version: str, *pages: int, ns: Namespace = NS) -> list[bytes]:
    return [page.data for page in await store.read(ns, [PageRead(page, version) for page in pages])]


async def test_forty_clients_that_open_a_world_at_once_cost_one_read_of_each_page(watched: Watched) -> None:
    pages = {page: bytes([page % 251]) * 100 for page in range(400)}
    for start in range(0, 400, 100):
        await commit(watched.inner, {page: pages[page] for page in range(start, start + 100)})
    cached = CachedStore(watched)

    async def client() -> None:
        version = (await cached.stat(NS)).version
        order = random.sample(range(400), 400)
        for start in range(0, 400, 50):
            batch = order[start : start + 50]
            assert await read(cached, version, *batch) == [pages[page] for page in batch]

    await asyncio.gather(*(client() for _ in range(40)))
    assert watched.pages == 400
    facts = cached.facts()
    assert facts["upstream_pages"] == 400
    assert facts["cache_hits"] + facts["shared_reads"] + 400 == 40 * 400


async def test_what_is_wanted_at_one_moment_travels_in_one_batch(watched: Watched) -> None:
    version = await commit(watched.inner, dict.fromkeys(range(90), b"x"))
    cached = CachedStore(watched)
    await cached.stat(NS)
    await asyncio.gather(*(read(cached, version, page) for page in range(90)))
    assert len(watched.batches) == 1


async def test_no_batch_asks_for_more_than_the_protocol_takes(watched: Watched) -> None:
    version = (await watched.inner.stat(NS)).version
    cached = CachedStore(watched)
    await cached.stat(NS)
    await read(cached, version, *range(1_000))
    assert max(map(len, watched.batches)) <= limits.STORE_READ_PAGES_MAX
    assert len(watched.batches) == 5


async def test_pages_that_nobody_changed_stay_good_at_the_next_head(watched: Watched) -> None:
    cached = CachedStore(watched)
    await commit(cached, {1: b"one", 2: b"two"})
    first = (await cached.stat(NS)).version
    await read(cached, first, 1, 2, 3)
    second = await commit(watched.inner, {2: b"new"})  # by somebody else
    assert (await cached.stat(NS)).version == second
    before = watched.pages
    assert await read(cached, second, 1, 3) == [b"one", b""]
    assert watched.pages == before
    assert await read(cached, second, 2) == [b"new"]
    assert await read(cached, first, 2) == [b"two"]
    assert watched.pages == before + 1


async def test_what_a_commit_wrote_needs_not_be_read(watched: Watched) -> None:
    cached = CachedStore(watched)
    version = await commit(cached, {7: b"seven"})
    assert await read(cached, version, 7) == [b"seven"]
    assert watched.pages == 0


async def test_unknown_changes_make_the_newest_be_read_anew(watched: Watched) -> None:
    cached = CachedStore(watched)
    first = await commit(cached, {1: b"old"})
    await cached.stat(NS)
    for number in range(101):  # more commits than an interval tells of
        newest = await commit(watched.inner, {1: b"%d" % number})
    assert (await cached.stat(NS)).version == newest
    assert await read(cached, newest, 1) == [b"100"]
    assert await read(cached, first, 1) == [b"old"]


async def test_versions_above_the_head_are_never_kept_nor_shared(watched: Watched) -> None:
    cached = CachedStore(watched)
    await commit(cached, {1: b"a"})
    far = "f" * 20
    watched.gate.clear()
    early = asyncio.create_task(read(cached, far, 1))
    await asyncio.sleep(0)
    late = asyncio.create_task(read(cached, far, 1))
    await asyncio.sleep(0)
    watched.gate.set()
    await asyncio.gather(early, late)
    await commit(watched.inner, {1: b"b"})
    assert await read(cached, far, 1) == [b"b"]
    assert watched.pages == 3


async def test_content_by_hash_is_always_asked(watched: Watched) -> None:
    cached = CachedStore(watched)
    version = (await cached.stat(NS)).version
    wanted = PageRead(1, version, blake3(b"later").digest())
    assert (await cached.read(NS, [wanted]))[0].data == b""
    await cached.write(NS, [b"later"])
    assert (await cached.read(NS, [wanted]))[0].data == b"later"


async def test_a_wrong_proof_gets_nothing_from_the_cache(watched: Watched) -> None:
    ns = Namespace(f"guarded:{blake3(b'secret').hexdigest()}", b"secret".hex())
    await watched.inner.create_namespace(ns.key)
    cached = CachedStore(watched)
    version = await commit(cached, {1: b"mine"}, ns)
    assert await read(cached, version, 1, ns=ns) == [b"mine"]
    for proof in (None, "00", "xyz"):
        with pytest.raises(NotFound):
            await read(cached, version, 1, ns=Namespace(ns.key, proof))
        with pytest.raises(NotFound):
            await asyncio.to_thread(cached.blocking().read, Namespace(ns.key, proof), [PageRead(1, version)])


async def test_one_page_that_cannot_be_read_does_not_take_others_with_it(watched: Watched) -> None:
    version = await commit(watched.inner, {page: b"%d" % page for page in range(20)})
    cached = CachedStore(watched)
    await cached.stat(NS)
    watched.broken[13] = Gone("page 13 is damaged")
    results = await asyncio.gather(
        *(read(cached, version, page) for page in range(20)), return_exceptions=True
    )
    assert isinstance(results.pop(13), Gone)
    assert results == [[b"%d" % page] for page in range(20) if page != 13]


async def test_a_store_that_is_away_fails_all_who_wait_and_is_asked_again(watched: Watched) -> None:
    version = await commit(watched.inner, {1: b"x"})
    cached = CachedStore(watched)
    await cached.stat(NS)
    watched.broken[1] = StoreUnavailable("away")
    results = await asyncio.gather(*(read(cached, version, 1) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert len(watched.batches) == 1
    watched.broken.clear()
    assert await read(cached, version, 1) == [b"x"]


async def test_a_reader_that_gives_up_takes_no_page_from_the_others(watched: Watched) -> None:
    version = await commit(watched.inner, {1: b"x"})
    cached = CachedStore(watched)
    await cached.stat(NS)
    watched.gate.clear()
    impatient = asyncio.create_task(read(cached, version, 1))
    patient = asyncio.create_task(read(cached, version, 1))
    await watched.asked.wait()
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    watched.gate.set()
    assert await patient == [b"x"]


async def test_the_bound_of_bytes_holds_and_the_longest_unused_goes_first(watched: Watched) -> None:
    cost = 1_000 + limits.STORE_CACHE_PAGE_COST_BYTES
    cached = CachedStore(watched, bytes_max=10 * cost)
    version = await commit(watched.inner, {page: os.urandom(1_000) for page in range(50)})
    await cached.stat(NS)
    for page in range(50):
        await read(cached, version, page)
        await read(cached, version, 0)  # always in use
    facts = cached.facts()
    assert facts["cache_bytes"] <= 10 * cost
    assert (facts["cache_pages"], facts["cache_evicted"]) == (10, 40)
    before = watched.pages
    await read(cached, version, 0, *range(41, 50))
    assert watched.pages == before


async def test_a_rollback_leaves_nothing_of_what_it_took_back(watched: Watched) -> None:
    cached = CachedStore(watched)
    before = await commit(cached, {1: b"old"})
    await cached.lock(NS, "me")
    version = (await cached.stat(NS, lock_owner="me")).version
    part = NamespaceCommit(NS, version, [PageWrite(1, blake3(b"new").digest(), b"new")])
    taken_back = (await cached.commit(CommitRequest(os.urandom(16), [part], True, "me"))).version
    assert await read(cached, taken_back, 1) == [b"new"]
    await cached.unlock(NS, "me", rollback=True)
    assert (await cached.stat(NS)).version == before
    after = await commit(cached, {2: b"other"})
    assert await read(cached, after, 1) == [b"old"]
    assert await read(cached, taken_back, 1) == [b"old"]


@pytest.mark.parametrize("by", ["this gateway", "another"])
async def test_what_a_rollback_to_an_older_version_took_back_is_not_answered_any_more(
    watched: Watched, by: str
) -> None:
    cached = CachedStore(watched)
    kept = await commit(cached, {1: b"old", 2: b"two"})
    taken_back = await commit(cached, {1: b"new"})
    assert await read(cached, taken_back, 1, 2) == [b"new", b"two"]
    store = cached if by == "this gateway" else watched.inner
    await store.lock(NS, "me", kept)
    await store.unlock(NS, "me", rollback=True)
    if by == "another":
        assert (await cached.stat(NS)).version == kept
    assert await read(cached, taken_back, 1, 2) == [b"old", b"two"]
    after = await commit(cached, {2: b"other"})
    assert await read(cached, after, 1, 2) == [b"old", b"other"]


async def test_the_owner_of_a_lock_leaves_nothing_in_the_cache(watched: Watched) -> None:
    cached = CachedStore(watched)
    before = await commit(cached, {1: b"old"})
    await cached.lock(NS, "me")
    part = NamespaceCommit(NS, before, [PageWrite(1, blake3(b"new").digest(), b"new")])
    await cached.commit(CommitRequest(os.urandom(16), [part], True, "me"))
    pages = watched.pages
    assert (await cached.stat(NS)).version == before
    assert await read(cached, before, 1) == [b"old"]
    assert watched.pages == pages  # what others see is still good
    assert (await cached.stat(NS, lock_owner="me")).version > before
    assert cached.pages.head(NS.key) == before


async def test_sqlite_threads_get_cached_pages_without_the_loop(watched: Watched) -> None:
    cached = CachedStore(watched)
    version = await commit(cached, {1: b"x"})
    blocking = cached.blocking()
    # on the loop's own thread only what needs no waiting can be answered
    assert blocking.read(NS, [PageRead(1, version)])[0].data == b"x"
    assert (await asyncio.to_thread(blocking.read, NS, [PageRead(2, version)]))[0].data == b""


@pytest.mark.parametrize("seed", range(6))
async def test_the_cache_answers_what_the_store_would_whatever_happens(watched: Watched, seed: int) -> None:
    rng = random.Random(seed)
    cached = CachedStore(watched, bytes_max=30 * (limits.STORE_CACHE_PAGE_COST_BYTES + 4))
    versions = [(await cached.stat(NS)).version]

    async def step() -> None:
        work = rng.randrange(10)
        writer = cached if work < 2 else watched.inner
        if work < 4:
            pages = {rng.randrange(12): rng.randbytes(4) for _ in range(rng.randint(1, 4))}
            try:
                versions.append(await commit(writer, pages))
            except Conflict:
                pass
        elif work < 6:
            known = rng.choice([None, rng.choice(versions)])
            seen = await cached.stat(NS, from_version=known)
            versions.append(seen.version)
        else:
            version = rng.choice([*versions[-3:], rng.choice(versions)])
            pages = [rng.randrange(12) for _ in range(rng.randint(1, 8))]
            reads = [PageRead(page, version) for page in pages]
            assert await cached.read(NS, reads) == await watched.inner.read(NS, reads)

    for _ in range(80):
        await asyncio.gather(*(step() for _ in range(rng.randint(1, 4))))
