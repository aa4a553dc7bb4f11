"""The gateway by a streamed HTTP/2 answer over TLS on TCP. Room: bench/doors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from bench.doors import Close, Send, Take, credentials, trust
from bench.doors.webtransport_door import live_path
from bench.doors.webtransport_door import publisher as webtransport_publisher
from gateway.limits import STREAM_MESSAGE_BYTES_MAX
from gateway.wire import MessageStream


async def subscribe(target: Mapping[str, Any], take: Take) -> Close:
    """One connection with one endless GET."""
    context = trust(target).ssl_context()
    transport = httpx.AsyncHTTPTransport(http2=True, verify=context, local_address=target.get("local"))
    client = httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(10.0, read=None))
    headers = {"accept": "application/vnd.mvgateway.frames", **credentials(target)}
    request = client.build_request("GET", target["url"] + live_path(target, "subscribe"), headers=headers)
    response = await client.send(request, stream=True)
    response.raise_for_status()

    async def listen() -> None:
        stream = MessageStream(STREAM_MESSAGE_BYTES_MAX)
        async for chunk in response.aiter_raw():
            stream.feed(chunk)
            for message in stream:
                take(message)

    task = asyncio.create_task(listen())

    async def close() -> None:
        task.cancel()
        await response.aclose()
        await client.aclose()

    return close


async def publisher(target: Mapping[str, Any], take: Take | None = None) -> tuple[Send, Close]:
    """Publishing is not what this door is measured for."""
    return await webtransport_publisher(target, take)
