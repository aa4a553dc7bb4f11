"""What there is to tell of an open world: now, and as it was some seconds ago. Room: runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gateway.core.ports import Mark
from gateway.core.state import WorldState
from gateway.core.told import Facts, Overview

if TYPE_CHECKING:
    from gateway.runtime.host import WorldHost


def overview(host: WorldHost) -> Overview:
    """Now, of this process: who is attached, whose home it is, what it keeps."""
    kept = host.database.world.info.retention
    hops, stale_ms = far(host)
    return Overview(
        *(host.facts(), host.homing.home.url, kept.mode, kept.ring_s),
        layout=host.database.layout,
        hops=hops,
        stale_ms=stale_ms,
    )


def far(host: WorldHost) -> tuple[int, int] | tuple[None, None]:
    """Gateways between the home and this one, and how many ms nothing was heard of it; None: none is followed."""
    source = None if host.homing.held or host.edge is None else host.edge.source
    return (None, None) if source is None or source.is_home else (source.hops, source.stale_ms)


async def past_overview(host: WorldHost, delay_s: float, until_us: int | None) -> Overview:
    """As far as it was recorded up to ``until_us``: nothing of who is there now. Raises what the store raises."""
    found = await host.database.world.history(lambda history: history.last(), until_us=until_us)
    state = None if found is None else cast(WorldState, found.state)
    facts = Facts(
        host.name,
        host.world.settings.stride or (state.stride if state else 0),
        found.epoch if found else 0,
        found.tick if found else 0,
        Mark(found.epoch, found.tick) if found else None,
        records=len(state) if state else 0,
    )
    kept = host.database.world.info.retention
    return Overview(facts, host.homing.home.url, kept.mode, kept.ring_s, delay_s, host.database.layout)
