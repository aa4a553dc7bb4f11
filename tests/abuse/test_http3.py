"""HTTP/3: who asks for much and takes nothing holds little, is given up, and leaves others their answers."""

from __future__ import annotations

import asyncio
import os
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

from gateway.wire import Frame, Record, encode_frame, prefix
from tests.abuse.conftest import LONG, Innocent, Target, attack_on, given_back, rises

STATE_RECORDS, RECORD_BYTES = 4_000, 1_000
SLOW_S = 30 if LONG else 12


class Attacker(QuicConnectionProtocol):
    """Asks, and grants no more than ``window`` bytes for all the answers together."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.h3 = H3Connection(self._quic)
        self.statuses: list[bytes] = []

    def quic_event_received(self, event: QuicEvent) -> None:
        for told in self.h3.handle_event(event):
            self.statuses += [v for name, v in getattr(told, "headers", ()) if name == b":status"]

    def ask(self, path: str, times: int) -> None:
        for _ in range(times):
            headers = [
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":authority", b"127.0.0.1"),
                (b":path", path.encode()),
            ]
            self.h3.send_headers(self._quic.get_next_available_stream_id(), headers, end_stream=True)
        self.transmit()


@asynccontextmanager
async def attacker(target: Target, window: int) -> AsyncIterator[Attacker]:
    settings = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, max_data=window, max_stream_data=window, idle_timeout=60
    )
    settings.verify_mode = ssl.CERT_NONE
    port = target.port("https")
    async with connect(
        "127.0.0.1", port, configuration=settings, create_protocol=Attacker, wait_connected=True
    ) as made:
        assert isinstance(made, Attacker)
        # grants nothing more: aioquic would as soon as half is used, and has no setting for an attacker
        made._quic._write_connection_limits = lambda *args, **kwargs: None  # type: ignore[method-assign]
        made._quic._write_stream_limits = lambda *args, **kwargs: None  # type: ignore[method-assign]
        yield made


async def fill(target: Target, world: str) -> None:
    """A state of 4 MB."""
    rows = [
        Record(key, struct.pack("<I", key) + os.urandom(RECORD_BYTES - 4)) for key in range(STATE_RECORDS)
    ]
    body = prefix(encode_frame(Frame(0, 1, rows, stride=RECORD_BYTES)))
    async with target.client() as client:
        answer = await client.post(f"/v1/worlds/{world}/frames?durable=1", content=body)
        assert answer.status_code == 200, answer.text
        assert len((await client.get(f"/v1/worlds/{world}/frames/last")).content) > 4_000_000


@pytest.mark.parametrize("accept", ["messages"])
async def test_whole_states_for_a_window_of_nothing_cost_a_few_of_them(
    target: Target, innocent: Innocent, accept: str
) -> None:
    await fill(target, "large")
    async with attack_on(target, innocent) as attack:
        async with attacker(target, 4_000) as first, attacker(target, 4_000) as second:
            for each in (first, second):
                each.ask("/v1/worlds/large/frames/last", 120)
            await asyncio.sleep(SLOW_S)
            await rises(target, "mvgateway_quic_events_total", what="answers_stalled")
        async with target.client() as client:
            answer = await client.get("/v1/worlds/large/frames/last")
            assert answer.status_code == 200
    attack.check(cpu_s=SLOW_S)
    await given_back(target, attack)


async def test_small_answers_that_nobody_takes_are_bounded_for_all_connections_together(
    target: Target,
) -> None:
    async with attack_on(target) as attack:
        holders = [attacker(target, 4_000) for _ in range(60 if LONG else 25)]
        made = [await holder.__aenter__() for holder in holders]
        for _ in range(3):
            for one in made:
                one.ask("/", 40)
            await asyncio.sleep(1.0)
        async with target.client() as client:
            assert (await client.get("/")).status_code == 200
        for holder in holders:
            await holder.__aexit__(None, None, None)
    attack.check()
    await given_back(target, attack)
