"""Opening things with a store that may be silent: who waits is told in time, and why. Room: runtime.

Threads cannot be called back from a store that does not answer: what was begun goes on, and whoever asks
again finds it further on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from gateway.core.ports import Hosted, Link
from gateway.errors import StoreUnavailable
from gateway.limits import SESSION_COMES_AGAIN_S

T = TypeVar("T")
Wanted = Callable[[], bool]
"""Whether anybody still waits for what is being opened."""


class Patiently:
    """``store``: as the settings name it; ``failure``: why it does not answer, where that is known."""

    def __init__(self, store: str, failure: Callable[[], str | None]) -> None:
        self._store = store
        self._failure = failure
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}

    async def shared(
        self, key: Hashable, what: str, begin: Callable[[], Awaitable[T]], patience_s: float
    ) -> T:
        """``begin()``, or what was begun for this key before. Raises :class:`StoreUnavailable` in time."""
        task = _once(self._under_way, key, begin)
        await asyncio.wait([task], timeout=patience_s)
        if not task.done():
            raise self._too_late(what)
        result: T = task.result()
        return result

    async def session(
        self, what: str, begin: Callable[[Wanted], Awaitable[Hosted]], patience_s: float
    ) -> Hosted:
        """``begin(wanted)``, which asks ``wanted()`` before it gives anybody a role: what opens too late, or for
        somebody who is gone, is not. Raises :class:`StoreUnavailable` in time."""
        is_wanted = True
        task = asyncio.ensure_future(_of(begin(lambda: is_wanted)))
        try:
            await asyncio.wait([task], timeout=patience_s)
        except BaseException:  # whoever waited is gone, also where it has just been opened
            is_wanted = False
            # What opens all the same is closed as soon as it is there: a session nobody holds would keep
            # its role.
            task.add_done_callback(_end)
            raise
        if not task.done():
            is_wanted = False
            task.add_done_callback(_end)
            raise self._too_late(what)
        return task.result()

    def _too_late(self, what: str) -> StoreUnavailable:
        why = self._failure() or f"{self._store}, or the gateway that had it before, has said nothing so far"
        return StoreUnavailable(f"{what} cannot be opened yet: {why}; it is tried on, ask again")


class _Claim:
    """Who waits for what was begun."""

    def __init__(self) -> None:
        self._waiting: list[Wanted] = []
        self._seen = time.monotonic()

    def join(self, wanted: Wanted) -> None:
        """One more waits."""
        self.wanted()  # those that are gone are forgotten: a publisher asks again and again while a store is away
        self._waiting.append(wanted)

    def wanted(self) -> bool:
        """Whether somebody waits, or was refused so lately that it may ask again."""
        now = time.monotonic()
        self._waiting = [wanted for wanted in self._waiting if wanted()]
        if self._waiting:
            self._seen = now
            return True
        return now - self._seen < SESSION_COMES_AGAIN_S


class Together:
    """What is begun once for all who want the same. Whoever is refused, for it takes too long, and asks again finds it as far as it
    is by then: begun anew each time it would never end where the store is slow, and many at once make it so."""

    def __init__(self) -> None:
        self._claims: dict[Hashable, _Claim] = {}
        self._under_way: dict[Hashable, asyncio.Task[object]] = {}

    async def wait(self, key: Hashable, begin: Callable[[Wanted], Awaitable[object]], wanted: Wanted) -> None:
        """Until ``begin(wanted)``, or what was begun for this key before, is done. It asks whether it is wanted still: by anybody
        who waits here. Raises what it raises."""
        is_new = key not in self._under_way
        claim = _Claim() if is_new else self._claims[key]
        claim.join(wanted)
        # The claim's and not this caller's: the first may give up while others still wait.
        task = _once(self._under_way, key, lambda: begin(claim.wanted))
        if is_new:
            self._claims[key] = claim
            task.add_done_callback(lambda _: self._forget(key, claim))
        await asyncio.wait([task])
        task.result()

    def _forget(self, key: Hashable, claim: _Claim) -> None:
        # Another may have begun by now, in the turn between the task's end and this.
        if self._claims.get(key) is claim:
            del self._claims[key]


def always() -> bool:
    """Somebody waits, however long it takes."""
    return True


def check_wanted(world: str, wanted: Wanted) -> None:
    """Raise :class:`StoreUnavailable` where nobody waits any more. Whoever was refused is elsewhere by now: what is still done in
    its name takes the world from where it went."""
    if not wanted():
        raise StoreUnavailable(f"world {world}: whoever wanted to publish has given up meanwhile")


def is_gone(link: Link) -> bool:
    """True where the peer has left before its session was open, as far as its transport knows by then."""
    return link.closed_code is not None


def _once(
    under_way: dict[Hashable, asyncio.Task[T]], key: Hashable, begin: Callable[[], Awaitable[T]]
) -> asyncio.Task[T]:
    """What was begun for this key before and still goes on, else ``begin()``."""
    if key not in under_way:

        def forget(task: asyncio.Task[T]) -> None:
            del under_way[key]
            if not task.cancelled():
                task.exception()  # whoever waited has it; where nobody did, nobody is told

        under_way[key] = asyncio.ensure_future(_of(begin()))
        under_way[key].add_done_callback(forget)
    return under_way[key]


async def _of(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _end(task: asyncio.Task[Hosted]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().on_closed(time.monotonic())
