"""The page plane writes any database: beyond loopback it is closed. The admin API is for this machine only."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import config, quic
from gateway.errors import ConfigError
from gateway.runtime.gateway import Gateway
from tests.patience import HANG_S
from tests.runtime.conftest import StartGateway, StartProcess, client_of

PLANE = [
    ("GET", "/stat"),
    ("GET", "/time2version?t=0"),
    ("POST", "/batch/read"),
    ("POST", "/batch/write"),
    ("POST", "/batch/commit"),
    ("POST", "/nslock/acquire"),
    ("POST", "/nslock/release"),
]
KEY = {"x-namespace-key": "victim"}


def ca_of(gateway: Gateway) -> Path:
    assert gateway.certificates.ca_path is not None
    return Path(gateway.certificates.ca_path)


async def by_tls(gateway: Gateway, method: str, path: str, **more: Any) -> httpx.Response:
    async with httpx.AsyncClient(
        verify=ssl.create_default_context(cafile=str(ca_of(gateway))), http2=True, timeout=HANG_S
    ) as client:
        return await client.request(method, f"https://127.0.0.1:{gateway.port}{path}", **more)


async def by_quic(gateway: Gateway, method: str, path: str) -> tuple[int, bytes]:
    trust = quic.QuicTrust(ca_pem=ca_of(gateway).read_bytes())
    headers = [(name.encode(), value.encode()) for name, value in KEY.items()]
    status, _, body = await quic.h3_request(
        "127.0.0.1", gateway.port, method, path, trust=trust, headers=headers
    )
    return status, body


@pytest.mark.parametrize(("method", "path"), PLANE)
async def test_where_others_reach_it_the_page_plane_is_closed_and_names_the_setting(
    start_gateway: StartGateway, method: str, path: str
) -> None:
    gateway = await start_gateway(host="0.0.0.0", insecure_public=True)
    body = b"x" * 100_000 if method == "POST" else None
    answer = await by_tls(gateway, method, path, headers=KEY, content=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "page_plane_closed")
    assert "--page-plane public" in answer.json()["detail"]
    status, told = await by_quic(gateway, method, path)
    assert (status, b"page_plane_closed" in told) == (403, True)
    async with client_of(gateway) as client:
        assert (await client.request(method, path, headers=KEY)).status_code != 403
        assert (await by_tls(gateway, "GET", "/v1/worlds")).status_code == 200


@pytest.mark.parametrize("more", [{}, {"host": "0.0.0.0", "insecure_public": True, "page_plane": "public"}])
async def test_on_loopback_and_where_the_operator_says_so_it_is_open_at_every_door(
    start_gateway: StartGateway, more: dict[str, Any]
) -> None:
    gateway = await start_gateway(**more)
    assert (await by_tls(gateway, "GET", "/stat", headers=KEY)).status_code == 200
    assert (await by_quic(gateway, "GET", "/stat"))[0] == 200


async def test_the_admin_api_lists_makes_and_deletes_databases_of_the_running_store(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(admin_api="127.0.0.1:0")
    assert gateway.admin_server is not None
    async with (
        client_of(gateway) as client,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.admin_server.port}") as admin,
    ):
        assert (await client.get("/stat", headers={"x-namespace-key": "ours"})).status_code == 200
        assert '"ours"' in (await admin.get("/api/list_namespace")).text
        made = await admin.post("/api/create_namespace", json={"key": "theirs"})
        assert made.status_code == 201
        assert (await admin.post("/api/delete_namespace", json={"key": "ours"})).status_code == 200
        listed = (await admin.get("/api/list_namespace")).text
        assert ('"theirs"' in listed, '"ours"' in listed) == (True, False)
        page = {"origin": "https://evil.example"}
        assert (await admin.get("/api/list_namespace", headers=page)).status_code == 403
        assert (await client.get("/api/list_namespace")).status_code == 404


def test_the_admin_api_is_for_loopback_alone() -> None:
    with pytest.raises(ConfigError, match="--admin-api"):
        config.load(environ={"HOME": "/tmp", "MVGATEWAY_ADMIN_API": "0.0.0.0:7001"})


async def test_serve_says_where_its_admin_api_is(start_process: StartProcess) -> None:
    child = start_process("--admin-api", "127.0.0.1:0").wait_ready()
    async with httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{child.port('admin')}/api/list_namespace"
        assert (await client.get(url)).status_code == 200
    assert child.terminate()[0] == 0
