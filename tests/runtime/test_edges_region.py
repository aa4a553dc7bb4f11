"""A gateway that follows everything at an upstream with another store: readers are served, and what is not carried is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.ports import LiveOptions
from gateway.errors import NothingRecorded, UnknownWorld, WorldHeld
from gateway.runtime.gateway import Gateway
from gateway.runtime.local import LocalLink
from tests.core.links import RecordingLink
from tests.patience import HANG_S
from tests.runtime.conftest import StartGateway, body, client_of, until
from tests.runtime.test_edges_trust import arrives, edge_of, message, publisher_at, reader_at, url


@pytest.fixture
async def region(start_gateway: StartGateway, tmp_path: Path) -> tuple[Gateway, Gateway]:
    """An upstream, and a gateway with a store of its own that follows it."""
    upstream = await start_gateway(peers=("store",))
    near = await start_gateway(store=str(tmp_path / "another"), upstream=url(upstream))
    return upstream, near


async def test_readers_of_a_region_with_a_store_of_its_own_are_served(
    region: tuple[Gateway, Gateway],
) -> None:
    upstream, near = region
    publisher = await publisher_at(upstream, "w")
    publisher.on_message(message(1, 1), 0.0)
    with pytest.raises(UnknownWorld):
        await near.worlds.open_session("w", LiveOptions(), RecordingLink())
    await near.worlds.create("w", {})
    first = await reader_at(near, "w")
    assert first.controls[0]["hops"] == 1
    await arrives(publisher, near, "w")
    late = await reader_at(near, "w")
    assert late.controls[0]["epoch"] == 1
    assert len(upstream.worlds.hosts["w"].world.subscribers) == 1
    publisher.on_closed(0.0)


async def test_nobody_publishes_a_second_world_of_that_name_where_it_is_followed_from_another_store(
    region: tuple[Gateway, Gateway],
) -> None:
    """Both would have epoch 1, and each gateway's readers another state."""
    upstream, near = region
    publisher = await publisher_at(upstream, "w")
    publisher.on_message(message(1, 1), 0.0)
    for options in (LiveOptions(role="publish"), LiveOptions(role="publish", takeover=True)):
        with pytest.raises(WorldHeld, match="another store") as refused:
            await near.worlds.open_session("w", options, LocalLink("local"))
        assert refused.value.facts["url"] == url(upstream)
    async with client_of(near) as client:
        posted = await client.post("/v1/worlds/w/frames", content=body(message(1, 0)))
        assert (posted.status_code, posted.json()["url"]) == (409, url(upstream))
    assert not near.worlds.hosts["w"].homing.held
    await arrives(publisher, upstream, "w")
    publisher.on_closed(0.0)


async def test_what_was_recorded_elsewhere_is_not_told_as_if_nothing_was(
    region: tuple[Gateway, Gateway],
) -> None:
    upstream, near = region
    publisher = await publisher_at(upstream, "w")
    await near.worlds.create("w", {})
    await reader_at(near, "w")
    await until(lambda: edge_of(near, "w").foreign is not None, HANG_S)
    async with client_of(near) as client:
        for path in ("frames/last", "frames?epoch=1", "recording"):
            asked = await client.get(f"/v1/worlds/w/{path}")
            assert (asked.status_code, asked.json()["code"]) == (404, NothingRecorded.code), path
            assert url(upstream) in asked.json()["detail"]
    publisher.on_closed(0.0)
