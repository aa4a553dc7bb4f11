"""Our own HTTP/1.1 to a store: connections are kept, what breaks is told apart, nothing is sent twice as new."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import msgpack
import pytest
from blake3 import blake3

from gateway import limits
from gateway.client.trust import Trust
from gateway.errors import BadInput, StoreUnavailable
from gateway.http import dataplane
from gateway.http.app import Application
from gateway.http.server import TcpOptions, TcpServer, bind_tcp
from gateway.quic import ServerTls, listen
from gateway.runtime import certs
from gateway.runtime.certs import ensure_own
from gateway.runtime.stores.opening import open_store
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageRead, PageWrite
from gateway.store.embedded import EmbeddedStore
from gateway.store.remote import Ask, HttpxTransport, RemoteStore, TcpTransport
from gateway.store.remote.pool import Pool
from gateway.wire import mvstore
from tests.patience import HANG_S
from tests.store.conformance.kit import A

NS = Namespace("world")
V = "0" * 19 + "1"


def get(path: str = "/stat", answer_bytes_max: int = 100_000) -> Ask:
    return Ask("GET", path, {}, b"", answer_bytes_max, replayable=True)


GET = get()

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def stand_in(serve: Serve) -> AsyncIterator[str]:
    """A server that does as the test says with each connection; its URL."""
    tasks: set[asyncio.Task[Any]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def request_of(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """The next request: its first line, headers and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *fields = head.strip().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    return line, headers, await reader.readexactly(int(headers.get("content-length", 0)))


def answer(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def head_of(body: bytes) -> dict[str, Any]:
    """The first frame of a commit."""
    return msgpack.unpackb(body[4 : 4 + int.from_bytes(body[:4], "big")])


def a_commit() -> CommitRequest:
    part = NamespaceCommit(NS, V, [PageWrite(1, blake3(b"x").digest(), b"x")])
    return CommitRequest(os.urandom(16), [part], first_attempt=True)


DONE = answer(mvstore.encode_changelog({"world": []}), f"x-committed-version: {V}")
STAT = answer(b'{"version":"%s","metadata":"","read_only":false,"interval":null}' % V.encode())


# --- connections ------------------------------------------------------------------------------------


async def test_one_after_the_other_they_go_on_one_connection() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await request_of(reader)
            writer.write(answer(b"{}"))

    async with stand_in(serve) as url:
        transport = TcpTransport(url)
        for _ in range(5):
            assert (await transport.request(GET, 5.0)).body == b"{}"
        assert connections == 1
        await transport.aclose()


async def test_no_more_connections_than_the_bound_and_every_request_gets_its_turn() -> None:
    open_now = most = 0
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        if open_now == limits.STORE_POOL_CONNECTIONS_MAX:
            gate.set()
        try:
            while True:
                await request_of(reader)
                await gate.wait()
                writer.write(answer(b"{}"))
        finally:
            open_now -= 1

    async with stand_in(serve) as url:
        transport = TcpTransport(url)
        many = [transport.request(GET, 20.0) for _ in range(3 * limits.STORE_POOL_CONNECTIONS_MAX)]
        assert all(done.body == b"{}" for done in await asyncio.gather(*many))
        assert most == limits.STORE_POOL_CONNECTIONS_MAX
        await transport.aclose()


async def test_a_request_given_up_takes_its_connection_with_it() -> None:
    """Its answer would else be the next request's."""
    connections = 0
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            line, _, _ = await request_of(reader)
            asked.set()
            if "slow" not in line:
                writer.write(answer(line.encode()))

    async with stand_in(serve) as url:
        transport = TcpTransport(url)
        slow = asyncio.create_task(transport.request(get("/slow"), 20.0))
        await asyncio.wait_for(asked.wait(), HANG_S)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert (await transport.request(GET, 5.0)).body.startswith(b"GET /stat")
        assert connections == 2
        await transport.aclose()


async def test_an_answer_to_nothing_ends_the_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, _, _ = await request_of(reader)
        writer.write(answer(line.encode()) + answer(b"who asked?"))
        assert await reader.read() == b""

    async with stand_in(serve) as url:
        transport = TcpTransport(url)
        for path in ("/a", "/b", "/c"):
            found = await transport.request(get(path), 5.0)
            assert found.body.startswith(f"GET {path} ".encode())
        await transport.aclose()


@pytest.mark.parametrize("size", [10, limits.STORE_JOINED_BYTES_MAX, 3_000_000])
async def test_bodies_of_every_size_arrive_whole(size: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, _, body = await request_of(reader)
            writer.write(answer(blake3(body).digest()))

    async with stand_in(serve) as url:
        transport = TcpTransport(url)
        body = os.urandom(size)
        for _ in range(2):
            ask = Ask("POST", "/batch/write", {}, body, 100)
            assert (await transport.request(ask, 20.0)).body == blake3(body).digest()
        await transport.aclose()


# --- answers ----------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
GOOD = {
    "chunked": CHUNKED,
    "chunked with a trailer": CHUNKED[:-2] + b"x-trailer: 1\r\n\r\n",
    "after an informational one": b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n" + answer(b"{}"),
    "to the connection's end": b"HTTP/1.1 200 OK\r\n\r\n{}",
    "of HTTP/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("byte_by_byte", [False, True])
async def test_an_answer_is_taken_however_it_is_framed_and_comes(kind: str, byte_by_byte: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        for piece in (
            [GOOD[kind][n : n + 1] for n in range(len(GOOD[kind]))] if byte_by_byte else [GOOD[kind]]
        ):
            writer.write(piece)
            await writer.drain()

    async with stand_in(serve) as url:
        transport = TcpTransport(url)
        for _ in range(3):
            found = await transport.request(GET, 5.0)
            assert (found.status, found.body, found.headers.get("x")) == (200, b"{}", None)
        await transport.aclose()


BAD = {
    "broken off in the head": b"HTTP/1.1 200 OK\r\nconte",
    "broken off in the body": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}",
    "broken off in a chunk": CHUNKED[:-8],
    "another protocol": b"220 ftp ready\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "both framings": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
    "an upgrade": b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"x-more: and more\r\n" * 10_000,
    "a body over the bound": answer(bytes(200_000)),
    "nothing": b"",
}


@pytest.mark.parametrize("kind", BAD)
async def test_an_answer_that_is_none_is_told_as_the_store_being_away(kind: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(BAD[kind])
        await writer.drain()

    async with stand_in(serve) as url:
        transport = TcpTransport(url, http2=False)
        with pytest.raises(StoreUnavailable, match=url):
            await transport.request(GET, 5.0)
        await transport.aclose()


async def test_silence_is_told_within_its_time_also_in_the_middle_of_an_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, _, _ = await request_of(reader)
        if "body" in line:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}")
        await reader.read()

    async with stand_in(serve) as url:
        transport = TcpTransport(url)
        async with asyncio.timeout(HANG_S):
            for path in ("/nothing", "/body"):
                with pytest.raises(StoreUnavailable, match="did not answer within"):
                    await transport.request(get(path), 0.3)
        await transport.aclose()


async def test_nobody_there_is_told_with_the_address() -> None:
    sock = bind_tcp("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    sock.close()
    transport = TcpTransport(url)
    with pytest.raises(StoreUnavailable, match=f"{url} cannot be reached"):
        await transport.request(GET, 5.0)
    await transport.aclose()


async def test_an_address_of_a_name_that_is_silent_or_refuses_does_not_hide_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(answer(b"{}"))

    async with stand_in(serve) as url:
        port = int(url.rpartition(":")[2])
        silent = socket.socket()
        silent.bind(("127.0.0.2", port))
        silent.listen(0)
        waiting = [socket.socket() for _ in range(4)]  # the queue is full, so that nobody else is answered
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.2", port))

        async def resolved(*args: object, **more: object) -> list[Any]:
            names = ("127.0.0.2", "127.0.0.3", "127.0.0.1")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port)) for name in names]

        monkeypatch.setattr(Pool, "_resolve", resolved)
        transport = TcpTransport(f"http://store.example:{port}")
        async with asyncio.timeout(limits.STORE_DEADLINE_S):
            assert (await transport.request(GET, 20.0)).body == b"{}"
        await transport.aclose()
        for each in (silent, *waiting):
            each.close()


@pytest.mark.parametrize("key", ["a\r\nx-evil: 1", "ä", "a\x00b", " a"])
async def test_what_no_header_carries_is_refused_and_not_sent(key: str) -> None:
    async with stand_in(lambda reader, writer: asyncio.sleep(0)) as url:
        store = RemoteStore([TcpTransport(url)])
        with pytest.raises(BadInput, match="no header carries"):
            await store.stat(Namespace(key))
        await store.aclose()


# --- sent once, and maybe served ----------------------------------------------------------------------


class Taken:
    """Takes requests and closes the connection without an answer, until ``left`` is 0."""

    def __init__(self, left: int, good: bytes = DONE) -> None:
        self.left, self.good = left, good
        self.bodies: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            line, _, body = await request_of(reader)
            if line.startswith("GET"):
                writer.write(STAT)
                continue
            self.bodies.append(body)
            if self.left:
                self.left -= 1
                return
            writer.write(self.good)

    @property
    def claims(self) -> list[bool]:
        """Whether each commit that came said that it may be the first."""
        return [head_of(body)["allow_skip_idempotency_check"] for body in self.bodies]


@pytest.mark.parametrize("warm", [False, True], ids=["a new connection", "a kept connection"])
async def test_a_commit_taken_without_an_answer_is_sent_again_as_such(warm: bool) -> None:
    taken = Taken(2)
    async with stand_in(taken) as url:
        store = RemoteStore([TcpTransport(url)])
        if warm:
            await store.stat(NS)
        await store.commit(a_commit())
        assert taken.claims == [True, False, False]
        assert len({head_of(body)["idempotency_key"] for body in taken.bodies}) == 1
        await store.aclose()


async def test_a_connection_closed_as_it_was_used_is_no_failure_of_the_store() -> None:
    """Where asking again does no harm: a server closes connections at rest whenever it likes."""
    taken = Taken(1)
    async with stand_in(taken) as url:
        store = RemoteStore([TcpTransport(url)])
        await store.stat(NS)
        await store.commit(a_commit())
        assert store.facts()["retries"] == 0
        assert store.facts()["failing"] == {url: 0}
        assert taken.claims == [True, False]
        await store.aclose()


async def test_what_may_not_be_served_twice_is_left_to_who_asked() -> None:
    taken = Taken(1, answer(b""))
    async with stand_in(taken) as url:
        transport = TcpTransport(url)
        await transport.request(GET, 5.0)
        with pytest.raises(StoreUnavailable):
            await transport.request(Ask("POST", "/nslock/release", {}, b"{}", 1_000), 5.0)
        assert len(taken.bodies) == 1
        await transport.aclose()


async def test_a_commit_that_fails_at_one_address_goes_to_the_next_as_a_retry() -> None:
    first, second = Taken(1), Taken(0)
    async with stand_in(first) as a, stand_in(second) as b:
        store = RemoteStore([TcpTransport(a), TcpTransport(b)])
        await store.commit(a_commit())
        assert (first.claims, second.claims) == ([True], [False])
        await store.aclose()


async def test_a_commit_whose_server_speaks_no_http2_is_sent_by_http1_as_a_retry() -> None:
    """By HTTP/2 it was sent once; that nobody read it is not known."""
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line.startswith(b"PRI"):
            return
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(
            int(f.split(b":")[1]) for f in head.lower().split(b"\r\n") if f.startswith(b"content-length")
        )
        bodies.append(await reader.readexactly(size))
        writer.write(DONE)

    async with stand_in(serve) as url:
        store = RemoteStore([HttpxTransport(url)])
        await store.commit(a_commit())
        assert [head_of(body)["allow_skip_idempotency_check"] for body in bodies] == [False]
        await store.aclose()


class SwallowingH2:
    """Speaks HTTP/2, takes whole requests, and closes the connection; by HTTP/1.1 it answers."""

    def __init__(self) -> None:
        self.claims: list[bool] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = await reader.readexactly(3)
        if start != b"PRI":
            rest = start + await reader.readuntil(b"\r\n\r\n")
            size = next(
                int(f.split(b":")[1]) for f in rest.lower().split(b"\r\n") if f.startswith(b"content-length")
            )
            self._note(await reader.readexactly(size))
            writer.write(DONE)
            return
        conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        conn.initiate_connection()
        writer.write(conn.data_to_send())
        body, data = b"", start
        while data:
            for event in conn.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    self._note(body)
                    return
            writer.write(conn.data_to_send())
            data = await reader.read(65_536)

    def _note(self, body: bytes) -> None:
        self.claims.append(head_of(body)["allow_skip_idempotency_check"])


async def test_a_commit_taken_by_http2_and_not_answered_falls_back_to_http1_as_a_retry() -> None:
    server = SwallowingH2()
    async with stand_in(server) as url:
        store = RemoteStore([HttpxTransport(url)])
        await store.commit(a_commit())
        assert server.claims == [True, False]
        await store.aclose()


# --- other protocols ------------------------------------------------------------------------------------


class OnlyH2:
    """Speaks HTTP/2 and nothing else: to anything else it answers its settings, and closes."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        conn.initiate_connection()
        writer.write(conn.data_to_send())
        bodies: dict[int, bytes] = {}
        while data := await reader.read(65_536):
            try:
                events = conn.receive_data(data)
            except h2.exceptions.ProtocolError:
                return
            for event in events:
                if isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self.bodies.append(bodies.get(event.stream_id, b""))
                    headers = [(":status", "200"), ("x-committed-version", V)]
                    conn.send_headers(event.stream_id, headers)
                    conn.send_data(event.stream_id, mvstore.encode_changelog({}), end_stream=True)
            writer.write(conn.data_to_send())


async def test_a_server_of_http2_only_is_asked_by_http2() -> None:
    server = OnlyH2()
    async with stand_in(server) as url:
        store = RemoteStore([TcpTransport(url)])
        for _ in range(2):
            await store.commit(a_commit())
        large = NamespaceCommit(NS, V, [PageWrite(n, blake3(A).digest(), A) for n in range(20)])
        await asyncio.gather(*(store.commit(CommitRequest(os.urandom(16), [large], True)) for _ in range(4)))
        assert [head_of(body)["allow_skip_idempotency_check"] for body in server.bodies] == [False] + [
            True
        ] * 5
        assert store.facts()["retries"] == 0
        await store.aclose()


@contextlib.asynccontextmanager
async def over_tls(folder: Path, app: Any) -> AsyncIterator[tuple[str, Trust]]:
    ensure_own(folder / "certs", "127.0.0.1", datetime.now(UTC))
    context = certs.tls_context(folder / "certs" / certs.LEAF_CERT, folder / "certs" / certs.LEAF_KEY)
    server = TcpServer(app, TcpOptions(), lambda: context)
    await server.listen(bind_tcp("127.0.0.1", 0))
    try:
        yield f"https://127.0.0.1:{server.port}", Trust(ca=folder / "certs" / "ca.pem")
    finally:
        await server.aclose(0.5)


async def test_over_tls_the_store_is_as_in_clear_text_and_strangers_are_refused(tmp_path: Path) -> None:
    inner = EmbeddedStore.open(tmp_path / "pages", auto_create=True)
    async with over_tls(tmp_path, Application(dataplane.routes(inner, auto_create=True))) as (url, trust):
        store = await open_store(url, trust=trust, transport="h1")
        version = (await store.stat(NS)).version
        part = NamespaceCommit(NS, version, [PageWrite(0, blake3(A).digest(), A)])
        version = (await store.commit(CommitRequest(os.urandom(16), [part], True))).version
        assert (await store.read(NS, [PageRead(0, version)]))[0].data == A
        await store.aclose()
        stranger = TcpTransport(url)
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            await stranger.request(GET, 5.0)
        await stranger.aclose()
    await inner.aclose()


async def test_a_commit_whose_http3_connection_ended_goes_by_tcp_as_a_retry(tmp_path: Path) -> None:
    claims: list[bool] = []
    endpoint: Any = None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        claims.append(head_of(body)["allow_skip_idempotency_check"])
        if scope["http_version"] == "3":
            endpoint.close()
            return
        headers = [(b"x-committed-version", V.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": mvstore.encode_changelog({})})

    async with over_tls(tmp_path, app) as (url, trust):
        certificate = ensure_own(tmp_path / "certs", "127.0.0.1", datetime.now(UTC))
        tls = ServerTls(certificate.cert_pem, certificate.key_pem)
        port = int(url.rpartition(":")[2])
        endpoint = await listen("127.0.0.1", port, tls=tls, asgi_app=app, doors=None)  # type: ignore[arg-type]
        store = await open_store(url, trust=trust, cache_bytes=0)
        await store.commit(a_commit())
        assert claims == [True, False]
        await store.aclose()
