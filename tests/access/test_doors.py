"""Every fault at every door, and whoever may comes in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway import limits
from gateway.core.gate import Asked
from gateway.errors import GatewayError
from gateway.runtime.access.signing import SigningKey
from gateway.runtime.gateway import Gateway
from gateway.wire import Frame, Record, encode_frame, prefix

from .conftest import ALL, Maker, StartGated
from .knocking import (
    Knock,
    at_admin,
    bearer,
    by_http3,
    by_websocket,
    by_webtransport,
    http_of,
    plain_of,
    request,
)

LIVE = "/v1/worlds/arena-1/live"
DOORS: dict[str, tuple[Knock, dict[str, Any]]] = {
    "HTTP/1.1 read": (request("GET", "/v1/worlds/arena-1/frames/last"), {"sub": ["arena-1"]}),
    "HTTP/2 read": (request("GET", "/v1/worlds/arena-1/frames", version="2"), {"sub": ["arena-1"]}),
    "HTTP/3 read": (by_http3("GET", "/v1/worlds/arena-1/frames/last"), {"sub": ["arena-1"]}),
    "HTTP/1.1 publish": (request("POST", "/v1/worlds/arena-1/frames"), {"pub": ["arena-1"]}),
    "HTTP/2 make": (request("PUT", "/v1/worlds/arena-1", version="2"), {"admin": ["arena-1"]}),
    "HTTP/3 delete": (by_http3("DELETE", "/v1/worlds/arena-1"), {"admin": ["arena-1"]}),
    "stream": (request("GET", LIVE), {"sub": ["arena-1"]}),
    "event stream": (request("GET", LIVE, headers={"accept": "text/event-stream"}), {"sub": ["arena-1"]}),
    "HTTP/2 stream": (request("GET", LIVE, version="2"), {"sub": ["arena-1"]}),
    "HTTP/3 stream": (by_http3("GET", LIVE), {"sub": ["arena-1"]}),
    "WebSocket": (by_websocket(LIVE), {"sub": ["arena-1"]}),
    "WebSocket, first message": (by_websocket(LIVE, first_message=True), {"sub": ["arena-1"]}),
    "WebSocket publisher": (by_websocket(LIVE + "?role=publish"), {"pub": ["arena-1"]}),
    "WebSocket replay": (by_websocket("/v1/worlds/arena-1/replay"), {"sub": ["arena-1"]}),
    "WebSocket entities": (by_websocket("/v1/worlds/arena-1/entities/live"), {"ent": ["arena-1"]}),
    "WebTransport": (by_webtransport(LIVE), {"sub": ["arena-1"]}),
    "WebTransport, first message": (by_webtransport(LIVE, first_message=True), {"sub": ["arena-1"]}),
    "WebTransport publisher": (by_webtransport(LIVE + "?role=publish"), {"pub": ["arena-1"]}),
    "plain UDP": (request("POST", "/v1/worlds/arena-1/udp"), {"pub": ["arena-1"]}),
    "entities": (request("GET", "/v1/worlds/arena-1/entities"), {"ent": ["arena-1"]}),
    "inventory": (request("GET", "/v1/inventories/ann/items"), {"inv": ["ann"]}),
    "page plane": (request("GET", "/stat", headers={"x-namespace-key": "zone-1"}), {"store": ["zone-1"]}),
    "admin API": (at_admin("GET", "/api/list_namespace"), {"admin": ["*"]}),
    "metrics": (request("GET", "/metrics"), {"admin": [":metrics"]}),
    "grants": (request("DELETE", "/v1/grants/somebody"), {"admin": [":grants"]}),
}


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(claims: dict[str, Any]) -> str:
    return f"{b64({'alg': 'none', 'kid': 'first'})}.{b64(claims)}."


def by_the_public_key(maker: Maker, claims: dict[str, Any]) -> str:
    head = f"{b64({'alg': 'HS256', 'kid': 'first'})}.{b64(claims)}"
    secret = base64.urlsafe_b64decode(maker.key.public_jwk()["x"] + "==")
    return f"{head}.{b64(hmac.new(secret, head.encode(), hashlib.sha256).digest())}"


def faults(maker: Maker, mv: dict[str, Any]) -> dict[str, tuple[str | None, str]]:
    """fault → (token, the rule by which it is refused)."""
    now = int(time.time())
    claims = {"exp": now + 600, "mv": mv}
    verb = next(iter(mv))
    stranger = SigningKey.generate("EdDSA", "first")
    other = {"arena-1": ["arena", "arena-1-*", "xarena-*", "arena-10", "plaza-*"], "ann": ["an", "anna"]}
    almost = other.get(mv[verb][0], ["zone", "zone-10", ":other", "secret-*"])
    return {
        "none": (None, "missing"),
        "malformed": ("abc.def", "malformed"),
        "signature": (stranger.sign(claims), "signature"),
        "alg none": (unsigned(claims), "algorithm"),
        "HS256": (by_the_public_key(maker, claims), "algorithm"),
        "kid": (SigningKey.generate("EdDSA", "unknown").sign(claims), "key"),
        "expired": (maker.token(mv, for_s=-40), "expired"),
        "not yet": (maker.token(mv, nbf=now + 300), "not_yet"),
        "too long": (maker.token(mv, for_s=90_000), "lifetime"),
        "no exp": (maker.key.sign({"mv": mv}), "lifetime"),
        "audience": (maker.token(mv, aud="another"), "audience"),
        "other name": (maker.token({verb: almost}), "name"),
        "other verb": (
            maker.token({**{v: ["*"] for v in ALL if v not in (verb, "ent", "admin")}, verb: []}),
            "verb",
        ),
        "long": (maker.token({verb: ["secret-" + "x" * 200] * 30}, sub="a" * 100), "too_long"),
    }


def check_said(answer_said: str, token: str | None) -> None:
    """It repeats nothing of the token, and does not say what would have passed."""
    for part in (token or "").split("."):
        assert len(part) < 12 or part not in answer_said
    for name in ("arena-1-", "plaza", "secret", "zone-10"):
        assert name not in answer_said


@pytest.mark.parametrize("door", DOORS)
async def test_each_fault_is_refused_by_its_rule_before_anything_is_opened(
    start_gated: StartGated, maker: Maker, door: str
) -> None:
    gated = await start_gated(page_plane="public")
    knock, mv = DOORS[door]
    for fault, (token, rule) in faults(maker, mv).items():
        if fault == "none" and "first message" in door:
            continue  # two seconds' patience: its own test
        answer = await knock(gated, token)
        assert answer.status in (401, 403, 4009), (fault, answer)
        assert f'"rule": "{rule}"' in answer.said or f"({rule})" in answer.said or rule in ("name", "verb"), (
            fault,
            answer,
        )
        if answer.status in (401, 403):
            assert (answer.status == 403) == (rule in ("name", "verb")), (fault, answer)
        check_said(answer.said, token)
    assert gated.worlds.hosts == {}
    assert gated.worlds.shares.addresses == 0
    assert await gated.worlds.list() == []
    assert await gated.store.list_namespaces("zone") == []
    assert gated.gate is not None
    assert gated.gate.sessions == 0


@pytest.mark.parametrize("door", DOORS)
async def test_whoever_may_comes_in(start_gated: StartGated, maker: Maker, door: str) -> None:
    gated = await start_gated(page_plane="public")
    knock, mv = DOORS[door]
    if "pub" not in mv:
        await publish_one(gated, maker)
    answer = await knock(gated, maker.token(mv))
    expected = 400 if door == "HTTP/1.1 publish" else 200  # its body holds no frame
    assert answer.status in (expected, 201), answer


async def publish_one(gateway: Gateway, maker: Maker, world: str = "arena-1") -> None:
    async with http_of(gateway) as client:
        made = await client.put(
            f"/v1/worlds/{world}", headers=bearer(maker.token({"admin": [world]})), json={}
        )
        assert made.status_code in (200, 201)
        body = prefix(encode_frame(Frame(0, 1, [Record(1, b"one")], keyframe=True)))
        headers = {**bearer(maker.token({"pub": [world]})), "content-type": "application/octet-stream"}
        posted = await client.post(f"/v1/worlds/{world}/frames?durable=1", headers=headers, content=body)
        assert posted.status_code == 200, posted.text


async def test_a_token_in_two_places_is_refused(gated: Gateway, maker: Maker) -> None:
    token = maker.token()
    async with http_of(gated) as client:
        for path in (f"/v1/worlds?token={token}", f"/v1/worlds?%74oken={token}"):
            answer = await client.get(path, headers=bearer(token))
            assert answer.status_code == 401
            assert answer.json()["rule"] == "two_places"
        assert (await client.get(f"/v1/worlds?token={token}&token={token}")).json()["rule"] == "two_places"
        assert (await client.get(f"/v1/worlds?token={token}")).status_code == 200
        assert (
            await client.get("/v1/worlds", headers={"authorization": f"bEaReR   {token}"})
        ).status_code == 200


async def test_a_refusal_says_how_to_ask_for_a_token(gated: Gateway) -> None:
    async with http_of(gated) as client:
        answer = await client.get("/v1/worlds")
        assert answer.headers["www-authenticate"] == 'Bearer realm="mvgateway"'
        assert answer.headers["content-type"] == "application/problem+json"
        answer = await client.get("/v1/worlds", headers=bearer("abc"))
        assert answer.headers["www-authenticate"] == 'Bearer realm="mvgateway", error="invalid_token"'


async def test_what_is_open_needs_no_token(gated: Gateway) -> None:
    async with plain_of(gated) as client:
        for path in ("/", "/healthz", "/readyz", "/certificate.sha256"):
            assert (await client.get(path)).status_code == 200


async def test_the_loopback_doors_ask_for_a_token_too(gated: Gateway) -> None:
    async with plain_of(gated) as client:
        assert (await client.get("/v1/worlds")).status_code == 401
        assert (await client.get("/stat", headers={"x-namespace-key": "zone-1"})).status_code == 401


async def test_beyond_loopback_the_page_plane_needs_the_flag_as_well_as_the_grant(
    start_gated: StartGated, maker: Maker
) -> None:
    gated = await start_gated(host="0.0.0.0")
    async with http_of(gated) as client:
        answer = await client.get("/stat", headers={"x-namespace-key": "zone-1", **bearer(maker.token())})
        assert answer.status_code == 403
        assert answer.json()["code"] == "page_plane_closed"


async def test_with_keys_a_gateway_may_listen_anywhere(start_gated: StartGated, maker: Maker) -> None:
    gated = await start_gated(host="0.0.0.0")
    async with http_of(gated) as client:
        assert (await client.get("/v1/worlds")).status_code == 401
        assert (await client.get("/v1/worlds", headers=bearer(maker.token()))).status_code == 200


async def test_lists_show_what_the_grant_may_see(gated: Gateway, maker: Maker) -> None:
    for world in ("arena-1", "plaza-1", "plaza-2"):
        await publish_one(gated, maker, world)
    async with http_of(gated) as client:

        async def seen(mv: dict[str, Any]) -> list[str]:
            answer = await client.get("/v1/worlds", headers=bearer(maker.token(mv)))
            return sorted(world["world"] for world in answer.json()["worlds"])

        assert await seen({"sub": ["plaza-*"]}) == ["plaza-1", "plaza-2"]
        assert await seen({"pub": ["arena-1"]}) == ["arena-1"]
        assert await seen({"inv": ["*"], "store": ["*"]}) == []
        assert len(await seen({"admin": ["*"]})) == 3


async def test_names_in_bodies_are_asked_for_too(start_gated: StartGated, maker: Maker) -> None:
    gated = await start_gated(page_plane="public")
    await publish_one(gated, maker, "plaza-1")
    async with http_of(gated) as client:

        async def rule(method: str, path: str, mv: dict[str, Any], **more: Any) -> tuple[int, str | None]:
            headers = {**bearer(maker.token(mv)), **more.pop("headers", {})}
            answer = await client.request(method, path, headers=headers, **more)
            return answer.status_code, answer.json().get("rule")

        offer = {"entities": ["sword"], "from": "plaza-1", "to": "arena-1"}
        one, both = {"ent": ["plaza-1"]}, {"ent": ["plaza-1", "arena-1"]}
        assert await rule("POST", "/v1/transfers", one, json=offer) == (403, "name")
        assert (await rule("POST", "/v1/transfers", both, json=offer))[1] is None
        trade = {"moves": [{"item": "gold", "from": "ann", "to": "bob", "quantity": 1}]}
        assert await rule("POST", "/v1/inventories:trade", {"inv": ["ann"]}, json=trade) == (403, "name")
        assert (await rule("POST", "/v1/inventories:trade", {"inv": ["ann", "bob"]}, json=trade))[1] is None
        branch = {"name": "arena-2"}
        assert await rule("POST", "/v1/worlds/plaza-1/branch", {"admin": ["plaza-1"]}, json=branch) == (
            403,
            "name",
        )
        assert (await rule("POST", "/v1/worlds/plaza-1/branch", {"admin": ["*"]}, json=branch))[0] == 201
        lease = {"owner": "server-2"}
        leases = "/v1/worlds/plaza-1/leases"
        assert await rule("POST", leases, one, json=lease) == (403, "owner")
        assert await rule("POST", leases, {**one, "owner": "server-1"}, json=lease) == (403, "owner")
        assert (await rule("POST", leases, {**one, "owner": "server-2"}, json=lease))[0] == 201
        takeover = {"owner": "server-2", "takeover": True}
        assert await rule("POST", leases, {**one, "owner": "*"}, json=takeover) == (403, "takeover")
        assert (await rule("POST", leases, {**one, "owner": "*", "takeover": True}, json=takeover))[0] == 201


async def test_a_commit_to_another_namespace_is_refused_whole(start_gated: StartGated, maker: Maker) -> None:
    from gateway.wire import mvstore

    gated = await start_gated(page_plane="public")
    async with http_of(gated) as client:
        mine = bearer(maker.token({"store": ["zone-1"]}))
        stat = await client.get("/stat", headers={**mine, "x-namespace-key": "zone-1"})
        assert stat.status_code == 200
        for path in ("/batch/read", "/batch/write", "/nslock/acquire", "/nslock/release"):
            answer = await client.post(path, headers={**mine, "x-namespace-key": "zone-2"}, content=b"{}")
            assert (answer.status_code, answer.json()["rule"]) == (403, "name"), path
        body = mvstore.encode_commit_head(mvstore.CommitHead(b"k" * 16, True, 2, None))
        for key in ("zone-1", "zone-2"):
            head = mvstore.CommitNamespace(stat.json()["version"], key, None, None, 0, None)
            body += mvstore.encode_commit_namespace(head)
        answer = await client.post("/batch/commit", headers=mine, content=body)
        assert (answer.status_code, answer.json()["rule"]) == (403, "name")


async def test_taking_over_is_a_right_of_its_own(gated: Gateway, maker: Maker) -> None:
    knock = by_websocket(LIVE + "?role=publish&takeover=1")
    answer = await knock(gated, maker.token({"pub": ["arena-1"]}))
    assert answer.status == 4009
    assert (await knock(gated, maker.token({"pub": ["arena-1"], "takeover": True}))).status == 200


async def test_a_session_without_a_token_has_two_seconds(gated: Gateway) -> None:
    for knock in (by_websocket(LIVE), by_webtransport(LIVE)):
        began = time.monotonic()
        answer = await knock(gated, None)
        assert answer.status == 4009
        assert "missing" in answer.said
        assert time.monotonic() - began > 1.5
    assert gated.worlds.hosts == {}


async def test_bad_tokens_of_one_address_are_bounded_and_good_ones_known_before_still_count(
    gated: Gateway, maker: Maker
) -> None:
    good = maker.token({"sub": ["*"]})
    gate = gated.gate
    assert gate is not None
    async with http_of(gated) as client:
        assert (await client.get("/v1/worlds", headers=bearer(good))).status_code == 200

        def refused(n: int, peer: str = "127.0.0.1") -> GatewayError:
            token = maker.token({"sub": ["*"]}, key=STRANGER, jti=str(n))
            with pytest.raises(GatewayError) as caught:
                gate.admit(Asked("GET", "/v1/worlds", "", peer, token))
            return caught.value

        at_once = int(limits.AUTH_FAILURES_PER_ADDRESS_PER_S * limits.RATE_BURST_S)
        with pytest.MonkeyPatch.context() as stopped:  # in no time: 200 are looked at
            now = time.monotonic()
            stopped.setattr(time, "monotonic", lambda: now)
            errors = [refused(n) for n in range(at_once + 1)]
            assert [error.status for error in errors] == [401] * at_once + [429]
            assert errors[-1].facts["bound"] == "auth_failures"
            assert f"{limits.AUTH_FAILURES_PER_ADDRESS_PER_S} bad tokens a second" in errors[-1].message
            assert refused(400, peer="198.51.100.7").status == 401
        assert (await client.get("/v1/worlds", headers=bearer(good))).status_code == 200


STRANGER = SigningKey.generate("EdDSA", "first")


async def test_a_path_that_no_rule_knows_is_refused_to_everybody(gated: Gateway, maker: Maker) -> None:
    async with http_of(gated) as client:
        for path in ("/v1/nothing", "/metrics/", "/v1/worlds/a/unheard-of"):
            assert (await client.get(path)).status_code == 401, path
            answer = await client.get(path, headers=bearer(maker.token()))
            assert (answer.status_code, answer.json()["rule"]) == (403, "path"), path


async def test_without_keys_a_token_that_comes_along_is_put_aside(
    tmp_path: Path, start_gated: StartGated, maker: Maker
) -> None:
    open_to_all = await start_gated(auth_keys="")
    async with http_of(open_to_all) as client:
        assert (await client.get("/v1/worlds?token=x", headers=bearer("y"))).status_code == 200
        assert (await client.put("/v1/worlds/arena-1?token=x", json={})).status_code == 201
    for knock in (by_websocket(LIVE), by_webtransport(LIVE), by_websocket(LIVE, first_message=True)):
        assert (await knock(open_to_all, maker.token())).status == 200
