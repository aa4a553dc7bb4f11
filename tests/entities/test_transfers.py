"""Transfers, leases and trades by HTTP: every way a ticket can end."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from gateway.core.ports import LiveOptions
from gateway.runtime.gateway import Gateway
from gateway.runtime.local import LocalLink
from gateway.wire import decode_control
from tests.patience import HANG_S
from tests.store.standin.fixtures import EACH_STORE

from .conftest import StartGateway, client_of

OVER = EACH_STORE

TOWN, FOREST = "/v1/worlds/town/entities", "/v1/worlds/forest/entities"


async def offer(http: httpx.AsyncClient, *ids: str, **more: Any) -> httpx.Response:
    body = {"entities": list(ids), "from": "town", "to": "forest", **more}
    headers = {"x-owner-lease": body.pop("lease")} if "lease" in body else {}
    return await http.post("/v1/transfers", json=body, headers=headers)


async def ticket_of(http: httpx.AsyncClient, *ids: str, **more: Any) -> str:
    answer = await offer(http, *ids, **more)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


async def test_an_accepted_transfer_moves_the_row(http: httpx.AsyncClient) -> None:
    await http.put(f"{TOWN}/a", content=b"state", headers={"x-entity-tags": "x", "x-entity-class": "C"})
    ticket = await ticket_of(http, "a")
    held = await http.get(f"{TOWN}/a")
    assert (held.status_code, held.headers["x-entity-in-transfer"]) == (200, "1")
    assert (await http.put(f"{TOWN}/a", content=b"no")).json()["code"] == "in_transfer"
    assert (await offer(http, "a")).status_code == 409
    done = await http.post(f"/v1/transfers/{ticket}:accept", json={"owner": "srv2"})
    assert (done.status_code, done.json()["state"]) == (200, "accepted")
    gone = await http.get(f"{TOWN}/a")
    assert (gone.status_code, gone.json()["moved_to"]) == (404, "forest")
    there = await http.get(f"{FOREST}/a")
    assert there.content == b"state"
    assert (there.headers["x-entity-owner"], there.headers["x-entity-tags"]) == ("srv2", "x")
    assert "x-entity-in-transfer" in there.headers
    assert there.headers["x-entity-in-transfer"] == "0"


async def test_a_ticket_is_taken_once(http: httpx.AsyncClient) -> None:
    await http.put(f"{TOWN}/a", content=b"s")
    ticket = await ticket_of(http, "a")
    answers = await asyncio.gather(*(http.post(f"/v1/transfers/{ticket}:accept") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    again = await http.post(f"/v1/transfers/{ticket}:accept")
    assert (again.status_code, again.json()["ended"]) == (409, "accepted")
    assert (await http.post(f"/v1/transfers/{ticket}:cancel")).status_code == 409


async def test_a_cancelled_ticket_leaves_everything_with_the_source(http: httpx.AsyncClient) -> None:
    await http.put(f"{TOWN}/a", content=b"s")
    ticket = await ticket_of(http, "a")
    assert (await http.post(f"/v1/transfers/{ticket}:cancel")).json()["state"] == "cancelled"
    refused = await http.post(f"/v1/transfers/{ticket}:accept")
    assert (refused.status_code, refused.json()["ended"]) == (409, "cancelled")
    assert (await http.put(f"{TOWN}/a", content=b"t")).status_code == 200


async def test_an_offer_runs_out_and_the_entity_is_free_again(http: httpx.AsyncClient) -> None:
    await http.put(f"{TOWN}/a", content=b"s")
    ticket = await ticket_of(http, "a", expires_ms=1)
    async with asyncio.timeout(HANG_S):
        while (await http.put(f"{TOWN}/a", content=b"t")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    refused = await http.post(f"/v1/transfers/{ticket}:accept")
    assert (refused.status_code, refused.json()["code"]) == (410, "transfer_expired")
    assert (await http.get(f"/v1/transfers/{ticket}")).json()["state"] == "expired"


async def test_an_offer_that_nobody_touches_is_written_down_as_expired(
    http: httpx.AsyncClient, gateway: Gateway
) -> None:
    await http.put(f"{TOWN}/a", content=b"s")
    await ticket_of(http, "a", expires_ms=1)
    database = next(d for p, d in gateway.entities.registry.databases.items() if p.name == "town")
    sql = "SELECT state FROM transfers"
    async with asyncio.timeout(HANG_S):
        while await database.snapshots.read(lambda c: c.execute(sql).get, "") != "expired":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_an_offer_that_runs_out_before_an_earlier_one_is_written_down_in_its_time(
    http: httpx.AsyncClient, gateway: Gateway
) -> None:
    for name in ("a", "b"):
        await http.put(f"{TOWN}/{name}", content=b"s")
    await ticket_of(http, "a")
    await ticket_of(http, "b", expires_ms=1)
    database = next(d for p, d in gateway.entities.registry.databases.items() if p.name == "town")
    sql = "SELECT count(*) FROM transfers WHERE state = 'expired'"
    # One of them, while the other is still offered: both end together where the first one's end is waited for.
    async with asyncio.timeout(HANG_S):
        while await database.snapshots.read(lambda c: c.execute(sql).get, 0) != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_group_goes_whole_or_not_at_all(http: httpx.AsyncClient) -> None:
    for name in ("car", "driver", "guest"):
        await http.put(f"{TOWN}/{name}", content=name.encode())
    await http.put(f"{FOREST}/guest", content=b"another")
    ticket = await ticket_of(http, "car", "driver", "guest")
    refused = await http.post(f"/v1/transfers/{ticket}:accept")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_there")
    assert [e["id"] for e in (await http.get(TOWN)).json()["entities"]] == ["car", "driver", "guest"]
    assert (await http.get(f"{FOREST}/guest")).content == b"another"
    await http.delete(f"{FOREST}/guest")
    assert (await http.post(f"/v1/transfers/{ticket}:accept")).status_code == 200
    assert [e["id"] for e in (await http.get(FOREST)).json()["entities"]] == ["car", "driver", "guest"]
    assert (await http.get(TOWN)).json()["entities"] == []
    assert (await offer(http, *(f"e{n}" for n in range(65)))).status_code == 413
    assert (await offer(http, "missing")).status_code == 404


async def test_records_tell_who_from_where_and_how_it_ended(http: httpx.AsyncClient) -> None:
    await http.put(f"{TOWN}/a", content=b"s", headers={"x-entity-owner": "srv1"})
    await http.post(f"/v1/transfers/{await ticket_of(http, 'a')}:cancel")
    await http.post(f"/v1/transfers/{await ticket_of(http, 'a')}:accept")
    params = {"world": "town", "entity": "a"}
    told = (await http.get("/v1/transfers", params=params)).json()["transfers"]
    assert [one["state"] for one in told] == ["accepted", "cancelled"]
    assert (told[0]["from"], told[0]["to"], told[0]["owner"]) == ("town", "forest", "srv1")
    assert told[0]["offered_us"] <= told[0]["ended_us"]
    seen_there = (await http.get("/v1/transfers", params={"world": "forest"})).json()["transfers"]
    assert [one["id"] for one in seen_there] == [told[0]["id"]]


async def test_a_list_shows_a_ticket_to_its_maker_and_to_the_destinations_publisher_alone(
    http: httpx.AsyncClient, gateway: Gateway
) -> None:
    await http.put(f"{TOWN}/a", content=b"s", headers={"x-entity-owner": "srv1"})
    lease = (await http.post("/v1/worlds/town/leases", json={"owner": "srv1"})).json()["lease"]
    other = (await http.post("/v1/worlds/town/leases", json={"owner": "srv2"})).json()["lease"]
    made = await offer(http, "a", lease=lease, expires_ms=5_000)
    ticket = made.json()["ticket"]

    async def listed(world: str = "town", **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await http.get("/v1/transfers", params={"world": world}, headers=named)).text

    link = LocalLink("local")
    host = await gateway.worlds.host("forest")
    told: list[bytes] = []
    link.control = told.append  # type: ignore[method-assign]
    session = await host.attach_publisher(LiveOptions(role="publish"), link)
    resume = str(decode_control(told[0])["resume"])
    for strangers in (
        await listed(),
        await listed("forest"),
        await listed(x_owner_lease=other),
        await listed(x_publisher_resume="0" * 32),
    ):
        assert ticket not in strangers
        assert ticket.partition("~")[2] not in strangers
    assert made.json()["id"] in await listed()
    assert ticket in await listed(x_owner_lease=lease)
    assert ticket in await listed(x_publisher_resume=resume)
    assert (await http.get(f"/v1/transfers/{ticket}")).json()["ticket"] == ticket
    session.on_closed(0.0)
    assert ticket not in await listed(x_publisher_resume=resume)


async def test_only_the_owner_writes_while_its_lease_lives(http: httpx.AsyncClient) -> None:
    await http.put(f"{TOWN}/a", content=b"s", headers={"x-entity-owner": "srv1"})
    lease = (await http.post("/v1/worlds/town/leases", json={"owner": "srv1"})).json()["lease"]
    mine = {"x-owner-lease": lease}
    refused = await http.put(f"{TOWN}/a", content=b"no")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_owner")
    for method in ("DELETE", "PATCH"):
        assert (await http.request(method, f"{TOWN}/a", json={})).status_code == 403
    assert (await offer(http, "a")).status_code == 403
    stranger = {"x-entity-owner": "srv1", "x-owner-lease": "guess"}
    assert (await http.put(f"{TOWN}/b", content=b"n", headers=stranger)).status_code == 403
    assert (await http.put(f"{TOWN}/a", content=b"yes", headers=mine)).status_code == 200
    assert (await http.put("/v1/worlds/town/leases/srv1", headers=mine)).status_code == 200
    taken = await http.post("/v1/worlds/town/leases", json={"owner": "srv1"})
    assert (taken.status_code, taken.json()["code"]) == (409, "owner_present")
    ticket = await ticket_of(http, "a", lease=lease)
    assert (await http.post(f"/v1/transfers/{ticket}:cancel")).status_code == 403
    assert (await http.post(f"/v1/transfers/{ticket}:cancel", headers=mine)).status_code == 200


async def test_a_takeover_is_explicit(http: httpx.AsyncClient) -> None:
    await http.put(f"{TOWN}/a", content=b"s", headers={"x-entity-owner": "srv1"})
    old = (await http.post("/v1/worlds/town/leases", json={"owner": "srv1"})).json()["lease"]
    assert (await http.put(f"{TOWN}/a", content=b"1", params={"takeover": "1"})).status_code == 200
    new = (await http.post("/v1/worlds/town/leases", json={"owner": "srv1", "takeover": True})).json()[
        "lease"
    ]
    assert (await http.put(f"{TOWN}/a", content=b"2", headers={"x-owner-lease": old})).status_code == 403
    assert (await http.put(f"{TOWN}/a", content=b"2", headers={"x-owner-lease": new})).status_code == 200
    lost = await http.put("/v1/worlds/town/leases/srv1", headers={"x-owner-lease": old})
    assert lost.status_code == 410
    given_back = await http.delete("/v1/worlds/town/leases/srv1", headers={"x-owner-lease": new})
    assert given_back.status_code == 200
    assert (await http.put(f"{TOWN}/a", content=b"3")).status_code == 200


async def test_the_destination_owner_must_hold_its_own_lease(http: httpx.AsyncClient) -> None:
    lease = (await http.post("/v1/worlds/forest/leases", json={"owner": "srv2"})).json()["lease"]
    await http.put(f"{TOWN}/a", content=b"s")
    ticket = await ticket_of(http, "a")
    body = {"owner": "srv2"}
    assert (await http.post(f"/v1/transfers/{ticket}:accept", json=body)).status_code == 403
    mine = {"x-owner-lease": lease}
    assert (await http.post(f"/v1/transfers/{ticket}:accept", json=body, headers=mine)).status_code == 200
    assert (await http.put(f"{FOREST}/a", content=b"t")).status_code == 403


async def test_two_gateways_over_one_store_hand_entities_to_each_other(
    start_gateway: StartGateway, http: httpx.AsyncClient, gateway: Gateway
) -> None:
    assert gateway.plain_server is not None
    other = await start_gateway(store=f"http://127.0.0.1:{gateway.plain_server.port}")
    async with client_of(other) as second:
        await http.put(f"{TOWN}/a", content=b"s0")
        for n in range(6):
            here, there = (http, second) if n % 2 == 0 else (second, http)
            source, to = ("town", "forest") if n % 2 == 0 else ("forest", "town")
            body = {"entity": "a", "from": source, "to": to}
            offered = await here.post("/v1/transfers", json=body)
            assert offered.status_code == 201, offered.text
            accepted = await there.post(f"/v1/transfers/{offered.json()['ticket']}:accept")
            assert accepted.status_code == 200, accepted.text
            assert (await here.get(f"/v1/worlds/{source}/entities/a")).status_code == 404
            moved = await there.put(f"/v1/worlds/{to}/entities/a", content=b"s%d" % (n + 1))
            assert moved.status_code == 200
            assert (await here.get(f"/v1/worlds/{to}/entities/a")).content == b"s%d" % (n + 1)


async def give(http: httpx.AsyncClient, owner: str, item: str, quantity: int) -> None:
    headers = {"x-entity-quantity": str(quantity), "x-entity-class": item}
    answer = await http.put(f"/v1/inventories/{owner}/items/{item}", content=b"", headers=headers)
    answer.raise_for_status()


async def quantity(http: httpx.AsyncClient, owner: str, item: str) -> int:
    answer = await http.get(f"/v1/inventories/{owner}/items/{item}")
    return 0 if answer.status_code == 404 else int(answer.headers["x-entity-quantity"])


def move(item: str, giver: str, taker: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"item": item, "from": giver, "to": taker, "quantity": count, **more}


async def test_a_trade_moves_items_both_ways_or_not_at_all(http: httpx.AsyncClient) -> None:
    await give(http, "ann", "gold", 10)
    await give(http, "bob", "sword", 1)
    moves = [move("gold", "ann", "bob", 7), move("sword", "bob", "ann")]
    done = await http.post("/v1/inventories:trade", json={"moves": moves})
    assert done.status_code == 200, done.text
    assert [await quantity(http, o, i) for o, i in (("ann", "gold"), ("bob", "gold"), ("ann", "sword"))] == [
        3,
        7,
        1,
    ]
    assert await quantity(http, "bob", "sword") == 0
    short = await http.post("/v1/inventories:trade", json={"moves": [moves[1], moves[0]]})
    assert (short.status_code, short.json()["code"]) == (409, "not_enough")
    assert await quantity(http, "ann", "gold") == 3


async def test_a_trade_has_preconditions(http: httpx.AsyncClient) -> None:
    await give(http, "ann", "gold", 10)
    await give(http, "bob", "gem", 1)
    moves = [move("gold", "ann", "bob", 5)]
    for expect, status in (({"quantity": 2}, 412), ({"revision": 99}, 412), ({"quantity": 1}, 200)):
        body = {"moves": moves, "expect": [{"owner": "bob", "item": "gem", **expect}]}
        assert (await http.post("/v1/inventories:trade", json=body)).status_code == status
    await http.put("/v1/inventories/bob/items/gold", content=b"other", headers={"x-entity-class": "fool's"})
    other = await http.post("/v1/inventories:trade", json={"moves": moves})
    assert (other.status_code, other.json()["code"]) == (409, "different_item")


async def test_of_two_trades_of_one_item_one_wins(http: httpx.AsyncClient) -> None:
    await give(http, "ann", "sword", 1)
    bodies = [{"moves": [move("sword", "ann", taker)]} for taker in ("bob", "cat", "dan", "eve")]
    answers = await asyncio.gather(*(http.post("/v1/inventories:trade", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    owners = ("ann", "bob", "cat", "dan", "eve")
    assert sum([await quantity(http, owner, "sword") for owner in owners]) == 1


async def test_totals_stay_whatever_many_traders_do_at_once(http: httpx.AsyncClient) -> None:
    owners = [f"p{n}" for n in range(4)]
    items = [f"item{n}" for n in range(5)]
    for owner in owners:
        for item in items:
            await give(http, owner, item, 10)

    async def trader(n: int) -> None:
        for step in range(12):
            giver, taker = owners[(n + step) % 4], owners[(n + 2 * step + 1) % 4]
            if giver == taker:
                continue
            body = {"moves": [move(items[(n * step) % 5], giver, taker, 1 + step % 4)]}
            answer = await http.post("/v1/inventories:trade", json=body)
            assert answer.status_code in (200, 409), answer.text

    await asyncio.gather(*(trader(n) for n in range(8)))
    for item in items:
        assert sum([await quantity(http, owner, item) for owner in owners]) == 40
