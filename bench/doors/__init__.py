"""The ways in and out that are measured, all alike. Room: bench/doors.

A door is a module with ``subscribe(target, take)`` and ``publisher(target)``; :func:`door` finds it by name.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from gateway.client.token import ENV_TOKEN
from gateway.client.trust import Trust

if TYPE_CHECKING:
    from bench.lean import LeanPool

Take = Callable[[bytes], None]
"""Given each message (bytes of the frame protocol) as it comes."""
TakeAt = Callable[[bytes, int, int, int], None]
"""The same in place: bytes, where the message begins and ends in them, when it came (Unix µs)."""
Send = Callable[[Sequence[bytes]], None]
"""Sends one frame's messages; returns at once."""
Close = Callable[[], Awaitable[None]]

LEAN = ("webtransport", "stock")
NAMES = ("webtransport", "websocket", "http", "redis", "nats", "stock")


class Door(Protocol):
    """One transport to one kind of server. ``target``: ``host``, ``port``, and what the server needs."""

    async def subscribe(self, target: Mapping[str, Any], take: Take) -> Close:
        """Connect one reader; every message is handed to ``take``."""

    async def publisher(self, target: Mapping[str, Any], take: Take | None = None) -> tuple[Send, Close]:
        """Connect one publisher; what it is told (``durable``) is handed to ``take``."""


class LeanDoor(Door, Protocol):
    """A door to a QUIC relay, which :mod:`bench.lean` can read at little cost."""

    async def subscribe_lean(self, pool: LeanPool, target: Mapping[str, Any], take: TakeAt) -> None:
        """Connect one reader of the pool; every message is handed to ``take``."""


def trust(target: Mapping[str, Any]) -> Trust:
    """Whom to believe at this target: its ``ca``, ``certificate_sha256`` or ``insecure``."""
    return Trust.of(
        ca=target.get("ca") or None,
        certificate_sha256=target.get("certificate_sha256"),
        insecure=target.get("insecure", False),
    )


def credentials(target: Mapping[str, Any]) -> dict[str, str]:
    """The headers by which the target lets us in: its ``token``, or that of the environment."""
    token = target.get("token") or os.environ.get(ENV_TOKEN, "").strip()
    return {"authorization": f"Bearer {token}"} if token else {}


def raw_credentials(target: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """The same for HTTP/3."""
    return [(name.encode(), value.encode()) for name, value in credentials(target).items()]


def door(name: str) -> Door:
    """The door's module. Raises ValueError on an unknown name."""
    if name not in NAMES:
        raise ValueError(f"unknown door {name!r}: one of {', '.join(NAMES)}")
    return cast(Door, importlib.import_module(f"bench.doors.{name}_door"))


def lean_door(name: str) -> LeanDoor:
    """The door's module, if it is one of :data:`LEAN`. Raises ValueError for another."""
    if name not in LEAN:
        raise ValueError(f"no lean readers at the door {name!r}: one of {', '.join(LEAN)}")
    return cast(LeanDoor, door(name))
