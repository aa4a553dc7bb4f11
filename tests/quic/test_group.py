"""Several endpoints on one UDP port, as several processes have them: a connection stays with its own."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.quic import Client, QuicOptions, ServerEndpoint, connect, listen
from gateway.quic.connection.ids import CID_BYTES
from gateway.quic.connection.minting import ALONE, IdLayout, Mint
from gateway.quic.udp.group import attach, bind_group, program, run
from gateway.quic.udp.handing import Handing, pairs
from tests.patience import HANG_S
from tests.quic.conftest import App, Identity, RecordingDoors


@pytest.fixture
def group() -> Iterator[list[socket.socket]]:
    first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    first.bind(("127.0.0.1", 0))
    first.setblocking(False)
    with ExitStack() as stack:
        yield [stack.enter_context(sock) for sock in bind_group(first, 3)]


def got(group: list[socket.socket], packet: bytes) -> int:
    """Which socket of the group a packet goes to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(packet, group[0].getsockname())
        (readable,), _, _ = select.select(group, [], [], 5)
        assert readable.recv(2_000) == packet
        return group.index(readable)


@pytest.mark.parametrize("count", [2, 3, 7, 64])
def test_an_id_names_its_worker_and_nothing_else(count: int) -> None:
    for number in (0, count - 1):
        mint = Mint(number, count)
        made = {mint() for _ in range(300)}
        assert len(made) == 300
        assert {len(cid) for cid in made} == {CID_BYTES}
        assert {mint.worker_of(cid) for cid in made} == {number}
    assert len({ALONE()[1] for _ in range(600)}) > 128


@pytest.mark.parametrize("count", [1, 3, 64])
@pytest.mark.parametrize("server_id", [b"\x00", b"\x7f\xff"])
def test_an_id_tells_a_balancer_its_configuration_and_server_and_its_worker_besides(
    count: int, server_id: bytes
) -> None:
    for rotation in (0, 6):
        mint = Mint(count - 1, count, IdLayout(server_id, rotation))
        made = {mint() for _ in range(1_000)}
        assert len(made) == 1_000
        assert {len(cid) for cid in made} == {CID_BYTES}
        assert {cid[0] >> 5 for cid in made} == {rotation}
        assert len({cid[0] & 0x1F for cid in made}) > 16
        assert {cid[1 : 1 + len(server_id)] for cid in made} == {server_id}
        assert {mint.worker_of(cid) for cid in made} == {count - 1}


def test_the_kernel_finds_the_worker_behind_a_server_id_also_while_one_leaves(
    group: list[socket.socket],
) -> None:
    layout = IdLayout(b"\x12\x34", 2)
    for taking in (None, (0, 2)):
        assert attach(group[0], program(3, range(3), taking, layout))
        for number in range(3):
            cid = Mint(number, 3, layout)()
            assert got(group, b"\x40" + cid + bytes(30)) == number
            assert got(group, b"\xe0\0\0\0\1\x08" + cid + bytes(30)) == number


def test_a_packet_goes_to_the_socket_of_the_worker_that_its_id_names(group: list[socket.socket]) -> None:
    assert attach(group[0], program(3, range(3)))
    for number in range(3):
        cid = Mint(number, 3)()
        assert got(group, b"\x40" + cid + bytes(30)) == number
        assert got(group, b"\xe0\0\0\0\1\x08" + cid + bytes(30)) == number


def test_the_kernel_runs_the_program_as_it_is_meant(group: list[socket.socket]) -> None:
    for alive in ((0, 1, 2), (0, 2), (1,)):
        steps = program(3, alive)
        assert attach(group[1], steps)
        for size in (1, 2, 3, 6, 7, 8, 1_200):
            for first in (0x40, 0xC3):
                packet = bytes([first]) + os.urandom(size - 1)
                assert got(group, packet) == run(steps, packet)


def test_a_dead_workers_packets_go_to_one_that_lives() -> None:
    steps = program(4, (1, 3))
    to = {number: run(steps, b"\x40" + Mint(number, 4)() + bytes(30)) for number in range(4)}
    assert to == {0: 1, 1: 1, 2: 3, 3: 3}


def test_a_worker_that_leaves_keeps_its_connections_and_gets_no_new_ones(group: list[socket.socket]) -> None:
    steps = program(3, (0, 1, 2), taking=(0, 2))
    assert attach(group[0], steps)
    ours, handshake, initial, zero_rtt = (
        b"\x40",
        b"\xe0\0\0\0\1\x08",
        b"\xc0\0\0\0\1\x08",
        b"\xd0\0\0\0\1\x08",
    )
    for number in range(3):
        cid = Mint(number, 3)()
        for head in (ours, handshake):
            assert got(group, head + cid + bytes(30)) == number
        for head in (initial, zero_rtt):
            assert got(group, head + cid + bytes(30)) == (number if number != 1 else 0)


def test_the_kernel_runs_the_program_as_it_is_meant_while_a_worker_leaves(group: list[socket.socket]) -> None:
    for alive, taking in (((0, 1, 2), (1,)), ((0, 2), (2,)), ((0, 1), (1,))):
        steps = program(3, alive, taking)
        assert attach(group[1], steps)
        for size in (1, 2, 3, 6, 7, 8, 1_200):
            for first in (0x40, 0xC3, 0xD0, 0xE1):
                packet = bytes([first]) + os.urandom(size - 1)
                assert got(group, packet) == run(steps, packet)


@dataclass
class Worker:
    endpoint: ServerEndpoint
    app: App


@asynccontextmanager
async def workers(
    identity: Identity, group: list[socket.socket], alive: set[int], *, retry: bool = False
) -> AsyncIterator[list[Worker]]:
    """Endpoints as of one start: one key for resets, and packets handed over."""
    ends, key = pairs(len(group)), bytes(32)
    made: list[Worker] = []
    for number, sock in enumerate(group):
        app: Any = App()
        mint = Mint(number, len(group))
        options = QuicOptions(mint=mint, reset_key=key, retry=retry)
        endpoint = await listen(
            *("127.0.0.1", 0),
            tls=identity.server(),
            asgi_app=app,
            doors=RecordingDoors(),
            sock=sock,
            options=options,
        )
        endpoint.share(Handing(mint, ends, alive.__contains__))
        made.append(Worker(endpoint, app))
    try:
        yield made
    finally:
        for worker in made:
            worker.endpoint.close()
        for end in ends:
            for sock in end:
                sock.close()


async def client_of(identity: Identity, workers: list[Worker]) -> Client:
    return await connect("127.0.0.1", workers[0].endpoint.port, trust=identity.trust(), timeout_s=HANG_S)


def asked(workers: list[Worker]) -> list[int]:
    return [len(worker.app.scopes) for worker in workers]


@pytest.mark.parametrize("has_program", [True, False], ids=["program", "handed over"])
@pytest.mark.parametrize("retry", [False, True], ids=["", "retry"])
async def test_connections_stay_with_their_worker_whatever_their_address_becomes(
    identity: Identity, group: list[socket.socket], has_program: bool, retry: bool
) -> None:
    if has_program:
        assert attach(group[0], program(3, range(3)))
    async with workers(identity, group, {0, 1, 2}, retry=retry) as made:
        handed = 0
        for turn in range(12):
            before = asked(made)
            async with await client_of(identity, made) as client:
                for _ in range(3):
                    assert (await client.request("GET", "/hello")).status == 200
                    client.rebind()
                    await client.ping()
                assert (await client.request("GET", "/hello")).status == 200
            now = [after - former for after, former in zip(asked(made), before, strict=True)]
            assert sorted(now) == [0, 0, 4], (turn, now)
            handed = sum(worker.endpoint.counters["handed_over"] for worker in made)
            if turn and handed and not has_program:
                break
        assert (handed == 0) == has_program
        assert sum(worker.endpoint.counters["handed_in"] for worker in made) == handed


async def test_a_dead_workers_clients_hear_it_from_another_at_once(
    identity: Identity, group: list[socket.socket]
) -> None:
    assert attach(group[0], program(3, range(3)))
    alive = {0, 1, 2}
    async with workers(identity, group, alive) as made:
        clients = [await client_of(identity, made) for _ in range(6)]
        dead = next(n for n, worker in enumerate(made) if worker.endpoint.connections)
        held = made[dead].endpoint.connections
        for peer in tuple(made[dead].endpoint.peers):
            peer.abort()  # as a process that was killed: it says nothing
        alive.discard(dead)
        assert attach(group[0], program(3, alive))
        answered = []
        for client in clients:
            try:
                answered.append((await client.request("GET", "/hello")).status == 200)
            except Exception:
                answered.append(False)
        assert answered.count(False) == held
        assert sum(worker.endpoint.counters["stateless_resets"] for worker in made) >= held
        assert made[dead].endpoint.counters["stateless_resets"] == 0
        for client in clients:
            client.close()
