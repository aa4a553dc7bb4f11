"""``python -m bench.entities``: how fast entities are, and whether they survive. Room: bench.

``figures``: one entity fetched from a warm gateway over HTTP/3, a cold start of 2,000 entities,
and a transfer from offer to ``moved`` at a following client, all on loopback with the durable
embedded engine. ``handover`` and ``trades``: the runs of ``bench/entity_runs.py`` at full length.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.entity_runs import handover, trades
from bench.entity_servers import GatewayChild
from gateway.client import Publisher, Subscriber
from gateway.client.entities import Entities

ENTITIES = 2_000
STATE = random.Random(1).randbytes(500)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Milliseconds: p50, p90 and the worst."""
    ordered = sorted(values)
    return {
        "p50_ms": round(statistics.median(ordered) * 1e3, 3),
        "p90_ms": round(ordered[int(len(ordered) * 0.9)] * 1e3, 3),
        "max_ms": round(ordered[-1] * 1e3, 3),
    }


async def figures(folder: Path, rounds: int) -> dict[str, Any]:
    """Start a gateway, fill a world, measure."""
    gateway = await GatewayChild(folder, str(folder / "store")).start()
    trust: dict[str, Any] = {"certificate_sha256": gateway.certificate_sha256}
    try:
        async with (
            Publisher(gateway.https, "town", **trust),
            Publisher(gateway.https, "forest", **trust),
            Entities(gateway.https, "town", **trust) as town,
        ):
            await fill(town)
            async with Entities(gateway.https, "town", transport="websocket", **trust) as by_tcp:
                over_tcp = await cold_starts(by_tcp, max(3, rounds // 100))
            return {
                "cold_start_tcp": over_tcp,
                "round_trip": await round_trips(town, rounds),
                "fetch": await fetches(town, rounds),
                "cold_start": await cold_starts(town, max(3, rounds // 100)),
                "transfer_to_moved": await transfers(gateway, town, trust, max(10, rounds // 20)),
            }
    finally:
        await gateway.kill()


async def fill(town: Entities) -> None:
    """2,000 entities of 500 bytes, in batches."""
    for start in range(0, ENTITIES, 500):
        await town.batch(
            [({"op": "put", "id": f"e{n:04}", "kind": "bytes"}, STATE) for n in range(start, start + 500)]
        )


async def round_trips(town: Entities, rounds: int) -> dict[str, float]:
    """A request that asks nothing of the entities: what HTTP/3 itself costs here."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        await town._http.request("GET", "/certificate.sha256")
        taken.append(time.perf_counter() - began)
    return percentiles(taken)


async def fetches(town: Entities, rounds: int) -> dict[str, float]:
    """One entity after the other."""
    taken = []
    for n in range(rounds):
        began = time.perf_counter()
        await town.get(f"e{n % ENTITIES:04}")
        taken.append(time.perf_counter() - began)
    return percentiles(taken)


async def cold_starts(town: Entities, rounds: int) -> dict[str, Any]:
    """All entities in one request: the whole time, and that to the first one."""
    whole, first = [], []
    for n in range(rounds):
        await town.put("touch", b"%d" % n)
        began = time.perf_counter()
        count = 0
        async for _ in town.all():
            if not count:
                first.append(time.perf_counter() - began)
            count += 1
        whole.append(time.perf_counter() - began)
        assert count == ENTITIES + 1
    return {"whole": percentiles(whole), "first_entity": percentiles(first)}


async def transfers(
    gateway: GatewayChild, town: Entities, trust: dict[str, Any], rounds: int
) -> dict[str, float]:
    """From the offer's request to ``moved`` at a client that follows, and back again."""
    taken = []
    moved = asyncio.Event()

    def hear(control: Any) -> None:
        if control.type == "moved":
            moved.set()

    await town.put("hero", STATE)
    async with (
        Subscriber(gateway.https, "town", follow="hero", on_event=hear, **trust),
        Entities(gateway.https, "forest", **trust) as forest,
    ):
        for n in range(rounds):
            here, to = (town, "forest") if n % 2 == 0 else (forest, "town")
            moved.clear()
            began = time.perf_counter()
            ticket = await here.transfer("hero", to=to)
            await here.accept(ticket)
            await asyncio.wait_for(moved.wait(), 5)
            taken.append(time.perf_counter() - began)
    return percentiles(taken)


async def run_trades(folder: Path, clients: int, count: int) -> dict[str, Any]:
    gateway = await GatewayChild(folder, str(folder / "store")).start()
    try:
        began = time.perf_counter()
        result = await trades(gateway.plain, clients=clients, count=count, items=20)
        return {**asdict(result), "trades_per_s": round(count / (time.perf_counter() - began), 1)}
    finally:
        await gateway.kill()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m bench.entities", description=__doc__)
    made.add_argument("what", choices=("figures", "handover", "trades"), nargs="?", default="figures")
    made.add_argument("--rounds", type=int, default=500, help="fetches measured")
    made.add_argument("--transfers", type=int, default=1_000, help="handover: accepted transfers")
    made.add_argument("--workers", type=int, default=8, help="handover: who carry")
    made.add_argument("--kills", type=int, default=10, help="handover: processes killed on the way")
    made.add_argument("--clients", type=int, default=32, help="trades: who trade at once")
    made.add_argument("--trades", type=int, default=10_000, help="trades: how many")
    made.add_argument("--seed", type=int, default=1)
    return made


async def main(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        if args.what == "trades":
            return await run_trades(where, args.clients, args.trades)
        if args.what == "figures":
            return await figures(where, args.rounds)
        began = time.perf_counter()
        result = await handover(
            where,
            transfers=args.transfers,
            workers=args.workers,
            kills=args.kills,
            kill_store=True,
            seed=args.seed,
        )
        return {**result.facts(), "seconds": round(time.perf_counter() - began, 1)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(parser().parse_args())), indent=2))
