"""A gateway in a process of its own, whose world keeps everything and is drawn as avatars: to be looked at, killed and begun again."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from gateway.cli._child import GatewayChild
from gateway.client import Publisher

TRUSTING = "--ignore-certificate-errors"


@asynccontextmanager
async def lived(folder: Path, world: str = "arena") -> AsyncIterator[GatewayChild]:
    """It runs, with that world; killed at the end."""
    child = GatewayChild(folder)
    await child.start()
    try:
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=child.ca)) as client:
            told = {"stride": 100, "layout": "avatars", "retention": "record"}
            (await client.put(f"{child.url}/v1/worlds/{world}", json=told)).raise_for_status()
        yield child
    finally:
        await child.kill()


def publisher_of(child: GatewayChild, world: str = "arena") -> Publisher:
    return Publisher(child.url, world, stride=100, ca=child.ca)
