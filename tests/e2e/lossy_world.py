"""Either side of a world over a link of its own, run inside a network namespace by the test beside it.

``python -m tests.e2e.lossy_world publish|follow URL CA COUNT``: publishes from one, or follows from
``COUNT`` connections until each holds the publisher's last state; prints what it saw as one JSON line.
It says ``open`` or ``ready`` when it is connected; the publisher begins, and later ends, at a line of input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from gateway.client import Publisher, Subscriber
from tests.patience import HANG_S

WORLD, LAST, TICK_S = "plaza", 180, 1 / 60


def frame(n: int) -> dict[int, bytes]:
    """The records of a tick: one datagram of small ones, or (every third) several of large ones."""
    if n % 3:
        return {key: n.to_bytes(4, "big") * 15 for key in range(1, 6)}
    return {key: n.to_bytes(4, "big") * 110 for key in range(101, 115)}


def final() -> dict[int, bytes]:
    """What the world holds after the last tick."""
    return {**frame(LAST - 1), **frame(LAST)}


async def publish(url: str, ca: str) -> dict[str, Any]:
    """Publish all ticks, then stay until told to go."""
    loop = asyncio.get_running_loop()
    async with Publisher(url, WORLD, transport="webtransport", ca=ca) as publisher:
        publisher.send(frame(1))
        print("open", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        for n in range(1, LAST + 1):
            publisher.send(frame(n))
            await asyncio.sleep(TICK_S)
        await loop.run_in_executor(None, sys.stdin.readline)
        return {"lost": publisher.counts.lost_datagrams}


async def follow(url: str, ca: str, count: int) -> dict[str, Any]:
    """Follow until every connection holds the last state."""
    seen = await asyncio.gather(*(_follow_one(url, ca) for _ in range(count)))
    return {"messages": seen, "converged": len(seen)}


async def _follow_one(url: str, ca: str) -> int:
    wanted, messages = final(), 0
    async with Subscriber(url, WORLD, transport="webtransport", ca=ca) as reader:
        print("ready", flush=True)
        async with asyncio.timeout(HANG_S):
            async for _ in reader:
                messages += 1
                for key, data in reader.records().items():
                    assert data == data[:4] * (15 if key < 100 else 110), f"record {key} is not as sent"
                if reader.records() == wanted:
                    break
    return messages


if __name__ == "__main__":
    role, url, ca, count = sys.argv[1:]
    work = publish(url, ca) if role == "publish" else follow(url, ca, int(count))
    print(json.dumps(asyncio.run(work)), flush=True)
