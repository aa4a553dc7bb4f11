"""The gateway's own pages in a real Chromium and a real Firefox: the map draws what there is, the film room what there was."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway.cli._motion import Avatars
from gateway.client import Publisher
from gateway.config import Settings
from gateway.recordings.films import FilmWriter
from gateway.recordings.recording import MAKE_STATE
from gateway.runtime.access.signing import SigningKey
from gateway.runtime.gateway import Gateway
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import WorldDatabase
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.layouts import resolve
from tests.e2e.browser import Browser, Page
from tests.e2e.firefox import Firefox
from tests.e2e.looking import coloured, places
from tests.patience import FOREIGN_TEST_S

BROWSERS = [Browser, Firefox]
Kind = type[Browser] | type[Firefox]
TICKS = 90


class Site:
    """A gateway, and the address at which a browser finds its pages."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        assert gateway.plain_server is not None
        self.gateway = gateway
        self.url = f"http://127.0.0.1:{gateway.plain_server.port}"
        self.ca = folder / "certs" / "ca.pem"

    def publisher(self, world: str, **options: Any) -> Publisher:
        return Publisher(f"https://127.0.0.1:{self.gateway.port}", world, stride=100, ca=self.ca, **options)

    async def made(self, world: str, **options: Any) -> None:
        async with httpx.AsyncClient() as client:
            answer = await client.put(f"{self.url}/v1/worlds/{world}", json={"stride": 100, **options})
        assert answer.status_code == 201, answer.text

    async def recorded(self, world: str, tick: int) -> dict[int, bytes]:
        async with httpx.AsyncClient(headers={"accept": "application/json"}) as client:
            answer = await client.get(f"{self.url}/v1/worlds/{world}/frames?tick={tick}")
        return {int(key): base64.b64decode(data) for key, data in answer.json()["records"].items()}


def settings(folder: Path, **more: Any) -> Settings:
    return Settings(
        port=0, plain="127.0.0.1:0", store=str(folder / "store"), certs=str(folder / "certs"), **more
    )


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    gateway = await Gateway.start(settings(tmp_path))
    yield Site(gateway, tmp_path)
    await gateway.drain(2.0)


async def _film(site: Site, world: str, avatars: Avatars) -> None:
    """A recording of :data:`TICKS` ticks."""
    await site.made(world, layout="avatars", retention="record")
    async with site.publisher(world) as publisher:
        for tick in range(1, TICKS + 1):
            publisher.send(avatars.frame(tick))
            if tick % 10 == 0:
                await publisher.wait_durable()


@asynccontextmanager
async def _on_the_map(
    site: Site, kind: Kind, folder: Path, avatars: Avatars
) -> AsyncIterator[tuple[Publisher, Page]]:
    """A world whose first frame is drawn on the map; its publisher, and the page."""
    await site.made("arena", layout="avatars")
    async with site.publisher("arena") as publisher, kind(folder / "profile") as browser:
        publisher.send(avatars.frame(1))
        page = await browser.open(f"{site.url}/map#arena")
        await page.until(
            f"window.stage?.layout && window.reader?.()?.state.size === {len(publisher.records())}"
        )
        yield publisher, page


async def _stays_here(page: Page) -> None:
    """Nothing was asked of anybody else, and nothing the policy forbids was tried."""
    foreign = await page.evaluate(
        "performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith(location.origin) && !n.startsWith('data:'))"
    )
    assert foreign == []


@pytest.mark.parametrize("kind", BROWSERS)
async def test_the_map_draws_records_where_they_are(kind: Kind, site: Site, tmp_path: Path) -> None:
    avatars, layout = Avatars(12), resolve("avatars")
    async with _on_the_map(site, kind, tmp_path, avatars) as (publisher, page):
        for tick in (2, 60, 300):
            publisher.send(avatars.frame(tick))
            await page.until(f"reader().state.tick === {publisher.tick}")
            records = publisher.records()
            drawn = await places(page, list(records))
            assert all([await coloured(page, key) for key in list(records)[:3]])
            first, last = min(records, key=_right(layout, records)), max(records, key=_right(layout, records))
            scale = (drawn[last][0] - drawn[first][0]) / (
                _right(layout, records)(last) - _right(layout, records)(first)
            )
            for key, record in records.items():
                place = layout.place(record)
                assert place is not None
                origin = layout.place(records[first])
                assert origin is not None
                assert drawn[key][0] == pytest.approx(
                    drawn[first][0] + (place[0] - origin[0]) * scale, abs=0.01
                )
                assert drawn[key][1] == pytest.approx(
                    drawn[first][1] - (place[2] - origin[2]) * scale, abs=0.01
                )
        await page.until("document.getElementById('facts').innerText.includes('webtransport')")
        await _stays_here(page)


OVERLAPS = """(() => {
  stage.draw();
  const boxes = [...stage.labels].map(([key, text]) => {
    const [right, down] = stage.placeOf(key);
    return [right + 8, down - 16, right + 8 + stage.pen.measureText(text).width, down - 6];
  });
  return boxes.filter((a, i) => boxes.some((b, n) => n > i && a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3])).length;
})()"""


async def test_names_in_a_crowd_stand_where_there_is_room_and_the_chosen_one_always(
    site: Site, tmp_path: Path
) -> None:
    async with _on_the_map(site, Browser, tmp_path, Avatars(400)) as (_, page):
        assert await page.evaluate(OVERLAPS) == 0
        names = await page.evaluate("[...stage.labels.values()]")
        assert 10 < len(names) < 400
        assert len(set(names)) == len(names)
        hidden = await page.evaluate("[...reader().state.keys()].find(key => !stage.labels.has(key))")
        await page.evaluate(f"stage.select({hidden})")
        assert await page.evaluate(OVERLAPS) >= 0
        assert await page.evaluate(f"stage.labels.get({hidden})") == f"avatar-{hidden - 1}"
        await page.evaluate("stage.select(null)")
        crowded = await page.evaluate("stage.draw(), stage.labels.size")
        await page.evaluate(f"stage.zoom(12, ...stage.placeOf({hidden}))")
        assert await page.evaluate(OVERLAPS) == 0
        assert f"avatar-{hidden - 1}" in await page.evaluate("[...stage.labels.values()]"), crowded


async def test_what_moved_goes_there_in_the_pictures_between_two_ticks(site: Site, tmp_path: Path) -> None:
    """A picture of a moment between them shows it on its way; one without a moment, where it is."""
    avatars = Avatars(1)
    async with _on_the_map(site, Browser, tmp_path, avatars) as (_, page):
        here, there = ([*avatars.frame(tick)[1]] for tick in (1, 90))
        began, between, told, after = await page.evaluate(
            f"""(async () => {{
              const records = new Map([[1, Uint8Array.from({here})]]), place = now => {{ stage.draw(now); return stage.placeOf(1); }};
              stage.glides = true;
              stage.source = records;
              stage.zoom(1);
              stage.draw();
              for (let n = 0; n < 3; n++) await new Promise(done => requestAnimationFrame(done));
              records.set(1, Uint8Array.from({there}));
              const now = performance.now(), first = place(now), second = place(now + 5);
              return [first, second, place(), place(now + 1000)];
            }})()"""
        )
        assert told == after
        assert began[0] != told[0]
        assert min(began[0], told[0]) < between[0] < max(began[0], told[0])


def _right(layout: Any, records: Any) -> Any:
    return lambda key: layout.place(records[key])[0]


async def test_a_world_whose_bytes_mean_nothing_is_shown_as_cells_until_somebody_says(
    site: Site, tmp_path: Path
) -> None:
    await site.made("arena")
    async with site.publisher("arena") as publisher, Browser(tmp_path / "profile") as browser:
        publisher.send(Avatars(5).frame(1))
        page = await browser.open(f"{site.url}/map#arena")
        await page.until(
            "window.reader?.()?.state.size === 5 && document.getElementById('layouts').options.length > 1"
        )
        assert await coloured(page, 1)
        assert await page.evaluate("!document.getElementById('unknown').hidden")
        await page.evaluate(
            "document.getElementById('layouts').value = 'avatars', document.getElementById('layouts').dispatchEvent(new Event('change'))"
        )
        await page.until("stage.layout?.name === 'avatars' && document.getElementById('unknown').hidden")
        await page.evaluate("stage.select(3)")
        await page.until("document.getElementById('values').innerText.includes('avatar-2')")


@pytest.mark.parametrize("kind", BROWSERS)
async def test_the_film_room_shows_what_the_journal_has(kind: Kind, site: Site, tmp_path: Path) -> None:
    await _film(site, "arena", Avatars(6))
    async with kind(tmp_path / "profile") as browser:
        page = await browser.open(f"{site.url}/film#arena/40/2")
        await page.until("window.film?.()?.place?.tick === 40 && film().state.size === 6")
        assert await page.evaluate("document.getElementById('speed').value") == "2"
        for tick in (40, 77, 12, TICKS):
            await page.evaluate(
                f"document.getElementById('moment').value = '{tick}', document.getElementById('jump').requestSubmit()"
            )
            await page.until(f"film().place.tick === {tick} && film().state.size === 6")
            shown = await page.evaluate(
                "Object.fromEntries([...film().state.keys()].map(k => [k, [...film().state.get(k)]]))"
            )
            assert {int(key): bytes(data) for key, data in shown.items()} == await site.recorded(
                "arena", tick
            )
            assert await coloured(page, 1)
        await page.until("location.hash.startsWith('#arena/1:')")
        await page.evaluate("document.getElementById('on').click(), document.getElementById('back').click()")
        await page.until(f"film().place.tick === {TICKS - 1}")
        await _stays_here(page)


async def test_a_recording_is_played_marked_compared_and_cut(site: Site, tmp_path: Path) -> None:
    await _film(site, "arena", Avatars(6))
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{site.url}/film#arena/1:20/16")
        await page.until("window.film?.()?.place?.tick === 20 && line.line")
        await page.evaluate(
            "document.getElementById('markname').value = 'goal', document.getElementById('mark').requestSubmit()"
        )
        await page.until("document.getElementById('marks').innerText.includes('goal (1:20)')")
        await page.evaluate(
            "document.getElementById('compare').click(), document.getElementById('from').click()"
        )
        await page.evaluate("document.getElementById('play').click()")
        await page.until(
            f"film().place.tick === {TICKS} && document.getElementById('play').textContent === 'play'"
        )
        assert "6 changed, 0 new, 0 gone" in await page.evaluate(
            "document.getElementById('different').innerText"
        )
        await page.evaluate("document.getElementById('to').click()")
        assert await page.evaluate("!document.getElementById('save').hidden")
        await page.evaluate("window.made = [], URL.createObjectURL = blob => (made.push(blob), 'data:,')")
        for form, begins in [
            ("sqlite", b"SQLite format 3"),
            ("csv", b"epoch,tick,time,key"),
            ("gltf", b"glTF"),
        ]:
            await page.evaluate(
                f"made.length = 0, document.getElementById('form').value = '{form}', document.getElementById('save').click()"
            )
            await page.until("made.length === 1")
            await page.evaluate(
                "made[0].arrayBuffer().then(data => { window.got = [...new Uint8Array(data)]; })"
            )
            await page.until("window.got?.length")
            saved = bytes(await page.evaluate("got"))
            assert saved.startswith(begins)
            await page.evaluate("window.got = null")
            if form == "csv":
                rows = saved.decode().splitlines()[1:]
                assert {int(row.split(",")[1]) for row in rows} == set(range(20, TICKS + 1))
        await page.evaluate("document.querySelector('#marks button').click()")
        await page.until("film().place.tick === 20")
        await page.evaluate(
            "document.getElementById('reverse').click(), document.getElementById('play').click()"
        )
        await page.until("film().place.tick === 1")


async def test_a_field_of_a_record_is_plotted_live_and_over_a_film(site: Site, tmp_path: Path) -> None:
    """What the line is drawn of are the values that the journal has, and its label says them."""
    avatars, layout = Avatars(4), resolve("avatars")
    await _film(site, "arena", avatars)
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{site.url}/film#arena/20/1")
        await page.until("window.film?.()?.place?.tick === 20 && film().state.size === 4")
        assert await page.evaluate(
            "[...plot.choose.options].map(option => option.value).includes('rotation.2')"
        )
        await page.evaluate("stage.select(2), plot.choose.value = 'position.2', plot.choose.onchange()")
        for _ in range(5):
            tick = await page.evaluate("film().place.tick")
            await page.evaluate("document.getElementById('on').click()")
            await page.until(f"film().place.tick > {tick} && plot.samples.at(-1)?.[0] === film().place.tick")
        for tick, value in await page.evaluate("plot.samples"):
            place = layout.place((await site.recorded("arena", tick))[2])
            assert place is not None
            assert value == pytest.approx(place[2])
        assert len(await page.evaluate("plot.samples")) == 5
        label = await page.evaluate("plot.canvas.getAttribute('aria-label')")
        assert label.startswith("position.2 over time, record 2: ")
        assert await page.evaluate(
            "plot.pen.getImageData(0, 0, plot.canvas.width, plot.canvas.height).data.some(x => x)"
        )
        await page.evaluate("document.getElementById('back').click()")
        await page.until("plot.samples.length === 4")
        page = await browser.open(f"{site.url}/map#arena")
        await page.until("window.plot?.layout && window.reader?.()?.state.size === 4")
        await page.evaluate("stage.select(3)")
        async with site.publisher("arena") as publisher:
            for tick in range(TICKS + 1, TICKS + 4):
                publisher.send(avatars.frame(tick))
                await page.until(f"reader().state.tick === {publisher.tick}")
        place = layout.place(publisher.records()[3])
        assert place is not None
        await page.until("plot.samples.length >= 3")
        assert (await page.evaluate("plot.samples"))[-1][1] == pytest.approx(place[0])
        await page.evaluate("document.getElementById('tables').click()")
        head = await page.evaluate("document.getElementById('records').tHead.innerText")
        assert "position (m)" in head
        assert "player" in head


async def test_a_drag_along_the_time_line_is_followed(site: Site, tmp_path: Path) -> None:
    """Each ends where it points."""
    await _film(site, "arena", Avatars(6))
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{site.url}/film#arena")
        await page.until("window.film?.()?.place && line.line?.spans.length")
        for share in (0.9, 0.1, 0.5):
            at = await page.evaluate(f"line.from + {share} * (line.to - line.from)")
            await page.evaluate(f"line.onseek({at})")
            async with httpx.AsyncClient() as client:
                moment = await page.evaluate(f"iso({at})")
                state = await client.get(f"{site.url}/v1/worlds/arena/frames", params={"at": moment})
            await page.until(f"film().place.tick === {state.headers['x-tick']}")


async def test_a_film_that_stands_still_takes_the_ink_of_light_and_dark(site: Site, tmp_path: Path) -> None:
    """It was drawn once: names stayed black when the system went over to dark."""
    await _film(site, "arena", Avatars(6))
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{site.url}/film#arena/40/1")
        await page.until("window.film?.()?.place?.tick === 40 && stage.labels.size > 0 && line.line")
        await page.evaluate("document.getElementById('time').focus()")
        for scheme, is_light in (("dark", True), ("light", False)):
            await page.command(
                "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
            )
            for pen in ("stage.pen", "line.pen"):
                inks = f"""(() => {{
                  const data = {pen}.getImageData(0, 0, {pen}.canvas.width, {pen}.canvas.height).data;
                  let count = 0;
                  for (let i = 0; i < data.length; i += 4) {{
                    const grey = data[i] === data[i + 1] && data[i] === data[i + 2] && data[i + 3] > 250;
                    if (grey && data[i] {">= 250" if is_light else "<= 5"}) count++;
                  }}
                  return count > 20;
                }})()"""
                await page.until(inks)


async def test_a_row_that_came_just_now_does_not_flatten_the_time_line(site: Site, tmp_path: Path) -> None:
    """The last span is as short as it happens to be: by its rate all others were one pixel high."""
    await _film(site, "arena", Avatars(2))
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{site.url}/film#arena/40/1")
        await page.until("window.film?.()?.place?.tick === 40 && Boolean(line.line)")
        blue = await page.evaluate(
            """(() => {
              const spans = Array.from({ length: 100 }, (_, i) => ({ epoch: 1, tick: 1 + 20 * i, at_us: 1e12 + i * 1e6, rows: 20 }));
              spans.push({ epoch: 1, tick: 2001, at_us: 1e12 + 1e8, rows: 1 });
              line.show({ from_us: 1e12, to_us: 1e12 + 1e8, spans, epochs: [] }, [], []);
              const [r, g, b, a] = line.pen.getImageData(line.canvas.width / 4, line.canvas.height * 0.7, 1, 1).data;
              return a > 0 && b > r;
            })()"""
        )
        assert blue


async def test_a_large_screen_has_larger_marks_which_are_clicked_where_they_are(
    site: Site, tmp_path: Path
) -> None:
    async with _on_the_map(site, Browser, tmp_path, Avatars(3)) as (_, page):
        for width, height, unit in ((1280, 800, 1.0), (3840, 2160, 20 / 15)):
            await page.command(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=1,
                mobile=False,
            )
            await page.until(f"innerWidth === {width} && stage.canvas.width === stage.canvas.clientWidth")
            await page.evaluate("stage.draw(), stage.select(null)")
            assert await page.evaluate("stage.pen.getTransform().a") == pytest.approx(unit)
            for key in (1, 2, 3):
                x, y = await page.evaluate(
                    f"(() => {{ const box = stage.canvas.getBoundingClientRect(), [x, y] = stage.placeOf({key}); return [box.x + x, box.y + y]; }})()"
                )
                for kind in ("mousePressed", "mouseReleased"):
                    await page.command(
                        "Input.dispatchMouseEvent",
                        type=kind,
                        x=x,
                        y=y,
                        button="left",
                        clickCount=1,
                    )
                assert await page.evaluate("stage.selected") == key
            before = await page.evaluate("stage.placeOf(2)")
            await page.evaluate(f"stage.zoom(2, ...{before}), stage.draw()")
            assert await page.evaluate("stage.placeOf(2)") == pytest.approx(before)
            await page.evaluate("stage.pan(30, -20), stage.draw()")
            assert await page.evaluate("stage.placeOf(2)") == pytest.approx([before[0] + 30, before[1] - 20])
            await page.evaluate("stage.fit()")


@pytest.mark.parametrize("kind", BROWSERS)
async def test_a_film_that_is_dropped_on_its_page_opens(kind: Kind, tmp_path: Path) -> None:
    avatars, made = Avatars(4), tmp_path / "goal.sqlite"
    rows = [Record(key, data) for key, data in avatars.frame(7).items()]
    with FilmWriter(made, world="arena", stride=100, now_us=1, layout=resolve("avatars")) as film:
        film.begin([encode_frame(Frame(1, 7, rows, keyframe=True))], received_at_us=1_700_000_000_000_000)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "film"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        address = (await child.stdout.readline()).decode().strip()
        async with kind(tmp_path / "profile") as browser:
            page = await browser.open(address)
            await page.until("document.getElementById('take') && !document.getElementById('take').hidden")
            data = base64.b64encode(made.read_bytes()).decode()
            await page.evaluate(
                f"""(() => {{
                  const carried = new DataTransfer(), bytes = Uint8Array.from(atob("{data}"), c => c.charCodeAt(0));
                  carried.items.add(new File([bytes], "goal.sqlite"));
                  dispatchEvent(new DragEvent("drop", {{ dataTransfer: carried, cancelable: true }}));
                }})()"""
            )
            await page.until("location.hash.startsWith('#goal') && window.film?.()?.state?.size === 4")
            assert await coloured(page, 2)
            await _stays_here(page)
    finally:
        child.terminate()
        await child.wait()


async def test_pages_ask_for_a_token_where_one_is_wanted_and_keep_it_to_themselves(tmp_path: Path) -> None:
    key = SigningKey.generate("EdDSA", "first")
    key.write(tmp_path / "keys")
    gateway = await Gateway.start(settings(tmp_path, auth_keys=str(tmp_path / "keys")))
    try:
        site = Site(gateway, tmp_path)
        every = key.sign({"exp": int(time.time() + 600), "mv": {"pub": ["*"], "sub": ["*"], "admin": ["*"]}})
        async with (
            site.publisher("arena", token=every) as publisher,
            Browser(tmp_path / "profile") as browser,
        ):
            publisher.send(Avatars(3).frame(1))
            for address in ("/", "/map#arena", "/film#arena"):
                page = await browser.open(site.url + address)
                await page.until("document.getElementById('ask') && !document.getElementById('ask').hidden")
                await page.command(
                    "Emulation.setDeviceMetricsOverride",
                    width=390,
                    height=800,
                    deviceScaleFactor=1,
                    mobile=True,
                )
                await page.until("document.documentElement.scrollWidth <= 390")
                assert "arena</a>" not in await page.evaluate(
                    "document.getElementById('worlds')?.innerHTML ?? ''"
                )
                await page.evaluate(
                    f"document.getElementById('token').value = {json.dumps(every)}, document.getElementById('ask').requestSubmit()"
                )
                await page.until("document.getElementById('ask').hidden")
                await page.until("document.body.innerText.includes('arena')")
                assert every not in await page.evaluate(
                    "location.href + JSON.stringify(localStorage) + document.cookie"
                )
    finally:
        await gateway.drain(2.0)


# -- the list of worlds -----------------------------------------------------------------------

WORLDS = int(os.environ.get("MVGATEWAY_PAGES_WORLDS", "210"))
"""More than one page of the list has; the long form has 3,600."""


def _filled(folder: Path, count: int) -> None:
    """A store with so many worlds, each made as any is."""
    store = EmbeddedStore.open(folder, auto_create=True)
    for number in range(count):
        world, _ = WorldDatabase.create(
            store.blocking(), f"zone-{number:04}", make_state=MAKE_STATE, now_us=1_700_000_000_000_000
        )
        world.close()
    store.close()


@pytest.mark.timeout(FOREIGN_TEST_S + WORLDS / 4)
async def test_many_worlds_are_listed_by_pages_and_found_by_their_beginning(tmp_path: Path) -> None:
    await asyncio.to_thread(_filled, tmp_path / "store", WORLDS)
    gateway = await Gateway.start(settings(tmp_path))
    try:
        assert gateway.plain_server is not None
        async with Browser(tmp_path / "profile") as browser:
            page = await browser.open(f"http://127.0.0.1:{gateway.plain_server.port}/")
            listed, names = (
                "[...document.querySelectorAll('#worlds tr td:first-child')].map(cell => cell.innerText)",
                [],
            )
            while True:
                first = f"zone-{len(names):04}"
                await page.until(f"{listed}[0] === '{first}'")
                names += await page.evaluate(listed)
                if await page.evaluate("document.getElementById('on').disabled"):
                    break
                await page.evaluate("document.getElementById('on').click()")
            assert names == [f"zone-{number:04}" for number in range(WORLDS)]
            await page.evaluate(
                "document.getElementById('prefix').value = 'zone-020', document.getElementById('prefix').dispatchEvent(new Event('input'))"
            )
            await page.until(f"{listed}.join() === '{','.join(f'zone-020{digit}' for digit in range(10))}'")
            await page.until("document.getElementById('pages').hidden")
    finally:
        await gateway.drain(2.0)


async def test_the_list_tells_readers_by_transport_what_is_lost_and_the_room_of_the_store(
    site: Site, tmp_path: Path
) -> None:
    await site.made("arena", layout="avatars")
    async with site.publisher("arena") as publisher, Browser(tmp_path / "profile") as browser:
        publisher.send(Avatars(3).frame(1))
        page = await browser.open(f"{site.url}/map#arena")
        await page.until("window.reader?.()?.state.size === 3")
        front = await browser.open(f"{site.url}/")
        row = "document.querySelector('#worlds tr').innerText"
        await front.until(
            f"document.querySelector('#worlds a') && /1 .1 (webtransport|websocket)/.test({row})"
        )
        await front.until(f"{row}.includes('0.0/s')")
        await front.until("document.getElementById('disk').innerText.includes('free on its disk')")
        for shown in (front, page):
            await _stays_here(shown)


async def test_the_pages_of_a_gateway_ask_for_nothing_that_is_not_there(site: Site, tmp_path: Path) -> None:
    await _film(site, "arena", Avatars(3))
    async with Browser(tmp_path / "profile") as browser:
        for address, is_there in (
            ("/", "document.querySelector('#worlds a')"),
            ("/map#arena", "window.reader?.()?.state.size === 3"),
            ("/film#arena", "window.film?.()?.place"),
        ):
            page = await browser.open(site.url + address)
            await page.until(f"Boolean({is_there})")
            missing = await page.evaluate(
                "performance.getEntriesByType('resource').filter(e => e.responseStatus >= 400).map(e => e.name)"
            )
            assert missing == []
            assert await page.evaluate("document.getElementById('take')?.hidden ?? true")


async def test_an_empty_gateway_says_what_to_do_and_shows_a_world_that_comes(
    site: Site, tmp_path: Path
) -> None:
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{site.url}/")
        await page.until("document.getElementById('none') && !document.getElementById('none').hidden")
        assert "mvgateway publish WORLD" in await page.evaluate("document.getElementById('none').innerText")
        await site.made("arena")
        await page.until("document.querySelector('#worlds a')?.innerText === 'arena'")
        await page.until("document.getElementById('none').hidden")


async def test_a_map_that_is_opened_before_its_world_is_there_shows_it_when_it_comes(
    site: Site, tmp_path: Path
) -> None:
    async with Browser(tmp_path / "profile") as browser:
        page = await browser.open(f"{site.url}/map#arena")
        await page.until("document.getElementById('trouble')?.textContent.includes('no world')")
        await site.made("arena", layout="avatars")
        async with site.publisher("arena") as publisher:
            publisher.send(Avatars(3).frame(1))
            await page.until("window.stage?.layout && window.reader?.()?.state.size === 3")
            await page.until("document.getElementById('trouble').textContent === ''")
            assert await coloured(page, 1)


async def test_a_gateway_that_stops_is_told_on_the_map_and_on_the_list(tmp_path: Path) -> None:
    gateway = await Gateway.start(settings(tmp_path))
    site = Site(gateway, tmp_path)
    await site.made("arena", layout="avatars")
    async with site.publisher("arena") as publisher, Browser(tmp_path / "profile") as browser:
        publisher.send(Avatars(3).frame(1))
        front = await browser.open(f"{site.url}/")
        await front.until("document.querySelector('#worlds a')?.innerText === 'arena'")
        page = await browser.open(f"{site.url}/map#arena")
        await page.until("window.reader?.()?.state.size === 3")
        await gateway.drain(2.0)
        await page.until("document.getElementById('events').innerText.includes('the gateway says bye')")
        await page.until("document.getElementById('sign').innerText.includes('draining')")
        await page.until("document.getElementById('trouble').innerText.includes('not reachable')")
        assert await page.evaluate("reader().state.size") == 3  # what it had stays in sight
        await front.until("document.getElementById('status').innerText.includes('not reachable')")
