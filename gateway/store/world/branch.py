"""A world that starts from a moment of another. Room: store.

No page is copied: the new namespace is an overlay over the old one at a version, where the engine has
them. Then one commit in the branch makes the moment its newest: what came after it is deleted there.
"""

from __future__ import annotations

from dataclasses import replace

import apsw

from gateway.errors import NotFound, UnknownWorld
from gateway.limits import WEBSOCKET_MESSAGE_BYTES_MAX
from gateway.store.base import Namespace, OverlayBase, Store
from gateway.store.database import Database
from gateway.store.world import reading, schema, writing
from gateway.store.world.schema import Parent
from gateway.store.world.state import Recovered
from gateway.wire.framecodec import FrameEncoder
from gateway.wire.journal import JournalFrame
from gateway.wire.names import world_name


async def overlay(store: Store, world: str, branch: str) -> None:
    """Make ``branch`` an overlay of ``world`` as it is now. Raises ``UnknownWorld``, ``BadName``,
    ``Unprocessable`` where ``branch`` exists, ``Conflict`` where the base is locked."""
    world_name(branch)
    try:
        info = await store.namespace_info(world)
        head = await store.stat(Namespace(world))
    except NotFound:
        raise UnknownWorld(
            f"there is no world {world!r} to branch from; `worlds` lists those there are"
        ) from None
    await store.create_namespace(branch, OverlayBase(info.ns_id, head.version))


def start_from(database: Database, branch: str, moment: Recovered, now_us: int) -> None:
    """Make ``moment`` the newest state of ``branch``, just made by :func:`overlay`: it keeps the
    history up to there, forgets what came after, and begins with a keyframe of that state. Blocks."""
    database.transact(lambda connection: _cut(connection, branch, moment, now_us))


def _cut(connection: apsw.Connection, branch: str, moment: Recovered, now_us: int) -> None:
    info = schema.read_info(connection)
    parent = Parent(info.world, moment.epoch, moment.tick)
    schema.write_info(connection, replace(info, world=branch, created_at_us=now_us, parent=parent))
    for table in ("frames", "keyframes"):
        connection.execute(f"DELETE FROM {table} WHERE seq > ?", (moment.seq,))
    for table, column in (("gaps", "from_tick"), ("marks", "tick")):
        connection.execute(
            f"DELETE FROM {table} WHERE (epoch, {column}) > (?, ?)", (moment.epoch, moment.tick)
        )
    connection.execute("DELETE FROM epochs WHERE epoch > ?", (moment.epoch,))
    connection.execute("UPDATE epochs SET ended_at = ? WHERE ended_at IS NULL", (now_us,))
    last = reading.last_row(connection)
    seq = last.seq + 1 if last else 0
    messages = tuple(moment.state.keyframe_messages(WEBSOCKET_MESSAGE_BYTES_MAX))
    keyframe = JournalFrame(seq, moment.epoch, moment.tick, now_us, moment.sent_at_us, True, messages)
    writing.write(connection, writing.pack(FrameEncoder(), (keyframe,), ()))
