"""From an error to the code that a session closes with. Room: core. Pure."""

from __future__ import annotations

from gateway.core.grants import GrantRefused
from gateway.core.ports import CloseCode
from gateway.errors import (
    GatewayError,
    MalformedMessage,
    PublisherPresent,
    ShuttingDown,
    Unauthorized,
    WorldHeld,
)

_CODES: tuple[tuple[type[GatewayError], CloseCode], ...] = (
    (PublisherPresent, CloseCode.PUBLISHER_PRESENT),
    (WorldHeld, CloseCode.HELD_ELSEWHERE),
    (MalformedMessage, CloseCode.MALFORMED),
    (ShuttingDown, CloseCode.SHUTTING_DOWN),
    (Unauthorized, CloseCode.REFUSED),
    (GrantRefused, CloseCode.REFUSED),
)


def close_code(error: GatewayError) -> CloseCode:
    """The session close code that goes with an error (``docs/FRAMES.md``, "Opening a session")."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), CloseCode.ERROR)
