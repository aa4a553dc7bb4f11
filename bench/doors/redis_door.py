"""Redis pub/sub over TCP. Room: bench/doors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from bench.doors import Close, Send, Take

CHANNEL = "frames"


async def subscribe(target: Mapping[str, Any], take: Take) -> Close:
    """One connection subscribed to the channel."""
    client: Any = Redis(host=target["host"], port=target["port"])
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(CHANNEL)

    async def listen() -> None:
        async for message in pubsub.listen():
            take(message["data"])

    task = asyncio.create_task(listen())

    async def close() -> None:
        task.cancel()
        await pubsub.aclose()
        await client.aclose()

    return close


async def publisher(target: Mapping[str, Any], take: Take | None = None) -> tuple[Send, Close]:
    """One connection that publishes from a queue, so that a tick never waits for an answer."""
    client: Any = Redis(host=target["host"], port=target["port"])
    queue: asyncio.Queue[bytes] = asyncio.Queue()

    async def drain() -> None:
        while True:
            await client.publish(CHANNEL, await queue.get())

    task = asyncio.create_task(drain())

    def send(messages: list[bytes]) -> None:
        for message in messages:
            queue.put_nowait(message)

    async def close() -> None:
        task.cancel()
        await client.aclose()

    return send, close  # type: ignore[return-value]
