"""A link for sessions that send streams one after the other (replays, entities): no faster than their grant. Room: runtime.

Such a session waits until a stream is done before it sends the next; here one is done when it has arrived *and* its
bytes have been earned. Live readers have budgets of their own, which choose what to send; this only makes wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from gateway.core.ports import Link


class PacedLink:
    """``kbps``: 1,000 bits a second, asked for anew with each stream. All else is the link's own."""

    def __init__(
        self, link: Link, kbps: Callable[[], int | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._link = link
        self._kbps = kbps
        self._clock = clock
        self._earned_at = clock()

    def __getattr__(self, name: str) -> object:
        return getattr(self._link, name)

    def send_stream(self, messages: Sequence[bytes]) -> int:
        """As :meth:`Link.send_stream`; its bytes are earned from the end of the last on."""
        kbps = self._kbps()
        if kbps is not None:
            # From now at the earliest: a session that was silent has saved nothing up.
            self._earned_at = max(self._earned_at, self._clock()) + sum(map(len, messages)) / (kbps * 125.0)
        return self._link.send_stream(messages)

    def stream_done(self, handle: int) -> bool:
        """As :meth:`Link.stream_done`, and not before its bytes are earned."""
        return self._clock() >= self._earned_at and self._link.stream_done(handle)
