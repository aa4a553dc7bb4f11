"""Bulk over HTTP/3 through the kernel's own network, with an interface as wide as loopback, Ethernet, or the narrowest of IPv6.

Each width is a network namespace of its own, in which one process is both ends: the kernel refuses what the interface is too
narrow for.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import limits
from gateway.quic import QuicOptions, QuicTrust, ServerTls, connect, listen
from gateway.quic.udp import UdpSocket, bind
from tests.patience import HANG_S
from tests.quic.conftest import Identity

ROOT = Path(__file__).parents[2]
BODY_BYTES = 4_000_000
ROUNDS_MAX = 20
"""One is enough on a machine that does nothing else."""
BODY = bytes(range(250)) * (BODY_BYTES // 250)
NO_NETWORK = subprocess.run(
    ["unshare", "--user", "--map-root-user", "--net", "true"], capture_output=True, check=False
).returncode


class _Doors:
    """Nobody opens a session here."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


async def _app(
    scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    got = bytearray()
    more = True
    while more:
        message = await receive()
        got += message.get("body", b"")
        more = message.get("more_body", False)
    assert bytes(got) in (b"", BODY)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for at in range(0, BODY_BYTES, 64_000):
        await send({"type": "http.response.body", "body": BODY[at : at + 64_000], "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _carry(host: str, cert: bytes, key: bytes, wanted: int) -> dict[str, int]:
    """Large bodies each way until both ends found the wanted size; answers what they found."""
    doors: Any = _Doors()
    server = await listen(
        host, 0, tls=ServerTls(cert, key), asgi_app=_app, doors=doors, options=QuicOptions()
    )
    try:
        client = await connect(
            host, server.port, trust=QuicTrust(ca_pem=cert), server_name="localhost", timeout_s=HANG_S
        )
        async with client:
            for _ in range(ROUNDS_MAX):
                response = await client.request("POST", "/", body=BODY, timeout_s=HANG_S)
                assert await response.read() == BODY
                (peer,) = server.peers
                found = {"client": client.peer.quic.mtu.confirmed, "server": peer.quic.mtu.confirmed}
                if set(found.values()) == {wanted}:
                    break
            return found
    finally:
        server.close()


@pytest.mark.skipif(NO_NETWORK != 0, reason="no network namespaces can be made here")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("mtu", "found"), [(65_536, limits.QUIC_PACKET_BYTES_STEPS[-1]), (1_500, 1_452), (1_280, 1_200)]
)
def test_packets_are_as_large_as_the_interface_carries(
    identity: Identity, tmp_path: Path, host: str, mtu: int, found: int
) -> None:
    (tmp_path / "cert.pem").write_bytes(identity.cert_pem)
    (tmp_path / "key.pem").write_bytes(identity.key_pem)
    inside = f'ip link set lo mtu {mtu} up && exec "$0" -m tests.quic.test_path_mtu_on_a_network "$@"'
    argv = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", inside]
    done = subprocess.run(
        [*argv, sys.executable, host, str(tmp_path), str(found)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"client": found, "server": found}


def test_what_the_interface_refuses_counts_as_dropped_and_raises_nothing() -> None:
    """Both ways to send: one by one, and batches with and without segments."""
    for batches in (False, True):
        here, there = UdpSocket(bind("127.0.0.1", 0), batches=batches), bind("127.0.0.1", 0)
        assert here.bytes_max > 65_000
        here.send_packets([bytes(65_508)], there.getsockname())
        here.send_packets([b"x"], there.getsockname())
        here.push()
        assert here.sends_dropped == 1
        assert there.recv(10) == b"x"
        here.close()
        there.close()


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    made = asyncio.run(
        _carry(
            sys.argv[1],
            (folder / "cert.pem").read_bytes(),
            (folder / "key.pem").read_bytes(),
            int(sys.argv[3]),
        )
    )
    print(json.dumps(made))
