"""What every store must do with reads, intervals and times (``/stat``, ``/batch/read``, ``/time2version``)."""

from __future__ import annotations

import time

import pytest

from gateway.errors import BadInput, NotFound
from gateway.store.base import MAX_VERSION, Namespace, PageRead, Stat, Store
from tests.store.conformance.kit import A, B, C, digest, get, head, new_namespace, part, put, request, shifted


class ReadRules:
    async def test_a_new_namespace_has_its_id_as_head_and_no_pages(self, store: Store) -> None:
        ns = await new_namespace(store)
        assert await head(store, ns) == (await store.namespace_info(ns.key)).ns_id
        assert await store.read(ns, [PageRead(0, await head(store, ns))]) == [("", b"")]

    async def test_every_version_stays_readable(self, store: Store) -> None:
        ns = await new_namespace(store)
        made = [((await put(store, ns, {0: b"%d" % n})).version, b"%d" % n) for n in range(8)]
        for version, data in made:
            assert await store.read(ns, [PageRead(0, version)]) == [(version, data)]
            assert await store.read(ns, [PageRead(0, shifted(version, 1))]) == [(version, data)]
        assert await get(store, ns, 0, shifted(made[0][0], -1)) == b""

    async def test_answers_come_in_request_order(self, store: Store) -> None:
        ns = await new_namespace(store)
        pages = {n: b"page %d" % n for n in range(50)}
        version = (await put(store, ns, pages)).version
        wanted = [49, 3, 3, 1_000, 0, 17]
        found = await store.read(ns, [PageRead(page, version) for page in wanted])
        assert [content.data for content in found] == [pages.get(page, b"") for page in wanted]

    async def test_content_is_read_by_hash_before_it_is_committed(self, store: Store) -> None:
        ns = await new_namespace(store)
        (hashed,) = await store.write(ns, [A])
        at = await head(store, ns)
        assert (await store.read(ns, [PageRead(5, at, hashed)]))[0].data == A
        assert (await store.read(ns, [PageRead(5, at)]))[0].data == b""
        assert (await store.read(ns, [PageRead(5, at, digest(b"never"))]))[0].data == b""

    async def test_two_hundred_pages_are_read_at_once(self, store: Store) -> None:
        ns = await new_namespace(store)
        for start in (0, 100):
            await put(store, ns, {n: b"%d" % n for n in range(start, start + 100)})
        at = await head(store, ns)
        found = await store.read(ns, [PageRead(n, at) for n in range(200)])
        assert [content.data for content in found] == [b"%d" % n for n in range(200)]

    async def test_page_of_any_size_comes_back_as_it_was(self, store: Store) -> None:
        ns = await new_namespace(store)
        pages = {0: b"", 1: b"x", 2: bytes(32_768), 3: bytes(range(256)) * 128}
        await put(store, ns, pages)
        for page, data in pages.items():
            assert await get(store, ns, page) == data

    async def test_namespaces_do_not_see_each_other(self, store: Store) -> None:
        one, two = await new_namespace(store), await new_namespace(store)
        await put(store, one, {0: A})
        assert await get(store, two, 0, MAX_VERSION.replace("f", "7", 1)) == b""

    async def test_namespace_that_is_not_there_is_not_found(self, store: Store) -> None:
        nowhere = Namespace("no-such-namespace")
        with pytest.raises(NotFound):
            await store.stat(nowhere)
        with pytest.raises(NotFound):
            await store.read(nowhere, [PageRead(0, MAX_VERSION)])
        with pytest.raises(NotFound):
            await store.write(nowhere, [A])

    async def test_version_that_is_not_20_hex_digits_is_bad_input(self, store: Store) -> None:
        ns = await new_namespace(store)
        for bad in (
            "",
            "0" * 19,
            "0" * 21,
            "g" * 20,
            "0x" + "0" * 18,
            "+" + "0" * 19,
            "0" * 9 + "__" + "0" * 9,
        ):
            with pytest.raises(BadInput):
                await store.read(ns, [PageRead(0, bad)])


class IntervalRules:
    async def test_interval_names_the_pages_changed_since(self, store: Store) -> None:
        ns = await new_namespace(store)
        first = (await put(store, ns, {0: A})).version
        await put(store, ns, {4: A, 2: B})
        last = (await put(store, ns, {2: C})).version
        assert await store.stat(ns, from_version=first) == Stat(last, interval=(2, 4))
        assert await store.stat(ns, from_version=last) == Stat(last, interval=())
        assert (await store.stat(ns)).interval is None

    async def test_interval_from_what_is_no_commit_of_the_namespace_is_unknown(self, store: Store) -> None:
        ns, other = await new_namespace(store), await new_namespace(store)
        created = await head(store, ns)
        first = (await put(store, ns, {0: A})).version
        foreign = (await put(store, other, {0: A})).version
        last = (await put(store, ns, {1: A})).version
        for unknown in (
            created,
            shifted(first, -1),
            shifted(first, 1),
            foreign,
            shifted(last, 1),
            MAX_VERSION,
        ):
            assert (await store.stat(ns, from_version=unknown)).interval is None

    async def test_interval_over_more_than_100_commits_is_unknown(self, store: Store) -> None:
        ns = await new_namespace(store)
        made = [(await put(store, ns, {n % 5: b"%d" % n})).version for n in range(102)]
        assert (await store.stat(ns, from_version=made[0])).interval is None
        assert (await store.stat(ns, from_version=made[3])).interval == (0, 1, 2, 3, 4)

    async def test_interval_of_more_than_1000_pages_is_unknown(self, store: Store) -> None:
        ns = await new_namespace(store)
        await store.write(ns, [A])
        first = (await put(store, ns, {0: A})).version
        pages = [range(400), range(300, 700), range(600, 1_000)]
        for some in pages:
            at = await head(store, ns)
            await store.commit(request(part(ns, at, dict.fromkeys(some, A), inline=False)))
        assert (await store.stat(ns, from_version=first)).interval == tuple(range(1_000))
        await put(store, ns, {1_000: B})
        assert (await store.stat(ns, from_version=first)).interval is None

    async def test_interval_over_a_commit_of_500_pages_is_unknown(self, store: Store) -> None:
        ns = await new_namespace(store)
        await store.write(ns, [A])
        small = (await put(store, ns, {0: A})).version
        large = (
            await store.commit(request(part(ns, small, dict.fromkeys(range(499), A), inline=False)))
        ).version
        assert (await store.stat(ns, from_version=small)).interval == tuple(range(499))
        await store.commit(request(part(ns, large, dict.fromkeys(range(500), A), inline=False)))
        assert (await store.stat(ns, from_version=large)).interval is None


class TimeRules:
    async def test_time_zero_is_now_and_lies_between_commits(self, store: Store) -> None:
        ns = await new_namespace(store)
        before = (await put(store, ns, {0: A})).version
        bounds = await store.time2version(0)
        after = (await put(store, ns, {0: B})).version
        assert bounds.after is not None
        assert bounds.not_after is not None
        assert before <= bounds.after.version < bounds.not_after.version
        assert bounds.after.version < after
        assert await get(store, ns, 0, bounds.after.version) == A

    async def test_nothing_is_recorded_before_the_store_began_or_in_the_future(self, store: Store) -> None:
        assert (await store.time2version(1)).after is None
        assert (await store.time2version(int(time.time()) + 10**6)).not_after is None
