"""From the live world to sleep and back: the newest record becomes a row, or a row a record. Room: runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import apsw

from gateway.core.entities import EntityPlace
from gateway.errors import BadInput, GatewayError
from gateway.runtime.entities.registry import EntityRegistry
from gateway.runtime.host import WorldHost
from gateway.runtime.worlds import HostedWorlds
from gateway.store.entities import rows, schema
from gateway.wire import Record
from gateway.wire.entities.checks import check_state
from gateway.wire.entities.refusals import NoLiveRecord
from gateway.wire.entities.values import Actor, Delete, Entity, Put

T = TypeVar("T")


class Awake:
    """Hibernate and wake. The frame and the row are one transaction of the world's journal."""

    def __init__(
        self, registry: EntityRegistry, worlds: HostedWorlds, *, clock_us: Callable[[], int]
    ) -> None:
        self._registry = registry
        self._worlds = worlds
        self._clock_us = clock_us

    async def hibernate(self, world: str, wanted: Put, key: int, actor: Actor) -> tuple[Entity, bool]:
        """The live record ``key`` becomes the state of ``wanted`` and leaves the world.

        Where the row cannot be written, the record is put back as it was. Raises
        :class:`NoLiveRecord`, ``WorldHeld`` where another gateway is the world's home, and as a put does.
        """
        host = await self._worlds.host(world)
        async with host.homing.using():
            return await self._hibernate(host, wanted, key, actor)

    async def _hibernate(self, host: WorldHost, wanted: Put, key: int, actor: Actor) -> tuple[Entity, bool]:
        world = host.name
        held = host.world.state.get(key)
        if held is None:
            raise NoLiveRecord(f"world {world} has no live record {key}; publish it first", key=key)
        order, data = held
        put = replace(wanted, state=data, key=key, epoch=order >> 32, tick=order & 0xFFFFFFFF)
        settings = self._worlds.settings
        check_state(put.kind, data, settings.entity_bytes_max)
        most = settings.entities_per_world_max

        def insert(connection: apsw.Connection, now_us: int) -> tuple[Entity, bool]:
            return rows.put(connection, put, actor, now_us, most)

        # First without the frame: readers must not see a record go, and come back, for an entity that was
        # refused all along.
        await self._try(world, insert)
        return await self._commit(host, [Record(key, None)], [Record(key, data)], insert)

    async def wake(self, world: str, entity_id: str, key: int | None, actor: Actor) -> Mapping[str, object]:
        """The state becomes the live record ``key`` (default: the key that it had) and the row goes."""
        host = await self._worlds.host(world)
        async with host.homing.using():
            return await self._wake(host, entity_id, key, actor)

    async def _wake(
        self, host: WorldHost, entity_id: str, key: int | None, actor: Actor
    ) -> Mapping[str, object]:
        world = host.name
        entity = await self._try(world, lambda c, now_us: rows.get(c, entity_id))
        live = entity.key if key is None else key
        if live is None:
            raise BadInput(f'entity {entity_id} has no record key; say which, as {{"key": 7}}')
        if host.world.state.get(live) is not None:
            raise BadInput(f"world {world} has a live record {live}; say another key", key=live)

        def work(connection: apsw.Connection, now_us: int) -> int:
            now = rows.get(connection, entity_id)
            # Its state goes into the frame as it was read: what was put since would be lost.
            if now.revision != entity.revision:
                raise rows.changed_meanwhile(entity_id)
            return rows.delete(connection, Delete(entity_id), actor, now_us)

        await self._try(world, work)
        revision = await self._commit(host, [Record(live, entity.state)], [Record(live, None)], work)
        state = host.world.state
        return {"id": entity_id, "key": live, "epoch": state.epoch, "tick": state.tick, "revision": revision}

    # By an exception, since that is how a writer's savepoint is rolled back.
    async def _try(self, world: str, work: Callable[[apsw.Connection, int], T]) -> T:
        """What ``work`` would answer now, undone again: nothing goes out of the live world that
        the database would then refuse."""
        database = await self._registry.get(EntityPlace("world", world))
        kept: list[T] = []

        def tried(connection: apsw.Connection, now_us: int) -> None:
            # In place of an append: the transaction may run again, and then the last answer counts.
            kept[:] = [work(connection, now_us)]
            raise _Undone("tried")

        try:
            await database.write(tried)
        except _Undone:
            return kept[0]
        raise AssertionError("a trial always ends in _Undone")

    async def _commit(
        self,
        host: WorldHost,
        records: list[Record],
        back: list[Record],
        work: Callable[[apsw.Connection, int], T],
    ) -> T:
        def also(connection: apsw.Connection) -> T:
            schema.ensure(connection)
            return work(connection, self._clock_us())

        try:
            outcome = await host.put_with(records, also)
        except BadInput:
            await host.put_with(back, lambda connection: None)
            raise
        database = await self._registry.get(EntityPlace("world", host.name))
        # The journal has written it, past the feed.
        await database.feed.catch_up()
        return outcome


class _Undone(GatewayError):
    """A trial's end: its work is rolled back."""
