"""Whatever a peer sends to the TCP side: no unhandled exception, and others are served on."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator

import httpx
import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from gateway.errors import BadInput
from gateway.http.queries import U32_MAX, check_keys, flag, time_us, u32
from gateway.runtime.gateway import Gateway
from gateway.wire import Frame, Record, encode_frame
from tests.abuse.attackers import dial
from tests.patience import HANG_S
from tests.runtime.conftest import settings_in

ROUNDS = 20_000 if os.environ.get("MVGATEWAY_FUZZ") == "long" else 150
NOW_US = 1_800_000_000_000_000


@pytest.fixture
async def gateway(tmp_path: os.PathLike[str]) -> AsyncIterator[Gateway]:
    from pathlib import Path

    running = await Gateway.start(settings_in(Path(tmp_path)))
    yield running
    await running.drain(0.5)


async def is_well(gateway: Gateway) -> None:
    assert gateway.plain_server is not None
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{gateway.plain_server.port}/healthz")
    assert answer.status_code == 200
    assert gateway.app.failures == 0


async def test_fuzz_random_bytes_on_both_tcp_ports(gateway: Gateway) -> None:
    assert gateway.plain_server is not None
    dice = random.Random(7)
    starts = [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"POST /v1/worlds/w/frames HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    ]
    for _ in range(ROUNDS):
        port = dice.choice((gateway.port, gateway.plain_server.port))
        reader, writer = await dial(port)
        writer.write(dice.choice(starts) + dice.randbytes(dice.randrange(400)))
        writer.write_eof()
        try:
            await asyncio.wait_for(reader.read(), HANG_S)
        except ConnectionError:
            pass
        writer.close()
    await is_well(gateway)


async def test_fuzz_random_websocket_messages(gateway: Gateway) -> None:
    assert gateway.plain_server is not None
    dice = random.Random(8)
    url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live"
    good = encode_frame(Frame(0, 1, [Record(k, b"x" * 20) for k in range(4)]))
    for _ in range(ROUNDS):
        role = dice.choice(("publish&takeover=1", "subscribe"))
        async with websockets.connect(f"{url}?role={role}") as socket:
            try:
                for _ in range(5):
                    await socket.send(mangled(dice, good) if dice.random() < 0.8 else "text")
                await asyncio.wait_for(socket.recv(), HANG_S)
            except websockets.ConnectionClosed:
                pass
    await is_well(gateway)


def mangled(dice: random.Random, message: bytes) -> bytes:
    data = bytearray(message[: dice.randrange(len(message) + 1)])
    for _ in range(dice.randrange(4)):
        if data:
            data[dice.randrange(len(data))] = dice.randrange(256)
    return bytes(data)


async def test_fuzz_random_paths_and_queries(gateway: Gateway) -> None:
    assert gateway.plain_server is not None
    dice = random.Random(9)
    parts = [
        "v1",
        "worlds",
        "w",
        "frames",
        "last",
        "live",
        "udp",
        "entities",
        "%00",
        "%2e%2e",
        "a" * 300,
        "{}",
        "é",
    ]
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{gateway.plain_server.port}", timeout=HANG_S
    ) as client:
        for _ in range(ROUNDS):
            path = "/" + "/".join(dice.choices(parts, k=dice.randrange(5)))
            query = "&".join(
                f"{dice.choice(('at', 'tick', 'x', 'role'))}={dice.choice(('1', '', '%ff', '9' * 40, '-1', 'é'))}"
                for _ in range(dice.randrange(3))
            )
            method = dice.choice(("GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS"))
            if path.endswith("/live") and method == "GET":
                continue
            answer = await client.request(
                method, f"{path}?{query}", content=dice.randbytes(dice.randrange(64))
            )
            assert answer.status_code < 500 or answer.status_code == 503, (method, path, query, answer.text)
    await is_well(gateway)


@given(st.text(max_size=40))
def test_fuzz_a_time_is_a_number_or_a_clear_refusal(text: str) -> None:
    try:
        assert isinstance(time_us(text, NOW_US), int)
    except BadInput:
        pass


@given(st.text(max_size=12))
def test_fuzz_a_u32_is_within_its_bounds_or_refused(text: str) -> None:
    query = QueryParams([("tick", text)])
    try:
        value = u32(query, "tick")
        assert value is not None
        assert 0 <= value <= U32_MAX
    except BadInput:
        pass


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-11-20T21:14:03Z", 1_795_209_243_000_000),
        ("2026-11-20 21:14:03", 1_795_209_243_000_000),
        ("2026-11-20T22:14:03.5+01:00", 1_795_209_243_500_000),
        ("90s-ago", NOW_US - 90_000_000),
        ("1.5m-ago", NOW_US - 90_000_000),
        ("2h", NOW_US - 7_200_000_000),
        ("10", NOW_US - 10_000_000),
    ],
)
def test_times_are_read_as_people_write_them(text: str, us: int) -> None:
    assert time_us(text, NOW_US) == us


def test_unknown_and_repeated_keys_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match="'tock' is unknown"):
        check_keys(QueryParams("tock=1"), ("tick",))
    with pytest.raises(BadInput, match="'tick' is given twice"):
        check_keys(QueryParams("tick=1&tick=2"), ("tick",))
    with pytest.raises(BadInput, match="neither 1 nor 0"):
        flag(QueryParams("durable=yes"), "durable")
