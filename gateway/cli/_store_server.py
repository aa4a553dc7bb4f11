"""The server of ``mvgateway store``: two clear-text listeners before one embedded store. Room: cli."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial

import uvloop
from starlette.routing import BaseRoute

from gateway import __version__
from gateway.cli.store import NO_USE
from gateway.config import is_loopback
from gateway.core.origins import Origins
from gateway.errors import ConfigError
from gateway.http import admin, dataplane
from gateway.http.app import Application
from gateway.http.server import TcpOptions, TcpServer, bind_tcp
from gateway.store.base import Store
from gateway.store.embedded import EmbeddedStore, ReadOnlyStore


def run(args: argparse.Namespace, open_folder: Callable[[str], Store] = EmbeddedStore.open) -> int:
    """Serve until SIGTERM or Ctrl-C; answers 0. Raises :class:`ConfigError` naming the flag to mend."""
    if args.read_only:
        open_folder = partial(ReadOnlyStore.open, follows=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(args, open_folder))
    return 0


async def _serve(args: argparse.Namespace, open_folder: Callable[[str], Store]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with contextlib.ExitStack() as sockets:
        data = sockets.enter_context(_bound("--data-plane", args.data_plane, args.insecure_public))
        api = sockets.enter_context(_bound("--admin-api", args.admin_api, args.insecure_public))
        store = open_folder(args.path)
        try:
            await _listen(store, data, api, args, stop)
        finally:
            await store.aclose()


async def _listen(
    store: Store,
    data: socket.socket,
    api: socket.socket,
    args: argparse.Namespace,
    stop: asyncio.Event,
) -> None:
    auto_create = args.auto_create_namespace and not args.read_only
    plane = dataplane.routes(store, auto_create=auto_create, wire_zstd=args.wire_zstd)
    api_routes = admin.routes(store, truncate_min_age_s=args.truncate_min_age_seconds)
    allowed = args.allow_origin
    servers = [await _server(plane, data, allowed), await _server(api_routes, api, allowed)]
    print(f"mvgateway store {__version__}, folder {args.path}{', read-only' if args.read_only else ''}")
    for flag in NO_USE:
        if vars(args)[flag.strip("-").replace("-", "_")] is not None:
            print(
                f"{flag} does nothing here: the store is the folder that --path names, with no FoundationDB below"
            )
    print(f"data plane http://{_shown(data)}, admin API http://{_shown(api)} (HTTP/1.1 and h2c)")
    print("ready", flush=True)
    await stop.wait()
    await asyncio.gather(*(server.aclose(2.0) for server in servers))


async def _server(routes: Sequence[BaseRoute], sock: socket.socket, allowed: Sequence[str]) -> TcpServer:
    origins = Origins(allowed, clear_loopback=is_loopback(sock.getsockname()[0]))
    server = TcpServer(Application(routes, origins), TcpOptions())
    await server.listen(sock)
    return server


def _bound(flag: str, address: str, public: bool) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not public and not is_loopback(host):
        raise ConfigError(
            f"{flag} {address} is beyond loopback, and nothing checks who connects; "
            "use 127.0.0.1, or say --insecure-public"
        )
    try:
        return bind_tcp(host, int(port))
    except ValueError:
        raise ConfigError(f"{flag} {address!r} is not ADDRESS:PORT") from None
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {address}: {error}; choose another with {flag}") from error


def _shown(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
