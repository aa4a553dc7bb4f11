"""One world through every door: the same frames arrive whatever transport a reader comes by."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import websockets

from gateway import quic
from gateway.core.ports import Link
from gateway.core.state import WorldState
from gateway.runtime import certs
from gateway.runtime.gateway import Gateway
from gateway.wire import Control, Frame, MessageStream, Record, decode_message, encode_frame
from tests.patience import HANG_S
from tests.runtime.conftest import StartGateway, until
from tests.store.standin.fixtures import EACH_STORE

OVER = EACH_STORE

TRUTH = {1: b"one", 2: b"two" * 30, 3: b"three"}


class Follower:
    """Any door's messages, into a state."""

    def __init__(self, link: Link | None = None) -> None:
        self.link = link
        self.state = WorldState()
        self.controls: list[Control] = []
        self._streams: dict[int, MessageStream] = {}

    def on_message(self, data: bytes, mono: float = 0.0) -> None:
        message = decode_message(data)
        if isinstance(message, Frame):
            self.state.apply(message)
        else:
            self.controls.append(message)

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float = 0.0) -> None:
        stream = self._streams.setdefault(stream_id, MessageStream())
        stream.feed(data)
        for message in stream:
            self.on_message(message)

    def on_stream_reset(self, stream_id: int) -> None: ...

    def on_acked(self, token: int, count: int = 1) -> None: ...

    def on_lost(self, token: int) -> None: ...

    def on_writable(self, mono: float) -> None: ...

    def on_closed(self, mono: float) -> None: ...


def trust_of(gateway: Gateway) -> quic.QuicTrust:
    assert gateway.certificates.ca_path is not None
    return quic.QuicTrust(ca_pem=Path(gateway.certificates.ca_path).read_bytes())


def tls_of(gateway: Gateway) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(gateway.certificates.ca_path))


async def by_webtransport(gateway: Gateway, follower: Follower) -> None:
    def make(link: Link) -> Follower:
        follower.link = link
        return follower

    client, _ = await quic.connect_webtransport(
        "127.0.0.1",
        gateway.port,
        "/v1/worlds/w/live",
        trust=trust_of(gateway),
        make_session=make,
        timeout_s=HANG_S,
    )
    try:
        await asyncio.Event().wait()
    finally:
        client.close()
        await client.wait_closed()


async def by_websocket(gateway: Gateway, follower: Follower) -> None:
    url = f"wss://127.0.0.1:{gateway.port}/v1/worlds/w/live"
    async with websockets.connect(url, ssl=tls_of(gateway)) as socket:
        async for data in socket:
            assert isinstance(data, bytes)
            follower.on_message(data)


async def by_http1(gateway: Gateway, follower: Follower) -> None:
    await by_stream(gateway, follower, httpx.AsyncClient(verify=tls_of(gateway), timeout=HANG_S))


async def by_http2(gateway: Gateway, follower: Follower) -> None:
    await by_stream(
        gateway, follower, httpx.AsyncClient(verify=tls_of(gateway), http1=False, http2=True, timeout=HANG_S)
    )


async def by_stream(gateway: Gateway, follower: Follower, client: httpx.AsyncClient) -> None:
    async with client, client.stream("GET", f"https://127.0.0.1:{gateway.port}/v1/worlds/w/live") as answer:
        async for piece in answer.aiter_bytes():
            follower.on_stream_data(0, piece, False)


async def by_http3(gateway: Gateway, follower: Follower) -> None:
    client = await quic.connect("127.0.0.1", gateway.port, trust=trust_of(gateway), timeout_s=HANG_S)
    try:
        answer = await client.request("GET", "/v1/worlds/w/live")
        async for piece in answer:
            follower.on_stream_data(0, piece, False)
    finally:
        client.close()
        await client.wait_closed()


READERS = [by_webtransport, by_websocket, by_http1, by_http2, by_http3]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
async def test_a_reader_by_any_door_gets_the_keyframe_and_then_the_frames(
    start_gateway: StartGateway, reader: Callable[[Gateway, Follower], Awaitable[None]]
) -> None:
    gateway = await start_gateway()
    publisher = Follower()

    def make(link: Link) -> Follower:
        publisher.link = link
        return publisher

    client, link = await quic.connect_webtransport(
        *("127.0.0.1", gateway.port, "/v1/worlds/w/live?role=publish"),
        trust=trust_of(gateway),
        make_session=make,
        timeout_s=HANG_S,
    )
    send = iter(range(1, 1 << 20))
    link.send(frame_of(next(send), {1: b"one", 2: b"old"}), 1)
    world = gateway.worlds.hosts["w"].world
    await until(lambda: world.state.tick == 1)
    follower = Follower()
    following = asyncio.ensure_future(reader(gateway, follower))
    await until(lambda: following.done() or follower.state.snapshot() == {1: b"one", 2: b"old"})
    link.send(frame_of(next(send), {2: TRUTH[2], 3: TRUTH[3]}), 2)
    await until(lambda: following.done() or follower.state.snapshot() == TRUTH)
    assert [c.type for c in follower.controls][:2] == ["welcome", "resync"]
    await until(lambda: any(c.type == "durable" and c["tick"] == 2 for c in publisher.controls))
    following.cancel()
    client.close()
    await asyncio.gather(following, client.wait_closed(), return_exceptions=True)
    await until(lambda: not world.subscribers and world.publisher is None)


def frame_of(tick: int, records: dict[int, bytes]) -> bytes:
    return encode_frame(
        Frame(0, tick, [Record(*r) for r in records.items()], sent_at=time.time_ns() // 1_000)
    )


async def test_http3_serves_the_same_routes_and_problems(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    client = await quic.connect("127.0.0.1", gateway.port, trust=trust_of(gateway), timeout_s=HANG_S)
    made = await client.request("PUT", "/v1/worlds/w", body=b'{"stride": 8}')
    assert made.status == 201
    await made.read(10_000)
    refused = await client.request("GET", "/v1/worlds/nobody")
    assert (refused.status, refused.header(b"content-type")) == (404, b"application/problem+json")
    await refused.read(10_000)
    large = await client.request("PUT", "/v1/worlds/w", body=b"x" * 200_000)
    assert large.status == 413
    client.close()
    await client.wait_closed()


async def test_a_webtransport_session_that_is_refused_hears_why(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    with pytest.raises(quic.SessionRefused) as refused:
        await quic.connect_webtransport(
            *("127.0.0.1", gateway.port, "/v1/worlds/nobody/live"),
            trust=trust_of(gateway),
            make_session=Follower,
            timeout_s=HANG_S,
        )
    assert refused.value.http_status == 404


async def test_a_new_certificate_is_shown_by_tcp_and_quic_without_a_restart(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    first = certs.ensure_own(own, "127.0.0.1", datetime.now(UTC))
    gateway = await start_gateway(cert=str(own / certs.LEAF_CERT), key=str(own / certs.LEAF_KEY))
    assert await shown_by_tcp(gateway) == await shown_by_quic(gateway, first.sha256) == first.sha256
    second = certs.ensure_own(own, "127.0.0.1", datetime.now(UTC), renew=True)
    assert gateway.certificates.refresh()
    assert await shown_by_tcp(gateway) == await shown_by_quic(gateway, second.sha256) == second.sha256
    assert gateway.facts()["certificate_sha256"] == second.sha256


async def shown_by_tcp(gateway: Gateway) -> str:
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=anybody)
    leaf = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return hashlib.sha256(leaf).hexdigest()


async def shown_by_quic(gateway: Gateway, pinned: str) -> str:
    """Connect while trusting nothing but the pinned hash, and ask which one it is."""
    trust = quic.QuicTrust(certificate_hashes=frozenset({bytes.fromhex(pinned)}))
    client = await quic.connect("127.0.0.1", gateway.port, trust=trust, timeout_s=HANG_S)
    answer = await client.request("GET", "/certificate.sha256")
    text = (await answer.read(1_000)).decode().strip()
    client.close()
    await client.wait_closed()
    return text


@pytest.mark.parametrize(("retry", "wanted"), [("on", True), ("off", False), ("auto", False)])
async def test_address_validation_can_be_switched_and_is_off_on_loopback(
    start_gateway: StartGateway, retry: str, wanted: bool
) -> None:
    gateway = await start_gateway(retry=retry)
    client = await quic.connect("127.0.0.1", gateway.port, trust=trust_of(gateway), timeout_s=HANG_S)
    assert (await client.request("GET", "/healthz")).status == 200
    assert (gateway.endpoint.counters["retries"] > 0) is wanted
    client.close()
    await client.wait_closed()


async def test_address_validation_is_on_beyond_loopback(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(host="0.0.0.0", insecure_public=True)
    client = await quic.connect("127.0.0.1", gateway.port, trust=trust_of(gateway), timeout_s=HANG_S)
    assert (await client.request("GET", "/healthz")).status == 200
    assert gateway.endpoint.counters["retries"] > 0
    client.close()
    await client.wait_closed()
