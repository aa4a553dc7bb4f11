"""Names that only turn up in session: where an entity goes that is followed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.runtime.gateway import Gateway

from .conftest import Maker
from .knocking import bearer, http_of, open_websocket
from .test_doors import publish_one


async def asked(client: httpx.AsyncClient, method: str, path: str, maker: Maker, **more: Any) -> Any:
    headers = {**bearer(maker.token()), **more.pop("headers", {})}
    answer = await client.request(method, path, headers=headers, **more)
    assert answer.status_code < 300, answer.text
    return answer.json()


@pytest.mark.parametrize("may_follow", [True, False])
async def test_whoever_follows_an_entity_goes_only_where_the_grant_goes(
    gated: Gateway, maker: Maker, may_follow: bool
) -> None:
    for world in ("arena-1", "secret-1"):
        await publish_one(gated, maker, world)
    mv = {"sub": ["arena-1", "secret-1"] if may_follow else ["arena-1"]}
    async with http_of(gated) as client:
        await asked(client, "PUT", "/v1/worlds/arena-1/entities/hero", maker, content=b"x")
        session = await open_websocket(gated, "/v1/worlds/arena-1/live?follow=hero", maker.token(mv))
        await session.until("welcome")
        offer = {"entities": ["hero"], "from": "arena-1", "to": "secret-1"}
        ticket = (await asked(client, "POST", "/v1/transfers", maker, json=offer))["ticket"]
        await asked(client, "POST", f"/v1/transfers/{ticket}:accept", maker, json={})
    if may_follow:
        assert (await session.until("moved"))["world"] == "secret-1"
        await session.close()
        return
    assert (await session.until("error"))["code"] == "grant_refused"
    assert "secret" not in session.said()
    await session.close()


async def test_a_session_holds_the_leases_of_its_grants_owner_only(gated: Gateway, maker: Maker) -> None:
    await publish_one(gated, maker)
    path = "/v1/worlds/arena-1/entities/live?lease=server-2"
    for owner in (None, "server-1"):
        session = await open_websocket(gated, path, maker.token({"ent": ["arena-1"], "owner": owner}))
        assert (await session.until("error"))["code"] == "grant_refused"
        await session.close()
    session = await open_websocket(gated, path, maker.token({"ent": ["arena-1"], "owner": "server-*"}))
    assert (await session.until("welcome"))["lease"]
    await session.close()
