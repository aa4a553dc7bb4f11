"""Looking at a world as it was some seconds ago: who asks for it, and what is old enough. Room: core. Pure.

One query key, ``delay_s``, says it everywhere: of a live session, of a replay, of every route that reads a
recording. Who holds a grant with a delay is given it at the door by :func:`at_least`, in the query itself: whatever
stands behind the door reads it there, and a route that does not know the key refuses it instead of showing the present.
Source: ``docs/FRAMES.md``, "A delayed view".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote_plus

from gateway.errors import BadInput
from gateway.limits import DELAY_S_MAX, DELAY_S_MIN, DELAY_STEP_US_MIN, DELAY_STEPS_MAX

KEY: Final = "delay_s"


def parse_delay(text: str) -> float:
    """Seconds, in whole milliseconds rounded up; 0: no delay. Raises :class:`BadInput` naming the bounds."""
    try:
        # float() takes other scripts' digits and underscores, too; what another reader of the URL would not take is
        # refused.
        delay_s = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        delay_s = math.nan
    if delay_s == 0:
        return 0.0
    if not DELAY_S_MIN <= delay_s <= DELAY_S_MAX:
        raise BadInput(
            f"{KEY}={text[:40]!r} is not 0, nor from {DELAY_S_MIN:g} to {DELAY_S_MAX:g}: what is shown comes from the "
            "recording, which is some tenths of a second behind"
        )
    return _whole_ms(delay_s)


def _whole_ms(delay_s: float) -> float:
    # Up, never down: a grant of 0.0304 s must not show what is 0.030 s old.
    return math.ceil(delay_s * 1_000) / 1_000


def delay_of(query: Mapping[str, str]) -> float:
    """The delay that a query asks for, 0 where it says nothing of it. Raises :class:`BadInput`."""
    text = query.get(KEY)
    return 0.0 if text is None else parse_delay(text)


def asked(query: str) -> float:
    """:func:`delay_of` a query that is not taken apart yet. Raises :class:`BadInput`, also where it is said twice."""
    values = [value for name, value in parse_qsl(query, keep_blank_values=True) if name == KEY]
    if len(values) > 1:
        raise BadInput(f"query key {KEY!r} is given twice; give it once")
    return parse_delay(values[0]) if values else 0.0


def at_least(query: str, delay_s: float) -> str:
    """The query string of a request that may see nothing newer than ``delay_s`` ago: with the greater of that and
    what it asks for itself. Every door calls this with its visitor's ``delay_s`` (a grant's; 0 changes
    nothing) before anybody else reads the query. Raises :class:`BadInput`, also where the key is given twice."""
    if delay_s <= 0:
        return query
    wanted = max(delay_s, DELAY_S_MIN, asked(query))
    # By its decoded name: ``%64elay_s`` is the same key to whoever reads the query next.
    rest = [part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) != KEY]
    return "&".join([*rest, f"{KEY}={_whole_ms(wanted):.3f}"])


class Behind:
    """What of a recording is old enough, whatever somebody does to the clock that its times are by.

    Tell it the clock now and then (:meth:`saw`). Where that was set forwards, what was recorded before looks older
    than it is by as much; where it was set back it looks younger, which is safe. Microseconds since 1970.
    """

    def __init__(self, mono: float, wall_us: int) -> None:
        self._mono = mono
        self._wall_us = wall_us
        self._steps: list[tuple[int, int]] = []
        """(the last time by the clock as it was, by how much it was set forwards), oldest first."""

    def saw(self, mono: float, wall_us: int) -> None:
        """The clock says ``wall_us`` at ``mono``."""
        expected_us = self._wall_us + round((mono - self._mono) * 1e6)
        step_us = wall_us - expected_us
        self._mono, self._wall_us = mono, wall_us
        if step_us >= DELAY_STEP_US_MIN:
            self._steps.append((expected_us, step_us))
            del self._steps[:-DELAY_STEPS_MAX]
        elif step_us <= -DELAY_STEP_US_MIN:
            self._was_set_back(-step_us)

    def _was_set_back(self, by_us: int) -> None:
        """What it had been set forwards before is undone by as much: else the past would wait for that to come."""
        while by_us > 0 and self._steps:
            until_us, step_us = self._steps.pop()
            if step_us > by_us:
                self._steps.append((until_us, step_us - by_us))
            by_us -= step_us

    def horizon_us(self, delay_s: float) -> int:
        """The newest time by which something may have been recorded to be ``delay_s`` old now."""
        horizon_us = self._wall_us - round(delay_s * 1e6)
        for until_us, step_us in reversed(self._steps):
            if horizon_us >= until_us + step_us:
                break
            horizon_us = min(horizon_us - step_us, until_us)
        return horizon_us
