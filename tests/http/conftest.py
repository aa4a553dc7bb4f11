"""A TCP server on an ephemeral port, with real TLS, around whatever app a test brings."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.types import ASGIApp

from gateway.http.server import TcpOptions, TcpServer, bind_tcp
from gateway.runtime import certs


class Served(NamedTuple):
    server: TcpServer
    port: int
    tls: bool
    ca: Path
    client_tls: ssl.SSLContext

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}{'s' if self.tls else ''}://127.0.0.1:{self.port}{path}"


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture(scope="session")
def certs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    certs.ensure_own(folder, "127.0.0.1", datetime.now(UTC))
    return folder


async def serve_at(
    certs_folder: Path, app: ASGIApp, *, tls: bool, sock: socket.socket | None = None, **more: Any
) -> Served:
    """A server on the loop that runs; whoever asked for it ends it."""
    context = certs.tls_context(certs_folder / certs.LEAF_CERT, certs_folder / certs.LEAF_KEY)
    options = TcpOptions(**{"alt_svc": 'h3=":4433"; ma=86400', **more})
    server = TcpServer(app, options, (lambda: context) if tls else None)
    await server.listen(sock or bind_tcp("127.0.0.1", 0))
    ca = certs_folder / certs.CA_CERT
    return Served(server, server.port, tls, ca, ssl.create_default_context(cafile=str(ca)))


@pytest.fixture
async def serve(certs_folder: Path) -> AsyncIterator[Serve]:
    servers: list[TcpServer] = []

    async def start(
        app: ASGIApp, *, tls: bool = True, sock: socket.socket | None = None, **more: Any
    ) -> Served:
        served = await serve_at(certs_folder, app, tls=tls, sock=sock, **more)
        servers.append(served.server)
        return served

    yield start
    for server in servers:
        await server.aclose(0.2)
