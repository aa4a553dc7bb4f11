"""The entity service: what every entity route asks for. Room: runtime.

Implements :class:`gateway.core.entities.EntityPort` over the registry of databases. A write is
answered when its commit is durable; reads see the newest commit of any gateway over the store.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import apsw

from gateway.core.admission import host_of, peer_of
from gateway.core.entities import Changes, EntityPlace, Outcome
from gateway.core.gate import check_current_owner
from gateway.core.ports import Hosted, Link, LiveOptions
from gateway.errors import BadInput, GatewayError, NothingRecorded, TooLarge, WorldDeleted
from gateway.limits import ENTITY_RETRY_S, LEASE_TTL_MS
from gateway.runtime.entities.awake import Awake
from gateway.runtime.entities.database import EntityDatabase
from gateway.runtime.entities.following import FollowSession
from gateway.runtime.entities.live import LiveQuery, WatchSession
from gateway.runtime.entities.registry import EntityRegistry
from gateway.runtime.entities.times import version_at
from gateway.runtime.entities.transfers import Transfers
from gateway.runtime.entities.writer import together
from gateway.runtime.worlds import HostedWorlds
from gateway.store.base import Store
from gateway.store.entities import leases, queries, rows, trades
from gateway.wallclock import now_us
from gateway.wire.entities.refusals import batch_refused
from gateway.wire.entities.trades import Trade
from gateway.wire.entities.transfers import Offer, Transfer
from gateway.wire.entities.values import Actor, Delete, Entity, Filter, Get, Operation, Patch, Put

BATCH_FLAG = "--batch-bytes-max"
P = ParamSpec("P")
T = TypeVar("T")


def _once_more(
    method: Callable[P, Coroutine[object, object, T]],
) -> Callable[P, Coroutine[object, object, T]]:
    """Where what was asked was deleted meanwhile, by another gateway: ask what its name means now."""

    @wraps(method)
    async def ask(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except WorldDeleted as error:
            service: Any = args[0]
            service.registry.gone_by(error)
        return await method(*args, **kwargs)

    return ask


class EntityService:
    """Made once per gateway; ended by :meth:`aclose`."""

    def __init__(self, store: Store, worlds: HostedWorlds, *, clock_us: Callable[[], int] = now_us) -> None:
        self._store = store
        self._worlds = worlds
        self._clock_us = clock_us
        self.registry = EntityRegistry(store, worlds, clock_us=clock_us)
        self._transfers = Transfers(self.registry, clock_us=clock_us)
        self._awake = Awake(self.registry, worlds, clock_us=clock_us)
        self._sessions: set[WatchSession | FollowSession] = set()

    async def _database(self, place: EntityPlace) -> EntityDatabase:
        return await self.registry.get(place)

    # --- one entity --------------------------------------------------------------------------

    @_once_more
    async def get(self, place: EntityPlace, entity_id: str, at: str | None = None) -> Entity:
        database = await self._database(place)
        missing: Entity | None = None
        version = None if at is None else await version_at(self._store, at)
        entity = await database.snapshots.read(lambda c: rows.get(c, entity_id), missing, version)
        if entity is None:
            raise NothingRecorded(f"{place.name} held no entities then") if at else rows.nowhere(entity_id)
        return entity

    @_once_more
    async def put(self, place: EntityPlace, wanted: Put, actor: Actor) -> tuple[Entity, bool]:
        database = await self._database(place)
        most = self._worlds.settings.entities_per_world_max
        return await database.write(
            lambda c, now_us: rows.put(c, wanted, actor, now_us, most), len(wanted.state)
        )

    @_once_more
    async def patch(self, place: EntityPlace, wanted: Patch, actor: Actor) -> Entity:
        database = await self._database(place)
        return await database.write(lambda c, now_us: rows.patch(c, wanted, actor, now_us))

    @_once_more
    async def delete(self, place: EntityPlace, wanted: Delete, actor: Actor) -> int:
        database = await self._database(place)
        return await database.write(lambda c, now_us: rows.delete(c, wanted, actor, now_us))

    # --- many ---------------------------------------------------------------------------------

    @_once_more
    async def batch(self, place: EntityPlace, operations: Sequence[Operation], actor: Actor) -> list[Outcome]:
        database = await self._database(place)
        size_bytes = sum(len(one.state) for one in operations if isinstance(one, Put))
        settings = self._worlds.settings
        most, bytes_max = settings.entities_per_world_max, settings.batch_bytes_max
        return await database.write(
            lambda c, now_us: _batch(c, operations, actor, now_us, most, bytes_max), size_bytes
        )

    @_once_more
    async def page(
        self, place: EntityPlace, wanted: Filter, limit: int, at: str | None = None
    ) -> tuple[list[Entity], bool, int]:
        database = await self._database(place)
        version = None if at is None else await version_at(self._store, at)
        empty: tuple[list[Entity], bool, int] = ([], False, 0)
        return await database.snapshots.read(
            lambda c: (*queries.page(c, wanted, limit), queries.revision(c)), empty, version
        )

    @_once_more
    async def stream(self, place: EntityPlace, wanted: Filter) -> AsyncIterator[bytes]:
        return await (await self._database(place)).scans.open(wanted)

    async def watch(self, place: EntityPlace, wanted: Filter, since: int | None) -> AsyncIterator[Changes]:
        return (await self._database(place)).feed.watch(since)

    # --- live records ---------------------------------------------------------------------------

    @_once_more
    async def hibernate(self, world: str, wanted: Put, key: int, actor: Actor) -> tuple[Entity, bool]:
        return await self._awake.hibernate(world, wanted, key, actor)

    @_once_more
    async def wake(self, world: str, entity_id: str, key: int | None, actor: Actor) -> Mapping[str, object]:
        return await self._awake.wake(world, entity_id, key, actor)

    # --- ownership ------------------------------------------------------------------------------

    @_once_more
    async def lease(self, world: str, owner: str, token: str | None, takeover: bool) -> Mapping[str, object]:
        database = await self._database(EntityPlace("world", world))
        ttl_us = LEASE_TTL_MS * 1000
        held = token or secrets.token_hex(16)

        def work(connection: apsw.Connection, now_us: int) -> int:
            if token is not None:
                return leases.renew(connection, owner, token, now_us, ttl_us)
            return leases.acquire(connection, owner, held, now_us, ttl_us, takeover=takeover)

        expires_us = await database.write(work)
        return {"owner": owner, "lease": held, "expires_us": expires_us, "ttl_ms": LEASE_TTL_MS}

    @_once_more
    async def release(self, world: str, owner: str, token: str) -> None:
        database = await self._database(EntityPlace("world", world))
        # Renewed for no time at all: one statement, and one rule for who may.
        await database.write(lambda c, now_us: leases.renew(c, owner, token, now_us, 0))

    # --- transfers and trades ---------------------------------------------------------------------

    @_once_more
    async def offer(self, wanted: Offer, actor: Actor) -> Transfer:
        return await self._transfers.offer(wanted, actor)

    @_once_more
    async def accept(self, ticket: str, owner: str | None, actor: Actor) -> tuple[Transfer, list[Entity]]:
        return await self._transfers.accept(ticket, owner, actor)

    @_once_more
    async def cancel(self, ticket: str, actor: Actor) -> Transfer:
        return await self._transfers.cancel(ticket, actor)

    @_once_more
    async def transfer(self, ticket: str) -> Transfer:
        return await self._transfers.get(ticket)

    @_once_more
    async def transfers(
        self,
        world: str,
        *,
        entity: str | None,
        state: str | None,
        limit: int,
        actor: Actor,
        resume: str | None,
    ) -> list[tuple[Transfer, bool]]:
        def is_publisher(destination: str) -> bool:
            host = self._worlds.hosts.get(destination)
            return host is not None and host.world.is_publishers(resume)

        found = await self._transfers.list(world, entity=entity, state=state, limit=limit)
        mine = await self._transfers.owned_by(world, {t.by_owner for t in found}, actor)
        return [(one, one.by_owner in mine or is_publisher(one.destination)) for one in found]

    @_once_more
    async def trade(self, wanted: Trade, actor: Actor) -> list[Mapping[str, object]]:
        places = [EntityPlace("inventory", owner) for owner in wanted.owners]
        databases = [await self._database(place) for place in places]

        def run(connections: Sequence[apsw.Connection]) -> list[Mapping[str, object]]:
            named = dict(zip(wanted.owners, connections, strict=True))
            return list(trades.trade(named, wanted, actor, self._clock_us()))

        result, _ = await together(
            [database.writer for database in databases],
            run,
            executor=self.registry.executor,
            deadline_s=ENTITY_RETRY_S,
        )
        # The commit went past their own writers' feeds.
        for database in databases:
            await database.feed.catch_up()
        return result

    # --- sessions -----------------------------------------------------------------------------------

    async def open_live(self, world: str, query: str, headers: Mapping[str, str], link: Link) -> Hosted:
        """``/v1/worlds/{world}/entities/live`` over WebTransport or WebSocket."""
        asked = LiveQuery.parse(query, headers)
        place = EntityPlace("world", world)
        if asked.owner is not None:
            check_current_owner(asked.owner)
        # Before the lease: a session that is refused must not have taken it from another.
        (await self._database(place)).feed.check_room()
        lease = None
        if asked.owner is not None:
            lease = dict(await self.lease(world, asked.owner, None, asked.takeover))
        session = WatchSession(self, place, asked, link, lease)
        self._keep(session)
        return session

    async def open_following(self, world: str, options: LiveOptions, link: Link) -> Hosted:
        """``/v1/worlds/{world}/live?follow=ENTITY``: a subscription that goes where the entity goes."""
        self._worlds.shares.check_world(peer_of(host_of(link.address)), world)
        session = FollowSession(self, self._worlds, world, options, link)
        await session.start()
        self._keep(session)
        return session

    def _keep(self, session: WatchSession | FollowSession) -> None:
        self._sessions.add(session)
        session.task.add_done_callback(lambda _: self._sessions.discard(session))

    def metrics(self) -> Mapping[str, int]:
        """Plain counts for ``/metrics``."""
        databases = self.registry.databases.values()
        return {
            "entity_databases_open": len(databases),
            "entity_commits": sum(one.commits for one in databases),
            "entity_watchers": sum(one.feed.watchers for one in databases),
            "entity_scans": sum(one.scans.started for one in databases),
            "entity_scans_shared": sum(one.scans.shared for one in databases),
        }

    async def aclose(self) -> None:
        """End the sessions, let writes that wait end, close the databases."""
        sessions = list(self._sessions)
        for session in sessions:
            session.task.cancel()
        await asyncio.gather(*(session.task for session in sessions), return_exceptions=True)
        with suppress(GatewayError):
            await self._transfers.aclose()
        await self.registry.aclose()


def _batch(
    connection: apsw.Connection,
    operations: Sequence[Operation],
    actor: Actor,
    now_us: int,
    entities_max: int,
    got_bytes_max: int,
) -> list[Outcome]:
    """All operations, or :class:`BatchRefused` (the caller's savepoint undoes what was done)."""
    outcomes: list[Outcome] = []
    faults: list[tuple[int, str, GatewayError]] = []
    got_bytes = 0
    for index, operation in enumerate(operations):
        try:
            # On after a fault: the caller is told all of them at once. What was done goes with the
            # savepoint.
            outcomes.append(_operate(connection, operation, actor, now_us, entities_max))
            found = outcomes[-1].entity if isinstance(operation, Get) else None
            got_bytes += 0 if found is None else len(found.state)
            if got_bytes > got_bytes_max:
                raise TooLarge(
                    f"the batch gets over {got_bytes_max} bytes of states; get them in several, or raise {BATCH_FLAG}",
                    bound=BATCH_FLAG,
                    limit=got_bytes_max,
                )
        except GatewayError as error:
            faults.append((index, operation.id, error))
    if faults:
        raise batch_refused(faults)
    return outcomes


def _operate(
    connection: apsw.Connection, operation: Operation, actor: Actor, now_us: int, entities_max: int
) -> Outcome:
    if isinstance(operation, Put):
        entity, created = rows.put(connection, operation, actor, now_us, entities_max)
        return Outcome(operation, entity, entity.revision, created)
    if isinstance(operation, Delete):
        return Outcome(operation, revision=rows.delete(connection, operation, actor, now_us))
    if isinstance(operation, Get):
        found = rows.find(connection, operation.id)
        return Outcome(operation, found, None if found is None else found.revision)
    raise BadInput(f"{operation!r} is no operation of a batch")
