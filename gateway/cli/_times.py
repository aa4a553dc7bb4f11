"""Moments as a person types and reads them. Room: cli."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from gateway.errors import ConfigError

_AGO = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(s|m|h|d)(?:-ago)?")
"""Nine digits of seconds are 31 years: whoever means the beginning says so."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_time(text: str, now_us: int) -> int:
    """``2026-11-20 21:14:03`` (UTC unless it names a zone), ``90s-ago``, ``now`` or Unix seconds, in
    microseconds since the Unix epoch. Raises :class:`ConfigError`."""
    if text == "now":
        return now_us
    if match := _AGO.fullmatch(text):
        # No further back than 1970: a moment before that has no date to be shown by.
        return max(0, now_us - round(float(match[1]) * _SECONDS[match[2]] * 1_000_000))
    # Nine digits at least: a shorter number is a tick where both may stand.
    if re.fullmatch(r"[0-9]{9,11}(\.[0-9]{1,9})?", text):
        return round(float(text) * 1_000_000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r:.60} is no time; write '2026-11-20 21:14:03' (UTC), 90s-ago, 5m-ago, or Unix seconds"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def show_time(at_us: int) -> str:
    """``2026-11-20 21:14:03.250 UTC``."""
    moment = datetime.fromtimestamp(at_us / 1_000_000, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d} UTC"


def show_age(seconds: float) -> str:
    """``3.2 s``, ``4 min 10 s``, ``2 h 5 min``, ``3 days 4 h``."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} days {whole % 86_400 // 3600} h"
