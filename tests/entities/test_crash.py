"""Real processes, real SIGKILL: gateways and the store die while entities are on their way.

``python -m bench.entities handover`` and ``… trades`` run the same at full length.
"""

from __future__ import annotations

from pathlib import Path

from bench.entity_runs import handover, trades
from bench.entity_servers import GatewayChild


async def test_transfers_between_two_gateways_lose_and_double_nothing_while_they_are_killed(
    tmp_path: Path,
) -> None:
    result = await handover(tmp_path, transfers=12, workers=3, kills=2, kill_store=True)
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
