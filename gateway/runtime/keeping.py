"""Keeps what is open here true to its name: others over the same store may delete it and make it again. Room: runtime.

A writer learns that by its next commit, whatever happens (:mod:`gateway.store.world.identity`). This is for
those who only read. It also removes what was deleted, when its time has come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from gateway.errors import Forbidden, GatewayError, NotFound
from gateway.limits import CATALOGUE_LOOK_S, REAP_S, RETIRED_S
from gateway.store.base import Namespace, Store, Version
from gateway.store.world import catalogue, retiring
from gateway.store.world.identity import Identity
from gateway.store.world.namespaces import is_in_process
from gateway.store.world.rebuilding import rebuild
from gateway.wallclock import now_us

log = logging.getLogger("mvgateway.world")


class Kept(Protocol):
    """Something that is open here."""

    @property
    def identity(self) -> Identity:
        """What it was opened as."""

    def on_gone(self) -> None:
        """Its name means another one now."""


class Keeper:
    """``kept``: what is open now. :meth:`begin` it when something is, :meth:`stop` it at the end."""

    def __init__(self, store: Store, kept: Callable[[], Iterable[Kept]]) -> None:
        self._store = store
        self._kept = kept
        self._here = is_in_process(store.blocking())
        self._task: asyncio.Task[None] | None = None
        self._version: Version | None = None
        self._has_catalogue = False
        self._looked_for_lost = False
        self._reap_at_s = 0.0

    def begin(self) -> None:
        """Idempotent."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Where the store is in this process nobody else has it: nothing but the rest of old deletions to do."""
        while True:
            try:
                await self.look()
            except GatewayError:  # the store is away: the next time tells
                pass
            except Exception:
                # Nobody waits for this task: ended by a fault it would leave every deleted world where it is, silently.
                log.exception("looking after names failed; it is tried again")
            await asyncio.sleep(REAP_S if self._here else CATALOGUE_LOOK_S)

    async def look(self) -> None:
        """One round, of what is due by now."""
        now_s = time.monotonic()
        if not self._here:
            await self._look_at_names()
        if now_s >= self._reap_at_s:
            await self.reap()

    async def reap(self) -> None:
        """Remove the namespaces of deleted worlds that nobody can reach any more."""
        # Before it is tried: a store that fails at it is not asked each second.
        self._reap_at_s = time.monotonic() + REAP_S
        store, at_us = self._store.blocking(), now_us()
        with suppress(Forbidden):  # without an admin API they stay
            # Others may still be reading there at an older version: they get this long.
            await asyncio.to_thread(retiring.reap, store, at_us, 0.0 if self._here else RETIRED_S)
            await asyncio.to_thread(retiring.reap_half_made, store, at_us)

    # --- names -------------------------------------------------------------------------------

    async def _look_at_names(self) -> None:
        """One request, as long as nobody has deleted anything."""
        if not self._has_catalogue:
            if await asyncio.to_thread(catalogue.is_missing, self._store.blocking()):
                await self._rebuild()
                return
            self._has_catalogue = True
        try:
            version = (await self._store.stat(Namespace(catalogue.CATALOGUE_KEY))).version
        except NotFound:
            # Deleted under us: to be found again, once more.
            self._has_catalogue = self._looked_for_lost = False
            return
        # The catalogue's own version stands for all names: one request, however many worlds are open.
        if version == self._version:
            return
        entries = await asyncio.to_thread(catalogue.entries, self._store.blocking())
        self._version = version
        # A copy, since on_gone() takes it off what is kept.
        for one in list(self._kept()):
            if not one.identity.is_of(entries.get(one.identity.name)):
                one.on_gone()

    async def _rebuild(self) -> None:
        """Once: that there is none is how it should be where no name was ever used again."""
        if self._looked_for_lost:
            return
        with suppress(Forbidden):
            names = await asyncio.to_thread(rebuild, self._store.blocking(), now_us())
            if names:
                log.warning(
                    "the store's catalogue of names (%s) was deleted; found again: %s%s",
                    catalogue.CATALOGUE_KEY,
                    ", ".join(names[:20]),
                    "" if len(names) <= 20 else f" and {len(names) - 20} more",
                )
        self._looked_for_lost = True
