"""0-RTT by its packets: what was served early really came early, and a replay of it does nothing twice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.tls import SessionTicket

from gateway.quic import Client
from tests.quic.conftest import Identity
from tests.quic.serving import Served, serving, until


class Tap:
    """Keeps what an endpoint's socket takes, and can hold back what it would send."""

    def __init__(self, served: Served) -> None:
        self.came: list[bytes] = []
        self.is_mute = False
        self._udp = served.endpoint.udp
        self._receive, self._send, self._send_packets = (
            self._udp.receive,
            self._udp.send,
            self._udp.send_packets,
        )
        self._udp.receive = self._taking  # type: ignore[method-assign]
        self._udp.send = self._sending  # type: ignore[method-assign]
        self._udp.send_packets = self._sending_packets  # type: ignore[method-assign]

    def _taking(self) -> Any:
        batch = self._receive()
        self.came += [data for data, _, _ in batch]
        return batch

    def _sending(self, datagrams: Any) -> None:
        if not self.is_mute:
            self._send(datagrams)

    def _sending_packets(self, packets: Any, address: Any) -> None:
        if not self.is_mute:
            self._send_packets(packets, address)

    def types(self) -> list[QuicPacketType]:
        """The types of all packets that came, those coalesced in one datagram too."""
        return [kind for data in self.came for kind, _ in packets_of(data)]


def packets_of(datagram: bytes) -> list[tuple[QuicPacketType, bytes]]:
    """The packets of a datagram with their types; what cannot be read (padding) ends it."""
    found = []
    buf = Buffer(data=datagram)
    while not buf.eof():
        start = buf.tell()
        try:
            header = pull_quic_header(buf, host_cid_length=8)
        except ValueError:
            break
        found.append((header.packet_type, datagram[start : start + header.packet_length]))
        buf.seek(start + header.packet_length)
    return found


@pytest.fixture
async def served(identity: Identity) -> AsyncIterator[Served]:
    async with serving(identity) as served:
        yield served
        assert served.endpoint.counters["faults"] == 0


async def _ticket(served: Served) -> SessionTicket:
    async with await served.connect() as first:
        await until(lambda: first.ticket is not None)
        ticket = first.ticket
    await until(lambda: not served.endpoint.peers)
    assert ticket is not None
    return ticket


def _paths(served: Served) -> list[str]:
    return [f"{scope['method']} {scope['path']}" for scope in served.app.scopes]


async def test_a_get_is_served_before_the_server_has_said_a_word(served: Served) -> None:
    ticket = await _ticket(served)
    tap = Tap(served)
    tap.is_mute = True
    async with await served.connect(ticket=ticket, early_data=True) as client:
        asking = asyncio.create_task(client.request("GET", "/hello"))
        await until(lambda: _paths(served) == ["GET /hello"])
        (peer,) = served.endpoint.peers
        assert not peer.handshake_done
        assert not client.peer.handshake_done
        assert set(tap.types()) == {QuicPacketType.INITIAL, QuicPacketType.ZERO_RTT}
        tap.is_mute = False
        response = await asking
        assert (response.status, await response.read()) == (200, b"hello")
        assert client.peer.early_data_accepted
    assert _paths(served) == ["GET /hello"]


async def test_without_its_0_rtt_packets_the_same_get_waits_for_the_handshake(served: Served) -> None:
    """The counterpart: if the request had not travelled in them, it would be served all the same."""
    ticket = await _ticket(served)
    tap = Tap(served)
    stripped: list[bytes] = []
    take = served.endpoint.udp.receive

    def without() -> Any:
        batch = []
        for data, addr, waited in take():
            kept = [packet for kind, packet in packets_of(data) if kind is not QuicPacketType.ZERO_RTT]
            if len(kept) < len(packets_of(data)):
                stripped.append(data)
            data = b"".join(kept)
            batch.append(
                (data + bytes(max(0, 1200 - len(data))) if data[:1] >= b"\x80" else data, addr, waited)
            )
        return [one for one in batch if one[0]]

    served.endpoint.udp.receive = without  # type: ignore[method-assign]
    tap.is_mute = True
    async with await served.connect(ticket=ticket, early_data=True) as client:
        asking = asyncio.create_task(client.request("GET", "/hello"))
        await until(lambda: len(stripped) >= 1 and len(tap.came) >= 1 and bool(served.endpoint.peers))
        assert _paths(served) == []
        tap.is_mute = False
        assert (await asking).status == 200
    assert _paths(served) == ["GET /hello"]


async def test_an_unsafe_request_is_not_served_early(served: Served) -> None:
    ticket = await _ticket(served)
    tap = Tap(served)
    tap.is_mute = True
    async with await served.connect(ticket=ticket, early_data=True) as client:
        unsafe = asyncio.create_task(client.request("POST", "/echo", body=b"x"))
        await until(lambda: served.endpoint.counters["refused"] == 1)
        assert QuicPacketType.ZERO_RTT in tap.types()
        tap.is_mute = False
        assert (await unsafe).status == 425
        again = await client.request("POST", "/echo", body=b"x")
        assert (again.status, await again.read()) == (200, b"x")
    assert _paths(served) == ["POST /echo"]


async def _replay(served: Served, recorded: list[bytes], times: int = 3) -> None:
    """Send recorded datagrams again from another address, and wait until they were taken."""
    endpoint = served.endpoint
    wanted = endpoint.counters["datagrams_received"] + times * len(recorded)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", endpoint.port))
        for _ in range(times):
            for data in recorded:
                sock.send(data)
        await until(lambda: endpoint.counters["datagrams_received"] >= wanted)
        for _ in range(5):
            await asyncio.sleep(0)


async def _record(served: Served) -> tuple[Client, list[bytes]]:
    """An early connection with a GET, a listed POST and an unlisted one; the datagrams of its start."""
    ticket = await _ticket(served)
    tap = Tap(served)
    client = await served.connect(ticket=ticket, early_data=True)
    asked = [
        asyncio.create_task(client.request(method, path, body=body))
        for method, path, body in (("GET", "/hello", b""), ("POST", "/stat", b"x"), ("POST", "/echo", b"y"))
    ]
    answers = [(await one).status for one in asked]
    assert answers == [200, 200, 425]
    early = [d for d in tap.came if any(kind is QuicPacketType.ZERO_RTT for kind, _ in packets_of(d))]
    assert early
    return client, [data for data in tap.came if data[0] & 0x80]


async def test_early_packets_replayed_while_the_connection_lives_do_nothing(served: Served) -> None:
    client, recorded = await _record(served)
    async with client:
        before, connections = _paths(served), served.endpoint.counters["connections"]
        await _replay(served, recorded)
        assert _paths(served) == before == ["GET /hello", "POST /stat"]
        assert served.endpoint.counters["connections"] == connections
        assert (await client.request("GET", "/hello")).status == 200


async def test_early_packets_replayed_after_the_connection_execute_nothing(served: Served) -> None:
    client, recorded = await _record(served)
    client.close()
    await until(lambda: not served.endpoint.peers)
    before, refused = _paths(served), served.endpoint.counters["refused"]
    await _replay(served, recorded)
    assert served.endpoint.counters["connections"] > 2, "the replay looks like a new connection"
    assert _paths(served) == before == ["GET /hello", "POST /stat"]
    assert served.endpoint.counters["refused"] == refused


async def test_a_copy_that_comes_ahead_of_its_original_executes_nothing_unsafe(served: Served) -> None:
    """An attacker between the two copies the first flight and is faster: the GET in it is served once,
    for both together, and the unsafe request not at all."""
    ticket = await _ticket(served)
    tap, client = Tap(served), await served.connect(ticket=ticket, early_data=True)
    tap.is_mute = True
    held: list[bytes] = []
    udp = client.endpoint.udp
    send, udp.send_packets = udp.send, lambda packets, address: held.extend(packets)  # type: ignore[method-assign]
    asked = [
        asyncio.create_task(client.request("GET", "/hello")),
        asyncio.create_task(client.request("POST", "/echo", body=b"y")),
    ]
    await until(lambda: any(kind is QuicPacketType.ZERO_RTT for d in held for kind, _ in packets_of(d)))
    await _replay(served, list(held), times=2)
    await until(lambda: _paths(served) == ["GET /hello"])
    refused = served.endpoint.counters["refused"]
    assert refused == 1
    wanted = served.endpoint.counters["datagrams_received"] + len(held)
    send([(data, ("127.0.0.1", served.endpoint.port)) for data in held])
    await until(lambda: served.endpoint.counters["datagrams_received"] >= wanted)
    assert _paths(served) == ["GET /hello"]
    assert served.endpoint.counters["refused"] == refused
    assert len(served.endpoint.peers) == 1
    client.close()
    await asyncio.gather(*asked, return_exceptions=True)


async def test_another_process_reads_nothing_of_early_packets(identity: Identity) -> None:
    async with serving(identity) as served:
        client, recorded = await _record(served)
        client.close()
    async with serving(identity) as other:
        await _replay(other, recorded)
        assert _paths(other) == []
        assert other.endpoint.counters["faults"] == 0
