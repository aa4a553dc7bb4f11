"""What the doors ask of the entities. Room: core; pure. Implemented by ``runtime/``.

A *place* is where entities live: ``("world", NAME)`` or ``("inventory", OWNER)``. Every method
raises only classes of :mod:`gateway.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from gateway.wire.entities.trades import Trade
from gateway.wire.entities.transfers import Offer, Transfer
from gateway.wire.entities.values import Actor, Change, Delete, Entity, Filter, Get, Operation, Patch, Put


class EntityPlace(NamedTuple):
    """A world or an inventory, by its checked name."""

    kind: Literal["world", "inventory"]
    name: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation of a batch: the entity, a removal's revision, or nothing there."""

    operation: Operation
    entity: Entity | None = None
    revision: int | None = None
    created: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes in order, complete up to ``revision``. ``reset``: forget all that you knew first."""

    changes: Sequence[Change]
    revision: int
    reset: bool = False


class EntityPort(Protocol):
    """The service behind every entity route."""

    async def get(self, place: EntityPlace, entity_id: str, at: str | None = None) -> Entity:
        """The entity, now or ``at`` a time (Unix seconds as text, or a version of the store)."""

    async def put(self, place: EntityPlace, wanted: Put, actor: Actor) -> tuple[Entity, bool]:
        """Answers (the entity, created). Returned means durable."""

    async def patch(self, place: EntityPlace, wanted: Patch, actor: Actor) -> Entity: ...

    async def delete(self, place: EntityPlace, wanted: Delete, actor: Actor) -> int:
        """Answers the removal's revision."""

    async def batch(self, place: EntityPlace, operations: Sequence[Operation], actor: Actor) -> list[Outcome]:
        """All in one commit, or :class:`BatchRefused` with every fault."""

    async def page(
        self, place: EntityPlace, wanted: Filter, limit: int, at: str | None = None
    ) -> tuple[list[Entity], bool, int]:
        """(entities by rising id, whether there are more, the revision they are of)."""

    async def stream(self, place: EntityPlace, wanted: Filter) -> AsyncIterator[bytes]:
        """All entities as length-prefixed messages, pieces of many; the last message is a control
        message ``end`` with the revision to watch from."""

    async def watch(self, place: EntityPlace, wanted: Filter, since: int | None) -> AsyncIterator[Changes]:
        """What changes, from revision ``since`` on (None: from now); the first item comes at once."""

    async def hibernate(self, world: str, wanted: Put, key: int, actor: Actor) -> tuple[Entity, bool]:
        """The newest live record ``key`` becomes the state and leaves the world state, in one step."""

    async def wake(self, world: str, entity_id: str, key: int | None, actor: Actor) -> Mapping[str, object]:
        """The reverse: the row goes, the record enters the world state: ``{id, key, epoch, tick}``."""

    async def lease(self, world: str, owner: str, token: str | None, takeover: bool) -> Mapping[str, object]:
        """Acquire (no token) or renew: ``{owner, lease, expires_us}``."""

    async def release(self, world: str, owner: str, token: str) -> None:
        """Give a lease back at once."""

    async def offer(self, wanted: Offer, actor: Actor) -> Transfer: ...

    async def accept(self, ticket: str, owner: str | None, actor: Actor) -> tuple[Transfer, list[Entity]]: ...

    async def cancel(self, ticket: str, actor: Actor) -> Transfer: ...

    async def transfer(self, ticket: str) -> Transfer:
        """The record as it stands."""

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
        """A world's newest records, and whether each may be shown with its ticket: to its maker, who holds its owner's
        lease (``actor``), and to the publisher of its destination, who knows that epoch's secret (``resume``)."""

    async def trade(self, wanted: Trade, actor: Actor) -> list[Mapping[str, object]]: ...


__all__ = ["Changes", "Delete", "EntityPlace", "EntityPort", "Get", "Outcome"]
