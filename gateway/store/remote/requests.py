"""The data plane's requests, and how several go side by side. Room: store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from gateway import limits
from gateway.store.base import Namespace, Version
from gateway.store.remote.transport import Ask, StoreAnswer
from gateway.wire.mvstore import version_of

T = TypeVar("T")
U = TypeVar("U")


def ask_for(
    method: str,
    path: str,
    ns: Namespace | None,
    body: bytes = b"",
    answer_bytes_max: int = limits.STORE_SMALL_ANSWER_BYTES_MAX,
    *,
    replayable: bool = False,
) -> Ask:
    headers = {}
    if ns is not None:
        headers["x-namespace-key"] = ns.key
        if ns.proof is not None:
            headers["x-namespace-hashproof"] = ns.proof
    return Ask(method, path, headers, body, answer_bytes_max, replayable)


def ask_stat(ns: Namespace, from_version: Version | None, lock_owner: str | None) -> Ask:
    if from_version:
        version_of(from_version)
    fields = {"from_version": from_version, "lock_owner": lock_owner}
    query = urlencode({name: value for name, value in fields.items() if value is not None})
    return ask_for("GET", "/stat" + (f"?{query}" if query else ""), ns, replayable=True)


def cut(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[at : at + size] for at in range(0, len(items), size)]


async def side_by_side(work: Callable[[T], Awaitable[U]], parts: Iterable[T]) -> list[U]:
    """``work`` over all parts, a few at once; the first failure ends the others."""
    parts = list(parts)
    # The usual case: no task, and an error that no group wraps.
    if len(parts) == 1:
        return [await work(parts[0])]
    places = asyncio.Semaphore(limits.STORE_REQUESTS_AT_ONCE)

    async def one(part: T) -> U:
        async with places:
            return await work(part)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(part)) for part in parts]
    except BaseExceptionGroup as failures:
        # The others failed because they were cancelled, or alike.
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def ignored(answer: StoreAnswer, url: str) -> None:
    """Takes a good answer that says nothing."""
