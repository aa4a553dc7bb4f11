"""The gateway by WebSocket over TLS on TCP. Room: bench/doors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from bench.doors import Close, Send, Take, credentials, trust
from bench.doors.webtransport_door import live_path
from gateway.limits import STREAM_MESSAGE_BYTES_MAX


async def _connected(target: Mapping[str, Any], role: str) -> ClientConnection:
    context = trust(target).ssl_context()
    url = f"wss://{target['host']}:{target['port']}{live_path(target, role)}"
    return await connect(
        url,
        ssl=context,
        additional_headers=credentials(target),
        compression=None,
        max_size=STREAM_MESSAGE_BYTES_MAX,
        ping_interval=None,
        local_addr=(target["local"], 0) if "local" in target else None,
    )


async def subscribe(target: Mapping[str, Any], take: Take) -> Close:
    """One connection."""
    connection = await _connected(target, "subscribe")

    async def listen() -> None:
        async for message in connection:
            if isinstance(message, bytes):
                take(message)

    task = asyncio.create_task(listen())

    async def close() -> None:
        task.cancel()
        await connection.close()

    return close


async def publisher(target: Mapping[str, Any], take: Take | None = None) -> tuple[Send, Close]:
    """One connection that publishes binary messages from a queue."""
    connection = await _connected(target, "publish")
    queue: asyncio.Queue[bytes] = asyncio.Queue()

    async def drain() -> None:
        while True:
            await connection.send(await queue.get())

    async def ignore() -> None:
        async for _ in connection:
            pass

    tasks = [asyncio.create_task(drain()), asyncio.create_task(ignore())]

    def send(messages: Sequence[bytes]) -> None:
        for message in messages:
            queue.put_nowait(message)

    async def close() -> None:
        for task in tasks:
            task.cancel()
        await connection.close()

    return send, close
