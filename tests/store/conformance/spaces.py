"""What every store must do with namespaces: names, proofs, overlays, truncation (the admin API)."""

from __future__ import annotations

import contextlib
import os

import pytest

from gateway.errors import BadInput, Conflict, Gone, NotFound, Unprocessable
from gateway.store.base import Namespace, OverlayBase, PageRead, Store
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


async def fork(store: Store, base: Namespace, version: str) -> Namespace:
    """An overlay on ``base`` at ``version``."""
    child = Namespace(f"fork-{os.urandom(6).hex()}")
    ns_id = (await store.namespace_info(base.key)).ns_id
    await store.create_namespace(child.key, OverlayBase(ns_id, version))
    return child


class NamespaceRules:
    async def test_a_namespace_is_created_once(self, store: Store) -> None:
        ns = await new_namespace(store)
        with pytest.raises(Unprocessable):
            await store.create_namespace(ns.key)

    async def test_renaming_keeps_the_pages(self, store: Store) -> None:
        ns, taken = await new_namespace(store), await new_namespace(store)
        await put(store, ns, {0: A})
        with pytest.raises(Unprocessable):
            await store.rename_namespace(ns.key, taken.key)
        new = Namespace(ns.key + "-renamed")
        await store.rename_namespace(ns.key, new.key)
        assert await get(store, new, 0) == A
        with pytest.raises(NotFound):
            await store.stat(ns)
        with pytest.raises(NotFound):
            await store.rename_namespace(ns.key, "another")

    async def test_deleted_namespace_is_gone_and_its_key_free(self, store: Store) -> None:
        ns = await new_namespace(store)
        await put(store, ns, {0: A})
        await store.delete_namespace(ns.key)
        with pytest.raises(NotFound):
            await store.stat(ns)
        with pytest.raises(NotFound):
            await store.delete_namespace(ns.key)
        await store.create_namespace(ns.key)
        assert await get(store, ns, 0) == b""

    async def test_namespaces_are_listed_by_prefix(self, store: Store) -> None:
        stem = f"list-{os.urandom(6).hex()}"
        keys = [f"{stem}-a", f"{stem}-b%", f"{stem}-c_~"]
        for key in keys:
            await store.create_namespace(key)
        assert [info.key for info in await store.list_namespaces(stem)] == keys
        assert [info.key for info in await store.list_namespaces(f"{stem}-b%")] == keys[1:2]
        listed = {info.key: info.ns_id for info in await store.list_namespaces()}
        assert listed[keys[0]] == (await store.namespace_info(keys[0])).ns_id

    async def test_protected_key_is_served_only_with_its_proof(self, store: Store) -> None:
        proof = os.urandom(32)
        key = f"guarded-{os.urandom(4).hex()}:{digest(proof).hex()}"
        await store.create_namespace(key)
        right = Namespace(key, proof.hex())
        await put(store, right, {0: A})
        assert await get(store, right, 0) == A
        for wrong in (None, "", "zz", os.urandom(32).hex(), proof.hex()[:-2]):
            with pytest.raises(NotFound):
                await store.stat(Namespace(key, wrong))
            with pytest.raises(NotFound):
                await store.read(Namespace(key, wrong), [PageRead(0, "7" + "f" * 19)])
            with pytest.raises(NotFound):
                await put(store, Namespace(key, wrong), {0: B})

    async def test_key_whose_hash_is_no_hash_is_never_served(self, store: Store) -> None:
        key = f"odd-{os.urandom(4).hex()}:nothex"
        with contextlib.suppress(BadInput):  # a door makes none of such a key
            await store.create_namespace(key)
        with pytest.raises(NotFound):
            await store.stat(Namespace(key, "00"))


class OverlayRules:
    async def test_overlay_reads_its_base_at_the_snapshot_until_it_writes(self, store: Store) -> None:
        base = await new_namespace(store)
        at = (await put(store, base, {0: A, 1: B})).version
        await put(store, base, {0: C})
        child = await fork(store, base, at)
        await put(store, base, {1: D})
        assert [await get(store, child, page) for page in range(3)] == [A, B, b""]
        await put(store, child, {1: D, 2: D})
        assert [await get(store, child, page) for page in range(3)] == [A, D, D]
        assert [await get(store, base, page) for page in range(3)] == [C, D, b""]

    async def test_overlay_that_was_never_written_has_its_id_as_head(self, store: Store) -> None:
        base = await new_namespace(store)
        child = await fork(store, base, (await put(store, base, {0: A})).version)
        info = await store.namespace_info(child.key)
        assert await head(store, child) == info.ns_id
        assert info.overlay_base is not None
        assert await get(store, child, 0) == A

    async def test_overlay_s_commit_names_content_of_its_base(self, store: Store) -> None:
        """A client does so that read a page through the overlay and puts it elsewhere. The base may let it go later."""
        base = await new_namespace(store)
        at = (await put(store, base, {0: A, 1: B})).version
        child = await fork(store, base, at)
        moved = part(child, await head(store, child), {5: A, 6: A, 7: B, 8: A}, inline=False)
        await store.commit(request(moved))
        last = (await put(store, base, {0: C, 1: C})).version
        _ = [line async for line in store.truncate_namespace(base.key, last)]
        _ = [line async for line in store.delete_unreferenced_content(base.key)]
        assert [await get(store, child, page) for page in range(5, 9)] == [A, A, B, A]
        assert [await get(store, child, page) for page in range(2)] == [A, B]
        with pytest.raises(Gone):
            await store.commit(request(part(child, await head(store, child), {5: D}, inline=False)))
        stranger = await new_namespace(store)
        with pytest.raises(Gone):
            await store.commit(request(part(stranger, await head(store, stranger), {5: A}, inline=False)))

    async def test_base_with_overlays_is_not_deleted(self, store: Store) -> None:
        base = await new_namespace(store)
        child = await fork(store, base, (await put(store, base, {0: A})).version)
        with pytest.raises(Conflict):
            await store.delete_namespace(base.key)
        await store.delete_namespace(child.key)
        await store.delete_namespace(base.key)

    async def test_locked_base_is_not_forked(self, store: Store) -> None:
        base = await new_namespace(store)
        at = (await put(store, base, {0: A})).version
        await store.lock(base, "me")
        with pytest.raises(Conflict):
            await fork(store, base, at)

    async def test_base_is_not_rolled_back_below_an_overlay(self, store: Store) -> None:
        base = await new_namespace(store)
        first = (await put(store, base, {0: A})).version
        second = (await put(store, base, {0: B})).version
        child = await fork(store, base, second)
        with pytest.raises(Conflict):
            await store.lock(base, "me", first)
        assert await get(store, child, 0) == B

    async def test_truncation_leaves_what_an_overlay_reads(self, store: Store) -> None:
        base = await new_namespace(store)
        first = (await put(store, base, {0: A})).version
        second = (await put(store, base, {0: B})).version
        child = await fork(store, base, first)
        last = (await put(store, base, {0: C})).version
        _ = [line async for line in store.truncate_namespace(base.key, last)]
        assert await get(store, child, 0) == A
        assert await get(store, base, 0, second) == B


class TruncationRules:
    async def test_reads_below_the_mark_are_gone_and_others_stay(self, store: Store) -> None:
        ns = await new_namespace(store)
        made = [(await put(store, ns, {0: b"%d" % n, n + 1: A})).version for n in range(6)]
        _ = [line async for line in store.truncate_namespace(ns.key, made[3])]
        for version in made[:3]:
            with pytest.raises(Gone):
                await get(store, ns, 0, version)
        for n in (3, 4, 5):
            assert await get(store, ns, 0, made[n]) == b"%d" % n
            assert await get(store, ns, 1, made[n]) == A
        assert (await store.namespace_info(ns.key)).truncated_before == made[3]

    async def test_forking_below_the_mark_conflicts(self, store: Store) -> None:
        ns = await new_namespace(store)
        first = (await put(store, ns, {0: A})).version
        last = (await put(store, ns, {0: B})).version
        _ = [line async for line in store.truncate_namespace(ns.key, last)]
        with pytest.raises(Conflict):
            await fork(store, ns, first)

    async def test_a_lock_and_a_fork_stand_at_the_mark_and_not_below_it(self, store: Store) -> None:
        ns = await new_namespace(store)
        first = (await put(store, ns, {0: A})).version
        mark = (await put(store, ns, {0: B})).version
        await put(store, ns, {0: C})
        _ = [line async for line in store.truncate_namespace(ns.key, mark)]
        for below in (first, shifted(mark, -1)):
            with pytest.raises(Conflict):
                await store.lock(ns, "me", below)
        assert await get(store, await fork(store, ns, mark), 0) == B
        await store.lock(ns, "me", mark)
        assert await head(store, ns) == mark
        assert await get(store, ns, 0) == B

    async def test_trying_a_truncation_changes_nothing(self, store: Store) -> None:
        ns = await new_namespace(store)
        first = (await put(store, ns, {0: A})).version
        last = (await put(store, ns, {0: B})).version
        _ = [line async for line in store.truncate_namespace(ns.key, last, apply=False)]
        assert await get(store, ns, 0, first) == A

    async def test_the_lock_snapshot_holds_truncation_back(self, store: Store) -> None:
        ns = await new_namespace(store)
        first = (await put(store, ns, {0: A})).version
        await store.lock(ns, "me")
        last = (await put(store, ns, {0: B}, owner="me")).version
        _ = [line async for line in store.truncate_namespace(ns.key, last)]
        assert await get(store, ns, 0, first) == A

    async def test_collection_keeps_fresh_and_referenced_content(self, store: Store) -> None:
        ns = await new_namespace(store)
        version = (await put(store, ns, {0: A})).version
        (fresh,) = await store.write(ns, [B])
        _ = [line async for line in store.delete_unreferenced_content(ns.key)]
        assert await get(store, ns, 0, version) == A
        assert (await store.read(ns, [PageRead(0, version, fresh)]))[0].data == B

    async def test_upkeep_of_a_namespace_that_is_not_there_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            _ = [line async for line in store.truncate_namespace("no-such-namespace", "0" * 20)]
        with pytest.raises(NotFound):
            _ = [line async for line in store.delete_unreferenced_content("no-such-namespace")]
