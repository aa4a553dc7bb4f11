"""One entity by HTTP: put, get, patch, delete, hibernate, wake. Room: http.

The same routes serve a world's entities and an owner's inventory. ``entity_routes`` has all of
them, with batches, lists, streams, transfers and trades. Source: docs/ENTITIES.md.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.core.entities import EntityPort
from gateway.errors import BadInput, NotFound
from gateway.http.answers import ANSWERS, AnswerBudget, Costly
from gateway.http.bodies import ENTITY_FLAG, bounds_of, read_body, read_json
from gateway.http.entities_batch import BatchRoutes
from gateway.http.entities_lists import ListRoutes
from gateway.http.entities_requests import (
    actor_of,
    aside,
    headers_of,
    kind_of_body,
    moment_of,
    place_of,
    precondition_of,
    put_of,
)
from gateway.http.entities_trading import TradingRoutes
from gateway.http.queries import check_keys
from gateway.wire.entities.checks import (
    check_id,
    check_tags,
    check_u32,
    optional_name,
    parse_etags,
    patch_from,
    state_json,
)
from gateway.wire.entities.values import CONTENT_TYPES, Delete, Put, etag

BASES = ("/v1/worlds/{world}/entities", "/v1/inventories/{owner}/items")


def entity_routes(service: EntityPort, answers: AnswerBudget | None = None) -> list[Route]:
    """Every route of entities; ``live`` before ``{id}``, which would match it too. ``answers``: the budget of whole
    answers, shared with other routes."""
    answers = answers or AnswerBudget(ANSWERS)
    one, batch = EntityRoutes(service), BatchRoutes(service)
    lists, trading = ListRoutes(service), TradingRoutes(service)
    routes = list(trading.routes())
    for base in BASES:
        routes += [
            Route(base, Costly(lists.list, answers), methods=["GET"]),
            Route(base + ":batch", batch.post, methods=["POST"]),
            Route(base + "/live", lists.live, methods=["GET"]),
            Route(base + "/{id}", one.handle, methods=["GET", "PUT", "PATCH", "DELETE", "POST"]),
        ]
    return routes


class EntityRoutes:
    """``…/entities/{id}``."""

    def __init__(self, service: EntityPort) -> None:
        self._service = service

    async def handle(self, request: Request) -> Response:
        method = getattr(self, request.method.lower(), self.get)
        if request.method not in ("GET", "HEAD"):
            check_keys(request.query_params, ("takeover",))
        answer: Response = await method(request)
        return answer

    async def get(self, request: Request) -> Response:
        check_keys(request.query_params, ("at",))
        ident, place = check_id(request.path_params["id"]), place_of(request)
        known = parse_etags(request.headers.get("if-none-match"))
        entity = await self._service.get(place, ident, moment_of(request))
        headers = {**headers_of(entity), "vary": "accept"}
        if known == "*" or (known is not None and entity.revision in known):
            return Response(status_code=304, headers=headers)
        if "application/json" in request.headers.get("accept", ""):
            text = await aside(lambda: state_json(entity), len(entity.state))
            return Response(text, headers=headers, media_type="application/json")
        headers["content-type"] = CONTENT_TYPES[entity.kind]
        return Response(entity.state, headers=headers)

    async def put(self, request: Request) -> Response:
        check_id(request.path_params["id"])
        kind = kind_of_body(request)
        bytes_max = bounds_of(request).entity_bytes
        state = await read_body(request, bytes_max, ENTITY_FLAG)
        wanted = await aside(
            lambda: put_of(request, request.path_params["id"], kind, state, bytes_max), len(state)
        )
        entity, created = await self._service.put(place_of(request), wanted, actor_of(request))
        return JSONResponse(entity.facts(), 201 if created else 200, headers={"etag": etag(entity.revision)})

    async def patch(self, request: Request) -> Response:
        members = await read_json(request)
        wanted = patch_from(request.path_params["id"], members, precondition_of(request))
        entity = await self._service.patch(place_of(request), wanted, actor_of(request))
        return JSONResponse(entity.facts(), headers={"etag": etag(entity.revision)})

    async def delete(self, request: Request) -> Response:
        wanted = Delete(check_id(request.path_params["id"]), precondition_of(request))
        revision = await self._service.delete(place_of(request), wanted, actor_of(request))
        return JSONResponse({"id": wanted.id, "revision": revision})

    async def post(self, request: Request) -> Response:
        """``{id}:hibernate`` and ``{id}:wake``."""
        ident, _, action = request.path_params["id"].rpartition(":")
        place = place_of(request)
        if place.kind != "world" or action not in ("hibernate", "wake"):
            raise NotFound("POST goes to ENTITY:hibernate and ENTITY:wake of a world, or to entities:batch")
        members = await read_json(request)
        key = None if members.get("key") is None else check_u32(members["key"], "key")
        if action == "wake":
            return JSONResponse(await self._service.wake(place.name, check_id(ident), key, actor_of(request)))
        if key is None:
            raise BadInput('hibernate needs the live record\'s key, as {"key": 7}')
        tags = members.get("tags")
        if tags is not None and not isinstance(tags, list):
            raise BadInput(f"tags is a list of texts, not {tags!r}")
        wanted = Put(
            check_id(ident),
            "bytes",
            b"",
            optional_name(members.get("class"), "class"),
            optional_name(members.get("owner"), "owner"),
            None if tags is None else check_tags(tags),
            when=precondition_of(request),
        )
        entity, created = await self._service.hibernate(place.name, wanted, key, actor_of(request))
        return JSONResponse(entity.facts(), 201 if created else 200, headers={"etag": etag(entity.revision)})
