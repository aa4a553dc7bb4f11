"""Replay sessions against a real gateway: seek, step, play both ways, live and back, marks, branches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.client import HttpClient, Publisher, ReceivedFrame, Subscriber, Trust
from gateway.client.address import world_path
from gateway.core.replay import Command, Pace, parse_command, parse_query
from gateway.errors import BadInput, Conflict, NothingRecorded
from gateway.runtime.gateway import Gateway
from gateway.wire import Control
from tests.client.conftest import Served, settings_in
from tests.kits.abilities import proves
from tests.patience import HANG_S

TICKS = 150


class Filmed:
    """A served world with a recording, its publisher, and what was sent at each tick."""

    def __init__(self, served: Served, publisher: Publisher) -> None:
        self.served = served
        self.publisher = publisher
        self.states: dict[int, dict[int, bytes]] = {}

    def send(self, number: int) -> None:
        gone = {number % 7: None} if number % 5 == 0 else {}
        tick = self.publisher.send({number % 11: b"%d" % number, 100: b"x%d" % number, **gone})
        self.states[tick] = self.publisher.records()


@pytest_asyncio.fixture
async def filmed(tmp_path: Path) -> AsyncIterator[Filmed]:
    gateway = await Gateway.start(settings_in(tmp_path, retention="record", keyframe_interval_ms=100))
    served = Served(gateway, tmp_path / "certs")
    async with Publisher(served.url, "w", transport="websocket", ca=served.ca) as publisher:
        made = Filmed(served, publisher)
        for number in range(1, TICKS + 1):
            made.send(number)
            await asyncio.sleep(0.003)
        await asyncio.wait_for(publisher.wait_durable(), HANG_S)
        yield made
    await gateway.drain(2.0)


class Viewer:
    """A subscriber to a replay that can wait for the answer to a command."""

    def __init__(self, filmed: Filmed, transport: str, **query: object) -> None:
        self.filmed = filmed
        self.told: list[Control] = []
        self.seen: list[tuple[int, bool]] = []
        self.heard = asyncio.Event()
        self.subscriber = Subscriber(
            filmed.served.url,
            "w",
            replay={"paused": 1, **query},
            transport=transport,
            ca=filmed.served.ca,
            on_event=self._event,
            on_message=self._message,
        )

    def _event(self, control: Control) -> None:
        self.told.append(control)
        self.heard.set()

    def _message(self, frame: ReceivedFrame) -> None:
        self.seen.append((frame.tick, self.subscriber.records() == self.filmed.states.get(frame.tick)))

    async def answer(self, condition: Callable[[Control], bool] = lambda _: True) -> Control:
        """The next ``position`` or ``refused`` that the condition takes."""
        async with asyncio.timeout(HANG_S):
            while True:
                while self.told:
                    control = self.told.pop(0)
                    if control.type in ("position", "refused") and condition(control):
                        return control
                self.heard.clear()
                await self.heard.wait()

    async def ask(self, type: str, **fields: Any) -> Control:
        self.told.clear()
        self.subscriber.control(type, **fields)
        return await self.answer()

    def shows(self, tick: int) -> bool:
        return self.subscriber.records() == self.filmed.states[tick]


@proves("python", "replay")
@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_a_viewer_seeks_and_steps_to_exact_states(filmed: Filmed, transport: str) -> None:
    viewer = Viewer(filmed, transport)
    async with viewer.subscriber:
        assert (await viewer.answer())["tick"] == 1
        assert viewer.shows(1)
        for tick in (100, 20, 150, 21):
            assert (await viewer.ask("seek", tick=tick))["tick"] == tick
            assert viewer.shows(tick)
        assert (await viewer.ask("step", n=4))["tick"] == 25
        assert viewer.shows(25)
        assert (await viewer.ask("step", n=-20))["tick"] == 5
        assert viewer.shows(5)
        refused = await viewer.ask("seek", tick=99_999)
        assert (refused.type, refused["code"]) == ("refused", "nothing_recorded")
        assert viewer.shows(5)


@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_forwards_and_backwards_visit_the_same_states(filmed: Filmed, transport: str) -> None:
    viewer = Viewer(filmed, transport)
    async with viewer.subscriber:
        await viewer.answer()
        await viewer.ask("play", speed="max")
        await viewer.answer(lambda control: control["ended"])
        forwards = {tick for tick, _ in viewer.seen}
        assert all(right for _, right in viewer.seen)
        viewer.seen.clear()
        await viewer.ask("play", speed="-max")
        await viewer.answer(lambda control: control["ended"])
        assert all(right for _, right in viewer.seen)
        assert {tick for tick, _ in viewer.seen} == forwards - {TICKS}
        assert viewer.shows(1)


async def test_a_viewer_goes_live_and_back_on_one_connection(
    filmed: Filmed, until: Callable[..., Any]
) -> None:
    viewer = Viewer(filmed, "webtransport", tick=30)
    async with viewer.subscriber:
        assert (await viewer.answer())["tick"] == 30
        viewer.subscriber.control("live")
        await until(lambda: viewer.subscriber.tick == TICKS)
        filmed.send(TICKS + 1)
        await until(lambda: viewer.shows(TICKS + 1))
        await viewer.ask("seek", tick=40)
        assert viewer.shows(40)
        filmed.send(TICKS + 2)
        await filmed.publisher.wait_durable()
        assert viewer.shows(40)
        assert viewer.subscriber.connects == 1


async def test_the_wall_clock_paces_a_replay(filmed: Filmed) -> None:
    viewer = Viewer(filmed, "websocket")
    async with viewer.subscriber:
        await viewer.answer()
        await viewer.ask("play", speed=64)
        ended = await viewer.answer(lambda control: control["ended"])
        assert ended["tick"] == TICKS


@proves("python", "marks")
async def test_marks_are_set_listed_and_sought_by_name(filmed: Filmed) -> None:
    served = filmed.served
    async with HttpClient(served.url, trust=Trust.of(ca=served.ca)) as client:
        await post(client, "marks", {"name": "goal", "tick": 70, "data": {"score": 2}})
        await post(client, "marks", {"name": "now"})
        marks = (await client.get_json(world_path("w", "marks")))["marks"]
        assert [(mark["name"], mark["tick"], mark["data"]) for mark in marks] == [
            ("goal", 70, {"score": 2}),
            ("now", TICKS, None),
        ]
        for wrong in ({"name": ""}, {"name": "x", "tick": "7"}, {"name": "x", "colour": 1}):
            with pytest.raises(BadInput):
                await post(client, "marks", wrong)
    viewer = Viewer(filmed, "websocket", mark="goal")
    async with viewer.subscriber:
        assert (await viewer.answer())["tick"] == 70
        assert viewer.shows(70)


async def test_a_running_gateway_branches_verifies_and_tells_its_span(filmed: Filmed) -> None:
    served = filmed.served
    async with HttpClient(served.url, trust=Trust.of(ca=served.ca)) as client:
        made = (await post(client, "branch", {"name": "b", "tick": 33})).json()
        assert made["parent"]["tick"] == 33
        with pytest.raises(Conflict):
            await post(client, "branch", {"name": "b", "tick": 33})
        with pytest.raises(NothingRecorded):
            await post(client, "branch", {"name": "c", "tick": 99_999})
        assert (await client.get_json(world_path("w", "verify")))["damaged"] == []
        assert (await client.get_json(world_path("w", "recording")))["last"]["tick"] == TICKS
    async with Publisher(served.url, "b", ca=served.ca) as publisher:
        assert publisher.epoch == 2
        publisher.send({1: b"only in the branch"})
        await publisher.wait_durable()
        async with Subscriber(served.url, "b", ca=served.ca) as reader, asyncio.timeout(HANG_S):
            async for _ in reader:
                if reader.records().get(1) == b"only in the branch":
                    break
            assert reader.records() == {**filmed.states[33], 1: b"only in the branch"}


async def post(client: HttpClient, what: str, fields: dict[str, Any]) -> Any:
    headers = {"content-type": "application/json"}
    return await client.request(
        "POST", world_path("w", what), headers=headers, body=json.dumps(fields).encode()
    )


def test_commands_outside_their_bounds_are_refused_by_name() -> None:
    assert parse_command(Control("play", {"speed": -2})) == Command("play", speed=-2.0)
    assert parse_command(Control("focus", {})) is None
    for wrong in (
        Control("play", {"speed": 0}),
        Control("play", {"speed": "fast"}),
        Control("play", {"speed": 1000}),
        Control("play", {"speed": 10**400}),
        Control("step", {"n": "1"}),
        Control("seek", {"tick": -1}),
        Control("seek", {"tick": 1, "at": "now"}),
    ):
        with pytest.raises(BadInput):
            parse_command(wrong)
    assert parse_query("tick=5&epoch=2&paused=1") == (Command("seek", epoch=2, tick=5), None)
    for query in ("tick=x", "tick=%C2%B2", f"epoch={'9' * 5_000}", "speed=0", "colour=red"):
        with pytest.raises(BadInput):
            parse_query(query)


def test_media_time_runs_with_the_speed_and_backwards() -> None:
    assert Pace(1_000_000, 10.0, 2.0).due(3_000_000) == 11.0
    assert Pace(3_000_000, 10.0, -1.0).due(1_000_000) == 12.0
    assert Pace(3_000_000, 10.0, -1.0).position_us(12.0) == 1_000_000
    assert Pace(0, 10.0, float("inf")).due(3_000_000) == 10.0
