"""Two servers, two worlds, three kinds of readers; one is revoked, one expires, one renews; at 60 Hz, over a path that
loses packets, and the gateway is killed in between: who saw and wrote what is checked from what they got and from the
journal."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from gateway import quic
from gateway.core.ports import Link
from gateway.wire import Frame, MessageStream, Record, decode_message, encode_frame
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess

from .conftest import Maker
from .knocking import (
    Session,
    WebSocketSession,
    WebTransportSession,
    bearer,
    token_message,
)

LOSS = 0.05
TICK_S = 1 / 60
PLAZA, ARENA = "plaza-1", "arena-1"


class LossyPath(asyncio.DatagramProtocol):
    """Carries UDP to a port that may change, and loses some of it. One port of its own for each client."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._back: dict[Any, asyncio.DatagramTransport] = {}
        self.transport: Any = None
        self.to = 0
        self.lost = 0

    async def begin(self) -> int:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return int(self.transport.get_extra_info("sockname")[1])

    def loses(self) -> bool:
        lost = self._random.random() < LOSS
        self.lost += lost
        return lost

    def datagram_received(self, data: bytes, addr: Any) -> None:
        asyncio.get_running_loop().create_task(self._forward(data, addr))

    async def _forward(self, data: bytes, addr: Any) -> None:
        if addr not in self._back:
            loop, path = asyncio.get_running_loop(), self

            class Back(asyncio.DatagramProtocol):
                def datagram_received(self, data: bytes, _: Any) -> None:
                    if not path.loses():
                        path.transport.sendto(data, addr)

            self._back[addr], _ = await loop.create_datagram_endpoint(
                Back, remote_addr=("127.0.0.1", self.to)
            )
        if not self.loses():
            self._back[addr].sendto(data)

    def forget(self) -> None:
        for transport in self._back.values():
            transport.close()
        self._back.clear()

    def end(self) -> None:
        self.forget()
        self.transport.close()


class Noting(Session):
    """Keeps the bytes of every record that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bytes] = set()

    def on_message(self, data: bytes, mono: float = 0.0) -> None:
        message = decode_message(data)
        if isinstance(message, Frame):
            self.seen.update(record.data for record in message.records if record.data is not None)
        super().on_message(data, mono)


class NotingWebSocket(Noting, WebSocketSession):
    def __init__(self, socket: Any) -> None:
        WebSocketSession.__init__(self, socket)
        self.seen = set()


class NotingWebTransport(Noting, WebTransportSession):
    pass


class NotingStream(Noting):
    async def read(self, url: str, token: str, tls: ssl.SSLContext) -> None:
        async with (
            httpx.AsyncClient(verify=tls, timeout=HANG_S) as client,
            client.stream("GET", url, headers=bearer(token)) as answer,
        ):
            stream = MessageStream()
            async for piece in answer.aiter_bytes():
                stream.feed(piece)
                for message in stream:
                    self.on_message(message)
        self.on_closed()


class House:
    """The gateway's process, the path to it, and ways in."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self._folder, self._keys = folder, keys
        self.path = LossyPath(7)
        self.process: Any = None
        self.port = self.lossy_port = 0

    async def start(self) -> None:
        self.process = await asyncio.to_thread(
            lambda: GatewayProcess(self._folder, "--auth-keys", str(self._keys)).wait_ready()
        )
        self.port = self.process.port("https")
        self.path.to = self.port
        self.path.forget()
        self.lossy_port = self.lossy_port or await self.path.begin()
        self.tls = ssl.create_default_context(cafile=str(self._folder / "certs" / "ca.pem"))

    async def websocket(self, path: str, token: str) -> NotingWebSocket:
        url = f"wss://127.0.0.1:{self.port}{path}"
        return NotingWebSocket(
            await websockets.connect(url, ssl=self.tls, additional_headers=bearer(token), compression=None)
        )

    async def webtransport(self, path: str, token: str) -> NotingWebTransport:
        session = NotingWebTransport()

        def make(link: Link) -> NotingWebTransport:
            session.link = link
            return session

        trust = quic.QuicTrust(ca_pem=(self._folder / "certs" / "ca.pem").read_bytes())
        session.client, _ = await quic.connect_webtransport(
            "127.0.0.1", self.lossy_port, f"{path}{'&' if '?' in path else '?'}token={token}",
            trust=trust, make_session=make, timeout_s=HANG_S,
        )  # fmt: skip
        return session


async def publish(session: Any, name: str, seconds: float) -> None:
    """So long, at 60 Hz, what says who wrote it."""
    end, tick = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        tick += 1
        message = encode_frame(Frame(0, tick, [Record(1, f"{name} {tick}".encode())], keyframe=tick == 1))
        if isinstance(session, WebSocketSession):
            await session.send(message)
        else:
            session.link.send(message, tick)
        await asyncio.sleep(TICK_S)


def by(writer: str, seen: set[bytes]) -> bool:
    return bool(seen) and all(data.startswith(writer.encode() + b" ") for data in seen)


async def recorded(house: House, world: str, token: str) -> set[bytes]:
    async with httpx.AsyncClient(verify=house.tls, timeout=HANG_S) as client:
        answer = await client.get(
            f"https://127.0.0.1:{house.port}/v1/worlds/{world}/frames", headers=bearer(token)
        )
    assert answer.status_code == 200
    stream, session = MessageStream(), Noting()
    stream.feed(answer.content)
    for message in stream:
        session.on_message(message)
    return session.seen


@pytest.mark.timeout(300)
async def test_only_who_should_sees_and_writes_what_it_should(maker: Maker, tmp_path: Path) -> None:
    house = House(tmp_path, maker.folder)
    await house.start()
    one = maker.token({"pub": ["plaza-*"]}, sub="server-1")
    two = maker.token({"pub": ["arena-*"]}, sub="server-2")
    admin = maker.token({"admin": ["*"], "sub": ["*"]}, sub="operator")
    goes = maker.token({"sub": ["plaza-*"]}, sub="goes")
    try:
        first = await house.webtransport(f"/v1/worlds/{PLAZA}/live?role=publish", one)
        second = await house.websocket(f"/v1/worlds/{ARENA}/live?role=publish", two)
        await first.until("welcome")
        await second.until("welcome")
        expires = await house.websocket(
            f"/v1/worlds/{PLAZA}/live", maker.token({"sub": ["plaza-*"]}, for_s=3, sub="expires")
        )
        renews = await house.webtransport(
            f"/v1/worlds/{PLAZA}/live", maker.token({"sub": ["plaza-*"]}, for_s=3, sub="renews")
        )
        revoked = NotingStream()
        reading = asyncio.create_task(
            revoked.read(f"https://127.0.0.1:{house.port}/v1/worlds/{PLAZA}/live", goes, house.tls)
        )
        for session in (expires, renews, revoked):
            await session.until("welcome")
        writing = asyncio.gather(publish(first, "server-1", 5.0), publish(second, "server-2", 5.0))
        await renews.until_true(lambda: renews.frames > 20)
        await revoked.until_true(lambda: revoked.frames > 20)
        await renews.send(token_message(maker.token({"sub": ["plaza-*"]}, sub="renews")))
        await renews.until("granted")
        async with httpx.AsyncClient(verify=house.tls) as client:
            await client.delete(f"https://127.0.0.1:{house.port}/v1/grants/goes", headers=bearer(admin))
        assert (await revoked.until("bye"))["reason"] == "revoked"
        assert (await expires.until("bye"))["reason"] == "expired"
        intruder = await house.websocket(f"/v1/worlds/{PLAZA}/live?role=publish", two)
        assert (await intruder.until("error"))["code"] == "grant_refused"
        had = renews.frames
        await renews.until_true(lambda: renews.frames > had + 10)  # the one that renewed sees on
        await writing
        await reading
        await asyncio.to_thread(house.process.kill)

        await house.start()
        again = await house.websocket(f"/v1/worlds/{PLAZA}/live", goes)
        assert (await again.until("error"))["code"] == "unauthorized"
        for token, world in ((two, PLAZA), (one, ARENA)):
            wrong = await house.websocket(f"/v1/worlds/{world}/live?role=publish", token)
            assert (await wrong.until("error"))["code"] == "grant_refused"
        later = await house.webtransport(
            f"/v1/worlds/{PLAZA}/live", maker.token({"sub": ["plaza-*"]}, sub="renews")
        )
        first = await house.webtransport(f"/v1/worlds/{PLAZA}/live?role=publish", one)
        await first.until("welcome")
        await asyncio.gather(publish(first, "server-1", 2.0), later.until_true(lambda: later.frames > 10))

        assert house.path.lost > 10
        for session in (expires, renews, revoked, later):
            assert by("server-1", session.seen)
        assert by("server-1", await recorded(house, PLAZA, admin))
        assert by("server-2", await recorded(house, ARENA, admin))
        for session in (expires, intruder, again, wrong, later, first):
            await session.close()
    finally:
        house.process.kill()
        house.path.end()
