"""``entities:batch``: up to 1,000 operations in one atomic commit, streamed both ways. Room: http.

A body of entity messages (``op`` in each head) is answered by entity messages, one JSON document
by JSON. Messages are taken as they come, within the bounds; answers go out one by one. Source: docs/ENTITIES.md.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.core.entities import EntityPort, Outcome
from gateway.errors import BadInput, GatewayError, TooLarge
from gateway.http.bodies import (
    BATCH_BYTES_FLAG,
    BATCH_OPERATIONS_FLAG,
    ENTITY_FLAG,
    bounds_of,
    check_declared,
    messages,
    read_body,
)
from gateway.http.entities_requests import actor_of, aside, operation_of, place_of
from gateway.http.queries import check_keys
from gateway.limits import ENTITY_HEAD_BYTES_MAX, VARIANT_JSON_DEPTH_MAX
from gateway.wire import prefix, strictjson
from gateway.wire.entities.checks import entity_json
from gateway.wire.entities.messages import ENTITIES_TYPE, decode_entity, encode_entity
from gateway.wire.entities.refusals import batch_refused
from gateway.wire.entities.values import Get, Operation, Put


class BatchRoutes:
    """Takes a batch, hands it on, tells what became of each."""

    def __init__(self, service: EntityPort) -> None:
        self._service = service

    async def post(self, request: Request) -> Response:
        check_keys(request.query_params, ("takeover",))
        binary = request.headers.get("content-type", "").startswith(ENTITIES_TYPE)
        bounds = bounds_of(request)
        check_declared(request, bounds.batch_bytes, BATCH_BYTES_FLAG)
        heads, size = await (_binary_heads(request) if binary else _json_heads(request))
        # All of them before the first one is done: a batch is one commit, and every fault of it is told at
        # once.
        operations = await aside(lambda: _parsed(heads, bounds.entity_bytes), size)
        outcomes = await self._service.batch(place_of(request), operations, actor_of(request))
        if binary:
            return StreamingResponse(_messages(outcomes), media_type=ENTITIES_TYPE)
        # What is answered may be far larger than what was asked.
        size += sum(len(one.entity.state) for one in outcomes if one.entity is not None)
        results = await aside(lambda: ", ".join(_json(i, one) for i, one in enumerate(outcomes)), size)
        return Response(f'{{"results": [{results}]}}', media_type="application/json")


Head = tuple[dict[str, object], bytes | None]


async def _binary_heads(request: Request) -> tuple[list[Head], int]:
    found: list[Head] = []
    size = 0
    bounds = bounds_of(request)
    async for message in messages(request, bounds.entity_bytes + ENTITY_HEAD_BYTES_MAX + 8, ENTITY_FLAG):
        size += len(message)
        found.append(decode_entity(message))
        _check_count(len(found), bounds.batch_operations)
        if size > bounds.batch_bytes:
            raise TooLarge(
                f"a batch of {size} bytes or more is over the bound of {bounds.batch_bytes}; send several, or raise "
                f"{BATCH_BYTES_FLAG}",
                bound=BATCH_BYTES_FLAG,
                limit=bounds.batch_bytes,
                limit_bytes=bounds.batch_bytes,
            )
    return found, size


async def _json_heads(request: Request) -> tuple[list[Head], int]:
    bounds = bounds_of(request)
    body = await read_body(request, bounds.batch_bytes, BATCH_BYTES_FLAG)
    try:
        given = await aside(lambda: strictjson.loads(body, VARIANT_JSON_DEPTH_MAX), len(body))
    except ValueError as error:
        raise BadInput(f"the body is not JSON: {error}") from None
    heads = given.get("operations") if isinstance(given, dict) else None
    if not isinstance(heads, list) or not all(isinstance(head, dict) for head in heads):
        raise BadInput('a batch is {"operations": [{"op": "put", "id": …}, …]}')
    _check_count(len(heads), bounds.batch_operations)
    return [(head, None) for head in heads], len(body)


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise TooLarge(
            f"a batch of {count} operations or more is over the bound of {most}; send several, or raise "
            f"{BATCH_OPERATIONS_FLAG}",
            bound=BATCH_OPERATIONS_FLAG,
            limit=most,
            limit_operations=most,
        )


def _parsed(heads: Sequence[Head], state_bytes_max: int) -> list[Operation]:
    operations: list[Operation] = []
    faults: list[tuple[int, str, GatewayError]] = []
    for index, (head, state) in enumerate(heads):
        try:
            operations.append(operation_of(head, state, state_bytes_max))
        except GatewayError as error:
            faults.append((index, str(head.get("id"))[:64], error))
    if faults:
        raise batch_refused(faults)
    if not operations:
        raise BadInput("a batch has at least one operation")
    return operations


def _json(index: int, outcome: Outcome) -> str:
    told: dict[str, object] = {"index": index, "id": outcome.operation.id, "status": _status(outcome)}
    if outcome.revision is not None:
        told["revision"] = outcome.revision
    if isinstance(outcome.operation, Get) and outcome.entity is not None:
        return entity_json(outcome.entity, told | outcome.entity.facts(), with_state=True)
    return json.dumps(told)


async def _messages(outcomes: Sequence[Outcome]) -> AsyncIterator[bytes]:
    for index, outcome in enumerate(outcomes):
        head: dict[str, object] = {"index": index, "id": outcome.operation.id, "status": _status(outcome)}
        state = b""
        if outcome.revision is not None:
            head["revision"] = outcome.revision
        if isinstance(outcome.operation, Get) and outcome.entity is not None:
            head |= outcome.entity.facts()
            state = outcome.entity.state
        yield prefix(encode_entity(head, state))


def _status(outcome: Outcome) -> int:
    if isinstance(outcome.operation, Put):
        return 201 if outcome.created else 200
    if isinstance(outcome.operation, Get):
        return 404 if outcome.entity is None else 200
    return 200
