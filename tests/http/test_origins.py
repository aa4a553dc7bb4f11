"""A page of another site reaches no door: not by requests, WebSocket or WebTransport; a listed one may read."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from gateway import config, quic
from gateway.config import Settings
from gateway.errors import GatewayError
from gateway.http.entities_requests import headers_of
from gateway.runtime.gateway import Gateway
from gateway.wire import decode_control
from gateway.wire.entities.values import Entity
from tests.http.test_server import Echo
from tests.patience import HANG_S

EVIL, GAME, LOCAL = "https://evil.example", "https://game.example", "http://localhost:8000"
Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    running: list[Gateway] = []

    async def start(**changes: Any) -> Gateway:
        folders: dict[str, Any] = {"store": str(tmp_path / "store"), "certs": str(tmp_path / "certs")}
        settings = Settings(port=0, plain="127.0.0.1:0", drain_ms=1_000, **folders, **changes)
        running.append(await Gateway.start(settings))
        return running[-1]

    yield start
    for gateway in running:
        await gateway.drain(0.5)


def tls_of(gateway: Gateway) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(gateway.certificates.ca_path))


def plain_port(gateway: Gateway) -> int:
    assert gateway.plain_server is not None
    return gateway.plain_server.port


async def by_tcp(
    gateway: Gateway, http2: bool, tls: bool, method: str, path: str, **more: Any
) -> tuple[int, dict[str, str], bytes]:
    base = f"https://127.0.0.1:{gateway.port}" if tls else f"http://127.0.0.1:{plain_port(gateway)}"
    async with httpx.AsyncClient(
        verify=tls_of(gateway), http1=not http2, http2=http2, base_url=base
    ) as client:
        answer = await client.request(method, path, **more)
    return answer.status_code, dict(answer.headers), answer.content


async def by_quic(
    gateway: Gateway, method: str, path: str, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    status, told, body = await quic.h3_request(
        "127.0.0.1", gateway.port, method, path, trust=trust_of(gateway), headers=raw(headers)
    )
    return status, {name.decode(): value.decode() for name, value in told}, body


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def trust_of(gateway: Gateway) -> quic.QuicTrust:
    assert gateway.certificates.ca_path is not None
    return quic.QuicTrust(ca_pem=Path(gateway.certificates.ca_path).read_bytes())


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_foreign_page_changes_nothing_by_a_simple_request(
    start: Start, http2: bool, tls: bool
) -> None:
    gateway = await start()
    await by_tcp(gateway, http2, tls, "PUT", "/v1/worlds/w")
    for origin in (EVIL, "null"):
        status, headers, body = await by_tcp(
            gateway, http2, tls, "DELETE", "/v1/worlds/w", headers={"origin": origin}
        )
        assert (status, headers["content-type"]) == (403, "application/problem+json")
        assert b'"origin_refused"' in body
        assert b"--allow-origin" in body
        assert origin.encode() in body
        assert "access-control-allow-origin" not in headers
    posted = await by_tcp(
        gateway, http2, tls, "POST", "/v1/worlds/x/frames", headers={"origin": EVIL}, content=b"x" * 300_000
    )
    assert posted[0] == 403
    assert (await by_tcp(gateway, http2, tls, "GET", "/v1/worlds/w"))[0] == 200
    assert gateway.app.answers[403] == 3


async def test_a_foreign_page_and_a_foreign_name_are_refused_over_http3(start: Start) -> None:
    gateway = await start()
    assert (await by_quic(gateway, "GET", "/v1/worlds", {"origin": EVIL}))[0] == 403
    assert (await by_quic(gateway, "GET", "/v1/worlds", {"host": "rebound.example"}))[0] == 421
    status, headers, _ = await by_quic(gateway, "GET", "/v1/worlds", {"origin": LOCAL})
    assert (status, headers["access-control-allow-origin"]) == (200, LOCAL)
    assert (await by_quic(gateway, "GET", "/v1/worlds", {}))[0] == 200


@pytest.mark.parametrize("tls", [False, True])
async def test_a_name_that_was_made_to_point_here_is_refused(start: Start, tls: bool) -> None:
    gateway = await start()
    for headers in (
        {"host": "rebound.example"},
        {"host": "rebound.example:7080", "origin": "http://rebound.example:7080"},
    ):
        status, _, body = await by_tcp(gateway, False, tls, "GET", "/v1/worlds", headers=headers)
        assert status == 421
        assert b'"misdirected"' in body
    for host in ("localhost", "[::1]:4433", "127.0.0.1"):
        assert (await by_tcp(gateway, False, tls, "GET", "/v1/worlds", headers={"host": host}))[0] == 200


async def test_a_listed_page_asks_sends_and_reads(start: Start) -> None:
    gateway = await start(allow_origins=(GAME,))
    asks = {
        "origin": GAME,
        "access-control-request-method": "PUT",
        "access-control-request-headers": "content-type,if-match,x-entity-class",
    }
    status, headers, body = await by_tcp(gateway, True, True, "OPTIONS", "/v1/worlds/w", headers=asks)
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == GAME
    assert "PUT" in headers["access-control-allow-methods"]
    assert headers["access-control-allow-headers"] == asks["access-control-request-headers"]
    assert "origin" in headers["vary"]
    assert int(headers["access-control-max-age"]) > 0
    status, headers, _ = await by_tcp(gateway, True, True, "PUT", "/v1/worlds/w", headers={"origin": GAME})
    assert (status, headers["access-control-allow-origin"], headers["vary"]) == (201, GAME, "origin")
    entity = Entity(
        "a", kind="json", state=b"1", class_name="c", owner="o", tags=("t",), key=1, epoch=1, tick=1
    )
    assert {"etag", "x-epoch", "x-tick", "x-durable-at", "x-hops", "x-stale-ms", *headers_of(entity)} <= {
        *headers["access-control-expose-headers"].split(", "),
        "cache-control",  # which the standard lets a script read anyhow
    }
    status, headers, _ = await by_tcp(gateway, True, True, "GET", "/v1/worlds/none", headers={"origin": GAME})
    assert (status, headers["access-control-allow-origin"]) == (404, GAME)
    assert (await by_tcp(gateway, True, True, "OPTIONS", "/", headers={**asks, "origin": EVIL}))[0] == 403


async def test_the_certificates_hash_names_one_origin_once(start: Start) -> None:
    gateway = await start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{plain_port(gateway)}") as client:
        answer = await client.get("/certificate.sha256", headers={"origin": LOCAL})
    assert answer.headers.get_list("access-control-allow-origin") == [LOCAL]


@pytest.mark.parametrize("tls", [False, True])
async def test_a_foreign_pages_websocket_is_refused_before_it_opens(start: Start, tls: bool) -> None:
    gateway = await start()
    url = f"wss://127.0.0.1:{gateway.port}" if tls else f"ws://127.0.0.1:{plain_port(gateway)}"
    context = tls_of(gateway) if tls else None
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"{url}/v1/worlds/w/live?role=publish", ssl=context, origin=EVIL)  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403
    assert b"origin_refused" in (refused.value.response.body or b"")
    assert not gateway.worlds.hosts
    for origin in (None, LOCAL, f"http{'s' if tls else ''}{url[url.index(':') :]}"):
        async with websockets.connect(
            f"{url}/v1/worlds/w/live?role=publish&takeover=1",
            ssl=context,
            origin=origin,  # type: ignore[arg-type]
        ) as socket:
            welcome = await socket.recv()
            assert isinstance(welcome, bytes)
            assert decode_control(welcome).type == "welcome"


async def open_webtransport(gateway: Gateway, headers: dict[str, str]) -> None:
    path = "/v1/worlds/w/live?role=publish&takeover=1"
    await open_webtransport_at(gateway, path, headers)


async def open_webtransport_at(gateway: Gateway, path: str, headers: dict[str, str]) -> None:
    async with await quic.connect(
        "127.0.0.1", gateway.port, trust=trust_of(gateway), timeout_s=HANG_S
    ) as client:
        await client.webtransport(path, Echo, raw(headers))


async def test_a_foreign_pages_webtransport_is_refused_and_a_local_ones_is_not(start: Start) -> None:
    gateway = await start()
    with pytest.raises(GatewayError, match=r"evil\.example"):
        await open_webtransport(gateway, {"origin": EVIL})
    assert not gateway.worlds.hosts
    await open_webtransport(gateway, {"origin": LOCAL})
    await open_webtransport(gateway, {})


async def test_a_page_gets_a_session_to_be_refused_in_for_it_cannot_read_a_status(start: Start) -> None:
    gateway = await start()
    bad = "/v1/worlds/w/live?role=publish&epoch=never"
    with pytest.raises(quic.SessionRefused, match="epoch"):
        await open_webtransport_at(gateway, bad, {})
    with pytest.raises(quic.SessionRefused, match=r"evil\.example"):
        await open_webtransport_at(gateway, bad, {"origin": EVIL})
    await open_webtransport_at(gateway, bad, {"origin": LOCAL})
    assert not gateway.worlds.hosts


def test_the_flag_repeats_and_the_variable_and_the_file_take_lists(tmp_path: Path) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    args = parser.parse_args(["--allow-origin", GAME, "--allow-origin", f"{LOCAL},{EVIL}"])
    assert config.load(args, {}).allow_origins == (GAME, LOCAL, EVIL)
    assert config.load(None, {"MVGATEWAY_ALLOW_ORIGINS": f"{GAME}, {LOCAL}"}).allow_origins == (GAME, LOCAL)
    file = tmp_path / "gateway.toml"
    file.write_text(f'allow_origins = ["{GAME}", "*"]')
    assert config.load(None, {"MVGATEWAY_CONFIG": str(file)}).allow_origins == (GAME, "*")
    assert config.load(None, {}).allow_origins == ()


@pytest.mark.parametrize("path", ["/v1/worlds/w/verify", "/metrics", "/stat"])
async def test_an_image_on_a_foreign_page_costs_nothing_at_any_door(start: Start, path: str) -> None:
    gateway = await start()
    asks = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    for http2, tls in ((False, False), (True, True)):
        status, _, body = await by_tcp(gateway, http2, tls, "GET", path, headers=asks)
        assert (status, b'"origin_refused"' in body) == (403, True)
    assert (await by_quic(gateway, "GET", path, asks))[0] == 403
    link = {**asks, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert (await by_tcp(gateway, False, False, "GET", "/", headers=link))[0] == 200
    assert (await by_tcp(gateway, False, False, "GET", path, headers=link))[0] == 403
