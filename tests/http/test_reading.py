"""What connections read at once, and what a request leaves behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import limits
from gateway.http.app import Application
from gateway.http.tcp.exchange import HttpExchange
from gateway.http.tcp.http1 import Http1
from tests.abuse.attackers import dial
from tests.http.conftest import Serve

BODY = bytes(range(256)) * 8_192


async def counted(request: Request) -> Response:
    return Response(str(len(await request.body())))


def app() -> Application:
    return Application([Route("/counted", counted, methods=["POST"])])


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "https"])
async def test_a_flood_is_read_in_pieces_of_a_bounded_size(
    serve: Serve, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    receive = Http1.receive

    def noted(self: Http1, data: bytes) -> None:
        sizes.append(len(data))
        receive(self, data)

    monkeypatch.setattr(Http1, "receive", noted)
    served = await serve(app(), tls=tls)
    head = b"POST /counted HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", served.port, ssl=served.client_tls if tls else None
    )
    writer.write(head + BODY)
    assert b" 200 " in await reader.readline()
    assert sum(sizes) == len(head) + len(BODY)
    first = 1 if tls else 0  # what came while the protocol was being chosen is handed over together
    assert max(sizes[first:]) <= limits.TCP_READ_BYTES_MAX
    writer.close()


def _begun(monkeypatch: pytest.MonkeyPatch) -> weakref.WeakSet[HttpExchange]:
    """Those of the exchanges begun from now on that are still there."""
    alive: weakref.WeakSet[HttpExchange] = weakref.WeakSet()
    begin = HttpExchange.__init__

    def noted(self: HttpExchange, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        alive.add(self)

    monkeypatch.setattr(HttpExchange, "__init__", noted)
    return alive


async def test_a_request_leaves_nothing_for_the_collector(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = _begun(monkeypatch)
    served = await serve(app(), tls=False)
    reader, writer = await dial(served.port)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            writer.write(b"POST /counted HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
            await reader.readuntil(b"\r\n\r\n3")
        left = len(alive)
    finally:
        gc.enable()
    assert left <= 2, "the last one, and one whose task is about to end"
    writer.close()


async def test_requests_sent_far_ahead_are_forgotten_as_they_are_answered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = _begun(monkeypatch)
    served = await serve(app(), tls=False)
    reader, writer = await dial(served.port)
    asked = b"POST /counted HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
    times = 4 * limits.HTTP_INBOX_BYTES_MAX // len(asked)
    writer.write(asked * times)
    for _ in range(times):
        await reader.readuntil(b"\r\n\r\n3")
    gc.collect()
    assert len(alive) <= 2
    writer.close()
