"""What comes from outside, checked: names, tags, kinds, states, ETags; and states as JSON. Room: wire; pure. Source: docs/ENTITIES.md."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from gateway.errors import BadInput, BadName, TooLarge, Unprocessable, Unsupported
from gateway.limits import ENTITY_ID_BYTES_MAX, ENTITY_STATE_BYTES_MAX, ENTITY_TAGS_MAX
from gateway.wire import variant, world_name
from gateway.wire.entities.values import CONTENT_TYPES, Entity, Patch, Precondition

STATE_FLAG: Final = "--entity-bytes-max"
RESERVED_IDS: Final = frozenset({".", "..", "live"})


_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f/]")


_ETAG: Final = re.compile(r'(?:W/)?"([0-9]{1,18})"')


def parse_etags(value: str | None) -> frozenset[int] | Literal["*"] | None:
    """An ``If-Match`` or ``If-None-Match`` header. Raises :class:`BadInput`. RFC 9110 section 13.1."""
    if value is None:
        return None
    if value.strip() == "*":
        return "*"
    # W/ too, though If-Match compares strongly (RFC 9110 section 13.1.1): a proxy that compresses weakens
    # the tag on its way, and a revision is the same whatever the encoding.
    found = [_ETAG.fullmatch(part.strip()) for part in value.split(",")]
    if len(found) > 32 or not all(found):
        raise BadInput(
            f'{value[:80]!r} is no list of ETags; an entity\'s ETag is its revision, such as "17", or *'
        )
    return frozenset(int(match[1]) for match in found if match)


def check_name(value: object, what: str, *, empty: bool = False) -> str:
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


def check_id(value: object) -> str:
    """An entity's id: a name that no route uses. Raises :class:`BadName`."""
    name = check_name(value, "entity id")
    if name in RESERVED_IDS:
        raise BadName(f"entity id {name!r} is reserved; choose another")
    return name


def check_place(value: object) -> str:
    """The name of a world, or of an inventory's owner: both keep the worlds' rule. Raises ``BadName``."""
    return world_name(value if isinstance(value, str) else "")


def check_tags(values: Iterable[object]) -> tuple[str, ...]:
    """Tags, sorted, each once. Raises :class:`BadName` or :class:`TooLarge`."""
    tags = tuple(sorted({check_name(value, "tag") for value in values}))
    if len(tags) > ENTITY_TAGS_MAX:
        raise TooLarge(f"{len(tags)} tags are over the bound of {ENTITY_TAGS_MAX}")
    return tags


def check_u32(value: object, what: str) -> int:
    # In Python True is an int.
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


def check_state(kind: object, state: bytes, bytes_max: int = ENTITY_STATE_BYTES_MAX) -> str:
    """A state within its bound that is what its kind says: the kind. Raises ``TooLarge`` or ``Unprocessable``."""
    if not isinstance(kind, str) or kind not in CONTENT_TYPES:
        raise Unsupported(f"{kind!r} is no kind of state; it is one of {', '.join(CONTENT_TYPES)}")
    if len(state) > bytes_max:
        raise TooLarge(
            f"a state of {len(state)} bytes is over the bound of {bytes_max}; raise {STATE_FLAG}",
            bound=STATE_FLAG,
            limit=bytes_max,
            limit_bytes=bytes_max,
        )
    if kind == "variant":
        variant.decode(state)
    elif kind == "json":
        _check_json(state)
    return kind


def _check_json(state: bytes) -> None:
    """UTF-8 and RFC 8259: the constants NaN and Infinity, which Python would take, are none."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        # RecursionError: a state of a megabyte of "[" is nested deeper than the parser goes.
        json.loads(state.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        offset = getattr(error, "pos", getattr(error, "start", 0))
        raise Unprocessable(f"the state is not JSON: {error}", offset=offset) from None


def state_json(entity: Entity) -> str:
    """The state as JSON text: a Variant in its JSON form, JSON as it is, bytes in base64."""
    if entity.kind == "variant":
        return variant.to_json(variant.decode(entity.state))
    if entity.kind == "json":
        return entity.state.decode()
    return json.dumps(base64.b64encode(entity.state).decode())


def entity_json(entity: Entity, told: Mapping[str, object], with_state: bool) -> str:
    """``told`` as a JSON object's text, with the state in its JSON form if asked for (spliced in as
    text: it may be nested deeper than Python's own writer goes)."""
    text = json.dumps(told)
    return f'{text[:-1]}, "state": {state_json(entity)}}}' if with_state else text


def optional_name(value: object, what: str) -> str | None:
    """None, or a name that may be empty (which clears the field)."""
    return None if value is None else check_name(value, what, empty=True)


def patch_from(entity_id: str, members: Mapping[str, object], when: Precondition) -> Patch:
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
