"""Watching a world as it was some seconds ago: on every link, nothing too soon, everything in the end, one reading for all."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import websockets

from gateway.client import HttpClient, Publisher, ReceivedFrame, Subscriber, Trust
from gateway.errors import BadInput, GatewayError, Overloaded, Unprocessable
from gateway.runtime.gateway import Gateway
from gateway.wire import Control, Frame, MessageStream, decode_message
from tests.client.conftest import Served, settings_in, until
from tests.patience import HANG_S
from tests.runtime.conftest import what_is_told

DELAY_S = 1.0
TRANSPORTS = ("webtransport", "websocket")


class Game:
    """A gateway with a world ``w``, and when which tick of which epoch was sent."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.gateway = served.gateway
        self.sent_at: dict[tuple[int, int], float] = {}

    def publisher(self, **more: Any) -> Publisher:
        return Publisher(self.served.url, "w", transport="websocket", ca=self.served.ca, **more)

    def send(self, publisher: Publisher, number: int) -> None:
        at = time.monotonic()
        gone = {number % 7: None} if number % 5 == 0 else {}
        tick = publisher.send({number % 11: b"%d" % number, 100: b"x%d" % number, **gone})
        self.sent_at[publisher.epoch, tick] = at

    async def play(self, publisher: Publisher, ticks: int) -> None:
        for number in range(ticks):
            self.send(publisher, number)
            await asyncio.sleep(1 / 60)

    def watcher(self, **more: Any) -> Watcher:
        return Watcher(self, **more)

    @property
    def counts(self) -> Any:
        return self.gateway.worlds.delayed


class Watcher:
    """A delayed reader that judges each record that it gets."""

    def __init__(
        self, game: Game, *, delay_s: float = DELAY_S, transport: str = "websocket", **more: Any
    ) -> None:
        self.game = game
        self.delay_s = delay_s
        self.told: list[Control] = []
        self.early: list[tuple[int, float]] = []
        self.ages: list[float] = []
        self.subscriber = Subscriber(
            game.served.url,
            more.pop("world", "w"),
            delay_s=delay_s,
            transport=transport,  # type: ignore[arg-type]
            ca=game.served.ca,
            on_event=self.told.append,
            on_message=self._got,
            **more,
        )

    def _got(self, frame: ReceivedFrame) -> None:
        sent_at = self.game.sent_at.get((frame.epoch, frame.tick))
        if frame.tick and sent_at is not None:
            age = time.monotonic() - sent_at
            self.ages.append(age)
            if age < self.delay_s:
                self.early.append((frame.tick, age))

    @property
    def records(self) -> dict[int, bytes]:
        return self.subscriber.records()

    def has(self, kind: str, **fields: Any) -> bool:
        return any(c.type == kind and all(c.get(n) == v for n, v in fields.items()) for c in self.told)


@asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator[Game]:
    gateway = await Gateway.start(settings_in(folder, **settings))
    try:
        yield Game(Served(gateway, folder / "certs"))
    finally:
        await gateway.drain(2.0)


@pytest_asyncio.fixture
async def game(tmp_path: Path) -> AsyncIterator[Game]:
    async with serving(tmp_path) as game:
        yield game


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_reader_sees_nothing_too_soon_and_the_same_bytes_in_the_end(
    game: Game, transport: str
) -> None:
    watcher = game.watcher(transport=transport)
    async with game.publisher() as publisher, watcher.subscriber:
        await game.play(publisher, 150)
        await until(lambda: watcher.records == publisher.records(), HANG_S)
        assert time.monotonic() - max(game.sent_at.values()) >= DELAY_S
    assert watcher.early == []
    assert len(watcher.ages) > 100
    welcome = next(control for control in watcher.told if control.type == "welcome")
    assert (welcome["delay_s"], welcome["tick"], welcome["durable"]) == (DELAY_S, 0, None)


async def test_a_reader_who_comes_later_begins_with_the_state_of_then(game: Game) -> None:
    async with game.publisher() as publisher:
        await game.play(publisher, 120)
        watcher = game.watcher(transport="webtransport")
        async with watcher.subscriber:
            await until(lambda: len(watcher.records) > 5, HANG_S)
            assert watcher.subscriber.tick < 120
            await until(lambda: watcher.records == publisher.records(), HANG_S)
        assert watcher.early == []


@pytest.mark.parametrize("accept", ["application/vnd.mvgateway.frames", "text/event-stream"])
async def test_streams_over_http_are_held_back_as_well(game: Game, accept: str) -> None:
    url = f"{game.served.url}/v1/worlds/w/live?delay_s={DELAY_S:g}"
    async with (
        game.publisher() as publisher,
        httpx.AsyncClient(verify=ssl.create_default_context(cafile=game.served.ca), timeout=HANG_S) as client,
    ):
        playing = asyncio.create_task(game.play(publisher, 120))
        seen, got = 0, bytearray()
        async with client.stream("GET", url, headers={"accept": accept}) as answer:
            assert answer.status_code == 200
            async for chunk in answer.aiter_bytes():
                got += chunk
                now = time.monotonic()
                for tick in _ticks(got, accept):
                    assert now - game.sent_at[publisher.epoch, tick] >= DELAY_S
                    seen = max(seen, tick)
                if seen == 120:
                    break
        await playing


def _ticks(got: bytearray, accept: str) -> list[int]:
    """Those of the frames that have come whole, which are taken out."""
    ticks = []
    if accept == "text/event-stream":
        while (end := got.find(b"\n\n")) >= 0:
            event = bytes(got[:end])
            del got[: end + 2]
            if event.startswith(b"event: frame"):
                ticks.append(json.loads(event.partition(b"data: ")[2])["tick"])
        return ticks
    stream = MessageStream()
    stream.feed(bytes(got))
    taken = 0
    for message in stream:
        taken += 4 + len(message)
        what = decode_message(message)
        if isinstance(what, Frame):
            ticks.append(what.tick)
    del got[:taken]
    return ticks


async def test_every_frame_comes_in_order_where_a_reader_asks_for_that(game: Game) -> None:
    url = f"wss://127.0.0.1:{game.gateway.port}/v1/worlds/w/live?conflate=0&zstd=1&delay_s={DELAY_S:g}"
    tls = ssl.create_default_context(cafile=game.served.ca)
    async with game.publisher() as publisher, websockets.connect(url, ssl=tls) as link:
        playing = asyncio.create_task(game.play(publisher, 90))
        ticks: list[int] = []
        async with asyncio.timeout(HANG_S):
            while len(ticks) < 90:
                data = await link.recv()
                now = time.monotonic()
                assert isinstance(data, bytes)
                what = decode_message(data)
                if isinstance(what, Frame) and not what.keyframe:
                    assert now - game.sent_at[what.epoch, what.tick] >= DELAY_S
                    ticks.append(what.tick)
        assert ticks == list(range(1, 91))
        await playing


async def test_a_hundred_readers_of_one_delay_are_served_by_one_reading(game: Game) -> None:
    watchers = [game.watcher(transport=TRANSPORTS[n % 10 == 0]) for n in range(100)]
    async with game.publisher() as publisher:
        for at in range(0, 100, 10):
            await asyncio.gather(*(watcher.subscriber.start() for watcher in watchers[at : at + 10]))
        began, before = time.monotonic(), game.counts.readings
        await game.play(publisher, 60)
        await until(lambda: all(watcher.records == publisher.records() for watcher in watchers), HANG_S)
        took_s = time.monotonic() - began
        readings = game.counts.readings - before
        await asyncio.gather(*(watcher.subscriber.aclose() for watcher in watchers))
    assert (game.counts.feeds_begun, game.counts.rows) == (1, 60)
    assert readings <= took_s / 0.25 + 2, "four a second, as with one reader"
    assert [watcher.early for watcher in watchers if watcher.early] == []


async def test_a_feed_ends_with_its_last_reader_and_begins_again_with_the_next(game: Game) -> None:
    async with game.publisher() as publisher:
        await game.play(publisher, 30)
        for number in (1, 2):
            await _watched_by_two(game, publisher)
            await until(lambda: game.counts.feeds == 0)
            assert game.counts.feeds_begun == number


async def _watched_by_two(game: Game, publisher: Publisher) -> None:
    first, second = game.watcher(), game.watcher()
    async with first.subscriber:
        async with second.subscriber:
            assert game.counts.feeds == 1
        await until(lambda: game.gateway.worlds.hosts["w"].feeds.tell() == {DELAY_S: 1})
        await until(lambda: first.records == publisher.records(), HANG_S)


async def test_a_world_that_began_less_than_the_delay_ago_shows_nothing_yet(game: Game) -> None:
    watcher = game.watcher(delay_s=30)
    async with game.publisher() as publisher, watcher.subscriber:
        await game.play(publisher, 90)
        await publisher.wait_durable()
        assert [control.type for control in watcher.told] == ["welcome"]
        assert watcher.records == {}
        welcome = watcher.told[0]
        assert (welcome["epoch"], welcome["tick"], welcome["durable"]) == (0, 0, None)


async def test_nothing_that_a_reader_says_shows_it_anything_sooner(game: Game) -> None:
    watcher = game.watcher(delay_s=30)
    async with game.publisher() as publisher, watcher.subscriber:
        await game.play(publisher, 60)
        for kind in ("live", "seek", "play", "step", "durable", "ack", "lags", "welcome"):
            watcher.subscriber.control(kind, tick=1, epoch=publisher.epoch, delay_s=0)
        watcher.subscriber.focus({100: 9})
        await game.play(publisher, 30)
        await publisher.wait_durable()
        assert watcher.records == {}
        assert watcher.subscriber.connected


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_new_epoch_comes_when_its_time_has_come(game: Game, transport: str) -> None:
    watcher = game.watcher(transport=transport)
    async with game.publisher() as first, watcher.subscriber:
        await game.play(first, 40)
        async with game.publisher(takeover=True) as second:
            changed = time.monotonic()
            await game.play(second, 40)
            await until(lambda: watcher.subscriber.epoch == second.epoch, HANG_S)
            assert time.monotonic() - changed >= DELAY_S
            await until(lambda: watcher.records == second.records() | watcher.records, HANG_S)
            live = game.gateway.worlds.hosts["w"].world.state
            await until(lambda: watcher.records == live.snapshot(), HANG_S)
    assert watcher.early == []
    assert watcher.has("resync", reason="new_epoch")


async def test_a_reader_on_a_budget_converges_on_what_was(game: Game) -> None:
    watcher = game.watcher(transport="webtransport", budget_kbps=64, keys={100: 4})
    async with game.publisher() as publisher, watcher.subscriber:
        await game.play(publisher, 120)
        await until(lambda: watcher.records == publisher.records(), HANG_S)
    assert watcher.early == []


async def test_a_ring_that_keeps_less_than_the_delay_is_refused_by_name(tmp_path: Path) -> None:
    async with serving(tmp_path, ring_s=5) as game, game.publisher() as publisher:
        await game.play(publisher, 5)
        for transport in TRANSPORTS:
            with pytest.raises((Unprocessable, BadInput), match="keeps the last 5 s only"):
                await game.watcher(delay_s=6, transport=transport).subscriber.start()
        async with game.watcher(delay_s=5).subscriber:
            pass
        await _none(game)


async def _none(game: Game) -> None:
    await until(lambda: game.counts.feeds == 0)


async def test_a_ring_that_is_made_shorter_meanwhile_ends_the_view_by_name(game: Game) -> None:
    watcher = game.watcher(delay_s=20)
    async with game.publisher() as publisher, watcher.subscriber:
        async with HttpClient(game.served.url, trust=Trust.of(ca=game.served.ca)) as client:
            body = json.dumps({"ring_s": 5}).encode()
            await client.request(
                "PATCH", "/v1/worlds/w", headers={"content-type": "application/json"}, body=body
            )
        await game.play(publisher, 10)
        await until(lambda: watcher.subscriber.error is not None, HANG_S)
        assert "keeps the last 5 s only" in str(watcher.subscriber.error)
    await _none(game)


async def test_a_world_that_is_deleted_ends_its_delayed_views_at_once(game: Game) -> None:
    watcher = game.watcher(delay_s=20)
    async with game.publisher() as publisher, watcher.subscriber:
        await game.play(publisher, 10)
        async with HttpClient(game.served.url, trust=Trust.of(ca=game.served.ca)) as client:
            await client.request("DELETE", "/v1/worlds/w")
        await until(lambda: watcher.has("bye", reason="world deleted"))
    await _none(game)


async def test_the_number_of_delays_is_bounded_and_the_refusal_names_the_bound(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, delayed_feeds_per_world_max=2, delayed_feeds_max=3) as game,
        game.publisher() as publisher,
        Publisher(game.served.url, "v", transport="websocket", ca=game.served.ca) as other,
    ):
        game.send(publisher, 1)
        other.send({1: b"1"})
        first, second, same = (game.watcher(delay_s=delay_s) for delay_s in (1, 2, 2))
        elsewhere = game.watcher(delay_s=3, world="v")
        async with first.subscriber, second.subscriber, same.subscriber, elsewhere.subscriber:
            for world, flag in (("w", "--delayed-feeds-per-world-max"), ("v", "--delayed-feeds-max")):
                refused = game.watcher(delay_s=4, world=world).subscriber
                assert flag in str(await what_is_told(refused, Overloaded))
        assert game.gateway.refusals.counts["delayed_feeds_max"] >= 1
        await _none(game)
        async with game.watcher(delay_s=4).subscriber:
            assert game.counts.feeds == 1


async def test_delayed_readers_count_among_the_readers_of_a_world(tmp_path: Path) -> None:
    async with serving(tmp_path, readers_per_world_max=2) as game, game.publisher() as publisher:
        game.send(publisher, 1)
        live = Subscriber(game.served.url, "w", transport="websocket", ca=game.served.ca)
        async with live, game.watcher().subscriber:
            for delay_s in (0, 1, 2):
                refused = game.watcher(delay_s=delay_s).subscriber
                assert "--readers-per-world-max" in str(await what_is_told(refused, GatewayError))


async def test_a_gateway_that_stops_says_bye_to_delayed_readers(tmp_path: Path) -> None:
    async with serving(tmp_path) as game, game.publisher() as publisher:
        watcher = game.watcher()
        await watcher.subscriber.start()
        await game.play(publisher, 5)
        await game.gateway.drain(2.0)
        await until(lambda: watcher.has("bye"))
        await watcher.subscriber.aclose()


async def test_metrics_tell_of_feeds_and_their_readers(game: Game) -> None:
    async with game.publisher() as publisher, game.watcher(delay_s=2.5).subscriber:
        game.send(publisher, 1)
        async with HttpClient(game.served.url, trust=Trust.of(ca=game.served.ca)) as client:
            text = (await client.request("GET", "/metrics")).body.decode()
    assert "mvgateway_delayed_feeds 1" in text
    assert 'mvgateway_delayed_readers{world="w",delay_s="2.5"} 1' in text
    assert 'mvgateway_delayed_events_total{what="feeds_begun"} 1' in text


async def test_following_an_entity_goes_where_it_went_so_long_ago(game: Game) -> None:
    async with (
        game.publisher() as publisher,
        Publisher(game.served.url, "v", transport="websocket", ca=game.served.ca) as other,
        HttpClient(game.served.url, trust=Trust.of(ca=game.served.ca)) as client,
    ):
        game.send(publisher, 1)
        other.send({7: b"over there"})
        await client.request("PUT", "/v1/worlds/w/entities/crate", body=b"state")
        watcher = game.watcher(follow="crate")
        async with watcher.subscriber:
            await until(lambda: 100 in watcher.records, HANG_S)
            ticket = await _transfer(client)
            moved = time.monotonic()
            await client.request("POST", f"/v1/transfers/{ticket}:accept", body=b"{}")
            await until(lambda: watcher.has("moved", world="v"), HANG_S)
            assert time.monotonic() - moved >= DELAY_S * 0.95
            await until(lambda: watcher.records == {7: b"over there"}, HANG_S)


async def _transfer(client: HttpClient) -> str:
    body = json.dumps({"entity": "crate", "from": "w", "to": "v"}).encode()
    answer = await client.request(
        "POST", "/v1/transfers", headers={"content-type": "application/json"}, body=body
    )
    return str(answer.json()["ticket"])
