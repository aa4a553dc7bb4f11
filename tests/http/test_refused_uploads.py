"""A refusal reaches a client that is still sending, also one that reads only when it has sent all or could not
(RFC 9112 section 9.6, RFC 9113 section 8.1)."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
from starlette.types import Receive, Scope, Send

from gateway import limits
from gateway.http.tcp.conversation import Conversation
from gateway.http.tcp.http1 import Http1
from gateway.http.tcp.http2 import Http2
from gateway.http.tcp.service import TcpOptions, TcpService
from tests.abuse.attackers import DATA, PREFACE, connected, h2_frame, h2_request, h2_settings
from tests.http.conftest import Serve, Served
from tests.http.test_tcp_fuzz import settled, talk
from tests.patience import HANG_S

BODY_BYTES = limits.HTTP_LINGER_BYTES_MAX - 2**20
WORDS = b"send less at once"


async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads nothing of a body."""
    headers = [(b"content-length", b"%d" % len(WORDS))]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": WORDS})


def sends_first(served: Served, size: int) -> bytes:
    """What a client has read in the end that looks up only when it has sent all, or could not."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=HANG_S) as plain:
        sock = served.client_tls.wrap_socket(plain, server_hostname="localhost") if served.tls else plain
        told = b""
        try:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
            sock.sendall(bytes(size))
        except OSError:
            pass
        try:
            while piece := sock.recv(65_536):
                told += piece
        except (ConnectionError, ssl.SSLError):
            pass
        return told


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("size", [BODY_BYTES, 3 * BODY_BYTES])
async def test_a_client_that_sends_first_and_reads_later_is_told_why_not_and_that_this_is_the_end(
    serve: Serve, tls: bool, size: int
) -> None:
    served = await serve(refusing, tls=tls)
    told = await asyncio.to_thread(sends_first, served, size)
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in head.lower().split(b"\r\n")
    assert body == WORDS


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("tls", [False, True])
async def test_httpx_is_told_which_sends_first(serve: Serve, tls: bool, version: str) -> None:
    served = await serve(refusing, tls=tls)
    async with httpx.AsyncClient(
        verify=served.client_tls, http1=version == "1.1", http2=version == "2"
    ) as client:
        for _ in range(2):
            answer = await client.post(served.url("/"), content=bytes(BODY_BYTES // 2))
            assert (answer.status_code, answer.content) == (413, WORDS)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("tls", [False, True])
async def test_curl_is_told_which_gives_up_at_a_reset(
    serve: Serve, tls: bool, version: str, tmp_path: Path
) -> None:
    served = await serve(refusing, tls=tls)
    (tmp_path / "body").write_bytes(bytes(BODY_BYTES))
    flag = version if tls or version == "--http1.1" else "--http2-prior-knowledge"
    done = await asyncio.to_thread(
        subprocess.run,
        [
            *("curl", "-sS", flag, "--cacert", str(served.ca), "-w", " %{http_code}"),
            *("--data-binary", f"@{tmp_path / 'body'}", served.url("/")),
        ],
        capture_output=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    assert done.stdout == WORDS + b" 413", done.stderr


async def test_a_stream_whose_answer_is_out_goes_on_to_its_end_and_is_then_not_reset(serve: Serve) -> None:
    served = await serve(refusing, tls=False)
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    client.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", "/")])
    seen: list[h2.events.Event] = []
    async with connected(served.port, client.data_to_send()) as (reader, writer):

        async def until(kind: type[h2.events.Event]) -> None:
            while not any(isinstance(event, kind) for event in seen):
                data = await asyncio.wait_for(reader.read(65_536), HANG_S)
                assert data, "the server hung up"
                seen.extend(client.receive_data(data))
                writer.write(client.data_to_send())

        await until(h2.events.StreamEnded)
        sent = 0
        while sent < BODY_BYTES // 2:
            room = min(client.local_flow_control_window(1), client.max_outbound_frame_size)
            if not room:
                seen = [event for event in seen if not isinstance(event, h2.events.WindowUpdated)]
                await until(h2.events.WindowUpdated)
                continue
            client.send_data(1, bytes(room))
            writer.write(client.data_to_send())
            sent += room
        client.end_stream(1)
        client.ping(b"are over")
        writer.write(client.data_to_send())
        await until(h2.events.PingAckReceived)
    assert not any(isinstance(event, h2.events.StreamReset) for event in seen)


def open_stream(conversation: Conversation) -> None:
    ask = h2_request(1, "/", method="POST", end=False)
    conversation.data_received(PREFACE + h2_settings() + ask)


async def refused_stream() -> tuple[Http2, bytearray]:
    """A connection whose one stream has its answer and goes on sending; what was written."""
    conversation, transport = talk(Http2, TcpService(refusing, TcpOptions()))
    assert isinstance(conversation, Http2)
    open_stream(conversation)
    await settled()
    assert conversation.streams
    return conversation, transport.written


NO_ERROR = h2_frame(3, 0, 1, bytes(4))


async def test_a_stream_that_is_silent_after_its_answer_is_reset_without_an_error() -> None:
    conversation, written = await refused_stream()
    conversation.expire(conversation.loop.time() + limits.HTTP_LINGER_S_MAX * 0.9)
    assert NO_ERROR not in written
    conversation.expire(conversation.loop.time() + limits.HTTP_LINGER_S_MAX * 1.1)
    assert NO_ERROR in written
    assert not conversation.streams


async def test_a_stream_that_never_ends_after_its_answer_is_reset_at_the_bounds_of_time_and_of_bytes() -> (
    None
):
    conversation, written = await refused_stream()
    (stream,) = conversation.streams.values()
    stream._heard_at = began = conversation.loop.time() + limits.HTTP_LINGER_WHOLE_S_MAX
    conversation.expire(began)
    assert NO_ERROR in written

    conversation, written = await refused_stream()
    piece = h2_frame(DATA, 0, 1, bytes(16_384))
    sent = 0
    while NO_ERROR not in written:
        conversation.data_received(piece)
        await settled()
        sent += 16_384
        assert sent <= limits.HTTP_LINGER_BYTES_MAX + 16_384
    assert sent > BODY_BYTES // 2
    assert not conversation.streams


async def test_a_connection_that_is_over_waits_on_while_something_comes_and_not_for_ever() -> None:
    conversation, _ = talk(Http1, TcpService(refusing, TcpOptions()))
    conversation.data_received(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
    await settled()
    assert conversation.is_ending
    first, whole = conversation.deadline, conversation._linger_until
    assert whole == pytest.approx(first - limits.HTTP_LINGER_S_MAX + limits.HTTP_LINGER_WHOLE_S_MAX)
    while conversation.deadline == first:
        await asyncio.sleep(0)
        conversation.data_received(b"x")
    assert first < conversation.deadline < whole
    conversation._linger_until = first
    conversation.data_received(b"x")
    assert conversation.deadline == first
