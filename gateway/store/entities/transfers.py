"""Transfers in their databases: offer, end, accept over two at once. Room: store.

Accepting runs inside **one** commit over the source's and the destination's namespaces, so at
every moment, after any crash, exactly one of them holds the rows. Source: docs/ENTITIES.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import apsw

from gateway.errors import NotFound
from gateway.limits import TRANSFER_RECORDS_MAX
from gateway.store.entities.leases import must_own as must_own
from gateway.store.entities.rows import find, get, remove, save, writable
from gateway.store.entities.schema import ensure, is_there, next_revision
from gateway.wire.entities.transfers import ACCEPTED, EXPIRED, AlreadyThere, Offer, Transfer
from gateway.wire.entities.values import Actor, Entity

COLUMNS: Final = "ticket, source, destination, entities, by_owner, offered_us, expires_us, state, ended_us"


def _of(row: tuple[Any, ...]) -> Transfer:
    ticket, source, destination, entities, *rest = row
    return Transfer(ticket, source, destination, tuple(json.loads(entities)), *rest)


def find_transfer(connection: apsw.Connection, ticket: str) -> Transfer:
    """The record. Raises :class:`NotFound`."""
    if is_there(connection):
        for row in connection.execute(f"SELECT {COLUMNS} FROM transfers WHERE ticket = ?", (ticket,)):
            return _of(row)
    raise NotFound("there is no such ticket; its record may be older than those kept")


def write(connection: apsw.Connection, transfer: Transfer) -> None:
    """Insert or replace a record; the oldest beyond the bound go."""
    values = (
        transfer.ticket, transfer.source, transfer.destination, json.dumps(transfer.entities),
        transfer.by_owner, transfer.offered_us, transfer.expires_us, transfer.state, transfer.ended_us,
    )  # fmt: skip
    connection.execute(f"INSERT OR REPLACE INTO transfers ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)", values)


def forget_old(connection: apsw.Connection, keep: int = TRANSFER_RECORDS_MAX) -> None:
    """Drop the oldest records beyond ``keep`` that have ended."""
    connection.execute(
        "DELETE FROM transfers WHERE state != 'offered' AND offered_us <= "
        "(SELECT offered_us FROM transfers ORDER BY offered_us DESC LIMIT 1 OFFSET ?)",
        (keep,),
    )


def offer(connection: apsw.Connection, wanted: Offer, ticket: str, actor: Actor, now_us: int) -> Transfer:
    """Hold the entities for ``ticket``. Raises ``NotFound``, ``InTransfer``, ``NotOwner``."""
    ensure(connection)
    settle(connection, now_us)
    entities = [get(connection, one) for one in wanted.entities]
    for entity in entities:
        writable(connection, entity, actor, now_us)
    for entity in entities:
        hold(connection, entity, ticket, now_us)
    transfer = Transfer(
        ticket, wanted.source, wanted.destination, wanted.entities, entities[0].owner,
        now_us, now_us + wanted.expires_ms * 1000,
    )  # fmt: skip
    write(connection, transfer)
    if next_revision(connection) % 1024 == 0:
        forget_old(connection)
    return transfer


def hold(connection: apsw.Connection, entity: Entity, ticket: str | None, now_us: int) -> None:
    """Bind an entity to a ticket, or set it free with None; watchers see it as a change."""
    changed = replace(entity, ticket=ticket, revision=next_revision(connection), updated_us=now_us)
    save(connection, changed, entity)


def end(connection: apsw.Connection, transfer: Transfer, state: str, now_us: int) -> Transfer:
    """Cancelled or expired: the entities are the source's again."""
    for ident in transfer.entities:
        entity = find(connection, ident)
        # Not free what another ticket holds.
        if entity is not None and entity.ticket == transfer.ticket:
            hold(connection, entity, None, now_us)
    ended = transfer.ended(state, now_us)
    write(connection, ended)
    return ended


def settle(connection: apsw.Connection, now_us: int) -> int:
    """Write down every offer whose time is over as expired. Answers how many."""
    if not is_there(connection):
        return 0
    sql = f"SELECT {COLUMNS} FROM transfers WHERE state = 'offered' AND expires_us <= ?"
    due = [_of(row) for row in connection.execute(sql, (now_us,))]
    for transfer in due:
        end(connection, transfer, EXPIRED, now_us)
    return len(due)


def next_due(connection: apsw.Connection) -> int | None:
    """When the next offer runs out (microseconds, Unix), if any is open."""
    if not is_there(connection):
        return None
    for (expires_us,) in connection.execute("SELECT min(expires_us) FROM transfers WHERE state = 'offered'"):
        return None if expires_us is None else int(expires_us)
    return None


def accept(
    source: apsw.Connection,
    destination: apsw.Connection,
    ticket: str,
    owner: str | None,
    actor: Actor,
    now_us: int,
) -> tuple[Transfer, list[Entity]]:
    """Move the rows from one database to the other. Both connections are in the same commit.

    ``owner``: whose they are in the destination (None: who owned them before). Raises
    ``TransferEnded``, ``TransferExpired``, :class:`AlreadyThere`, ``NotOwner``.
    """
    transfer = find_transfer(source, ticket)
    transfer.must_be_open(now_us)
    ensure(destination)
    if owner is not None:
        must_own(destination, owner, actor, now_us)
    moved = []
    for ident in transfer.entities:
        entity = get(source, ident)
        if find(destination, ident) is not None:
            raise AlreadyThere(f"{transfer.destination} has an entity {ident} already", id=ident)
        remove(source, entity, now_us, transfer.destination)
        arrived = replace(
            entity,
            owner=entity.owner if owner is None else owner,
            ticket=None,
            revision=next_revision(destination),
            updated_us=now_us,
        )
        save(destination, arrived, None)
        moved.append(arrived)
    ended = transfer.ended(ACCEPTED, now_us)
    # In both worlds: either of them is asked how it ended, and the other may be deleted by then.
    write(source, ended)
    write(destination, ended)
    return ended, moved


def records(
    connection: apsw.Connection, *, entity: str | None = None, state: str | None = None, limit: int = 100
) -> Sequence[Transfer]:
    """The newest records of this database, of one entity or in one state if asked."""
    if not is_there(connection):
        return []
    sql = f"""SELECT {COLUMNS} FROM transfers
        WHERE (?1 IS NULL OR state = ?1)
          AND (?2 IS NULL OR EXISTS (SELECT 1 FROM json_each(transfers.entities) WHERE value = ?2))
        ORDER BY offered_us DESC LIMIT ?3"""
    return [_of(row) for row in connection.execute(sql, (state, entity, limit))]
