"""Frames of a size that no window holds at once: whole in the store and at readers, whoever sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.client import Publisher, Subscriber, fetch_last
from gateway.limits import MIB, QUIC_STREAM_WINDOW_BYTES
from gateway.runtime.gateway import Gateway
from tests.client.conftest import Served, settings_in
from tests.patience import HANG_S


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    gateway = await Gateway.start(settings_in(tmp_path, world_bytes_max=32 * MIB))
    try:
        yield Served(gateway, tmp_path / "certs")
    finally:
        await gateway.drain(2.0)


@pytest.mark.parametrize(("records", "record_bytes"), [(3_000, 300), (1_500, 8_000)])
async def test_a_publishers_frame_beyond_the_window_becomes_durable(
    served: Served, records: int, record_bytes: int
) -> None:
    sent = {key: key.to_bytes(4, "little") * (record_bytes // 4) for key in range(1, records + 1)}
    assert records * record_bytes > QUIC_STREAM_WINDOW_BYTES // 2
    async with Publisher(served.url, "w", transport="webtransport", ca=served.ca) as publisher:
        publisher.send(sent, keyframe=True)
        mark = await asyncio.wait_for(publisher.wait_durable(), HANG_S)
        assert (mark.epoch, mark.tick) == (1, 1)
    last = await fetch_last(served.url, "w", ca=served.ca)
    assert last.records == sent


async def test_a_reader_gets_all_of_thirty_thousand_records(
    served: Served, until: Callable[..., Any]
) -> None:
    sent = {key: key.to_bytes(4, "little") * 50 for key in range(1, 30_001)}
    async with (
        Publisher(served.url, "w", transport="webtransport", ca=served.ca) as publisher,
        Subscriber(served.url, "w", transport="webtransport", ca=served.ca) as reader,
    ):
        publisher.send(sent, keyframe=True)
        await until(lambda: len(reader.state) == len(sent), HANG_S)
        assert reader.records() == sent
        async with Subscriber(served.url, "w", transport="webtransport", ca=served.ca) as later:
            await until(lambda: later.records() == sent, HANG_S)
