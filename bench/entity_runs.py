"""Entities under fire: transfers while gateways are killed, trades by many at once. Room: bench.

Each run ends with a reckoning: what is there, against what the records say must be there.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.entity_servers import Child, GatewayChild, StoreChild

WORLDS = ("east", "west")
CALL_S = 8.0


@dataclass
class Handover:
    """What a run of transfers came to. ``wrong``: sentences about what must not be; none is right."""

    accepted: int = 0
    tickets: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    failures: int = 0
    wrong: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**vars(self), "tickets": dict(self.tickets)}


class Fleet:
    """Two gateways over one store (``store``; by default one of our own), and who calls them."""

    def __init__(self, folder: Path, store: StoreChild | None = None) -> None:
        self.store = store or StoreChild(folder)
        self.folder = folder
        self.gateways: list[GatewayChild] = []
        self.http = httpx.AsyncClient(timeout=CALL_S, limits=httpx.Limits(max_connections=200))

    async def __aenter__(self) -> Fleet:
        await self.store.start()
        self.gateways = [GatewayChild(self.folder / f"g{n}", self.store.url) for n in range(2)]
        await asyncio.gather(*(gateway.start() for gateway in self.gateways))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.http.aclose()
        await asyncio.gather(*(child.kill() for child in (*self.gateways, self.store)))

    async def call(self, gateway: int, method: str, path: str, **more: Any) -> httpx.Response | None:
        """One request; None where the gateway is dead, dying or without its store."""
        try:
            answer = await self.http.request(method, self.gateways[gateway].plain + path, **more)
        except httpx.HTTPError:
            return None
        return None if answer.status_code >= 500 else answer

    async def insist(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The same until one of the gateways answers."""
        async with asyncio.timeout(60):
            for turn in range(100_000):
                answer = await self.call(turn % 2, method, path, **more)
                if answer is not None:
                    return answer
                await asyncio.sleep(0.05)
        raise AssertionError("unreachable")


async def handover(
    folder: Path,
    *,
    transfers: int,
    workers: int,
    kills: int,
    kill_store: bool = False,
    seed: int = 1,
    store: StoreChild | None = None,
) -> Handover:
    """``workers`` carry an entity each back and forth, offered at one gateway and accepted at the
    other, until ``transfers`` were accepted; meanwhile ``kills`` processes die at random."""
    result = Handover()
    dice = random.Random(seed)
    async with Fleet(folder, store) as fleet:
        for world in WORLDS:
            (await fleet.insist("PUT", f"/v1/worlds/{world}")).raise_for_status()
        for n in range(workers):
            path = f"/v1/worlds/{WORLDS[0]}/entities/e{n}"
            (await fleet.insist("PUT", path, content=b"e%d" % n)).raise_for_status()
        running = [asyncio.ensure_future(_carry(fleet, n, result, transfers, dice)) for n in range(workers)]
        await _kill(fleet, result, transfers, kills, kill_store, dice)
        await asyncio.gather(*running)
        await _reckon(fleet, workers, result)
    return result


async def _carry(fleet: Fleet, n: int, result: Handover, transfers: int, dice: random.Random) -> None:
    entity, at = f"e{n}", 0
    while result.accepted < transfers:
        body = {"entity": entity, "from": WORLDS[at], "to": WORLDS[1 - at], "expires_ms": 2000}
        offered = await fleet.call(dice.randrange(2), "POST", "/v1/transfers", json=body)
        if offered is None or offered.status_code != 201:
            result.failures += 1
            if offered is not None and offered.status_code == 404 and offered.json().get("moved_to"):
                at = WORLDS.index(offered.json()["moved_to"])
            await asyncio.sleep(0.02)
            continue
        path = f"/v1/transfers/{offered.json()['ticket']}"
        action = "cancel" if dice.random() < 0.05 else "accept"
        ended = await fleet.call(dice.randrange(2), "POST", f"{path}:{action}")
        if ended is None:
            result.failures += 1
            state = (await fleet.insist("GET", path)).json().get("state")
        else:
            state = ended.json().get("state")
        if state == "accepted":
            result.accepted += 1
            at = 1 - at


async def _kill(
    fleet: Fleet, result: Handover, transfers: int, kills: int, kill_store: bool, dice: random.Random
) -> None:
    """Spread over the run: a victim each time another share of the transfers is done."""
    for turn in range(kills):
        while result.accepted < transfers * (turn + 1) / (kills + 1):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        victims: list[Child] = [*fleet.gateways, *([fleet.store] if kill_store else [])]
        victim = dice.choice(victims) if turn else victims[-1]
        await victim.kill()
        result.kills += 1
        await victim.start()  # type: ignore[attr-defined]


async def _until_settled(fleet: Fleet) -> None:
    """Wait until the offers that nobody took have run out."""
    async with asyncio.timeout(30):
        for world in WORLDS:
            query = f"/v1/transfers?world={world}&state=offered"
            while (await fleet.insist("GET", query)).json()["transfers"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def _reckon(fleet: Fleet, workers: int, result: Handover) -> None:
    """Every entity in one world, where its accepted transfers lead; every ticket ended in one way."""
    await _until_settled(fleet)
    found: dict[str, list[str]] = {f"e{n}": [] for n in range(workers)}
    for world in WORLDS:
        listed = (await fleet.insist("GET", f"/v1/worlds/{world}/entities?limit=1000&state=1")).json()
        for entity in listed["entities"]:
            found[entity["id"]].append(world)
    for name, places in found.items():
        if len(places) != 1:
            result.wrong.append(f"{name} is in {places}")
            continue
        accepted = 0
        ways: dict[str, set[str]] = {}
        for world in WORLDS:
            query = f"world={world}&entity={name}&limit=1000"
            for record in (await fleet.insist("GET", f"/v1/transfers?{query}")).json()["transfers"]:
                ways.setdefault(record["id"], set()).add(record["state"])
        for ticket, states in ways.items():
            if len(states) != 1 or states & {"offered"}:
                result.wrong.append(f"{ticket} ended as {sorted(states)}")
            result.tickets.update(states)
            accepted += "accepted" in states
        if WORLDS[accepted % 2] != places[0]:
            result.wrong.append(f"{name} is in {places[0]} after {accepted} accepted transfers")


@dataclass
class Trades:
    """What a run of trades came to."""

    done: int = 0
    refused: int = 0
    totals: dict[str, int] = field(default_factory=dict)
    expected: int = 0


async def trades(
    base_url: str, *, clients: int, count: int, items: int, owners: int = 8, seed: int = 1
) -> Trades:
    """``clients`` do ``count`` trades of random quantities of ``items`` between ``owners``."""
    result = Trades(expected=owners * 100)
    dice = random.Random(seed)
    names = [f"t{n}" for n in range(owners)]
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=base_url, timeout=30, limits=limits) as http:
        for name in names:
            for item in range(items):
                headers = {"x-entity-quantity": "100", "x-entity-class": f"i{item}"}
                path = f"/v1/inventories/{name}/items/i{item}"
                (await http.put(path, content=b"", headers=headers)).raise_for_status()
        await asyncio.gather(*(_trade(http, names, items, count, result, dice) for _ in range(clients)))
        for item in range(items):
            result.totals[f"i{item}"] = sum([await _quantity(http, name, item) for name in names])
    return result


async def _trade(
    http: httpx.AsyncClient, names: Sequence[str], items: int, count: int, result: Trades, dice: random.Random
) -> None:
    while result.done + result.refused < count:
        one, other = dice.sample(list(names), 2)
        moves = [
            {"item": f"i{dice.randrange(items)}", "from": a, "to": b, "quantity": dice.randint(1, 60)}
            for a, b in ((one, other), (other, one))
        ]
        answer = await http.post("/v1/inventories:trade", json={"moves": moves})
        if answer.status_code == 200:
            result.done += 1
        elif answer.status_code == 409:
            result.refused += 1
        else:
            answer.raise_for_status()


async def _quantity(http: httpx.AsyncClient, name: str, item: int) -> int:
    answer = await http.get(f"/v1/inventories/{name}/items/i{item}")
    return 0 if answer.status_code == 404 else int(answer.headers["x-entity-quantity"])
