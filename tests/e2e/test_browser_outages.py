"""A page in a real Chromium whose path dies without a word: it notices, goes another way, and comes back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Any

import pytest

from gateway.client import Publisher
from gateway.config import Settings
from gateway.core.pings import Pongs
from gateway.runtime.gateway import Gateway
from tests.e2e.browser import Browser, Page
from tests.e2e.relays import Path
from tests.kits.abilities import proves
from tests.patience import FOREIGN_S

TRUSTING = "--ignore-certificate-errors"
"""For TLS over TCP, as if the certificate were of a known authority. WebTransport goes by the hash all the same."""


def settings(folder: FilePath, port: int = 0) -> Settings:
    return Settings(port=port, plain="127.0.0.1:0", store=str(folder / "store"), certs=str(folder / "certs"))


@asynccontextmanager
async def a_gateway(folder: FilePath, port: int = 0) -> AsyncIterator[Gateway]:
    gateway = await Gateway.start(settings(folder, port))
    try:
        yield gateway
    finally:
        await gateway.drain(1.0)


class Beat:
    """Publishes a rising number as record 1, straight to the gateway."""

    def __init__(self, publisher: Publisher, every_s: float = 0.05) -> None:
        self.publisher = publisher
        self.number = 0
        self._every_s = every_s

    async def run(self) -> None:
        while True:
            self.number += 1
            self.publisher.send({1: self.number.to_bytes(4, "little")})
            await asyncio.sleep(self._every_s)


async def follow(page: Page, port: int, **options: Any) -> None:
    """``window.sub`` follows the world; ``window.told`` has what happened."""
    await page.until("document.readyState === 'complete'")
    await page.evaluate(
        f"""(async () => {{
          const {{ Subscriber }} = await import("./mvgateway.js");
          window.told = [];
          window.lost = [];
          window.sub = new Subscriber("https://127.0.0.1:{port}", "arena", {json.dumps(options)});
          sub.on("open", (welcome, kind) => told.push(kind));
          sub.on("close", reason => lost.push(reason));
          window.number = () => sub.state.size ? new DataView(sub.state.get(1).buffer).getUint32(0, true) : 0;
          await sub.open();
        }})()"""
    )


async def follow_watched(page: Page, port: int, kind: str, **options: Any) -> None:
    """As :func:`follow`, until it is by that transport (a page that UDP did not answer at once begins on TCP) and the gateway has
    answered a ping: an older one never does."""
    await follow(page, port, **options)
    await page.until(f"sub.link?.kind === '{kind}' && sub.link.answersPings")
    await page.evaluate("void (told.length = lost.length = 0)")


async def noticed_by_its_watchdog(page: Page) -> bool:
    """Whether it was the kit that gave a path up, and not the browser, which takes 18 to 50 s and then says so by the session's
    end. How soon the watchdog believes is tried by a clock of the test's, in ``tests/kits/web``."""
    return bool(await page.evaluate("lost.every(reason => reason === 'nothing was heard any more')"))


async def goes_on(page: Page, beat: Beat, seconds: float = FOREIGN_S) -> float:
    """Until the page has a number that was published after now; how long that took."""
    begun, number = time.monotonic(), beat.number
    await page.until(f"number() > {number}", seconds)
    return time.monotonic() - begun


@asynccontextmanager
async def beating(gateway: Gateway, folder: FilePath) -> AsyncIterator[Beat]:
    url, ca = f"https://127.0.0.1:{gateway.port}", folder / "certs" / "ca.pem"
    async with Publisher(url, "arena", ca=ca) as publisher:
        beat = Beat(publisher)
        running = asyncio.create_task(beat.run())
        try:
            yield beat
        finally:
            running.cancel()


async def test_a_page_whose_udp_is_cut_goes_on_by_tcp_and_back_when_udp_works_again(
    pages: str, tmp_path: FilePath
) -> None:
    async with (
        a_gateway(tmp_path) as gateway,
        Path(gateway.port) as path,
        beating(gateway, tmp_path) as beat,
        Browser(tmp_path / "profile", TRUSTING) as browser,
    ):
        page = await browser.open(f"{pages}/example.html")
        await follow_watched(
            page, path.port, "webtransport", certificateHash=gateway.certificates.current.sha256
        )
        await page.until("number() > 0")
        path.udp_is_cut = True
        took = await goes_on(page, beat)
        assert await page.evaluate("sub.link.kind") == "websocket"
        path.udp_is_cut = False
        await page.until("sub.link.kind === 'webtransport'")
        await goes_on(page, beat)
        assert await page.evaluate("told") == ["websocket", "webtransport"]
        assert await noticed_by_its_watchdog(page)
        print(f"noticed and on TCP after {took:.2f} s")


@proves("web", "dead_path")
@pytest.mark.parametrize("kind", ["webtransport", "websocket"])
async def test_a_dead_path_below_a_quiet_world_is_noticed_and_a_live_one_is_left_alone(
    pages: str, tmp_path: FilePath, kind: str
) -> None:
    async with (
        a_gateway(tmp_path) as gateway,
        Path(gateway.port) as path,
        Publisher(f"https://127.0.0.1:{gateway.port}", "arena", ca=tmp_path / "certs" / "ca.pem") as quiet,
        Browser(tmp_path / "profile", TRUSTING) as browser,
    ):
        quiet.send({1: (7).to_bytes(4, "little")})
        page = await browser.open(f"{pages}/example.html")
        how = "auto" if kind == "webtransport" else "websocket"
        await follow_watched(
            page, path.port, kind, transport=how, certificateHash=gateway.certificates.current.sha256
        )
        await page.until("number() === 7")
        heard = await page.evaluate("sub.link.heardAt")
        await page.until(f"sub.link.heardAt > {heard} + 6000")
        assert await page.evaluate("told") == [], "a quiet world is no dead path"
        path.udp_is_cut = True
        path.silence_tcp()
        quiet.send({1: (8).to_bytes(4, "little")})
        begun = time.monotonic()
        await page.until("number() === 8")
        print(f"on a new connection after {time.monotonic() - begun:.2f} s")
        assert await page.evaluate("told") == ["websocket"]
        assert await noticed_by_its_watchdog(page)


@proves("web", "comes_back")
@pytest.mark.parametrize("is_rotated", [False, True], ids=["same", "rotated"])
async def test_a_page_with_a_pinned_certificate_comes_back_after_an_outage(
    pages: str, tmp_path: FilePath, is_rotated: bool
) -> None:
    """No WebSocket for it, and Chromium holds back the attempts of a page whose attempts fail."""
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{pages}/example.html")
        async with a_gateway(tmp_path) as gateway:
            port, first = gateway.port, gateway.certificates.current.sha256
            async with beating(gateway, tmp_path):
                await follow(page, port, certificateHash=first)
                await page.evaluate("void (window.hash = null)")
                if is_rotated:
                    await page.evaluate(
                        "void (sub.certificateHash = () => hash ?? Promise.reject(new Error('away')))"
                    )
                await page.until("number() > 0")
        await page.until("sub.status !== 'open'")
        await asyncio.sleep(15)  # the outage itself
        if is_rotated:
            for file in (tmp_path / "certs").iterdir():
                file.unlink()
        async with a_gateway(tmp_path, port) as gateway, beating(gateway, tmp_path) as beat:
            beat.number += 1_000_000  # none that the page knows
            hash_now = gateway.certificates.current.sha256
            assert (hash_now != first) == is_rotated
            await page.evaluate(f"void (window.hash = '{hash_now}')")
            took = await goes_on(page, beat, 40)
            print(f"back {took:.2f} s after the outage")
            assert await page.evaluate("sub.link.kind") == "webtransport"


async def test_an_older_gateway_that_answers_no_ping_is_not_taken_for_dead(
    pages: str, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pongs, "answer", lambda *_: None)
    async with (
        a_gateway(tmp_path) as gateway,
        Publisher(f"https://127.0.0.1:{gateway.port}", "arena", ca=tmp_path / "certs" / "ca.pem") as quiet,
        Browser(tmp_path / "profile") as browser,
    ):
        quiet.send({1: (7).to_bytes(4, "little")})
        page = await browser.open(f"{pages}/example.html")
        await follow(page, gateway.port, certificateHash=gateway.certificates.current.sha256)
        await page.until("number() === 7")
        await page.until("performance.now() - sub.link.heardAt > 5000")
        quiet.send({1: (8).to_bytes(4, "little")})
        await page.until("number() === 8")
        assert await page.evaluate("told") == ["webtransport"]
