"""What a door answers by itself: problem documents, before any application is asked. Room: http."""

from __future__ import annotations

import json
from http import HTTPStatus

from gateway.errors import GatewayError
from gateway.http.tcp.heads import BadHead, Headers

PROBLEM_TYPE = b"application/problem+json"


def problem(error: GatewayError) -> tuple[Headers, bytes]:
    """An error as headers and body (RFC 9457)."""
    return _document(error.problem())


def head_problem(error: BadHead) -> tuple[Headers, bytes]:
    """A head that is not taken, as headers and body."""
    phrase = HTTPStatus(error.status).phrase
    code = "bad_input" if error.status == 400 else phrase.lower().replace(" ", "_")
    return _document(
        {
            "type": f"urn:mvgateway:problem:{code}",
            "title": phrase,
            "status": error.status,
            "code": code,
            "detail": error.detail,
            "retry": False,
        }
    )


def _document(document: dict[str, object]) -> tuple[Headers, bytes]:
    body = json.dumps(document, separators=(",", ":")).encode()
    return [(b"content-type", PROBLEM_TYPE), (b"content-length", b"%d" % len(body))], body
