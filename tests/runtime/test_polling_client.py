"""A WebSocket client that looks at its socket now and then, as engines do: it learns why it was refused, over both versions.

Godot's WebSocketPeer reads what has come once a frame, drops the packets that came together with a Close, and over TLS
reports code -1 where the connection ends before it has answered.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable

import h2.config
import h2.connection
import h2.events
import pytest

from gateway import limits
from gateway.core.ports import CloseCode
from gateway.runtime.gateway import Gateway
from gateway.wire import decode_message
from tests.abuse.attackers import ws_frame
from tests.patience import HANG_S
from tests.runtime.conftest import StartGateway, body, client_of, frame

POLL_S = 1 / 60
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
Read = Callable[[], Awaitable[bytes]]
"""What has come since the last look; raises ``EOFError`` where the other side has ended."""
Write = Callable[[bytes], None]


class Engine:
    """Looks every :data:`POLL_S`. ``code``: as Godot tells it, -1 where there was no Close that it could answer."""

    def __init__(self, read: Read, write: Write) -> None:
        self._read, self._write = read, write
        self._buffer = b""
        self.messages: list[bytes] = []
        self.code = -1
        self.answered_at = 0.0

    async def run(self) -> None:
        """Until the connection ends."""
        while True:
            try:
                self._buffer += await self._read()
            except EOFError:
                return
            self._look()
            await asyncio.sleep(POLL_S)

    def _look(self) -> None:
        came = []
        while (one := self._next()) is not None:
            opcode, payload = one
            if opcode == 8:
                came.clear()  # what came in the same look is lost
                self.code = int.from_bytes(payload[:2], "big")
                self.answered_at = time.monotonic()
                self._write(ws_frame(8, payload))
            else:
                came.append(payload)
        self.messages += came

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, at = buffer[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(buffer[2:4], "big"), 4
        if len(buffer) < at + size:
            return None
        self._buffer = buffer[at + size :]
        return buffer[0] & 0x0F, buffer[at : at + size]


async def some(reader: asyncio.StreamReader) -> bytes:
    """What is there, without waiting for more than a look."""
    try:
        data = await asyncio.wait_for(reader.read(65_536), POLL_S)
    except TimeoutError:
        return b""
    except ConnectionError:
        raise EOFError from None
    if not data:
        raise EOFError
    return data


async def over_http_1(gateway: Gateway, path: str, *, tls: bool) -> Engine:
    reader, writer = await opened(gateway, tls, ["http/1.1"])
    writer.write(HANDSHAKE.format(path=path).encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")

    async def read() -> bytes:
        return await some(reader)

    return Engine(read, writer.write)


async def over_http_2(gateway: Gateway, path: str, *, tls: bool) -> Engine:
    reader, writer = await opened(gateway, tls, ["h2"])
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    came = bytearray()
    statuses: list[str] = []
    ended = False

    async def events() -> None:
        nonlocal ended
        for event in connection.receive_data(await some(reader)):
            if isinstance(event, h2.events.RemoteSettingsChanged) and not statuses:
                statuses.append("")
                head = [
                    (":method", "CONNECT"),
                    (":protocol", "websocket"),
                    (":scheme", "https"),
                    (":path", path),
                ]
                connection.send_headers(
                    1, [*head, (":authority", "localhost"), ("sec-websocket-version", "13")]
                )
            elif isinstance(event, h2.events.ResponseReceived):
                statuses.append(dict(event.headers)[":status"])
            elif isinstance(event, h2.events.DataReceived):
                came.extend(event.data)
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                ended = True
        writer.write(connection.data_to_send())

    async def read() -> bytes:
        if ended and not came:
            raise EOFError
        if not ended:
            await events()
        data = bytes(came)
        came.clear()
        return data

    def write(data: bytes) -> None:
        connection.send_data(1, data)
        writer.write(connection.data_to_send())

    async with asyncio.timeout(HANG_S):
        while len(statuses) < 2:
            await events()
    assert statuses[1] == "200"
    return Engine(read, write)


async def opened(
    gateway: Gateway, tls: bool, protocols: list[str]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    assert gateway.plain_server is not None
    if not tls:
        return await asyncio.open_connection("127.0.0.1", gateway.plain_server.port)
    context = ssl.create_default_context(cafile=str(gateway.certificates.ca_path))
    context.set_alpn_protocols(protocols)
    return await asyncio.open_connection("127.0.0.1", gateway.port, ssl=context)


async def crowded(gateway: Gateway) -> None:
    """World ``w`` is there and has a publisher, and no more worlds may be opened."""
    async with client_of(gateway) as client:
        posted = await client.post("/v1/worlds/w/frames", content=body(frame(1, {1: b"x"})))
        assert posted.status_code == 202


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("version", [over_http_1, over_http_2])
@pytest.mark.parametrize(
    ("path", "said", "code"),
    [
        ("/v1/worlds/nobody/live", "unknown_world", CloseCode.ERROR),
        ("/v1/worlds/w/live?role=publish&epoch=7", "publisher_present", CloseCode.PUBLISHER_PRESENT),
        ("/v1/worlds/other/live?role=publish", "too_many", CloseCode.ERROR),
        ("/v1/worlds/w/live?nonsense=1", "bad_input", CloseCode.ERROR),
    ],
)
async def test_an_engine_that_looks_now_and_then_learns_why_it_was_refused(
    start_gateway: StartGateway,
    monkeypatch: pytest.MonkeyPatch,
    version: Callable[..., Awaitable[Engine]],
    tls: bool,
    path: str,
    said: str,
    code: CloseCode,
) -> None:
    monkeypatch.setattr(limits, "WEBSOCKET_CLOSE_S", HANG_S)
    gateway = await start_gateway(worlds_per_address_max=1 if said == "too_many" else 8)
    await crowded(gateway)
    engine = await version(gateway, path, tls=tls)
    async with asyncio.timeout(HANG_S):
        await engine.run()
    (message,) = map(decode_message, engine.messages)
    assert (message.type, message["code"]) == ("error", said)  # type: ignore[union-attr, index]
    assert engine.code == 4_000 + code
    assert time.monotonic() - engine.answered_at < HANG_S, "the answer ends it, not the clock"
