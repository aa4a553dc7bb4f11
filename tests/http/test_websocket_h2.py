"""WebSocket over HTTP/2 (RFC 8441): the same session by extended CONNECT."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import h2.config
import h2.connection
import h2.events
import wsproto.frame_protocol as ws

from gateway.core.ports import CloseCode
from gateway.wire import decode_control
from tests.abuse.attackers import dial
from tests.http.conftest import Serve
from tests.http.test_server import EchoDoors, app_of
from tests.patience import HANG_S

T = TypeVar("T", bound=h2.events.Event)


class Tunnel:
    """A WebSocket inside one HTTP/2 stream, just enough of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._frames = ws.FrameProtocol(client=True, extensions=[])
        self._events: list[h2.events.Event] = []

    async def open(self, path: str) -> str:
        self._h2.initiate_connection()
        await self._flush()
        await self._next(h2.events.RemoteSettingsChanged)
        head = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path)]
        self._h2.send_headers(1, [*head, (":authority", "localhost"), ("sec-websocket-version", "13")])
        await self._flush()
        answer = await self._next(h2.events.ResponseReceived)
        return dict(answer.headers)[":status"]

    async def send(self, message: bytes) -> None:
        await self.write(self._frames.send_data(message, fin=True))

    async def receive(self) -> ws.Frame:
        while True:
            for frame in self._frames.received_frames():
                return frame
            self._frames.receive_bytes(await self.read())

    async def read(self) -> bytes:
        """The next bytes of the stream, as they come."""
        event = await self._next(h2.events.DataReceived)
        self._h2.acknowledge_received_data(event.flow_controlled_length, 1)
        return bytes(event.data)

    async def write(self, data: bytes) -> None:
        """Bytes onto the stream, as they are."""
        self._h2.send_data(1, data)
        await self._flush()

    async def _next(self, kind: type[T]) -> T:
        while True:
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, kind):
                    return event
            data = await asyncio.wait_for(self._reader.read(65_536), HANG_S)
            assert data, "the server hung up"
            self._events += self._h2.receive_data(data)
            await self._flush()

    async def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())
        await self._writer.drain()


async def test_a_websocket_inside_an_http_2_stream_echoes_and_is_closed_with_a_reason(serve: Serve) -> None:
    doors = EchoDoors()
    served = await serve(app_of(doors), tls=False)
    reader, writer = await dial(served.port)
    tunnel = Tunnel(reader, writer)
    assert await tunnel.open("/echo") == "200"
    for size in (1, 200, 16_000):
        await tunnel.send(b"m" * size)
        got = b""
        while len(got) < size:
            got += bytes((await tunnel.receive()).payload)
        assert got == b"m" * size
    await tunnel.send(b"bye")
    farewell = await tunnel.receive()
    assert decode_control(bytes(farewell.payload)).type == "bye"
    closing = await tunnel.receive()
    assert closing.opcode is ws.Opcode.CLOSE
    assert closing.payload[0] == 4_000 + CloseCode.TAKEN_OVER
    await asyncio.wait_for(doors.sessions[0].closed.wait(), HANG_S)
    writer.close()
