"""What entity requests say, as values: places, headers, bodies. Room: http.

What is not the state travels in headers, the same ones both ways: ``x-entity-class``,
``x-entity-owner``, ``x-entity-tags`` (a list with commas), ``x-entity-key``, ``x-entity-epoch``,
``x-entity-tick``, ``x-entity-quantity``; text in them is percent-encoded UTF-8. Source: docs/ENTITIES.md.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar
from urllib.parse import quote, unquote

from starlette.requests import Request

from gateway.core.entities import EntityPlace
from gateway.errors import BadInput
from gateway.http.queries import flag, time_us
from gateway.limits import ENTITY_ASIDE_BYTES
from gateway.wallclock import now_us
from gateway.wire import variant
from gateway.wire.entities.checks import (
    check_id,
    check_place,
    check_state,
    check_tags,
    check_u32,
    kind_of,
    optional_name,
    parse_etags,
)
from gateway.wire.entities.trades import check_quantity
from gateway.wire.entities.values import (
    CONTENT_TYPES,
    Actor,
    Delete,
    Entity,
    Filter,
    Get,
    Operation,
    Precondition,
    Put,
    etag,
)

T = TypeVar("T")
PREFIX = "x-entity-"
FILTERS = ("class", "owner", "tag", "prefix")
_VERSION = re.compile(r"[0-9a-f]{20}")
LEASE_HEADER = "x-owner-lease"


async def aside(fn: Callable[[], T], size_bytes: int) -> T:
    """``fn()`` in a thread where it has much to do: a megabyte of Variants is half a second of Python,
    which must not stand still for frames."""
    if size_bytes < ENTITY_ASIDE_BYTES:
        return fn()
    return await asyncio.to_thread(fn)


def place_of(request: Request) -> EntityPlace:
    """The world or the inventory that the path names."""
    params = request.path_params
    if "world" in params:
        return EntityPlace("world", check_place(params["world"]))
    return EntityPlace("inventory", check_place(params["owner"]))


def actor_of(request: Request) -> Actor:
    """Who writes: the lease in ``x-owner-lease``, and ``?takeover=1``."""
    return Actor(request.headers.get(LEASE_HEADER), flag(request.query_params, "takeover"))


def moment_of(request: Request) -> str | None:
    """``?at=``: a version of the store as it is, or a time as Unix seconds. Raises :class:`BadInput`."""
    at = request.query_params.get("at")
    if at is None or _VERSION.fullmatch(at):
        return at
    return str(max(0, time_us(at, now_us())) // 1_000_000)


def precondition_of(request: Request) -> Precondition:
    headers = request.headers
    return Precondition(parse_etags(headers.get("if-match")), parse_etags(headers.get("if-none-match")))


def put_of(request: Request, entity_id: str, kind: str, state: bytes, state_bytes_max: int) -> Put:
    """A PUT's operation. Raises of :mod:`gateway.errors` for what does not hold."""
    check_state(kind, state, state_bytes_max)
    return Put(
        check_id(entity_id),
        kind,
        state,
        optional_name(_text(request, "class"), "class"),
        optional_name(_text(request, "owner"), "owner"),
        _tags(request),
        _number(request, "key"),
        _number(request, "epoch"),
        _number(request, "tick"),
        _quantity(request),
        precondition_of(request),
    )


def kind_of_body(request: Request) -> str:
    return kind_of(request.headers.get("content-type"))


def _text(request: Request, name: str) -> str | None:
    value = request.headers.get(PREFIX + name)
    return None if value is None else _unquote(value)


def _unquote(value: str) -> str:
    try:
        # Headers are latin-1 at best (RFC 9110 section 5.5), and names of entities are any text.
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise BadInput(f"{value[:40]!r} is not percent-encoded UTF-8") from None


def _tags(request: Request) -> tuple[str, ...] | None:
    value = request.headers.get(PREFIX + "tags")
    if value is None:
        return None
    return check_tags(_unquote(part.strip()) for part in value.split(",") if part.strip())


def _number(request: Request, name: str) -> int | None:
    value = request.headers.get(PREFIX + name)
    if value is None:
        return None
    return check_u32(
        int(value) if value.isascii() and value.isdigit() and len(value) < 12 else value, PREFIX + name
    )


def _quantity(request: Request) -> int | None:
    value = request.headers.get(PREFIX + "quantity")
    if value is None:
        return None
    return check_quantity(int(value) if value.isascii() and value.isdigit() and len(value) < 18 else value)


def headers_of(entity: Entity) -> dict[str, str]:
    """The headers that tell of an entity what its state does not."""
    facts: dict[str, object] = {
        "class": quote(entity.class_name),
        "owner": quote(entity.owner),
        "tags": ",".join(quote(tag) for tag in entity.tags),
        "key": entity.key,
        "epoch": entity.epoch,
        "tick": entity.tick,
        "quantity": entity.quantity,
        "in-transfer": int(entity.ticket is not None),
        "updated-us": entity.updated_us,
    }
    told = {PREFIX + name: str(value) for name, value in facts.items() if value not in (None, "")}
    return {"etag": etag(entity.revision), "cache-control": "no-cache", **told}


def filter_of(request: Request) -> Filter:
    """``class``, ``owner``, ``tag``, ``prefix``, ``after`` of a list's query."""
    query = request.query_params
    return Filter(
        query.get("class"),
        query.get("owner"),
        query.get("tag"),
        query.get("prefix", ""),
        query.get("after", ""),
    )


def limit_of(request: Request, default: int, most: int) -> int:
    """``limit`` of a list's query. Raises :class:`BadInput`."""
    value = request.query_params.get("limit", str(default))
    if not (value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= most):
        raise BadInput(f"limit is 1 to {most}, not {value[:40]!r}")
    return int(value)


def operation_of(head: Mapping[str, object], state: bytes | None, state_bytes_max: int) -> Operation:
    """One operation of a batch: ``op`` put, get or delete. ``state`` is what followed the head of
    a binary message; in JSON it is in the head: ``state`` (JSON form) or ``state_base64``."""
    ident, when = check_id(head.get("id")), _when(head)
    if head.get("op") == "get":
        return Get(ident)
    if head.get("op") == "delete":
        return Delete(ident, when)
    if head.get("op") != "put":
        raise BadInput(f"op is put, get or delete, not {head.get('op')!r}")
    kind = head.get("kind", "bytes" if state is not None else "json")
    body = _state_of(head, kind) if state is None else state
    kind = check_state(kind, body, state_bytes_max)
    tags, key, quantity = head.get("tags"), head.get("key"), head.get("quantity")
    if tags is not None and not isinstance(tags, list):
        raise BadInput(f"tags is a list of texts, not {tags!r}")
    return Put(
        ident,
        kind,
        body,
        optional_name(head.get("class"), "class"),
        optional_name(head.get("owner"), "owner"),
        None if tags is None else check_tags(tags),
        None if key is None else check_u32(key, "key"),
        quantity=None if quantity is None else check_quantity(quantity),
        when=when,
    )


def _when(head: Mapping[str, object]) -> Precondition:
    return Precondition(_revisions(head.get("if_match")), _revisions(head.get("if_none_match")))


def _revisions(value: object) -> frozenset[int] | Literal["*"] | None:
    if value is None:
        return None
    if value == "*":
        return "*"
    # For Python True is an int; in JSON it is none.
    if isinstance(value, int) and not isinstance(value, bool):
        return frozenset((value,))
    raise BadInput(f"if_match and if_none_match are a revision or *, not {value!r}")


def _state_of(head: Mapping[str, object], kind: object) -> bytes:
    if "state_base64" in head:
        encoded = head["state_base64"]
        if not isinstance(encoded, str):
            raise BadInput(f"state_base64 is text, not {encoded!r}")
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadInput(f"state_base64 is not base64: {error}") from None
    if kind == "bytes":
        raise BadInput("a state of kind bytes comes in state_base64")
    try:
        # Written again: a state is kept as its text, and this one came within another document.
        text = json.dumps(head.get("state"), separators=(",", ":"))
    except RecursionError:
        raise BadInput("a state nested as deep as that comes in state_base64") from None
    return variant.encode(variant.from_json(text)) if kind == "variant" else text.encode()


__all__ = [
    "CONTENT_TYPES",
    "LEASE_HEADER",
    "actor_of",
    "aside",
    "filter_of",
    "headers_of",
    "kind_of_body",
    "limit_of",
    "moment_of",
    "operation_of",
    "place_of",
    "precondition_of",
    "put_of",
]  # fmt: skip
