"""``?at=``: a moment in the past as a version of the store. Room: runtime."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from gateway.errors import BadInput, NothingRecorded
from gateway.store.base import Store, Version

_VERSION = re.compile(r"[0-9a-f]{20}")


async def version_at(store: Store, at: str) -> Version:
    """The newest recorded version not after ``at``: Unix seconds, ISO 8601 (UTC unless it says
    otherwise), or a version itself. The store's clock ticks every 5 s, so a time is that coarse.

    Raises :class:`BadInput`, or :class:`NothingRecorded` for a time before everything.
    """
    if _VERSION.fullmatch(at):
        return at
    bounds = await store.time2version(_seconds(at))
    for point in (bounds.not_after, bounds.after):
        if point is not None and point.time <= _seconds(at):
            return point.version
    raise NothingRecorded(f"nothing was recorded at or before {at}")


def _seconds(at: str) -> int:
    try:
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]+)?", at):
            return int(float(at))
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise BadInput(
            f"at={at[:40]!r} is no time: give Unix seconds, ISO 8601, or a version of 20 hex digits"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
