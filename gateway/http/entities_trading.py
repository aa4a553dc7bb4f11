"""Transfers between worlds, owners' leases, trades between inventories. Room: http. Source: docs/ENTITIES.md."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.core.entities import EntityPort
from gateway.errors import BadInput, NotFound
from gateway.http.bodies import read_json
from gateway.http.entities_requests import actor_of, limit_of
from gateway.http.queries import check_keys
from gateway.wire.entities.checks import check_name, check_place, optional_name
from gateway.wire.entities.trades import parse_trade
from gateway.wire.entities.transfers import parse_offer

RESUME_HEADER = "x-publisher-resume"
"""The secret of a destination's publisher, as its ``welcome`` told it: a header stands in no log."""


class TradingRoutes:
    """Whatever concerns two places, or who owns."""

    def __init__(self, service: EntityPort) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        return [
            Route("/v1/transfers", self.offer, methods=["POST"]),
            Route("/v1/transfers", self.records, methods=["GET"]),
            Route("/v1/transfers/{ticket}", self.record, methods=["GET"]),
            Route("/v1/transfers/{ticket}", self.end, methods=["POST"]),
            Route("/v1/worlds/{world}/leases", self.acquire, methods=["POST"]),
            Route("/v1/worlds/{world}/leases/{owner}", self.lease, methods=["PUT", "DELETE"]),
            Route("/v1/inventories:trade", self.trade, methods=["POST"]),
        ]

    async def offer(self, request: Request) -> Response:
        transfer = await self._service.offer(parse_offer(await read_json(request)), actor_of(request))
        return JSONResponse(transfer.facts(), 201, headers={"location": f"/v1/transfers/{transfer.ticket}"})

    async def end(self, request: Request) -> Response:
        """``{ticket}:accept`` and ``{ticket}:cancel``."""
        ticket, _, action = request.path_params["ticket"].rpartition(":")
        members = await read_json(request)
        if action == "accept":
            owner = optional_name(members.get("owner"), "owner")
            transfer, moved = await self._service.accept(ticket, owner, actor_of(request))
            return JSONResponse({**transfer.facts(), "moved": [entity.facts() for entity in moved]})
        if action == "cancel":
            return JSONResponse((await self._service.cancel(ticket, actor_of(request))).facts())
        raise NotFound("POST goes to TICKET:accept or TICKET:cancel")

    async def record(self, request: Request) -> Response:
        return JSONResponse((await self._service.transfer(request.path_params["ticket"])).facts())

    async def records(self, request: Request) -> Response:
        query = request.query_params
        check_keys(query, ("world", "entity", "state", "limit"))
        if "world" not in query:
            raise BadInput("say whose transfers: ?world=WORLD")
        found = await self._service.transfers(
            check_place(query["world"]),
            entity=query.get("entity"),
            state=query.get("state"),
            limit=limit_of(request, 100, 1000),
            actor=actor_of(request),
            resume=request.headers.get(RESUME_HEADER),
        )
        return JSONResponse({"transfers": [one.facts(shows_ticket=shows) for one, shows in found]})

    async def acquire(self, request: Request) -> Response:
        members = await read_json(request)
        owner = check_name(members.get("owner"), "owner")
        world = check_place(request.path_params["world"])
        takeover = members.get("takeover") is True
        return JSONResponse(dict(await self._service.lease(world, owner, None, takeover)), 201)

    async def lease(self, request: Request) -> Response:
        """PUT renews, DELETE gives back."""
        world, owner = (
            check_place(request.path_params["world"]),
            check_name(request.path_params["owner"], "owner"),
        )
        token = actor_of(request).lease
        if not token:
            raise BadInput("the lease to renew or give back is sent in x-owner-lease")
        if request.method == "DELETE":
            await self._service.release(world, owner, token)
            return JSONResponse({"owner": owner, "released": True})
        return JSONResponse(dict(await self._service.lease(world, owner, token, takeover=False)))

    async def trade(self, request: Request) -> Response:
        wanted = parse_trade(await read_json(request))
        return JSONResponse({"items": list(await self._service.trade(wanted, actor_of(request)))})
