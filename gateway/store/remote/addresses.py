"""Which of several addresses to ask, and how long to wait before asking again. Room: store.

Pure but for the arguments: the clock and the randomness come in.
Source: mvSQLite's client waits 50 ms, then half as long again each time, up to 10 s, ± 20 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway import limits
from gateway.store.remote.transport import Transport


class Backoff:
    """Waits that grow. ``uniform``: a random float between two (``random.uniform``)."""

    __slots__ = ("_delay_s", "_uniform")

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._delay_s = limits.STORE_BACKOFF_S_MIN

    def next_s(self) -> float:
        """The next wait, in seconds."""
        # Scattered, or all gateways that lost a store together would come back to it together.
        wait_s = self._delay_s * self._uniform(0.8, 1.2)
        self._delay_s = min(self._delay_s * 1.5, limits.STORE_BACKOFF_S_MAX)
        return wait_s


@dataclass(slots=True)
class _Address:
    transport: Transport
    backoff: Backoff
    set_aside_until: float = 0.0
    failures: int = 0


class Addresses:
    """Several ways to one store. The one that answered last is kept; one that failed is set aside
    for a time that grows with every failure, and comes back by itself."""

    def __init__(self, transports: Sequence[Transport], uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._all = [_Address(transport, Backoff(uniform)) for transport in transports]
        self._current = self._all[0]

    def __len__(self) -> int:
        return len(self._all)

    @property
    def transports(self) -> list[Transport]:
        """All of them, in the order given."""
        return [address.transport for address in self._all]

    def pick(self, now: float) -> Transport:
        """The one to ask: the current one if it is not set aside, else the next that isn't, else the
        one that comes back first."""
        if self._current.set_aside_until > now:
            at = self._all.index(self._current)
            # From the next one on: min() takes the first of equals, and that should not be the same one for all.
            order = self._all[at + 1 :] + self._all[: at + 1]
            self._current = min(order, key=lambda address: max(address.set_aside_until, now))
        return self._current.transport

    def any_ready(self, now: float) -> bool:
        """Whether one of them is not set aside."""
        return any(address.set_aside_until <= now for address in self._all)

    def good(self, transport: Transport) -> None:
        """It answered."""
        address = self._of(transport)
        # Only the answer of one that had failed changes anything: this runs for every request.
        if address.failures:
            address.failures = 0
            address.set_aside_until = 0.0
            address.backoff = Backoff(self._uniform)

    def bad(self, transport: Transport, now: float) -> None:
        """It did not answer, or with a 5xx."""
        address = self._of(transport)
        address.failures += 1
        address.set_aside_until = now + address.backoff.next_s()

    def health(self) -> dict[str, int]:
        """Failures in a row, by URL."""
        return {address.transport.url: address.failures for address in self._all}

    def _of(self, transport: Transport) -> _Address:
        return next(address for address in self._all if address.transport is transport)
