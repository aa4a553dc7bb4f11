"""From a refusal on the wire back to the error class that caused it. Room: client.

Source: RFC 9457; the codes are those of :mod:`gateway.errors`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from gateway import errors
from gateway.core.grants import GrantRefused
from gateway.errors import GatewayError

KNOWN_ERRORS = (GrantRefused,)
"""Raised by their own classes because their modules are imported."""
_MEMBERS = frozenset({"type", "title", "status", "code", "detail", "retry"})


def error_of(status: int, body: bytes) -> GatewayError:
    """The error that an HTTP answer of ``status`` >= 400 tells, as its own class where the body is a
    problem document; else :class:`errors.StoreUnavailable` for 5xx and :class:`errors.BadInput`."""
    try:
        document = json.loads(body)
        code, detail = document["code"], str(document["detail"])
    except (ValueError, TypeError, KeyError):
        text = body[:200].decode("utf-8", "replace").strip()
        kind: type[GatewayError] = errors.StoreUnavailable if status >= 500 else errors.BadInput
        return kind(f"the gateway answered HTTP {status}{': ' + text if text else ''}")
    facts = {key: value for key, value in document.items() if key not in _MEMBERS}
    return error_for(code, detail, **facts)


def error_for(code: str, message: str, **facts: object) -> GatewayError:
    """The error class with this ``code``, carrying ``message``; the root for a code not known here."""
    kind = next((kind for kind in _tree(GatewayError) if kind.code == code), GatewayError)
    return kind(message, **facts)


def _tree(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)
