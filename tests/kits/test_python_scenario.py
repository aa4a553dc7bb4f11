"""What games do, with the Python kit without ``await`` against a real gateway over a link that loses: an avatar walks from one
server's world to another's, items are traded, the gateway is killed, a film is played; all end with the same bytes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.kits.abilities import ROOT, proves
from tests.kits.lossy import LOST_MIN, assert_stored, lossy, need_link

pytestmark = need_link()


@proves("python", "scenario")
async def test_an_avatar_walks_over_items_are_traded_the_gateway_dies_and_all_end_alike(
    tmp_path: Path,
) -> None:
    with lossy(tmp_path, 1) as (served, (host,), network):
        argv = [sys.executable, "-m", "tests.kits.scenario_player", served.url, str(served.ca)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        player = host.popen(argv, cwd=ROOT, **pipes)

        def ask(step: str) -> Any:
            player.stdin.write(step + "\n")
            player.stdin.flush()
            line = player.stdout.readline()
            assert line, f"the program ended at {step}"
            return json.loads(line)

        try:
            assert await asyncio.to_thread(ask, "begin") == "webtransport"
            assert await asyncio.to_thread(ask, "walk_over") == 59, "it woke where it had gone to sleep"
            assert await asyncio.to_thread(ask, "trade") == [3, 7, {"edge": 3}]
            served.kill()
            await asyncio.to_thread(ask, "walk_while_away")
            served.start()
            ended = await asyncio.to_thread(ask, "end")
            player.stdin.close()
            assert await asyncio.to_thread(player.wait, 30) == 0
        finally:
            player.kill()
            player.wait()
            player.stdin.close()
            player.stdout.close()
        dropped = network.counters()["dropped_loss"]
    assert dropped > LOST_MIN, "the link lost nothing, so nothing was shown"
    assert set(ended["forest"]) == {"3", "10"}
    assert ended["player"] == ended["film"] == ended["forest"]
    await assert_stored(tmp_path, {"town": ended["town"], "forest": ended["forest"]})
