"""Clients that keep to no bounds: bytes written by hand, over plain sockets, with no library that would object."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0,
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    9,
)
END_STREAM, END_HEADERS = 0x1, 0x4
INITIAL_WINDOW_SIZE = 0x4

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def h2_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def h2_settings(values: dict[int, int] | None = None) -> bytes:
    return h2_frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", k, v) for k, v in (values or {}).items()))


def h2_request(
    stream: int, path: str, *more: tuple[str, str], method: str = "GET", end: bool = True
) -> bytes:
    head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost"), *more]
    block = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*pair) for pair in head], huffman=False)
    return h2_frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)


def ws_frame(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A client's frame: masked, by a key of zeros."""
    first = bytes([(0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode])
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return first + length + bytes(4) + payload


class _WordsKept(asyncio.StreamReaderProtocol):
    """What had come before a write failed is read, as a client does that waits for its answer all the same. asyncio's
    streams hand the failure to the reader too, and forget what lies in the socket."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._words = reader
        self._transport_of_words: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport_of_words = transport
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        transport = self._transport_of_words
        if exc is not None and transport is not None and transport.get_extra_info("ssl_object") is None:
            its_own = os.dup(transport.get_extra_info("socket").fileno())
            with socket.socket(fileno=its_own) as sock, contextlib.suppress(OSError):
                while piece := sock.recv(65_536, socket.MSG_DONTWAIT):
                    self._words.feed_data(piece)
            exc = None
        super().connection_lost(exc)


async def dial(port: int, host: str = "127.0.0.1", **more: Any) -> Pair:
    """A connection that reads what it was told although it failed to write; its end is an end, however it came."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = _WordsKept(reader)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **more)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


@asynccontextmanager
async def connected(port: int, first: bytes = b"", host: str = "127.0.0.1") -> AsyncIterator[Pair]:
    reader, writer = await dial(port, host)
    try:
        writer.write(first)
        yield reader, writer
    finally:
        writer.transport.abort()


async def ws_open(port: int, path: str, *headers: str) -> Pair:
    """A WebSocket after its handshake."""
    reader, writer = await dial(port)
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return reader, writer


async def ws_next(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """(opcode, payload) of the server's next frame."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8), "big")
    return first & 0x0F, await reader.readexactly(size)


async def ws_close_code(reader: asyncio.StreamReader) -> int:
    """The code of the server's Close, whatever comes before it."""
    while True:
        opcode, payload = await ws_next(reader)
        if opcode == 8:
            return int.from_bytes(payload[:2], "big")


async def push(writer: asyncio.StreamWriter, data: bytes, times: int) -> int:
    """Write ``data`` up to so many times; answers how often it went before the other side ended it."""
    for done in range(times):
        try:
            writer.write(data)
            await writer.drain()
        except ConnectionError:
            return done
        if writer.transport.is_closing():
            return done
    return times


async def put_state(client: object, world: str, size: int) -> None:
    """Give a world a state of about ``size`` bytes."""
    from gateway.wire import Frame, Record, encode_frame, prefix

    records = [Record(key, os.urandom(1_000)) for key in range(size // 1_000)]
    body = prefix(encode_frame(Frame(0, 1, records, keyframe=True)))
    answer = await client.post(f"/v1/worlds/{world}/frames?durable=1", content=body)  # type: ignore[attr-defined]
    assert answer.status_code == 200, answer.text
