"""What a time line is drawn from, and the list of worlds by pages."""

from __future__ import annotations

import httpx
import pytest

from tests.runtime.conftest import body, frame


async def publish(client: httpx.AsyncClient, world: str, *ticks: int) -> None:
    frames = [frame(tick, dict.fromkeys(range(tick % 7 + 1), b"x")) for tick in ticks]
    answer = await client.post(f"/v1/worlds/{world}/frames?durable=1", content=body(*frames))
    assert answer.status_code == 200, answer.text


async def test_a_time_line_has_every_row_and_says_where_its_spans_begin(client: httpx.AsyncClient) -> None:
    await publish(client, "w", *range(1, 100))
    told = (await client.get("/v1/worlds/w/timeline?spans=8")).json()
    recording = (await client.get("/v1/worlds/w/recording")).json()
    assert 1 <= len(told["spans"]) <= 8
    assert sum(span["rows"] for span in told["spans"]) == recording["rows"]
    assert [epoch["epoch"] for epoch in told["epochs"]] == [1]
    assert told["from_us"] <= told["spans"][0]["at_us"] <= told["to_us"]
    at = told["spans"][-1]
    state = await client.get(f"/v1/worlds/w/frames?tick={at['tick']}&epoch={at['epoch']}")
    assert state.status_code == 200


async def test_a_world_without_a_recording_has_an_empty_one(client: httpx.AsyncClient) -> None:
    await client.put("/v1/worlds/w")
    told = (await client.get("/v1/worlds/w/timeline")).json()
    assert (told["from_us"], told["to_us"], told["spans"]) == (None, None, [])


@pytest.mark.parametrize("spans", ["0", "4097", "-1", "x", "1.5"])
async def test_spans_are_bounded(client: httpx.AsyncClient, spans: str) -> None:
    await client.put("/v1/worlds/w")
    refused = await client.get(f"/v1/worlds/w/timeline?spans={spans}")
    assert refused.status_code == 400
    assert "1 to 4096" in refused.json()["detail"]
    assert (await client.get("/v1/worlds/w/timeline?spans=4096")).status_code == 200


async def test_worlds_are_listed_by_pages(client: httpx.AsyncClient) -> None:
    for name in ("a1", "a2", "a3", "b1"):
        await client.put(f"/v1/worlds/{name}")
    seen, after = [], ""
    while after is not None:
        page = (await client.get(f"/v1/worlds?prefix=a&limit=2&after={after}")).json()
        seen.append([world["world"] for world in page["worlds"]])
        after = page["next"]
    assert seen == [["a1", "a2"], ["a3"]]
    whole = (await client.get("/v1/worlds")).json()
    assert [world["world"] for world in whole["worlds"]] == ["a1", "a2", "a3", "b1"]
    assert "next" not in whole
    assert (await client.get("/v1/worlds?prefix=zzz")).json() == {"worlds": []}


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "ten"])
async def test_a_page_is_bounded(client: httpx.AsyncClient, limit: str) -> None:
    refused = await client.get(f"/v1/worlds?limit={limit}")
    assert refused.status_code == 400
    assert "1 to 1000" in refused.json()["detail"]


async def test_pages_keep_to_their_origin_and_are_cached_by_their_content(client: httpx.AsyncClient) -> None:
    for path in ("/", "/map", "/film", "/kit/mvgateway.js"):
        answer = await client.get(path)
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200
        assert "connect-src 'self'" in policy
        assert "unsafe" not in policy
        again = await client.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert (await client.get("/kit/package.json")).status_code == 404
    assert (await client.get("/web/../app.py")).status_code == 404
