"""A timer wheel: one timer of the loop for all connections of an endpoint. Room: quic.

Connections move their deadlines with nearly every packet, mostly later. So an entry is only a
promise to look again: when its slot comes up the connection is asked for its true deadline, and
put back if that lies ahead. Slots are a millisecond wide, which is as fine as event loops wait.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Protocol

SLOTS_PER_SECOND = 1_000


class Timed(Protocol):
    """What can stand in the wheel. ``wheel_slot`` belongs to the wheel; 0: not in it."""

    wheel_slot: int


class TimerWheel:
    """Deadlines in seconds of the caller's clock."""

    def __init__(self) -> None:
        self._slots: dict[int, list[Timed]] = {}
        self._order: list[int] = []

    def add(self, item: Timed, deadline: float) -> bool:
        """Look at ``item`` no later than ``deadline`` (to the next millisecond). True: it is the
        earliest of all now, so the loop's timer must be set again."""
        slot = math.ceil(deadline * SLOTS_PER_SECOND)
        if 0 < item.wheel_slot <= slot:
            return False
        item.wheel_slot = slot
        bucket = self._slots.get(slot)
        if bucket is not None:
            bucket.append(item)
            return False
        self._slots[slot] = [item]
        heapq.heappush(self._order, slot)
        return self._order[0] == slot

    def next_deadline(self) -> float | None:
        """When to call :meth:`expire` next, or None."""
        return self._order[0] / SLOTS_PER_SECOND if self._order else None

    def expire(self, now: float, look: Callable[[Timed], None]) -> None:
        """Call ``look`` once for each item whose slot has come; it may add the item again."""
        current = math.floor(now * SLOTS_PER_SECOND)
        while self._order and self._order[0] <= current:
            slot = heapq.heappop(self._order)
            for item in self._slots.pop(slot):
                if item.wheel_slot == slot:
                    item.wheel_slot = 0
                    look(item)

    def remove(self, item: Timed) -> None:
        """Forget an item; its slot is cleaned when it comes up."""
        item.wheel_slot = 0
