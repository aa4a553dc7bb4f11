"""A store over HTTP/3: streams of their own, resumption, a changed address, and TCP where UDP is silent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from gateway import limits
from gateway.client.trust import Trust
from gateway.errors import StoreUnavailable
from gateway.http import dataplane
from gateway.http.app import Application
from gateway.http.server import TcpOptions, TcpServer, bind_tcp
from gateway.quic import ServerTls, listen
from gateway.runtime.certs import LEAF_CERT, LEAF_KEY, ensure_own, tls_context
from gateway.runtime.stores.http3 import H3Transport
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageContent, PageRead, PageWrite
from gateway.store.embedded import EmbeddedStore
from gateway.store.remote import HttpxTransport, RemoteStore
from tests.patience import HANG_S

NS = Namespace("world")
SLOW_PAGE = 13


class Held:
    """A store in which reading one page takes until the test says so."""

    def __init__(self, inner: EmbeddedStore) -> None:
        self.inner = inner
        self.gate = asyncio.Event()
        self.held = asyncio.Semaphore(0)
        """Once for each read that waits."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        if any(read.page == SLOW_PAGE for read in reads):
            self.held.release()
            await self.gate.wait()
        return await self.inner.read(ns, reads)


class _NoDoors:
    async def open_at(self, *args: object) -> None:
        raise AssertionError("no sessions here")


class Place:
    """A data plane on a port number of its own: over QUIC, over TCP, or both."""

    def __init__(self, folder: Path) -> None:
        self.store = Held(EmbeddedStore.open(folder / "pages"))
        self.certs = folder / "certs"
        self.certificate = ensure_own(self.certs, "127.0.0.1", datetime.now(UTC))
        self.tls = ServerTls(self.certificate.cert_pem, self.certificate.key_pem)
        self.app = Application(dataplane.routes(self.store, auto_create=True))  # type: ignore[arg-type]
        self.endpoint: Any = None
        self.tcp: TcpServer | None = None
        self.port = 0

    async def open_udp(self) -> None:
        self.endpoint = await listen(
            "127.0.0.1", self.port, tls=self.tls, asgi_app=self.app, doors=_NoDoors()
        )
        self.port = self.endpoint.port

    async def open_tcp(self) -> None:
        context = tls_context(self.certs / LEAF_CERT, self.certs / LEAF_KEY)
        self.tcp = TcpServer(self.app, TcpOptions(), lambda: context)
        await self.tcp.listen(bind_tcp("127.0.0.1", self.port))
        self.port = self.tcp.port

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def trust(self) -> Trust:
        return Trust(ca=self.certs / "ca.pem")

    def fallback(self) -> HttpxTransport:
        return HttpxTransport(self.url, tls=self.trust.ssl_context())


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    yield place
    place.store.gate.set()
    if place.endpoint is not None:
        place.endpoint.close()
    if place.tcp is not None:
        await place.tcp.aclose(0.2)
    await place.store.inner.aclose()


async def commit(store: RemoteStore, pages: dict[int, bytes]) -> str:
    version = (await store.stat(NS)).version
    writes = [PageWrite(page, blake3(data).digest(), data) for page, data in pages.items()]
    part = NamespaceCommit(NS, version, writes)
    return (await store.commit(CommitRequest(os.urandom(16), [part], True))).version


async def test_a_slow_batch_holds_up_no_other(place: Place) -> None:
    await place.open_udp()
    store = RemoteStore([H3Transport(place.url, trust=place.trust)])
    version = await commit(store, {1: b"fast", SLOW_PAGE: b"slow"})
    slow = asyncio.create_task(store.read(NS, [PageRead(SLOW_PAGE, version)]))
    for _ in range(20):
        assert (await store.read(NS, [PageRead(1, version)]))[0].data == b"fast"
    assert not slow.done()
    place.store.gate.set()
    assert (await slow)[0].data == b"slow"
    await store.aclose()


async def test_a_slow_store_is_waited_for_longer_than_a_dead_connection(place: Place) -> None:
    await place.open_udp()
    transport = H3Transport(place.url, trust=place.trust)
    store = RemoteStore([transport])
    version = await commit(store, {SLOW_PAGE: b"slow"})
    slow = asyncio.create_task(store.read(NS, [PageRead(SLOW_PAGE, version)]))
    asyncio.get_running_loop().call_later(
        limits.STORE_H3_SUSPECT_S + limits.STORE_H3_PING_S_MAX + 0.3, place.store.gate.set
    )
    assert (await slow)[0].data == b"slow"
    assert (transport.connections, store.facts()["retries"]) == (1, 0)
    await store.aclose()


async def test_a_restarted_store_is_found_again_and_the_connection_resumed(place: Place) -> None:
    await place.open_udp()
    transport = H3Transport(place.url, trust=place.trust)
    store = RemoteStore([transport])
    version = await commit(store, {1: b"page"})
    place.endpoint.close()
    await place.open_udp()
    assert (await store.read(NS, [PageRead(1, version)]))[0].data == b"page"
    assert (transport.connections, transport.resumed) == (2, 1)
    assert await commit(store, {1: b"next"}) > version
    await store.aclose()


async def test_a_changed_address_is_no_reason_to_connect_anew(place: Place) -> None:
    await place.open_udp()
    transport = H3Transport(place.url, trust=place.trust)
    store = RemoteStore([transport])
    version = await commit(store, {1: b"page"})
    client = transport._client  # its address changes by itself: nobody asks for it by a transport
    assert client is not None
    client.rebind()
    assert (await store.read(NS, [PageRead(1, version)]))[0].data == b"page"
    assert transport.connections == 1
    await store.aclose()


async def test_tcp_carries_the_pages_where_udp_is_silent(place: Place) -> None:
    await place.open_tcp()
    place.store.gate.set()
    transport = H3Transport(place.url, trust=place.trust, fallback=place.fallback())
    store = RemoteStore([transport])
    version = await commit(store, {page: os.urandom(8_192) for page in range(30)})
    assert len(await store.read(NS, [PageRead(page, version) for page in range(30)])) == 30
    assert transport.connections == 0
    await store.aclose()


async def test_without_a_fallback_silence_is_told_within_the_deadline(place: Place) -> None:
    await place.open_tcp()
    store = RemoteStore([H3Transport(place.url, trust=place.trust)])
    async with asyncio.timeout(limits.STORE_DEADLINE_S + 2.0):
        with pytest.raises(StoreUnavailable, match=place.url):
            await store.stat(NS)
    await store.aclose()


async def test_a_certificate_of_somebody_else_is_not_believed(place: Place, tmp_path: Path) -> None:
    await place.open_udp()
    ensure_own(tmp_path / "others", "127.0.0.1", datetime.now(UTC))
    trust = Trust(ca=tmp_path / "others" / "ca.pem")
    store = RemoteStore([H3Transport(place.url, trust=trust)])
    with pytest.raises(StoreUnavailable):
        await store.stat(NS)
    await store.aclose()


async def test_many_requests_to_a_far_gateway_go_on_several_connections(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a congestion window of its own. To a gateway nearby one is enough."""
    await place.open_udp()
    monkeypatch.setattr(limits, "STORE_POOL_IDLE_S", 0.05)
    for far_s, connections in ((10.0, 1), (0.0, 12)):
        monkeypatch.setattr(limits, "STORE_H3_FAR_S", far_s)
        transport = H3Transport(place.url, trust=place.trust)
        store = RemoteStore([transport])
        version = await commit(store, {1: b"fast", SLOW_PAGE: b"slow"})
        slow = [asyncio.create_task(store.read(NS, [PageRead(SLOW_PAGE, version)])) for _ in range(60)]
        async with asyncio.timeout(HANG_S):
            for _ in slow:
                await place.store.held.acquire()
        place.store.gate.set()
        assert all(page.data == b"slow" for (page,) in await asyncio.gather(*slow))
        assert transport.connections == connections
        place.store.gate.clear()
        async with asyncio.timeout(HANG_S):
            while place.endpoint.connections > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await store.read(NS, [PageRead(1, version)]))[0].data == b"fast"
        await store.aclose()
