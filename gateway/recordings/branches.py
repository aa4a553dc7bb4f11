"""Branching a world: a new one that starts from a moment of another's recording. Room: recordings.

The new world is an overlay over the parent's pages at this version, so nothing is copied; what came
after the moment is cut off in the branch alone. Changing one never shows in the other.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import apsw

from gateway.errors import GatewayError, NothingRecorded
from gateway.recordings.recording import Moment, find_mark, open_world
from gateway.store.base import BlockingStore, Namespace, Store
from gateway.store.database import Database
from gateway.store.overlays import lay_over
from gateway.store.world import Recovered, naming, reading, schema
from gateway.store.world.schema import Parent, WorldInfo
from gateway.wire import world_name
from gateway.wire.recorded import ToldBranch


@dataclass(frozen=True, slots=True)
class Branched:
    """What came to be: the new world, and the moment of its parent that it starts from."""

    world: str
    parent: str
    epoch: int
    tick: int

    def as_json(self) -> ToldBranch:
        return {
            "world": self.world,
            "parent": {"world": self.parent, "epoch": self.epoch, "tick": self.tick},
        }


async def branch(store: Store, parent: str, new: str, moment: Moment, *, now_us: int) -> Branched:
    """Make ``new`` from ``parent`` as of ``moment``. Raises :class:`NameTaken` where ``new`` exists,
    :class:`NothingRecorded` where the moment is not recorded, ``UnknownWorld``."""
    world_name(new)
    blocking = store.blocking()
    found = await asyncio.to_thread(find, blocking, parent, moment)
    key = (await asyncio.to_thread(naming.resolve, blocking, parent)).key
    await asyncio.to_thread(naming.vacant, blocking, new)
    # Under a name that tells how old it is: where this process dies before the end, reaping finds it.
    made = naming.half_made_key(now_us)
    await lay_over(store, key, made)
    try:
        await asyncio.to_thread(_cut, blocking, parent, made, new, found, now_us)
    except BaseException:
        with suppress(GatewayError):
            await store.delete_namespace(made)
        raise
    # Last, and one commit: a branch has its name when it is whole. What is refused here (the name was taken
    # meanwhile) is reaped.
    await asyncio.to_thread(naming.give, blocking, made, new, now_us)
    return Branched(new, parent, found.epoch, found.tick)


def find(store: BlockingStore, parent: str, moment: Moment) -> Recovered:
    """The moment of ``parent`` that a branch would start from. Reads only. Blocks. Raises
    :class:`NothingRecorded` where it is not recorded, ``UnknownWorld``."""
    world = open_world(store, parent)
    try:
        if moment.mark is not None:
            mark = find_mark(world.marks(), moment.mark)
            return world.state_at_tick(mark["epoch"], mark["tick"], exact=False)
        if moment.tick is None and moment.at_us is None:
            last = world.last()
            if last is None:
                raise NothingRecorded(
                    f"nothing was recorded of {parent} yet; there is nothing to branch from"
                )
            return last
        return world.state_at(moment.epoch, moment.tick, moment.at_us)
    finally:
        world.close()


def _cut(store: BlockingStore, parent: str, made: str, new: str, found: Recovered, now_us: int) -> None:
    """Cut off what came after, before the branch bears its name: nobody sees it with its parent's rest."""
    database = Database.open(store, Namespace(made), single_writer=True)
    try:
        database.transact(lambda connection: _cut_after(connection, parent, new, found, now_us))
    finally:
        database.close()


def _cut_after(connection: apsw.Connection, parent: str, new: str, found: Recovered, now_us: int) -> None:
    place = (found.epoch, found.tick)
    first = reading.keyframe_at_tick(connection, *place) or reading.first_row(connection)
    after = connection.execute(
        "SELECT min(seq) FROM frames WHERE seq >= ? AND (epoch, tick) > (?, ?)",
        (first.seq if first else 0, *place),
    ).get
    if after is not None:
        connection.execute("DELETE FROM frames WHERE seq >= ?", (after,))
        # By row and not by tick: rows are in the order in which they came, and a late one belongs to those
        # before it.
        connection.execute("DELETE FROM keyframes WHERE seq >= ?", (after,))
    connection.execute("DELETE FROM gaps WHERE (epoch, from_tick) > (?, ?)", place)
    connection.execute("DELETE FROM marks WHERE (epoch, tick) > (?, ?)", place)
    old = schema.read_info(connection)
    info = WorldInfo(new, old.stride, old.retention, now_us, Parent(parent, found.epoch, found.tick))
    schema.write_info(connection, info)
    connection.execute("DELETE FROM meta WHERE name = 'deleted_at'")  # its parent's end is not its own
