"""The remote engine before mvstore as it really is: nothing acknowledged is lost, nothing is broken, little is asked."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway import limits
from gateway.errors import Conflict, Gone, NotFound, StoreUnavailable, TooLarge
from gateway.runtime.stores.opening import open_store
from gateway.store.base import Namespace, NamespaceCommit, PageRead, PageWrite, Store
from gateway.store.database import Database
from gateway.store.overlays import lay_over
from gateway.store.remote import AdminApi, HttpxTransport, RemoteOptions, RemoteStore
from gateway.store.world.maintenance import Upkeep, Written
from gateway.store.world.schema import Retention
from tests.store.conformance.kit import A, B, digest, get, head, new_namespace, part, put, request
from tests.store.standin import Knobs, Served, serving


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path / "pages") as served:
        yield served


@pytest_asyncio.fixture(params=["bare", "cached"])
async def store(served: Served, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    cache_bytes = limits.STORE_CACHE_BYTES if request.param == "cached" else 0
    store = await open_store(served.url, admin_url=served.admin_url, cache_bytes=cache_bytes)
    yield store
    await store.aclose()


async def make_again(served: Served, key: str) -> None:
    """As somebody else does: by the store's own admin API."""
    await served.standin.delete(key)
    await served.standin.create(key)


async def in_thread(fn: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(fn)


# --- a commit on another namespace of that key ----------------------------------------------------


@pytest.mark.parametrize("remembered", [True, False], ids=["while the name is remembered", "afterwards"])
@pytest.mark.parametrize("read_set", [None, [], [0]], ids=["namespace", "blind", "pages"])
async def test_commit_on_a_namespace_made_again_conflicts(
    store: Store, served: Served, read_set: list[int] | None, remembered: bool
) -> None:
    ns = await new_namespace(store)
    unwritten = await head(store, ns)
    written = (await put(store, ns, {0: A})).version
    await make_again(served, ns.key)
    if not remembered:
        await served.standin.advance(5.0)
    for old in (unwritten, written):
        for first in (True, False):
            with pytest.raises(Conflict):
                await store.commit(request(part(ns, old, {0: B}, read_set), first=first))
    await served.standin.advance(5.0)
    assert await get(store, ns, 0) == b""


async def test_commit_on_an_unwritten_namespace_that_is_remembered_conflicts(
    store: Store, served: Served
) -> None:
    """Its old id is what the store still answers as its head: only the admin API knows better."""
    ns = await new_namespace(store)
    old = await head(store, ns)
    await make_again(served, ns.key)
    assert await head(store, ns) == old
    with pytest.raises(Conflict):
        await store.commit(request(part(ns, old, {0: A})))


async def test_commit_on_a_deleted_namespace_is_refused(store: Store, served: Served) -> None:
    ns = await new_namespace(store)
    old = (await put(store, ns, {0: A})).version
    await served.standin.delete(ns.key)
    with pytest.raises((Conflict, NotFound)):
        await store.commit(request(part(ns, old, {0: B})))


async def test_what_may_be_older_is_still_taken(store: Store) -> None:
    """The first commits of two clients at once, a retry whose first answer was lost, a page-level commit."""
    ns = await new_namespace(store)
    base = await head(store, ns)
    key = os.urandom(16)
    first = await store.commit(request(part(ns, base, {0: A}, [0]), key=key))
    again = await store.commit(request(part(ns, base, {0: A}, [0]), key=key, first=False))
    assert again.version == first.version
    await store.commit(request(part(ns, base, {1: A}, [1])))
    await store.commit(request(part(ns, first.version, {2: A}, [2])))
    assert [await get(store, ns, page) for page in range(3)] == [A, A, A]


async def test_a_commit_without_an_admin_api_is_checked_as_far_as_it_goes(served: Served) -> None:
    store = RemoteStore([HttpxTransport(served.url)], options=RemoteOptions(check_assumed=True))
    ns = Namespace("k")
    await served.standin.create("k")
    old = (await put(store, ns, {0: A})).version
    await make_again(served, "k")
    for _ in range(2):
        with pytest.raises(Conflict):
            await store.commit(request(part(ns, old, {0: B}, [0])))
        await served.standin.advance(5.0)
    await store.aclose()


async def test_an_admin_api_that_is_silent_holds_commits_up_once_and_briefly(served: Served) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    store = await open_store(served.url, admin_url=f"http://127.0.0.1:{port}", cache_bytes=0)
    namespaces = [Namespace(f"n{n}") for n in range(8)]
    for ns in namespaces:
        await served.standin.create(ns.key)
    async with asyncio.timeout(2 * limits.STORE_ADMIN_LOOK_S + 2.0):
        for ns in namespaces:
            await put(store, ns, {0: A})
    await store.aclose()
    listener.close()


async def test_a_writer_whose_namespace_was_made_again_is_refused_without_a_question(
    store: Store, served: Served
) -> None:
    """Its commits name what the namespace holds, so that the store refuses them by its own rule."""
    await served.standin.create("w")
    blocking = store.blocking()
    database = Database.open(blocking, Namespace("w"), single_writer=True)

    def write(value: int) -> None:
        database.transact(lambda c: c.execute("CREATE TABLE IF NOT EXISTS t(x)"))
        database.transact(lambda c: c.execute("INSERT INTO t VALUES(?)", (value,)))

    await in_thread(lambda: write(1))
    asked = served.standin.counts.stats
    await in_thread(lambda: write(2))
    assert served.standin.counts.stats == asked
    held = await in_thread(lambda: database.hold(lambda c: c.execute("INSERT INTO t VALUES(3)")))
    assert held.anchored
    await make_again(served, "w")
    for _ in range(2):
        with pytest.raises(Conflict):
            await store.commit(request(held))
        await served.standin.advance(5.0)
    await in_thread(database.close)
    assert (await served.standin.stat(served.standin.find("w") or "", None, None, None)).version == (
        served.standin.find("w")
    )


async def test_an_anchor_follows_the_first_page(store: Store, served: Served) -> None:
    await served.standin.create("w")
    database = Database.open(store.blocking(), Namespace("w"), single_writer=True)

    def grow() -> int:
        for n in range(12):
            database.transact(lambda c, n=n: c.execute(f"CREATE TABLE t{n}(x)"))
            database.transact(lambda c, n=n: c.execute(f"INSERT INTO t{n} VALUES(zeroblob(20000))"))
        return int(database.read(lambda c: c.execute("SELECT count(*) FROM sqlite_schema").get))

    assert await in_thread(grow) == 12
    fresh = Database.open(store.blocking(), Namespace("w"), read_only=True)
    assert (
        await in_thread(lambda: fresh.read(lambda c: c.execute("SELECT sum(length(x)) FROM t11").get))
        == 20_000
    )
    assert await in_thread(lambda: fresh.read(lambda c: c.execute("PRAGMA integrity_check").get)) == "ok"
    for each in (database, fresh):
        await in_thread(each.close)


# --- marks above heads ------------------------------------------------------------------------------


async def sunk(served: Served) -> tuple[Namespace, str]:
    """A namespace whose mark an earlier release has set above its head."""
    store = RemoteStore([HttpxTransport(served.url)], admin=AdminApi(HttpxTransport(served.admin_url)))
    ns = await new_namespace(store)
    version = (await put(store, ns, {0: A, 1: B})).version
    await put(store, await new_namespace(store), {0: A})
    ns_id = served.standin.find(ns.key)
    assert ns_id is not None
    async for _ in served.standin.truncate(ns_id, await served.standin.read_version(), apply=True):
        pass
    await served.standin.advance(2.0)
    await store.aclose()
    return ns, version


async def test_a_truncation_is_never_asked_above_the_head(store: Store, served: Served) -> None:
    ns = await new_namespace(store)
    version = (await put(store, ns, {0: A})).version
    await put(store, await new_namespace(store), {0: A})
    for mark in ("f" * 20, await served.standin.read_version()):
        async for _ in store.truncate_namespace(ns.key, mark):
            pass
        await served.standin.advance(2.0)
        assert (await store.namespace_info(ns.key)).truncated_before == version
        assert await get(store, ns, 0) == A


async def test_a_head_below_its_mark_is_lifted_and_told(
    store: Store, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    ns, version = await sunk(served)
    with caplog.at_level(logging.WARNING, "mvgateway.store"):
        pages = await store.read(ns, [PageRead(page, version) for page in (0, 1, 2)])
    assert [page.data for page in pages] == [A, B, b""]
    (told,) = [record.getMessage() for record in caplog.records if record.name == "mvgateway.store"]
    assert ns.key in told
    assert version in told
    assert await head(store, ns) > version
    assert await get(store, ns, 1) == B
    await put(store, ns, {1: A})
    assert await get(store, ns, 1) == A


async def test_many_readers_lift_a_head_once(store: Store, served: Served) -> None:
    ns, version = await sunk(served)
    commits = served.standin.counts.commits
    found = await asyncio.gather(*(store.read(ns, [PageRead(n % 2, version)]) for n in range(20)))
    assert {page.data for (page,) in found} == {A, B}
    assert served.standin.counts.commits == commits + 1


async def test_a_head_is_lifted_without_an_admin_api_too(served: Served) -> None:
    ns, version = await sunk(served)
    bare = RemoteStore(
        [HttpxTransport(served.url)], options=RemoteOptions(deadline_s=2.0, check_assumed=True)
    )
    assert (await bare.read(ns, [PageRead(0, version)]))[0].data == A
    await bare.aclose()


async def test_an_older_version_below_the_mark_stays_gone_and_is_so_at_once(
    store: Store, served: Served
) -> None:
    ns = await new_namespace(store)
    old = (await put(store, ns, {0: A})).version
    new = (await put(store, ns, {0: B})).version
    async for _ in store.truncate_namespace(ns.key, new):
        pass
    await served.standin.advance(2.0)
    commits = served.standin.counts.commits
    async with asyncio.timeout(limits.STORE_DEADLINE_S / 2):
        with pytest.raises(Gone) as refused:
            await store.read(ns, [PageRead(0, old)])
    assert refused.value.facts["truncated_before"] == new
    assert served.standin.counts.commits == commits


async def test_a_time_after_the_last_commit_is_read_at_the_head(store: Store, served: Served) -> None:
    """The time keeper's points stand above the head of a namespace that nobody writes to."""
    ns = await new_namespace(store)
    await put(store, ns, {0: A})
    await served.standin.advance(60.0)
    after = (await store.time2version(int(served.standin.clock()) - 10)).after
    assert after is not None
    assert after.version > await head(store, ns)
    async with asyncio.timeout(limits.STORE_DEADLINE_S / 2):
        assert await get(store, ns, 0, after.version) == A


async def test_a_sunken_head_under_a_lock_is_left_to_its_owner(store: Store, served: Served) -> None:
    ns, version = await sunk(served)
    await store.lock(ns, "me")
    with pytest.raises(Gone):
        await store.read(ns, [PageRead(0, version)])


async def test_a_namespace_with_a_sunken_head_is_forked(store: Store, served: Served) -> None:
    ns, _ = await sunk(served)
    await lay_over(store, ns.key, "fork")
    assert await get(store, Namespace("fork"), 1) == B


async def test_a_fork_of_a_fork_of_a_fork_has_every_page(store: Store, served: Served) -> None:
    """mvstore itself looks through one overlay only."""

    def grow(key: str, table: str) -> None:
        database = Database.open(store.blocking(), Namespace(key), single_writer=True)
        database.transact(lambda c: c.execute(f"CREATE TABLE {table}(x)"))
        for n in range(40):
            database.transact(lambda c, n=n: c.execute(f"INSERT INTO {table} VALUES(zeroblob(9000 + {n}))"))
        database.close()

    def look(key: str) -> tuple[str, int]:
        database = Database.open(store.blocking(), Namespace(key), read_only=True)
        found = database.read(
            lambda c: (c.execute("PRAGMA integrity_check").get, *c.execute("SELECT count(*) FROM t0"))
        )
        database.close()
        return found[0], found[1][0]

    await served.standin.create("f0")
    await in_thread(lambda: grow("f0", "t0"))
    for depth in range(1, 4):
        await lay_over(store, f"f{depth - 1}", f"f{depth}")
        await in_thread(lambda depth=depth: grow(f"f{depth}", f"t{depth}"))
        assert await in_thread(lambda depth=depth: look(f"f{depth}")) == ("ok", 40)


# --- what the store below can never take ----------------------------------------------------------------


@pytest.mark.parametrize("pages", [20_000, 50_000])
async def test_a_commit_of_more_pages_than_a_transaction_takes_is_too_large(store: Store, pages: int) -> None:
    ns = await new_namespace(store)
    await store.write(ns, [A])
    writes = [PageWrite(page, digest(A)) for page in range(pages)]
    with pytest.raises(TooLarge, match=f"{pages} pages"):
        await store.commit(request(NamespaceCommit(ns, await head(store, ns), writes)))


async def test_a_commit_of_10000_pages_is_taken(store: Store) -> None:
    ns = await new_namespace(store)
    await store.write(ns, [A])
    writes = [PageWrite(page, digest(A)) for page in range(10_000)]
    await store.commit(request(NamespaceCommit(ns, await head(store, ns), writes)))
    assert await get(store, ns, 9_999) == A


# --- admin APIs in turn ----------------------------------------------------------------------------------


async def test_admin_apis_are_asked_in_turn(tmp_path: Path) -> None:
    async with serving(tmp_path, admins=2) as served:
        dead = "http://127.0.0.1:9"
        store = await open_store(served.url, admin_url=f"{dead},{served.admin_url}")
        await store.create_namespace("k")
        await store.rename_namespace("k", "l")
        assert [info.key for info in await store.list_namespaces()] == ["l"]
        async for _ in store.delete_unreferenced_content("l"):
            pass
        await store.delete_namespace("l")
        assert await store.list_namespaces() == []
        await store.aclose()


async def test_where_no_admin_api_answers_that_is_said(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        store = await open_store(served.url, admin_url="http://127.0.0.1:9,http://127.0.0.1:10")
        for work in (store.list_namespaces(), store.delete_namespace("k")):
            with pytest.raises(StoreUnavailable):
                await work
        await store.aclose()


# --- what upkeep costs ---------------------------------------------------------------------------------------


class World:
    """A namespace that is written to, with its upkeep asked every five seconds of the stand-in's clock."""

    def __init__(self, served: Served, store: Store, ns: Namespace) -> None:
        self.served, self.store, self.ns = served, store, ns
        self.written = Written()
        self.upkeep = Upkeep(store, ns.key, self.written)
        self._next = 0

    async def write(self, pages: int, size: int = 50) -> None:
        """So many pages, in one commit, of a database of ``size``."""
        self._next += 1
        data = {n % size: b"%d %d" % (self._next, n) for n in range(pages)}
        await put(self.store, self.ns, data)
        self.written.committed(len(data), size)

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds // 5):
            await self.served.standin.advance(5.0)
            await self.upkeep.run(Retention(), int(self.served.standin.clock()))


@pytest_asyncio.fixture
async def world(served: Served) -> AsyncIterator[World]:
    store = await open_store(served.url, admin_url=served.admin_url)
    yield World(served, store, await new_namespace(store))
    await store.aclose()


async def test_an_idle_world_is_not_asked_about(world: World) -> None:
    counts = world.served.standin.counts
    await world.write(50)
    await world.pass_time(2 * limits.UPKEEP_WAIT_S_MAX + 60)
    assert counts.truncations <= 1
    assert counts.collections <= 1
    before = (counts.truncations, counts.collections, counts.admin, counts.stats)
    await world.pass_time(4 * 3_600)
    assert (counts.truncations, counts.collections, counts.admin, counts.stats) == before


async def test_what_is_scanned_follows_what_was_written(world: World) -> None:
    counts = world.served.standin.counts
    for _ in range(120):
        await world.write(50)
        await world.pass_time(5)
    written = world.written.pages
    assert counts.truncations <= written / limits.UPKEEP_PAGES_MIN
    assert counts.collections == 0
    assert counts.rows_scanned <= 2 * written
    info = await world.store.namespace_info(world.ns.key)
    assert info.truncated_before is not None


async def test_collections_wait_for_the_hour_that_the_store_needs(world: World) -> None:
    counts = world.served.standin.counts
    for _ in range(150):
        await world.write(50)
        await world.pass_time(60)
    assert 1 <= counts.collections <= 3


async def test_an_upkeep_that_fails_is_not_asked_for_all_the_time(tmp_path: Path) -> None:
    async with serving(tmp_path, Knobs()) as served:
        store = await open_store(served.url)  # no admin API: each truncation is refused
        await served.standin.create("k")
        world = World(served, store, Namespace("k"))
        failures = 0
        for _ in range(100):
            await world.write(50)
        for _ in range(120):
            try:
                await world.pass_time(5)
            except Exception:
                failures += 1
        assert 1 <= failures <= 5
        await store.aclose()
