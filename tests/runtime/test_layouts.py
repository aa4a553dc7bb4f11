"""A world carries what its records mean: told, kept, changed, and the values by field."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway import limits
from gateway.cli._motion import Avatars
from gateway.http.events import values_json
from gateway.runtime.gateway import Gateway
from gateway.wire import Frame, Record
from gateway.wire.layouts import DOCUMENTS, parse
from gateway.wire.xrgrid import EntityPacket
from tests.patience import HANG_S
from tests.runtime.conftest import StartGateway, body, client_of, frame
from tests.runtime.conftest import frame as live_frame

JSON = {"accept": "application/json"}
HEIGHT = {"name": "boxes", "fields": [{"name": "height", "type": "u16", "offset": 0, "unit": "cm"}]}


async def publish(client: httpx.AsyncClient, world: str, records: dict[int, bytes | None]) -> None:
    answer = await client.post(f"/v1/worlds/{world}/frames?durable=1", content=body(frame(1, records)))
    assert answer.status_code == 200, answer.text


async def test_a_world_is_made_with_a_layout_and_tells_it(client: httpx.AsyncClient) -> None:
    made = await client.put("/v1/worlds/w", json={"layout": HEIGHT})
    assert (made.status_code, made.json()["layout"]) == (201, HEIGHT)
    assert (await client.get("/v1/worlds/w")).json()["layout"] == HEIGHT
    assert (await client.get("/v1/worlds/w/recording")).json()["layout"] == HEIGHT


async def test_a_layout_is_given_changed_and_taken_back(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/worlds/w", json={"ring_s": 9})).json().get("layout") is None
    for given, told in [(HEIGHT, HEIGHT), ("avatars", DOCUMENTS["avatars"]), (None, None)]:
        answer = await client.patch("/v1/worlds/w", json={"layout": given})
        assert (answer.status_code, answer.json().get("layout"), answer.json()["ring_s"]) == (200, told, 9)
        again = await client.put("/v1/worlds/w", json={"layout": given})
        assert (again.status_code, again.json().get("layout")) == (200, told)
    put = await client.put("/v1/worlds/w", json={"layout": "xrgrid"})
    assert (put.status_code, put.json()["layout"]["name"]) == (200, "xrgrid")
    assert (await client.patch("/v1/worlds/w", json={"ring_s": 7})).json()["layout"]["name"] == "xrgrid"


async def test_the_built_in_ones_are_listed(client: httpx.AsyncClient) -> None:
    assert set((await client.get("/v1/layouts")).json()["layouts"]) == {"avatars", "xrgrid", "transform3d"}


async def test_values_are_told_by_field(client: httpx.AsyncClient) -> None:
    await client.put("/v1/worlds/w", json={"stride": 100, "layout": "avatars"})
    records = Avatars(3).frame(0)
    await publish(client, "w", dict(records))
    for path in ("frames/last?values=1", "frames?tick=1&values=1"):
        told: dict[str, Any] = (await client.get(f"/v1/worlds/w/{path}", headers=JSON)).json()
        assert set(told["values"]) == set(told["records"]) == {str(key) for key in records}
        for key, record in records.items():
            assert told["values"][str(key)]["position"] == pytest.approx(
                EntityPacket.decode(record).as_json()["position_m"]
            )
    assert "values" not in (await client.get("/v1/worlds/w/frames/last", headers=JSON)).json()


@pytest.mark.parametrize(
    ("path", "headers", "says"),
    [
        ("frames/last?values=1", JSON, "no layout"),
        ("frames/last?values=1", {}, "application/json"),
        ("frames?values=1", JSON, "at or tick"),
        ("frames/last?values=2", JSON, "values"),
    ],
)
async def test_values_that_cannot_be_told_are_refused(
    client: httpx.AsyncClient, path: str, headers: dict[str, str], says: str
) -> None:
    await publish(client, "w", {1: b"a"})
    answer = await client.get(f"/v1/worlds/w/{path}", headers=headers)
    assert answer.status_code == 400
    assert says in answer.json()["detail"]


@pytest.mark.parametrize(
    "layout", ["nobody", 7, [], {"fields": []}, {"fields": [{"name": "f", "type": "u9", "offset": 0}]}]
)
async def test_a_bad_layout_is_refused_and_makes_no_world(client: httpx.AsyncClient, layout: object) -> None:
    answer = await client.put("/v1/worlds/w", json={"layout": layout})
    assert answer.status_code == 422, answer.text
    assert (await client.get("/v1/worlds/w")).status_code == 404
    await client.put("/v1/worlds/w", json={"layout": HEIGHT})
    assert (await client.patch("/v1/worlds/w", json={"layout": layout})).status_code == 422
    assert (await client.get("/v1/worlds/w")).json()["layout"] == HEIGHT


async def test_a_layout_outlives_the_gateway_and_goes_with_a_branch(start_gateway: StartGateway) -> None:
    first = await start_gateway()
    async with client_of(first) as client:
        await client.put("/v1/worlds/w", json={"layout": HEIGHT, "retention": "record"})
        await publish(client, "w", {1: b"\xb4\0"})
        branched = await client.post("/v1/worlds/w/branch", json={"name": "b", "tick": 1})
        assert branched.status_code in (200, 201), branched.text
    await first.drain(1.0)
    second: Gateway = await start_gateway()
    async with client_of(second) as client:
        for world in ("w", "b"):
            told = (await client.get(f"/v1/worlds/{world}/frames/last?values=1", headers=JSON)).json()
            assert told["values"] == {"1": {"height": 180}}
            assert (await client.get(f"/v1/worlds/{world}")).json()["layout"] == HEIGHT


# -- events ---------------------------------------------------------------------------------

EVENTS = {"accept": "text/event-stream"}


async def frames_of(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The data of each ``event: frame``."""
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: ") and name == "frame":
            yield json.loads(line[6:])


async def values_when(frames: AsyncIterator[dict[str, Any]], key: str, value: object) -> dict[str, Any]:
    """The first frame in which ``key`` has that value."""
    async with asyncio.timeout(HANG_S):
        async for frame in frames:
            if frame["values"].get(key, "absent") == value:
                return frame
    raise AssertionError("the stream ended")


async def test_events_tell_values_by_field_and_take_up_another_layout(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SSE_LAYOUT_LOOK_S", 0.02)
    await client.put("/v1/worlds/w", json={"layout": HEIGHT})
    await publish(client, "w", {1: b"\xb4\0", 2: b"x"})
    async with client.stream(
        "GET", "/v1/worlds/w/live?keys=1:2&values=1", headers=EVENTS, timeout=30
    ) as answer:
        assert answer.status_code == 200
        frames = frames_of(answer)
        frame = await values_when(frames, "1", {"height": 180})
        assert frame["values"]["2"] == {"height": None}  # too short for it
        assert frame["records"]["1"] == "tAA="
        await client.patch(
            "/v1/worlds/w", json={"layout": {"fields": [{"name": "low", "type": "u8", "offset": 0}]}}
        )
        tick = 2

        async def going_on() -> None:
            nonlocal tick
            while True:
                answer = await client.post("/v1/worlds/w/frames", content=frame_body(tick))
                assert answer.status_code in (200, 202), answer.text
                tick += 1

        def frame_body(tick: int) -> bytes:
            return body(live_frame(tick, {1: b"\x07\0", 2: None}))

        task = asyncio.create_task(going_on())
        try:
            await values_when(frames, "1", {"low": 7})
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_removed_record_has_no_values_and_the_past_is_told_by_field_too(
    client: httpx.AsyncClient,
) -> None:
    await client.put("/v1/worlds/w", json={"layout": HEIGHT, "retention": "record"})
    await publish(client, "w", {1: b"\xb4\0", 2: b"\x01\0"})
    answer = await client.post("/v1/worlds/w/frames?durable=1", content=body(live_frame(2, {2: None})))
    assert answer.status_code == 200
    path = "/v1/worlds/w/replay?tick=1&speed=max&values=1"
    async with client.stream("GET", path, headers=EVENTS, timeout=30) as answer:
        frames = frames_of(answer)
        first = await values_when(frames, "1", {"height": 180})
        assert first["values"]["2"] == {"height": 1}
        await values_when(frames, "2", None)


@pytest.mark.parametrize(
    ("query", "headers", "says"),
    [
        ("values=1", EVENTS, "no layout"),
        ("values=1", {}, "text/event-stream"),
        ("values=2", EVENTS, "values"),
        ("values=1&values=1", EVENTS, "twice"),
        ("values=1&nonsense=1", EVENTS, "nonsense"),
    ],
)
async def test_events_without_a_layout_are_refused(
    client: httpx.AsyncClient, query: str, headers: dict[str, str], says: str
) -> None:
    await publish(client, "w", {1: b"a"})
    answer = await client.get(f"/v1/worlds/w/live?{query}", headers=headers)
    assert answer.status_code == 400
    assert says in answer.json()["detail"]
    async with asyncio.timeout(HANG_S):  # and the reader that was let in for a moment is gone
        while (await client.get("/v1/worlds/w")).json()["readers"]:
            pass


def test_the_values_of_one_event_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SSE_VALUES_BYTES_MAX", 150)
    frame = Frame(1, 1, [Record(key, bytes(30)) for key in range(9)])
    told = values_json(frame, parse({"fields": [{"name": "all", "type": "bytes", "offset": 0}]}))
    assert told == {"values": {"0": {"all": "00" * 30}, "1": {"all": "00" * 30}}, "values_left_out": 7}
