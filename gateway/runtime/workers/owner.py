"""The owner of the embedded store: a process of its own, which serves it to the workers by the page protocol. Room: runtime.

On loopback, and nobody is answered who does not show the group's secret.
"""

from __future__ import annotations

import asyncio
import hmac
import signal
import socket
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import limits
from gateway.config import Settings
from gateway.http import admin, dataplane
from gateway.http.app import Application
from gateway.http.problems import status_response
from gateway.http.server import TcpOptions, TcpServer
from gateway.runtime.stores.opening import open_store
from gateway.store.base import Store
from gateway.store.embedded import EmbeddedStore
from gateway.store.remote import RemoteOptions


async def open_owned(url: str, secret: str, settings: Settings) -> Store:
    """The owner's store, for a worker."""
    return await open_store(
        url,
        admin_url=url,
        auto_create=True,
        # HTTP/1.1 on loopback: nothing to multiplex for, and the cheapest for both ends.
        transport="h1",
        cache_bytes=settings.store_cache_mib * limits.MIB,
        options=RemoteOptions(check_assumed=False),
        token=secret,
    )


class SecretOnly:
    """ASGI: ``app`` for whoever shows the secret, and 401 for all others."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._wanted = f"Bearer {secret}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if hmac.compare_digest(given, self._wanted):
            await self._app(scope, receive, send)
        else:
            await status_response(401, "this door is for the workers of one gateway")(scope, receive, send)


async def _until_unused(server: TcpServer, wait_s: float) -> None:
    """The supervisor is gone: the workers stop, and each has a connection until it is done."""
    until = time.monotonic() + wait_s
    # Polled: once in a process's life, and its end is near.
    while server.connections and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(limits.WORKER_LOOK_S)


async def own(
    settings: Settings, sock: socket.socket, secret: str, control: socket.socket, ready: Callable[[], None]
) -> int:
    """Serve the folder until the supervisor says so or is gone; then for as long as the workers may still need it."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Its default ends the process (signal(7)); settings are the workers' affair.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    store = EmbeddedStore.open(settings.store, auto_create=True)
    try:
        routes = [
            # On loopback bytes cost less than packing them.
            *dataplane.routes(store, auto_create=True, wire_zstd=False, near_zstd=False),
            *admin.routes(store),
        ]
        server = TcpServer(SecretOnly(Application(routes), secret), TcpOptions())
        await server.listen(sock)
        ready()
        orphaned = asyncio.ensure_future(loop.sock_recv(control, 1))
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait((orphaned, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            await _until_unused(server, settings.drain_ms / 1_000 + limits.WORKER_END_S)
        await server.aclose(0.5)
    finally:
        await store.aclose()
    return 0
