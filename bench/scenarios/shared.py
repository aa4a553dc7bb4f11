"""A link that others share: what frames leave to bulk TCP, and what it leaves to them. Room: bench/scenarios.

Each reader's link has a bottleneck, with a queue of half a round trip or of eight, and two bulk flows of TCP by CUBIC or BBR, or none. Frames take
a tenth of it, nearly half, or more than all; the same frames by WebSocket, so by the machine's own TCP, have a link alike for themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from bench.scenarios import Run, Settings, frames

TITLE = "Frames beside bulk TCP"
NEEDS_LINK = True
WAYS: tuple[dict[str, Any], ...] = ({"door": "webtransport"}, {"door": "websocket"})
RTT_MS = (50,)
RATE_KBPS = 20_000
QUEUES_BYTES = (64 * 1024, 1024 * 1024)
SIZES = (4_500, 18_000, 54_000)
BULK_FLOWS, BULK_TCP = 2, ("cubic", "bbr")
CASE_S, RUN_S = frames.CASE_S, frames.RUN_S


def cases(short: bool) -> list[dict[str, Any]]:
    """Every size by every queue, beside bulk flows and alone."""
    made = [_case(size, queue, tcp) for queue in QUEUES_BYTES for size in SIZES for tcp in ("", *BULK_TCP)]
    return made[1:2] if short else made


def _case(frame_bytes: int, queue_bytes: int, bulk_tcp: str) -> dict[str, Any]:
    return {
        "loss_percent": 0.0,
        "rtt_ms": RTT_MS,
        "hz": 60,
        "frame_bytes": frame_bytes,
        "burst": False,
        "rate_kbps": RATE_KBPS,
        "queue_bytes": queue_bytes,
        "bulk_flows": BULK_FLOWS if bulk_tcp else 0,
        "bulk_tcp": bulk_tcp,
    }


def opened(case: Mapping[str, Any], settings: Settings) -> contextlib.AbstractContextManager[Run]:
    """Link, gateway and load generators for all runs of a case."""
    return frames.opened(case, settings, WAYS)
