"""Who may parse next: all connections of the loop together get so much of each of its turns. Room: http.

One connection that has more to parse than a turn allows goes on in the next one; a hundred of them would still make
that turn a hundred times as long, and frames of all worlds would wait for it. So what is left waits here, addresses
take it in turn, and whoever waits is not read from.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from gateway import limits


class Turns:
    """One for all TCP doors of a loop. ``clock``: seconds, as exact as they come."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._spent_s = 0.0
        """In this turn of the loop, or in several that left something."""
        self._waiting: OrderedDict[str, deque[Callable[[], None]]] = OrderedDict()
        """By address; whose turn it is stands first."""
        self._is_asked = False
        self.held_bytes = 0
        """Read, and not parsed yet, of all connections."""
        self._dropped: dict[str, int] = {}
        """Bytes read of connections that are over, by address, until :attr:`_dropped_until`."""
        self._dropped_until = 0.0

    def admits(self, peer: str) -> bool:
        """Whether a connection of this address may parse at once what has come."""
        # An address that waits already has all its connections wait: else one with a hundred of them would
        # have a hundred turns.
        return self._spent_s < limits.TCP_TURN_S and peer not in self._waiting

    def until(self) -> float:
        """When a connection that begins to parse now should stop, by :func:`time.perf_counter`."""
        return self._clock() + (limits.TCP_SLICE_S if self._waiting else limits.TCP_TURN_S)

    def run(self, call: Callable[..., None], *args: object) -> None:
        """Call it, and count what it takes."""
        began = self._clock()
        call(*args)
        self._spent_s += self._clock() - began

    def charge(self, seconds: float) -> None:
        """What parsing has begun takes so much more of the loop, later."""
        self._spent_s += seconds

    def may_drop(self, peer: str, size: int) -> bool:
        """Whether so many bytes more of this address may be read only to be dropped: a hundred connections that are over,
        and go on sending, would take a core for as long as each of them may."""
        now = self._clock()
        if now >= self._dropped_until:
            self._dropped.clear()
            self._dropped_until = now + limits.HTTP_LINGER_S_MAX
        self._dropped[peer] = self._dropped.get(peer, 0) + size
        return self._dropped[peer] <= limits.HTTP_LINGER_ADDRESS_BYTES_MAX

    async def admitted(self, peer: str, worked_s: float) -> None:
        """Return when a connection of this address may work on that has worked so long, and is taken to do so again."""
        self._spent_s += worked_s
        if self.admits(peer):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def begin() -> None:
            if not turn.done():
                turn.set_result(None)
                # What it is taken to do counts before it is done, or all that wait would be let in
                # together.
                self._spent_s += worked_s

        self.soon(peer, begin)
        await turn

    def soon(self, peer: str, call: Callable[[], None]) -> None:
        """Call it when it is its turn, in a later one of the loop."""
        waiting = self._waiting.get(peer)
        if waiting is None:
            waiting = self._waiting[peer] = deque()
        waiting.append(call)
        if not self._is_asked:
            self._is_asked = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """The loop's next turn: some of those that wait."""
        self._is_asked = False
        self._spent_s = 0.0
        left = sum(map(len, self._waiting.values()))  # whoever asks meanwhile has had its turn
        while left and self._waiting:
            left -= 1
            self.run(self._next())
            if self._spent_s >= limits.TCP_TURN_S:
                break
        self._spent_s = 0.0
        if self._waiting and not self._is_asked:
            self._is_asked = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _next(self) -> Callable[[], None]:
        # Taken out and put back at the end: addresses by turns, whatever each has waiting.
        peer, waiting = self._waiting.popitem(last=False)
        call = waiting.popleft()
        if waiting:
            self._waiting[peer] = waiting
        return call
