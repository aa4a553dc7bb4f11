"""Transfers: how an entity goes from one world to another, and every way that can end. Room: wire; pure.

A transfer is *offered* by the source, then ends in exactly one way: *accepted*, *cancelled* or
*expired*. The record stands in the source's database, so whoever ends it writes there, and the
store lets only one of two such commits through. Times are microseconds since the Unix epoch. Source: docs/ENTITIES.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from gateway.errors import BadInput, Conflict, Gone, NotFound, TooLarge
from gateway.limits import TRANSFER_ENTITIES_MAX, TRANSFER_EXPIRES_MS_MAX
from gateway.wire import world_name
from gateway.wire.entities.checks import check_id, check_place

OFFERED: Final = "offered"
ACCEPTED: Final = "accepted"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"
_SECRET_CHARS: Final = 32


class InTransfer(Conflict):
    """The entity is in a transfer: readable, not writable, until that ends."""

    code = "in_transfer"
    title = "In transfer"


class AlreadyThere(Conflict):
    """The destination has an entity of that id."""

    code = "already_there"
    title = "Already there"
    retry = False


class TransferEnded(Conflict):
    """The ticket has ended already; the fact ``ended`` says how."""

    code = "transfer_ended"
    title = "Transfer ended"
    retry = False


class TransferExpired(Gone):
    """The offer ran out; its entities are the source's again."""

    code = "transfer_expired"
    title = "Transfer expired"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a source asks for, validated."""

    entities: tuple[str, ...]
    source: str
    destination: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """The record of one transfer. ``ended_us`` is None while it is offered."""

    ticket: str
    source: str
    destination: str
    entities: tuple[str, ...]
    by_owner: str
    offered_us: int
    expires_us: int
    state: str = OFFERED
    ended_us: int | None = None

    @property
    def id(self) -> str:
        """Names the transfer without being the right to accept it."""
        return hashlib.sha256(self.ticket.encode()).hexdigest()[:_SECRET_CHARS]

    def facts(self, *, shows_ticket: bool = True) -> dict[str, object]:
        """JSON-ready. The ticket is for who made the transfer and for its destination's publisher; else it is None."""
        return {
            "id": self.id,
            "ticket": self.ticket if shows_ticket else None,
            "from": self.source,
            "to": self.destination,
            "entities": list(self.entities),
            "owner": self.by_owner,
            "offered_us": self.offered_us,
            "expires_us": self.expires_us,
            "state": self.state,
            "ended_us": self.ended_us,
        }

    def due(self, now_us: int) -> bool:
        """Offered still, though its time is over: whoever sees it so is to write that down."""
        return self.state == OFFERED and now_us >= self.expires_us

    def ended(self, state: str, now_us: int) -> Transfer:
        return replace(self, state=state, ended_us=now_us)

    def must_be_open(self, now_us: int) -> None:
        """Raise unless it can be accepted or cancelled now."""
        if self.state == EXPIRED or self.due(now_us):
            raise TransferExpired(
                f"the offer of {', '.join(self.entities[:3])} ran out; the source {self.source} has them; "
                "ask it to offer again",
                **self.facts(),
            )
        if self.state != OFFERED:
            raise TransferEnded(f"the transfer was {self.state} already", ended=self.state, **self.facts())


def parse_offer(members: Mapping[str, object]) -> Offer:
    """The body of ``POST /v1/transfers``. Raises :class:`BadInput` and its kin."""
    source, destination = check_place(members.get("from")), check_place(members.get("to"))
    if source == destination:
        raise BadInput(f"from and to are both {source}; a transfer goes to another world")
    named = members.get("entities", members.get("entity"))
    ids = named if isinstance(named, list) else [named]
    if not 1 <= len(ids) <= TRANSFER_ENTITIES_MAX:
        raise TooLarge(f"a transfer takes 1 to {TRANSFER_ENTITIES_MAX} entities, not {len(ids)}")
    entities = tuple(check_id(one) for one in ids)
    if len(set(entities)) != len(entities):
        raise BadInput("an entity is named twice in the transfer")
    return Offer(entities, source, destination, _expires_ms(members.get("expires_ms")))


def _expires_ms(value: object) -> int:
    if value is None:
        return TRANSFER_EXPIRES_MS_MAX
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= TRANSFER_EXPIRES_MS_MAX:
        raise BadInput(f"expires_ms is 1 to {TRANSFER_EXPIRES_MS_MAX}, not {value!r}")
    return value


def make_ticket(source: str, secret: str) -> str:
    """A ticket names its source world, so that any gateway over the store finds its record.
    ``secret``: 32 hex digits of randomness."""
    return f"{source}~{secret}"


def source_of(ticket: str) -> str:
    """The world where a ticket's record stands. Raises :class:`NotFound` for what is no ticket."""
    world, tilde, secret = ticket.partition("~")
    # No world's name has a tilde, so the first one parts them.
    if not tilde or len(secret) != _SECRET_CHARS or not secret.isalnum() or not secret.isascii():
        raise NotFound("there is no such ticket; a ticket is what POST /v1/transfers answered")
    return world_name(world)
