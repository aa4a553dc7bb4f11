"""The remote engine is a store like any other: over every transport, and with the page cache before it.

``RetryRules`` of the embedded engine hold here too, because an embedded engine is at the other end.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.client.trust import Trust
from gateway.http import admin, dataplane
from gateway.http.app import Application
from gateway.http.server import TcpOptions, TcpServer, bind_tcp
from gateway.quic import ServerTls, listen
from gateway.runtime.certs import ensure_own
from gateway.runtime.stores.http3 import H3Transport
from gateway.runtime.stores.opening import open_store
from gateway.store.base import Store
from gateway.store.embedded import EmbeddedStore
from gateway.store.remote import AdminApi, HttpxTransport, RemoteOptions, RemoteStore
from tests.store.conformance.suite import StoreConformance
from tests.store.standin import differences, serving


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[EmbeddedStore, str, str]]:
    """An embedded store behind a data plane and an admin API in clear text; their URLs."""
    store = EmbeddedStore.open(folder / "pages")
    servers = [await started(dataplane.routes(store, wire_zstd=True)), await started(admin.routes(store))]
    yield store, *(f"http://127.0.0.1:{server.port}" for server in servers)
    for server in servers:
        await server.aclose(0.5)
    await store.aclose()


async def started(routes: list) -> TcpServer:
    server = TcpServer(Application(routes), TcpOptions())
    await server.listen(bind_tcp("127.0.0.1", 0))
    return server


class _NoDoors:
    async def open_at(self, *args: object) -> None:
        raise AssertionError("no sessions here")


@contextlib.asynccontextmanager
async def served_h3(folder: Path) -> AsyncIterator[tuple[str, Trust, str]]:
    """The same behind HTTP/3: its URL, who is to be trusted, and the admin API's URL."""
    from datetime import UTC, datetime

    async with served(folder) as (store, _, api):
        certificate = ensure_own(folder / "certs", "127.0.0.1", datetime.now(UTC))
        tls = ServerTls(certificate.cert_pem, certificate.key_pem)
        app = Application(dataplane.routes(store, wire_zstd=True))
        endpoint = await listen("127.0.0.1", 0, tls=tls, asgi_app=app, doors=_NoDoors())
        yield f"https://127.0.0.1:{endpoint.port}", Trust(ca=folder / "certs" / "ca.pem"), api
        endpoint.close()


@pytest.mark.asyncio(loop_scope="class")
class TestOverHttp2(StoreConformance):
    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    async def store(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
        async with served(tmp_path_factory.mktemp("store")) as (_, data, api):
            store = RemoteStore([HttpxTransport(data)], admin=AdminApi(HttpxTransport(api)))
            yield store
            await store.aclose()


@pytest.mark.asyncio(loop_scope="class")
class TestOverHttp1WithTheCache(StoreConformance):
    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    async def store(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
        async with served(tmp_path_factory.mktemp("store")) as (_, data, api):
            store = await open_store(data, admin_url=api, transport="h1")
            yield store
            await store.aclose()


@pytest.mark.asyncio(loop_scope="class")
class TestOverHttp3(StoreConformance):
    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    async def store(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
        async with served_h3(tmp_path_factory.mktemp("store")) as (url, trust, api):
            store = RemoteStore([H3Transport(url, trust=trust)], admin=AdminApi(HttpxTransport(api)))
            yield store
            await store.aclose()


@pytest.mark.asyncio(loop_scope="class")
class TestOverTheStandIn(StoreConformance):
    """mvstore as it really is; what it does otherwise is listed in ``tests/store/standin/differences.py``."""

    @pytest.fixture(autouse=True)
    def _otherwise(self, request: pytest.FixtureRequest) -> None:
        differences.expect(request)

    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    async def store(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
        async with serving(tmp_path_factory.mktemp("store")) as served:
            admin = AdminApi(HttpxTransport(served.admin_url))
            options = RemoteOptions(
                deadline_s=20.0, check_assumed=True
            )  # a body that ends early is asked for until then
            store = RemoteStore([HttpxTransport(served.url)], admin=admin, options=options)
            yield store
            await store.aclose()
