"""Several gateways behind one UDP balancer that remembers nothing: connections stay with theirs, whatever their address becomes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gateway.client import Trust
from gateway.config import load
from gateway.errors import ConfigError
from gateway.quic import Client, connect
from tests.quic.balancer import balanced
from tests.runtime.conftest import GatewayProcess

PATIENCE_S = 60.0
ROTATION = 5
TRIES = 60
"""Connections until each gateway has had some: of two, by chance."""
REBINDINGS = 3

Gateways = dict[bytes, GatewayProcess]


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    """Of one certificate, as gateways behind one name are: one of one process, one of two workers."""
    root = tmp_path_factory.mktemp("balanced")
    found: Gateways = {}
    try:
        for name, workers in (("00a1", "1"), ("00a2", "2")):
            folder = root / name
            folder.mkdir()
            flags = ("--server-id", name, "--server-id-rotation", str(ROTATION), "--workers", workers)
            more = ("--certs", str(root / "certs"), "--retry", "on")
            found[bytes.fromhex(name)] = GatewayProcess(
                folder, *flags, *more, log=folder / "log"
            ).wait_ready()
        yield found
    finally:
        for gateway in found.values():
            gateway.terminate()


async def told(client: Client) -> str:
    """Which gateway answers."""
    response = await client.request("GET", "/healthz")
    return str(json.loads(await response.read())["instance"])


async def test_a_connection_stays_with_its_gateway_and_worker_through_rebinding_and_migration(
    gateways: Gateways,
) -> None:
    servers = {name: ("127.0.0.1", gateway.port("https")) for name, gateway in gateways.items()}
    folder = next(iter(gateways.values())).folder
    trust = Trust.of(ca=folder.parent / "certs" / "ca.pem").for_quic()
    seen: dict[str, int] = {}
    async with balanced(servers, ROTATION) as (balancer, port):
        for _ in range(TRIES):
            async with await connect("127.0.0.1", port, trust=trust, timeout_s=PATIENCE_S) as client:
                first = await told(client)
                hashed, addresses = balancer.by_hash, len(balancer.addresses)
                for _ in range(REBINDINGS):
                    client.rebind()
                    await client.ping()
                    assert await told(client) == first
                assert len(balancer.addresses) == addresses + REBINDINGS
                assert balancer.by_hash == hashed
            seen[first] = seen.get(first, 0) + 1
            if len(seen) == len(gateways) and min(seen.values()) >= 2:
                break
    assert len(seen) == len(gateways)


@pytest.mark.parametrize("text", ["1", "zz", "012345", "0x", " 01"])
def test_a_server_id_that_is_none_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(ConfigError, match="2 or 4 hexadecimal digits"):
        load(None, {"MVGATEWAY_SERVER_ID": text})


def test_a_rotation_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="6"):
        load(None, {"MVGATEWAY_SERVER_ID": "01", "MVGATEWAY_SERVER_ID_ROTATION": "7"})
