"""A world's database, awaited: each call runs on the world's own thread, in order. Room: runtime.

Answers are shaped as :class:`gateway.core.ports.Worlds` promises them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from gateway import limits
from gateway.core.options import U32_MAX
from gateway.core.state import WorldState
from gateway.errors import NothingRecorded, StoreUnavailable
from gateway.store.base import BlockingStore, Store, Version
from gateway.store.world import FrameCursor, Recovered, Retention, WorldDatabase
from gateway.store.world.database import Opened
from gateway.store.world.state import MakeState
from gateway.wire import encode_control, split
from gateway.wire.journal import Batch, Gap

T = TypeVar("T")
MAKE_STATE = cast(MakeState, WorldState)


def _now_us() -> int:
    return time.time_ns() // 1_000


class Recording:
    """Made by :meth:`open`, ended by :meth:`close`."""

    def __init__(self, name: str, lane: ThreadPoolExecutor, database: WorldDatabase, opened: Opened) -> None:
        self.name = name
        self.opened = opened
        self.info = opened.info
        self.database = database
        self.newest_epoch = opened.epoch
        self._lane = lane
        self._closed = False

    @classmethod
    async def open(cls, store: Store, name: str, *, create: Mapping[str, Any] | None) -> Recording:
        """Open the world for its one writer. ``create``: ``{stride, retention, ring_s}`` if it may be
        made; None raises :class:`UnknownWorld` where it is missing."""
        lane = ThreadPoolExecutor(1, thread_name_prefix=f"world-{name}")
        try:
            database, opened = await _on(lane, lambda: _open(store.blocking(), name, create))
        except BaseException:
            lane.shutdown(wait=False)
            raise
        return cls(name, lane, database, opened)

    async def run(self, fn: Callable[[WorldDatabase], T]) -> T:
        """``fn(database)`` on the world's thread, after what was asked before."""
        if self._closed:
            raise StoreUnavailable(f"world {self.name} was being closed; ask again")
        return await _on(self._lane, lambda: fn(self.database))

    async def recover(self) -> Recovered | None:
        """The last synced state, or None where nothing was ever recorded."""
        return await self.run(lambda database: database.last())

    async def append(self, batch: Batch) -> Version | None:
        """Write a batch; returned means durable."""
        return await self.run(lambda database: database.append(batch))

    async def begin_epoch(self) -> int:
        """The next epoch, durable when this returns."""
        self.newest_epoch = await self.run(lambda database: database.begin_epoch(None, _now_us()))
        return self.newest_epoch

    async def prune(self) -> int:
        """Delete what has fallen out of the ring; how many rows."""
        return await self.run(lambda database: database.prune(_now_us()))

    def options(self) -> Mapping[str, Any]:
        """``{retention, ring_s}``."""
        return {"retention": self.info.retention.mode, "ring_s": self.info.retention.ring_s}

    async def set_options(self, options: Mapping[str, Any]) -> None:
        """Change the retention."""
        now = self.info.retention
        wanted = Retention(options.get("retention", now.mode), options.get("ring_s", now.ring_s))
        self.info = await self.run(lambda database: database.set_retention(wanted))

    async def last(self) -> Mapping[str, Any]:
        """The last synced state. Raises :class:`NothingRecorded`."""
        found = await self.recover()
        if found is None:
            raise NothingRecorded(f"nothing was recorded of world {self.name} yet; publish to it first")
        return self._state(found)

    async def state_at(self, *, epoch: int | None, tick: int | None, at_us: int | None) -> Mapping[str, Any]:
        """The state at a tick (of the newest epoch unless one is named), or at a time."""
        if at_us is not None and tick is None:
            return self._state(await self.run(lambda database: database.state_at_time(at_us)))
        return self._state(await self.run(lambda database: _state_at_tick(database, epoch, tick or 0)))

    def _state(self, found: Recovered) -> Mapping[str, Any]:
        state = cast(WorldState, found.state)
        return {
            "epoch": found.epoch,
            "tick": found.tick,
            "durable_at": found.received_at_us,
            "stride": self.info.stride or state.stride,
            "records": found.records(),
            "messages": split(state.keyframe(), limits.WEBSOCKET_MESSAGE_BYTES_MAX),
        }

    def frames(
        self, *, epoch: int | None, from_tick: int | None, to_tick: int | None
    ) -> AsyncIterator[bytes]:
        """The recorded messages in order, gaps as control messages of type ``gap``. Ticks without an
        epoch are the newest one's; with neither, everything there is."""
        if epoch is None and from_tick is None and to_tick is None:
            return self._frames(FrameCursor(self.database))
        of = self.newest_epoch if epoch is None else epoch
        end = (of, U32_MAX if to_tick is None else to_tick)
        return self._frames(FrameCursor(self.database, (of, from_tick or 0), end))

    async def _frames(self, cursor: FrameCursor) -> AsyncIterator[bytes]:
        while items := await self.run(lambda database: cursor.next()):
            for item in items:
                if isinstance(item, Gap):
                    yield _gap_message(item)
                else:
                    for message in item.messages:
                        yield message

    async def close(self) -> None:
        """Close the database after what was asked before."""
        self._closed = True
        await _on(self._lane, self.database.close)
        self._lane.shutdown(wait=False)


def _open(store: BlockingStore, name: str, create: Mapping[str, Any] | None) -> tuple[WorldDatabase, Opened]:
    if create is None:
        WorldDatabase.open(store, name, make_state=MAKE_STATE).close()  # UnknownWorld where there is none
    options = dict(create or {})
    retention = Retention(options["retention"], options["ring_s"]) if options else None
    return WorldDatabase.create(
        store,
        name,
        make_state=MAKE_STATE,
        now_us=_now_us(),
        stride=options.get("stride", 0),
        retention=retention,
    )


def _state_at_tick(database: WorldDatabase, epoch: int | None, tick: int) -> Recovered:
    if epoch is None:
        newest = database.summary()["last"]
        epoch = 0 if newest is None else newest["epoch"]
    return database.state_at_tick(epoch or 0, tick)


def _gap_message(gap: Gap) -> bytes:
    return encode_control(
        "gap", epoch=gap.epoch, **{"from": gap.from_tick, "to": gap.to_tick}, reason=gap.reason
    )


async def _on(lane: ThreadPoolExecutor, fn: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(lane, fn)
