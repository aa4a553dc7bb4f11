"""What the supervisor tells a worker: who else takes connections, and that it is still there. Room: runtime."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable

from gateway.runtime.workers.group import Worker

log = logging.getLogger("mvgateway.workers")


async def heed(worker: Worker, on_orphaned: Callable[[], None]) -> None:
    """Until the supervisor is gone: then this worker is to stop, for nobody would start it again, or end it."""
    loop, heard = asyncio.get_running_loop(), b""
    while True:
        try:
            news = await loop.sock_recv(worker.control, 65_536)
        except OSError:
            news = b""
        if not news:
            log.error("the supervisor is gone: worker %d stops", worker.number)
            worker.is_orphaned = True
            on_orphaned()
            return
        heard += news
        *lines, heard = heard.split(b"\n")
        for line in lines:
            worker.alive = frozenset(json.loads(line)["alive"])
