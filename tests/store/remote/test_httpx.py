"""HTTP/2 and HTTP/1.1 to a store: large bodies side by side, a server that speaks only the old one, a silent one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable
from gateway.store.base import Namespace
from gateway.store.remote import Ask, HttpxTransport, RemoteOptions, RemoteStore
from tests.patience import HANG_S
from tests.store.remote.test_conformance import served

NS = Namespace("world")


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[str]:
    async with served(tmp_path) as (store, data, _):
        await store.create_namespace(NS.key)
        yield data


async def test_many_large_bodies_go_side_by_side(data: str) -> None:
    store = RemoteStore([HttpxTransport(data)])
    pages = [os.urandom(8_192) for _ in range(100)]
    hashes = await asyncio.gather(*(store.write(NS, pages) for _ in range(8)))
    assert all(each == hashes[0] for each in hashes)
    assert store.facts()["retries"] == 0
    await store.aclose()


async def test_a_server_without_http2_is_asked_by_http1() -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line.startswith(b"GET"):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        else:
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(old, "127.0.0.1", 0)
    transport = HttpxTransport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    for _ in range(2):
        assert (await transport.request(Ask("GET", "/stat", {}, b"", 1_000), 5.0)).body == b"{}"
    await transport.aclose()
    server.close()


async def test_a_server_that_accepts_and_says_nothing_is_told_within_the_deadline() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    store = RemoteStore([HttpxTransport(url)], options=RemoteOptions(deadline_s=0.4))
    async with asyncio.timeout(HANG_S):
        with pytest.raises(StoreUnavailable, match=url):
            await store.stat(NS)
    await store.aclose()
    server.close()


async def test_an_answer_without_end_is_not_taken() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
        except OSError:
            pass

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    transport = HttpxTransport(url, http2=False)
    with pytest.raises(StoreUnavailable, match="over 1000000 bytes"):
        await transport.request(Ask("GET", "/stat", {}, b"", 1_000_000), 5.0)
    await transport.aclose()
    server.close()
