"""Several addresses of one name, tried in turn and none waited for long: the first that answers is used. Room: quic.

Source: RFC 8305 (Happy Eyeballs), sections 4 and 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import TypeVar

from gateway import limits
from gateway.quic.connection.paths import Address

T = TypeVar("T")
Resolved = tuple[int, Address]
"""A family and a socket address of it."""

HEAD_START_S = 0.25
"""How long an attempt is alone before the next begins (section 5: 250 ms)."""


async def resolve(host: str, port: int, kind: int) -> list[Resolved]:
    """The addresses of ``host``, the families by turns, as the system prefers them. Raises ``OSError``. RFC 8305 section 4."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)
    families: dict[int, list[Resolved]] = {}
    for family, _, _, _, address in found:
        if isinstance(address[0], int):
            continue  # what Python gives for IPv6 where it was built without
        if (family, address) not in families.setdefault(family, []):
            families[family].append((family, address))
    by_turns = chain.from_iterable(zip_longest(*families.values()))
    return [one for one in by_turns if one is not None][: limits.QUIC_ADDRESSES_TRIED_MAX]


async def first_of(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    discard: Callable[[T], None],
    *,
    head_start_s: float = HEAD_START_S,
    timeout_s: float | None = None,
) -> T:
    """What the first attempt to succeed answers; each begins when the one before has failed, or has had its head start.

    The others are cancelled, and what one of them answers all the same goes to ``discard``, also when this is cancelled.
    Raises the first attempt's exception if all fail, ``TimeoutError`` when none has succeeded ``timeout_s`` after the last
    one began: counted from the first, a name's last addresses would have less of it, or never be tried.
    RFC 8305 section 5.
    """
    loop = asyncio.get_running_loop()
    running: list[asyncio.Task[T]] = []
    waiting = list(attempts)
    winner: asyncio.Task[T] | None = None
    deadline: float | None = None
    try:
        while winner is None and (waiting or not all(task.done() for task in running)):
            if waiting:
                running.append(asyncio.ensure_future(_run(waiting.pop(0))))
                if not waiting and timeout_s is not None:
                    deadline = loop.time() + timeout_s
            pending = [task for task in running if not task.done()]
            patience_s = head_start_s if waiting else None if deadline is None else deadline - loop.time()
            done, _ = await asyncio.wait(pending, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if not done and not waiting:
                raise TimeoutError
            winner = next(filter(_succeeded, running), None)
    finally:
        _let_go((task for task in running if task is not winner), discard)
    if winner is not None:
        return winner.result()
    error = running[0].exception()
    assert error is not None
    raise error


async def _run(attempt: Callable[[], Awaitable[T]]) -> T:
    return await attempt()


def _succeeded(task: asyncio.Task[T]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _let_go(tasks: Iterable[asyncio.Task[T]], discard: Callable[[T], None]) -> None:
    def drop(task: asyncio.Task[T]) -> None:
        if _succeeded(task):
            discard(task.result())
        elif not task.cancelled():
            # Asked for, so that asyncio does not report an exception that nobody retrieved: the first attempt's is
            # what is raised.
            task.exception()

    for task in tasks:
        task.add_done_callback(drop)
        task.cancel()
