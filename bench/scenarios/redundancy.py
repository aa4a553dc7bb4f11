"""Loss that nobody sees: what redundancy makes of the age that a reader shows, and what it costs. Room: bench/scenarios.

Readers of one kind of session each, side by side in one run on links alike: with parity, with repeats alone, and with nothing
said twice. One case is a link whose rate is just below what the frames take, where nothing may be said twice; in
another two bulk flows share each reader's link.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from bench.scenarios import Run, Settings, frames

TITLE = "Redundancy on a lossy link"
NEEDS_LINK = True
WAYS: tuple[dict[str, Any], ...] = (
    {"door": "webtransport", "label": "parity", "redundancy": "auto", "parity": "1"},
    {"door": "webtransport", "label": "repeats", "redundancy": "auto"},
    {"door": "webtransport", "label": "off", "redundancy": "off"},
)
RTT_MS = (50, 100)
SIZES = (1024, 4500)
LOSS_PERCENT = (0.0, 2.0, 5.0)
FULL_SHARE = 0.98
"""Of the rate that 60 frames of 1 KB a second take on the wire."""
FRAME_KBPS = 520
QUEUE_BYTES = 16 * 1024
BESIDE_KBPS, BESIDE_QUEUE_BYTES = 10_000, 64 * 1024
"""Two bulk flows and 4.5 KB at 60 Hz, which takes a quarter of it: a third is its fair share."""
CASE_S, RUN_S = frames.CASE_S, frames.RUN_S


def cases(short: bool) -> list[dict[str, Any]]:
    """Every loss by every size, a link that is full, and fades."""
    made = [_case(loss, size) for size in SIZES for loss in LOSS_PERCENT]
    full = _case(0.0, 1024) | {"rate_kbps": round(FRAME_KBPS * FULL_SHARE), "queue_bytes": QUEUE_BYTES}
    beside = _case(2.0, 4500) | {"rate_kbps": BESIDE_KBPS, "queue_bytes": BESIDE_QUEUE_BYTES, "bulk_flows": 2}
    return made[1:2] if short else [*made, full, beside, _case(2.0, 1024) | {"burst": True}]


def _case(loss_percent: float, frame_bytes: int) -> dict[str, Any]:
    return {
        "loss_percent": loss_percent,
        "rtt_ms": RTT_MS,
        "hz": 60,
        "frame_bytes": frame_bytes,
        "burst": False,
    }


def opened(case: Mapping[str, Any], settings: Settings) -> contextlib.AbstractContextManager[Run]:
    """Link, gateway and load generators for all runs of a case."""
    return frames.opened(case, settings, WAYS)
