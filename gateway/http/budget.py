"""How many bytes peers may make the gateway hold, all together. Room: http.

:class:`ByteBudget` is for what comes in and is not whole yet; :class:`Backlog` for answers that
their readers have not taken: there, whoever has not moved for longest gives way.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from gateway import limits
from gateway.errors import GatewayError

UNFINISHED_FLAG = "--unfinished-bytes-max"


class Crowded(GatewayError):
    """More bodies are under way than the gateway holds at a time."""

    code = "crowded"
    status = 503
    title = "Too many bodies under way"
    retry = True


class ByteBudget:
    """Bytes of unfinished bodies and messages, of all peers together."""

    def __init__(self, bytes_max: int = limits.HTTP_UNFINISHED_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.held = 0
        self.refused = 0

    def lease(self) -> Lease:
        """What one body or message takes of it."""
        return Lease(self)

    def room_for(self, size: int) -> int:
        """How many bytes may be held in all where a holder has ``size``: small ones find room for longer."""
        return self.bytes_max if size > limits.HTTP_UNFINISHED_SMALL_BYTES else 2 * self.bytes_max


class Lease:
    """One holder's part."""

    __slots__ = ("_budget", "_taken")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._taken = 0

    def hold(self, size: int) -> None:
        """The holder has ``size`` bytes now. Raises :class:`Crowded` if that is more than there is room for."""
        more = size - self._taken
        budget = self._budget
        # Less is always taken: whoever gives back must not be refused.
        if more > 0 and budget.held + more > budget.room_for(size):
            budget.refused += 1
            raise Crowded(
                f"unfinished bodies and messages hold {budget.held} bytes of at most {budget.bytes_max}; "
                f"try again when they are through, send smaller ones, or raise {UNFINISHED_FLAG}",
                bound=UNFINISHED_FLAG,
                limit=budget.bytes_max,
                limit_bytes=budget.bytes_max,
            )
        budget.held += more
        self._taken = size

    def release(self) -> None:
        """Nothing is held any more. Idempotent."""
        self._budget.held -= self._taken
        self._taken = 0


class BudgetHolder(Protocol):
    """Whoever holds bytes of an answer."""

    def shed(self) -> None:
        """Give the answer up, and :meth:`Backlog.set` to 0."""


class Backlog:
    """Bytes of answers that their readers have not taken yet. Over the bound, the answer that has not moved
    for longest is given up: its reader has the least use for it. One that moves all the time is so only over twice
    the bound: it may be as fast as its reader's link."""

    def __init__(
        self, bytes_max: int = limits.HTTP_UNTAKEN_BYTES_MAX, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.bytes_max = bytes_max
        self._clock = clock
        self.held = 0
        self.shed = 0
        self._holders: OrderedDict[BudgetHolder, tuple[int, float]] = OrderedDict()
        """What each holds, and when it moved last; who has not moved for longest comes first."""

    @property
    def has_room(self) -> bool:
        """Whether whoever holds something already may ask for more."""
        return self.held < self.bytes_max // 2

    def set(self, holder: BudgetHolder, size: int) -> None:
        """``holder`` has moved, and holds ``size`` bytes now."""
        self.held += size - self._holders.pop(holder, (0, 0.0))[0]
        now = self._clock()
        if size:
            self._holders[holder] = size, now
        # Never the only one: it would be given up for nobody.
        while self.held > self.bytes_max and len(self._holders) > 1:
            stuck, (held, moved_at) = next(iter(self._holders.items()))
            if now - moved_at < limits.HTTP_UNTAKEN_S_MIN and self.held <= 2 * self.bytes_max:
                return
            # Before shed(), which calls set(): there it must not be counted off a second time.
            del self._holders[stuck]
            self.held -= held
            self.shed += 1
            stuck.shed()
