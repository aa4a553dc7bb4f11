"""``mvgateway bench`` as somebody runs it from a folder of their own."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from gateway.cli._child import GatewayChild
from tests.patience import HANG_S


async def test_an_authority_is_named_from_the_folder_that_one_stands_in(tmp_path: Path) -> None:
    """The processes that measure run in the checkout's folder: none of them found it."""
    child = GatewayChild(tmp_path)
    await child.start()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "bench", "--url", child.url, "--ca", "certs/ca.pem"),
            *("--scenario", "reads", "--seconds", "1", "--json"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, log = await asyncio.wait_for(process.communicate(), HANG_S)
        assert process.returncode == 0, log.decode()
        assert [json.loads(line) for line in out.splitlines()]
    finally:
        await child.kill()
