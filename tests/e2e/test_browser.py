"""A page in a real Chromium follows and publishes a world, by WebTransport and by WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest_asyncio

from gateway.client import Publisher, Subscriber
from gateway.client.motion import Avatars
from gateway.config import Settings
from gateway.runtime.gateway import Gateway
from tests.e2e.browser import Browser


@pytest_asyncio.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    settings = Settings(port=0, plain="", store=str(tmp_path / "store"), certs=str(tmp_path / "certs"))
    gateway = await Gateway.start(settings)
    yield gateway
    await gateway.drain(2.0)


async def test_a_page_takes_frames_by_webtransport_with_a_pinned_certificate(
    gateway: Gateway, pages: str, tmp_path: Path
) -> None:
    url, ca = f"https://127.0.0.1:{gateway.port}", tmp_path / "certs" / "ca.pem"
    avatars = Avatars(5)
    async with (
        Publisher(url, "arena", stride=100, ca=ca) as publisher,
        Browser(tmp_path / "profile") as browser,
    ):
        publisher.send(avatars.frame(1))
        query = {
            "url": url,
            "world": "arena",
            "hash": gateway.certificates.current.sha256,
            "transport": "webtransport",
        }
        page = await browser.open(f"{pages}/example.html?{urlencode(query)}")
        await page.until("document.title === 'open'")
        assert await page.evaluate("subscriber.link.kind") == "webtransport"
        for tick in range(2, 60):
            publisher.send(avatars.frame(tick))
            await asyncio.sleep(1 / 60)
        await page.until(f"subscriber.state.tick === {publisher.tick}")
        seen = await page.evaluate(
            "Object.fromEntries([...subscriber.state.keys()].map(k => [k, [...subscriber.state.get(k)]]))"
        )
        assert {int(key): bytes(data) for key, data in seen.items()} == publisher.records()
        assert await page.evaluate("subscriber.counts.messages") > 30
        assert not await page.evaluate("subscriber.malformed")


async def test_a_page_publishes_by_webtransport_and_python_reads_it(
    gateway: Gateway, pages: str, tmp_path: Path
) -> None:
    url, ca = f"https://127.0.0.1:{gateway.port}", tmp_path / "certs" / "ca.pem"
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{pages}/example.html")
        await page.until("window.subscriber")
        opened = await page.evaluate(
            f"""(async () => {{
              const {{ Publisher }} = await import("./mvgateway.js");
              window.pub = new Publisher("{url}", "painted", {{
                certificateHash: "{gateway.certificates.current.sha256}", transport: "webtransport" }});
              const welcome = await pub.open();
              pub.send(new Map([[1, new Uint8Array([1, 2, 3])], [2, new Uint8Array(5000).fill(7)]]));
              return welcome.epoch;
            }})()"""
        )
        assert opened == 1
        async with Subscriber(url, "painted", ca=ca) as reader:
            async with asyncio.timeout(10):
                async for _ in reader:
                    if reader.records() == {1: b"\x01\x02\x03", 2: b"\x07" * 5000}:
                        break
