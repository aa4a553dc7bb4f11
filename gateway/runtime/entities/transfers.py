"""Transfers between worlds: offered, accepted in one commit over two namespaces, or run out. Room: runtime."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

import apsw

from gateway.core.entities import EntityPlace
from gateway.errors import UnknownWorld
from gateway.limits import ENTITY_RETRY_S
from gateway.runtime.entities.database import EntityDatabase
from gateway.runtime.entities.registry import EntityRegistry
from gateway.runtime.entities.writer import together
from gateway.store.entities import leases, transfers
from gateway.wire.entities.transfers import CANCELLED, Offer, Transfer, make_ticket, source_of
from gateway.wire.entities.values import Actor, Entity


class Transfers:
    """All tickets name their source world, so any gateway over the store can end any of them."""

    def __init__(self, registry: EntityRegistry, *, clock_us: Callable[[], int]) -> None:
        self._registry = registry
        self._clock_us = clock_us
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._due_us: dict[str, int] = {}
        """Of each that is settling: when it looks next."""

    async def _world(self, name: str) -> EntityDatabase:
        return await self._registry.get(EntityPlace("world", name))

    async def offer(self, wanted: Offer, actor: Actor) -> Transfer:
        """Hold the entities and answer a ticket. Raises ``UnknownWorld`` also for the destination."""
        # Looked for before anything is held: an offer to nowhere would hold the entities until it runs out.
        await self._world(wanted.destination)
        source = await self._world(wanted.source)
        ticket = make_ticket(wanted.source, secrets.token_hex(16))
        transfer = await source.write(lambda c, now_us: transfers.offer(c, wanted, ticket, actor, now_us))
        self._settle_at(wanted.source, transfer.expires_us)
        return transfer

    def _settle_at(self, world: str, due_us: int) -> None:
        """Write the end of an offer down when its time is over, if nobody has come first."""
        running = self._settling.get(world)
        if running is not None and not running.done():
            if due_us >= self._due_us[world]:
                return
            # It sleeps until a later one is over: until then watchers would see these held, though everybody may
            # write them.
            running.cancel()
        self._due_us[world] = due_us
        self._settling[world] = asyncio.get_running_loop().create_task(self._settle(world, due_us))

    async def _settle(self, world: str, due_us: int) -> None:
        next_due: int | None = due_us
        while next_due is not None:
            self._due_us[world] = next_due
            await asyncio.sleep(max(0.01, (next_due - self._clock_us()) / 1e6))
            try:
                database = await self._world(world)
                next_due = await database.write(lambda c, now_us: transfers.next_due(c))
            except UnknownWorld:
                return
            except Exception:
                next_due = self._clock_us() + 1_000_000

    async def accept(self, ticket: str, owner: str | None, actor: Actor) -> tuple[Transfer, list[Entity]]:
        """Take what a ticket offers: rows leave one database and enter the other in one commit."""
        known = await self.get(ticket)
        known.must_be_open(self._clock_us())
        source, destination = await self._world(known.source), await self._world(known.destination)

        def run(connections: Sequence[apsw.Connection]) -> tuple[Transfer, list[Entity]]:
            return transfers.accept(connections[0], connections[1], ticket, owner, actor, self._clock_us())

        (ended, moved), _ = await together(
            [source.writer, destination.writer],
            run,
            executor=self._registry.executor,
            deadline_s=ENTITY_RETRY_S,
        )
        # It is done by now, whatever becomes of these: watchers hear at the next poll at the latest.
        await asyncio.gather(source.feed.catch_up(), destination.feed.catch_up(), return_exceptions=True)
        return ended, moved

    async def cancel(self, ticket: str, actor: Actor) -> Transfer:
        """The source takes its offer back."""
        source = await self._world(source_of(ticket))

        def work(connection: apsw.Connection, now_us: int) -> Transfer:
            transfer = transfers.find_transfer(connection, ticket)
            transfer.must_be_open(now_us)
            transfers.must_own(connection, transfer.by_owner, actor, now_us)
            return transfers.end(connection, transfer, CANCELLED, now_us)

        return await source.write(work)

    async def get(self, ticket: str) -> Transfer:
        """The record. One that is over though nobody wrote so is written down first."""
        source = await self._world(source_of(ticket))
        nothing: Transfer | None = None
        found = await source.snapshots.read(lambda c: transfers.find_transfer(c, ticket), nothing)
        # Not seen by a read: it may have been written elsewhere just now. A write looks at the newest, and
        # settles what is due.
        if found is None or found.due(self._clock_us()):
            found = await source.write(lambda c, now_us: transfers.find_transfer(c, ticket))
        return found

    async def list(self, world: str, *, entity: str | None, state: str | None, limit: int) -> list[Transfer]:
        """The newest records of a world, as source or destination."""
        database = await self._world(world)
        if await database.snapshots.read(transfers.next_due, None) is not None:
            # Nothing but what every write does first: offers that have run out are written down.
            await database.write(lambda c, now_us: None)
        none: list[Transfer] = []
        return await database.snapshots.read(
            lambda c: list(transfers.records(c, entity=entity, state=state, limit=limit)), none
        )

    async def owned_by(self, world: str, owners: set[str], actor: Actor) -> set[str]:
        """Those of ``owners`` whose living lease in ``world`` the actor holds."""
        if actor.lease is None:
            return set()
        none: set[str] = set()
        database, now_us, token = await self._world(world), self._clock_us(), actor.lease
        return await database.snapshots.read(
            lambda c: {owner for owner in owners if leases.holds(c, owner, token, now_us)}, none
        )

    async def aclose(self) -> None:
        """End. Transfers that are still open are settled by the gateway that opens the world next."""
        tasks = list(self._settling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
