"""The pump between a world's rules and its database. Room: runtime.

One commit is in flight; the next one takes everything that came meanwhile. So a fast store
commits every frame, a slow or busy one batches, and the game never waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import apsw

from gateway.core.ports import Mark
from gateway.core.states import PumpState
from gateway.core.world import World
from gateway.errors import Conflict, GatewayError, ShuttingDown, StoreUnavailable, WorldDeleted, WorldHeld
from gateway.limits import (
    HEALTH_LATE_S,
    JOURNAL_ALONE_S,
    JOURNAL_PATIENCE_S,
    JOURNAL_RETRY_S_MAX,
    JOURNAL_RETRY_S_MIN,
    JOURNAL_ROUND_BATCH_BYTES_MAX,
)
from gateway.runtime.companions import Companion, Companions
from gateway.runtime.lags import Lags
from gateway.runtime.rounds import Rounds
from gateway.store.world import WorldDatabase
from gateway.store.world.together import Write
from gateway.wallclock import now_us
from gateway.wire.journal import Batch, order_of

log = logging.getLogger("mvgateway.journal")

T = TypeVar("T")


class JournalHome(Protocol):
    """The part of a world's homing that the pump needs."""

    wrote_at: float
    on_lost: Callable[[WorldHeld], None]

    @property
    def held(self) -> bool:
        """True while this gateway is the world's home: what it writes is written under its fence."""

    async def become(self) -> None:
        """Be the home on return; raises :class:`WorldHeld`, and what the store raises."""

    def lost(self, error: WorldHeld) -> None:
        """The store says that another is the home: nothing more is written from here."""

    def forgo(self, error: WorldHeld) -> None:
        """What waits to be written will not be: this gateway could not become the home."""


class Appends(Protocol):
    """The part of a world's database that the pump needs."""

    async def append(self, batch: Batch, also: Callable[[apsw.Connection], object] | None = None) -> object:
        """Write one batch, and ``also(connection)`` in the same transaction; returned means durable."""

    def hold(self) -> WorldDatabase | None:
        """The database itself, for the round's thread, if nothing uses it now."""

    def let_go(self) -> None:
        """The end of :meth:`hold`."""


def is_told(count: int) -> bool:
    """Whether to log the event that many times in: the 1st, 2nd, 4th, 8th and so on get a line."""
    return count & (count - 1) == 0


class JournalPump:
    """Drives one world's journal and its timers until :meth:`stop`.

    With ``rounds`` its batches go in rounds with those of other worlds. It goes alone, by a task of its
    own, where somebody waits, where its database is in use, and after a failure until that is mended.
    """

    def __init__(
        self, world: World, database: Appends, rounds: Rounds | None = None, homing: JournalHome | None = None
    ) -> None:
        self._world = world
        self._loop = asyncio.get_running_loop()
        self._database = database
        self._rounds = rounds
        self._homing = homing
        self.commits = 0
        self.commit_failures = 0
        self.commit_seconds = 0.0
        self.lags = Lags()
        self.newest_received_us: int | None = None
        """When the newest committed frame was received (µs since the Unix epoch)."""
        self._has_failed = False
        self.failure = ""
        """Why it did; empty after one that did not."""
        self.newest_commit = float("-inf")
        """When the newest one was (``time.monotonic``)."""
        self._idle = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._companions: list[Companion] = []
        self._flushing = 0
        self._stopped = False
        self._in_round: tuple[Batch, float] | None = None
        self._alone_until = float("-inf")
        self.times_left_behind = 0
        """How often rounds of other worlds went on without this one."""
        self._alone: asyncio.Task[None] | None = None
        self.meaning_of: Callable[[BaseException], BaseException] = lambda error: error
        """What an error of the store means for this world."""
        self.on_deleted: Callable[[WorldDeleted], None] | None = None
        """Called where a commit found that the world was deleted."""
        world.on_work = self.wake
        if homing is not None:
            homing.on_lost = self._refuse_who_waits
        self.wake()

    # --- what is due -------------------------------------------------------------------------

    def wake(self) -> None:
        """There may be a batch to take, or a timer to set."""
        at = self._world.next_poll
        if at != self._timer_at:
            self._set_timer(at)
        if self._alone is not None or self._in_round is not None or self._stopped:
            return  # they look again when they are done
        if not self._world.journal.ready:
            self._idle.set()
            return
        self._idle.clear()
        # Somebody who waits should not wait for a round's rest as well.
        if self._rounds is None or self._is_awaited or time.monotonic() < self._alone_until:
            self._go_alone(None)
        else:
            self._rounds.ready(self)

    @property
    def _is_awaited(self) -> bool:
        """True while somebody waits for what is in the journal now."""
        return bool(self._companions or self._waiters or self._flushing)

    @property
    def _is_home(self) -> bool:
        return self._homing is None or self._homing.held

    def _set_timer(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at is not None and not self._stopped:
            # Through a difference: uvloop's clock counts whole milliseconds (libuv's uv_now), and need not agree
            # with time.monotonic().
            self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._poll)

    def _poll(self) -> None:
        self._timer, self._timer_at = None, None
        self._world.poll(time.monotonic(), now_us())
        self.wake()

    # --- in a round --------------------------------------------------------------------------

    def begin(self) -> Write | None:
        """The batch for the round that begins, as :class:`~gateway.runtime.rounds.Member` has it."""
        if self._alone is not None or self._stopped or not self._world.journal.ready:
            return None
        # hold() answers None where somebody reads there: a round has one thread, and waits for nobody.
        database = None if self._is_awaited or not self._is_home else self._database.hold()
        if database is None:
            self._go_alone(None)
            return None
        now = time.monotonic()
        try:
            batch = self._world.take_batch(now)
        except BaseException:
            self._database.let_go()
            raise
        # A large batch would hold up the others' rounds: it goes by a task of its own.
        if batch is None or batch.size_bytes > JOURNAL_ROUND_BATCH_BYTES_MAX:
            self._database.let_go()
            self._go_alone(batch)
            return None
        self._in_round = (batch, now)
        return database, batch

    def end(self, error: Exception | None) -> None:
        """The round's answer. Where another gateway had written first, the batch goes again at once."""
        assert self._in_round is not None
        (batch, began), self._in_round = self._in_round, None
        self._database.let_go()
        if error is None:
            self._succeeded(batch, began)  # which wakes
            if self._is_awaited:
                self.wake()
        elif isinstance(error, WorldHeld) and self._homing is not None:
            self._homing.lost(error)
            self.wake()
        # The batch is whole, and is tried again on top of what was written in between.
        elif isinstance(error, Conflict):
            self._stay_alone()
            self._go_alone(batch)
        else:
            self._failed(batch, error)
            self._go_alone(None, JOURNAL_RETRY_S_MIN)

    def left_behind(self) -> None:
        """Its database took so long that the round went on: for a while it holds up nobody."""
        self._stay_alone()
        self.failure = f"its database takes over {JOURNAL_PATIENCE_S * 1e3:.0f} ms"
        self.times_left_behind += 1
        if is_told(self.times_left_behind):
            log.warning(
                "world %s: its database takes over %.0f ms; its journal lags behind, the others go on without it "
                "(%d times so far)",
                self._world.name,
                JOURNAL_PATIENCE_S * 1e3,
                self.times_left_behind,
            )

    @property
    def state(self) -> PumpState:
        """Where it is, in the words of :data:`gateway.core.states.PUMP`."""
        if self._stopped:
            return PumpState.STOPPED
        if self._in_round is not None:
            return PumpState.IN_ROUND
        if self._alone is not None:
            return PumpState.ALONE
        return PumpState.DUE if self._world.journal.ready else PumpState.IDLE

    @property
    def is_failing(self) -> bool:
        """True while the newest commit has failed, or a frame waits for too long."""
        return self._has_failed or self.waiting_s(time.monotonic()) >= HEALTH_LATE_S

    @property
    def has_failed(self) -> bool:
        """True while the store has said no to the newest commit, or not answered it."""
        return self._has_failed

    def waiting_s(self, mono: float) -> float:
        """The age of the oldest frame that is not in the store; 0 where all are."""
        oldest = self._world.journal.oldest
        return 0.0 if oldest is None else max(0.0, mono - oldest)

    def _stay_alone(self) -> None:
        self._alone_until = time.monotonic() + JOURNAL_ALONE_S

    # --- alone -------------------------------------------------------------------------------

    def _go_alone(self, batch: Batch | None, pause_s: float = 0.0) -> None:
        if not self._stopped:
            self._alone = self._loop.create_task(self._run_alone(batch, pause_s))

    async def _run_alone(self, batch: Batch | None, pause_s: float) -> None:
        """Commit ``batch`` or the next one, and go on until rounds can do it again. ``pause_s``: what was
        tried before has failed."""
        try:
            while True:
                if pause_s:
                    await asyncio.sleep(pause_s)
                if not await self._has_home():
                    pause_s = min(JOURNAL_RETRY_S_MAX, max(JOURNAL_RETRY_S_MIN, pause_s * 2))
                    continue
                batch = batch or self._world.take_batch(time.monotonic())
                if batch is None:
                    return
                if await self._commit(batch):
                    pause_s = 0.0
                    if self._rounds is not None and not self._is_awaited:
                        return
                else:
                    pause_s = min(JOURNAL_RETRY_S_MAX, max(JOURNAL_RETRY_S_MIN, pause_s * 2))
                batch = None
        finally:
            self._alone = None
            self.wake()

    async def _has_home(self) -> bool:
        """Become the home where this gateway is not yet; False: the store does not answer."""
        if self._homing is None or self._homing.held or not self._world.journal.ready:
            return True
        try:
            await self._homing.become()
        except WorldHeld as error:
            self._homing.forgo(error)
        except WorldDeleted as error:
            self.give_up(error)
            return False
        except Exception as error:
            self._count_failure(error)
            self._has_failed = True
            self.failure = error.message if isinstance(error, GatewayError) else repr(error)
            return False
        return True

    async def _commit(self, batch: Batch) -> bool:
        # Taken before the home was lost: its rows may be another's by now.
        if self._world.is_forgone(batch):
            return True
        began = time.monotonic()
        try:
            due = self._companions_of(batch)
            await self._database.append(batch, due.run if due.members else None)
        except WorldHeld as error:
            if self._homing is None:
                raise
            self._homing.lost(error)
            return True
        except BaseException as error:
            self._failed(batch, error)
            # Cancelled: the frames are back in the journal, and the task ends as it was told to.
            if not isinstance(error, Exception):
                raise
            return False
        self._succeeded(batch, began)
        due.tell()
        return True

    def _succeeded(self, batch: Batch, began: float) -> None:
        now = self.newest_commit = time.monotonic()
        self._has_failed, self.failure = False, ""
        if batch.frames:
            self.newest_received_us = batch.frames[-1].received_at_us
            if self._homing is not None:
                # When it began, not when it was answered: others count a home's silence from its last write on,
                # and must not be behind it.
                self._homing.wrote_at = began
            self.lags.note(batch.frames, self._world.wall_us(now))
        self.commits += 1
        self.commit_seconds += now - began
        # Before the waiters: they look at what is durable.
        self._world.committed(batch, now)
        if self._waiters:
            self._wake_waiters()

    def _failed(self, batch: Batch, error: BaseException) -> None:
        self._world.failed(batch, time.monotonic())
        error = self.meaning_of(error)
        if isinstance(error, WorldDeleted):
            self.give_up(error)
        elif isinstance(error, Exception):
            self._stay_alone()
            self._count_failure(error)
            self._has_failed = True
            self.failure = error.message if isinstance(error, GatewayError) else repr(error)

    def give_up(self, error: WorldDeleted) -> None:
        """Nothing will be written any more: tell who waits for it."""
        waiting, self._waiters = self._waiters, []
        told = [waiter for _, waiter in waiting] + [one.told for one in self._companions]
        for future in told:
            if not future.done():
                future.set_exception(error)
        if self.on_deleted is not None:
            self.on_deleted(error)

    def _companions_of(self, batch: Batch) -> Companions:
        if not self._companions or not batch.frames:
            return Companions([])
        reached = max(order_of(frame.epoch, frame.tick) for frame in batch.frames)
        return Companions([one for one in self._companions if one.order <= reached])

    async def along(self, order: int, also: Callable[[apsw.Connection], T], timeout_s: float) -> T:
        """Run ``also`` in the transaction that brings the journal to ``order`` (:func:`gateway.wire.journal.order_of`).

        Raises what ``also`` raises, and :class:`StoreUnavailable` where the store does not answer.
        """
        companion = Companion(order, also, asyncio.get_running_loop().create_future())
        self._companions.append(companion)
        self.wake()
        try:
            return cast(T, await asyncio.wait_for(companion.told, timeout_s))
        except TimeoutError:
            raise StoreUnavailable(
                f"the store did not answer within {timeout_s:.0f} s; whether it was done shows when it answers"
            ) from None
        finally:
            self._companions.remove(companion)

    def _count_failure(self, error: Exception) -> None:
        self.commit_failures += 1
        if is_told(self.commit_failures):
            log.warning(
                "world %s: commit failed (%d so far); the frames wait and it is tried again: %s",
                self._world.name,
                self.commit_failures,
                error,
                exc_info=None if isinstance(error, GatewayError) else error,
            )

    def _refuse_who_waits(self, error: WorldHeld) -> None:
        """What they wait for will not be written from here."""
        waiters, self._waiters = self._waiters, []
        for told in [*(waiter for _, waiter in waiters), *(one.told for one in self._companions)]:
            if not told.done():
                told.set_exception(WorldHeld(error.message, **error.facts))
        self.wake()

    async def until_durable(self, mark: Mark, timeout_s: float) -> None:
        """Wait until everything up to ``mark`` is in the store. Raises :class:`StoreUnavailable` where it
        took nothing for ``timeout_s``."""
        if not await self.until_mark(mark, timeout_s):
            raise StoreUnavailable(
                f"the store did not confirm tick {mark.tick} within {timeout_s:.0f} s; "
                "the frames were taken and are written as soon as it answers"
            )

    async def until_mark(self, mark: Mark, patience_s: float) -> bool:
        """Wait until everything up to ``mark`` is in the store. False: it took nothing for ``patience_s``."""
        return await self.until(lambda: self._is_durable(mark), patience_s)

    async def until(self, holds: Callable[[], bool], patience_s: float) -> bool:
        """Wait until this holds, which is looked at after each commit. False: there was no commit for
        ``patience_s``. Raises :class:`ShuttingDown` where the world is closed meanwhile."""
        if holds():
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (holds, waiter)
        self._waiters.append(entry)
        self.wake()
        try:
            # Patience is counted from the newest commit on: a store that is slow but goes on is waited for.
            commits = -1
            while commits != self.commits and not waiter.done():
                commits = self.commits
                await asyncio.wait([waiter], timeout=patience_s)
        finally:
            if entry in self._waiters:
                self._waiters.remove(entry)
        if not waiter.done():
            return False
        waiter.result()
        return True

    def _is_durable(self, mark: Mark) -> bool:
        durable = self._world.journal.durable
        return durable is not None and (durable.epoch, durable.tick) >= (mark.epoch, mark.tick)

    def _wake_waiters(self) -> None:
        waiting, self._waiters = self._waiters, []
        for holds, waiter in waiting:
            if waiter.done():
                continue
            if holds():
                waiter.set_result(None)
            else:
                self._waiters.append((holds, waiter))

    async def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is left to commit; False if that took longer than ``timeout_s``."""
        self._flushing += 1
        try:
            self._world.poll(time.monotonic(), now_us())
            self.wake()
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            self._flushing -= 1
        return True

    async def stop(self) -> None:
        """End. What was not flushed is lost; a round under way is not waited for: closing the database does."""
        self._stopped = True
        self._world.on_work = None
        if self._timer is not None:
            self._timer.cancel()
        if self._rounds is not None:
            self._rounds.leave(self)
        if self._alone is not None:
            self._alone.cancel()
            await asyncio.gather(self._alone, return_exceptions=True)
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(ShuttingDown(f"world {self._world.name} is being closed; send again"))
