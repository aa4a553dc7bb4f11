"""``DELETE /v1/grants/{jti|sub}``: take back what was granted. Room: http. Documented in ``docs/ACCESS.md``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.errors import BadInput
from gateway.http.queries import check_keys
from gateway.limits import TOKEN_NAME_CHARS_MAX

Revoke = Callable[[str], Awaitable[Mapping[str, object]]]


def grant_routes(revoke: Revoke) -> list[Route]:
    """To mount where there is access control."""

    async def delete(request: Request) -> Response:
        check_keys(request.query_params, ())
        name = request.path_params["name"]
        if len(name) > TOKEN_NAME_CHARS_MAX or not name.isprintable():
            raise BadInput(f"a jti or a sub has at most {TOKEN_NAME_CHARS_MAX} printable characters")
        return JSONResponse(dict(await revoke(name)), headers={"cache-control": "no-store"})

    return [Route("/v1/grants/{name:path}", delete, methods=["DELETE"])]
