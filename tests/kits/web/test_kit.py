"""The web kit in a real Chromium and a real Firefox: entities, films, a publisher's last word, a reader in a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.client import Entities, Publisher, Subscriber
from tests.e2e.browser import Browser, Page
from tests.e2e.conftest import GatewayForPages
from tests.e2e.conftest import pages as pages
from tests.e2e.conftest import served as served
from tests.e2e.firefox import Firefox
from tests.e2e.relays import Path as RelayPath
from tests.kits.abilities import proves
from tests.patience import HANG_S

Kind = type[Browser] | type[Firefox]
EACH = pytest.mark.parametrize("kind", [Browser, Firefox])


@asynccontextmanager
async def page_at(pages: str, folder: Path, kind: Kind = Browser) -> AsyncIterator[Page]:
    async with kind(folder / "profile") as browser:
        page = await browser.open(
            f"{pages}/README.md"
        )  # any page of that origin, without a session of its own
        await page.until("document.readyState === 'complete'")
        await page.evaluate(f"""(async () => {{ window.kit = await import("{pages}/mvgateway.js"); }})()""")
        yield page


@EACH
@proves("web", "entities", "watch", "transfers", "inventories")
async def test_entities_are_stored_fetched_watched_moved_and_traded(
    served: GatewayForPages, pages: str, tmp_path: Path, kind: Kind
) -> None:
    async with (
        Publisher(served.url, "forest", ca=served.ca),
        Publisher(served.url, "town", ca=served.ca),
        Entities(served.url, "town", ca=served.ca) as town,
        page_at(pages, tmp_path, kind) as page,
    ):
        found = await page.evaluate(
            f"""(async () => {{
              const town = new kit.Entities("{served.plain}", "town");
              const said = [], stop = new AbortController();
              const first = await town.put("chest:7", {{ gold: 12 }}, {{ className: "chest", owner: "s", tags: ["a b", "ü"], key: 7 }});
              const got = await town.get("chest:7");
              said.push([got.value.gold, got.class, got.owner, got.tags, got.key, got.revision === first]);
              const fails = promise => promise.then(() => "done", error => [error.name, error.status, error.code]);
              said.push(await fails(town.put("chest:7", {{}}, {{ ifMatch: first + 1 }})));
              said.push(await fails(town.put("chest:7", {{}}, {{ createOnly: true }})));
              said.push(await fails(town.get("nothing/here")));
              const many = await town.batch([{{ op: "put", id: "a", state: [1, 2] }}, {{ op: "put", id: "b", state: new Uint8Array([9, 8]), tags: ["x"] }}]);
              said.push(many.length);
              const all = [];
              for await (const entity of town.all()) all.push([entity.id, entity.kind === "bytes" ? [...entity.state] : entity.value]);
              said.push(all);
              const changes = [];
              const watching = (async () => {{
                for await (const change of town.watch({{ since: first, signal: stop.signal }})) {{
                  changes.push([change.id, change.entity === null]);
                  if (change.entity === null) stop.abort();
                }}
              }})();
              await town.patch("b", {{ class: "box" }});
              await town.delete("a");
              await watching;
              said.push(changes);
              await town.acquire("s"); await town.renew("s"); await town.release("s");
              const ticket = await town.transfer("b", "forest");
              said.push((await town.accept(ticket)).state);
              said.push((await town.transferRecord(ticket)).state);
              const ann = new kit.Entities("{served.plain}", "ann", {{ inventory: true }});
              await ann.put("gold", {{}}, {{ quantity: 10 }});
              await ann.trade([{{ item: "gold", from: "ann", to: "bob", quantity: 7 }}]);
              said.push((await ann.get("gold")).quantity);
              return said;
            }})()"""
        )
        assert found[0] == [12, "chest", "s", ["a b", "ü"], 7, True]
        assert found[1] == ["GatewayError", 412, "precondition_failed"]
        assert found[2] == ["GatewayError", 412, "precondition_failed"]
        assert found[3] == ["GatewayError", 404, "not_found"]
        assert found[4] == 2
        assert found[5] == [["a", [1, 2]], ["b", [9, 8]], ["chest:7", {"gold": 12}]]
        assert found[6][-1] == ["a", True]
        assert found[7:] == ["accepted", "accepted", 3]
        assert (await town.get("chest:7")).value == {"gold": 12}


@EACH
@proves("web", "sleep")
async def test_a_record_that_sleeps_does_not_rise_by_its_publishers_keyframe(
    served: GatewayForPages, pages: str, tmp_path: Path, kind: Kind
) -> None:
    async with page_at(pages, tmp_path, kind) as page:
        found = await page.evaluate(
            f"""(async () => {{
              const town = new kit.Entities("{served.plain}", "town");
              window.pub = new kit.Publisher("{served.url}", "town", {served.pinned});
              const changes = [];
              pub.on("changed", records => changes.push([...records].map(([key, data]) => [key, data && [...data]])));
              await pub.open();
              pub.send(new Map([[1, new Uint8Array([1])], [7, new Uint8Array([7])]]));
              await pub.waitDurable();
              await town.hibernate("player", 7);
              while (changes.length < 1) await new Promise(done => setTimeout(done, 20));
              pub.keyframe();
              const asleep = [...pub.live.keys()];
              pub.send(new Map([[1, new Uint8Array([2])]]));
              await pub.waitDurable();
              await town.wake("player");
              while (changes.length < 2) await new Promise(done => setTimeout(done, 20));
              pub.send(new Map([[1, new Uint8Array([3])]]));
              await pub.waitDurable();
              return [changes, asleep, [...pub.live.keys()].sort()];
            }})()"""
        )
        assert found == [[[[7, None]], [[7, [7]]]], [1], [1, 7]]
        async with Subscriber(served.url, "town", ca=served.ca) as reader, asyncio.timeout(HANG_S):
            async for _ in reader:
                if reader.records() == {1: b"\x03", 7: b"\x07"}:
                    break


@EACH
async def test_a_large_state_comes_over_and_a_publisher_that_is_cut_off_goes_on_in_its_epoch(
    served: GatewayForPages, pages: str, tmp_path: Path, kind: Kind
) -> None:
    async with page_at(pages, tmp_path, kind) as page:
        epochs = await page.evaluate(
            f"""(async () => {{
              window.pub = new kit.Publisher("{served.url}", "large", {{ ...{served.pinned}, watchdogMs: 0 }});
              const epochs = [];
              pub.on("open", welcome => epochs.push(welcome.epoch));
              await pub.open();
              window.rows = n => new Map([...Array(1800).keys()].map(key => [key, new Uint8Array(300).fill((key + n) % 251)]));
              pub.send(rows(0));
              await pub.waitDurable();
              pub.link.drop("as a lost network does");
              while (epochs.length < 2) await new Promise(done => setTimeout(done, 20));
              pub.send(rows(1));
              await pub.waitDurable();
              return epochs;
            }})()"""
        )
        assert epochs == [1, 1]
        async with Subscriber(served.url, "large", ca=served.ca) as reader, asyncio.timeout(HANG_S):
            wanted = {key: bytes([(key + 1) % 251]) * 300 for key in range(1800)}
            async for _ in reader:
                if reader.records() == wanted:
                    break


@EACH
@proves("web", "repair")
async def test_a_publishers_last_word_comes_over_though_its_datagram_was_lost(
    served: GatewayForPages, pages: str, tmp_path: Path, kind: Kind
) -> None:
    async with (
        RelayPath(served.gateway.port) as path,
        page_at(pages, tmp_path, kind) as page,
    ):
        await page.evaluate(
            f"""(async () => {{
              window.pub = new kit.Publisher("https://127.0.0.1:{path.port}", "quiet", {{ ...{served.pinned}, transport: "webtransport", watchdogMs: 0 }});
              window.opens = 0;
              pub.on("open", () => opens++);
              await pub.open();
              pub.send(new Map([[1, new Uint8Array([1])], [2, new Uint8Array([1])]]));
              await pub.waitDurable();
            }})()"""
        )
        path.udp_is_cut = True
        await page.evaluate("void pub.send(new Map([[1, new Uint8Array([2])], [2, null]]))")
        async with asyncio.timeout(HANG_S):
            await path.has_dropped.wait()  # the datagram
        path.udp_is_cut = False
        async with Subscriber(served.url, "quiet", ca=served.ca) as reader, asyncio.timeout(HANG_S):
            async for _ in reader:
                if reader.records() == {1: b"\x02"}:
                    break
        assert await page.evaluate("opens") == 1


@EACH
@proves("web", "replay")
async def test_a_film_is_played_paused_sought_and_stepped(
    served: GatewayForPages, pages: str, tmp_path: Path, kind: Kind
) -> None:
    async with (
        Publisher(served.url, "film", ca=served.ca) as publisher,
        page_at(pages, tmp_path, kind) as page,
    ):
        for number in range(1, 31):
            publisher.send({1: bytes([number])})
            await asyncio.sleep(0.02)
        await publisher.wait_durable()
        await page.evaluate(
            f"""(async () => {{
              window.film = new kit.Replay("{served.url}", "film", {{ ...{served.pinned}, paused: true }});
              await film.open();
            }})()"""
        )

        async def shows(number: int) -> None:
            await page.until(f"film.state.get(1)?.[0] === {number}")

        assert await page.evaluate("film.seek({ tick: 12 }).then(place => place.tick)") == 12
        await shows(12)
        assert await page.evaluate("film.step(-2).then(place => place.tick)") == 10
        await shows(10)
        assert await page.evaluate("film.play('max').then(place => place.speed)") == "max"
        await shows(30)
        refused = await page.evaluate("film.seek({ tick: 9000 }).then(() => 'there', error => error.name)")
        assert refused == "CommandRefused"
        assert await page.evaluate("film.pause().then(place => place.speed)") == 0
        assert await page.evaluate("film.seek({ tick: 3 }).then(place => place.tick)") == 3
        await shows(3)
        await page.evaluate("film.live().then(() => true)")
        await shows(30)


@EACH
@proves("web", "background")
async def test_a_reader_in_a_worker_follows_and_its_functions_are_asked_in_the_page(
    served: GatewayForPages, pages: str, tmp_path: Path, kind: Kind
) -> None:
    digest = served.gateway.certificates.current.sha256
    async with (
        Publisher(served.url, "arena", ca=served.ca) as publisher,
        page_at(pages, tmp_path, kind) as page,
    ):
        publisher.send({1: b"\x01", 2: b"\x02"})
        await page.evaluate(
            f"""(async () => {{
              window.asked = []; window.keys = new Set();
              window.sub = new kit.BackgroundSubscriber("{served.url}", "arena",
                {{ certificateHash: address => {{ asked.push(address); return "{digest}"; }} }});
              sub.on("changed", changed => changed.forEach(key => keys.add(key)));
              await sub.open();
            }})()"""
        )
        await page.until("sub.state.get(1)?.[0] === 1")
        publisher.send({1: b"\x05", 2: None})
        await page.until("sub.state.get(1)?.[0] === 5 && !sub.state.has(2)")
        assert await page.evaluate("[asked, [...keys].sort(), sub.status]") == [[served.url], [1, 2], "open"]
        refused: Any = await page.evaluate(
            f"""new kit.BackgroundSubscriber("{served.url}", "arena", {{ ...{served.pinned}, query: {{ budget_kbps: "no" }} }})
                .open().then(() => "open", error => [error.name, error.code])"""
        )
        assert refused == ["GatewayRefused", "bad_input"]
        await page.evaluate("sub.close()")
        begun = time.monotonic()
        while served.gateway.worlds.hosts["arena"].world.subscribers:  # the worker has ended its session
            assert time.monotonic() < begun + 10
            await asyncio.sleep(0.05)
