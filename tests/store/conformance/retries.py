"""Idempotency by a record per attempt: more than mvstore promises, which knows only the last commit."""

from __future__ import annotations

import os

from gateway.store.base import Store
from tests.store.conformance.kit import A, B, C, get, head, new_namespace, part, put, request


class RetryRules:
    async def test_retry_after_an_unrelated_commit_is_still_recognised(self, store: Store) -> None:
        ns = await new_namespace(store)
        key, base = os.urandom(16), await head(store, ns)
        first = await store.commit(request(part(ns, base, {0: A}), key=key))
        for n in range(5):
            await put(store, ns, {1: b"%d" % n})
        again = await store.commit(request(part(ns, base, {0: A}), key=key, first=False))
        assert again.version == first.version
        assert again.changelog == {}

    async def test_retry_does_not_put_old_content_over_new(self, store: Store) -> None:
        ns = await new_namespace(store)
        key, base = os.urandom(16), await head(store, ns)
        await store.commit(request(part(ns, base, {0: A}, read_set=[]), key=key))
        await put(store, ns, {0: B})
        await store.commit(request(part(ns, base, {0: A}, read_set=[]), key=key, first=False))
        assert await get(store, ns, 0) == B

    async def test_retry_over_two_namespaces_is_recognised(self, store: Store) -> None:
        one, two = await new_namespace(store), await new_namespace(store)
        key = os.urandom(16)
        parts = [part(ns, await head(store, ns), {0: A}) for ns in (one, two)]
        first = await store.commit(request(*parts, key=key))
        await put(store, one, {0: B})
        await put(store, two, {0: C})
        assert (await store.commit(request(*parts, key=key, first=False))).version == first.version
        assert (await get(store, one, 0), await get(store, two, 0)) == (B, C)

    async def test_retry_that_never_arrived_before_commits_now(self, store: Store) -> None:
        ns = await new_namespace(store)
        await store.commit(request(part(ns, await head(store, ns), {0: A}), first=False))
        assert await get(store, ns, 0) == A

    async def test_same_key_in_another_namespace_is_another_commit(self, store: Store) -> None:
        one, two = await new_namespace(store), await new_namespace(store)
        key = os.urandom(16)
        await store.commit(request(part(one, await head(store, one), {0: A}), key=key))
        await store.commit(request(part(two, await head(store, two), {0: B}), key=key, first=False))
        assert await get(store, two, 0) == B
