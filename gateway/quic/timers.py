"""A timer wheel: one timer of the loop for all connections of an endpoint. Room: quic.

Connections move their deadlines with nearly every packet, mostly later. So an entry is only a
promise to look again: when its slot comes up the connection is asked for its true deadline, and
put back if that lies ahead. Slots are a millisecond wide, which is as fine as event loops wait.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

SLOTS_PER_SECOND = 1_000


class Slotted(Protocol):
    """``wheel_slot``: 0 where it does not stand in the wheel."""

    wheel_slot: int


T = TypeVar("T", bound=Slotted)


class Timed(Slotted, Protocol[T]):
    """What can stand in the wheel. Both belong to the wheel: ``wheel_slot``, 0 where it does not stand there, and
    ``wheel_entry``, a list of the item alone, which slots hold in its place: emptied, none of them holds it any more."""

    wheel_entry: list[T]


class TimerWheel(Generic[T]):
    """Deadlines in seconds of the caller's clock."""

    def __init__(self) -> None:
        self._slots: dict[int, list[list[T]]] = {}
        self._order: list[int] = []

    def add(self, item: Timed[T], deadline: float) -> bool:
        """Look at ``item`` no later than ``deadline`` (to the next millisecond). True: it is the
        earliest of all now, so the loop's timer must be set again."""
        slot = math.ceil(deadline * SLOTS_PER_SECOND)
        if 0 < item.wheel_slot <= slot:
            return False
        item.wheel_slot = slot
        bucket = self._slots.get(slot)
        if bucket is not None:
            # Where it stood before it is left standing: taking it out would be a search, and wheel_slot tells that
            # the old entry is void.
            bucket.append(item.wheel_entry)
            return False
        self._slots[slot] = [item.wheel_entry]
        heapq.heappush(self._order, slot)
        return self._order[0] == slot

    def next_deadline(self) -> float | None:
        """When to call :meth:`expire` next, or None."""
        return self._order[0] / SLOTS_PER_SECOND if self._order else None

    def expire(self, now: float, look: Callable[[T], None]) -> None:
        """Call ``look`` once for each item whose slot has come; it may add the item again, which then waits for the next
        call even where its new slot has come, too: a timer that fires early must not look for ever."""
        current = math.floor(now * SLOTS_PER_SECOND)
        due = []
        while self._order and self._order[0] <= current:
            slot = heapq.heappop(self._order)
            due.append((slot, self._slots.pop(slot)))
        for slot, entries in due:
            for entry in entries:
                for item in entry:
                    if item.wheel_slot == slot:
                        item.wheel_slot = 0
                        look(item)

    def remove(self, item: Timed[T]) -> None:
        """Forget an item for good: it is not held until its slots come up, the last of which may be an idle time-out
        away."""
        item.wheel_slot = 0
        item.wheel_entry.clear()
