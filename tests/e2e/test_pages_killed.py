"""A gateway killed with SIGKILL while its pages show a world: they say so, come back by themselves, and show what the journal has."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from gateway.cli._child import GatewayChild
from gateway.cli._motion import Avatars
from gateway.client import fetch_last
from tests.e2e.browser import Browser, Page
from tests.e2e.firefox import Firefox
from tests.e2e.lived import TRUSTING, lived, publisher_of
from tests.e2e.looking import coloured, has_colour, pixels_at, places

KEYS = list(range(1, 7))
SHOWN = "Object.fromEntries([...reader().state.keys()].map(key => [key, [...reader().state.get(key)]]))"


async def shown(page: Page) -> dict[int, bytes]:
    """The records that the map has."""
    return {int(key): bytes(data) for key, data in (await page.evaluate(SHOWN)).items()}


async def test_a_map_whose_gateway_is_killed_says_so_comes_back_and_draws_what_the_journal_has(
    tmp_path: Path,
) -> None:
    """Nobody publishes while it is away: after the restart the journal alone knows the world."""
    avatars = Avatars(len(KEYS))
    async with lived(tmp_path) as child, Browser(tmp_path / "profile", TRUSTING) as browser:
        async with publisher_of(child) as publisher:
            for tick in range(1, 40):
                publisher.send(avatars.frame(tick))
            await publisher.wait_durable()
            last = publisher.records()
            page = await browser.open(f"{child.url}/map#arena")
            await page.until(
                f"window.stage?.layout && window.reader?.()?.state.tick === {publisher.tick} && reader().state.size === {len(KEYS)}"
            )
        await page.evaluate("reader().on('open', () => { window.opened = (window.opened ?? 0) + 1; })")
        before = await places(page, KEYS)
        assert await shown(page) == last
        assert all([await coloured(page, key) for key in KEYS])

        await child.kill()
        await page.until("document.getElementById('trouble').textContent.includes('not reachable')")
        await page.until("document.getElementById('events').innerText.includes('connection ended')")
        assert await shown(page) == last, "what it had stays in sight"
        assert await places(page, KEYS) == before

        await child.start()
        await page.until("window.opened && document.getElementById('trouble').textContent === ''")
        journal = await fetch_last(child.url, "arena", ca=child.ca)
        assert journal.records == last
        await page.until(f"reader().state.size === {len(KEYS)}")
        assert await shown(page) == journal.records
        assert await places(page, KEYS) == before
        assert all([await coloured(page, key) for key in KEYS])

        async with publisher_of(child) as publisher:
            publisher.send(avatars.frame(300), keyframe=True)
            await publisher.wait_durable()
            await page.until(
                f"reader().state.epoch === {publisher.epoch} && reader().state.tick === {publisher.tick}"
            )
        journal = await fetch_last(child.url, "arena", ca=child.ca)
        assert await shown(page) == journal.records
        after = await places(page, KEYS)
        moved = [key for key in KEYS if after[key] != before[key]]
        assert moved
        assert all([await coloured(page, key) for key in KEYS])
        left = [before[key] for key in KEYS if all(_apart(before[key], place) for place in after.values())]
        assert not any([has_colour(await pixels_at(page, str(place))) for place in left])


def _apart(one: list[float], other: list[float]) -> bool:
    """Whether no mark, nor its direction, reaches from one place to the other."""
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) > 24


async def test_a_film_room_whose_gateway_is_killed_goes_on_from_where_it_was(tmp_path: Path) -> None:
    avatars = Avatars(len(KEYS))
    async with lived(tmp_path) as child, Browser(tmp_path / "profile", TRUSTING) as browser:
        async with publisher_of(child) as publisher:
            for tick in range(1, 40):
                publisher.send(avatars.frame(tick))
                await publisher.wait_durable()
        page = await browser.open(f"{child.url}/film#arena/20/1")
        await page.until(f"window.film?.()?.place?.tick === 20 && film().state.size === {len(KEYS)}")
        await child.kill()
        await page.until("document.getElementById('trouble').textContent !== ''")
        await child.start()
        await page.until("document.getElementById('trouble').textContent === ''")
        await page.evaluate("document.getElementById('on').click()")
        await page.until(f"film().place.tick === 21 && film().state.size === {len(KEYS)}")
        assert await coloured(page, KEYS[0])


KINDS = [Browser, Firefox]
LOOK = """(() => {
  const style = getComputedStyle(document.querySelector(OLD)), sign = document.getElementById('heard');
  return [style.filter, Number(style.opacity) < 1, sign.hidden ? '' : sign.innerText, getComputedStyle(sign).borderTopStyle];
})()"""
NOW = ["none", False, ""]
SAID = """(() => {
  window.said = [];
  for (const element of document.querySelectorAll('[role=status], [role=alert], [aria-live=polite]'))
    new MutationObserver(() => said.push(element.innerText)).observe(element, { childList: true, characterData: true, subtree: true });
})()"""


def opened(kind: type[Browser] | type[Firefox], tmp_path: Path, child: GatewayChild) -> Browser | Firefox:
    profile = tmp_path / "profile"
    return Firefox(profile, ca=Path(child.ca)) if kind is Firefox else Browser(profile, TRUSTING)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("address", "there", "old", "fresh", "says"),
    [
        ("/", "document.querySelector('#worlds td.on')", "'.scroll'", "status", "not reachable"),
        ("/map#arena", "window.reader?.()?.state.size", "'canvas.stage'", "trouble", "the gateway is not reachable"),
    ],
)  # fmt: skip
async def test_what_a_page_shows_of_a_gateway_that_is_gone_is_seen_to_be_old_and_said_once(
    kind: type[Browser] | type[Firefox],
    address: str,
    there: str,
    old: str,
    fresh: str,
    says: str,
    tmp_path: Path,
) -> None:
    avatars = Avatars(len(KEYS))
    looked = LOOK.replace("OLD", old)
    async with lived(tmp_path) as child, opened(kind, tmp_path, child) as browser:
        async with publisher_of(child) as publisher:
            publisher.send(avatars.frame(1))
            page = await browser.open(f"{child.url}{address}")
            await page.until(f"Boolean({there})")
            assert (await page.evaluate(looked))[:3] == NOW
            await page.evaluate(SAID)
            await child.kill()
        await page.until(f"document.getElementById('{fresh}').innerText === '{says}'")
        await page.until("document.getElementById('heard').innerText.match(/last heard [3-9] s ago/)")
        assert (await page.evaluate(looked))[:2] == ["grayscale(1)", True]
        assert (await page.evaluate(looked))[3] == "solid"
        assert await page.evaluate("said") == [says], "the seconds that pass are not read out"
        await child.start()
        await page.until(
            f"JSON.stringify({looked}.slice(0, 3)) === '{json.dumps(NOW, separators=(',', ':'))}'"
        )
        await page.until(f"document.getElementById('{fresh}').innerText !== '{says}'")


async def test_a_list_whose_gateway_answers_nothing_is_seen_to_be_old_before_a_request_fails(
    tmp_path: Path,
) -> None:
    async with lived(tmp_path) as child, Browser(tmp_path / "profile", TRUSTING) as browser:
        page = await browser.open(f"{child.url}/")
        await page.until("Boolean(document.querySelector('#worlds td'))")
        # A process that stands still, not one that is asked to: a child has no word for it.
        assert child._process is not None
        child._process.send_signal(signal.SIGSTOP)
        await page.until("document.querySelector('.scroll.old') && !document.getElementById('heard').hidden")
        assert await page.evaluate("document.getElementById('status').innerText") == "ok"
        await page.until("document.getElementById('status').innerText === 'not reachable'")
        child._process.send_signal(signal.SIGCONT)
        await page.until("!document.querySelector('.old') && document.getElementById('heard').hidden")
