"""The TCP server: HTTP/1.1, HTTP/2 and WebSocket with and without TLS, with real clients."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence

import httpx
import pytest
import websockets
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from gateway.core.ports import CloseCode, Link, Session
from gateway.errors import NotFound, PublisherPresent
from gateway.http.app import Application
from gateway.http.bodies import read_body
from gateway.http.streaming import StreamingDoor
from gateway.http.websocket import WebSocketDoor
from gateway.wire import Frame, Record, decode_control, encode_control, encode_frame, prefix
from tests.abuse.attackers import dial
from tests.http.conftest import Serve
from tests.patience import HANG_S

FRAME = encode_frame(Frame(1, 7, [Record(5, b"five"), Record(6, None)], keyframe=True))


class Echo:
    """A session that sends back what it gets; ``bye`` ends it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.closed = asyncio.Event()

    def on_message(self, data: bytes, mono: float) -> None:
        if data == b"bye":
            self.link.control(encode_control("bye", reason="asked"))
            self.link.close(CloseCode.TAKEN_OVER, "asked")
        else:
            self.link.send(data, 1)

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None: ...

    def on_stream_reset(self, stream_id: int) -> None: ...

    def on_acked(self, token: int, count: int = 1) -> None: ...

    def on_lost(self, token: int) -> None: ...

    def on_writable(self, mono: float) -> None: ...

    def on_closed(self, mono: float) -> None:
        self.closed.set()


class EchoDoors:
    """Opens an :class:`Echo` at ``/echo``, refuses ``/taken``, knows nothing else."""

    def __init__(self, greeting: Sequence[bytes] = ()) -> None:
        self.greeting = greeting
        self.sessions: list[Echo] = []

    async def open_at(self, path: str, query: str, headers: Mapping[str, str], link: Link) -> Session:
        if path == "/taken":
            raise PublisherPresent("somebody publishes already")
        if path != "/echo":
            raise NotFound(f"nothing at {path}")
        self.sessions.append(Echo(link))
        for message in self.greeting:
            link.control(message)
        return self.sessions[-1]


async def take(request: Request) -> Response:
    return Response(str(len(await read_body(request, 100_000, "--body"))))


async def empty(request: Request) -> Response:
    return Response()


async def broken(request: Request) -> Response:
    raise RuntimeError("a mistake in a handler")


def app_of(doors: EchoDoors) -> Application:
    return Application(
        [
            Route("/take", take, methods=["POST"]),
            Route("/empty", empty),
            Route("/broken", broken),
            Route("/echo", StreamingDoor(doors), methods=["GET"]),
            Route("/taken", StreamingDoor(doors), methods=["GET"]),
            WebSocketRoute("/{path:path}", WebSocketDoor(doors)),
        ]
    )


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("tls", [False, True])
async def test_requests_over_both_versions_with_and_without_tls(serve: Serve, http2: bool, tls: bool) -> None:
    served = await serve(app_of(EchoDoors()), tls=tls)
    async with httpx.AsyncClient(verify=served.client_tls, http1=not http2, http2=http2) as client:
        answer = await client.post(served.url("/take"), content=b"x" * 50_000)
    assert (answer.status_code, answer.text) == (200, "50000")
    assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert answer.headers["alt-svc"] == 'h3=":4433"; ma=86400'


@pytest.mark.parametrize("http2", [False, True])
async def test_an_empty_body_says_that_it_is_empty(serve: Serve, http2: bool) -> None:
    served = await serve(app_of(EchoDoors()))
    async with httpx.AsyncClient(verify=served.client_tls, http1=not http2, http2=http2) as client:
        answer = await client.get(served.url("/empty"))
    assert answer.headers["content-length"] == "0"


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/take", 405, "method_not_allowed"),
        ("GET", "/broken", 500, "internal_server_error"),
        ("POST", "/take", 413, "too_large"),
        ("GET", "/taken", 409, "publisher_present"),
        ("GET", "/nothing", 404, "not_found"),
    ],
)
async def test_every_refusal_is_a_problem_document(
    serve: Serve, http2: bool, method: str, path: str, status: int, code: str
) -> None:
    served = await serve(app_of(EchoDoors()))
    body = b"x" * 300_000 if method == "POST" else b""
    async with httpx.AsyncClient(verify=served.client_tls, http1=not http2, http2=http2) as client:
        answer = await client.request(method, served.url(path), content=body)
        again = await client.post(served.url("/take"), content=b"still here")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["detail"]
    assert again.text == "10"


async def test_a_chunked_body_over_the_bound_is_refused_and_the_refusal_arrives(serve: Serve) -> None:
    served = await serve(app_of(EchoDoors()))

    async def pieces():  # type: ignore[no-untyped-def]
        for _ in range(20):
            yield b"x" * 10_000

    async with httpx.AsyncClient(verify=served.client_tls) as client:
        answer = await client.post(served.url("/take"), content=pieces())
    assert answer.status_code == 413


async def test_a_request_that_is_not_http_is_refused_and_others_go_on(serve: Serve) -> None:
    served = await serve(app_of(EchoDoors()), tls=False)
    reader, writer = await dial(served.port)
    writer.write(b"\x00\x01 this is not a request\r\n\r\n")
    assert b"400" in await reader.readline()
    writer.close()
    async with httpx.AsyncClient() as client:
        assert (await client.get(served.url("/empty"))).status_code == 200


async def test_a_connection_that_speaks_no_tls_is_dropped_and_counted(serve: Serve) -> None:
    served = await serve(app_of(EchoDoors()))
    reader, writer = await dial(served.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.read()
    writer.close()
    async with asyncio.timeout(HANG_S):
        while not served.server.handshakes_failed:  # noqa: ASYNC110 (a counter is no event)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_tls_versions_are_served(serve: Serve, version: ssl.TLSVersion) -> None:
    served = await serve(app_of(EchoDoors()))
    context = ssl.create_default_context(cafile=str(served.ca))
    context.minimum_version = context.maximum_version = version
    async with httpx.AsyncClient(verify=context) as client:
        assert (await client.get(served.url("/empty"))).status_code == 200


async def test_curl_talks_http_1_and_http_2(serve: Serve) -> None:
    served = await serve(app_of(EchoDoors()))
    for flag, version in (("--http1.1", "1.1"), ("--http2", "2")):
        process = await asyncio.create_subprocess_exec(
            *("curl", "-sS", flag, "--cacert", str(served.ca), "-d", "12345", "-w", " %{http_version}"),
            served.url("/take"),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert out.decode() == f"5 {version}"


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("size", [1, 125, 126, 65_535])
async def test_websocket_messages_go_both_ways(serve: Serve, tls: bool, size: int) -> None:
    doors = EchoDoors()
    served = await serve(app_of(doors), tls=tls)
    context = served.client_tls if tls else None
    async with websockets.connect(served.url("/echo", "ws"), ssl=context) as socket:
        await socket.send(b"m" * size)
        assert await socket.recv() == b"m" * size
    await asyncio.wait_for(doors.sessions[0].closed.wait(), HANG_S)


async def test_the_gateway_ends_a_websocket_with_bye_and_a_close_code(serve: Serve) -> None:
    doors = EchoDoors()
    served = await serve(app_of(doors))
    async with websockets.connect(served.url("/echo", "ws"), ssl=served.client_tls) as socket:
        await socket.send(b"bye")
        farewell = await socket.recv()
        assert isinstance(farewell, bytes)
        assert decode_control(farewell).type == "bye"
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4_000 + CloseCode.TAKEN_OVER
    await asyncio.wait_for(doors.sessions[0].closed.wait(), HANG_S)


@pytest.mark.parametrize(
    ("path", "code"), [("/taken", CloseCode.PUBLISHER_PRESENT), ("/nowhere", CloseCode.ERROR)]
)
async def test_a_refused_websocket_hears_why(serve: Serve, path: str, code: CloseCode) -> None:
    served = await serve(app_of(EchoDoors()))
    async with websockets.connect(served.url(path, "ws"), ssl=served.client_tls) as socket:
        message = await socket.recv()
        assert isinstance(message, bytes)
        assert decode_control(message).type == "error"
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4_000 + code


@pytest.mark.parametrize("http2", [False, True])
async def test_a_streamed_get_gives_length_prefixed_messages(serve: Serve, http2: bool) -> None:
    doors = EchoDoors([FRAME, encode_control("durable", epoch=1, tick=7)])
    served = await serve(app_of(doors))
    wanted = b"".join(map(prefix, doors.greeting))
    async with (
        httpx.AsyncClient(verify=served.client_tls, http1=not http2, http2=http2) as client,
        client.stream("GET", served.url("/echo")) as answer,
    ):
        assert answer.headers["content-type"] == "application/vnd.mvgateway.frames"
        got = b""
        async for piece in answer.aiter_bytes():
            got += piece
            if len(got) >= len(wanted):
                break
    assert got == wanted
    await asyncio.wait_for(doors.sessions[0].closed.wait(), HANG_S)


async def test_an_event_stream_gives_json(serve: Serve) -> None:
    doors = EchoDoors([FRAME, encode_control("durable", epoch=1, tick=7)])
    served = await serve(app_of(doors))
    async with (
        httpx.AsyncClient(verify=served.client_tls) as client,
        client.stream("GET", served.url("/echo"), headers={"accept": "text/event-stream"}) as answer,
    ):
        lines = answer.aiter_lines()
        assert await anext(lines) == "event: frame"
        frame = json.loads((await anext(lines)).removeprefix("data: "))
        assert await anext(lines) == ""
        assert await anext(lines) == "event: durable"
    assert (frame["epoch"], frame["tick"], frame["keyframe"]) == (1, 7, True)
    assert frame["records"] == {"5": "Zml2ZQ==", "6": None}


async def test_an_answer_under_way_is_finished_while_the_server_stops(serve: Serve) -> None:
    doors = EchoDoors([FRAME])
    served = await serve(app_of(doors))
    async with (
        httpx.AsyncClient(verify=served.client_tls) as client,
        client.stream("GET", served.url("/echo")) as answer,
    ):
        pieces = answer.aiter_bytes()
        await anext(pieces)
        stopping = asyncio.ensure_future(served.server.aclose(5.0))
        doors.sessions[0].link.control(encode_control("bye", reason="stopping"))
        doors.sessions[0].link.close(CloseCode.SHUTTING_DOWN, "stopping")
        rest = b"".join([piece async for piece in pieces])
        assert b'"bye"' in rest
    await stopping


@pytest.mark.parametrize("http2", [False, True])
async def test_a_body_that_nobody_reads_does_not_cost_the_connection(serve: Serve, http2: bool) -> None:
    served = await serve(app_of(EchoDoors()))
    async with httpx.AsyncClient(verify=served.client_tls, http1=not http2, http2=http2) as client:
        for _ in range(3):
            answer = await client.request("GET", served.url("/empty"), content=b"x" * 100_000)
            assert answer.status_code == 200
    assert served.server.connections_failed == 0
