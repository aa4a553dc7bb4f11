"""What every store must do with commits (``/batch/commit``)."""

from __future__ import annotations

import asyncio
import os

import pytest

from gateway.errors import BadInput, Conflict, Gone, NotFound, PreconditionFailed, TooLarge
from gateway.store.base import MAX_VERSION, ZERO_VERSION, Namespace, NamespaceCommit, PageWrite, Store
from tests.store.conformance.kit import (
    A,
    B,
    C,
    D,
    digest,
    get,
    head,
    new_namespace,
    part,
    put,
    request,
    shifted,
)


class CommitRules:
    async def test_commit_makes_pages_readable_at_its_version_and_moves_the_head(self, store: Store) -> None:
        ns = await new_namespace(store)
        done = await put(store, ns, {0: A, 7: B})
        assert await head(store, ns) == done.version
        assert await get(store, ns, 0) == A
        assert await get(store, ns, 7) == B

    async def test_versions_rise_over_all_namespaces(self, store: Store) -> None:
        one, two = await new_namespace(store), await new_namespace(store)
        versions = [(await put(store, ns, {0: os.urandom(64)})).version for ns in (one, two, one, two)]
        assert versions == sorted(set(versions))
        assert all(len(v) == 20 and v == v.lower() for v in versions)

    async def test_commit_on_an_old_version_without_a_read_set_conflicts(self, store: Store) -> None:
        ns = await new_namespace(store)
        old = await head(store, ns)
        await put(store, ns, {0: A})
        with pytest.raises(Conflict):
            await store.commit(request(part(ns, old, {1: B})))
        assert await get(store, ns, 1) == b""

    async def test_commits_of_different_pages_with_read_sets_both_stand(self, store: Store) -> None:
        ns = await new_namespace(store)
        base = (await put(store, ns, {0: A, 1: A})).version
        await store.commit(request(part(ns, base, {0: B}, read_set=[0])))
        other = await store.commit(request(part(ns, base, {1: C}, read_set=[1])))
        assert other.changelog == {ns.key: (0,)}
        assert (await get(store, ns, 0), await get(store, ns, 1)) == (B, C)

    async def test_commit_that_read_a_page_changed_since_conflicts(self, store: Store) -> None:
        ns = await new_namespace(store)
        base = (await put(store, ns, {0: A, 1: A})).version
        await store.commit(request(part(ns, base, {0: B}, read_set=[0])))
        with pytest.raises(Conflict):
            await store.commit(request(part(ns, base, {1: C}, read_set=[0, 1])))
        assert await get(store, ns, 1) == A

    async def test_blind_write_with_an_empty_read_set_never_conflicts_by_page(self, store: Store) -> None:
        ns = await new_namespace(store)
        base = (await put(store, ns, {0: A})).version
        await put(store, ns, {0: B})
        await store.commit(request(part(ns, base, {0: C}, read_set=[])))
        assert await get(store, ns, 0) == C

    async def test_read_sets_of_over_2000_pages_are_checked_against_the_whole_namespace(
        self, store: Store
    ) -> None:
        ns = await new_namespace(store)
        base = (await put(store, ns, {0: A})).version
        await put(store, ns, {1: B})
        await store.commit(request(part(ns, base, {2: C}, read_set=range(100, 2_100))))
        with pytest.raises(Conflict):
            await store.commit(request(part(ns, base, {2: D}, read_set=range(100, 2_101))))

    async def test_commits_of_1000_pages_are_checked_against_the_whole_namespace(self, store: Store) -> None:
        ns = await new_namespace(store)
        base = (await put(store, ns, {0: A})).version
        await put(store, ns, {1: B})
        await store.write(ns, [C])
        many = dict.fromkeys(range(10, 1010), C)
        with pytest.raises(Conflict):
            await store.commit(request(part(ns, base, many, read_set=[], inline=False)))
        del many[10]
        await store.commit(request(part(ns, base, many, read_set=[], inline=False)))

    async def test_assumed_version_ahead_of_the_head_conflicts(self, store: Store) -> None:
        ns = await new_namespace(store)
        done = await put(store, ns, {0: A})
        for ahead in (shifted(done.version, 1), MAX_VERSION):
            for read_set in (None, []):
                with pytest.raises(Conflict):
                    await store.commit(request(part(ns, ahead, {0: B}, read_set=read_set)))

    async def test_retry_of_the_last_commit_is_answered_with_its_version(self, store: Store) -> None:
        ns = await new_namespace(store)
        key, base = os.urandom(16), await head(store, ns)
        first = await store.commit(request(part(ns, base, {0: A}), key=key))
        again = await store.commit(request(part(ns, base, {0: A}), key=key, first=False))
        assert again.version == first.version
        assert again.changelog == {}
        assert await head(store, ns) == first.version

    async def test_commit_over_two_namespaces_has_one_version(self, store: Store) -> None:
        one, two = await new_namespace(store), await new_namespace(store)
        done = await store.commit(
            request(part(one, await head(store, one), {0: A}), part(two, await head(store, two), {0: B}))
        )
        assert await head(store, one) == await head(store, two) == done.version
        assert (await get(store, one, 0), await get(store, two, 0)) == (A, B)

    async def test_conflict_in_one_namespace_stops_the_commit_in_all(self, store: Store) -> None:
        one, two = await new_namespace(store), await new_namespace(store)
        old = (await put(store, two, {0: A})).version
        await put(store, two, {0: B})
        before = await head(store, one)
        with pytest.raises(Conflict):
            await store.commit(request(part(one, before, {0: C}), part(two, old, {0: C})))
        assert await head(store, one) == before
        assert (await get(store, one, 0), await get(store, two, 0)) == (b"", B)

    async def test_changelog_tells_what_others_changed_since_the_assumed_version(self, store: Store) -> None:
        ns = await new_namespace(store)
        base = (await put(store, ns, {0: A})).version
        await put(store, ns, {3: B, 1: B})
        await put(store, ns, {3: C, 9: C})
        done = await store.commit(request(part(ns, base, {5: D}, read_set=[5])))
        assert done.changelog == {ns.key: (1, 3, 9)}
        alone = await store.commit(request(part(ns, done.version, {5: A}, read_set=[5])))
        assert alone.changelog == {ns.key: ()}

    async def test_content_written_ahead_is_committed_by_its_hash(self, store: Store) -> None:
        ns = await new_namespace(store)
        hashes = await store.write(ns, [A, B, A])
        assert hashes == [digest(A), digest(B), digest(A)]
        await store.commit(request(part(ns, await head(store, ns), {0: A, 1: B}, inline=False)))
        assert (await get(store, ns, 0), await get(store, ns, 1)) == (A, B)

    async def test_commit_of_a_hash_never_written_is_gone_and_changes_nothing(self, store: Store) -> None:
        ns = await new_namespace(store)
        before = await head(store, ns)
        writes = [PageWrite(0, digest(A), A), PageWrite(1, digest(b"never"))]
        with pytest.raises(Gone):
            await store.commit(request(NamespaceCommit(ns, before, writes)))
        assert await head(store, ns) == before
        assert await get(store, ns, 0) == b""

    async def test_content_of_another_namespace_is_not_taken(self, store: Store) -> None:
        one, two = await new_namespace(store), await new_namespace(store)
        await store.write(one, [A])
        with pytest.raises(Gone):
            await store.commit(request(part(two, await head(store, two), {0: A}, inline=False)))

    async def test_later_write_of_the_same_page_in_one_commit_wins(self, store: Store) -> None:
        ns = await new_namespace(store)
        writes = [PageWrite(0, digest(A), A), PageWrite(0, digest(B), B)]
        await store.commit(request(NamespaceCommit(ns, await head(store, ns), writes)))
        assert await get(store, ns, 0) == B

    async def test_commit_without_pages_moves_the_head(self, store: Store) -> None:
        ns = await new_namespace(store)
        before = await head(store, ns)
        done = await store.commit(request(part(ns, before, {})))
        assert await head(store, ns) == done.version > before

    async def test_any_old_version_will_do_while_nothing_was_written(self, store: Store) -> None:
        ns = await new_namespace(store)
        await store.commit(request(part(ns, ZERO_VERSION, {0: A})))
        assert await get(store, ns, 0) == A

    @pytest.mark.parametrize("read_set", [None, [], [0]], ids=["namespace", "blind", "pages"])
    async def test_version_older_than_the_namespace_conflicts(
        self, store: Store, read_set: list[int] | None
    ) -> None:
        other, ns = await new_namespace(store), await new_namespace(store)
        older = await head(store, other)
        for first in (True, False):
            with pytest.raises(Conflict):
                await store.commit(request(part(ns, older, {0: A}, read_set), first=first))
        await put(store, ns, {1: B})
        with pytest.raises(Conflict):
            await store.commit(request(part(ns, older, {0: A}, read_set)))
        assert (await get(store, ns, 0), await get(store, ns, 1)) == (b"", B)

    @pytest.mark.parametrize("read_set", [None, [], [0]], ids=["namespace", "blind", "pages"])
    async def test_version_of_a_namespace_deleted_and_made_again_conflicts(
        self, store: Store, read_set: list[int] | None
    ) -> None:
        ns = await new_namespace(store)
        old = (await put(store, ns, {0: A, 1: A})).version
        await store.delete_namespace(ns.key)
        await store.create_namespace(ns.key)
        with pytest.raises(Conflict):
            await store.commit(request(part(ns, old, {0: B}, read_set)))

    @pytest.mark.parametrize("read_set", [None, [], [0]], ids=["namespace", "blind", "pages"])
    async def test_version_of_a_namespace_that_another_was_renamed_over_conflicts(
        self, store: Store, read_set: list[int] | None
    ) -> None:
        """The one renamed is older than the version assumed, and was written to since."""
        renamed, ns = await new_namespace(store), await new_namespace(store)
        mine = (await put(store, renamed, {3: C})).version
        assumed = (await put(store, ns, {0: A})).version
        await put(store, renamed, {4: C})
        await store.delete_namespace(ns.key)
        await store.rename_namespace(renamed.key, ns.key)
        with pytest.raises(Conflict):
            await store.commit(request(part(ns, assumed, {0: B}, read_set)))
        stays = await store.commit(request(part(ns, mine, {0: B}, read_set=[0])))
        assert await head(store, ns) == stays.version

    async def test_bounds_of_a_commit(self, store: Store) -> None:
        spaces = [await new_namespace(store) for _ in range(17)]
        parts = [part(ns, await head(store, ns), {0: A}) for ns in spaces]
        with pytest.raises(PreconditionFailed):
            await store.commit(request())
        with pytest.raises(PreconditionFailed):
            await store.commit(request(*parts))
        with pytest.raises(BadInput):
            await store.commit(request(parts[0], parts[0]))
        await store.commit(request(*parts[:16]))
        with pytest.raises(TooLarge):
            await store.commit(request(part(spaces[0], parts[0].version, {p: b"%d" % p for p in range(101)})))

    async def test_bounds_of_a_page(self, store: Store) -> None:
        ns = await new_namespace(store)
        before = await head(store, ns)
        large = bytes(32_769)
        with pytest.raises(TooLarge):
            await store.commit(request(part(ns, before, {0: large})))
        with pytest.raises(BadInput):
            await store.commit(request(NamespaceCommit(ns, before, [PageWrite(0, b"short")])))
        await store.commit(request(part(ns, before, {0: large[:-1]})))
        assert await get(store, ns, 0) == large[:-1]

    async def test_more_than_50000_pages_are_too_many(self, store: Store) -> None:
        ns = await new_namespace(store)
        await store.write(ns, [A])
        pages = [PageWrite(page, digest(A)) for page in range(50_001)]
        with pytest.raises(TooLarge):
            await store.commit(request(NamespaceCommit(ns, await head(store, ns), pages)))

    async def test_commit_to_a_namespace_that_is_not_there_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.commit(request(part(Namespace("no-such-namespace"), ZERO_VERSION, {0: A})))

    async def test_of_many_commits_on_one_version_exactly_one_stands(self, store: Store) -> None:
        ns = await new_namespace(store)
        base = (await put(store, ns, {0: A})).version
        racing = [store.commit(request(part(ns, base, {0: b"%d" % n}, read_set=[0]))) for n in range(20)]
        ends = await asyncio.gather(*racing, return_exceptions=True)
        stood = [n for n, end in enumerate(ends) if not isinstance(end, BaseException)]
        assert len(stood) == 1
        assert all(isinstance(end, Conflict) for n, end in enumerate(ends) if n not in stood)
        assert await get(store, ns, 0) == b"%d" % stood[0]
