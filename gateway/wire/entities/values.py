"""Entities: their values and rules, without storage or transport. Room: wire; pure.

An entity is a row: id, class, owner, tags, a state of some kind, and a revision that rises with
every change in its database. Times are microseconds since the Unix epoch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gateway.errors import (
    BadInput,
    BadName,
    Conflict,
    Forbidden,
    GatewayError,
    NotFound,
    PreconditionFailed,
    TooLarge,
    Unprocessable,
    Unsupported,
)
from gateway.limits import ENTITY_ID_BYTES_MAX, ENTITY_STATE_BYTES_MAX, ENTITY_TAGS_MAX
from gateway.wire import variant, world_name

Kind = Literal["variant", "bytes", "json"]

CONTENT_TYPES: Final[dict[str, str]] = {
    "variant": "application/vnd.godot.variant",
    "bytes": "application/octet-stream",
    "json": "application/json",
}
"""Kind of state -> the content type it comes and goes by."""

RESERVED_IDS: Final = frozenset({".", "..", "live"})
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f/]")
_ETAG: Final = re.compile(r'(?:W/)?"([0-9]{1,18})"')


class NotOwner(Forbidden):
    """The entity belongs to somebody whose lease lives."""

    code = "not_owner"
    title = "Not the owner"


class OwnerPresent(Conflict):
    """The owner's name is held by a living session; ``takeover`` replaces it."""

    code = "owner_present"
    title = "Owner present"
    retry = False


class NoLiveRecord(NotFound):
    """The world has no live record of that key."""

    code = "no_live_record"
    title = "No live record"


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

    def facts(self) -> dict[str, Any]:
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


HEAD_DEFAULTS: Final[dict[str, Any]] = {
    "class": "", "owner": "", "tags": [], "key": None, "epoch": None, "tick": None,
    "in_transfer": False, "quantity": 1,
}  # fmt: skip
"""What an entity message's head leaves out: two thousand of them are one cold start."""


def head_of(entity: Entity) -> dict[str, Any]:
    """An entity's facts without those that have their default (written out: it is the hot path)."""
    head: dict[str, Any] = {
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
    """``If-Match`` and ``If-None-Match``: None (not asked), ``*``, or the revisions named."""

    if_match: frozenset[int] | Literal["*"] | None = None
    if_none_match: frozenset[int] | Literal["*"] | None = None

    def check(self, entity_id: str, revision: int | None) -> None:
        """Raise :class:`PreconditionFailed` with the present ``revision`` (None: there is none)."""
        wanted, unwanted = self.if_match, self.if_none_match
        missed = wanted is not None and (revision is None or (wanted != "*" and revision not in wanted))
        hit = unwanted is not None and revision is not None and (unwanted == "*" or revision in unwanted)
        if missed or hit:
            present = "is not there" if revision is None else f"is at revision {revision}"
            raise PreconditionFailed(
                f"entity {entity_id} {present}; read it again and decide anew",
                id=entity_id,
                revision=revision,
            )


def parse_etags(value: str | None) -> frozenset[int] | Literal["*"] | None:
    """An ``If-Match`` or ``If-None-Match`` header. Raises :class:`BadInput`."""
    if value is None:
        return None
    if value.strip() == "*":
        return "*"
    found = [_ETAG.fullmatch(part.strip()) for part in value.split(",")]
    if len(found) > 32 or not all(found):
        raise BadInput(
            f'{value[:80]!r} is no list of ETags; an entity\'s ETag is its revision, such as "17", or *'
        )
    return frozenset(int(match[1]) for match in found if match)


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


def check_name(value: Any, what: str, *, empty: bool = False) -> str:
    """An id, class, owner or tag. Raises :class:`BadName`."""
    if not isinstance(value, str) or (not value and not empty):
        raise BadName(f"{what} is a text of 1 to {ENTITY_ID_BYTES_MAX} bytes, not {value!r}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadName(f"{what} {value!r} is not Unicode text") from None
    if size > ENTITY_ID_BYTES_MAX:
        raise BadName(f"{what} of {size} bytes is over the bound of {ENTITY_ID_BYTES_MAX}")
    if _FORBIDDEN.search(value):
        raise BadName(f"{what} {value!r} has a slash or a control character in it")
    return value


def check_id(value: Any) -> str:
    """An entity's id: a name that no route uses. Raises :class:`BadName`."""
    name = check_name(value, "entity id")
    if name in RESERVED_IDS:
        raise BadName(f"entity id {name!r} is reserved; choose another")
    return name


def check_place(value: Any) -> str:
    """The name of a world, or of an inventory's owner: both keep the worlds' rule. Raises ``BadName``."""
    return world_name(value if isinstance(value, str) else "")


def check_tags(values: Iterable[Any]) -> tuple[str, ...]:
    """Tags, sorted, each once. Raises :class:`BadName` or :class:`TooLarge`."""
    tags = tuple(sorted({check_name(value, "tag") for value in values}))
    if len(tags) > ENTITY_TAGS_MAX:
        raise TooLarge(f"{len(tags)} tags are over the bound of {ENTITY_TAGS_MAX}")
    return tags


def check_u32(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise BadInput(f"{what} is an integer of 0 to {(1 << 32) - 1}, not {value!r}")
    return value


def kind_of(content_type: str | None) -> str:
    """The kind of state that a content type names. Raises :class:`Unsupported`."""
    plain = (content_type or CONTENT_TYPES["bytes"]).partition(";")[0].strip().lower()
    for kind, known in CONTENT_TYPES.items():
        if plain == known:
            return kind
    raise Unsupported(
        f"a state of type {plain} is not taken; send one of {', '.join(CONTENT_TYPES.values())}"
    )


def check_state(kind: Any, state: bytes, bytes_max: int = ENTITY_STATE_BYTES_MAX) -> None:
    """A state within its bound that is what its kind says. Raises ``TooLarge`` or ``Unprocessable``."""
    if not isinstance(kind, str) or kind not in CONTENT_TYPES:
        raise Unsupported(f"{kind!r} is no kind of state; it is one of {', '.join(CONTENT_TYPES)}")
    if len(state) > bytes_max:
        raise TooLarge(
            f"a state of {len(state)} bytes is over the bound of {bytes_max}", limit_bytes=bytes_max
        )
    if kind == "variant":
        variant.decode(state)
    elif kind == "json":
        _check_json(state)


def _check_json(state: bytes) -> None:
    """UTF-8 and RFC 8259: the constants NaN and Infinity, which Python would take, are none."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        json.loads(state.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        offset = getattr(error, "pos", getattr(error, "start", 0))
        raise Unprocessable(f"the state is not JSON: {error}", offset=offset) from None


def state_json(entity: Entity) -> str:
    """The state as JSON text: a Variant in its JSON form, JSON as it is, bytes in base64."""
    import base64

    if entity.kind == "variant":
        return variant.to_json(variant.decode(entity.state))
    if entity.kind == "json":
        return entity.state.decode()
    return json.dumps(base64.b64encode(entity.state).decode())


def entity_json(entity: Entity, told: Mapping[str, Any], with_state: bool) -> str:
    """``told`` as a JSON object's text, with the state in its JSON form if asked for (spliced in as
    text: it may be nested deeper than Python's own writer goes)."""
    text = json.dumps(told)
    return f'{text[:-1]}, "state": {state_json(entity)}}}' if with_state else text


def optional_name(value: Any, what: str) -> str | None:
    """None, or a name that may be empty (which clears the field)."""
    return None if value is None else check_name(value, what, empty=True)


def patch_from(entity_id: str, members: Mapping[str, Any], when: Precondition) -> Patch:
    """A PATCH body: ``class``, ``owner``, ``tags``. Raises :class:`BadInput` for anything else."""
    strangers = set(members) - {"class", "owner", "tags"}
    if strangers:
        raise BadInput(f"{sorted(strangers)} cannot be patched; class, owner and tags can, the state by PUT")
    tags = members.get("tags")
    if tags is not None and not isinstance(tags, list):
        raise BadInput(f"tags is a list of texts, not {tags!r}")
    return Patch(
        check_id(entity_id),
        optional_name(members.get("class"), "class"),
        optional_name(members.get("owner"), "owner"),
        None if tags is None else check_tags(tags),
        when,
    )


class BatchRefused(Unprocessable):
    """Nothing of the batch happened; the fact ``faults`` lists every operation that cannot."""

    code = "batch_refused"
    title = "Batch refused"


def batch_refused(faults: list[tuple[int, str, GatewayError]]) -> BatchRefused:
    """The exception for (index, id, error) of every operation that failed."""
    listed = [
        {"index": index, "id": ident, "status": error.status, "code": error.code, "detail": error.message,
         **({"revision": error.facts["revision"]} if "revision" in error.facts else {})}
        for index, ident, error in faults
    ]  # fmt: skip
    return BatchRefused(
        f"{len(listed)} of the batch's operations cannot be done, so nothing was; the first: {listed[0]['detail']}",
        faults=listed,
    )


def change_head(change: Change, wanted: Filter | None = None) -> tuple[dict[str, Any], bytes]:
    """(head, state) of a change's message: ``op`` is ``put``, or ``delete`` for what went, moved
    away or does not match the watcher's filter any more."""
    if isinstance(change, Removal):
        head = {"op": "delete", "id": change.id, "revision": change.revision}
        return (head if change.moved_to is None else {**head, "moved_to": change.moved_to}), b""
    if wanted is not None and not wanted.takes(change):
        return {"op": "delete", "id": change.id, "revision": change.revision, "left": True}, b""
    return {"op": "put", **head_of(change)}, change.state
