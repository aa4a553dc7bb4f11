"""``/v1/films``: films that a page brings to the film room of ``mvgateway film``, and how its pages know that they take any. Room: http."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway import limits
from gateway.errors import BadInput, TooLarge
from gateway.http.queries import check_keys


class FilmService(Protocol):
    """Who keeps them. Raises only classes of :mod:`gateway.errors`."""

    async def receive(self, name: str, pieces: AsyncIterator[bytes]) -> str:
        """A film as a world, by that name where it is free and one; answers its name."""


def film_routes(service: FilmService) -> list[Route]:
    """To mount beside a gateway's own."""
    turn = asyncio.Lock()

    async def films(request: Request) -> Response:
        if request.method != "POST":
            return JSONResponse({"bytes_max": limits.FILM_UPLOAD_BYTES_MAX})
        check_keys(request.query_params, ("name",))
        async with turn:  # one after the other: what is held of them is one piece, and one file
            world = await service.receive(request.query_params.get("name", ""), _pieces(request))
        return JSONResponse({"world": world}, 201)

    async def told(request: Request) -> Response:
        """What the pages' own ``films.js`` says, but the other way round."""
        return Response(
            "export const takesThem = true;\n",
            headers={"cache-control": "no-cache"},
            media_type="text/javascript",
        )

    return [
        Route("/v1/films", films, methods=["GET", "POST"]),
        Route("/web/films.js", told, methods=["GET"]),
    ]


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises :class:`TooLarge`, and :class:`BadInput` where it ends too soon."""
    size, most = 0, limits.FILM_UPLOAD_BYTES_MAX
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > most:
                raise TooLarge(
                    f"this film has more than {most // limits.GIB} GiB; name it on the command line: mvgateway film FILE"
                )
            yield piece
    except ClientDisconnect:
        raise BadInput("the connection ended inside the film") from None
