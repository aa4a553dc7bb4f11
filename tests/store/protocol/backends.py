"""Everything that speaks the store's protocol here, behind every door that it has, on real sockets."""

from __future__ import annotations

import contextlib
import itertools
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
import msgpack
from blake3 import blake3

from gateway.client.trust import Trust
from gateway.config import Settings
from gateway.http import admin, dataplane
from gateway.http.app import Application
from gateway.http.server import TcpOptions, TcpServer, bind_tcp
from gateway.quic import connect
from gateway.runtime.gateway import Gateway
from gateway.store.base import Store
from gateway.store.embedded import EmbeddedStore
from tests.patience import HANG_S
from tests.store.standin import Served, StandIn, serving

DOORS = [
    "store/h1",
    "store/h2c",
    "embedded/h1",
    "embedded/h2c",
    "embedded/h2",
    "embedded/h3",
    "before-store/h2",
    "before-store/h3",
    "before-gateway/h1",
    "before-gateway/h3",
    "standin/h1",
    "standin/h2c",
    "before-standin/h2",
]
"""(a) mvgateway store, (b) serve on the embedded engine, (c) serve in front of mvgateway store,
(d) serve in front of another gateway over QUIC, (e) the real mvstore's stand-in, (f) serve in front of that;
each with the doors that make a difference."""

_numbers = itertools.count()


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return httpx.Response(self.status, content=self.body).json()

    def frames(self) -> list[Any]:
        """The whole frames of the body, unpacked by another reader than the store's own."""
        out, rest = [], self.body
        while len(rest) >= 4 and len(rest) >= 4 + int.from_bytes(rest[:4], "big"):
            size = int.from_bytes(rest[:4], "big")
            out.append(msgpack.unpackb(rest[4 : 4 + size]))
            rest = rest[4 + size :]
        assert rest == b"", "the body ends inside a frame"
        return out


@dataclass
class Door:
    """One way in: raw requests to the data plane, and the admin API of the store behind it."""

    name: str
    client: Any
    api: httpx.AsyncClient
    store: Store
    plain_port: int | None = None
    standin: StandIn | None = None

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Reply:
        target = path + (f"?{urlencode(query)}" if query else "")
        if isinstance(self.client, httpx.AsyncClient):
            answer = await self.client.request(method, target, content=body, headers=dict(headers or {}))
            return Reply(answer.status_code, answer.headers, answer.content)
        fields = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        response = await self.client.request(method, target, fields, body)
        whole = await response.read()
        return Reply(response.status, {n.decode(): v.decode() for n, v in response.headers}, whole)

    async def admin(self, path: str, **value: Any) -> httpx.Response:
        return await self.api.post(f"/api/{path}", json=value)

    async def namespace(self) -> str:
        key = f"ns-{os.getpid()}-{next(_numbers)}"
        assert (await self.admin("create_namespace", key=key)).status_code == 201
        return key


# --- what a client sends ------------------------------------------------------------------------


def framed(*values: Any) -> bytes:
    """Values as frames; ``b""`` is the empty frame."""
    packed = [b"" if value == b"" else msgpack.packb(value, use_bin_type=True) for value in values]
    return b"".join(len(one).to_bytes(4, "big") + one for one in packed)


def digest(data: bytes) -> bytes:
    return blake3(data).digest()


def page(fill: int, size: int = 4_096) -> bytes:
    return bytes([fill % 256]) * size


def read(index: int, version: str, **more: Any) -> dict[str, Any]:
    return {"page_index": index, "version": version, "hash": None, "accept_zstd": False, **more}


def commit(*parts: tuple[dict[str, Any], list[dict[str, Any]]], **head: Any) -> bytes:
    """A commit's body; each part is a namespace's head and its pages."""
    first = {
        "idempotency_key": os.urandom(16),
        "allow_skip_idempotency_check": True,
        "num_namespaces": len(parts),
        "lock_owner": None,
        **head,
    }
    return framed(first, *(value for init, pages in parts for value in (init, *pages)))


def part(
    key: str, version: str, pages: Mapping[int, bytes], *, inline: bool = True, **init: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    head = {
        "version": version,
        "ns_key": key,
        "ns_key_hashproof": None,
        "metadata": None,
        "num_pages": len(pages),
        "read_set": None,
        **init,
    }
    writes = [
        {"page_index": index, "hash": digest(data), "data": data if inline else None}
        for index, data in pages.items()
    ]
    return head, writes


# --- what answers -------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def opened(name: str, folder: Path, monkeypatch: Any) -> AsyncIterator[Door]:
    """The door of that name, all that stands behind it included."""
    backend, _, way = name.partition("/")
    async with contextlib.AsyncExitStack() as stack:
        if backend.endswith("standin"):
            served = await stack.enter_async_context(serving(folder / "pages"))
            yield await _standin_door(stack, name, served, folder)
            return
        store = EmbeddedStore.open(folder / "pages") if backend in ("store", "before-store") else None
        data = api = None
        if store is not None:
            stack.push_async_callback(store.aclose)
            data = await _server(stack, dataplane.routes(store, auto_create=False))
            api = await _server(stack, admin.routes(store))
        if backend == "store":
            assert store is not None
            assert data is not None
            assert api is not None
            client = await stack.enter_async_context(_tcp(f"http://127.0.0.1:{data.port}", way))
            yield Door(name, client, await stack.enter_async_context(_api(api)), store, data.port)
            return
        gateway = await _gateway(stack, backend, folder, monkeypatch, data, api)
        api = api or await _server(stack, admin.routes(_innermost(stack, gateway)))
        client = await stack.enter_async_context(_way(gateway, way, folder))
        door = Door(name, client, await stack.enter_async_context(_api(api)), gateway.store)
        door.plain_port = gateway.plain_server.port if gateway.plain_server else None
        yield door


async def _standin_door(stack: contextlib.AsyncExitStack, name: str, served: Served, folder: Path) -> Door:
    backend, _, way = name.partition("/")
    api = await stack.enter_async_context(httpx.AsyncClient(base_url=served.admin_url, timeout=HANG_S))
    if backend == "standin":
        client = await stack.enter_async_context(_tcp(served.url, way))
        port = int(served.url.rpartition(":")[2])
        return Door(name, client, api, served.standin.engine, port, served.standin)
    gateway = await _start(stack, folder / "front", store=served.url, store_admin=served.admin_url)
    client = await stack.enter_async_context(_way(gateway, way, folder))
    port = gateway.plain_server.port if gateway.plain_server else None
    return Door(name, client, api, gateway.store, port, served.standin)


async def _gateway(
    stack: contextlib.AsyncExitStack, backend: str, folder: Path, monkeypatch: Any, data: Any, api: Any
) -> Gateway:
    if backend == "before-store":
        urls = {"store": f"http://127.0.0.1:{data.port}", "store_admin": f"http://127.0.0.1:{api.port}"}
        return await _start(stack, folder / "front", **urls)
    first = await _start(stack, folder / "core")
    if backend == "embedded":
        return first
    monkeypatch.setenv("MVGATEWAY_CA", str(folder / "core" / "certs" / "ca.pem"))
    front = await _start(stack, folder / "front", store=f"https://127.0.0.1:{first.port}")
    front.innermost = first.store  # type: ignore[attr-defined]
    return front


def _innermost(stack: contextlib.AsyncExitStack, gateway: Gateway) -> Store:
    return getattr(gateway, "innermost", gateway.store)


async def _start(stack: contextlib.AsyncExitStack, folder: Path, **changes: Any) -> Gateway:
    values: dict[str, Any] = {
        "port": 0,
        "plain": "127.0.0.1:0",
        "store": str(folder / "store"),
        "certs": str(folder / "certs"),
    }
    gateway = await Gateway.start(Settings(**{**values, **changes}))
    stack.push_async_callback(gateway.drain, 0.5)
    return gateway


async def _server(stack: contextlib.AsyncExitStack, routes: Any) -> TcpServer:
    server = TcpServer(Application(routes), TcpOptions())
    await server.listen(bind_tcp("127.0.0.1", 0))
    stack.push_async_callback(server.aclose, 0.5)
    return server


def _api(server: TcpServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=HANG_S)


def _tcp(url: str, way: str, tls: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=url,
        http1=way == "h1",
        http2=way != "h1",
        verify=tls or True,
        timeout=HANG_S,
        trust_env=False,
    )


@contextlib.asynccontextmanager
async def _way(gateway: Gateway, way: str, folder: Path) -> AsyncIterator[Any]:
    trust = Trust(ca=Path(gateway.settings.certs) / "ca.pem")
    if way == "h3":
        async with await connect(
            "127.0.0.1", gateway.port, trust=trust.for_quic(), timeout_s=HANG_S
        ) as client:
            yield client
    elif way == "h2":
        async with _tcp(f"https://127.0.0.1:{gateway.port}", way, trust.ssl_context()) as client:
            yield client
    else:
        assert gateway.plain_server is not None
        async with _tcp(f"http://127.0.0.1:{gateway.plain_server.port}", way) as client:
            yield client
