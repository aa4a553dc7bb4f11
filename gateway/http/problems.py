"""Refusals as RFC 9457 problem documents. Room: http."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.gate import challenge_of
from gateway.errors import GatewayError

PROBLEM_TYPE = "application/problem+json"
FRAMES_TYPE = "application/vnd.mvgateway.frames"


def problem_response(error: GatewayError, headers: Mapping[str, str] | None = None) -> Response:
    """The error as an answer. ``Retry-After`` stands where trying again makes sense.
    RFC 9457 section 3; RFC 9110 section 10.2.3."""
    extra = dict(headers or {})
    if error.retry and error.status in (429, 503):
        extra.setdefault("retry-after", "1")
    if error.status == 401:
        extra.setdefault("www-authenticate", challenge_of(error))
    return Response(json.dumps(error.problem()).encode(), error.status, extra, PROBLEM_TYPE)


def status_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem document for a status that the routing itself answers (404, 405, 500). RFC 9457 section 3."""
    phrase = HTTPStatus(status).phrase
    code = phrase.lower().replace(" ", "_").replace("-", "_")
    document = {
        "type": f"urn:mvgateway:problem:{code}",
        "title": phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "retry": status >= 500,
    }
    return Response(json.dumps(document).encode(), status, dict(headers or {}), PROBLEM_TYPE)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, or a method that the path does not take."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{request.method} is not taken here; {request.url.path} takes {allowed}"
    elif error.status_code == 404:
        detail = f"nothing is served at {request.url.path}; docs/API.md lists the routes"
    else:
        detail = str(error.detail)
    return status_response(error.status_code, detail, error.headers)


async def on_gateway_error(request: Request, error: Exception) -> Response:
    """What a handler raised of the house's own tree."""
    assert isinstance(error, GatewayError)
    return problem_response(error)
