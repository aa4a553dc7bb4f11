"""``POST /v1/worlds/{world}/home:give_up``: another gateway has the world's publisher now. Room: http.

The route is documented in ``docs/API.md``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.core.options import RESUME_HEX_DIGITS
from gateway.core.ports import LiveOptions
from gateway.errors import BadInput
from gateway.http.queries import check_keys, flag, u32
from gateway.limits import NODE_CHARS_MAX
from gateway.wire import world_name

RESUME = "x-publisher-resume"
NODE = "x-mvgateway-node"

GiveUp = Callable[[str, LiveOptions, str, Callable[[], bool]], Awaitable[None]]
"""``(world, what the publisher said elsewhere, where that is, whether whoever asked still waits)``."""


def home_routes(give_up: GiveUp) -> list[Route]:
    """The route, to mount."""

    async def answer(request: Request) -> Response:
        name, query = world_name(request.path_params["world"]), request.query_params
        check_keys(query, ("takeover", "epoch"))
        options = LiveOptions(
            role="publish",
            epoch=u32(query, "epoch"),
            takeover=flag(query, "takeover"),
            resume=_resume(request.headers.get(RESUME)),
        )
        async with _waited_for(request) as waits:
            await give_up(name, options, _node(request.headers.get(NODE, "")), waits)
        return JSONResponse({"world": name, "given_up": True}, headers={"cache-control": "no-store"})

    return [Route("/v1/worlds/{world}/home:give_up", answer, methods=["POST"])]


@asynccontextmanager
async def _waited_for(request: Request) -> AsyncIterator[Callable[[], bool]]:
    """Whether whoever asks is still there: a gateway that has given up waiting has refused its publisher, and that may be here again."""

    async def until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    listening = asyncio.ensure_future(until_gone())
    try:
        # What has come already is read first: a process that stood still finds request and end together.
        await asyncio.sleep(0)
        yield lambda: not listening.done()
    finally:
        listening.cancel()


def _resume(claim: str | None) -> str | None:
    if claim is not None and (len(claim) != RESUME_HEX_DIGITS or not claim.isascii()):
        raise BadInput(f"{RESUME} is {RESUME_HEX_DIGITS} hex digits, as the publisher's welcome told them")
    return claim


def _node(url: str) -> str:
    if len(url) > NODE_CHARS_MAX or (url and not url.startswith(("https://", "http://"))):
        raise BadInput(f"{NODE} is a gateway's address of at most {NODE_CHARS_MAX} characters")
    return url
