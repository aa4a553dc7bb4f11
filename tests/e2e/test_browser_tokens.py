"""A page in a real Chromium with a token: its first message, a fresh one before the old one ends, and no end of tries
where none counts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.client import Publisher
from gateway.config import Settings
from gateway.runtime.access.signing import SigningKey
from gateway.runtime.gateway import Gateway
from tests.e2e.browser import Browser
from tests.kits.abilities import proves

TRANSPORTS = ("webtransport", "websocket")


class Guarded:
    """A gateway that asks for tokens, and the key that they are signed by."""

    def __init__(self, gateway: Gateway, key: SigningKey, ca: Path) -> None:
        self.gateway = gateway
        self.key = key
        self.ca = ca
        self.url = f"https://127.0.0.1:{gateway.port}"

    def token(self, for_s: float, **mv: Any) -> str:
        return self.key.sign({"exp": int(time.time() + for_s), "mv": mv})

    def options(self, transport: str) -> str:
        return f'certificateHash: "{self.gateway.certificates.current.sha256}", transport: "{transport}"'

    def url_for(self, transport: str) -> str:
        assert self.gateway.plain_server is not None
        plain = f"http://127.0.0.1:{self.gateway.plain_server.port}"
        return self.url if transport == "webtransport" else plain


@pytest_asyncio.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    key = SigningKey.generate("EdDSA", "first")
    key.write(tmp_path / "keys")
    settings = Settings(
        port=0,
        plain="127.0.0.1:0",
        store=str(tmp_path / "store"),
        certs=str(tmp_path / "certs"),
        auth_keys=str(tmp_path / "keys"),
    )
    gateway = await Gateway.start(settings)
    yield Guarded(gateway, key, tmp_path / "certs" / "ca.pem")
    await gateway.drain(2.0)


@proves("web", "tokens")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_page_goes_on_over_the_end_of_its_token_without_a_break(
    guarded: Guarded, pages: str, tmp_path: Path, transport: str
) -> None:
    async with (
        Publisher(guarded.url, "arena", ca=guarded.ca, token=guarded.token(600, pub=["arena"])) as publisher,
        Browser(tmp_path / "profile") as browser,
    ):
        publisher.send({1: b"\x01"})
        page = await browser.open(f"{pages}/example.html")
        await page.until("window.subscriber")
        tokens = [guarded.token(2 * n, sub=["arena"]) for n in range(1, 150)]
        await page.evaluate(
            f"""(async () => {{
              const {{ Subscriber }} = await import("./mvgateway.js");
              const tokens = {json.dumps(tokens)}.map(text => [text, JSON.parse(atob(text.split(".")[1])).exp]);
              window.told = []; window.opened = 0;
              window.sub = new Subscriber("{guarded.url_for(transport)}", "arena", {{ {guarded.options(transport)},
                token: async () => tokens.find(([, exp]) => exp * 1000 > Date.now() + 8000)[0] }});
              sub.onopen = () => opened++;
              sub.oncontrol = said => told.push(said.type);
              await sub.open();
            }})()"""
        )
        number = 1
        while await page.evaluate("told.filter(type => type === 'granted').length") < 2:
            number = number % 250 + 1
            publisher.send({1: bytes([number])})
            await asyncio.sleep(0.05)
        await page.until(f"sub.state.get(1)[0] === {number}")
        assert await page.evaluate("opened") == 1
        assert await page.evaluate("sub.link.kind") == transport


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_page_that_is_refused_asks_for_one_fresh_token_and_then_no_more(
    guarded: Guarded, pages: str, tmp_path: Path, transport: str
) -> None:
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{pages}/example.html")
        await page.until("window.subscriber")
        found = await page.evaluate(
            f"""(async () => {{
              const {{ Publisher }} = await import("./mvgateway.js");
              const found = [];
              for (const kind of ["string", "function"]) {{
                let asked = 0, closed = 0;
                const text = "{guarded.token(600, sub=["elsewhere"])}";
                const pub = new Publisher("{guarded.url_for(transport)}", "arena", {{ {guarded.options(transport)},
                  token: kind === "string" ? text : () => {{ asked++; return text; }} }});
                pub.onclose = () => closed++;
                try {{ await pub.open(); found.push("open"); }}
                catch (error) {{ found.push([asked, closed, error.message.includes(text)]); }}
              }}
              return found;
            }})()"""
        )
        assert found == [[0, 1, False], [2, 2, False]]
