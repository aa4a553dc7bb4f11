"""Whose queue is it that stands: a flow's own, to which giving way ends it, or that of others, who never give way? Room: quic.

A download by TCP fills the queue of the bottleneck, and whoever gives way to a queue is left with nothing: of 4.5 KB at 60 Hz beside two
downloads over 20 Mbit/s, 2 % of the frames were shown, 2.6 s old at the median, where TCP showed half of them (docs/PERFORMANCE.md).
Copa (Arun and Balakrishnan, NSDI 2018, section 2.2) and Nimbus ask the same question, and then compete as TCP does. Here a flow only
keeps what it had: it claims the window that it had before the queue came, as much larger as the round trip has become longer.
"""

from __future__ import annotations

import math

VAIN_SHARE = 0.7
"""Of the queue that made a flow give way: if more is left although half of the window or a tenth and more of it is gone, that was in vain.
A queue of its own, and one of flows that all give way, is at most half as long after it."""
VAIN_ROUNDS = 2
VAIN_S = 1.5
"""For so long the queue has to stand: what begins in slow start makes one that is gone by then."""
CLAIM_S = 15.0
"""After so long it gives way again, and sees. All flows of a process do at the same moments, so that a queue of their own, of which each
took the others' part for a stranger's, ends then."""
EASED_ROUNDS, EASED_LEAST = 0xFF, 4
"""The last eight rounds without a queue, and in how many of them the window did not hold a flow back, so that what it had is what its
game needs. Who takes whatever there is has no such claim."""


class Rivals:
    """What one flow knows of the others at its bottleneck. Seconds and bytes."""

    __slots__ = ("_arrived", "_before", "_eased", "_gave_way_at", "_queue_s", "_vain", "claims_since", "low")

    def __init__(self) -> None:
        self._eased = 0
        self._arrived = 0.0
        self.claims_since = 0.0
        """0: it claims nothing."""
        self.low = 0
        """The window that it had come down to before it did."""
        self._forget()

    def _forget(self) -> None:
        self._before = self._vain = 0
        self._queue_s = self._gave_way_at = 0.0

    def no_queue(self, limited: bool, arrived: float = 0.0) -> None:
        """A round without a queue: whether the window held the flow back in it, and the bytes that arrived in it."""
        self._arrived = arrived
        self._eased = (self._eased << 1 | (not limited)) & EASED_ROUNDS
        self.claims_since = 0.0
        self._forget()

    def needed(self) -> float:
        """Bytes a round trip that its game said when no queue stood; 0: it took whatever there was."""
        return self._arrived if self._is_eased else 0.0

    def gives_way(self, now: float, queue_s: float, window: int, limited: bool) -> bool:
        """A queue of that length stands, and the flow is to give way. False: it was in vain before, and is not done again; what it
        :meth:`had` is its own from when ``claims_since`` is set. ``limited``: whether the window holds the flow back since it gave way last."""
        if not self._before:
            self._before, self._queue_s, self._gave_way_at = window, queue_s, now
            return True
        if queue_s <= VAIN_SHARE * self._queue_s:
            self._vain = 0
        elif limited:
            self._vain += 1
        if self._vain < VAIN_ROUNDS or not self.had():
            self._queue_s = queue_s
            return True
        if now - self._gave_way_at >= VAIN_S:
            self.claims_since, self.low = now, window
        return False

    def tells_nothing(self) -> None:
        """It cannot give way as far as it should: that the queue stays is no wonder."""
        self._queue_s = math.inf

    def had(self) -> int:
        """The window that it had before the queue came, if its game needs it. 0: there is no queue, or it took whatever there was."""
        return self._before if self._is_eased else 0

    @property
    def _is_eased(self) -> bool:
        return self._eased.bit_count() >= EASED_LEAST

    def ends(self, now: float, queue_s: float) -> bool:
        """Whether a claim is over, for once: the flow is to have the ``low`` window again, and sees what that does to a queue of that
        length."""
        if now // CLAIM_S == self.claims_since // CLAIM_S:
            return False
        self.claims_since = 0.0
        self._vain, self._queue_s, self._gave_way_at = 0, queue_s, now
        return True
