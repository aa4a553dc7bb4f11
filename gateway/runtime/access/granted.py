"""Worlds, entities and the store as a grant shows them: for names that stand in bodies and in lists. Room: runtime.

The gate has looked at the path; here it is asked again with the names that a body gave, so that no route has to. The
standing is that of whoever asks (:data:`gateway.core.gate.current`): where there is none, everything is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from gateway.core.entities import Changes, EntityPlace, EntityPort, Outcome
from gateway.core.gate import Standing, current
from gateway.core.grants import SEE, GrantRefused, Need
from gateway.core.ports import Hosted, Link, LiveOptions, Worlds
from gateway.core.told import Listed, Overview, Posted, RecordedState, UdpPlace
from gateway.http.clips import ClipFile
from gateway.http.recordings import RecordingService
from gateway.store.base import (
    CommitRequest,
    Committed,
    Namespace,
    OverlayBase,
    PageContent,
    PageRead,
    Stat,
    Store,
    TimeBounds,
)
from gateway.wire.entities.trades import Trade
from gateway.wire.entities.transfers import Offer, Transfer
from gateway.wire.entities.values import Actor, Delete, Entity, Filter, Operation, Patch, Put


def standing_now() -> Standing:
    """That of whoever asks. Raises ``GrantRefused`` where nobody was let in: a way past the gate is none."""
    standing = current.get()
    if standing is None:
        raise GrantRefused("whoever asks this was not let in by the gate", rule="path")
    return standing


def _check(verb: str, *names: str, takeover: bool = False) -> None:
    standing_now().grant.check(Need(verb, names, takeover))


def _held_back(delay_s: float) -> float:
    """How far behind live, at the least."""
    return max(delay_s, standing_now().grant.delay_s)


class GrantedWorlds:
    """Implements :class:`gateway.core.ports.Worlds` over another. ``another``: the same grant, in use by what outlives the
    request; ``tie``: a plain UDP token dies with it."""

    def __init__(
        self,
        worlds: Worlds,
        another: Callable[[Standing], Standing],
        tie: Callable[[str, Standing], None],
    ) -> None:
        self._worlds = worlds
        self._another = another
        self._tie = tie

    async def create(
        self, name: str, options: Mapping[str, object], *, by: str = ""
    ) -> tuple[Overview, bool]:
        _check("admin", name)
        return await self._worlds.create(name, options, by=by)

    async def info(self, name: str, *, delay_s: float = 0.0) -> Overview:
        _check(SEE, name)
        return await self._worlds.info(name, delay_s=_held_back(delay_s))

    async def list(self, *, delay_s: float = 0.0) -> list[Listed]:
        grant = standing_now().grant
        worlds = await self._worlds.list(delay_s=_held_back(delay_s))
        return [world for world in worlds if grant.has(SEE, world.world)]

    async def open_session(self, name: str, options: LiveOptions, link: Link) -> Hosted:
        _check("pub" if options.role == "publish" else "sub", name, takeover=options.takeover)
        if options.role == "subscribe":
            options = replace(options, delay_s=_held_back(options.delay_s))
        return await self._worlds.open_session(name, options, link)

    async def post_frames(
        self, name: str, messages: AsyncIterator[bytes], *, durable: bool, by: str = ""
    ) -> Posted:
        _check("pub", name)
        return await self._worlds.post_frames(name, messages, durable=durable, by=by)

    async def last_synced(self, name: str, *, delay_s: float = 0.0) -> RecordedState:
        _check("sub", name)
        return await self._worlds.last_synced(name, delay_s=_held_back(delay_s))

    async def patch(self, name: str, options: Mapping[str, object]) -> Overview:
        _check("admin", name)
        return await self._worlds.patch(name, options)

    async def delete(self, name: str) -> None:
        _check("admin", name)
        await self._worlds.delete(name)

    async def state_at(
        self,
        name: str,
        *,
        epoch: int | None = None,
        tick: int | None = None,
        at_us: int | None = None,
        delay_s: float = 0.0,
    ) -> RecordedState:
        _check("sub", name)
        held_back = _held_back(delay_s)
        return await self._worlds.state_at(name, epoch=epoch, tick=tick, at_us=at_us, delay_s=held_back)

    async def history(
        self,
        name: str,
        *,
        epoch: int | None,
        from_tick: int | None,
        to_tick: int | None,
        rows: bool = False,
        delay_s: float = 0.0,
    ) -> AsyncIterator[bytes]:
        _check("sub", name)
        return await self._worlds.history(
            name, epoch=epoch, from_tick=from_tick, to_tick=to_tick, rows=rows, delay_s=_held_back(delay_s)
        )

    async def udp_token(self, name: str, *, by: str = "") -> UdpPlace:
        _check("pub", name)
        # A use of its own: the request's ends with its answer, and a plain UDP publisher goes on for hours.
        standing = self._another(standing_now())
        try:
            given = await self._worlds.udp_token(name, by=by)
        except BaseException:
            standing.over()
            raise
        self._tie(given.token, standing)
        return given


class GrantedRecordings:
    """Implements :class:`RecordingService` over another."""

    def __init__(self, recordings: RecordingService) -> None:
        self._recordings = recordings

    async def summary(self, name: str, *, delay_s: float = 0.0) -> Mapping[str, object]:
        _check("sub", name)
        return await self._recordings.summary(name, delay_s=_held_back(delay_s))

    async def gaps(self, name: str, *, delay_s: float = 0.0) -> list[dict[str, object]]:
        _check("sub", name)
        return await self._recordings.gaps(name, delay_s=_held_back(delay_s))

    async def marks(self, name: str, *, delay_s: float = 0.0) -> list[dict[str, object]]:
        _check("sub", name)
        return await self._recordings.marks(name, delay_s=_held_back(delay_s))

    async def timeline(self, name: str, spans: int, *, delay_s: float = 0.0) -> Mapping[str, object]:
        _check("sub", name)
        return await self._recordings.timeline(name, spans, delay_s=_held_back(delay_s))

    async def verify(self, name: str, *, delay_s: float = 0.0) -> Mapping[str, object]:
        _check("sub", name)
        return await self._recordings.verify(name, delay_s=_held_back(delay_s))

    async def clip(self, name: str, wanted: Mapping[str, object], *, delay_s: float = 0.0) -> ClipFile:
        _check("sub", name)
        return await self._recordings.clip(name, wanted, delay_s=_held_back(delay_s))

    async def set_mark(self, name: str, fields: Mapping[str, object]) -> Mapping[str, object]:
        _check("admin", name)
        return await self._recordings.set_mark(name, fields)

    async def branch(self, name: str, fields: Mapping[str, object], *, by: str = "") -> Mapping[str, object]:
        _check("admin", name, str(fields.get("name")))
        return await self._recordings.branch(name, fields, by=by)


class GrantedEntities:
    """Implements :class:`gateway.core.entities.EntityPort` over another. A transfer needs both its worlds, a trade both
    its owners, a lease the grant's ``owner``."""

    def __init__(self, entities: EntityPort) -> None:
        self._entities = entities

    async def get(self, place: EntityPlace, entity_id: str, at: str | None = None) -> Entity:
        _check_place(place)
        return await self._entities.get(place, entity_id, at)

    async def put(self, place: EntityPlace, wanted: Put, actor: Actor) -> tuple[Entity, bool]:
        _check_place(place, actor)
        return await self._entities.put(place, wanted, actor)

    async def patch(self, place: EntityPlace, wanted: Patch, actor: Actor) -> Entity:
        _check_place(place, actor)
        return await self._entities.patch(place, wanted, actor)

    async def delete(self, place: EntityPlace, wanted: Delete, actor: Actor) -> int:
        _check_place(place, actor)
        return await self._entities.delete(place, wanted, actor)

    async def batch(self, place: EntityPlace, operations: Sequence[Operation], actor: Actor) -> list[Outcome]:
        _check_place(place, actor)
        return await self._entities.batch(place, operations, actor)

    async def page(
        self, place: EntityPlace, wanted: Filter, limit: int, at: str | None = None
    ) -> tuple[list[Entity], bool, int]:
        _check_place(place)
        return await self._entities.page(place, wanted, limit, at)

    async def stream(self, place: EntityPlace, wanted: Filter) -> AsyncIterator[bytes]:
        _check_place(place)
        return await self._entities.stream(place, wanted)

    async def watch(self, place: EntityPlace, wanted: Filter, since: int | None) -> AsyncIterator[Changes]:
        _check_place(place)
        return await self._entities.watch(place, wanted, since)

    async def hibernate(self, world: str, wanted: Put, key: int, actor: Actor) -> tuple[Entity, bool]:
        _check_place(EntityPlace("world", world), actor)
        return await self._entities.hibernate(world, wanted, key, actor)

    async def wake(self, world: str, entity_id: str, key: int | None, actor: Actor) -> Mapping[str, object]:
        _check_place(EntityPlace("world", world), actor)
        return await self._entities.wake(world, entity_id, key, actor)

    async def lease(self, world: str, owner: str, token: str | None, takeover: bool) -> Mapping[str, object]:
        _check("ent", world, takeover=takeover)
        standing_now().grant.check_owner(owner)
        return await self._entities.lease(world, owner, token, takeover)

    async def release(self, world: str, owner: str, token: str) -> None:
        _check("ent", world)
        standing_now().grant.check_owner(owner)
        await self._entities.release(world, owner, token)

    async def offer(self, wanted: Offer, actor: Actor) -> Transfer:
        _check("ent", wanted.source, wanted.destination, takeover=actor.takeover)
        return await self._entities.offer(wanted, actor)

    async def accept(self, ticket: str, owner: str | None, actor: Actor) -> tuple[Transfer, list[Entity]]:
        await self._check_transfer(ticket, actor)
        return await self._entities.accept(ticket, owner, actor)

    async def cancel(self, ticket: str, actor: Actor) -> Transfer:
        await self._check_transfer(ticket, actor)
        return await self._entities.cancel(ticket, actor)

    async def _check_transfer(self, ticket: str, actor: Actor) -> None:
        # Looked up first: the ticket alone does not say which worlds it concerns.
        transfer = await self._entities.transfer(ticket)
        _check("ent", transfer.source, transfer.destination, takeover=actor.takeover)

    async def transfer(self, ticket: str) -> Transfer:
        transfer = await self._entities.transfer(ticket)
        _check("ent", transfer.source, transfer.destination)
        return transfer

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
        _check("ent", world)
        return await self._entities.transfers(
            world, entity=entity, state=state, limit=limit, actor=actor, resume=resume
        )

    async def trade(self, wanted: Trade, actor: Actor) -> list[Mapping[str, object]]:
        _check("inv", *wanted.owners, takeover=actor.takeover)
        return await self._entities.trade(wanted, actor)


def _check_place(place: EntityPlace, actor: Actor | None = None) -> None:
    verb = "ent" if place.kind == "world" else "inv"
    _check(verb, place.name, takeover=actor is not None and actor.takeover)


class GrantedStore:
    """The page plane's part of a :class:`Store`: every operation on the namespaces of the grant only."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def stat(
        self, ns: Namespace, *, from_version: str | None = None, lock_owner: str | None = None
    ) -> Stat:
        _check("store", ns.key)
        return await self._store.stat(ns, from_version=from_version, lock_owner=lock_owner)

    async def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        _check("store", ns.key)
        return await self._store.read(ns, reads)

    async def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        _check("store", ns.key)
        return await self._store.write(ns, pages)

    async def commit(self, request: CommitRequest) -> Committed:
        _check("store", *(one.namespace.key for one in request.namespaces))
        return await self._store.commit(request)

    async def time2version(self, t: int) -> TimeBounds:
        _check("store")
        return await self._store.time2version(t)

    async def lock(self, ns: Namespace, owner: str, version: str | None = None) -> None:
        _check("store", ns.key)
        await self._store.lock(ns, owner, version)

    async def unlock(self, ns: Namespace, owner: str, *, rollback: bool) -> None:
        _check("store", ns.key)
        await self._store.unlock(ns, owner, rollback=rollback)

    async def create_namespace(self, key: str, overlay_base: OverlayBase | None = None) -> None:
        """By first use. Without a base: an overlay shows what its base holds."""
        _check("store", key)
        if overlay_base is not None:
            raise GrantRefused("an overlay is made by the admin API only", rule="path")
        await self._store.create_namespace(key)


def granted_store(store: Store) -> Store:
    """As the page plane's routes see it: they ask for nothing else."""
    return cast(Store, GrantedStore(store))
