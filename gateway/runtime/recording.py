"""A world's database, with its answers shaped as :class:`gateway.core.ports.Worlds` promises them.

Room: runtime. SQLite runs on threads of the world's own (:mod:`gateway.store.world.lanes`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import apsw

from gateway import limits
from gateway.core.state import WorldState
from gateway.core.told import RecordedState
from gateway.errors import NothingRecorded
from gateway.store.base import Store, Version
from gateway.store.world import Recovered, Retention, WorldDatabase
from gateway.store.world.lanes import WorldLanes
from gateway.store.world.state import MakeState
from gateway.wallclock import now_us
from gateway.wire import encode_control, split
from gateway.wire.journal import Batch, Gap, JournalFrame, gap_message
from gateway.wire.layouts import Layout, kept

MAKE_STATE = cast(MakeState, WorldState)


class WorldRecording:
    """Made by :meth:`open`, ended by :meth:`close`. ``world``: the database itself."""

    def __init__(self, world: WorldLanes) -> None:
        self.world = world
        self.name = world.name
        self.opened = world.opened

    @classmethod
    async def open(cls, store: Store, name: str, *, create: Mapping[str, Any] | None) -> WorldRecording:
        """Open the world for its one writer. ``create``: ``{stride, retention, ring_s}`` if it may be
        made; None raises ``UnknownWorld`` where it is missing."""
        options = dict(create or {})
        world = await WorldLanes.open(
            store,
            name,
            make_state=MAKE_STATE,
            now_us=now_us(),
            create=create is not None,
            stride=options.get("stride", 0),
            retention=Retention(options["retention"], options["ring_s"]) if options else None,
        )
        return cls(world)

    async def recover(self) -> Recovered | None:
        """The last synced state with the recording's tail, or None where nothing was ever recorded."""
        return await self.world.to_go_on()

    async def recover_opened(self) -> Recovered | None:
        """The same right after opening, which shows whether there is anything."""
        # Opening has looked already: a world without a row is not asked again.
        recovered = None if self.opened.newest is None else await self.recover()
        self.rest()
        return recovered

    def rest(self) -> None:
        """Let go of what reads, until somebody wants to again: many worlds may be open, of which few are read."""
        self.world.rest()

    async def append(
        self, batch: Batch, also: Callable[[apsw.Connection], object] | None = None
    ) -> Version | None:
        """Write a batch, and ``also(connection)`` in the same transaction; returned means durable."""
        return await self.world.append(batch, also)

    def hold(self) -> WorldDatabase | None:
        """The writer's database for another thread, if nothing uses it now; :meth:`let_go` it soon."""
        return self.world.hold()

    def let_go(self) -> None:
        """The end of :meth:`hold`."""
        self.world.let_go()

    async def begin_epoch(self, requested: int | None = None) -> int:
        """The next epoch (``requested``, while it is the newest), durable when this returns."""
        return await self.world.begin_epoch(requested, now_us())

    async def end_epoch(self, epoch: int, at_us: int) -> None:
        """Note when the publisher of ``epoch`` left, durably."""
        await self.world.end_epoch(epoch, at_us)

    async def maintain(self, *, as_home: bool = True) -> None:
        """Truncate and collect what the world's retention lets go. ``as_home``: rows of the recording too, which
        the world's home alone changes."""
        if as_home:
            await self.world.prune(now_us())
        await self.world.maintain(now_us() // 1_000_000)

    async def set_options(self, options: Mapping[str, Any]) -> None:
        """Change the retention, and what records mean (``layout``: a checked one, None: nobody says)."""
        now = self.world.info.retention
        wanted = Retention(options.get("retention", now.mode), options.get("ring_s", now.ring_s))
        # Not written where nothing changes: each would be a commit, and a version more to keep.
        if wanted != now:
            await self.world.set_retention(wanted)
        if "layout" in options:
            layout: Layout | None = options["layout"]
            await self.world.set_layout(None if layout is None else layout.text())

    @property
    def layout(self) -> Layout | None:
        """What its records mean, if anybody said so."""
        return kept(self.world.info.layout)

    async def last(self, until_us: int | None = None) -> RecordedState:
        """The last synced state, of what was received by ``until_us``. Raises :class:`NothingRecorded`."""
        found = await self.world.history(lambda history: history.last(), until_us=until_us)
        if found is None:
            raise NothingRecorded(f"nothing was recorded of world {self.name} yet; publish to it first")
        return await self._recovered(found)

    async def state_at(
        self, *, epoch: int | None, tick: int | None, at_us: int | None, until_us: int | None = None
    ) -> RecordedState:
        """The state at a tick (of the newest epoch unless one is named), or at a time; of what was received by
        ``until_us``."""
        found = await self.world.state_at(epoch=epoch, tick=tick, at_us=at_us, until_us=until_us)
        return await self._recovered(found)

    async def _recovered(self, found: Recovered) -> RecordedState:
        return await self.shaped(cast(WorldState, found.state), found.epoch, found.tick, found.received_at_us)

    async def shaped(self, state: WorldState, epoch: int, tick: int, durable_at_us: int) -> RecordedState:
        """A state as ``last_synced`` answers it. A large one is cut into messages in a thread."""
        records, keyframe = state.snapshot(), state.keyframe()
        # A thread costs more than cutting a small one, and a large one holds the loop up.
        if len(records) * state.record_bytes <= limits.ANSWER_PIECE_BYTES:
            messages = split(keyframe, limits.WEBSOCKET_MESSAGE_BYTES_MAX)
        else:
            messages = await asyncio.to_thread(split, keyframe, limits.WEBSOCKET_MESSAGE_BYTES_MAX)
        stride = self.world.info.stride or state.stride
        return RecordedState(epoch, tick, durable_at_us, stride, records, messages, self.layout)

    async def frames(
        self,
        *,
        epoch: int | None,
        from_tick: int | None,
        to_tick: int | None,
        rows: bool = False,
        until_us: int | None = None,
    ) -> AsyncIterator[bytes]:
        """The recorded messages in order, gaps as control messages of type ``gap``. Ticks without an
        epoch are the newest one's; with neither, everything there is. ``rows``: each row is told by one of
        type ``row`` before its messages. ``until_us``: what was received by then."""
        async for item in self.world.frames(
            epoch=epoch, from_tick=from_tick, to_tick=to_tick, until_us=until_us
        ):
            if isinstance(item, Gap):
                yield gap_message(item)
            else:
                if rows:
                    yield _row_message(item)
                for message in item.messages:
                    yield message

    async def close(self) -> None:
        """Close the database after what was asked before."""
        await self.world.close()


def _row_message(row: JournalFrame) -> bytes:
    times = {"received_at": row.received_at_us, "sent_at": row.sent_at_us}
    return encode_control("row", seq=row.seq, epoch=row.epoch, tick=row.tick, **times)
