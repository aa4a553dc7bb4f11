"""NATS core over TCP. Room: bench/doors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import nats
from nats.aio.msg import Msg

from bench.doors import Close, Send, Take

SUBJECT = "frames"


async def subscribe(target: Mapping[str, Any], take: Take) -> Close:
    """One connection subscribed to the subject."""
    client = await nats.connect(f"nats://{target['host']}:{target['port']}")

    async def received(message: Msg) -> None:
        take(message.data)

    await client.subscribe(SUBJECT, cb=received)
    await client.flush()
    return client.close


async def publisher(target: Mapping[str, Any], take: Take | None = None) -> tuple[Send, Close]:
    """One connection; the client library batches by itself."""
    client = await nats.connect(f"nats://{target['host']}:{target['port']}")
    tasks: set[asyncio.Task[None]] = set()

    def send(messages: Sequence[bytes]) -> None:
        for message in messages:
            task = asyncio.create_task(client.publish(SUBJECT, message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    return send, client.close
