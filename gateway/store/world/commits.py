"""Commits of many worlds that have nothing to do with each other, on their way to the store. Room: store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from gateway.errors import BadInput, GatewayError, StoreUnavailable
from gateway.limits import STORE_COMMIT_NAMESPACES_MAX, STORE_INLINE_PAGES
from gateway.store.base import CommitRequest, Committed, GroupStore, Store

Answer = Committed | Exception
Answers = Sequence[tuple[int, Answer]]
"""By the requests' places."""


class Commits(Protocol):
    """How commits that have nothing to do with each other reach the store together."""

    def commit(self, requests: Sequence[CommitRequest], tell: Callable[[Answers], None]) -> None:
        """Called on a thread. ``tell`` gets each answer once, in one call or several, on any thread, before
        this returns or after."""


class AtOnce:
    """To a store in this process: one sync for all."""

    def __init__(self, store: GroupStore) -> None:
        self._store = store

    def commit(self, requests: Sequence[CommitRequest], tell: Callable[[Answers], None]) -> None:
        try:
            answers: Sequence[Answer] = self._store.commit_each(requests)
        except Exception as error:
            answers = [error] * len(requests)
        tell(list(enumerate(answers)))


class InGroups:
    """To a store over there: as many worlds in a commit as it takes, and all commits side by side, so that
    who waits for one of them does not hold up the next. A group that is refused goes again one by one:
    the refusal is one world's."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._under_way: set[asyncio.Task[None]] = set()

    def commit(self, requests: Sequence[CommitRequest], tell: Callable[[Answers], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._begin, requests, tell)
        except RuntimeError as error:  # the loop is closed
            failure = StoreUnavailable(f"the gateway has ended: {error}")
            tell([(at, failure) for at in range(len(requests))])

    def _begin(self, requests: Sequence[CommitRequest], tell: Callable[[Answers], None]) -> None:
        for group in groups(requests):
            task = self._loop.create_task(self._group(requests, group, tell))
            # The loop holds tasks weakly: without this one could be collected before its end
            # (https://docs.python.org/3/library/asyncio-task.html#asyncio.create_task).
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _group(
        self, requests: Sequence[CommitRequest], group: Sequence[int], tell: Callable[[Answers], None]
    ) -> None:
        # Under the first one's idempotency key: the answer is the group's, and each world has only one
        # commit under way.
        parts = [part for at in group for part in requests[at].namespaces]
        answer = await self._one(replace(requests[group[0]], namespaces=parts))
        if isinstance(answer, BadInput) and len(group) > 1:
            # the group's first attempt may have been served under the first one's key, whatever a later one was told
            alone = [replace(requests[at], first_attempt=False) for at in group]
            each = await asyncio.gather(*(self._one(request) for request in alone))
            tell(list(zip(group, each, strict=True)))
        else:
            tell([(at, answer) for at in group])

    async def _one(self, request: CommitRequest) -> Answer:
        try:
            return await self._store.commit(request)
        except GatewayError as error:
            return error
        except asyncio.CancelledError:
            return StoreUnavailable("the gateway ended under a commit")
        # Whatever it was: who waits for an answer waits on a thread that nothing else wakes.
        except Exception as error:
            return StoreUnavailable(f"a commit broke off: {error!r}")


def groups(requests: Sequence[CommitRequest]) -> list[list[int]]:
    """Places of requests that go in one commit: within the store's bound of namespaces, and no more pages
    than travel inside of it."""
    made: list[list[int]] = []
    pages = 0
    for at, request in enumerate(requests):
        count = sum(len(part.pages) for part in request.namespaces)
        fits = (
            bool(made) and len(made[-1]) < STORE_COMMIT_NAMESPACES_MAX and pages + count <= STORE_INLINE_PAGES
        )
        if not fits:
            made.append([])
            pages = 0
        made[-1].append(at)
        pages += count
    return made
