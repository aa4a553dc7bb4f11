"""Entities: their values and rules, without storage or transport. Room: wire; pure.

An entity is a row: id, class, owner, tags, a state of some kind, and a revision that rises with
every change in its database. Times are microseconds since the Unix epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from gateway.errors import (
    PreconditionFailed,
)

Kind = Literal["variant", "bytes", "json"]

CONTENT_TYPES: Final[dict[str, str]] = {
    "variant": "application/vnd.godot.variant",
    "bytes": "application/octet-stream",
    "json": "application/json",
}
"""Kind of state -> the content type it comes and goes by."""


@dataclass(frozen=True, slots=True)
class Entity:
    """One row. ``key``: its record in frames; ``epoch``/``tick``: the game's moment the state is
    of; ``ticket``: the transfer that holds it; ``quantity``: 1 in worlds, a count in inventories."""

    id: str
    kind: str
    state: bytes
    class_name: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    key: int | None = None
    epoch: int | None = None
    tick: int | None = None
    updated_us: int = 0
    revision: int = 0
    ticket: str | None = None
    quantity: int = 1

    def facts(self) -> dict[str, object]:
        """Everything but the state, JSON-ready."""
        return {
            "id": self.id,
            "class": self.class_name,
            "owner": self.owner,
            "tags": list(self.tags),
            "kind": self.kind,
            "key": self.key,
            "epoch": self.epoch,
            "tick": self.tick,
            "updated_us": self.updated_us,
            "revision": self.revision,
            "in_transfer": self.ticket is not None,
            "quantity": self.quantity,
        }


HEAD_DEFAULTS: Final[dict[str, object]] = {
    "class": "", "owner": "", "tags": [], "key": None, "epoch": None, "tick": None,
    "in_transfer": False, "quantity": 1,
}  # fmt: skip
"""What an entity message's head leaves out: two thousand of them are one cold start."""


def head_of(entity: Entity) -> dict[str, object]:
    """An entity's facts without those that have their default (written out: it is the hot path)."""
    head: dict[str, object] = {
        "id": entity.id, "kind": entity.kind, "revision": entity.revision, "updated_us": entity.updated_us,
    }  # fmt: skip
    if entity.class_name:
        head["class"] = entity.class_name
    if entity.owner:
        head["owner"] = entity.owner
    if entity.tags:
        head["tags"] = entity.tags
    for name in ("key", "epoch", "tick"):
        value = getattr(entity, name)
        if value is not None:
            head[name] = value
    if entity.ticket is not None:
        head["in_transfer"] = True
    if entity.quantity != 1:
        head["quantity"] = entity.quantity
    return head


@dataclass(frozen=True, slots=True)
class Precondition:
    """``If-Match`` and ``If-None-Match``: None (not asked), ``*``, or the revisions named.
    RFC 9110 sections 13.1.1 and 13.1.2."""

    if_match: frozenset[int] | Literal["*"] | None = None
    if_none_match: frozenset[int] | Literal["*"] | None = None

    def check(self, entity_id: str, revision: int | None) -> None:
        """Raise :class:`PreconditionFailed` with the present ``revision`` (None: there is none)."""
        wanted, unwanted = self.if_match, self.if_none_match
        # "*" asks only that there is one, or that there is none.
        missed = wanted is not None and (revision is None or (wanted != "*" and revision not in wanted))
        hit = unwanted is not None and revision is not None and (unwanted == "*" or revision in unwanted)
        if missed or hit:
            present = "is not there" if revision is None else f"is at revision {revision}"
            raise PreconditionFailed(
                f"entity {entity_id} {present}; read it again and decide anew",
                id=entity_id,
                revision=revision,
            )


def etag(revision: int) -> str:
    return f'"{revision}"'


@dataclass(frozen=True, slots=True)
class Actor:
    """Who writes: the lease token of an owner, if any; ``takeover`` takes what another owns."""

    lease: str | None = None
    takeover: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """Hibernate: the state, and what else is to be set; None leaves a field as it is."""

    id: str
    kind: str
    state: bytes
    class_name: str | None = None
    owner: str | None = None
    tags: tuple[str, ...] | None = None
    key: int | None = None
    epoch: int | None = None
    tick: int | None = None
    quantity: int | None = None
    when: Precondition = field(default_factory=Precondition)


@dataclass(frozen=True, slots=True)
class Patch:
    """Change what is not the state; None leaves a field as it is."""

    id: str
    class_name: str | None = None
    owner: str | None = None
    tags: tuple[str, ...] | None = None
    when: Precondition = field(default_factory=Precondition)


@dataclass(frozen=True, slots=True)
class Delete:
    id: str
    when: Precondition = field(default_factory=Precondition)


@dataclass(frozen=True, slots=True)
class Get:
    id: str


Operation = Put | Delete | Get


@dataclass(frozen=True, slots=True)
class Removal:
    """What is left of an entity: when it went, and for a transfer the world it went to."""

    id: str
    revision: int
    time_us: int
    moved_to: str | None = None


Change = Entity | Removal


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entities of a database; None and "" ask nothing. ``after``: ids greater than it."""

    class_name: str | None = None
    owner: str | None = None
    tag: str | None = None
    prefix: str = ""
    after: str = ""

    def takes(self, entity: Entity) -> bool:
        """Whether a change of ``entity`` is of interest."""
        return (
            self.class_name in (None, entity.class_name)
            and self.owner in (None, entity.owner)
            and (self.tag is None or self.tag in entity.tags)
            and entity.id.startswith(self.prefix)
        )


def change_head(change: Change, wanted: Filter | None = None) -> tuple[dict[str, object], bytes]:
    """(head, state) of a change's message: ``op`` is ``put``, or ``delete`` for what went, moved
    away or does not match the watcher's filter any more."""
    if isinstance(change, Removal):
        head = {"op": "delete", "id": change.id, "revision": change.revision}
        return (head if change.moved_to is None else {**head, "moved_to": change.moved_to}), b""
    if wanted is not None and not wanted.takes(change):
        return {"op": "delete", "id": change.id, "revision": change.revision, "left": True}, b""
    return {"op": "put", **head_of(change)}, change.state
