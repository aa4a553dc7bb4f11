"""The stand-in on real sockets: one or more data planes and admin APIs over one store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.http.server import TcpOptions, TcpServer, bind_tcp
from tests.store.standin.adminapi import AdminApi
from tests.store.standin.dataplane import DataPlane
from tests.store.standin.http import app
from tests.store.standin.names import Clock
from tests.store.standin.rules import Knobs, StandIn

MESSAGE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Served:
    """``urls``: one a data plane (each has its own name cache); ``admin_urls`` likewise."""

    standin: StandIn
    urls: list[str]
    admin_urls: list[str]

    @property
    def url(self) -> str:
        """The data planes, as ``--store`` takes them."""
        return ",".join(self.urls)

    @property
    def admin_url(self) -> str:
        """The admin APIs, as ``--store-admin`` takes them."""
        return ",".join(self.admin_urls)


@contextlib.asynccontextmanager
async def serving(
    folder: Path | str,
    knobs: Knobs | None = None,
    *,
    clock: Clock | None = None,
    planes: int = 1,
    admins: int = 1,
    ports: tuple[int, ...] = (),
) -> AsyncIterator[Served]:
    """Serve the folder. ``ports``: of the data planes, then of the admin APIs (0 and missing: any)."""
    async with contextlib.AsyncExitStack() as stack:
        standin = await StandIn.open(folder, clock=clock, knobs=knobs)
        stack.push_async_callback(standin.aclose)
        wanted = [*ports, *[0] * (planes + admins)]
        data = [
            await _listening(stack, app(DataPlane(standin).serve, words=False), port)
            for port in wanted[:planes]
        ]
        api = [
            await _listening(stack, app(AdminApi(standin).serve, words=True), port)
            for port in wanted[planes : planes + admins]
        ]
        yield Served(standin, data, api)


async def _listening(stack: contextlib.AsyncExitStack, served: Any, port: int) -> str:
    server = TcpServer(served, TcpOptions(message_bytes_max=MESSAGE_BYTES_MAX))
    await server.listen(bind_tcp("127.0.0.1", port))
    stack.push_async_callback(server.aclose, 0.5)
    return f"http://127.0.0.1:{server.port}"
