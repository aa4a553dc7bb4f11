"""One world's database: created, opened, written and asked. Room: store. Blocks, one thread.

Writing assumes to be alone (its head is trusted without asking); somebody else's commit to the same
world is a conflict, after which everything known is read again and the write runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import apsw

from gateway.errors import Conflict, NotFound, WorldDeleted, WorldHeld
from gateway.limits import NAME_ATTEMPTS_MAX, RING_PRUNE_EVERY_S, RING_PRUNE_ROWS_MAX, RING_QUICK_BYTES_MAX
from gateway.store.base import BlockingStore, Committed, Namespace, NamespaceCommit, Version
from gateway.store.database import Database
from gateway.store.world import home, naming, reading, retiring, schema, soundness, writing
from gateway.store.world.history import History
from gateway.store.world.identity import Guard, Identity, deleted, unknown
from gateway.store.world.schema import Part, Retention, WorldInfo
from gateway.store.world.state import MakeState
from gateway.wire.framecodec import LEVEL, FrameEncoder
from gateway.wire.journal import Batch
from gateway.wire.names import world_name

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Opened:
    """What a journal must know to go on: ``last_seq`` -1 and ``epoch`` 0 where nothing was yet."""

    info: WorldInfo
    created: bool
    last_seq: int
    epoch: int
    newest: reading.RowHead | None


class WorldDatabase(History):
    """A world. Make it by :meth:`create` or :meth:`open`; end it by :meth:`close`."""

    def __init__(
        self,
        database: Database,
        make_state: MakeState,
        identity: Identity,
        guard: Guard,
        *,
        level: int = LEVEL,
    ) -> None:
        super().__init__(database, make_state)
        self.database = database
        self.identity = identity
        self.guard = guard
        # A writer looks for triggers and the like as well: what SQLite would run by itself at its
        # statements.
        database.guard = guard if database.pages.read_only else self._look
        database.meaning = guard.of
        self._encoder = FrameEncoder(level)
        self.fence = home.Fence()
        self._fenced_at: tuple[int, int] | None = None
        self._next_seq: int | None = None
        self._retention = Retention()
        self._prune_at_us = 0

    # --- opening -----------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        store: BlockingStore,
        name: str,
        *,
        make_state: MakeState,
        now_us: int,
        stride: int = 0,
        retention: Retention | None = None,
        level: int = LEVEL,
        parts: Sequence[Part] = (),
    ) -> tuple[WorldDatabase, Opened]:
        """Create the world if it is not there, and open it for its writer. ``Opened.info`` tells
        what it is: an existing world keeps its stride and retention. Raises ``BadName``,
        ``Unprocessable`` where the namespace holds something else."""
        info = WorldInfo(world_name(name), stride, retention or Retention(), now_us)
        for _ in range(NAME_ATTEMPTS_MAX):
            identity = naming.claim(store, name, now_us)
            world = cls._of(store, identity, Guard(name), make_state, level=level, single_writer=True)
            try:
                opened = world._open(info, parts)
                # Only now it counts: between the look at the name and the first commit somebody may have
                # deleted it.
                if naming.confirm(store, identity, now_us):
                    return world, opened
            except WorldDeleted:
                retiring.bury(store, identity, now_us)
            except NotFound:  # deleted in this moment: look again
                pass
            except BaseException:
                world.close()
                raise
            world.close()
        raise Conflict(f"world {name} is deleted and made again by others all the time; ask again")

    @classmethod
    def _of(
        cls,
        store: BlockingStore,
        identity: Identity,
        guard: Guard,
        make_state: MakeState,
        *,
        level: int = LEVEL,
        **how: Any,
    ) -> WorldDatabase:
        database = Database.open(store, Namespace(identity.key), **how)
        return cls(database, make_state, identity, guard, level=level)

    def _open(self, info: WorldInfo | None, parts: Sequence[Part]) -> Opened:
        """``info``: what to make where there is nothing; None: it must be there."""
        created = False
        # Read first: a world that is as it should be costs no commit to open.
        if not self.database.read(lambda c: schema.is_world(c) and schema.is_current(c, parts)):
            if info is None and not self.database.read(schema.is_world):
                raise deleted(self.identity.name)
            created = self.database.transact(lambda connection: _make(connection, info, parts))
        opened = self.database.read(_opened)
        self.guard.born_us = opened.info.created_at_us
        self._keep(opened.info.retention)
        return replace(opened, created=created)

    @classmethod
    def open(
        cls,
        store: BlockingStore,
        name: str,
        *,
        make_state: MakeState,
        version: Version | None = None,
    ) -> WorldDatabase:
        """Open a world read-only: at its moving head, or at ``version``. Raises ``UnknownWorld``."""
        identity = naming.resolve(store, world_name(name))
        for _ in range(NAME_ATTEMPTS_MAX):
            world = cls._of(store, identity, Guard(name), make_state, version=version, read_only=True)
            try:
                if world.database.read(schema.is_world):
                    return world
            except (NotFound, WorldDeleted):
                pass
            except BaseException:
                world.close()
                raise
            world.close()
            before, identity = identity, naming.resolve(store, name)
            if identity == before:
                break
        raise unknown(name)

    @classmethod
    def read_again(
        cls, store: BlockingStore, identity: Identity, guard: Guard, *, make_state: MakeState
    ) -> WorldDatabase:
        """Open once more what was opened before, read-only. ``guard``: that opening's: it raises
        ``WorldDeleted`` at the first use where that world is no more."""
        return cls._of(store, identity, guard, make_state, read_only=True)

    @classmethod
    def write_again(
        cls,
        store: BlockingStore,
        identity: Identity,
        guard: Guard,
        *,
        make_state: MakeState,
        level: int = LEVEL,
        parts: Sequence[Part] = (),
    ) -> tuple[WorldDatabase, Opened]:
        """The same for its writer. Raises ``WorldDeleted``."""
        world = cls._of(store, identity, guard, make_state, level=level, single_writer=True)
        try:
            return world, world._open(None, parts)
        except NotFound:
            world.close()
            raise deleted(identity.name) from None
        except BaseException:
            world.close()
            raise

    def _look(self, connection: apsw.Connection) -> None:
        """Before a writer's first statement, and again after each commit of others."""
        self.guard(connection)
        soundness.check_writable(connection)

    def opened_to_read(self) -> Opened:
        """What a journal would have to know, of a world that is not written to."""
        return self.database.read(_opened)

    def close(self) -> None:
        """Close; idempotent."""
        self.database.close()

    @property
    def version(self) -> Version | None:
        """The store's version last read or committed."""
        return self.database.version

    # --- writing -----------------------------------------------------------------------------

    def append(self, batch: Batch, also: Callable[[apsw.Connection], object] | None = None) -> Version | None:
        """One commit with everything in ``batch``; the store's version of it. Writing a row again
        under the same ``seq`` changes nothing, so a batch whose fate is unknown may be given again.

        ``also(connection)`` runs in the same transaction, after the rows. In a ring, a batch
        that holds a keyframe also deletes what has fallen out, every few seconds.
        Raises ``WorldHeld`` (another process is the world's home), ``Conflict`` (others write and write),
        ``StoreUnavailable``, ``StoreError``.
        """
        write = self.pack(batch, also)
        writing.finish([write.packed])
        self.database.transact(self._fenced(write))
        self._appended(batch)
        return self.database.version

    def hold_append(self, batch: Batch, write: PackedWrite) -> NamespaceCommit | None:
        """:meth:`append` up to the store's commit, which somebody makes for many worlds together and
        tells by :meth:`settle_append`. ``write``: what :meth:`pack` made of ``batch``, finished. None
        where there was nothing to write."""
        part = self.database.hold(self._fenced(write), atomic=write.is_one_statement and self._knows_fence)
        if part is None:
            self._appended(batch)
        return part

    def settle_append(self, batch: Batch, answer: Committed | BaseException) -> None:
        """How the commit of ``batch`` ended. After an error it may be given again."""
        self.database.settle(answer)
        if isinstance(answer, Committed):
            self._appended(batch)

    def pack(self, batch: Batch, also: Callable[[apsw.Connection], object] | None = None) -> PackedWrite:
        """What writes the batch, as often as it takes, once :func:`writing.finish` was called on it."""
        frames = batch.frames
        follows = bool(frames) and frames[0].seq == self._next_seq
        # Until it is known how this one ended: what follows a batch of unknown fate must stand alone, with
        # no row to lean on.
        self._next_seq = None
        packed = writing.pack(self._encoder, frames, batch.gaps, alone=not follows)
        before_us = None
        # Only with a keyframe: what is left after it can be read by itself.
        if packed.keyframes and frames[-1].received_at_us >= self._prune_at_us:
            before_us = self._ring_start_us(frames[-1].received_at_us)
        return PackedWrite(
            packed, self._taken, also, None if before_us is None else lambda c: self._prune(c, before_us)
        )

    def _taken(self) -> WorldHeld:
        return WorldHeld.at(self.identity.name, "", self.fence.number or 0)

    def _prune(self, connection: apsw.Connection, before_us: int, rows_max: int = RING_PRUNE_ROWS_MAX) -> int:
        """Delete what is out of the ring. A time without any, unless more is waiting: many rows at once
        cost little more than a few, since they free whole pages."""
        pruned = writing.prune(connection, before_us, rows_max)
        # Half full means that more is waiting; less would be the last few rows again and again.
        rest_us = 0 if pruned >= rows_max // 2 else RING_PRUNE_EVERY_S * 1_000_000
        self._prune_at_us = before_us + self._retention.ring_s * 1_000_000 + rest_us
        return pruned

    def _appended(self, batch: Batch) -> None:
        if batch.frames:
            self._next_seq = batch.frames[-1].seq + 1

    def _ring_start_us(self, now_us: int) -> int | None:
        ring = self._retention
        return now_us - ring.ring_s * 1_000_000 if ring.mode == "ring" else None

    def begin_epoch(self, requested: int | None, now_us: int) -> int:
        """The epoch for a publisher that attaches, durable when this returns; never goes back.
        ``requested`` is given back while it is still the newest."""
        return self.database.transact(self._fenced(lambda c: writing.begin_epoch(c, requested, now_us)))

    def end_epoch(self, epoch: int, now_us: int) -> None:
        """Note that the publisher of ``epoch`` is gone."""
        self.database.transact(self._fenced(lambda c: writing.end_epoch(c, epoch, now_us)))

    # --- the home ----------------------------------------------------------------------------

    def take_home(self, holder: home.Holder, lease_ms: int, judged: home.Sign | None) -> home.Sign:
        """Become the world's home, as :func:`home.acquire` has it: what the recording is from here on, since
        nobody else writes it any more."""
        key = self.identity.key
        if judged is None and (seized := self._seize(holder, lease_ms)) is not None:
            return seized

        def acquire(connection: apsw.Connection) -> home.Sign:
            home.acquire(connection, holder, key, lease_ms, judged, world=self.identity.name)
            return home.sign(connection)

        # What is cached may be older than the last home's newest commit, and the transaction would run
        # twice.
        self.database.renew()
        found = self.database.transact(acquire)
        assert found.row is not None
        self.fence.number, self._fenced_at, self._next_seq = found.row.fence, None, None
        return found

    def _seize(self, holder: home.Holder, lease_ms: int) -> home.Sign | None:
        """Over a home that may be busy: a transaction that reads and writes its row alone, by a connection whose
        commits conflict page by page. Otherwise each commit of that home would make it run again, for ever
        where those follow each other faster. Its own next one conflicts all the same."""
        key = self.identity.key
        database = self._seizing()
        try:
            fence = database.transact(lambda c: home.seize(c, holder, key, lease_ms))
        finally:
            database.close()
        if fence is None:
            return None
        # The row was changed through another connection, so that this one's pages and head are old.
        self.database.throw_away()
        found = self.database.read(home.sign)
        if found.row is None or found.row.fence != fence:
            raise home.held(self.identity.name, found.row)
        self.fence.number, self._fenced_at, self._next_seq = fence, None, None
        return found

    def _seizing(self) -> Database:
        database = Database.open(self.database.store, self.database.namespace)
        database.guard = self.guard
        return database

    def beat_home(self) -> None:
        """A sign of life. Raises ``WorldHeld`` where another is the home now."""
        self.database.transact(self._fenced(home.beat))

    def give_home_up(self) -> None:
        """Others may be the home at once. Raises ``WorldHeld`` where one is already."""
        self.database.transact(self._fenced(home.give_up))
        self.fence.number = 0

    @property
    def _knows_fence(self) -> bool:
        """True where no commit but our own came since the fence was read: a single writer's commit
        conflicts with any other, so what is written now is written under that fence or not at all."""
        fence = self.fence.number
        # Of the fence and of the lineage: after a conflict the same number may have been read from another
        # head.
        known = self.database.version is not None and self._fenced_at == (fence, self.database.lineage)
        return fence is None or known

    def _fenced(self, fn: Callable[[apsw.Connection], T]) -> Callable[[apsw.Connection], T]:
        """``fn`` within a transaction that reads the fence first, unless it is known."""
        fence = self.fence.number

        def run(connection: apsw.Connection) -> T:
            if fence is not None and self._fenced_at != (fence, self.database.lineage):
                home.check(connection, self.identity.name, fence)
                self._fenced_at = (fence, self.database.lineage)
            return fn(connection)

        return run

    def set_retention(self, retention: Retention) -> WorldInfo:
        """Change how much is kept, from the next keyframe on."""

        def change(connection: apsw.Connection) -> WorldInfo:
            info = replace(schema.read_info(connection), retention=retention)
            schema.write_info(connection, info)
            return info

        info = self.database.transact(change)
        self._keep(retention)
        return info

    def set_layout(self, layout: str | None) -> WorldInfo:
        """Keep with the world what its records mean: a JSON text (:mod:`gateway.wire.layouts`); None: nobody says."""

        def change(connection: apsw.Connection) -> WorldInfo:
            schema.write_layout(connection, layout)
            return schema.read_info(connection)

        return self.database.transact(change)

    def _keep(self, retention: Retention) -> None:
        """What is soon deleted is not worth packing tightly, where it is small."""
        self._retention, self._prune_at_us = retention, 0
        self._encoder.quick_bytes_max = RING_QUICK_BYTES_MAX if retention.mode == "ring" else 0

    def set_mark(self, name: str, epoch: int, tick: int, at_us: int, data: str | None = None) -> None:
        """Set or move a mark. ``data``: JSON text."""
        self.database.transact(lambda c: writing.set_mark(c, name, epoch, tick, at_us, data))

    def prune(self, now_us: int, rows_max: int = RING_PRUNE_ROWS_MAX) -> int:
        """Delete at most ``rows_max`` rows that have fallen out of the ring; answers how many."""
        before_us = self._ring_start_us(now_us)
        if before_us is None:
            return 0
        return self.database.transact(self._fenced(lambda c: self._prune(c, before_us, rows_max)))

    def transact(self, fn: Callable[[apsw.Connection], T]) -> T:
        """``fn(connection)`` and one commit: how other rooms write their tables of this world."""
        return self.database.transact(fn)

    def read(self, fn: Callable[[apsw.Connection], T]) -> T:
        """``fn(connection)`` on one snapshot."""
        return self.database.read(fn)


def _make(connection: apsw.Connection, info: WorldInfo | None, parts: Sequence[Part]) -> bool:
    created = info is not None and not schema.is_world(connection)
    if info is not None and created:
        schema.create(connection, info)
    schema.migrate(connection, parts)
    return created


def _opened(connection: apsw.Connection) -> Opened:
    newest = reading.last_row(connection)
    epoch = connection.execute("SELECT max(epoch) FROM epochs").get or 0
    return Opened(schema.read_info(connection), False, newest.seq if newest else -1, epoch, newest)


@dataclass(frozen=True, slots=True)
class PackedWrite:
    """A packed batch, and what goes with it: called with the connection, within a transaction."""

    packed: writing.PackedBatch
    taken: Callable[[], WorldHeld]
    """What to raise where another writer's rows have the numbers of these."""
    also: Callable[[apsw.Connection], object] | None
    prune: Callable[[apsw.Connection], object] | None

    @property
    def is_one_statement(self) -> bool:
        """True where it needs no transaction around it."""
        return self.also is None and self.prune is None and writing.is_one_statement(self.packed)

    def __call__(self, connection: apsw.Connection) -> None:
        if not writing.write(connection, self.packed):
            raise self.taken()
        if self.also is not None:
            self.also(connection)
        if self.prune is not None:
            self.prune(connection)
