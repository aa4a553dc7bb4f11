"""Old versions of inventories, let go as those of worlds are: trading must not make a store grow. Room: runtime.

An inventory is opened for a trade and closed again when others are used, so what was written to it is remembered
here for longer than its database is open. Source: :mod:`gateway.store.world.maintenance`, ``docs/STORE.md``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from gateway import limits
from gateway.errors import GatewayError, NotFound
from gateway.store.base import Store
from gateway.store.world.maintenance import Upkeep, Written
from gateway.store.world.schema import Retention

log = logging.getLogger("mvgateway.entities")

KEPT = Retention("record")
"""Looks into the past are served from versions, as those of a world's entities."""


class InventoryUpkeep:
    """Of the inventories written here. :meth:`written` for one that is opened, :meth:`aclose` at the end."""

    def __init__(self, store: Store, clock_us: Callable[[], int]) -> None:
        self._store = store
        self._clock_us = clock_us
        self._known: OrderedDict[str, tuple[Written, Upkeep]] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

    def written(self, key: str) -> Written:
        """Where the commits to this namespace are counted. The least lately opened one is forgotten beyond
        ``INVENTORIES_TIDIED_MAX``."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        known = self._known.get(key)
        if known is None:
            written = Written()
            known = self._known[key] = written, Upkeep(self._store, key, written)
            if len(self._known) > limits.INVENTORIES_TIDIED_MAX:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return known[0]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(limits.MAINTAIN_S)
            await self.tidy()

    async def tidy(self) -> None:
        """What is due of each, one after the other. A failure is the log's, at its first, second, fourth… time."""
        now_s = self._clock_us() // 1_000_000
        for key, (written, upkeep) in list(self._known.items()):
            # Nothing new, so nothing old either: the store is not asked.
            if not written.pages:
                continue
            try:
                await upkeep.run(KEPT, now_s)
            except NotFound:  # deleted meanwhile
                self._known.pop(key, None)
            except GatewayError as error:
                self._failures += 1
                # A power of two has one bit.
                if self._failures & (self._failures - 1) == 0:
                    log.warning("%s: old versions stay for now: %s", key, error.message)

    async def aclose(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
