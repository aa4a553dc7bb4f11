"""A served endpoint and conditions to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gateway.quic import Client, QuicOptions, ServerEndpoint, connect, listen
from gateway.quic.endpoint import Endpoint
from gateway.quic.udp import UdpSocket, bind
from tests.patience import HANG_S
from tests.quic.conftest import App, Identity, RecordingDoors, RecordingSession


@dataclass
class Served:
    endpoint: ServerEndpoint
    app: App
    doors: RecordingDoors
    identity: Identity

    async def connect(self, **kwargs: Any) -> Client:
        kwargs.setdefault("trust", self.identity.trust())
        kwargs.setdefault("timeout_s", 5.0)
        return await connect("127.0.0.1", self.endpoint.port, **kwargs)


@asynccontextmanager
async def serving(identity: Identity, *, echo: bool = False, **options: Any) -> AsyncIterator[Served]:
    app, doors = App(), RecordingDoors(echo=echo)
    endpoint = await listen(
        "127.0.0.1", 0, tls=identity.server(), asgi_app=app, doors=doors, options=QuicOptions(**options)
    )
    try:
        yield Served(endpoint, app, doors, identity)
    finally:
        endpoint.close()


class Dead(UdpSocket):
    """The socket of a process that is no more: nothing goes out by it, and nothing comes in."""

    def __init__(self) -> None:
        super().__init__(bind("127.0.0.1", 0))

    def receive(self) -> list[Any]:
        return []

    def send(self, *_: object) -> None: ...

    send_run = send_packets = push = send


def kill(endpoint: Endpoint) -> None:
    """It says nothing any more, not even that it goes, and its port is free."""
    endpoint.replace_socket(Dead())


async def until(condition: Callable[[], bool], within_s: float = HANG_S) -> None:
    """Wait until a condition holds; an error if it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def open_session(client: Client, path: str = "/v1/worlds/a/live") -> tuple[Any, RecordingSession]:
    made: list[RecordingSession] = []

    def make(link: Any) -> RecordingSession:
        made.append(RecordingSession(link))
        return made[0]

    link = await client.webtransport(path, make)
    return link, made[0]
