"""Every public method of the client, on both transports: one without a row here fails."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.client import Entities, HttpClient, Publisher, Subscriber
from gateway.client.trust import Trust
from gateway.errors import BadInput
from gateway.wire import MessageStream, decode_control
from gateway.wire.entities.messages import ENTITIES_TYPE
from gateway.wire.entities.transfers import InTransfer
from tests.client.conftest import Served, until
from tests.kits.abilities import proves
from tests.patience import HANG_S

TRANSPORTS = ("webtransport", "websocket")
RAISED_BY_LIVE = {
    *("on_acked", "on_connected", "on_control", "on_frame", "on_gone", "on_lost", "on_malformed", "on_over"),
    *("on_welcome", "on_writable", "on_closed", "on_message", "on_open", "on_rebuilt", "path"),
}
"""Called by the session's keeper, not by a user."""


@dataclass
class Scene:
    """A publisher with a reader, and the entities of two worlds and two owners."""

    served: Served
    transport: Any
    publisher: Publisher
    reader: Subscriber
    town: Entities
    ann: Entities
    http: HttpClient

    def more(self) -> dict[str, Any]:
        return {"transport": self.transport, "ca": self.served.ca}

    async def arrived(self) -> None:
        """The reader has what was published."""
        await until(lambda: self.reader.records() == self.publisher.records())

    async def weighs(self, wanted: dict[int, float]) -> None:
        """The gateway has these weights for the reader, besides those that are 1."""
        host = await self.served.gateway.worlds.host("w")
        (session,) = host.world.subscribers
        await until(lambda: session.reader.weights == wanted)


@pytest.fixture
async def scene(served: Served, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    more = {"transport": request.param, "ca": served.ca}
    async with (
        Publisher(served.url, "w", **more) as publisher,
        Subscriber(served.url, "w", **more) as reader,
        Entities(served.url, "w", **more) as town,
        Entities(served.url, "ann", inventory=True, **more) as ann,
        HttpClient(served.url, trust=Trust.of(ca=served.ca), transport=request.param) as http,
    ):
        yield Scene(served, request.param, publisher, reader, town, ann, http)


Act = Callable[[Scene], Awaitable[None]]


# --- publishing ------------------------------------------------------------------------------


async def counts(scene: Scene) -> None:
    scene.publisher.send({1: b"x"})
    assert scene.publisher.counts.frames == 1


async def send(scene: Scene) -> None:
    assert scene.publisher.send({1: b"x"}) == 1
    assert scene.publisher.send({1: None, 2: b"y"}, tick=7) == 7
    await scene.arrived()
    scene.publisher.send({3: b"z"}, keyframe=True)
    await scene.arrived()
    assert scene.reader.records() == {3: b"z"}
    with pytest.raises(BadInput):
        scene.publisher.send({1: b"x"}, tick=3)


async def keyframe(scene: Scene) -> None:
    scene.publisher.send({1: b"x"})
    await scene.arrived()
    scene.publisher.keyframe()
    scene.publisher.send({1: b"y"})
    await scene.arrived()


async def durable(scene: Scene) -> None:
    scene.publisher.send({1: b"x"})
    mark = await asyncio.wait_for(scene.publisher.wait_durable(), HANG_S)
    assert (mark.epoch, mark.tick) == scene.publisher.durable_order() == (1, 1)
    assert scene.publisher.facts()["not_durable"] == 0
    ms, ticks = scene.publisher.lags()
    assert ms.summary()
    assert ticks.summary()


async def publisher_records(scene: Scene) -> None:
    scene.publisher.send({1: b"x", 2: b"y"})
    scene.publisher.send({2: None})
    assert scene.publisher.records() == {1: b"x"}


async def follow(scene: Scene) -> None:
    for end in (scene.publisher, scene.reader):
        assert not end.follow(scene.served.url), "it is there already"
        assert not end.follow("http://127.0.0.1:1"), "clear text, where it began with TLS"
        assert end.follow("https://localhost:1/v1/worlds/w/live")
        assert end.address.host == "localhost"


async def connected(scene: Scene) -> None:
    for end in (scene.publisher, scene.reader):
        assert end.connected
        assert end.link is not None
        assert end.transport == scene.transport
        await end.aclose()
        await end.aclose()
        assert not end.connected
        assert end.link is None
        assert end.transport is None


# --- reading ---------------------------------------------------------------------------------


async def focus(scene: Scene) -> None:
    scene.publisher.send(dict.fromkeys(range(10), b"x"))
    await scene.arrived()
    scene.reader.focus({1: 4.0, 2: 0.5})
    await scene.weighs({1: 4.0, 2: 0.5})
    with pytest.raises(BadInput):
        scene.reader.focus({1: -1.0})
    assert "keys=1%3A4%2C2%3A0.5" in scene.reader.path(), "the next connect asks for the same"
    scene.reader.focus({})
    await scene.weighs({})
    scene.publisher.send({1: b"y"})
    await scene.arrived()
    assert scene.reader.connects == 1


async def control(scene: Scene) -> None:
    scene.reader.control("focus", keys=[1])
    await scene.weighs({1: 4.0})


async def records(scene: Scene) -> None:
    scene.publisher.send({1: b"x"})
    await scene.arrived()
    async for frame in scene.reader:
        if frame.records:
            assert frame.records == {1: b"x"}
            break


# --- requests --------------------------------------------------------------------------------


async def request(scene: Scene) -> None:
    answer = await scene.http.request("PUT", "/v1/worlds/other")
    assert (answer.status, answer.json()["world"]) == (201, "other")
    assert (await scene.http.get_json("/v1/worlds/other"))["world"] == "other"
    scene.publisher.send({1: b"x"})
    await scene.publisher.wait_durable()
    mark = await scene.http.post_json("/v1/worlds/w/marks", {"name": "here"})
    assert mark["name"] == "here"
    pieces = [
        piece async for piece in scene.http.stream("/v1/worlds/other/entities", {"accept": ENTITIES_TYPE})
    ]
    stream = MessageStream()
    stream.feed(b"".join(pieces))
    assert [decode_control(message)["revision"] for message in stream] == [0]


# --- entities --------------------------------------------------------------------------------


async def one_entity(scene: Scene) -> None:
    revision = await scene.town.put("e", b"1", tags=["a"])
    assert (await scene.town.get("e")).state == b"1"
    assert await scene.town.patch("e", owner="s") > revision
    assert await scene.town.delete("e") > revision


async def batch(scene: Scene) -> None:
    done = await scene.town.batch([({"op": "put", "id": "e", "kind": "bytes"}, b"x")])
    assert [one["status"] for one in done] == [201]
    assert [entity.id async for entity in scene.town.all()] == ["e"]


async def watch(scene: Scene) -> None:
    await scene.town.put("e", b"1")
    async with asyncio.timeout(HANG_S):
        async for change in scene.town.watch(since=0):
            assert change.id == "e"
            break


async def sleep_and_wake(scene: Scene) -> None:
    scene.publisher.send({7: b"goblin"})
    await scene.publisher.wait_durable()
    await scene.town.hibernate("goblin", 7)
    await until(lambda: 7 not in scene.reader.records())
    woken = await scene.town.wake("goblin")
    assert (woken["id"], woken["key"]) == ("goblin", 7)


async def lease(scene: Scene) -> None:
    token = await scene.town.acquire("server-1")
    assert token == scene.town.lease_token
    await scene.town.renew("server-1")


async def transfer(scene: Scene) -> None:
    await scene.http.request("PUT", "/v1/worlds/forest")
    for name in ("kept", "given"):
        await scene.town.put(name, b"x")
    back = await scene.town.transfer("kept", to="forest")
    assert (await scene.town.transfer_record(back))["state"] == "offered"
    with pytest.raises(InTransfer):
        await scene.town.put("kept", b"y")
    assert (await scene.town.cancel(back))["state"] == "cancelled"
    ticket = await scene.town.transfer("given", to="forest")
    async with Entities(scene.served.url, "forest", **scene.more()) as forest:
        assert (await forest.accept(ticket))["state"] == "accepted"
        assert (await forest.get("given")).state == b"x"


async def trade(scene: Scene) -> None:
    await scene.ann.put("gold", b"", quantity=10)
    items = await scene.ann.trade([{"item": "gold", "from": "ann", "to": "bob", "quantity": 4}])
    assert {(item["owner"], item["quantity"]) for item in items} == {("ann", 6), ("bob", 4)}


ROWS: Mapping[type, Mapping[str, Act]] = {
    Publisher: {
        **dict.fromkeys(("aclose", "connected", "link", "start", "transport"), connected),
        **dict.fromkeys(("durable_order", "facts", "lags", "wait_durable"), durable),
        "counts": counts,
        "follow": follow,
        "keyframe": keyframe,
        "records": publisher_records,
        "send": send,
    },
    Subscriber: {
        **dict.fromkeys(("aclose", "connected", "link", "start", "transport"), connected),
        "control": control,
        "follow": follow,
        "focus": focus,
        "records": records,
    },
    HttpClient: dict.fromkeys(("get_json", "post_json", "request", "stream"), request),
    Entities: {
        **dict.fromkeys(("delete", "get", "patch", "put"), one_entity),
        **dict.fromkeys(("all", "batch"), batch),
        **dict.fromkeys(("hibernate", "wake"), sleep_and_wake),
        **dict.fromkeys(("acquire", "renew"), lease),
        **dict.fromkeys(("accept", "cancel", "transfer", "transfer_record"), transfer),
        "trade": trade,
        "watch": watch,
    },
}
ACTS = sorted({act for rows in ROWS.values() for act in rows.values()}, key=lambda act: act.__name__)


@proves("python", "focus", "transfers", "inventories")
@pytest.mark.parametrize("scene", TRANSPORTS, indirect=True)
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
async def test_it_does_what_it_says(scene: Scene, act: Act) -> None:
    async with asyncio.timeout(HANG_S):
        await act(scene)


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
def test_every_public_method_has_a_row(kind: type) -> None:
    public = {
        name
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    }
    assert public - RAISED_BY_LIVE == set(ROWS[kind])
