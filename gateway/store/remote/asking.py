"""Asking a remote store until it answers, by the protocol's rules. Room: store.

Any 5xx, a broken connection and a body that ends early are asked again, with a growing wait and at
the next address; any 4xx is final. Nothing is asked for longer than the deadline. Source: docs/STORE.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from gateway.errors import StoreUnavailable
from gateway.store.remote.addresses import Addresses, Backoff
from gateway.store.remote.transport import Ask, StoreAnswer, StoreFailed, Transport, check

T = TypeVar("T")
Bears = Callable[[StoreUnavailable], bool]


def bears(kind: type[StoreUnavailable], times: int) -> Bears:
    """Says no to the last of so many failures of a kind."""
    left = [times]

    def ask(failure: StoreUnavailable) -> bool:
        left[0] -= isinstance(failure, kind)
        return left[0] > 0

    return ask


class Incomplete(StoreUnavailable):
    """A good answer whose body ended early."""

    code = "store_incomplete"


@dataclass(slots=True)
class AskCounters:
    """What it took, since the start."""

    requests: int = 0
    retries: int = 0
    failovers: int = 0
    given_up: int = 0


class Asker:
    """The retry loop over the addresses of one store. Time, sleep and randomness come in."""

    def __init__(
        self,
        addresses: Addresses,
        *,
        deadline_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        uniform: Callable[[float, float], float],
    ) -> None:
        self.addresses = addresses
        self.counters = AskCounters()
        self._deadline_s = deadline_s
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform

    async def ask(
        self,
        make: Callable[[int], Ask],
        take: Callable[[StoreAnswer, str], T],
        *,
        bears: Bears = lambda failure: True,
        more_s: float = 0.0,
    ) -> T:
        """Send ``make(attempt)`` and ``take`` its good answer, until that works.

        ``take`` raises :class:`Incomplete` for a short body. ``bears(failure)``: False raises it instead of asking
        again. ``more_s``: beyond the deadline, for what takes the store longer. Raises the error that a 4xx stands for,
        or what the last attempt raised once the deadline has passed.
        """
        deadline_s = self._deadline_s + more_s
        until, backoff, attempt = self._clock() + deadline_s, Backoff(self._uniform), 0
        while True:
            transport = self.addresses.pick(self._clock())
            try:
                return await self._once(transport, make(attempt), take, until, deadline_s)
            except StoreUnavailable as error:
                failure = error
                # Not counted against the address: it answered, and what it said is final for this request
                # alone.
                if not bears(error):
                    raise
                self.addresses.bad(transport, self._clock())
            attempt += 1
            await self._pause(backoff, until, failure)

    async def _once(
        self,
        transport: Transport,
        ask: Ask,
        take: Callable[[StoreAnswer, str], T],
        until: float,
        deadline_s: float,
    ) -> T:
        self.counters.requests += 1
        # Never nothing: the first attempt of a request is made, however late it is.
        left_s = max(until - self._clock(), 0.001)
        # Each address gets its share of the deadline: one that is silent must not use up what the others need.
        answer = await transport.request(ask, min(left_s, deadline_s / len(self.addresses)))
        result = take(check(answer, transport.url), transport.url)
        self.addresses.good(transport)
        return result

    async def _pause(self, backoff: Backoff, until: float, failure: StoreUnavailable) -> None:
        """Wait before the next attempt; not at all where another address is ready. Raises at the deadline."""
        now = self._clock()
        wait_s = 0.0 if self.addresses.any_ready(now) else backoff.next_s()
        if now + wait_s >= until:
            self.counters.given_up += 1
            raise self._given_up(failure) from failure
        self.counters.retries += 1
        if wait_s:
            await self._sleep(wait_s)
        else:
            self.counters.failovers += 1

    def _given_up(self, failure: StoreUnavailable) -> StoreUnavailable:
        urls = ", ".join(transport.url for transport in self.addresses.transports)
        text = (
            f"no good answer from {urls} within {self._deadline_s:g} s; the last attempt: {failure.message}"
        )
        # As the last attempt's own class: whoever asked tells a store that failed from one that is away by
        # it.
        return (
            type(failure)(text) if isinstance(failure, Incomplete | StoreFailed) else StoreUnavailable(text)
        )


def real_sleep(seconds: float) -> Awaitable[None]:
    """``asyncio.sleep``, typed as what :class:`Asker` takes."""
    return asyncio.sleep(seconds)
