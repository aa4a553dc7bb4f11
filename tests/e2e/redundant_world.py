"""Either side of a world for the test beside it, run inside a network namespace.

``python -m tests.e2e.redundant_world publish URL CA`` publishes 60 frames a second from one line of input to the next, by turns of
one datagram and of several; ``follow URL CA auto|off`` follows until a line of input, then prints what it counted as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

from gateway.client import Publisher, Subscriber

WORLD, TICK_S = "plaza", 1 / 60


def frame(n: int) -> dict[int, bytes]:
    """The records of a tick: small ones that fit one datagram, or some that take several."""
    records = range(1, 6) if n % 2 else range(101, 111)
    return {key: n.to_bytes(4, "big") * (15 if n % 2 else 90) for key in records}


async def publish(url: str, ca: str) -> None:
    """As the module says."""
    loop = asyncio.get_running_loop()
    async with Publisher(url, WORLD, ca=ca) as publisher:
        publisher.send(frame(1))
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        stopped, n = loop.run_in_executor(None, sys.stdin.readline), 1
        while not stopped.done():
            n += 1
            publisher.send(frame(n))
            await asyncio.sleep(TICK_S)


async def follow(url: str, ca: str, redundancy: str) -> None:
    """As the module says."""
    loop = asyncio.get_running_loop()
    kind = "off" if redundancy == "off" else "auto"
    async with Subscriber(url, WORLD, transport="webtransport", ca=ca, redundancy=kind) as reader:
        print("ready", flush=True)
        stopped = loop.run_in_executor(None, sys.stdin.readline)
        reading = asyncio.create_task(_take(reader))
        await stopped
        reading.cancel()
        print(json.dumps(reader.counts.as_json()), flush=True)


async def _take(reader: Subscriber) -> None:
    seen: set[tuple[int, int]] = set()
    async for got in reader:
        for key, data in got.records.items():
            assert data is not None
            assert data == data[:4] * (15 if key < 100 else 90), f"record {key} is not as sent"
            if not got.repair and not got.keyframe:
                assert (got.tick, key) not in seen, "a value was given twice"
                seen.add((got.tick, key))


if __name__ == "__main__":
    role, *words = sys.argv[1:]
    asyncio.run(publish(*words) if role == "publish" else follow(*words))
