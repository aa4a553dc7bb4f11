"""Two gateways and a store, killed and stopped at random while two game servers want the same world: one home at
every moment, and what was announced as durable is found. Short here; ``make faults`` plays 200 rounds.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.store.embedded import EmbeddedStore
from gateway.store.world.home import read
from tests.runtime.conftest import until
from tests.runtime.faults.driver import WORLD, check_integrity
from tests.runtime.faults.rivals import PATIENCE_S, Arena, Rival, Run, judge, recorded

LONG = os.environ.get("MVGATEWAY_FAULTS") == "long"
ROUNDS = int(os.environ.get("MVGATEWAY_ROUNDS") or (200 if LONG else 6))
PAUSE_S_MAX = 5.0
"""Above a home's lease: now and then another is the home when it wakes."""


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("MVGATEWAY_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed} (MVGATEWAY_SEED={seed} plays the same faults)")
    return random.Random(seed)


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    made = Arena(tmp_path)
    yield made
    made.end()


async def strike(arena: Arena, dice: random.Random, what: Counter[str]) -> None:
    """One to three faults, of which some overlap."""
    faults = []
    for name in dice.sample(["a", "b", "store"], dice.choice([1, 1, 2, 3])):
        await asyncio.sleep(dice.uniform(0, 0.3))
        kind = dice.choice(["kill", "pause"])
        what[f"{kind} {name}"] += 1
        seconds = dice.uniform(0.1, PAUSE_S_MAX)
        faults.append(arena.kill(name) if kind == "kill" else arena.pause(name, seconds))
    await asyncio.gather(*faults)


@pytest.mark.timeout(3_600)
async def test_one_home_at_every_moment_whatever_dies_and_whatever_stops(
    arena: Arena, dice: random.Random, tmp_path: Path
) -> None:
    await asyncio.gather(arena.start("a"), arena.start("b"))
    runs: list[Run] = []
    rivals = [Rival(arena, name, random.Random(dice.random()), runs) for name in "ab"]
    playing = [asyncio.ensure_future(rival.play()) for rival in rivals]
    struck: Counter[str] = Counter()
    judged = 0
    try:
        for _ in range(ROUNDS):
            promised = sum(run.durable_tick for run in runs)
            await until(lambda before=promised: sum(run.durable_tick for run in runs) > before, PATIENCE_S)  # type: ignore[misc]
            await strike(arena, dice, struck)
            newest = max(run.epoch for run in runs)
            for epoch in range(judged + 1, newest):
                judge(runs, epoch, await recorded(arena, epoch))
                judged = epoch
        promised = sum(run.durable_tick for run in runs)
        await until(lambda: sum(run.durable_tick for run in runs) > promised, PATIENCE_S)
        assert all(not task.done() for task in playing)
    finally:
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)
    for epoch in {run.epoch for run in runs}:
        judge(runs, epoch, await recorded(arena, epoch))
    async with httpx.AsyncClient(base_url=arena.gateways["a"].base_url, timeout=300) as client:
        verified = (await client.get(f"/v1/worlds/{WORLD}/verify")).json()
    assert verified["ok"], verified
    homes = arena.homes()
    assert len(homes) == len(set(homes)), "a fence is one home's and no other's"
    arena.end()
    arena.gateways.clear()
    await check_store(arena, max(homes))
    print(
        f"{ROUNDS} rounds, {dict(struck)}: {len(homes)} homes, {len(runs)} runs in {len({r.epoch for r in runs})} epochs, "
        f"{sum(max(0, r.durable_tick - r.first_tick + 1) for r in runs)} frames promised, "
        f"{sum(r.refused for r in rivals)} refusals, {sum(r.taken_over for r in rivals)} runs told that they were taken over"
    )


async def check_store(arena: Arena, newest: int) -> None:
    """The database is whole, and its fence is the newest that anybody had, or one whose taker died before it said so."""
    from gateway.store.base import Namespace
    from gateway.store.database import Database

    engine = EmbeddedStore.open(arena.store.folder)
    try:
        await asyncio.to_thread(check_integrity, engine.blocking())
        database = Database.open(engine.blocking(), Namespace(WORLD), read_only=True)
        row = await asyncio.to_thread(database.read, read)
        await asyncio.to_thread(database.close)
    finally:
        await engine.aclose()
    assert row is not None
    assert row.fence >= newest
