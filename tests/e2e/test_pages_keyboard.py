"""The pages by keyboard alone and for a screen reader: what Tab reaches, what it is called, what is read out, how well text is seen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.cli._child import GatewayChild
from gateway.cli._motion import Avatars
from gateway.client import Publisher
from tests.e2e.browser import Browser, Page
from tests.e2e.lived import TRUSTING, lived, publisher_of

AVATARS, TICKS = 6, 90
THERE = {
    "/": "document.querySelector('#worlds a')",
    "/map#arena": f"window.stage?.layout && window.reader?.()?.state.size === {AVATARS} && !document.getElementById('plot').hidden",
    "/film#arena/40/1": f"document.getElementById('ready')?.value === '1' && film().state.size === {AVATARS} && line.line?.spans.length",
}
CODES = {
    "Tab": 9,
    "Escape": 27,
    "ArrowRight": 39,
    "ArrowLeft": 37,
    "End": 35,
    "Home": 36,
    " ": 32,
    "Enter": 13,
}
CONTROLS = "a[href], button, input, select, [tabindex]"
SEEN = f"""[...document.querySelectorAll("{CONTROLS}")].filter(e => !e.disabled && e.type !== "hidden" && e.getClientRects().length)"""
ROLES = {
    "button",
    "link",
    "textbox",
    "searchbox",
    "combobox",
    "slider",
    "application",
    "checkbox",
    "spinbutton",
}


class Recorded:
    """A gateway whose world was recorded, and who publishes to it."""

    def __init__(self, child: GatewayChild, publisher: Publisher) -> None:
        self.child = child
        self.publisher = publisher


@pytest_asyncio.fixture
async def recorded(tmp_path: Path) -> AsyncIterator[Recorded]:
    avatars = Avatars(AVATARS)
    async with lived(tmp_path) as child, publisher_of(child) as publisher:
        for tick in range(1, TICKS + 1):
            publisher.send(avatars.frame(tick))
            if tick % 10 == 0:
                await publisher.wait_durable()
        yield Recorded(child, publisher)


async def opened(browser: Browser, recorded: Recorded, address: str) -> Page:
    page = await browser.open(recorded.child.url + address)
    await page.command("Emulation.setFocusEmulationEnabled", enabled=True)
    await page.until(f"Boolean({THERE[address]})")
    return page


async def press(page: Page, key: str) -> None:
    """One key, as a keyboard gives it."""
    letter = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
    code = {"windowsVirtualKeyCode": CODES.get(key, ord(key[0].upper()))}
    await page.command("Input.dispatchKeyEvent", type="keyDown", key=key, **letter, **code)
    await page.command("Input.dispatchKeyEvent", type="keyUp", key=key, **code)


async def focus(page: Page, id_: str) -> None:
    await page.evaluate(f"document.getElementById('{id_}').focus()")


@pytest.mark.parametrize("address", THERE)
async def test_tab_reaches_each_control_in_its_order_and_shows_where_it_is(
    recorded: Recorded, tmp_path: Path, address: str
) -> None:
    async with Browser(tmp_path / "profile", TRUSTING) as browser:
        page = await opened(browser, recorded, address)
        if address != "/":
            await page.evaluate("stage.select(2), document.getElementById('tables').click()")
            await page.until(f"document.querySelectorAll('#records button').length === {AVATARS}")
        await page.evaluate(
            f"{SEEN}.forEach((control, i) => {{ control.number = i; }}), document.activeElement.blur()"
        )
        count = await page.evaluate(f"{SEEN}.length")
        reached, unseen = [], []
        for _ in range(count):
            await press(page, "Tab")
            number, name, seen = await page.evaluate(
                """(() => {
                  const at = document.activeElement, style = getComputedStyle(at);
                  return [at.number ?? -1, at.outerHTML.slice(0, 80), style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
                })()"""
            )
            reached.append(number)
            if not seen:
                unseen.append(name)
        assert reached == list(range(count))
        assert unseen == []


@pytest.mark.parametrize("address", THERE)
async def test_each_control_has_a_name_for_a_screen_reader(
    recorded: Recorded, tmp_path: Path, address: str
) -> None:
    async with Browser(tmp_path / "profile", TRUSTING) as browser:
        page = await opened(browser, recorded, address)
        await page.command("Accessibility.enable")
        nodes = (await page.command("Accessibility.getFullAXTree"))["nodes"]
        controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in ROLES]
        assert len(controls) >= await page.evaluate(f"{SEEN}.length")
        nameless = [node["role"]["value"] for node in controls if not _name(node)]
        assert nameless == []
        images = [node for node in nodes if not node["ignored"] and node["role"]["value"] in {"image", "img"}]
        assert all(map(_name, images))


def _name(node: dict[str, Any]) -> str:
    return str(node.get("name", {}).get("value", "")).strip()


async def test_the_focus_stays_where_it_is_while_tables_are_renewed(
    recorded: Recorded, tmp_path: Path
) -> None:
    """Lists that are drawn again once a second took it away: nobody could choose a record by keyboard."""
    async with Browser(tmp_path / "profile", TRUSTING) as browser:
        page = await opened(browser, recorded, "/")
        for link in ("#worlds td:first-child a", "#worlds td:last-child a"):
            await page.evaluate(
                f"document.querySelector('{link}').focus(), window.cell = document.querySelector('#worlds td:nth-child(7)')"
            )
            await page.until("!window.cell.isConnected")
            assert await page.evaluate(f"document.activeElement === document.querySelector('{link}')")
        page = await opened(browser, recorded, "/map#arena")
        await focus(page, "tables")
        await press(page, "Enter")
        await page.until(f"document.querySelectorAll('#records button').length === {AVATARS}")
        await press(page, "Tab")
        await page.until("document.activeElement.id === 'layouts'")
        await press(page, "Tab")
        await press(page, "Tab")
        assert await page.evaluate("document.activeElement.textContent") == "2"
        told = "document.querySelector('#records tr:nth-child(2) td:nth-child(3)').textContent"
        before = await page.evaluate(told)
        recorded.publisher.send(Avatars(AVATARS).frame(400))
        await page.until(f"{told} !== '{before}'")
        assert await page.evaluate("document.activeElement.textContent") == "2"
        await press(page, "Enter")
        assert await page.evaluate("stage.selected") == 2
        assert await page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        await press(page, "Escape")
        assert await page.evaluate("stage.selected") is None
        await press(page, "Escape")
        assert await page.evaluate(
            "document.getElementById('list').hidden && document.activeElement.id === 'tables'"
        )


async def test_a_film_is_gone_through_by_keyboard_alone(recorded: Recorded, tmp_path: Path) -> None:
    async with Browser(tmp_path / "profile", TRUSTING) as browser:
        page = await opened(browser, recorded, "/film#arena/40/1")
        await focus(page, "stage")
        for key, chosen in (("n", 1), ("n", 2), ("p", 1), ("p", AVATARS), ("Escape", None)):
            await press(page, key)
            assert await page.evaluate("stage.selected") == chosen
        for key, tick in ((".", 41), (".", 42), (",", 41)):
            await press(page, key)
            await page.until(f"film().place.tick === {tick}")
        await focus(page, "time")
        for key, tick in (("End", TICKS), ("Home", 1)):
            await press(page, key)
            await page.until(f"film().place.tick === {tick}")
        now = await page.evaluate("line.canvas.getAttribute('aria-valuetext')")
        await press(page, "ArrowRight")
        assert await page.evaluate("line.canvas.getAttribute('aria-valuetext')") != now
        await page.until("film().place.tick > 1")
        await press(page, "Home")
        await page.until("film().place.tick === 1")
        await press(page, " ")
        await page.until("document.getElementById('play').textContent === 'pause' && film().place.tick > 3")
        await press(page, " ")
        await page.until("document.getElementById('play').textContent === 'play'")
        await focus(page, "play")
        tick = await page.evaluate("film().place.tick")
        await press(page, ".")
        await page.until(f"film().place.tick === {tick + 1}")


WATCHED = """(() => {
  window.spoken = [];
  new MutationObserver(changes => {
    for (const { target } of changes) {
      const region = (target.closest ? target : target.parentElement)?.closest("[role=status], [role=alert], [aria-live]");
      if (region && region.getAttribute("aria-live") !== "off") spoken.push([region.id, region.textContent]);
    }
  }).observe(document.body, { childList: true, characterData: true, subtree: true });
})()"""


async def test_a_screen_reader_is_told_what_happens_and_not_each_frame(
    recorded: Recorded, tmp_path: Path
) -> None:
    async with Browser(tmp_path / "profile", TRUSTING) as browser:
        film = await opened(browser, recorded, "/film#arena/40/1")
        await film.evaluate("document.getElementById('compare').click()")
        await film.evaluate(WATCHED)
        await film.evaluate("document.getElementById('play').click()")
        await film.until(
            f"film().place.tick === {TICKS} && document.getElementById('play').textContent === 'play'"
        )
        spoken = await film.evaluate("spoken")
        assert len(spoken) <= 2, spoken
        for address in ("/map#arena", "/"):
            page = await opened(browser, recorded, address)
            await page.evaluate(WATCHED)
            await page.evaluate("window.asked = performance.getEntriesByType('resource').length")
            for tick in range(500, 560):
                recorded.publisher.send(Avatars(AVATARS).frame(tick))
            await page.until("performance.getEntriesByType('resource').length > asked + 6")
            assert await page.evaluate("spoken") == []


CONTRASTS = """(() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => c * a + under[i] * (1 - a));
  const light = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const poor = [];
  let seen = 0;
  const look = (element, colour, words) => {
    const line = [];
    for (let e = element; e; e = e.parentElement) line.unshift(e);
    let ground = [255, 255, 255], opacity = 1;
    for (const e of line) { const style = getComputedStyle(e); opacity *= Number(style.opacity); const [r, g, b, a] = parse(style.backgroundColor); ground = over([r, g, b, a * opacity], ground); }
    const [r, g, b, a] = parse(colour), found = ratio(over([r, g, b, a * opacity], ground), ground);
    seen++;
    if (found < 4.5) poor.push(`${words.trim().slice(0, 40)}: ${found.toFixed(2)}`);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { parentElement: element, data } = walker.currentNode;
    if (!data.trim() || element.closest("script, option, :disabled") || !element.getClientRects().length) continue;
    look(element, getComputedStyle(element).color, data);
  }
  return [poor, seen];
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_stands_out_from_its_ground(recorded: Recorded, tmp_path: Path, scheme: str) -> None:
    async with Browser(tmp_path / "profile", TRUSTING) as browser:
        for address in THERE:
            page = await opened(browser, recorded, address)
            await page.command(
                "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
            )
            if address != "/":
                await page.evaluate(
                    "stage.select(2), document.getElementById('trails').click(), document.getElementById('tables').click()"
                )
                await page.until(f"document.querySelectorAll('#records button').length === {AVATARS}")
            await page.evaluate(
                "document.getElementById('trouble').textContent = 'something went wrong', document.getElementById('ask').hidden = false"
            )
            assert await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (
                scheme == "dark"
            )
            poor, seen = await page.evaluate(CONTRASTS)
            assert seen > 15
            assert poor == [], address
