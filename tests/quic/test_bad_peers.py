"""Whatever a peer sends, the server lives on, holds little, and serves the next one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator

import pytest
from aioquic.buffer import encode_uint_var

from gateway import limits
from gateway.quic import RequestFailed
from gateway.quic.connection import Connection, FateSink
from gateway.quic.connection.sending import packet_of
from tests.patience import HANG_S
from tests.quic.conftest import Identity
from tests.quic.serving import Served, open_session, serving, until


@pytest.fixture
async def served(identity: Identity) -> AsyncIterator[Served]:
    async with serving(identity) as served:
        yield served
        async with await served.connect() as client:
            assert (await client.request("GET", "/hello")).status == 200
        assert served.endpoint.counters["faults"] == 0


async def test_garbage_packets_are_dropped(served: Served) -> None:
    rng = random.Random(7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", served.endpoint.port))
        for size in [0, 1, 2, 20, 21, 1199, 1200, 1500] * 30:
            sock.send(rng.randbytes(size))
        for first in range(256):
            sock.send(bytes([first]) + rng.randbytes(1300))
    await until(lambda: served.endpoint.counters["datagrams_received"] > 400)


async def test_datagrams_for_no_session_are_counted_and_dropped(served: Served) -> None:
    async with await served.connect() as client:
        peer = client.peer
        await open_session(client)
        for payload in (b"\x3f", b"\x41", encode_uint_var(2**40) + b"x", b"\x00", b"\x01", b"\x3fxyz"):
            peer.quic.queue_datagram(payload, _Sink(), 1)
        peer.hub.mark(peer)
        await until(lambda: served.endpoint.counters["datagrams_unknown_session"] >= 3)


async def test_one_byte_and_empty_datagrams_reach_the_session_as_they_are(served: Served) -> None:
    async with await served.connect() as client:
        link, _ = await open_session(client)
        assert link.send(b"", 1)
        assert link.send(b"\x01", 2)
        await until(lambda: served.doors.sessions[0].messages == [b"", b"\x01"])


async def test_streams_for_no_session_are_stopped(served: Served) -> None:
    async with await served.connect() as client:
        peer = client.peer
        assert peer.h3 is not None
        for unidirectional in (True, False):
            for session_id in (0, 4, 400_000):
                stream = peer.h3.create_webtransport_stream(session_id, is_unidirectional=unidirectional)
                peer.quic.send_stream_data(stream, b"hello", end_stream=False)
        peer.hub.mark(peer)
        await until(lambda: served.endpoint.counters["streams_unknown_session"] == 6)


async def test_a_flood_of_streams_stays_within_the_stream_limit(served: Served) -> None:
    async with await served.connect() as client:
        link, _ = await open_session(client)
        peer = client.peer
        assert peer.h3 is not None
        for n in range(1000):
            stream = peer.h3.create_webtransport_stream(link.session_id, is_unidirectional=True)
            peer.quic.send_stream_data(stream, b"%d" % n, end_stream=n % 2 == 0)
        peer.hub.mark(peer)
        far = served.doors.sessions[0]
        await until(lambda: len(far.streams) >= limits.QUIC_PEER_STREAMS_MAX)
        (server_peer,) = served.endpoint.peers
        assert len(server_peer.quic.streams.by_number) <= 2 * limits.QUIC_PEER_STREAMS_MAX + 16


async def test_random_bytes_on_every_kind_of_stream(served: Served) -> None:
    for seed in range(12):
        rng = random.Random(seed)
        client = await served.connect()
        quic = client.peer.quic
        for _ in range(8):
            stream = quic.get_next_available_stream_id(is_unidirectional=rng.random() < 0.5)
            quic.send_stream_data(
                stream, rng.randbytes(rng.randrange(1, 3000)), end_stream=rng.random() < 0.5
            )
            if rng.random() < 0.3:
                quic.reset_stream(stream, rng.randrange(1 << 30))
        client.peer.hub.mark(client.peer)
        for sid in list(quic.streams.by_number):
            if rng.random() < 0.3 and quic.streams.can_receive(sid):
                quic.stop_stream(sid, 7)
        client.peer.hub.mark(client.peer)
        with contextlib.suppress(RequestFailed):
            await client.ping()
        client.close()


async def test_endless_frames_are_not_held(served: Served) -> None:
    for prefix in (b"\x00\x04\xbf\xff\xff\xff", b"\x00\x0d\xbf\xff\xff\xff"):
        client = await served.connect()
        quic = client.peer.quic
        stream = quic.get_next_available_stream_id(is_unidirectional=True)
        quic.send_stream_data(stream, prefix + bytes(500_000))
        client.peer.hub.mark(client.peer)
        await client.wait_closed()
        client.close()


async def test_capsules_of_any_kind_are_skipped_and_the_closing_one_is_bounded(served: Served) -> None:
    async with await served.connect() as client:
        link, _ = await open_session(client)
        far = served.doors.sessions[0]
        h3 = client.peer.h3
        assert h3 is not None
        unknown = encode_uint_var(0x1234) + encode_uint_var(5000) + os.urandom(5000)
        for start in range(0, len(unknown), 700):
            h3.send_data(link.session_id, unknown[start : start + 700], end_stream=False)
        close = encode_uint_var(0x2843) + encode_uint_var(4 + 5) + (7).to_bytes(4, "big") + b"later"
        for byte in close:
            h3.send_data(link.session_id, bytes([byte]), end_stream=False)
        client.peer.hub.mark(client.peer)
        await until(lambda: far.closed == 1)
        assert (far.link.closed_code, far.link.closed_reason) == (7, "later")


async def test_a_stream_in_countless_pieces_ends_its_connection_and_no_other(served: Served) -> None:
    async with await served.connect() as client, await served.connect() as other:
        await open_session(other)
        await client.ping()
        quic = client.peer.quic
        assert isinstance(quic, Connection)
        for first in range(0, 20_000, 200):
            content = b"".join(
                b"\x0e" + encode_uint_var(2) + encode_uint_var(2 * n + 1) + b"\x01x"
                for n in range(first, first + 200)
            )
            packet = packet_of(quic, content)
            client.endpoint.udp.send([(packet, quic.address)])
        async with asyncio.timeout(HANG_S):
            await client.wait_closed()
        assert "pieces" in (client.close_reason or "")
        await other.ping()


class _Sink(FateSink):
    def on_fate(self, token: int, acked: bool) -> None: ...
