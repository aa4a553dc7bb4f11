"""A publisher and a reader who do nothing wrong, as a process of their own: ``python -m tests.abuse.innocent URL CA``.

Publishes 60 frames of 20 records a second to the world ``innocent`` and follows it. On each line of its input it
writes one JSON object: ``{"frames": so many came since the last line, "seconds": …}``; at the end of it it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from gateway.client import Publisher, Subscriber
from tests.patience import HANG_S

HZ = 60.0
WORLD = "innocent"


async def _publish(publisher: Publisher) -> None:
    due = time.monotonic()
    while True:
        publisher.send({key: os.urandom(60) for key in range(20)})
        due = max(due + 1 / HZ, time.monotonic() - 0.1)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _count(subscriber: Subscriber, seen: set[tuple[int, int]]) -> None:
    async for frame in subscriber:
        seen.add((frame.epoch, frame.tick))


async def main(url: str, ca: str) -> None:
    seen: set[tuple[int, int]] = set()
    patient = {"ca": ca, "connect_timeout_s": HANG_S}
    async with Publisher(url, WORLD, **patient) as publisher, Subscriber(url, WORLD, **patient) as subscriber:
        tasks = [asyncio.ensure_future(_publish(publisher)), asyncio.ensure_future(_count(subscriber, seen))]
        began, loop = time.monotonic(), asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            now = time.monotonic()
            print(json.dumps({"frames": len(seen), "seconds": now - began}), flush=True)
            seen.clear()
            began = now
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
