"""The dashboard asks for a token, and keeps it in memory alone."""

from __future__ import annotations

from pathlib import Path

from gateway.runtime.gateway import Gateway
from tests.e2e.browser import Browser

from .conftest import Maker
from .knocking import plain_of
from .test_doors import publish_one

ROWS = "document.querySelectorAll('#worlds tr td:first-child')"


async def test_the_dashboard_asks_for_a_token_and_stores_it_nowhere(
    gated: Gateway, maker: Maker, tmp_path: Path
) -> None:
    for world in ("arena-1", "plaza-1"):
        await publish_one(gated, maker, world)
    assert gated.plain_server is not None
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"http://127.0.0.1:{gated.plain_server.port}/")
        await page.until("document.getElementById('ask')?.hidden === false")
        assert await page.evaluate(f"{ROWS}.length") == 0
        await page.evaluate(
            f"""(() => {{
              document.getElementById('token').value = {maker.token({"sub": ["plaza-*"]})!r};
              document.getElementById('ask').requestSubmit();
            }})()"""
        )
        await page.until(f"{ROWS}.length === 1 && {ROWS}[0].textContent === 'plaza-1'")
        assert await page.evaluate("document.getElementById('ask').hidden") is True
        kept = await page.evaluate(
            "[document.cookie, localStorage.length, sessionStorage.length, location.href, document.getElementById('token').value]"
        )
        assert kept == ["", 0, 0, f"http://127.0.0.1:{gated.plain_server.port}/", ""]
        await page.evaluate(
            "document.getElementById('token').value = 'abc', document.getElementById('ask').requestSubmit()"  # one that does not count
        )
        await page.until("document.getElementById('ask')?.hidden === false")
        assert await page.evaluate(f"{ROWS}.length") == 0
        assert "malformed" in await page.evaluate("document.getElementById('refusal').textContent")


async def test_no_page_tells_its_address_to_another(gated: Gateway) -> None:
    async with plain_of(gated) as client:
        for path in ("/", "/healthz", "/v1/worlds"):
            assert (await client.get(path)).headers["referrer-policy"] == "no-referrer"
