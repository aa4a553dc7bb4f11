"""Many sessions that one process opens at once go in turns, or each would be slow enough to give UDP up. Room: client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from gateway import limits
from gateway.client.address import Address


class ConnectTurns:
    """Of one gateway, on one event loop: who connects now, and whether its UDP is known to get through."""

    def __init__(self) -> None:
        self.udp_answers = False
        self._users = 0
        self._room = asyncio.Semaphore(limits.CLIENT_CONNECTS_AT_ONCE_MAX)

    def patience_s(self, given_s: float) -> float:
        """How long a handshake over UDP may take: one that is slow where another has just come through is no blocked one."""
        return max(given_s, limits.CLIENT_CONNECT_S_MAX) if self.udp_answers else given_s


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Address, ConnectTurns]] = WeakKeyDictionary()
"""Only while somebody connects: what was known of an address is forgotten with the last one."""


@asynccontextmanager
async def turn(address: Address) -> AsyncIterator[ConnectTurns]:
    """Wait for a turn to connect to ``address``, and have it until the block ends."""
    here = _turns.setdefault(asyncio.get_running_loop(), {})
    turns = here.setdefault(address, ConnectTurns())
    turns._users += 1
    try:
        async with turns._room:
            yield turns
    finally:
        turns._users -= 1
        if not turns._users and here.get(address) is turns:
            del here[address]
