"""The TCP doors as strict and as lenient peers find them: real sockets, bytes written by hand."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from gateway import limits
from gateway.core.ports import CloseCode
from gateway.http.app import Application
from gateway.http.bodies import read_body
from gateway.http.server import bind_tcp
from gateway.http.streaming import StreamingDoor
from gateway.http.websocket import WebSocketDoor
from gateway.wire import decode_control
from tests.abuse.attackers import connected, dial, h2_frame, ws_close_code, ws_frame, ws_next, ws_open
from tests.http.conftest import Serve, Served, serve_at
from tests.http.test_server import EchoDoors, app_of
from tests.http.test_websocket_h2 import Tunnel
from tests.patience import HANG_S
from tests.runtime.conftest import until
from tests.runtime.simulated import jumping

SOMAXCONN = int(Path("/proc/sys/net/core/somaxconn").read_text())
GET = b"GET /empty HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def answer_to(served: Served, data: bytes, *, ends: bool = False) -> bytes:
    """All that the server says until it hangs up."""
    async with connected(served.port, data) as (reader, writer):
        if ends:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), HANG_S)


async def large(request: Request) -> Response:
    return Response(b"x" * int(request.query_params["size"]))


async def endless(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"y" * 10_000

    return StreamingResponse(pieces())


async def told(request: Request) -> Response:
    body = await read_body(request, 1_000_000, "--body")
    return Response(f"{request.method} {request.url.path} {request.headers['host']} {len(body)}")


def app_with(doors: EchoDoors | None = None) -> Application:
    doors = doors or EchoDoors()
    return Application(
        [
            Route("/large", large),
            Route("/endless", endless),
            Route("/told", told, methods=["GET", "POST"]),
            Route("/echo", StreamingDoor(doors), methods=["GET"]),
            WebSocketRoute("/{path:path}", WebSocketDoor(doors)),
        ]
    )


# -- HTTP/1.1 -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /empty HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET /empty HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /empty HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /empty HTTP/1.1\r\n\r\n", 400),
        (b"GET empty HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /empty HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /empty HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (
            b"GET /empty HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST /take HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (
            b"POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: v\n\r\n",
            400,
        ),
        (b"POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\n", 400),
        (b"GET /empty HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431),
    ],
)
async def test_what_two_servers_may_read_differently_is_refused_and_the_connection_ends(
    serve: Serve, request_bytes: bytes, status: int
) -> None:
    served = await serve(app_of(EchoDoors()), tls=False)
    said = await answer_to(served, request_bytes + GET)
    assert said.startswith(b"HTTP/1.1 %d " % status), said
    assert said.count(b"HTTP/1.1 ") == 1
    assert b"application/problem+json" in said


async def test_a_whole_uri_is_a_target_and_its_authority_the_host(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    said = await answer_to(
        served, b"GET http://game.example/told?a HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"
    )
    assert said.endswith(b"\r\n\r\nGET /told game.example 0")


async def test_requests_sent_ahead_are_answered_in_order_and_after_the_clients_half_close(
    serve: Serve,
) -> None:
    served = await serve(app_with(), tls=False)
    post = b"POST /told HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    said = await answer_to(
        served, b"\r\n" + post + b"GET /told HTTP/1.1\r\nHost: g\r\n\r\n" + post, ends=True
    )
    assert b"POST /told h 3HTTP/1.1 200 " in said
    assert said.count(b"HTTP/1.1 200 ") == 3
    assert said.endswith(b"POST /told h 3")


async def test_one_byte_at_a_time_is_the_same_request(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    data = b"POST /told HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3;x\r\nabc\r\n0\r\nT: v\r\n\r\n"
    async with connected(served.port) as (reader, writer):
        for byte in data:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await asyncio.wait_for(reader.read(), HANG_S)).endswith(b"POST /told h 3")


async def test_who_waits_for_it_is_told_to_go_on_with_the_body(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    head = b"POST /told HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    async with connected(served.port, head) as (reader, writer):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"abc")
        assert b"HTTP/1.1 200 " in await asyncio.wait_for(reader.read(), HANG_S)


async def test_head_and_http_1_0_end_as_they_should(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    said = await answer_to(served, b"HEAD /large?size=5 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert b"content-length: 5\r\n" in said.lower()
    assert said.endswith(b"\r\n\r\n")
    assert (await answer_to(served, b"GET /large?size=5 HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\nxxxxx")


@pytest.mark.parametrize("tls", [False, True])
async def test_a_connection_that_its_client_closes_is_gone_at_once(serve: Serve, tls: bool) -> None:
    served = await serve(app_of(EchoDoors()), tls=tls)
    for _ in range(5):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", served.port, ssl=served.client_tls if tls else None
        )
        writer.write(GET)
        assert b" 200 " in await reader.readline()
        writer.close()
    await until(lambda: served.server.connections == 0, HANG_S)


async def test_who_leaves_amid_an_answer_over_tls_is_gone_at_once_and_in_no_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve(app_with(), tls=True)
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=served.client_tls)
        writer.write(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.close()
    await until(lambda: served.server.connections == 0, HANG_S)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_answer_is_written_as_far_as_its_reader_takes_it(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        peer.connect(("127.0.0.1", served.port))
        peer.sendall(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.sleep(0.3)
        assert sum(raw.get_write_buffer_size() for raw in served.server.transports()) < 200_000
    await until(lambda: served.server.connections == 0, HANG_S)


# -- TLS ----------------------------------------------------------------------------------


async def test_a_client_that_shares_no_protocol_gets_the_alert_that_says_so(serve: Serve) -> None:
    served = await serve(app_of(EchoDoors()))
    served.client_tls.set_alpn_protocols(["spdy/3", "acme-tls/1"])
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        await asyncio.open_connection("127.0.0.1", served.port, ssl=served.client_tls)
    assert served.server.refused == {"no_application_protocol": 1}


async def test_a_hello_in_pieces_and_a_request_with_the_last_of_the_handshake_are_served(
    serve: Serve,
) -> None:
    served = await serve(app_of(EchoDoors()))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = served.client_tls.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    reader, writer = await dial(served.port)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            for byte in outgoing.read():
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            incoming.write(await asyncio.wait_for(reader.read(65_536), HANG_S))
    tls.write(GET)
    writer.write(outgoing.read())
    got = b""
    while b" 200 " not in got:
        incoming.write(await asyncio.wait_for(reader.read(65_536), HANG_S))
        try:
            got += tls.read(65_536)
        except ssl.SSLWantReadError:
            pass
    writer.close()


async def test_the_backlog_is_what_the_code_says(serve: Serve) -> None:
    sock = bind_tcp("127.0.0.1", 0)
    await serve(app_of(EchoDoors()), tls=False, sock=sock)
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
    assert struct.unpack_from("=I", info, 28)[0] == min(limits.TCP_BACKLOG, SOMAXCONN)


# -- WebSocket ----------------------------------------------------------------------------


class Peer:
    """A WebSocket by hand, over HTTP/1.1 or inside an HTTP/2 stream."""

    def __init__(self, next_frame: Callable, send: Callable, close: Callable) -> None:  # type: ignore[type-arg]
        self.next_frame, self.send, self.close = next_frame, send, close


async def peer_at(served: Served, path: str, version: str) -> Peer:
    if version == "1.1":
        reader, writer = await ws_open(served.port, path)

        async def send(data: bytes) -> None:
            writer.write(data)

        return Peer(lambda: ws_next(reader), send, writer.close)
    reader, writer = await dial(served.port)
    tunnel = Tunnel(reader, writer)
    assert await tunnel.open(path) == "200"
    buffered = asyncio.StreamReader()

    async def fill() -> None:
        while True:
            buffered.feed_data(await tunnel.read())

    filling = asyncio.ensure_future(fill())

    async def send_data(data: bytes) -> None:
        for at in range(0, len(data), 16_000):
            await tunnel.write(data[at : at + 16_000])

    def close() -> None:
        filling.cancel()
        writer.close()

    return Peer(lambda: ws_next(buffered), send_data, close)


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_the_gateway_says_why_then_closes_then_waits_for_the_peers_close(
    serve: Serve, version: str
) -> None:
    doors = EchoDoors()
    served = await serve(app_of(doors), tls=False)
    for path, said, code in (
        ("/taken", "error", CloseCode.PUBLISHER_PRESENT),
        ("/echo", "bye", CloseCode.TAKEN_OVER),
    ):
        began = time.monotonic()  # before it is said: whoever reads late sees both at once
        peer = await peer_at(served, path, version)
        if path == "/echo":
            began = time.monotonic()
            await peer.send(ws_frame(2, b"bye"))
        opcode, payload = await peer.next_frame()
        assert (opcode, decode_control(payload).type) == (2, said)
        opcode, payload = await peer.next_frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (8, 4_000 + code)
        assert time.monotonic() - began >= limits.WEBSOCKET_LAST_WORD_S * 0.9
        assert served.server.connections == 1, "it waits for our Close"
        await peer.send(ws_frame(8, payload))
        peer.close()
        await until(lambda: served.server.connections == 0, HANG_S)
    assert served.server.connections_failed == 0


async def test_a_peer_that_never_answers_a_close_is_left_after_a_second(serve: Serve) -> None:
    served = await serve(app_of(EchoDoors()), tls=False)
    reader, writer = await ws_open(served.port, "/taken")
    assert await ws_close_code(reader) == 4_000 + CloseCode.PUBLISHER_PRESENT
    began = time.monotonic()
    assert await asyncio.wait_for(reader.read(), HANG_S) == b""
    assert time.monotonic() - began > 0.5
    writer.close()


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (ws_frame(3, b"x"), 1002),
        (ws_frame(2, b"x", rsv1=True), 1002),
        (b"\x82\x01x", 1002),
        (ws_frame(1, b"\xff"), 1007),
        (ws_frame(2, bytes(30_000)), 1009),
    ],
)
async def test_a_breach_has_the_same_code_over_both_versions(
    serve: Serve, version: str, frame: bytes, code: int
) -> None:
    doors = EchoDoors()
    served = await serve(app_of(doors), tls=False, message_bytes_max=20_000)
    peer = await peer_at(served, "/echo", version)
    await peer.send(frame)
    opcode, payload = await asyncio.wait_for(peer.next_frame(), HANG_S)
    assert (opcode, int.from_bytes(payload[:2], "big")) == (8, code)
    await asyncio.wait_for(doors.sessions[0].closed.wait(), HANG_S)
    peer.close()
    by_bound = {"max_message_bytes": 1} if code == 1009 else {}
    assert served.server.refused == {f"websocket_{code}": 1, **by_bound}


async def test_a_peers_close_is_answered_with_its_code(serve: Serve) -> None:
    served = await serve(app_of(EchoDoors()), tls=False)
    reader, writer = await ws_open(served.port, "/echo")
    writer.write(ws_frame(8, (1001).to_bytes(2, "big") + b"bye"))
    assert await ws_close_code(reader) == 1001
    assert await asyncio.wait_for(reader.read(), HANG_S) == b""
    writer.close()


async def test_compression_is_offered_in_vain(serve: Serve) -> None:
    served = await serve(app_of(EchoDoors()), tls=False)
    async with connected(served.port) as (reader, writer):
        writer.write(
            b"GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, "RFC 6455 section 1.3"
    assert b"extensions" not in head.lower()


@pytest.mark.parametrize("version", [b"8", b"", b"0", b"13, 8"])
async def test_another_websocket_version_is_told_which_one_is_spoken(serve: Serve, version: bytes) -> None:
    served = await serve(app_of(EchoDoors()), tls=False)
    said = await answer_to(
        served,
        b"GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: " + version + b"\r\n\r\n",
    )
    assert said.startswith(b"HTTP/1.1 426 ")
    assert b"\r\nsec-websocket-version: 13\r\n" in said


@pytest.mark.parametrize("key", [b"", b"c2hvcnQ=", b"!!!!"])
async def test_a_handshake_without_a_key_is_refused(serve: Serve, key: bytes) -> None:
    served = await serve(app_of(EchoDoors()), tls=False)
    said = await answer_to(
        served,
        b"GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n",
    )
    assert said.startswith(b"HTTP/1.1 400 ")


async def test_an_upgrade_to_something_else_is_passed_over(serve: Serve) -> None:
    served = await serve(app_of(EchoDoors()), tls=False)
    said = await answer_to(
        served,
        b"GET /empty HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"HTTP2-Settings: AAMAAABk\r\n\r\n" + GET,
        ends=True,
    )
    assert said.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_silent_session_is_pinged_and_ends_if_nobody_answers(certs_folder: Path, version: str) -> None:
    async def is_pinged() -> None:
        doors = EchoDoors()
        served = await serve_at(certs_folder, app_of(doors), tls=False)
        began = time.monotonic()
        peer = await peer_at(served, "/echo", version)
        for n in range(1, 4):
            assert await peer.next_frame() == (9, b"")
            assert time.monotonic() - began >= n * limits.WEBSOCKET_PING_S
            assert not doors.sessions[0].closed.is_set()
            await peer.send(ws_frame(10, b""))
        await doors.sessions[0].closed.wait()
        assert time.monotonic() - began >= 4 * limits.WEBSOCKET_PING_S + limits.WEBSOCKET_PONG_S
        peer.close()
        assert served.server.refused == {"silent": 1}
        await served.server.aclose(0.2)

    with jumping() as (loop, _):  # a machine that stands still for a second is no silence of twenty
        loop.run_until_complete(asyncio.wait_for(is_pinged(), 10 * limits.WEBSOCKET_PING_S))


async def test_a_quiet_event_stream_says_a_comment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SSE_COMMENT_S", 0.1)
    served = await serve(app_of(EchoDoors()), tls=False)
    async with connected(
        served.port, b"GET /echo HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n"
    ) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(2):
            chunk = await asyncio.wait_for(reader.readuntil(b"\n\n"), HANG_S)
            assert chunk.endswith(b"\r\n: still here\n\n")
            await reader.readline()


# -- HTTP/2 -------------------------------------------------------------------------------


class Client2:
    """h2 on a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.events: list[h2.events.Event] = []
        self.h2.initiate_connection()

    def ask(self, stream: int, path: str, method: str = "GET", end: bool = True) -> None:
        head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")]
        self.h2.send_headers(stream, head, end_stream=end)
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    async def until(self, kind: type[h2.events.Event], stream: int | None = None) -> h2.events.Event:
        while True:
            for event in self.events:
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    self.events.remove(event)
                    return event
            data = await asyncio.wait_for(self.reader.read(65_536), HANG_S)
            assert data, "the server hung up"
            self.events += self.h2.receive_data(data)
            self.flush()

    def received(self, stream: int) -> int:
        return sum(
            len(e.data)
            for e in self.events
            if isinstance(e, h2.events.DataReceived) and e.stream_id == stream
        )


async def test_streams_of_one_connection_take_turns_and_windows_are_kept(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    async with connected(served.port) as (reader, writer):
        client = Client2(reader, writer)
        client.h2.increment_flow_control_window(1_000_000)
        client.ask(1, "/large?size=200000")
        client.ask(3, "/large?size=200000")
        client.ask(5, "/told")
        await client.until(h2.events.StreamEnded, 5)
        for stream in (1, 3):
            while client.received(stream) < 65_535:
                client.events += client.h2.receive_data(await asyncio.wait_for(reader.read(65_536), HANG_S))
            assert client.received(stream) == 65_535, "not a byte over its window"
        for stream in (1, 3):
            client.h2.increment_flow_control_window(200_000, stream)
        client.flush()
        for stream in (1, 3):
            await client.until(h2.events.StreamEnded, stream)
            assert client.received(stream) == 200_000


async def test_a_body_larger_than_every_window_is_taken(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    async with connected(served.port) as (reader, writer):
        client = Client2(reader, writer)
        client.ask(1, "/told", "POST", end=False)
        left = 500_000
        while left:
            size = min(left, client.h2.local_flow_control_window(1), 16_384)
            if size:
                client.h2.send_data(1, bytes(size), end_stream=size == left)
                client.flush()
                left -= size
            else:
                await client.until(h2.events.WindowUpdated)
        await client.until(h2.events.StreamEnded, 1)
        data = [e.data for e in client.events if isinstance(e, h2.events.DataReceived)]
        assert b"".join(data).endswith(b" 500000")


async def test_a_request_that_is_taken_back_ends_its_answer_and_nothing_else(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    async with connected(served.port) as (reader, writer):
        client = Client2(reader, writer)
        client.ask(1, "/endless")
        await client.until(h2.events.DataReceived, 1)
        client.h2.reset_stream(1)
        client.h2.increment_flow_control_window(1_000_000)
        client.ask(3, "/told")
        await client.until(h2.events.StreamEnded, 3)
    await until(lambda: served.server.connections == 0)


async def test_a_client_that_says_goaway_still_gets_what_it_has_asked(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    async with connected(served.port) as (reader, writer):
        client = Client2(reader, writer)
        client.ask(1, "/told", "POST", end=False)
        writer.write(h2_frame(7, 0, 0, bytes(8)))
        client.h2.send_data(1, b"abc", end_stream=True)
        client.flush()
        await client.until(h2.events.StreamEnded, 1)
        assert await asyncio.wait_for(reader.read(), HANG_S) == b"", "and then it is over"


async def test_connect_without_websocket_is_refused(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    async with connected(served.port) as (reader, writer):
        client = Client2(reader, writer)
        client.h2.send_headers(1, [(":method", "CONNECT"), (":authority", "game.example:443")])
        client.flush()
        answer = await client.until(h2.events.ResponseReceived, 1)
        assert dict(answer.headers)[":status"] == "501"  # type: ignore[attr-defined]


async def test_a_stopping_door_says_goaway_and_finishes_what_is_under_way(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    async with connected(served.port) as (reader, writer):
        client = Client2(reader, writer)
        client.ask(1, "/large?size=100000")
        await client.until(h2.events.DataReceived, 1)
        stopping = asyncio.ensure_future(served.server.aclose(5))
        goaway = await client.until(h2.events.ConnectionTerminated)
        assert goaway.error_code == 0  # type: ignore[attr-defined]
        client.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        client.h2.increment_flow_control_window(100_000, 1)
        client.h2.increment_flow_control_window(100_000)
        client.flush()
        await client.until(h2.events.StreamEnded, 1)
        await asyncio.wait_for(stopping, HANG_S)


async def test_every_answer_forbids_guessing_what_it_is(serve: Serve) -> None:
    served = await serve(app_with(), tls=False)
    for path in (b"/told", b"/nowhere"):
        said = await answer_to(served, b"GET " + path + b" HTTP/1.0\r\nHost: h\r\n\r\n")
        assert b"\r\nx-content-type-options: nosniff\r\n" in said.lower()
