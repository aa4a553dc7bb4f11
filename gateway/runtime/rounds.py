"""The journals of all worlds, written in rounds: one thread, one hand-over and one sync for many. Room: runtime.

A round takes whatever the worlds have by then, so the busier the gateway, the more frames share a
commit. After it the journal rests several times as long as it worked: a few milliseconds where a few worlds
play, more where a hundred do, so that it keeps to its share of a core, up to what durability is worth.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from gateway.errors import StoreUnavailable
from gateway.limits import JOURNAL_ROUND_S_MAX, JOURNAL_ROUND_S_MIN, JOURNAL_ROUND_WORLDS_MAX
from gateway.store.base import GroupStore
from gateway.store.world.together import Write, append_each

log = logging.getLogger("mvgateway.journal")

SHARE: Final = 0.25
"""Of a core: what the journal's thread takes where rounds are short."""
LONG_S: Final = 0.007
"""A round of so much work (some hundred worlds) rests twice as long for it: an eighth of a core."""


def period_s(worked_s: float) -> float:
    """From the beginning of a round to the next one's, after so much work (seconds of CPU)."""
    wanted_s = worked_s / SHARE * (1 + worked_s / LONG_S)
    return min(max(wanted_s, JOURNAL_ROUND_S_MIN), JOURNAL_ROUND_S_MAX)


class Member(Protocol):
    """A world's journal, as a round sees it. Both on the loop."""

    def begin(self) -> Write | None:
        """What to write, and the database to write it to; None where there is nothing now."""

    def end(self, error: Exception | None) -> None:
        """What :meth:`begin` gave is durable, or not."""


class Rounds:
    """Made on the event loop; :meth:`close` it after its members."""

    def __init__(self, store: GroupStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "journal")
        self._ready: dict[Member, None] = {}
        self._handle: asyncio.Handle | None = None
        self._under_way = False
        self._not_before = 0.0
        self._began = 0.0
        self.count = 0
        """Rounds so far."""

    def ready(self, member: Member) -> None:
        """It has something to write: it is asked for it when the next round begins."""
        self._ready[member] = None
        if self._handle is None and not self._under_way:
            self._plan()

    def leave(self, member: Member) -> None:
        """It has nothing to write after all."""
        self._ready.pop(member, None)

    def close(self) -> None:
        """End the thread, once it is done with what it was given. Idempotent."""
        if self._handle is not None:
            self._handle.cancel()
        self._thread.shutdown(wait=False)

    def _plan(self) -> None:
        rest_s = self._not_before - self._loop.time()
        if rest_s > 0:
            self._handle = self._loop.call_later(rest_s, self._begin)
        else:
            self._handle = self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._handle = None
        taking = list(self._ready)[:JOURNAL_ROUND_WORLDS_MAX]
        members: list[Member] = []
        writes: list[Write] = []
        for member in taking:
            del self._ready[member]
            try:
                write = member.begin()
            except Exception:
                log.exception("a world's journal could not begin; the others go on")
                continue
            if write is not None:
                members.append(member)
                writes.append(write)
        if writes:
            self._under_way = True
            self._began = self._loop.time()
            self.count += 1
            self._thread.submit(self._work, members, writes)
        elif self._ready:
            self._plan()

    def _work(self, members: Sequence[Member], writes: Sequence[Write]) -> None:
        """On the journal's thread."""
        began_s = time.thread_time()
        ends: Sequence[Exception | None]
        try:
            ends = append_each(self._store, writes)
        except BaseException as error:
            ends = [StoreUnavailable(f"the round of commits broke off: {error!r}")] * len(writes)
        self._loop.call_soon_threadsafe(self._end, members, ends, time.thread_time() - began_s)

    def _end(self, members: Sequence[Member], ends: Sequence[Exception | None], worked_s: float) -> None:
        self._under_way = False
        self._not_before = self._began + period_s(worked_s)
        for member, error in zip(members, ends, strict=True):
            try:
                member.end(error)
            except Exception:
                log.exception("a world's journal could not go on; the others do")
        if self._ready and self._handle is None:
            self._plan()
