"""Query strings of the history routes: numbers and times. Room: http. Pure.

A time is RFC 3339 (``2026-11-20T21:14:03Z``), or seconds ago (``90s-ago``, ``1.5m-ago``, ``2h-ago``,
or a bare number of seconds).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime

from starlette.datastructures import QueryParams

from gateway.errors import BadInput

_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(s|m|h|d)?(?:-ago)?", re.ASCII)
_SPACE_OFFSET = re.compile(r"(.*\d[T ]\d\d:\d\d\S*) (\d\d:?\d\d)", re.ASCII)
"""``2026-11-20T21:14:03+01:00`` whose plus nobody escaped: in a query string it says space."""
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
U32_MAX = 0xFFFF_FFFF


def check_keys(query: QueryParams, known: Collection[str]) -> None:
    """Raise :class:`BadInput` on a key that is not known, or given twice."""
    for key, _ in query.multi_items():
        if key not in known:
            takes = f"the keys {', '.join(sorted(known))}" if known else "no query"
            raise BadInput(f"query key {key[:64]!r} is unknown; this request takes {takes}")
        if len(query.getlist(key)) > 1:
            raise BadInput(f"query key {key!r} is given twice; give it once")


def u32(query: QueryParams, key: str) -> int | None:
    """An optional u32. Raises :class:`BadInput`."""
    text = query.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= U32_MAX):
        raise BadInput(f"{key}={text[:64]!r} is not a whole number from 0 to {U32_MAX}")
    return int(text)


def whole(query: QueryParams, key: str, least: int, most: int) -> int | None:
    """An optional whole number within bounds. Raises :class:`BadInput`."""
    text = query.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
        raise BadInput(f"{key}={text[:64]!r} is not a whole number from {least} to {most}")
    return int(text)


def flag(query: QueryParams, key: str) -> bool:
    """``1`` or ``0`` (absent: False). Raises :class:`BadInput`."""
    text = query.get(key, "0")
    if text not in ("0", "1"):
        raise BadInput(f"{key}={text[:64]!r} is neither 1 nor 0")
    return text == "1"


def time_us(text: str, now_us: int) -> int:
    """A point in time in microseconds since the Unix epoch, never before it. Raises :class:`BadInput`. RFC 3339 section 5.6."""
    if match := _AGO.fullmatch(text):
        at_us = now_us - round(float(match[1]) * _UNIT_S[match[2] or "s"] * 1_000_000)
    else:
        at_us = _moment_us(_SPACE_OFFSET.sub(r"\1+\2", text))
    if at_us < 0:
        raise BadInput(f"{text[:64]!r} is before 1970, when nothing was recorded; give a later time")
    return at_us


def _moment_us(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.replace(" ", "T", 1))
    except ValueError:
        raise BadInput(
            f"{text[:64]!r} is no time; write 2026-11-20T21:14:03Z, or how long ago: 90s-ago"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000)
