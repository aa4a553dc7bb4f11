"""When the epoch of a world's publisher ends, written where ``docs/SCHEMA.md`` says. Room: runtime.

An epoch lasts while its publisher is there, or may come back within its linger time. It has ended when
that is over, or the world is closed, and then when its last frame is in the store: so that it never seems
to have ended before what was published in it. A publisher that comes back later still begins it again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from gateway import limits
from gateway.core.world import World
from gateway.errors import GatewayError
from gateway.runtime.recording import WorldRecording
from gateway.wallclock import now_us

log = logging.getLogger("mvgateway.world")


class EpochEnds:
    """Of one open world; nobody else writes ``ended_at`` of the epochs that were begun here."""

    def __init__(self, world: World, database: WorldRecording) -> None:
        self._world = world
        self._database = database
        self._open: int | None = None

    async def attached(self, reclaimed: int | None) -> int:
        """The epoch of a publisher that attaches, in the store when this returns: the one that it gets
        back, or (None) the next."""
        if reclaimed is None or reclaimed != self._open:
            self._open = await self._database.begin_epoch(reclaimed)
        return self._open

    async def settle(self) -> None:
        """Write the end of an epoch whose publisher is gone for good, unless frames of it still wait.
        Where the store does not take it, the next call does."""
        if self._world.publisher is None and not self._world.is_lingering and self._world.journal.empty:
            with suppress(GatewayError):
                await self._end()

    async def leave(self) -> None:
        """Nothing more is written to the world from here: its epoch ends, if nobody publishes, all of it is in
        the store and the store answers."""
        if self._world.publisher is not None or not self._world.journal.empty:
            return
        try:
            async with asyncio.timeout(limits.EPOCH_END_S_MAX):
                await self._end()
        except (GatewayError, TimeoutError) as error:
            name = self._world.name
            log.info("world %s: the end of its epoch was not written: %s", name, str(error) or "no answer")

    async def _end(self) -> None:
        epoch = self._open
        if epoch is None:
            return
        left_us = self._world.publisher_left_us or now_us()
        await self._database.end_epoch(epoch, left_us)
        if self._open == epoch and self._world.publisher is None:
            self._open = None
