"""A page in a real Chromium, and in a real Firefox, follows and publishes a world, by WebTransport and by WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from gateway.cli._motion import Avatars
from gateway.client import Publisher, Subscriber
from gateway.config import Settings
from gateway.runtime.gateway import Gateway
from tests.client.conftest import until
from tests.client.older import without_redundancy
from tests.e2e.browser import Browser, Page
from tests.e2e.firefox import Firefox
from tests.kits.abilities import proves
from tests.patience import HANG_S

BROWSERS = [Browser, Firefox]
TRANSPORTS = ["webtransport", "websocket"]
Kind = type[Browser] | type[Firefox]


@pytest_asyncio.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    folders = {"store": str(tmp_path / "store"), "certs": str(tmp_path / "certs")}
    gateway = await Gateway.start(Settings(port=0, plain="127.0.0.1:0", **folders))
    yield gateway
    await gateway.drain(2.0)


def _address(gateway: Gateway, transport: str) -> str:
    """What a page is given: WebTransport pins the certificate, but no browser takes a self-signed one for a WebSocket."""
    assert gateway.plain_server is not None
    if transport == "webtransport":
        return f"https://127.0.0.1:{gateway.port}"
    return f"http://127.0.0.1:{gateway.plain_server.port}"


async def _follow(browser: Browser | Firefox, gateway: Gateway, pages: str, transport: str) -> Page:
    """The kit's own example, once it follows the world ``arena``."""
    url, pin = _address(gateway, transport), gateway.certificates.current.sha256
    query = {"url": url, "world": "arena", "hash": pin, "transport": transport}
    page = await browser.open(f"{pages}/example.html?{urlencode(query)}")
    await page.until("document.title === 'open'")
    assert await page.evaluate("subscriber.link.kind") == transport
    return page


@proves("web", "datagrams", "websocket")
@pytest.mark.parametrize("kind", BROWSERS)
async def test_a_page_takes_frames_and_ends_with_what_the_publisher_has(
    kind: Kind, gateway: Gateway, pages: str, tmp_path: Path
) -> None:
    url, ca = f"https://127.0.0.1:{gateway.port}", tmp_path / "certs" / "ca.pem"
    avatars = Avatars(5)
    async with (
        Publisher(url, "arena", stride=100, ca=ca) as publisher,
        kind(tmp_path / "profile") as browser,
    ):
        publisher.send(avatars.frame(1))
        for transport in TRANSPORTS:
            page = await _follow(browser, gateway, pages, transport)
            for _ in range(31):  # a page that is slow gets less: what it has is what it must have got
                for _ in range(2):
                    publisher.send(avatars.frame(publisher.tick + 1))
                    await asyncio.sleep(1 / 60)
                await page.until(f"subscriber.state.tick === {publisher.tick}")
            seen = await page.evaluate(
                "Object.fromEntries([...subscriber.state.keys()].map(k => [k, [...subscriber.state.get(k)]]))"
            )
            assert {int(key): bytes(data) for key, data in seen.items()} == publisher.records()
            assert await page.evaluate("subscriber.counts.messages") > 30
            assert not await page.evaluate("subscriber.malformed")


@proves("web", "publish")
@pytest.mark.parametrize("kind", BROWSERS)
async def test_a_page_publishes_and_python_reads_it(
    kind: Kind, gateway: Gateway, pages: str, tmp_path: Path
) -> None:
    ca = tmp_path / "certs" / "ca.pem"
    async with kind(tmp_path / "profile") as browser:
        page = await browser.open(f"{pages}/example.html")
        await page.until("window.subscriber")
        for transport in TRANSPORTS:
            opened = await page.evaluate(
                f"""(async () => {{
                  const {{ Publisher }} = await import("./mvgateway.js");
                  window.pub = new Publisher("{_address(gateway, transport)}", "{transport}", {{
                    certificateHash: "{gateway.certificates.current.sha256}", transport: "{transport}" }});
                  const welcome = await pub.open();
                  pub.send(new Map([[1, new Uint8Array([1, 2, 3])], [2, new Uint8Array(5000).fill(7)]]));
                  return welcome.epoch;
                }})()"""
            )
            assert opened == 1
            async with Subscriber(f"https://127.0.0.1:{gateway.port}", transport, ca=ca) as reader:
                async with asyncio.timeout(HANG_S):
                    async for _ in reader:
                        if reader.records() == {1: b"\x01\x02\x03", 2: b"\x07" * 5000}:
                            break


async def test_a_page_says_that_it_rebuilds_and_is_let_in_where_that_is_not_understood(
    gateway: Gateway, pages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = without_redundancy(monkeypatch)
    ca = tmp_path / "certs" / "ca.pem"
    async with (
        Publisher(f"https://127.0.0.1:{gateway.port}", "arena", ca=ca) as publisher,
        Browser(tmp_path / "profile") as browser,
    ):
        publisher.send({1: b"x"})
        page = await _follow(browser, gateway, pages, "webtransport")
        await page.until("subscriber.state.size === 1")
        await until(lambda: "redundancy" in heard)
        await _follow(browser, gateway, pages, "websocket")
    assert [kind for kind in heard if kind != "ping"] == [
        "redundancy"
    ]  # a ping is not understood there either
