"""The pump between a world's rules and its database. Room: runtime.

One commit is in flight; the next one takes everything that came meanwhile. So a fast store
commits every frame, a slow or busy one batches, and the game never waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import apsw

from gateway.core.ports import Mark
from gateway.core.states import PumpState
from gateway.core.world import World
from gateway.errors import Conflict, ShuttingDown, WorldDeleted, WorldHeld
from gateway.limits import (
    HEALTH_LATE_S,
    JOURNAL_ALONE_S,
    JOURNAL_RETRY_S_MAX,
    JOURNAL_RETRY_S_MIN,
    JOURNAL_ROUND_BATCH_BYTES_MAX,
)
from gateway.runtime.awaiting import Awaiting
from gateway.runtime.outcomes import Outcomes
from gateway.runtime.rounds import Rounds
from gateway.store.world import WorldDatabase
from gateway.store.world.together import Write
from gateway.wallclock import now_us
from gateway.wire.journal import Batch


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
        self.outcomes = Outcomes(world.name)
        self.awaiting = Awaiting(self.wake)
        self._idle = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._emptying = 0
        self._stopped = False
        self._in_round: tuple[Batch, float] | None = None
        self._alone_until = float("-inf")
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
        return bool(self.awaiting or self._emptying)

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
        self.outcomes.left_behind()

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
        return self.outcomes.has_failed or self.waiting_s(time.monotonic()) >= HEALTH_LATE_S

    @property
    def has_failed(self) -> bool:
        """:attr:`Outcomes.has_failed`."""
        return self.outcomes.has_failed

    @property
    def failure(self) -> str:
        """:attr:`Outcomes.failure`."""
        return self.outcomes.failure

    @property
    def newest_commit(self) -> float:
        """:attr:`Outcomes.newest_commit`."""
        return self.outcomes.newest_commit

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
            self.outcomes.failed(error)
            return False
        return True

    async def _commit(self, batch: Batch) -> bool:
        # Taken before the home was lost: its rows may be another's by now.
        if self._world.is_forgone(batch):
            return True
        began = time.monotonic()
        try:
            due = self.awaiting.companions_of(batch)
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
        now = time.monotonic()
        self.outcomes.succeeded(batch, began, now, self._world.wall_us(now))
        if batch.frames and self._homing is not None:
            # When it began, not when it was answered: others count a home's silence from its last write on,
            # and must not be behind it.
            self._homing.wrote_at = began
        # Before those who wait: they look at what is durable.
        self._world.committed(batch, now)
        self.awaiting.committed()

    def _failed(self, batch: Batch, error: BaseException) -> None:
        self._world.failed(batch, time.monotonic())
        error = self.meaning_of(error)
        if isinstance(error, WorldDeleted):
            self.give_up(error)
        elif isinstance(error, Exception):
            self._stay_alone()
            self.outcomes.failed(error)

    def give_up(self, error: WorldDeleted) -> None:
        """Nothing will be written any more: tell who waits for it."""
        self.awaiting.fail(lambda: error)
        if self.on_deleted is not None:
            self.on_deleted(error)

    def _refuse_who_waits(self, error: WorldHeld) -> None:
        """What they wait for will not be written from here."""
        self.awaiting.fail(lambda: WorldHeld(error.message, **error.facts))
        self.wake()

    async def until_mark(self, mark: Mark, patience_s: float) -> bool:
        """Wait until everything up to ``mark`` is in the store. False: it took nothing for ``patience_s``."""
        return await self.awaiting.until(lambda: self._is_durable(mark), patience_s)

    def _is_durable(self, mark: Mark) -> bool:
        durable = self._world.journal.durable
        return durable is not None and (durable.epoch, durable.tick) >= (mark.epoch, mark.tick)

    async def until_empty(self, timeout_s: float) -> bool:
        """Wait until nothing is left to commit; False if that took longer than ``timeout_s``."""
        self._emptying += 1
        try:
            self._world.poll(time.monotonic(), now_us())
            self.wake()
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            self._emptying -= 1
        return True

    async def stop(self) -> None:
        """End. What is not written is lost; a round under way is not waited for: closing the database does."""
        self._stopped = True
        self._world.on_work = None
        if self._timer is not None:
            self._timer.cancel()
        if self._rounds is not None:
            self._rounds.leave(self)
        if self._alone is not None:
            self._alone.cancel()
            await asyncio.gather(self._alone, return_exceptions=True)
        self.awaiting.close(ShuttingDown(f"world {self._world.name} is being closed; send again"))
