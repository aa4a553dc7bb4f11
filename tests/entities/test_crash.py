"""Real processes, real SIGKILL: gateways and the store die while entities are on their way.

``python -m bench.entities handover`` and ``… trades`` run the same at full length.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from bench.entity_runs import handover, trades
from bench.entity_servers import GatewayChild, StoreChild

ROOT = Path(__file__).parents[2]


class StandInChild(StoreChild):
    """The stand-in for the real mvstore in the same place."""

    async def start(self) -> StandInChild:
        ports = [flag for port in (self._port, self._admin) for flag in ("--port", str(port))]
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.store.standin", "--path", str(self._folder / "pages")),
            *("--commit-ms", "1:6", "--auto-create-namespace", *ports),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._errors,
        )
        self._port, self._admin = [int((await self._line()).rpartition(":")[2]) for _ in range(2)]
        assert (await self._line()).strip() == "ready"
        return self


@pytest.mark.parametrize("store", [StoreChild, StandInChild])
async def test_transfers_between_two_gateways_lose_and_double_nothing_while_they_are_killed(
    tmp_path: Path, store: type[StoreChild]
) -> None:
    result = await handover(
        tmp_path, transfers=12, workers=3, kills=2, kill_store=True, store=store(tmp_path)
    )
    assert result.wrong == []
    assert result.accepted >= 12
    assert result.kills == 2


async def test_many_trades_at_once_keep_every_total(tmp_path: Path) -> None:
    gateway = await GatewayChild(tmp_path, str(tmp_path / "store")).start()
    try:
        result = await trades(gateway.plain, clients=16, count=60, items=4, owners=4)
    finally:
        await gateway.kill()
    assert result.done > 0
    assert set(result.totals.values()) == {result.expected}
