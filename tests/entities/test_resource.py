"""One entity by HTTP, against a whole gateway."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from gateway.limits import ENTITY_STATE_BYTES_MAX
from gateway.wire import variant
from tests.store.standin.fixtures import EACH_STORE

OVER = EACH_STORE

BASE = "/v1/worlds/town/entities"
VARIANT = {"content-type": "application/vnd.godot.variant"}
STATE = variant.encode({"hp": 100, "at": variant.Vector3(1, 2, 3)})


async def put(http: httpx.AsyncClient, name: str, state: bytes = b"state", **headers: str) -> httpx.Response:
    return await http.put(f"{BASE}/{name}", content=state, headers=headers)


async def test_what_was_put_is_fetched_with_everything_about_it(http: httpx.AsyncClient) -> None:
    headers = {
        **VARIANT, "x-entity-class": "Player", "x-entity-owner": "srv%201",
        "x-entity-tags": "npc, hostile", "x-entity-key": "7",
    }  # fmt: skip
    made = await http.put(f"{BASE}/player:42", content=STATE, headers=headers)
    assert made.status_code == 201
    assert made.json()["tags"] == ["hostile", "npc"]
    got = await http.get(f"{BASE}/player:42")
    assert got.content == STATE
    assert got.headers["content-type"] == "application/vnd.godot.variant"
    assert got.headers["etag"] == made.headers["etag"] == f'"{made.json()["revision"]}"'
    assert got.headers["x-entity-owner"] == "srv%201"
    assert (got.headers["x-entity-class"], got.headers["x-entity-key"]) == ("Player", "7")


async def test_a_variant_is_shown_decoded_to_who_asks_for_json(http: httpx.AsyncClient) -> None:
    await http.put(f"{BASE}/a", content=STATE, headers=VARIANT)
    shown = await http.get(f"{BASE}/a", headers={"accept": "application/json"})
    assert shown.json() == {"hp": 100, "at": {"@": "Vector3", "v": [1.0, 2.0, 3.0]}}


async def test_a_known_revision_is_not_sent_again(http: httpx.AsyncClient) -> None:
    etag = (await put(http, "a")).headers["etag"]
    assert (await http.get(f"{BASE}/a", headers={"if-none-match": etag})).status_code == 304
    await put(http, "a", b"new")
    assert (await http.get(f"{BASE}/a", headers={"if-none-match": etag})).content == b"new"


async def test_an_optimistic_write_loses_with_the_present_revision(http: httpx.AsyncClient) -> None:
    first = (await put(http, "a")).headers["etag"]
    second = await put(http, "a", b"2", **{"if-match": first})
    assert second.status_code == 200
    lost = await put(http, "a", b"3", **{"if-match": first})
    assert lost.status_code == 412
    assert lost.json()["revision"] == second.json()["revision"]
    assert (await put(http, "a", b"4", **{"if-none-match": "*"})).status_code == 412
    assert (await put(http, "b", b"5", **{"if-match": "*"})).status_code == 412
    assert (await put(http, "b", b"5", **{"if-none-match": "*"})).status_code == 201
    assert (await http.delete(f"{BASE}/a", headers={"if-match": first})).status_code == 412


async def test_of_many_writers_on_one_revision_exactly_one_wins(http: httpx.AsyncClient) -> None:
    etag = (await put(http, "a")).headers["etag"]
    answers = await asyncio.gather(*(put(http, "a", b"%d" % n, **{"if-match": etag}) for n in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 19


async def test_a_patch_changes_what_is_not_the_state(http: httpx.AsyncClient) -> None:
    await put(http, "a", b"s", **{"x-entity-tags": "x"})
    answer = await http.patch(f"{BASE}/a", json={"tags": ["y", "z"], "class": "Chest"})
    assert (answer.json()["tags"], answer.json()["class"]) == (["y", "z"], "Chest")
    assert (await http.get(f"{BASE}/a")).content == b"s"
    found = await http.get(BASE, params={"tag": "x"})
    assert found.json()["entities"] == []


async def test_what_was_deleted_is_gone(http: httpx.AsyncClient) -> None:
    await put(http, "a")
    assert (await http.delete(f"{BASE}/a")).status_code == 200
    assert (await http.get(f"{BASE}/a")).status_code == 404
    assert (await http.delete(f"{BASE}/a")).status_code == 404


async def test_revisions_rise_over_all_entities_of_a_world(http: httpx.AsyncClient) -> None:
    revisions = [(await put(http, name)).json()["revision"] for name in ("a", "b", "a", "c")]
    assert revisions == sorted(set(revisions))


async def test_the_past_can_be_fetched_by_version(http: httpx.AsyncClient, gateway: Any) -> None:
    from gateway.store.base import Namespace

    await put(http, "a", b"then")
    version = (await gateway.store.stat(Namespace("town"))).version
    await put(http, "a", b"now")
    assert (await http.get(f"{BASE}/a", params={"at": version})).content == b"then"
    assert (await http.get(f"{BASE}/a")).content == b"now"
    assert (await http.get(f"{BASE}/a", params={"at": "1971-01-01T00:00:00Z"})).status_code == 404
    assert (await http.get(f"{BASE}/a", params={"at": "yesterday"})).status_code == 400


BAD: list[tuple[str, str, dict[str, Any], int]] = [
    ("PUT", f"{BASE}/" + "x" * 65, {}, 400),
    ("PUT", f"{BASE}/a%00b", {}, 400),
    ("PUT", f"{BASE}/live", {}, 400),
    ("GET", f"{BASE}/missing", {}, 404),
    ("PUT", "/v1/worlds/nowhere/entities/a", {}, 404),
    ("PUT", "/v1/worlds/-bad-/entities/a", {}, 400),
    ("PUT", f"{BASE}/a", {"headers": {"content-type": "text/plain"}}, 415),
    ("PUT", f"{BASE}/a", {"content": bytes(ENTITY_STATE_BYTES_MAX + 1)}, 413),
    ("PUT", f"{BASE}/a", {"content": STATE[:-2], "headers": VARIANT}, 422),
    ("PUT", f"{BASE}/a", {"content": b"{", "headers": {"content-type": "application/json"}}, 422),
    ("PUT", f"{BASE}/a", {"content": b"[NaN]", "headers": {"content-type": "application/json"}}, 422),
    ("PUT", f"{BASE}/a", {"content": '"x"'.encode("utf-16"), "headers": {"content-type": "application/json"}}, 422),
    ("PUT", f"{BASE}/a", {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 422),
    ("POST", f"{BASE}:batch", {"json": {"operations": [{"op": "put", "id": "a", "kind": [], "state_base64": ""}]}}, 422),
    ("POST", f"{BASE}:batch", {"content": b'{"operations": ' + b"[" * 100_000}, 400),
    ("GET", BASE, {"params": {"limit": "00000000010000000000"}}, 400),
    ("PUT", f"{BASE}/a", {"headers": {"if-match": "17"}}, 400),
    ("PUT", f"{BASE}/a", {"headers": {"x-entity-key": "-1"}}, 400),
    ("PUT", f"{BASE}/a", {"headers": {"x-entity-class": "y" * 65}}, 400),
    ("PUT", f"{BASE}/a", {"headers": {"x-entity-tags": ",".join(map(str, range(33)))}}, 413),
    ("PUT", f"{BASE}/a", {"headers": {"x-entity-tags": "%ff"}}, 400),
    ("PATCH", f"{BASE}/a", {"json": {"state": 1}}, 400),
    ("PATCH", f"{BASE}/a", {"json": {"tags": "x"}}, 400),
    ("PATCH", f"{BASE}/missing", {"json": {}}, 404),
    ("POST", f"{BASE}/a:explode", {}, 404),
    ("POST", f"{BASE}/a:hibernate", {"json": {}}, 400),
    ("POST", f"{BASE}/a:hibernate", {"json": {"key": 5}}, 404),
    ("POST", f"{BASE}/missing:wake", {"json": {"key": 5}}, 404),
    ("GET", BASE, {"params": {"limit": "0"}}, 400),
    ("GET", BASE, {"params": {"clas": "x"}}, 400),
    ("PUT", f"{BASE}/a", {"params": {"takeover": "yes"}}, 400),
    ("GET", f"{BASE}/live", {"params": {"since": "x"}}, 400),
    ("POST", f"{BASE}:batch", {"json": []}, 400),
    ("POST", f"{BASE}:batch", {"json": {"operations": []}}, 400),
    ("POST", f"{BASE}:batch", {"json": {"operations": [{"op": "get", "id": "a"}] * 1001}}, 413),
    ("POST", "/v1/transfers", {"json": {"entity": "a", "from": "town", "to": "town"}}, 400),
    ("POST", "/v1/transfers", {"json": {"entity": "a", "from": "town", "to": "nowhere"}}, 404),
    ("POST", "/v1/transfers", {"json": {"entity": "a", "from": "town", "to": "forest", "expires_ms": 6000}}, 400),
    ("POST", "/v1/transfers", {"json": {"entities": [], "from": "town", "to": "forest"}}, 413),
    ("POST", "/v1/transfers", {"json": {"entities": ["a", "a"], "from": "town", "to": "forest"}}, 400),
    ("POST", "/v1/transfers", {"json": {"entity": 5, "from": 1, "to": None}}, 400),
    ("POST", "/v1/transfers/town~nope:accept", {}, 404),
    ("GET", "/v1/transfers/town", {}, 404),
    ("GET", "/v1/transfers", {}, 400),
    ("POST", "/v1/inventories:trade", {"json": {"moves": [{"item": "a", "from": "x", "to": "x"}]}}, 400),
    ("POST", "/v1/inventories:trade", {"json": {"moves": [{"item": "a", "from": "x", "to": "y", "quantity": 0}]}}, 400),
    ("POST", "/v1/inventories:trade", {"json": {}}, 413),
    ("PUT", "/v1/worlds/town/leases/me", {}, 400),
]  # fmt: skip


async def test_bad_input_gets_a_problem_document(http: httpx.AsyncClient) -> None:
    for method, path, extra, status in BAD:
        answer = await http.request(method, path, **extra)
        assert answer.status_code == status, (method, path, extra, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


async def test_a_variant_that_does_not_decode_is_refused_with_the_offset(http: httpx.AsyncClient) -> None:
    answer = await http.put(f"{BASE}/a", content=STATE[:-2], headers=VARIANT)
    assert 0 < answer.json()["offset"] <= len(STATE)
    assert (await http.get(f"{BASE}/a")).status_code == 404


async def test_a_list_goes_page_by_page_with_its_cursor(http: httpx.AsyncClient) -> None:
    for n in range(7):
        await put(http, f"e{n}", **{"x-entity-class": "odd" if n % 2 else "even"})
    page = (await http.get(BASE, params={"limit": 3})).json()
    seen = [entity["id"] for entity in page["entities"]]
    while page["next"]:
        page = (await http.get(BASE, params={"limit": 3, "after": page["next"]})).json()
        seen += [entity["id"] for entity in page["entities"]]
    assert seen == [f"e{n}" for n in range(7)]
    odd = (await http.get(BASE, params={"class": "odd", "prefix": "e", "state": "1"})).json()
    assert [entity["id"] for entity in odd["entities"]] == ["e1", "e3", "e5"]
    assert odd["entities"][0]["state"] == "c3RhdGU="


async def test_a_batch_is_atomic_and_lists_every_fault(http: httpx.AsyncClient) -> None:
    await put(http, "old")
    operations = [
        {"op": "put", "id": "new", "kind": "variant", "state": {"hp": 5}, "tags": ["t"]},
        {"op": "put", "id": "old", "state": 1, "if_none_match": "*"},
        {"op": "delete", "id": "missing"},
        {"op": "get", "id": "old"},
    ]
    refused = await http.post(f"{BASE}:batch", json={"operations": operations})
    assert refused.status_code == 422
    assert [(f["index"], f["status"]) for f in refused.json()["faults"]] == [(1, 412), (2, 404)]
    assert (await http.get(f"{BASE}/new")).status_code == 404
    done = await http.post(
        f"{BASE}:batch", json={"operations": [operations[0], operations[3], {"op": "get", "id": "no"}]}
    )
    assert [one["status"] for one in done.json()["results"]] == [201, 200, 404]
    shown = await http.get(f"{BASE}/new", headers={"accept": "application/json"})
    assert shown.json() == {"hp": 5}
    bad = await http.post(
        f"{BASE}:batch", json={"operations": [{"op": "put", "id": "a/b"}, {"op": "jump", "id": "c"}]}
    )
    assert [fault["index"] for fault in bad.json()["faults"]] == [0, 1]


async def test_a_binary_batch_is_streamed_both_ways(http: httpx.AsyncClient) -> None:
    from gateway.wire import MessageStream, prefix
    from gateway.wire.entities.messages import ENTITIES_TYPE, decode_entity, encode_entity

    body = b"".join(
        prefix(encode_entity({"op": "put", "id": f"e{n}", "kind": "bytes"}, bytes([n]))) for n in range(100)
    )
    body += prefix(encode_entity({"op": "get", "id": "e7"}))
    answer = await http.post(f"{BASE}:batch", content=body, headers={"content-type": ENTITIES_TYPE})
    stream = MessageStream(1 << 20)
    stream.feed(answer.content)
    results = [decode_entity(message) for message in stream]
    assert len(results) == 101
    assert {head["status"] for head, _ in results[:100]} == {201}
    assert results[100][1] == b"\x07"


async def test_an_entity_state_of_a_megabyte_fits(http: httpx.AsyncClient) -> None:
    state = json.dumps("x" * (ENTITY_STATE_BYTES_MAX - 2)).encode()
    assert (await put(http, "a", state, **{"content-type": "application/json"})).status_code == 201
    assert (await http.get(f"{BASE}/a")).content == state


async def test_a_variant_nested_to_godots_depth_is_shown_in_json(http: httpx.AsyncClient) -> None:
    import struct

    deep = struct.pack("<II", 28, 1) * 1024 + struct.pack("<II", 28, 0)
    assert (await http.put(f"{BASE}/a", content=deep, headers=VARIANT)).status_code == 201
    listed = await http.get(BASE, params={"state": "1"})
    assert listed.status_code == 200
    assert "[" * 1025 in listed.text
    got = await http.post(f"{BASE}:batch", json={"operations": [{"op": "get", "id": "a"}]})
    assert "[" * 1025 in got.text
    too_deep = struct.pack("<II", 28, 1) + deep
    assert (await http.put(f"{BASE}/b", content=too_deep, headers=VARIANT)).status_code == 422
