"""Whether a store that is elsewhere answers, asked from time to time. Room: runtime.

Frames in hand say it sooner (:mod:`gateway.runtime.health`); this is for a gateway that has none: one whose
store is not there when it starts, or goes away at night.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from gateway import limits
from gateway.errors import GatewayError
from gateway.runtime.events import EventLog
from gateway.store.base import TimeBounds


class Answers(Protocol):
    """The part of a store that is asked."""

    async def time2version(self, t: int) -> TimeBounds: ...


class StoreLook:
    """``name``: the store as the settings name it. Begun by :meth:`begin`, ended by :meth:`stop`."""

    def __init__(self, store: Answers, name: str, events: EventLog) -> None:
        self.failure: str | None = None
        """Why it does not answer; None while it does, or nobody has asked yet."""
        self._store = store
        self._name = name
        self._events = events
        self._since = 0.0
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Ask for the first time, for a moment, and go on asking."""
        first = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(first))
        try:
            await asyncio.wait_for(first.wait(), limits.STORE_LOOK_FIRST_S)
        except TimeoutError:
            self._is_failing(f"no answer within {limits.STORE_LOOK_FIRST_S:g} s")

    def stop(self) -> None:
        """Ask no more. Idempotent."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, first: asyncio.Event) -> None:
        while True:
            await self._ask()
            first.set()
            await asyncio.sleep(limits.STORE_LOOK_FAILING_S if self.failure else limits.STORE_LOOK_S)

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(limits.STORE_LOOK_S):
                await self._store.time2version(int(time.time()))
        except TimeoutError:
            self._is_failing(f"no answer within {limits.STORE_LOOK_S:g} s")
        except GatewayError as error:
            if error.retry or error.status >= 500:
                self._is_failing(error.message)
            else:
                self._is_back()  # it said no to this, but it is there
        else:
            self._is_back()

    def _is_failing(self, why: str) -> None:
        if self.failure is None:
            self._since = time.monotonic()
            self._events.note(
                "the store does not answer", logging.ERROR, store=self._name, why=why,
                way_out="it is tried again; worlds that are open go on, and their frames wait",
            )  # fmt: skip
        self.failure = f"{self._name} does not answer: {why}"

    def _is_back(self) -> None:
        if self.failure is not None:
            away_s = round(time.monotonic() - self._since, 1)
            self._events.note("the store answers again", store=self._name, seconds=away_s)
        self.failure = None
