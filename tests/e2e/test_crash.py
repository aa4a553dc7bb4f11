"""A gateway killed with SIGKILL in the middle of publishing, and what comes back."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from gateway.cli._child import GatewayChild
from gateway.cli._motion import Avatars
from gateway.client import Publisher, Subscriber, fetch_last
from tests.patience import FOREIGN_S, HANG_S


async def test_the_demo_recovers_byte_for_byte_what_was_sent_before_the_kill() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "demo", "--seconds", "4", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, log = await asyncio.wait_for(process.communicate(), FOREIGN_S)
    assert process.returncode == 0, log.decode()
    results = json.loads(out)
    assert set(results) == {"frames_sent", "delivered", "latency_ms", "durable_lag_ms", "crash"}
    assert set(results["delivered"]) == {"webtransport", "websocket"}
    assert all(count > 0 for count in results["delivered"].values())
    crash = results["crash"]
    assert crash["recovered_equal"] is True
    assert crash["durable_tick"] <= crash["recovered_tick"] <= crash["last_sent_tick"]
    assert results["frames_sent"] >= crash["last_sent_tick"]


async def test_what_was_announced_as_durable_is_there_after_each_of_several_kills(tmp_path: Path) -> None:
    child = GatewayChild(tmp_path)
    avatars = Avatars(4)
    motion = 0
    for _ in range(3):
        await child.start()
        sent = {}
        async with Publisher(child.url, "w", stride=100, ca=child.ca) as publisher:
            while publisher.durable_order() < (publisher.epoch, 20):
                motion += 1
                publisher.send(avatars.frame(motion))
                sent[publisher.tick] = publisher.records()
                await asyncio.sleep(0.005)
            await child.kill()
            epoch, durable = publisher.epoch, publisher.durable_order()[1]
        await child.start()
        found = await fetch_last(child.url, "w", ca=child.ca)
        assert (found.epoch, found.tick >= durable) == (epoch, True)
        assert found.records == sent[found.tick]
        await child.kill()


async def test_a_reader_that_only_listens_finds_the_restarted_gateway_by_itself(tmp_path: Path) -> None:
    child = GatewayChild(tmp_path)
    await child.start()
    async with Publisher(child.url, "w", ca=child.ca) as publisher:
        publisher.send({1: b"before"})
        await publisher.wait_durable()
        async with Subscriber(child.url, "w", transport="webtransport", ca=child.ca) as reader:
            await child.kill()
            await child.start()
            publisher.send({2: b"after"})
            async with asyncio.timeout(HANG_S):
                async for _ in reader:
                    if reader.records() == {1: b"before", 2: b"after"}:
                        break
            assert reader.connects >= 2
    assert await child.stop() == 0
