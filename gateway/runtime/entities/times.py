"""``?at=``: a moment in the past as a version of the store. Room: runtime."""

from __future__ import annotations

import re

from gateway.errors import BadInput, NothingRecorded
from gateway.store.base import Store, Version

_VERSION = re.compile(r"[0-9a-f]{20}")


async def version_at(store: Store, at: str) -> Version:
    """The newest recorded version not after ``at``: Unix seconds, or a version itself. The store's
    clock ticks every 5 s, so a time is that coarse.

    Raises :class:`BadInput`, or :class:`NothingRecorded` for a time before everything.
    """
    if _VERSION.fullmatch(at):
        return at
    if not (at.isascii() and at.isdigit() and len(at) < 13):
        raise BadInput(f"at={at[:40]!r} is neither Unix seconds nor a version of 20 hex digits")
    bounds = await store.time2version(int(at) or 1)
    for point in (bounds.not_after, bounds.after):
        if point is not None and point.time <= int(at):
            return point.version
    raise NothingRecorded(f"nothing was recorded at or before {at} (Unix seconds)")
