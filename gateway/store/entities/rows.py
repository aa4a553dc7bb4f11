"""Entities one by one: get, put, patch, delete, in an open transaction. Room: store. Source: docs/ENTITIES.md."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

import apsw

from gateway.errors import Conflict, NotFound
from gateway.limits import ENTITIES_PER_WORLD_MAX, ENTITY_TOMBSTONES_MAX
from gateway.store.entities.leases import must_own
from gateway.store.entities.schema import FORGOTTEN, is_there, next_revision, set_meta
from gateway.wire.entities.refusals import Full
from gateway.wire.entities.transfers import InTransfer
from gateway.wire.entities.values import Actor, Delete, Entity, Patch, Put

COLUMNS: Final = (
    "id, kind, state, class, owner, tags, key, epoch, tick, updated_us, revision, ticket, quantity"
)


def entity_of(row: tuple[Any, ...]) -> Entity:
    """A row of :data:`COLUMNS` as a value."""
    ident, kind, state, class_name, owner, tags, *rest = row
    # Most have none, and a cold start reads thousands.
    known = () if tags == "[]" else tuple(json.loads(tags))
    return Entity(ident, kind, state, class_name, owner, known, *rest)


def find(connection: apsw.Connection, entity_id: str) -> Entity | None:
    """The entity, or None."""
    if not is_there(connection):
        return None
    for row in connection.execute(f"SELECT {COLUMNS} FROM entities WHERE id = ?", (entity_id,)):
        return entity_of(row)
    return None


def get(connection: apsw.Connection, entity_id: str) -> Entity:
    """The entity. Raises :class:`NotFound`; the fact ``moved_to`` names the world it went to."""
    entity = find(connection, entity_id)
    if entity is None:
        raise missing(connection, entity_id)
    return entity


def missing(connection: apsw.Connection, entity_id: str) -> NotFound:
    """The exception for an entity that is not there, with where it went if that is known."""
    if is_there(connection):
        sql = "SELECT moved_to, time_us FROM entity_removals WHERE id = ? AND moved_to IS NOT NULL"
        for moved_to, moved_at_us in connection.execute(sql, (entity_id,)):
            return NotFound(
                f"entity {entity_id} has moved to {moved_to}; ask for it there",
                moved_to=moved_to,
                moved_at_us=moved_at_us,
            )
    return nowhere(entity_id)


def nowhere(entity_id: str) -> NotFound:
    """The exception for an entity of which nothing is known."""
    return NotFound(f"there is no entity {entity_id} here")


def changed_meanwhile(entity_id: str) -> Conflict:
    """The exception for an entity that somebody else changed between a look and the write."""
    return Conflict(f"entity {entity_id} was changed meanwhile; look at it again", id=entity_id)


def writable(connection: apsw.Connection, entity: Entity, actor: Actor, now_us: int) -> None:
    """Raise :class:`InTransfer` or :class:`Forbidden` unless ``actor`` may change ``entity``."""
    if entity.ticket is not None:
        raise InTransfer(
            f"entity {entity.id} is in transfer; it can be written when that has ended", id=entity.id
        )
    must_own(connection, entity.owner, actor, now_us)


def put(
    connection: apsw.Connection,
    wanted: Put,
    actor: Actor,
    now_us: int,
    entities_max: int = ENTITIES_PER_WORLD_MAX,
) -> tuple[Entity, bool]:
    """Create or replace. Answers (the entity as stored, created). Raises :class:`Full` where a new one would be one
    more than ``entities_max``; what comes by transfer or trade was made elsewhere, and is let in."""
    old = find(connection, wanted.id)
    wanted.when.check(wanted.id, None if old is None else old.revision)
    if old is not None:
        writable(connection, old, actor, now_us)
    base = old or Entity(wanted.id, wanted.kind, b"")
    owner = base.owner if wanted.owner is None else wanted.owner
    # To give to an owner needs that one's lease too: or else anybody could fill another's hands.
    if owner != base.owner:
        must_own(connection, owner, actor, now_us)
    entity = Entity(
        id=wanted.id,
        kind=wanted.kind,
        state=wanted.state,
        class_name=base.class_name if wanted.class_name is None else wanted.class_name,
        owner=owner,
        tags=base.tags if wanted.tags is None else wanted.tags,
        key=base.key if wanted.key is None else wanted.key,
        epoch=wanted.epoch,
        tick=wanted.tick,
        updated_us=now_us,
        revision=next_revision(connection),
        quantity=base.quantity if wanted.quantity is None else wanted.quantity,
    )
    if old is None and entity.revision > entities_max:  # each of them has had a revision of its own
        _check_room(connection, entities_max)
    save(connection, entity, old)
    return entity, old is None


def _check_room(connection: apsw.Connection, entities_max: int) -> None:
    sql = "SELECT count(*) FROM (SELECT 1 FROM entities LIMIT ?)"
    if connection.execute(sql, (entities_max,)).get >= entities_max:
        raise Full(
            f"there are {entities_max} entities here, which is the bound; delete some, or start the gateway with a higher "
            "--entities-per-world-max",
            bound="--entities-per-world-max",
            limit=entities_max,
        )


def patch(connection: apsw.Connection, wanted: Patch, actor: Actor, now_us: int) -> Entity:
    """Change class, owner or tags; the state stays."""
    old = find(connection, wanted.id)
    wanted.when.check(wanted.id, None if old is None else old.revision)
    if old is None:
        raise missing(connection, wanted.id)
    writable(connection, old, actor, now_us)
    owner = old.owner if wanted.owner is None else wanted.owner
    if owner != old.owner:
        must_own(connection, owner, actor, now_us)
    entity = replace(
        old,
        class_name=old.class_name if wanted.class_name is None else wanted.class_name,
        owner=owner,
        tags=old.tags if wanted.tags is None else wanted.tags,
        updated_us=now_us,
        revision=next_revision(connection),
    )
    save(connection, entity, old)
    return entity


def delete(connection: apsw.Connection, wanted: Delete, actor: Actor, now_us: int) -> int:
    """Remove. Answers the removal's revision."""
    old = find(connection, wanted.id)
    wanted.when.check(wanted.id, None if old is None else old.revision)
    if old is None:
        raise missing(connection, wanted.id)
    writable(connection, old, actor, now_us)
    return remove(connection, old, now_us)


def remove(connection: apsw.Connection, old: Entity, now_us: int, moved_to: str | None = None) -> int:
    """Take the row out and leave a removal behind, whoever owns it. Answers its revision."""
    revision = next_revision(connection)
    connection.execute("DELETE FROM entities WHERE id = ?", (old.id,))
    connection.execute("DELETE FROM entity_tags WHERE id = ? AND tag IN (SELECT value FROM json_each(?))",
                       (old.id, json.dumps(old.tags)))  # fmt: skip
    connection.execute(
        "INSERT OR REPLACE INTO entity_removals (id, revision, time_us, moved_to) VALUES (?, ?, ?, ?)",
        (old.id, revision, now_us, moved_to),
    )
    # Now and then: a removal more or less beyond the bound does no harm.
    if revision % 1024 == 0:
        forget_removals(connection)
    return revision


def forget_removals(connection: apsw.Connection, keep: int = ENTITY_TOMBSTONES_MAX) -> None:
    """Drop removals beyond the newest ``keep``, and note up to which revision."""
    sql = "SELECT revision FROM entity_removals ORDER BY revision DESC LIMIT 1 OFFSET ?"
    for (revision,) in list(connection.execute(sql, (keep,))):
        # Noted with it: who asks from before that is sent everything anew.
        connection.execute("DELETE FROM entity_removals WHERE revision <= ?", (revision,))
        set_meta(connection, FORGOTTEN, revision)


def save(connection: apsw.Connection, entity: Entity, old: Entity | None) -> None:
    """Write the row and its tags; ``old`` is what stands there now."""
    values = (
        entity.id, entity.kind, entity.state, entity.class_name, entity.owner, json.dumps(entity.tags),
        entity.key, entity.epoch, entity.tick, entity.updated_us, entity.revision, entity.ticket, entity.quantity,
    )  # fmt: skip
    if old is None:
        # It is there again: a watcher that missed its end must not be told of it after its return.
        connection.execute("DELETE FROM entity_removals WHERE id = ?", (entity.id,))
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO entities ({COLUMNS}) VALUES ({marks})", values)
    else:
        sets = ", ".join(f"{column} = ?" for column in COLUMNS.split(", ")[1:])
        connection.execute(f"UPDATE entities SET {sets} WHERE id = ?", (*values[1:], entity.id))
    before = set(() if old is None else old.tags)
    for tag in before - set(entity.tags):
        connection.execute("DELETE FROM entity_tags WHERE tag = ? AND id = ?", (tag, entity.id))
    for tag in set(entity.tags) - before:
        connection.execute("INSERT OR IGNORE INTO entity_tags (tag, id) VALUES (?, ?)", (tag, entity.id))
