"""Durable one-page commits over a lossy link. Room: bench/scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.scenarios import Measured, Settings
from bench.scenarios._store import WAYS, measured_way, site

TITLE = "Durable commits over a lossy link"
NEEDS_LINK = True
PAGE_BYTES = 8_192


def cases(short: bool) -> list[dict[str, Any]]:
    """Loss by round trip by how many at once."""
    grid = (
        [(0.0, 50), (2.0, 50)]
        if short
        else [(loss, rtt) for rtt in (1, 50, 100) for loss in (0.0, 0.5, 1.0, 2.0, 5.0)]
    )
    return [{"loss_percent": loss, "rtt_ms": rtt, "parallel": n} for loss, rtt in grid for n in (1, 32)]


def measure(case: Mapping[str, Any], settings: Settings) -> Sequence[Measured]:
    """Every way in turn, on one site."""
    with site(case, settings, with_caddy=True) as place:
        fields = {"seconds": settings.seconds, "parallel": case["parallel"], "page_bytes": PAGE_BYTES}
        return [
            measured_way(place.load("writes", way, fields), {**case, "way": way}, settings.seconds)
            for way, (who, _) in WAYS.items()
            if who in place.urls
        ]
