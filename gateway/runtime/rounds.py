"""The journals of all worlds, written in rounds: one thread, one hand-over and one commit for many. Room: runtime.

A round takes whatever the worlds have by then, so the busier the gateway, the more frames share a
commit. After it the journal rests several times as long as it worked: a few milliseconds where a few worlds
play, more where a hundred do, so that it keeps to its share of a core, up to what durability is worth. A world
whose database takes long is left behind with a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from gateway.limits import (
    JOURNAL_PATIENCE_S,
    JOURNAL_ROUND_LONG_S,
    JOURNAL_ROUND_S_MAX,
    JOURNAL_ROUND_S_MIN,
    JOURNAL_ROUND_SHARE,
    JOURNAL_ROUND_WORLDS_MAX,
)
from gateway.store.world.commits import Commits
from gateway.store.world.together import End, Round, Write

log = logging.getLogger("mvgateway.journal")


def period_s(worked_s: float) -> float:
    """From the beginning of a round to the next one's, after so much work (seconds of CPU)."""
    wanted_s = worked_s / JOURNAL_ROUND_SHARE * (1 + worked_s / JOURNAL_ROUND_LONG_S)
    return min(max(wanted_s, JOURNAL_ROUND_S_MIN), JOURNAL_ROUND_S_MAX)


class Member(Protocol):
    """A world's journal, as a round sees it. All on the loop."""

    def begin(self) -> Write | None:
        """What to write, and the database to write it to; None where there is nothing now."""

    def end(self, error: Exception | None) -> None:
        """What :meth:`begin` gave is durable, or not."""

    def left_behind(self) -> None:
        """Its database takes long: the others go on without it. :meth:`end` follows."""


class _UnderWay:
    """One round, until the next may begin."""

    def __init__(self, members: Sequence[Member], began_s: float) -> None:
        self.members = members
        self.began_s = began_s
        self.turn = 0
        self.worked_s: float | None = None
        """CPU time, once the thread is free; commits may be under way still."""
        self.waited_for = set(range(len(members)))
        self.round: Round


class Rounds:
    """Made on the event loop; :meth:`close` it after its members."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "journal")
        self._ready: dict[Member, None] = {}
        self._handle: asyncio.Handle | None = None
        self._under_way: _UnderWay | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self.count = 0
        """Rounds so far."""

    def ready(self, member: Member) -> None:
        """The member has something to write: it is asked for it when the next round begins."""
        self._ready[member] = None
        self._look()

    def leave(self, member: Member) -> None:
        """The member has nothing to write after all."""
        self._ready.pop(member, None)

    def close(self) -> None:
        """End the thread, once it is done with what it was given. Idempotent."""
        for handle in (self._handle, self._patience):
            if handle is not None:
                handle.cancel()
        self._thread.shutdown(wait=False)

    def _look(self) -> None:
        if self._ready and self._handle is None and self._under_way is None:
            rest_s = self._not_before - self._loop.time()
            if rest_s > 0:
                self._handle = self._loop.call_later(rest_s, self._begin)
            else:
                # Not at once: worlds that get frames in the same turn of the loop share the round.
                self._handle = self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._handle = None
        # In the order in which they came (dicts keep it): what is left over is first in the next round.
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
            self._go(members, writes)
        else:
            self._look()

    def _go(self, members: Sequence[Member], writes: Sequence[Write]) -> None:
        under_way = self._under_way = _UnderWay(members, self._loop.time())

        def tell(ends: Sequence[End]) -> None:
            self._loop.call_soon_threadsafe(self._end, under_way, ends)

        under_way.round = Round(writes, self._commits, tell)
        self.count += 1
        self._thread.submit(self._work, under_way, 0)
        self._patience = self._loop.call_later(JOURNAL_PATIENCE_S, self._out_of_patience)

    def _work(self, under_way: _UnderWay, turn: int) -> None:
        """On the journal's thread."""
        # Its own CPU time: waiting for the disk costs nobody a core, and is not to make rounds longer.
        began_s = time.thread_time()
        try:
            under_way.round.work(turn)
        finally:
            worked_s = time.thread_time() - began_s
            # Everything else is done on the loop, so that no lock is needed here.
            self._loop.call_soon_threadsafe(self._worked, under_way, turn, worked_s)

    def _worked(self, under_way: _UnderWay, turn: int, worked_s: float) -> None:
        """The thread is free. That of one that was left behind says so, too."""
        if turn == under_way.turn:
            under_way.worked_s = worked_s
            self._over_if_told(under_way)

    def _over_if_told(self, under_way: _UnderWay) -> None:
        """What the worlds have got meanwhile shares the next round: a commit takes the store as long for ten
        worlds as for one."""
        if under_way is self._under_way and under_way.worked_s is not None and not under_way.waited_for:
            self._over(under_way.began_s + period_s(under_way.worked_s))

    def _over(self, not_before: float) -> None:
        self._under_way, self._not_before = None, not_before
        if self._patience is not None:
            self._patience.cancel()
        self._look()

    def _out_of_patience(self) -> None:
        """One world holds the others up, or the store does: then those that it has answered go on."""
        under_way = self._under_way
        if under_way is None:
            return
        if under_way.worked_s is not None:
            self._over(0.0)
            return
        self._patience = self._loop.call_later(JOURNAL_PATIENCE_S, self._out_of_patience)
        left = under_way.round.leave_behind()
        if left is None:
            return
        at, under_way.turn = left
        under_way.waited_for.discard(at)
        # The old thread is stuck in a database and cannot be stopped: it ends when that answers, and a new one goes
        # on with the rest.
        self._thread.shutdown(wait=False)
        self._thread = ThreadPoolExecutor(1, "journal")
        self._thread.submit(self._work, under_way, under_way.turn)
        self._call(under_way.members[at].left_behind)

    def _end(self, under_way: _UnderWay, ends: Sequence[End]) -> None:
        for at, error in ends:
            under_way.waited_for.discard(at)
            self._call(under_way.members[at].end, error)
        self._over_if_told(under_way)

    def _call(self, call: Callable[..., None], *given: object) -> None:
        try:
            call(*given)
        except Exception:
            log.exception("a world's journal could not go on; the others do")
