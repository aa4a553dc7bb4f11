"""A world's database for the event loop. Room: store.

SQLite never runs on the loop: one world has a few lanes, each a thread and a connection of its own,
that start when first needed and end when idle. The writing lane takes one call at a time, in turn;
the reading lanes (one for the past as those see it who may not see the present) read the newest commit and never delay the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import apsw

from gateway.errors import BadInput, ForeignSchema, ShuttingDown
from gateway.limits import WORLD_IDLE_S
from gateway.store.base import Store, Version
from gateway.store.database import Database
from gateway.store.world import home
from gateway.store.world.database import WorldDatabase
from gateway.store.world.history import FrameCursor, History
from gateway.store.world.maintenance import Upkeep, Written
from gateway.store.world.opening import WorldOpening
from gateway.store.world.past import Past
from gateway.store.world.schema import Part, Retention, WorldInfo, read_info
from gateway.store.world.state import MakeState, Recovered
from gateway.store.world.turns import Turn, to_the_end
from gateway.wire.framecodec import LEVEL
from gateway.wire.journal import Batch, Gap, JournalFrame
from gateway.wire.recorded import ToldSummary

T = TypeVar("T")


class Lane:
    """One thread, one world database, one call at a time, in the order in which they were made."""

    def __init__(self, name: str, open_world: Callable[[], WorldDatabase], *, idle_s: float) -> None:
        self._name = name
        self._open = open_world
        self._idle_s = idle_s
        self._world: WorldDatabase | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._turn = Turn()
        self._timer: asyncio.TimerHandle | None = None
        self._used_at = 0.0
        self._closed = False

    async def run(self, fn: Callable[[WorldDatabase], T]) -> T:
        """``fn(world)`` on the lane's thread. A cancelled caller still holds its turn to the end."""
        async with self._turn:
            return await self._run(lambda: fn(self._opened()))

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[WorldDatabase]:
        """The world itself, while nothing else uses it: call it from one other thread."""
        async with self._turn:
            yield await self._run(self._opened)

    def hold(self) -> WorldDatabase | None:
        """The world itself, for one other thread, if it is open and nothing uses it now: then nothing
        else does until :meth:`let_go`."""
        # Opening may take a while, and who asks is on the loop: a world that is not open goes the long way.
        if self._closed or self._world is None or not self._turn.take_now():
            return None
        return self._world

    def let_go(self) -> None:
        """The end of :meth:`hold`."""
        self._used_at = asyncio.get_running_loop().time()
        self._turn.give_back()

    def _opened(self) -> WorldDatabase:
        if self._world is None:
            self._world = self._open()
        return self._world

    async def _run(self, fn: Callable[[], T]) -> T:
        if self._closed:
            raise ShuttingDown(f"world {self._name!r} is being closed; open it again")
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, f"world-{self._name}")
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, fn)
        try:
            # The thread goes on whatever becomes of the caller: the turn is not given back under it.
            return await to_the_end(future)
        finally:
            self._used_at = loop.time()
            # One timer a lane, that looks at when it was used last: calls come by the thousand, and none of
            # them moves a timer.
            if self._timer is None and not self._closed:
                self._timer = loop.call_later(self._idle_s, self._look_idle)

    def _look_idle(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._used_at + self._idle_s - loop.time()
        self._timer = None
        if self._turn.locked() or left > 0:
            # Never at once: a lane that is in use would be looked at in each turn of the loop.
            self._timer = loop.call_later(max(left, 0.1), self._look_idle)
        else:
            self._end_thread()

    def rest(self) -> None:
        """End the thread, with its connection and pages, if nothing uses it; the next call starts another."""
        if not self._turn.locked():
            self._end_thread()

    @property
    def idle(self) -> bool:
        """True while the lane has no thread."""
        return self._executor is None

    def _end_thread(self) -> None:
        executor, self._executor = self._executor, None
        world, self._world = self._world, None
        if executor is not None:
            if world is not None:
                # On its own thread, which alone uses the connection.
                executor.submit(world.close)
            executor.shutdown(wait=False)

    async def close(self) -> None:
        """End the thread after the calls under way. Idempotent."""
        async with self._turn:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            executor = self._executor
            self._end_thread()
            if executor is not None:
                # In a thread: shutdown() waits for the lane's own, which may be in the middle of a commit.
                await asyncio.get_running_loop().run_in_executor(None, executor.shutdown)


class WorldLanes:
    """One world's database, awaited. Get it by :meth:`open`, end it by :meth:`close`.

    ``opened`` says what was found: ``info`` (stride, retention…), ``created``, ``last_seq``,
    ``epoch`` (the newest handed out, 0 for none) and ``newest`` (the last row's head or None).
    """

    def __init__(
        self, store: Store, opening: WorldOpening, writer: Lane, reader: Lane, past: Lane, written: Written
    ) -> None:
        self.store = store
        self._upkeep = Upkeep(store, opening.identity.key, written)
        self.identity = opening.identity
        self.guard = opening.guard
        self.name = opening.identity.name
        self.opened = opening.opened
        self.info: WorldInfo = opening.opened.info
        self._fence = opening.fence
        self.foreign_commits = 0
        """How often somebody else had written to this world before us."""
        self._writer = writer
        self._reader = reader
        self._past = past

    @classmethod
    async def open(
        cls,
        store: Store,
        name: str,
        *,
        make_state: MakeState,
        now_us: int,
        create: bool = True,
        stride: int = 0,
        retention: Retention | None = None,
        level: int = LEVEL,
        parts: tuple[Part, ...] = (),
        idle_s: float = WORLD_IDLE_S,
    ) -> WorldLanes:
        """Open a world for its writer, made with ``stride`` and ``retention`` if it is not there.

        ``make_state``: a maker of empty world states (``core.state.WorldState``). ``level``: the
        codec's, 0 to 19. ``parts``: tables of other rooms. Raises ``UnknownWorld`` (absent, and
        not ``create``), ``BadName``, ``Unprocessable`` (the namespace holds something else), and
        what the store raises.
        """
        opening = WorldOpening(
            store.blocking(),
            name,
            make_state=make_state,
            now_us=now_us,
            stride=stride,
            retention=retention,
            level=level,
            parts=parts,
        )
        # No thread yet: each begins with the first question.
        reader = Lane(f"{name}-r", opening.reader, idle_s=idle_s)
        past = Lane(f"{name}-p", opening.reader, idle_s=idle_s)
        written = Written()

        def counted() -> WorldDatabase:
            world = opening.writer()
            world.database.pages.on_committed = written.committed
            return world

        writer = Lane(name, counted, idle_s=idle_s)
        try:
            if not create:
                # By reading first: a world that is not there must not come to be by being looked for.
                await reader.run(lambda world: None)
            try:
                await writer.run(lambda world: None)
            except ForeignSchema:  # it is told again to whoever writes
                opening.opened = await reader.run(lambda world: world.opened_to_read())
        except BaseException:
            await writer.close()
            await reader.close()
            raise
        return cls(store, opening, writer, reader, past, written)

    @property
    def idle(self) -> bool:
        """True while it has no thread."""
        return self._writer.idle and self._reader.idle and self._past.idle

    def rest(self) -> None:
        """Let go of what was only needed to read, as far as nobody does."""
        self._reader.rest()

    # --- writing -----------------------------------------------------------------------------

    async def _write(self, fn: Callable[[WorldDatabase], T]) -> T:
        seen: list[int] = []

        def run(world: WorldDatabase) -> T:
            try:
                return fn(world)
            finally:
                # On the lane's thread, which alone may touch the database; counted on the loop, which alone
                # reads the counter.
                seen.append(world.database.take_conflicts())

        try:
            return await self._writer.run(run)
        finally:
            if any(seen):
                self.foreign_commits += sum(seen)

    async def append(
        self, batch: Batch, also: Callable[[apsw.Connection], object] | None = None
    ) -> Version | None:
        """Write a batch in one commit; returned means durable. ``also(connection)``: in the same
        transaction. May be given again after ``StoreUnavailable`` or ``Conflict``."""
        return await self._write(lambda world: world.append(batch, also))

    async def begin_epoch(self, requested: int | None, now_us: int) -> int:
        """The epoch for a publisher that attaches; never goes back. ``requested`` while still the newest."""
        return await self._write(lambda world: world.begin_epoch(requested, now_us))

    async def end_epoch(self, epoch: int, now_us: int) -> None:
        """Note that its publisher is gone."""
        await self._write(lambda world: world.end_epoch(epoch, now_us))

    async def set_retention(self, retention: Retention) -> WorldInfo:
        """Change how much is kept."""
        self.info = await self._write(lambda world: world.set_retention(retention))
        return self.info

    async def set_layout(self, layout: str | None) -> WorldInfo:
        """Keep what the world's records mean, a JSON text; None: nobody says."""
        self.info = await self._write(lambda world: world.set_layout(layout))
        return self.info

    async def look_at_info(self) -> WorldInfo:
        """What is kept of the world, and what its records mean, as others may have changed it."""
        self.info = await self.read(read_info)
        return self.info

    async def set_mark(self, name: str, epoch: int, tick: int, at_us: int, data: str | None = None) -> None:
        """Set or move a mark. ``data``: JSON text."""
        await self._write(lambda world: world.set_mark(name, epoch, tick, at_us, data))

    async def prune(self, now_us: int) -> int:
        """Delete rows that have fallen out of the ring (appending does so too); answers how many."""
        return await self._write(lambda world: world.prune(now_us))

    async def transact(self, fn: Callable[[apsw.Connection], T]) -> T:
        """``fn(connection)`` and one commit, in turn with the journal. It may run more than once."""
        return await self._write(lambda world: world.transact(fn))

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[Database]:
        """The writer's database while nothing else uses it: for ``transact_together`` in a thread.
        Take several worlds in the order of their names."""
        async with self._writer.exclusive() as world:
            yield world.database

    async def maintain(self, now_s: int) -> None:
        """Truncate and collect the store's old versions of this world, as far as enough was written. By its
        one writer, every few seconds."""
        await self._upkeep.run(self.info.retention, now_s)

    def hold(self) -> WorldDatabase | None:
        """The writer's database for another thread, if nothing uses it at this moment: what the lanes
        of many worlds are written through together. :meth:`let_go` it soon; all else waits."""
        return self._writer.hold()

    def let_go(self) -> None:
        """The end of :meth:`hold`."""
        self._writer.let_go()

    # --- the home ----------------------------------------------------------------------------

    async def home_sign(self) -> home.Sign:
        """What is to be seen of the world's home now."""
        return await self.read(home.sign)

    async def take_home(self, holder: home.Holder, lease_ms: int, judged: home.Sign | None) -> home.Sign:
        """Become the world's home, as :func:`home.acquire` has it; what was found, as of that commit. Everything
        written from here on is written under its fence. Raises ``WorldHeld``."""
        return await self._write(lambda world: world.take_home(holder, lease_ms, judged))

    async def beat_home(self) -> None:
        """A sign of life. Raises ``WorldHeld``."""
        await self._write(lambda world: world.beat_home())

    async def give_home_up(self) -> None:
        """Others may be the home at once; the recording is not written from here on."""
        await self._write(lambda world: world.give_home_up())

    def lose_home(self) -> None:
        """Write the recording no more: another process does."""
        self._fence.number = 0

    # --- reading -----------------------------------------------------------------------------

    async def read(self, fn: Callable[[apsw.Connection], T]) -> T:
        """``fn(connection)`` on the newest commit."""
        return await self._reader.run(lambda world: world.read(fn))

    async def history(self, fn: Callable[[History], T], *, until_us: int | None = None) -> T:
        """``fn(history)`` on a reading thread: any question of :class:`History`. ``until_us``: of what was received
        by then (µs since 1970) and nothing later."""
        if until_us is None:
            return await self._reader.run(fn)
        return await self._past.run(
            lambda world: fn(History(Past(world.database, until_us), world.make_state))
        )

    async def to_go_on(self) -> Recovered | None:
        """The last synced state, with the recording's tail; None where nothing was recorded."""
        return await self._reader.run(lambda world: world.to_go_on())

    async def state_at(
        self,
        *,
        epoch: int | None = None,
        tick: int | None = None,
        at_us: int | None = None,
        exact: bool = True,
        until_us: int | None = None,
    ) -> Recovered:
        """The state at ``tick`` (of ``epoch``; default the newest recorded one), or at ``at_us``
        (µs since 1970). Raises ``NothingRecorded``, naming what there is instead. ``until_us`` as in
        :meth:`history`."""
        if (tick is None) == (at_us is None):
            raise BadInput("a moment is a tick (and epoch) or a time: give one of the two")
        return await self.history(
            lambda history: history.state_at(epoch, tick, at_us, exact=exact), until_us=until_us
        )

    async def frames(
        self,
        *,
        epoch: int | None = None,
        from_tick: int | None = None,
        to_tick: int | None = None,
        keyframes: bool = False,
        until_us: int | None = None,
    ) -> AsyncIterator[JournalFrame | Gap]:
        """Rows and gaps in order, both ends included: of ``epoch`` (None: of the newest one, or
        everything where no ticks are given either). ``until_us`` as in :meth:`history`."""

        def begin(history: History) -> FrameCursor:
            return FrameCursor(history, *history.bounds(epoch, from_tick, to_tick), keyframes=keyframes)

        cursor = await self.history(begin, until_us=until_us)

        def page(history: History) -> list[JournalFrame | Gap]:
            # Each page on the lane's newest world: the lane may have rested, and opened another connection,
            # in between.
            cursor.history = history
            return cursor.next()

        while items := await self.history(page, until_us=until_us):
            for item in items:
                yield item

    async def summary(self, *, until_us: int | None = None) -> ToldSummary:
        """What can be got back, and to when: JSON-ready. ``until_us`` as in :meth:`history`."""
        return await self.history(lambda history: history.summary(), until_us=until_us)

    async def close(self) -> None:
        """Finish what is under way and close; idempotent."""
        await self._writer.close()
        await self._reader.close()
        await self._past.close()
