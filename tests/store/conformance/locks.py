"""What every store must do with namespace locks (``/nslock``)."""

from __future__ import annotations

import pytest

from gateway.errors import BadInput, Conflict, Gone, Unprocessable
from gateway.store.base import Store
from tests.store.conformance.kit import A, B, C, get, head, new_namespace, part, put, request, shifted


class LockRules:
    async def test_others_read_the_snapshot_while_the_owner_sees_its_writes(self, store: Store) -> None:
        ns = await new_namespace(store)
        before = (await put(store, ns, {0: A})).version
        await store.lock(ns, "me")
        done = await put(store, ns, {0: B}, owner="me")
        assert await head(store, ns) == before
        assert (await store.stat(ns, lock_owner="me")).version == done.version
        await store.unlock(ns, "me", rollback=False)
        assert await head(store, ns) == done.version
        assert await get(store, ns, 0) == B

    async def test_commit_without_the_lock_conflicts_and_with_a_lost_one_is_gone(self, store: Store) -> None:
        ns = await new_namespace(store)
        at = await head(store, ns)
        with pytest.raises(Gone):
            await store.commit(request(part(ns, at, {0: A}), owner="me"))
        await store.lock(ns, "me")
        with pytest.raises(Conflict):
            await store.commit(request(part(ns, at, {0: A})))
        with pytest.raises(Gone):
            await store.commit(request(part(ns, at, {0: A}), owner="you"))
        with pytest.raises(Gone):
            await store.stat(ns, lock_owner="you")

    async def test_claiming_a_lock_where_there_is_none_is_gone(self, store: Store) -> None:
        ns = await new_namespace(store)
        with pytest.raises(Gone):
            await store.stat(ns, lock_owner="me")

    async def test_lock_is_taken_once_and_again_by_the_same_owner(self, store: Store) -> None:
        ns = await new_namespace(store)
        await store.lock(ns, "me")
        await store.lock(ns, "me")
        with pytest.raises(Conflict) as refused:
            await store.lock(ns, "you")
        assert refused.value.facts["owner"] == "me"

    async def test_lock_owner_has_1_to_256_bytes(self, store: Store) -> None:
        ns = await new_namespace(store)
        for bad in ("", "x" * 257, "é" * 129):
            with pytest.raises(BadInput):
                await store.lock(ns, bad)
        await store.lock(ns, "x" * 256)

    async def test_rollback_removes_what_came_after_the_snapshot(self, store: Store) -> None:
        ns = await new_namespace(store)
        early = (await put(store, ns, {0: A, 1: A})).version
        kept = (await put(store, ns, {0: B})).version
        await store.lock(ns, "me")
        for n in range(5):
            await put(store, ns, {0: b"%d" % n, 2: b"%d" % n}, owner="me")
        await store.unlock(ns, "me", rollback=True)
        assert await head(store, ns) == kept
        assert [await get(store, ns, page) for page in range(3)] == [B, A, b""]
        assert await get(store, ns, 0, "7" + "f" * 19) == B
        assert await get(store, ns, 0, early) == A

    async def test_versions_after_a_rollback_are_new_ones(self, store: Store) -> None:
        ns = await new_namespace(store)
        await put(store, ns, {0: A})
        await store.lock(ns, "me")
        lost = (await put(store, ns, {0: B}, owner="me")).version
        await store.unlock(ns, "me", rollback=True)
        with pytest.raises(Conflict):
            await store.commit(request(part(ns, lost, {0: C}, read_set=[0])))
        assert (await put(store, ns, {0: C})).version > lost
        assert (await store.stat(ns, from_version=lost)).interval is None

    async def test_lock_at_an_older_version_rolls_back_to_it(self, store: Store) -> None:
        ns = await new_namespace(store)
        first = (await put(store, ns, {0: A})).version
        await put(store, ns, {0: B})
        await store.lock(ns, "me", first)
        assert await head(store, ns) == first
        await store.unlock(ns, "me", rollback=True)
        assert await get(store, ns, 0, "7" + "f" * 19) == A

    async def test_lock_version_newer_than_the_head_conflicts(self, store: Store) -> None:
        ns = await new_namespace(store)
        last = (await put(store, ns, {0: A})).version
        with pytest.raises(Conflict):
            await store.lock(ns, "me", shifted(last, 1))

    async def test_unlocking_what_one_does_not_hold_is_refused(self, store: Store) -> None:
        ns = await new_namespace(store)
        for rollback in (False, True):
            with pytest.raises(Unprocessable):
                await store.unlock(ns, "me", rollback=rollback)
        await store.lock(ns, "me")
        for rollback in (False, True):
            with pytest.raises(Unprocessable) as refused:
                await store.unlock(ns, "you", rollback=rollback)
            assert refused.value.facts["owner"] == "me"

    async def test_lock_is_told_by_the_admin_api(self, store: Store) -> None:
        ns = await new_namespace(store)
        at = (await put(store, ns, {0: A})).version
        assert (await store.namespace_info(ns.key)).lock is None
        await store.lock(ns, "me")
        lock = (await store.namespace_info(ns.key)).lock
        assert lock is not None
        assert (lock.owner, lock.snapshot_version, lock.rolling_back) == ("me", at, False)
