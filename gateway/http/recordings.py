"""``/v1/worlds/{world}/recording``, ``…/gaps``, ``…/marks``, ``…/branch``,
``…/verify``, ``…/clip``, ``…/replay``. Room: http.

The routes are documented in ``docs/RECOVERY.md``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway import limits
from gateway.core.delay import KEY as DELAY
from gateway.core.delay import delay_of
from gateway.core.ports import Doors
from gateway.http.answers import ANSWERS, AnswerBudget, Costly, peer_of_scope, works_of
from gateway.http.bodies import read_json
from gateway.http.clips import ClipService, clip
from gateway.http.queries import check_keys, whole
from gateway.http.streaming import StreamingDoor
from gateway.wire import world_name
from gateway.wire.layouts import Layout, told

NO_STORE = {"cache-control": "no-store"}
SPANS = 512
"""Of a time line, unless asked otherwise."""


class RecordingService(ClipService, Protocol):
    """What the routes ask. Raises only classes of :mod:`gateway.errors`. ``delay_s``: as it was so long ago."""

    async def summary(self, name: str, *, delay_s: float = 0.0) -> Mapping[str, object]: ...

    async def gaps(self, name: str, *, delay_s: float = 0.0) -> list[dict[str, object]]: ...

    async def marks(self, name: str, *, delay_s: float = 0.0) -> list[dict[str, object]]: ...

    async def timeline(self, name: str, spans: int, *, delay_s: float = 0.0) -> Mapping[str, object]: ...

    async def verify(self, name: str, *, delay_s: float = 0.0) -> Mapping[str, object]: ...

    async def set_mark(self, name: str, fields: Mapping[str, object]) -> Mapping[str, object]: ...

    async def branch(
        self, name: str, fields: Mapping[str, object], *, by: str = ""
    ) -> Mapping[str, object]: ...


def recording_routes(
    service: RecordingService,
    doors: Doors,
    answers: AnswerBudget | None = None,
    works: AnswerBudget | None = None,
) -> list[Route]:
    """All of them, to mount. ``answers``: the budget of whole answers, shared with other routes; ``works``: that of
    verifying and branching."""
    answers, works = answers or AnswerBudget(ANSWERS), works or AnswerBudget(works_of())

    async def recording(request: Request) -> Response:
        return JSONResponse(
            dict(await service.summary(_name(request), delay_s=_delay(request))), headers=NO_STORE
        )

    async def gaps(request: Request) -> Response:
        found = await service.gaps(_name(request), delay_s=_delay(request))
        return JSONResponse({"gaps": found}, headers=NO_STORE)

    async def marks(request: Request) -> Response:
        if request.method == "POST":
            check_keys(request.query_params, ())
            made = await service.set_mark(_name(request), await read_json(request))
            return JSONResponse(dict(made), 201, headers=NO_STORE)
        found = await service.marks(_name(request), delay_s=_delay(request))
        # In a thread: marks carry JSON of their own, up to megabytes in all.
        text = await asyncio.to_thread(
            json.dumps, {"marks": found}, ensure_ascii=False, separators=(",", ":")
        )
        return Response(text, headers=NO_STORE, media_type="application/json")

    async def timeline(request: Request) -> Response:
        check_keys(request.query_params, ("spans", DELAY))
        spans = whole(request.query_params, "spans", 1, limits.HISTORY_SPANS_MAX) or SPANS
        found = await service.timeline(_name(request), spans, delay_s=delay_of(request.query_params))
        return JSONResponse(dict(found), headers=NO_STORE)

    async def verify(request: Request) -> Response:
        return JSONResponse(
            dict(await service.verify(_name(request), delay_s=_delay(request))), headers=NO_STORE
        )

    async def branch(request: Request) -> Response:
        check_keys(request.query_params, ())
        made = await service.branch(_name(request), await read_json(request), by=peer_of_scope(request.scope))
        return JSONResponse(dict(made), 201, headers=NO_STORE)

    async def layout_of(world: str) -> Layout | None:
        return told((await service.summary(world)).get("layout"))

    return [
        Route("/v1/worlds/{world}/recording", recording, methods=["GET"]),
        Route("/v1/worlds/{world}/gaps", Costly(gaps, answers), methods=["GET"]),
        Route("/v1/worlds/{world}/marks", Costly(marks, answers, ("GET", "HEAD")), methods=["GET", "POST"]),
        Route("/v1/worlds/{world}/timeline", Costly(timeline, answers), methods=["GET"]),
        Route("/v1/worlds/{world}/verify", Costly(verify, works), methods=["GET"]),
        Route("/v1/worlds/{world}/clip", Costly(partial(clip, service=service), works), methods=["GET"]),
        Route("/v1/worlds/{world}/branch", Costly(branch, works), methods=["POST"]),
        Route("/v1/worlds/{world}/replay", StreamingDoor(doors, layout_of), methods=["GET"]),
    ]


def _delay(request: Request) -> float:
    check_keys(request.query_params, (DELAY,))
    return delay_of(request.query_params)


def _name(request: Request) -> str:
    return world_name(request.path_params["world"])
