"""What an operator wants to be told of sessions, as plain values. Room: core. Pure.

A world says them to :attr:`gateway.core.world.World.on_event`; ``runtime`` writes them down.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.ports import Role, Transport


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A publisher or a reader was attached. ``address``: the peer's, empty where there is none."""

    world: str
    role: Role
    transport: Transport
    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """It is gone. ``why``: ``left``, or the reason that it was given. ``messages``: taken from a publisher,
    or given to a reader's link, in ``seconds``."""

    world: str
    role: Role
    transport: Transport
    address: str
    why: str
    seconds: float
    messages: int


@dataclass(frozen=True, slots=True)
class PublisherReplaced:
    """Another publisher stands where one stood. ``by_epoch`` equals ``epoch`` where it is the same one,
    back on another connection."""

    world: str
    epoch: int
    by_epoch: int
    address: str


@dataclass(frozen=True, slots=True)
class HomeTaken:
    """This gateway records the world from now on. ``over``: the URL of the gateway that did, empty where none; ``why`` it does
    no more."""

    world: str
    fence: int
    over: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class HomeLost:
    """The gateway at ``url`` (empty where that is not known) records it, under ``by_fence``: what was not durable under
    ``fence`` is dropped."""

    world: str
    fence: int
    by_fence: int
    url: str


@dataclass(frozen=True, slots=True)
class HomeGivenUp:
    """This gateway records the world no more, and others may at once."""

    world: str
    fence: int


Event = SessionOpened | SessionClosed | PublisherReplaced | HomeTaken | HomeLost | HomeGivenUp


def address_text(host: str, port: int) -> str:
    """``127.0.0.1:4433``, or ``[::1]:4433``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ignored(event: Event) -> None:
    """Nobody keeps a log."""
