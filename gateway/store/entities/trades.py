"""Trades over two inventories' databases, in one commit. Room: store. Source: docs/ENTITIES.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import apsw

from gateway.store.entities.rows import find, remove, save, writable
from gateway.store.entities.schema import ensure, next_revision
from gateway.wire.entities.trades import QUANTITY_MAX, DifferentItem, Move, NotEnough, Trade
from gateway.wire.entities.values import Actor, Entity


def trade(
    connections: Mapping[str, apsw.Connection], wanted: Trade, actor: Actor, now_us: int
) -> list[dict[str, object]]:
    """Do all moves or raise. Answers per touched item ``{owner, item, quantity, revision}``.

    Raises ``PreconditionFailed``, ``NotEnough``, ``DifferentItem``, ``NotOwner``.
    """
    for connection in connections.values():
        ensure(connection)
    # All of them before the first move: they speak of what was there before the trade.
    for expected in wanted.expect:
        entity = find(connections[expected.owner], expected.item)
        expected.check(0 if entity is None else entity.quantity, None if entity is None else entity.revision)
    touched: dict[tuple[str, str], dict[str, object]] = {}
    for move in wanted.moves:
        for owner, quantity, revision in _move(connections, move, actor, now_us):
            touched[owner, move.item] = {
                "owner": owner, "item": move.item, "quantity": quantity, "revision": revision,
            }  # fmt: skip
    return list(touched.values())


def _move(
    connections: Mapping[str, apsw.Connection], move: Move, actor: Actor, now_us: int
) -> list[tuple[str, int, int]]:
    giver, taker = connections[move.giver], connections[move.taker]
    given = find(giver, move.item)
    have = 0 if given is None else given.quantity
    if given is None or have < move.quantity or move.revision not in (None, given.revision):
        raise NotEnough(
            f"{move.giver} has {have} of {move.item}"
            f"{'' if given is None else f' at revision {given.revision}'}; the trade takes {move.quantity}",
            owner=move.giver, item=move.item, quantity=have,
        )  # fmt: skip
    writable(giver, given, actor, now_us)
    got = find(taker, move.item)
    # An id stands for one kind of thing: quantities of two things cannot be added.
    if got is not None and (got.class_name, got.kind, got.state) != (
        given.class_name,
        given.kind,
        given.state,
    ):
        raise DifferentItem(f"{move.taker} has another thing under the id {move.item}", item=move.item)
    if got is not None:
        writable(taker, got, actor, now_us)
    if got is not None and got.quantity + move.quantity > QUANTITY_MAX:
        raise NotEnough(f"{move.taker} cannot hold more than {QUANTITY_MAX} of {move.item}", item=move.item)
    # Nothing is written before this line: every reason to refuse is above it.
    left = _take(giver, given, move.quantity, now_us)
    arrived = replace(
        got or given,
        quantity=move.quantity + (0 if got is None else got.quantity),
        revision=next_revision(taker),
        updated_us=now_us,
    )
    save(taker, arrived, got)
    return [(move.giver, have - move.quantity, left), (move.taker, arrived.quantity, arrived.revision)]


def _take(connection: apsw.Connection, given: Entity, quantity: int, now_us: int) -> int:
    """Less of it, or none: answers the giver's new revision."""
    if given.quantity == quantity:
        return remove(connection, given, now_us)
    changed = replace(
        given,
        quantity=given.quantity - quantity,
        revision=next_revision(connection),
        updated_us=now_us,
    )
    save(connection, changed, given)
    return changed.revision
