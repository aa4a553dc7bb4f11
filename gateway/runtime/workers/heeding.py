"""What the supervisor tells a worker: who else takes connections, and that it is still there. Room: runtime."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable

from gateway.runtime.workers.group import Worker

log = logging.getLogger("mvgateway.workers")


async def heed(worker: Worker, stop: Callable[[], None]) -> None:
    """Until the supervisor is gone: then this worker is to stop, for nobody would start it again, or end it. It is to stop
    too where another takes its place."""
    loop, heard = asyncio.get_running_loop(), b""
    while True:
        try:
            news = await loop.sock_recv(worker.control, 65_536)
        except OSError:
            news = b""
        if not news:
            log.error("the supervisor is gone: worker %d stops", worker.number)
            worker.is_orphaned = True
            stop()
            return
        heard += news
        # A stream: lines come in pieces, or several at once.
        *lines, heard = heard.split(b"\n")
        for line in lines:
            told = json.loads(line)
            worker.alive = frozenset(told.get("alive", worker.alive))
            if "leave" in told:
                worker.is_leaving = True
                stop()
