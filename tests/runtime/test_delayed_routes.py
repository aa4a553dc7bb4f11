"""``delay_s`` on everything that tells of a recording: no answer holds what came less than so long ago."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.client import HttpClient, Publisher, Subscriber, Trust
from gateway.client.fetch import read_messages
from gateway.errors import BadInput, NothingRecorded, Unprocessable
from gateway.runtime.gateway import Gateway
from gateway.wire import Control, Frame, decode_message
from tests.client.conftest import Served, settings_in, until
from tests.patience import HANG_S

DELAY_S = 1.0


class Game:
    """A world that is published without a pause, and when which tick was sent."""

    def __init__(self, served: Served, client: HttpClient) -> None:
        self.served = served
        self.client = client
        self.sent_at: dict[int, float] = {}

    async def publish(self, publisher: Publisher) -> None:
        for number in range(100_000):
            at = time.monotonic()
            self.sent_at[publisher.send({number % 5: b"%d" % number})] = at
            await asyncio.sleep(0.02)

    async def get(self, path: str, query: str) -> Any:
        return await self.client.get_json(f"/v1/worlds/{path}?{query}")

    def is_old_enough(self, tick: int) -> bool:
        """Asked when the answer is there: what it shows came before."""
        return time.monotonic() - self.sent_at[tick] >= DELAY_S


@pytest_asyncio.fixture
async def game(tmp_path: Path) -> AsyncIterator[Game]:
    gateway = await Gateway.start(settings_in(tmp_path, keyframe_interval_ms=200))
    served = Served(gateway, tmp_path / "certs")
    try:
        async with (
            HttpClient(served.url, trust=Trust.of(ca=served.ca)) as client,
            Publisher(served.url, "w", transport="websocket", ca=served.ca) as publisher,
        ):
            game = Game(served, client)
            playing = asyncio.create_task(game.publish(publisher))
            yield game
            playing.cancel()
    finally:
        await gateway.drain(2.0)


async def test_no_route_shows_what_is_younger_and_each_shows_what_is_older(game: Game) -> None:
    query = f"delay_s={DELAY_S:g}"
    shown: dict[str, int] = {}
    async with asyncio.timeout(HANG_S):
        while min([shown.get(what, 0) for what in ("info", "last", "at", "frames", "recording")]) < 5:
            for what, tick in [
                ("info", (await game.get("w", query))["tick"]),
                ("recording", ((await game.get("w/recording", query))["last"] or {"tick": 0})["tick"]),
                ("last", await _state_tick(game, f"w/frames/last?{query}")),
                ("at", await _state_tick(game, f"w/frames?at=0s-ago&{query}")),
                ("frames", await _newest(game, f"w/frames?{query}")),
            ]:
                assert not tick or game.is_old_enough(tick), what
                shown[what] = max(tick, shown.get(what, 0))


async def _state_tick(game: Game, path: str) -> int:
    headers = {"accept": "application/json"}
    try:
        answer = await game.client.request("GET", f"/v1/worlds/{path}", headers=headers)
    except NothingRecorded:
        return 0
    return int(answer.json()["tick"])


async def _newest(game: Game, path: str) -> int:
    body = (await game.client.request("GET", f"/v1/worlds/{path}")).body
    frames = [decode_message(message) for message in read_messages(body)]
    return max([frame.tick for frame in frames if isinstance(frame, Frame)], default=0)


async def test_a_tick_that_is_too_young_is_not_recorded_yet(game: Game) -> None:
    await until(lambda: len(game.sent_at) >= 10)
    newest = max(game.sent_at)
    with pytest.raises(NothingRecorded) as refused:
        await game.get("w/frames", f"tick={newest}&delay_s=30")
    assert str(newest + 1) not in str(refused.value.facts)


async def test_marks_and_verification_are_those_of_then(game: Game) -> None:
    await until(lambda: len(game.sent_at) >= 10)
    body = json.dumps({"name": "goal"}).encode()
    headers = {"content-type": "application/json"}
    await game.client.request("POST", "/v1/worlds/w/marks", headers=headers, body=body)
    assert [mark["name"] for mark in (await game.get("w/marks", ""))["marks"]] == ["goal"]
    assert (await game.get("w/marks", "delay_s=30"))["marks"] == []
    assert (await game.get("w/gaps", "delay_s=30"))["gaps"] == []
    assert (await game.get("w/verify", "delay_s=30"))["rows"] == 0


async def test_a_list_of_worlds_and_the_facts_of_one_tell_nothing_of_now(game: Game) -> None:
    listed = (await game.client.get_json("/v1/worlds?delay_s=30"))["worlds"]
    assert listed == [{"world": "w", "open": True}]
    facts = await game.get("w", "delay_s=30")
    assert (facts["tick"], facts["epoch"], facts["durable"], facts["publisher"]) == (0, 0, None, None)


@pytest.mark.parametrize(
    "path", ["w", "w/frames", "w/frames/last", "w/recording", "w/gaps", "w/marks", "w/verify"]
)
async def test_a_delay_that_cannot_be_is_refused_by_name(game: Game, path: str) -> None:
    for query in ("delay_s=0.2", "delay_s=4000", "delay_s=x", "delay_s=2&delay_s=3"):
        with pytest.raises(BadInput, match="delay_s"):
            await game.get(path, query)
    with pytest.raises(Unprocessable, match="keeps the last 60 s only"):
        await game.get(path, "delay_s=61")


async def test_a_replay_never_gets_ahead_of_the_delay(game: Game) -> None:
    told: list[Control] = []
    wrong: list[int] = []
    watched = Subscriber(
        game.served.url,
        "w",
        replay={"speed": "max", "delay_s": DELAY_S},
        transport="websocket",
        ca=game.served.ca,
        on_event=told.append,
        on_message=lambda frame: wrong.append(frame.tick) if not game.is_old_enough(frame.tick) else None,
    )
    await until(lambda: len(game.sent_at) >= 100, HANG_S)
    async with watched as viewer:
        await until(lambda: any(control.type == "position" and control["ended"] for control in told), HANG_S)
        assert viewer.tick > 10
        viewer.control("seek", tick=max(game.sent_at))
        await until(lambda: any(control.type == "refused" for control in told), HANG_S)
    welcome = next(control for control in told if control.type == "welcome")
    assert welcome["delay_s"] == DELAY_S
    assert game.is_old_enough(welcome["tick"])
    assert wrong == []
