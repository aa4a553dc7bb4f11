"""The client against a real gateway in this process: both transports, trust, reconnecting."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.client import Publisher, Subscriber, fetch_last
from gateway.errors import (
    BadInput,
    ConfigError,
    GatewayError,
    NothingRecorded,
    PublisherPresent,
    StoreUnavailable,
    UnknownWorld,
)
from gateway.runtime.gateway import Gateway
from tests.client.conftest import Served, settings_in
from tests.kits.abilities import proves
from tests.patience import HANG_S

TRANSPORTS = ("webtransport", "websocket")


def record(key: int, text: bytes) -> bytes:
    return key.to_bytes(4, "little") + text.ljust(16, b".")


@proves("python", "datagrams", "websocket", "publish", "last_state")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_is_published_reaches_a_reader_and_the_store(
    served: Served, until: Callable[..., Any], transport: str
) -> None:
    async with Publisher(served.url, "w", stride=20, transport=transport, ca=served.ca) as publisher:
        publisher.send({1: record(1, b"one"), 2: record(2, b"two")})
        async with Subscriber(served.url, "w", transport=transport, ca=served.ca) as reader:
            await until(lambda: len(reader.state) == 2)
            publisher.send({2: None, 3: record(3, b"three")})
            await until(lambda: reader.records() == publisher.records())
            assert reader.transport == transport
        mark = await asyncio.wait_for(publisher.wait_durable(), HANG_S)
        assert (mark.epoch, mark.tick) == (1, 2)
    last = await fetch_last(served.url, "w", ca=served.ca)
    assert (last.epoch, last.tick, last.records) == (1, 2, {1: record(1, b"one"), 3: record(3, b"three")})


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_frames_come_as_an_async_iterator_with_what_changed(served: Served, transport: str) -> None:
    async with (
        Publisher(served.url, "w", ca=served.ca) as publisher,
        Subscriber(served.url, "w", transport=transport, ca=served.ca) as reader,
    ):
        publisher.send({9: b"first"})
        async with asyncio.timeout(HANG_S):
            async for frame in reader:
                if frame.records:
                    break
        assert frame.records == {9: b"first"}
        assert (frame.epoch, frame.tick) == (1, 1)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_frame_far_over_a_datagram_arrives_whole(
    served: Served, until: Callable[..., Any], transport: str
) -> None:
    big = {key: bytes([key % 256]) * 300 for key in range(1500)}
    async with (
        Publisher(served.url, "w", transport=transport, ca=served.ca) as publisher,
        Subscriber(served.url, "w", transport=transport, ca=served.ca) as reader,
    ):
        publisher.send(big)
        publisher.send({5000: b"y" * 3000})
        await until(lambda: reader.records() == publisher.records())
        assert publisher.counts.streams >= 1


async def test_a_keyframe_removes_what_it_does_not_hold(served: Served, until: Callable[..., Any]) -> None:
    async with (
        Publisher(served.url, "w", ca=served.ca) as publisher,
        Subscriber(served.url, "w", ca=served.ca) as reader,
    ):
        publisher.send({1: b"a", 2: b"b"})
        await until(lambda: len(reader.state) == 2)
        publisher.send({2: b"b"}, keyframe=True)
        await until(lambda: reader.records() == {2: b"b"})


@proves("python", "takeover", "refusals")
async def test_a_second_publisher_is_refused_unless_it_takes_over(
    served: Served, until: Callable[..., Any]
) -> None:
    async with Publisher(served.url, "w", ca=served.ca) as first:
        first.send({1: b"x"})
        for transport in TRANSPORTS:
            with pytest.raises(PublisherPresent):
                await Publisher(served.url, "w", transport=transport, ca=served.ca).start()
        async with Publisher(served.url, "w", takeover=True, ca=served.ca) as second:
            await until(lambda: first.error is not None)
            assert second.epoch == 2
            with pytest.raises(GatewayError):
                first.send({1: b"too late"})


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_has_closed_publishes_again_at_once_by_either_transport(
    served: Served, transport: str
) -> None:
    """Without a word of the run before: no ``epoch``, no ``resume``, no ``takeover``."""
    for epoch, then in enumerate([transport, *TRANSPORTS, transport], start=1):
        async with Publisher(served.url, "w", transport=then, ca=served.ca) as publisher:
            publisher.send({1: b"x"})
            assert publisher.epoch == epoch


async def test_a_publishing_verb_that_is_told_to_end_leaves_its_place(served: Served) -> None:
    """SIGTERM, as of a service manager: a QUIC connection that only falls silent would keep the place for half a minute."""
    argv = ["publish", "w", "--url", served.url, "--ca", str(served.ca), "--transport", "webtransport"]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", *argv, stderr=asyncio.subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        assert child.stderr is not None
        async with asyncio.timeout(HANG_S):
            assert b"publishing w" in await child.stderr.readline()
            child.terminate()
            assert await child.wait() == -signal.SIGTERM
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
    async with Publisher(served.url, "w", ca=served.ca) as publisher:
        assert publisher.epoch == 2


async def test_a_certificate_that_is_not_trusted_is_told_in_one_line(served: Served, tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "watch", "w", "--url", served.url),
        cwd=tmp_path / "store",
        env={"PYTHONPATH": str(Path(__file__).parents[2]), **os.environ},
        stderr=asyncio.subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    _, told = await asyncio.wait_for(child.communicate(), HANG_S)
    assert child.returncode == 2
    assert re.fullmatch(r"mvgateway watch: the certificate of .* is not trusted .*--ca .*\n", told.decode())


async def test_what_cannot_be_sent_is_refused_at_once(served: Served) -> None:
    async with Publisher(served.url, "w", stride=20, ca=served.ca) as publisher:
        publisher.send({1: record(1, b"x")}, tick=10)
        with pytest.raises(BadInput, match="not above 10"):
            publisher.send({1: record(1, b"x")}, tick=10)
        with pytest.raises(BadInput, match="stride=20"):
            publisher.send({1: record(2, b"x")})


async def test_tcp_is_taken_where_udp_gets_no_answer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TCP proxy on a port of its own, with a silent UDP socket beside it, is such a network."""
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    port = silent.getsockname()[1]

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", served.gateway.port)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer), return_exceptions=True)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    proxy = await asyncio.start_server(relay, "127.0.0.1", port)
    try:
        async with Publisher(f"https://127.0.0.1:{port}", "w", ca=served.ca) as publisher:
            assert publisher.transport == "websocket"
            publisher.send({1: b"over tcp"})
            await asyncio.wait_for(publisher.wait_durable(), HANG_S)
        last = await fetch_last(f"https://127.0.0.1:{port}", "w", ca=served.ca)
        assert last.records == {1: b"over tcp"}
    finally:
        proxy.close()
        silent.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_pinned_certificate_is_believed_and_another_is_not(served: Served, transport: str) -> None:
    async with Subscriber(
        served.url, (await _world(served)), transport=transport, certificate_sha256=served.sha256
    ):
        pass
    for trust in ({"certificate_sha256": "00" * 32}, {}):
        with pytest.raises((ConfigError, StoreUnavailable)):
            await Subscriber(served.url, "w", transport=transport, connect_timeout_s=1, **trust).start()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_any_certificate_will_do_where_that_was_asked_for(served: Served, transport: str) -> None:
    async with Subscriber(served.url, (await _world(served)), transport=transport, insecure=True):
        pass


async def _world(served: Served) -> str:
    async with Publisher(served.url, "w", ca=served.ca) as publisher:
        publisher.send({1: b"x"})
        await publisher.wait_durable()
    return "w"


async def test_a_world_that_is_not_there_is_an_error_and_not_a_wait(served: Served) -> None:
    for transport in TRANSPORTS:
        with pytest.raises(UnknownWorld):
            await Subscriber(served.url, "nowhere", transport=transport, ca=served.ca).start()
        with pytest.raises((UnknownWorld, NothingRecorded)):
            await fetch_last(served.url, "nowhere", transport=transport, ca=served.ca)


async def test_nothing_that_listens_is_told_within_the_time_given() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(StoreUnavailable):
            await Publisher(
                f"https://127.0.0.1:{closed.getsockname()[1]}", "w", insecure=True, connect_timeout_s=0.5
            ).start()


@proves("python", "comes_back")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_gateway_that_comes_back_finds_publisher_and_reader_again(
    tmp_path: Path, until: Callable[..., Any], transport: str
) -> None:
    gateway = await Gateway.start(settings_in(tmp_path))
    port, ca = gateway.port, tmp_path / "certs" / "ca.pem"
    url = f"https://127.0.0.1:{port}"
    async with (
        Publisher(url, "w", transport=transport, ca=ca) as publisher,
        Subscriber(url, "w", transport=transport, ca=ca) as reader,
    ):
        publisher.send({1: b"before"})
        await publisher.wait_durable()
        await gateway.drain(2.0)
        await until(lambda: not publisher.connected and not reader.connected)
        assert publisher.send({2: b"meanwhile"}) == 2
        import dataclasses

        gateway = await Gateway.start(dataclasses.replace(settings_in(tmp_path), port=port))
        try:
            await until(lambda: publisher.connected and reader.connected, HANG_S)
            assert publisher.epoch == 1
            await until(lambda: reader.records() == {1: b"before", 2: b"meanwhile"})
            publisher.send({1: b"after"})
            await until(lambda: reader.records() == {1: b"after", 2: b"meanwhile"})
        finally:
            await publisher.aclose()
            await reader.aclose()
            await gateway.drain(2.0)
