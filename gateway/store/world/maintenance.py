"""Old versions of a world: truncated and collected, so that a store does not grow. Room: store.

mvstore keeps every version of every page; a world's own history stands in its tables, so the old
versions serve only readers under way, and looks at other tables in the past.
"""

from __future__ import annotations

from gateway.limits import VERSIONS_KEPT_RECORD_S, VERSIONS_KEPT_S
from gateway.store.base import Store, Version
from gateway.store.world.schema import Retention


async def maintain(store: Store, name: str, retention: Retention, now_s: int) -> Version | None:
    """Truncate the world's versions that are no longer kept, then collect content that nothing
    refers to. Answers the version truncated before; None where the time keeper knows none yet."""
    kept_s = VERSIONS_KEPT_S if retention.mode == "ring" else VERSIONS_KEPT_RECORD_S
    bounds = await store.time2version(now_s - kept_s)
    if bounds.after is None:
        return None
    await discard_before(store, name, bounds.after.version)
    return bounds.after.version


async def discard_before(store: Store, name: str, version: Version) -> None:
    """Truncate what is older than ``version``, and collect."""
    async for _ in store.truncate_namespace(name, version):
        pass
    async for _ in store.delete_unreferenced_content(name):
        pass
