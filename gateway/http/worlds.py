"""``/v1/worlds…``: make, tell, change and delete worlds; frames in, recorded frames out. Room: http.

The routes are documented in ``docs/API.md``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway import limits
from gateway.core.delay import KEY as DELAY
from gateway.core.delay import delay_of
from gateway.core.ports import Worlds
from gateway.core.told import Overview, RecordedState
from gateway.errors import BadInput, StoreUnavailable, Unsupported
from gateway.http.answers import ANSWERS, AnswerBudget, Costly, peer_of_scope
from gateway.http.bodies import discard_upload, messages, read_json
from gateway.http.problems import FRAMES_TYPE
from gateway.http.queries import check_keys, flag, time_us, u32, whole
from gateway.http.worldjson import listed_json, overview_json, posted_json, state_json, udp_json
from gateway.wire import prefix, world_name
from gateway.wire.layouts import DOCUMENTS

NO_STORE = {"cache-control": "no-store"}
BODY_TYPES = (FRAMES_TYPE, "application/octet-stream", "application/x-www-form-urlencoded", "")
"""What a body of frames may call itself: the last two are what curl says when nobody tells it."""


class WorldRoutes:
    """The handlers, over :class:`gateway.core.ports.Worlds`. ``clock`` answers Unix seconds."""

    def __init__(
        self,
        worlds: Worlds,
        *,
        message_bytes_max: int = limits.STREAM_MESSAGE_BYTES_MAX,
        clock: Callable[[], float] = time.time,
        answers: AnswerBudget | None = None,
    ) -> None:
        self._worlds = worlds
        self._message_bytes_max = message_bytes_max
        self._clock = clock
        self._answers = answers or AnswerBudget(ANSWERS)

    def routes(self) -> list[Route]:
        """All of them, to mount."""
        return [
            Route("/v1/worlds", self.list, methods=["GET"]),
            Route("/v1/layouts", self.layouts, methods=["GET"]),
            Route("/v1/worlds/{world}", self.world, methods=["GET", "PUT", "PATCH", "DELETE"]),
            Route(
                "/v1/worlds/{world}/frames",
                Costly(self.frames, self._answers, ("GET", "HEAD")),
                methods=["GET", "POST"],
            ),
            Route("/v1/worlds/{world}/frames/last", Costly(self.last, self._answers), methods=["GET"]),
            Route("/v1/worlds/{world}/udp", self.udp, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        query = request.query_params
        check_keys(query, ("prefix", "after", "limit", DELAY))
        limit = whole(query, "limit", 1, limits.WORLDS_LISTED_MAX)
        prefix, after = query.get("prefix", ""), query.get("after", "")
        worlds = [
            world
            for world in await self._worlds.list(delay_s=delay_of(query))
            if world.world.startswith(prefix) and world.world > after
        ]
        page = worlds[:limit]
        # Whoever set no limit got all there are, and is told nothing of pages.
        more = {} if limit is None else {"next": page[-1].world if len(page) < len(worlds) else None}
        return JSONResponse({"worlds": [listed_json(world) for world in page], **more}, headers=NO_STORE)

    async def world(self, request: Request) -> Response:
        name, query = _name(request), request.query_params
        check_keys(query, (DELAY,) if request.method in ("GET", "HEAD") else ())
        if request.method == "PUT":
            info, created = await self._worlds.create(
                name, await read_json(request), by=peer_of_scope(request.scope)
            )
            return JSONResponse(overview_json(info), 201 if created else 200, headers=NO_STORE)
        if request.method == "PATCH":
            return JSONResponse(
                overview_json(await self._worlds.patch(name, await read_json(request))), headers=NO_STORE
            )
        if request.method == "DELETE":
            await self._worlds.delete(name)
            return JSONResponse({"world": name, "deleted": True})
        info = await self._worlds.info(name, delay_s=delay_of(query))
        return JSONResponse(overview_json(info), headers={**NO_STORE, **_far(info)})

    async def layouts(self, request: Request) -> Response:
        check_keys(request.query_params, ())
        return JSONResponse({"layouts": DOCUMENTS}, headers=NO_STORE)

    async def frames(self, request: Request) -> Response:
        return await (self._post(request) if request.method == "POST" else self._history(request))

    async def _post(self, request: Request) -> Response:
        name = _name(request)
        check_keys(request.query_params, ("durable",))
        durable = flag(request.query_params, "durable")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in BODY_TYPES:
            raise Unsupported(f"a body of type {kind} is not taken here; send {FRAMES_TYPE}")
        body = messages(request, self._message_bytes_max)
        try:
            answer = await self._worlds.post_frames(
                name, body, durable=durable, by=peer_of_scope(request.scope)
            )
        except StoreUnavailable:
            # Else the refusal is lost: a client that sends first and reads later sees a reset connection.
            await discard_upload(request)
            raise
        return JSONResponse(posted_json(answer), 200 if durable else 202, headers=NO_STORE)

    async def _history(self, request: Request) -> Response:
        name, query = _name(request), request.query_params
        check_keys(query, ("epoch", "from", "to", "at", "tick", "rows", "values", DELAY))
        epoch, delay_s = u32(query, "epoch"), delay_of(query)
        if "at" in query or "tick" in query:
            _check_moment(query)
            at = query.get("at")
            at_us = None if at is None else time_us(at, round(self._clock() * 1_000_000))
            tick = u32(query, "tick")
            state = await self._worlds.state_at(name, epoch=epoch, tick=tick, at_us=at_us, delay_s=delay_s)
            return await state_response(request, state)
        if "values" in query:
            raise BadInput("values=1 is told of one moment; say which: at or tick")
        first, last = u32(query, "from"), u32(query, "to")
        if first is not None and last is not None and first > last:
            raise BadInput(f"from={first} is after to={last}; give the smaller tick as from")
        rows = flag(query, "rows")
        stream = await self._worlds.history(
            name, epoch=epoch, from_tick=first, to_tick=last, rows=rows, delay_s=delay_s
        )
        return StreamingResponse(_prefixed(stream), media_type=FRAMES_TYPE, headers=NO_STORE)

    async def last(self, request: Request) -> Response:
        check_keys(request.query_params, (DELAY, "values"))
        delay_s = delay_of(request.query_params)
        return await state_response(request, await self._worlds.last_synced(_name(request), delay_s=delay_s))

    async def udp(self, request: Request) -> Response:
        check_keys(request.query_params, ())
        token = await self._worlds.udp_token(_name(request), by=peer_of_scope(request.scope))
        return JSONResponse(udp_json(token), 201, headers=NO_STORE)


def _far(told: Overview | RecordedState) -> dict[str, str]:
    """How far the home is, and for how long it was not heard; nothing at the home itself."""
    return {} if told.hops is None else {"x-hops": str(told.hops), "x-stale-ms": str(told.stale_ms)}


async def state_response(request: Request, state: RecordedState) -> Response:
    """A recorded state: length-prefixed keyframe messages, or JSON where Accept asks for it. A large one is put
    together in a thread."""
    facts = {
        "x-epoch": str(state.epoch),
        "x-tick": str(state.tick),
        "x-durable-at": str(state.durable_at_us),
    }
    as_json = "application/json" in request.headers.get("accept", "")
    values = flag(request.query_params, "values")
    if values and not as_json:
        raise BadInput("values=1 is told as JSON; say Accept: application/json")
    if values and state.layout is None:
        raise BadInput(
            'this world has no layout, which says what its records mean; give it one: PUT {"layout": ...}'
        )
    size = sum(map(len, state.messages))
    make = partial(state_json, values=values) if as_json else _state_messages
    # A small one is made before a thread would have begun.
    body = make(state) if size <= limits.ANSWER_PIECE_BYTES else await asyncio.to_thread(make, state)
    return Response(
        body,
        headers={**facts, **_far(state), **NO_STORE},
        media_type="application/json" if as_json else FRAMES_TYPE,
    )


def _state_messages(state: RecordedState) -> bytes:
    return b"".join(map(prefix, state.messages))


def _check_moment(query: QueryParams) -> None:
    """Raise :class:`BadInput` for keys that say different things of one moment."""
    for key, others in (("at", ("tick", "epoch", "from", "to", "rows")), ("tick", ("from", "to", "rows"))):
        for other in others:
            if key in query and other in query:
                raise BadInput(
                    f"{key} and {other} are given together; a moment is at, or tick with or without epoch, "
                    "and a span is from and to with or without epoch"
                )


async def _prefixed(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for message in stream:
        yield prefix(message)


def _name(request: Request) -> str:
    return world_name(request.path_params["world"])
