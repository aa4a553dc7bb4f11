"""Reads over a lossy link: open a world cold, then read single pages at random. Room: bench/scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.scenarios import Measured, Settings
from bench.scenarios._store import WAYS, measured_way, prepare, site

TITLE = "Reads over a lossy link"
NEEDS_LINK = True
PAGES = {1: 2_000, 20: 200}
"""Clients at once -> pages that each opens: 16 MB by one, 32 MB by twenty together."""
PAGE_BYTES = 8_192


def cases(short: bool) -> list[dict[str, Any]]:
    """Loss by round trip by how many clients at once."""
    if short:
        return [{"loss_percent": loss, "rtt_ms": 50, "parallel": 1} for loss in (0.0, 2.0)]
    grid = [(loss, rtt) for rtt in (1, 50, 100) for loss in (0.0, 0.5, 1.0, 2.0, 5.0)]
    return [{"loss_percent": loss, "rtt_ms": rtt, "parallel": n} for loss, rtt in grid for n in (1, 20)]


def measure(case: Mapping[str, Any], settings: Settings) -> Sequence[Measured]:
    """Every way in turn, on one site."""
    with site(case, settings, with_caddy=True) as place:
        pages = PAGES[case["parallel"]]
        prepare(place, pages, PAGE_BYTES)
        fields = {"seconds": settings.seconds, "parallel": case["parallel"], "pages": pages}
        return [
            measured_way(place.load("reads", way, fields), {**case, "way": way}, settings.seconds)
            for way, (who, _) in WAYS.items()
            if who in place.urls
        ]
