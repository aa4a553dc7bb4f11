"""What the client of HTTP/2 and of lines asks, by which protocol, whom it trusts, and what it says when that fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import limits
from gateway.errors import GatewayError, StoreUnavailable
from gateway.http.server import TcpOptions, TcpServer, bind_tcp
from gateway.store.remote import Ask, HttpxTransport, TcpTransport
from tests.patience import HANG_S
from tests.store.remote.test_tcp import GET, over_tls, request_of, stand_in


class Versions:
    """Answers with the version of HTTP that it was asked by, and notes it. Asked for ``/breaks`` it breaks off."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["http_version"])
        while (await receive()).get("more_body", False):
            pass
        if scope["path"] == "/breaks":
            raise RuntimeError
        body = scope["http_version"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    server = TcpServer(app, TcpOptions())
    await server.listen(bind_tcp("127.0.0.1", 0))
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.aclose(0.5)


def _ask(size: int) -> Ask:
    return Ask("POST", "/batch/write", {}, bytes(size), 100)


async def test_large_bodies_go_by_http1_and_all_else_by_http2() -> None:
    most = limits.STORE_H2_BODY_BYTES_MAX
    async with served(Versions()) as url:
        transport = HttpxTransport(url)
        found = [(await transport.request(_ask(size), HANG_S)).body for size in (0, most, most + 1, 1)]
        assert found == [b"2", b"2", b"1.1", b"2"]
        await transport.aclose()
        only = HttpxTransport(url, fallback=False)
        assert (await only.request(_ask(most + 1), HANG_S)).body == b"2"
        await only.aclose()
        without = HttpxTransport(url, http2=False)
        assert (await without.request(_ask(1), HANG_S)).body == b"1.1"
        await without.aclose()


async def test_a_server_that_has_answered_by_http2_is_not_asked_by_http1_when_it_goes_away() -> None:
    """It was its network, or itself: its protocol is known."""
    app = Versions()
    async with served(app) as url:
        transport = HttpxTransport(url)
        assert (await transport.request(_ask(1), HANG_S)).body == b"2"
    asked: list[bytes] = []

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    port = int(url.rpartition(":")[2])
    server = await asyncio.start_server(other, "127.0.0.1", port)
    try:
        with pytest.raises(StoreUnavailable):
            await transport.request(_ask(1), HANG_S)
        assert [line for line in asked if not line.startswith(b"PRI ")] == []
    finally:
        server.close()
        await transport.aclose()


async def test_who_is_trusted_for_pages_is_trusted_for_lines_and_by_either_protocol(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["http_version"].encode()})

    async with over_tls(tmp_path, app) as (url, trust):
        tls = trust.ssl_context()
        for transport in (
            HttpxTransport(url, tls=tls),
            HttpxTransport(url, tls=tls, http2=False),
            TcpTransport(url, tls=tls),
        ):
            assert (await transport.request(GET, HANG_S)).status == 200
            assert [line async for line in transport.lines(GET, HANG_S)] == ["1.1"]
            await transport.aclose()
        stranger = HttpxTransport(url)
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            await stranger.request(GET, HANG_S)
        await stranger.aclose()


@pytest.mark.parametrize(
    ("status", "refused"), [(200, False), (299, False), (300, True), (301, True), (500, True)]
)
async def test_lines_are_those_of_a_success(status: int, refused: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 4\r\n\r\none\n" % status)

    async with stand_in(serve) as url:
        transport = HttpxTransport(url, http2=False)
        found: list[str] = []
        with pytest.raises(GatewayError) if refused else contextlib.nullcontext():
            found += [line async for line in transport.lines(GET, HANG_S)]
        assert found == ([] if refused else ["one"])
        await transport.aclose()


async def test_why_a_server_cannot_be_reached_is_said() -> None:
    sock = bind_tcp("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    sock.close()
    transport = HttpxTransport(url)
    with pytest.raises(StoreUnavailable, match=r"cannot be reached: .*connect") as refused:
        await transport.request(GET, HANG_S)
    assert url in str(refused.value)
    await transport.aclose()


async def test_an_answer_that_has_begun_is_waited_for_as_long_as_an_answer_may_take_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STORE_ANSWER_S_MAX", 0.05)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\non")
        await asyncio.Event().wait()

    async with stand_in(serve) as url:
        transport = HttpxTransport(url, http2=False)
        async with asyncio.timeout(HANG_S):
            with pytest.raises(StoreUnavailable, match="did not answer"):
                await transport.request(GET, 2 * HANG_S)
        await transport.aclose()
