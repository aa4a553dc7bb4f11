"""A page in a real Chromium that is refused, told bye, or told where its world is: it says so, and does not try for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.client import Publisher
from gateway.config import Settings
from gateway.runtime.gateway import Gateway
from tests.e2e.browser import Browser, Page
from tests.e2e.conftest import GatewayForPages
from tests.kits.abilities import proves
from tests.runtime.faults.driver import StoreProcess

TRANSPORTS = ("webtransport", "websocket")


async def tell(
    page: Page, kind: str, url: str, world: str, options: dict[str, Any], hashes: dict[str, str] | None = None
) -> None:
    """``window.end`` opens such a session; ``window.told`` has what it says."""
    await page.until("document.readyState === 'complete'")
    await page.evaluate(
        f"""(async () => {{
          const kit = await import("./mvgateway.js");
          window.told = []; window.closes = 0; window.opens = 0;
          const options = {json.dumps(options)}, hashes = {json.dumps(hashes)};
          if (hashes) options.certificateHash = address => hashes[address];
          window.end = new kit.{kind}("{url}", "{world}", options);
          end.on("refused", (code, detail) => told.push(["refused", code]));
          end.on("bye", said => told.push(["bye", said.reason]));
          end.on("moved", said => told.push(["moved", said.world]));
          end.on("close", () => closes++);
          end.on("open", () => opens++);
          window.opened = end.open().then(() => "open", error => [error.name, error.code, error.message]);
        }})()"""
    )


@proves("web", "refusals")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_page_hears_why_it_is_refused_and_asks_no_more(
    served: GatewayForPages, pages: str, tmp_path: Path, transport: str
) -> None:
    async with (
        Publisher(served.url, "arena", ca=served.ca) as publisher,
        Browser(tmp_path / "profile") as browser,
    ):
        publisher.send({1: b"\x01"})
        page = await browser.open(f"{pages}/example.html")
        await tell(page, "Publisher", served.at(transport), "arena", served.options(transport))
        name, code, message = await page.evaluate("opened")
        assert (name, code) == ("GatewayRefused", "publisher_present")
        assert "takeover" in message
        assert await page.evaluate("[told, closes, end.status]") == [
            [["refused", "publisher_present"]],
            1,
            "refused",
        ]
        query = served.options(transport) | {"query": {"budget_kbps": "plenty"}}
        await tell(page, "Subscriber", served.at(transport), "arena", query)
        _, code, message = await page.evaluate("opened")
        assert code == "bad_input"
        assert "budget_kbps" in message
        await tell(page, "Subscriber", served.at(transport), "no such", served.options(transport))
        assert (await page.evaluate("opened"))[1] in ("bad_name", "bad_input")


@proves("web", "takeover")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_publisher_that_is_replaced_stays_away(
    served: GatewayForPages, pages: str, tmp_path: Path, transport: str
) -> None:
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{pages}/example.html")
        await tell(page, "Publisher", served.at(transport), "arena", served.options(transport))
        assert await page.evaluate("opened") == "open"
        async with Publisher(served.url, "arena", ca=served.ca, takeover=True) as publisher:
            publisher.send({1: b"\x01"})
            await page.until("end.status === 'refused'")
            assert await page.evaluate("told[told.length - 1]") == ["refused", "taken_over"]
            assert publisher.connected
            await page.evaluate(
                f"""(async () => {{
                  const {{ Publisher }} = await import("./mvgateway.js");
                  window.back = new Publisher("{served.at(transport)}", "arena",
                    {{ ...{json.dumps(served.options(transport))}, takeover: true }});
                  await back.open();
                }})()"""
            )
            assert await page.evaluate("back.epoch") == 3


async def test_a_session_that_is_given_up_says_so_and_leaves_nothing(
    served: GatewayForPages, pages: str, tmp_path: Path
) -> None:
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{pages}/example.html")
        await page.until("document.readyState === 'complete'")
        found = await page.evaluate(
            f"""(async () => {{
              const {{ Publisher, Subscriber }} = await import("./mvgateway.js");
              const abort = new AbortController();
              const away = new Subscriber("https://127.0.0.1:9", "arena", {{ transport: "websocket" }});
              const opening = away.open({{ signal: abort.signal }}).then(() => "open", error => error.name);
              abort.abort();
              const here = new Publisher("{served.at("websocket")}", "arena");
              const heard = [];
              here.on("status", status => heard.push(status));
              here.on("open", () => heard.push("never"), {{ signal: AbortSignal.abort() }});
              await here.open();
              here.close();
              here.close();
              return [await opening, away.status, heard];
            }})()"""
        )
        assert found == ["AbortError", "closed", ["connecting", "open", "closed"]]


@proves("web", "homes")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_page_follows_its_world_to_another_gateway_and_a_publisher_is_told_where_it_went(
    pages: str, tmp_path: Path, transport: str
) -> None:
    store = StoreProcess(tmp_path / "remote")
    gateways: list[Gateway] = []
    try:
        for name in ("a", "b"):
            settings = Settings(
                port=0,
                plain="",
                store=store.flags[1],
                store_admin=store.flags[3],
                certs=str(tmp_path / name),
            )
            gateways.append(await Gateway.start(settings))
        at = {f"https://127.0.0.1:{one.port}": one.certificates.current.sha256 for one in gateways}
        here, there = at
        async with (
            Publisher(here, "arena", ca=tmp_path / "a" / "ca.pem") as first,
            Browser(tmp_path / "profile", "--ignore-certificate-errors") as browser,
        ):
            first.send({1: b"\x01"})
            await first.wait_durable()
            page = await browser.open(f"{pages}/example.html")
            options = {"transport": transport}
            await tell(page, "Subscriber", here, "arena", options, hashes=at)
            await page.until("end.state.get(1)?.[0] === 1")
            async with Publisher(there, "arena", ca=tmp_path / "b" / "ca.pem", takeover=True) as second:
                second.send({1: b"\x02"})
                await page.until("end.state.get(1)?.[0] === 2")
                assert await page.evaluate("end.address") == there
                assert ["moved", "arena"] in await page.evaluate("told")
                await tell(page, "Publisher", here, "arena", options, hashes=at)
                assert (await page.evaluate("opened"))[1] == "world_held"
                assert await page.evaluate("end.error.url") == there
    finally:
        for gateway in gateways:
            await gateway.drain(1.0)
        store.kill()
