"""What games do, with the web kit in a real Chromium and a real Firefox against a real gateway over a link that loses: an
avatar walks from one server's world to another's, items are traded, the gateway is killed, a film is played; all end with
the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import Browser, Page
from tests.e2e.conftest import serving_pages
from tests.e2e.firefox import Firefox
from tests.kits.abilities import proves
from tests.kits.lossy import LOST_MIN, assert_stored, lossy, need_link

pytestmark = need_link()
SCRIPT = Path(__file__).with_name("scenario.js")


def browser(kind: str, folder: Path, namespace: str) -> Browser | Firefox:
    """One that takes the gateway's TLS over TCP as if an authority had signed it."""
    if kind == "Chromium":
        return Browser(folder / "profile", "--ignore-certificate-errors", namespace=namespace)
    return Firefox(folder / "profile", ca=folder / "certs" / "ca.pem", namespace=namespace)


async def load(page: Page, pages: str, scene: dict[str, Any]) -> None:
    await page.until("document.readyState === 'complete'")
    await page.evaluate(
        f"""(async () => {{
          const kit = await import("{pages}/mvgateway.js"), scene = {json.dumps(scene)};
          {SCRIPT.read_text()}
        }})()"""
    )


@pytest.mark.parametrize("kind", ["Chromium", "Firefox"])
@proves("web", "scenario", "follow", "comes_back")
async def test_an_avatar_walks_over_items_are_traded_the_gateway_dies_and_all_end_alike(
    kind: str, tmp_path: Path
) -> None:
    with (
        lossy(tmp_path, 1, "--allow-origin", "*") as (served, (host,), network),
        serving_pages(host.name) as pages,
    ):
        async with browser(kind, tmp_path, host.name) as program:
            page = await program.open(f"{pages}/README.md")
            await load(
                page,
                pages,
                {"url": served.url, "options": {"certificateHash": f"{served.url}/certificate.sha256"}},
            )
            assert await page.evaluate("play.begin()") == "webtransport"
            assert await page.evaluate("play.walkOver()") == 59, "it woke where it had gone to sleep"
            assert await page.evaluate("play.moved") == ["forest"]
            assert await page.evaluate("play.trade()") == [3, 7, {"edge": 3}]
            served.kill()
            await page.evaluate("play.walkWhileAway()")
            served.start()
            ended = await page.evaluate("play.end()")
            assert await page.evaluate("play.refused") == []
        dropped = network.counters()["dropped_loss"]
    assert dropped > LOST_MIN, "the link lost nothing, so nothing was shown"
    assert set(ended["forest"]) == {"3", "10"}
    assert ended["player"] == ended["film"] == ended["forest"]
    await assert_stored(tmp_path, {"town": ended["town"], "forest": ended["forest"]})
