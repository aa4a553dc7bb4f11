"""A publisher without limits: keys without end, bombs; the gateway stays small, says no by name, and serves others."""

from __future__ import annotations

import asyncio
import os
import struct

import zstandard

from gateway import limits
from gateway.client import Publisher
from gateway.wire import Control, Frame, Record, encode_frame, prefix
from tests.abuse.conftest import LONG, Innocent, Target, attack_on, given_back
from tests.patience import HANG_S

FRAME_RECORDS = 1_000


def flood(tick: int, size: int) -> bytes:
    """A thousand keys that nobody has seen."""
    first = tick * FRAME_RECORDS
    rows = [Record(first + n, os.urandom(size)) for n in range(FRAME_RECORDS)]
    return encode_frame(Frame(0, tick, rows))


async def test_new_keys_without_end_fill_a_world_and_no_more(target: Target, innocent: Innocent) -> None:
    refused = 0
    async with attack_on(target, innocent) as attack, target.client() as client:
        for tick in range(1, 1_000 if LONG else 200):
            answer = await client.post("/v1/worlds/full/frames", content=prefix(flood(tick, 100)))
            if answer.status_code == 413:
                refused += 1
                assert answer.json()["code"] == "world_full"
                assert "--records-per-world-max" in answer.text
    attack.check()
    assert refused > 100
    facts = await info(target, "full")
    assert facts["records"] == limits.RECORDS_PER_WORLD_MAX
    assert await target.metric("mvgateway_refusals_total", bound="records_per_world_max") >= refused
    await given_back(target, attack)


async def test_large_records_without_end_are_bounded_in_bytes_and_the_publisher_is_told(
    target: Target,
) -> None:
    told: list[Control] = []
    publisher = Publisher(target.url, "heavy", ca=target.ca, on_notice=told.append)
    async with attack_on(target) as attack, publisher:
        for step in range(8_000 if LONG else 600):
            publisher.send({step * 4 + n: os.urandom(6_000) for n in range(4)})
            await asyncio.sleep(0.005)
        async with asyncio.timeout(HANG_S):
            while not told:
                publisher.send({10**6: os.urandom(6_000)})
                await asyncio.sleep(0.05)
        assert publisher.connected
    attack.check()
    assert told[0].fields["bound"] == "world_bytes_max"
    assert (await info(target, "heavy"))["records"] <= limits.WORLD_BYTES_MAX // 6_000
    await given_back(target, attack)


async def info(target: Target, world: str) -> dict[str, object]:
    async with target.client() as client:
        found: dict[str, object] = (await client.get(f"/v1/worlds/{world}")).json()
    return found


BOMB = struct.pack("<BBHHHIIQ", 1, 2, 0, 1, 4, 0, 1, 0) + zstandard.ZstdCompressor(level=19).compress(
    struct.pack("<I", 1) * 1_000_000
)


async def test_a_short_message_of_a_million_records_is_refused_before_it_is_read(
    target: Target, innocent: Innocent
) -> None:
    assert len(BOMB) < 600
    tries = 2_000 if LONG else 300
    async with attack_on(target, innocent) as attack, target.client() as client:
        for _ in range(tries):
            answer = await client.post("/v1/worlds/bomb/frames", content=prefix(BOMB))
            assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
            assert "bound of" in answer.json()["detail"]
    attack.check(cpu_s=2 + 0.01 * tries)
    await given_back(target, attack)
