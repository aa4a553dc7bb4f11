"""A socket bound to all addresses answers from the one that was spoken to, however its packets leave."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from bench.gateway import Gateway
from bench.link import Direction, Network, unavailable_because
from bench.link import LinkPath as LinkPath
from gateway.quic import QuicOptions, connect, listen
from gateway.quic.connection.framing import Run
from gateway.quic.udp import UdpSocket, bind
from tests.patience import HANG_S
from tests.quic.conftest import App, Identity, RecordingDoors
from tests.quic.serving import open_session, until

ADDRESSES = [
    ("0.0.0.0", "127.0.0.1"),
    ("0.0.0.0", "127.0.0.7"),
    ("0.0.0.0", "127.11.12.13"),
    ("::", "::1"),
    ("::", "127.0.0.1"),
    ("::", "127.0.0.7"),
]
NO_LINK = unavailable_because()
if NO_LINK and os.environ.get("CI") == "true":
    raise RuntimeError(f"CI must be able to make the link: {NO_LINK}")


@pytest.mark.parametrize("batches", [True, False])
@pytest.mark.parametrize("segmentation", [True, False])
@pytest.mark.parametrize(("bound", "spoken_to"), ADDRESSES)
def test_every_way_of_sending_leaves_from_the_address_that_was_spoken_to(
    bound: str, spoken_to: str, batches: bool, segmentation: bool
) -> None:
    ours = UdpSocket(bind(bound, 0), batches=batches, segmentation=segmentation, answers=True)
    target = (spoken_to, ours.address[1])
    with bind("::1" if ":" in spoken_to else "127.0.0.1", 0) as peer:
        peer.settimeout(HANG_S)
        peer.connect(target)  # from here on the kernel drops what comes from any other address
        for n in range(3):
            peer.send(b"%d" % n)
        came = ours.receive()
        assert [data for data, _, _ in came] == [b"0", b"1", b"2"]
        address = came[0][1]
        run = [bytes([n]) * 1_000 for n in range(5)]
        ours.send([(b"one", address)])
        ours.send_packets([b"two"], address)
        ours.send_packets(run, address)
        ours.send_packets([b"a" * 700, b"b" * 900], address)
        ours.send_run(Run(b"".join(run), 1_000, 5), address)
        ours.push()
        wanted = [b"one", b"two", *run, b"a" * 700, b"b" * 900, *run]
        assert [peer.recv(2_000) for _ in wanted] == wanted
    assert ours.sends_dropped == 0
    ours.close()


def test_datagrams_of_many_addresses_in_one_batch_are_answered_each_from_its_own() -> None:
    ours = UdpSocket(bind("0.0.0.0", 0), batches=True, answers=True)
    peers = [bind("127.0.0.1", 0) for _ in range(40)]
    for round_ in range(3):
        for n, peer in enumerate(peers):
            peer.settimeout(HANG_S)
            if not round_:
                peer.connect((f"127.0.1.{n + 1}", ours.address[1]))
            peer.send(b"%d" % n)
        for data, address, _ in ours.receive():
            assert address[-1] == f"127.0.1.{int(data) + 1}"
            ours.send_packets([data] * 3 if int(data) % 2 else [data], address)
        ours.push()
        for n, peer in enumerate(peers):
            assert [peer.recv(99) for _ in range(3 if n % 2 else 1)] == [b"%d" % n] * (3 if n % 2 else 1)
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(99)
    for peer in peers:
        peer.close()
    ours.close()


def test_a_socket_bound_to_one_address_says_addresses_as_the_socket_module_does() -> None:
    ours = UdpSocket(bind("127.0.0.1", 0), batches=True, answers=True)
    with bind("127.0.0.1", 0) as peer:
        peer.sendto(b"x", ours.address)
        assert [address for _, address, _ in ours.receive()] == [peer.getsockname()]
    ours.close()


@pytest.mark.parametrize(("bound", "spoken_to"), ADDRESSES)
async def test_a_client_reaches_a_server_by_any_of_its_addresses(
    identity: Identity, bound: str, spoken_to: str
) -> None:
    doors, options = RecordingDoors(echo=True), QuicOptions(retry=True)
    endpoint = await listen(bound, 0, tls=identity.server(), asgi_app=App(), doors=doors, options=options)
    try:
        async with await connect(
            spoken_to, endpoint.port, trust=identity.trust(), server_name="localhost", timeout_s=HANG_S
        ) as client:
            response = await client.request("GET", "/big?8")
            assert len(await response.read()) == 8 * 65_536
            link, session = await open_session(client)
            for n in range(5):
                assert link.send(bytes(900), n)
            await until(lambda: len(session.messages) == 5)
            (peer,) = endpoint.peers
            assert peer.quic.address[-1].removeprefix("::ffff:") == spoken_to
            assert len(doors.asked) == 1
    finally:
        endpoint.close()


ASK = """
import asyncio, json, sys
from gateway.quic import QuicTrust, h3_request
async def main():
    asked = [h3_request(host, int(sys.argv[1]), "GET", "/healthz", trust=QuicTrust(insecure=True), timeout_s=10)
             for host in sys.argv[2:]]
    print(json.dumps([status for status, _, _ in await asyncio.gather(*asked)]))
asyncio.run(main())
"""


@pytest.mark.skipif(NO_LINK is not None, reason=f"no network of namespaces: {NO_LINK}")
def test_a_gateway_on_a_machine_of_several_addresses_is_reached_by_each(tmp_path: Path) -> None:
    with Network([LinkPath.symmetric(Direction(delay_ms=1.0))], addresses=4) as network:
        home, away = network.hosts[1], network.hosts[0]
        with Gateway(tmp_path, "0.0.0.0", prefix=home.command([])) as gateway:
            argv = [sys.executable, "-c", ASK, str(gateway.port), *home.addresses]
            done = away.run(argv, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [200] * 4


def test_a_socket_of_this_process_has_no_option_left_on(identity: Identity) -> None:
    """The option is asked for where it is needed alone: it costs a copy for every packet."""
    ours = UdpSocket(bind("127.0.0.1", 0), batches=True, answers=True)
    assert ours.sock.getsockopt(socket.IPPROTO_IP, 8) == 0
    ours.close()
