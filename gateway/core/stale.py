"""The records that one reader still has to get, most urgent first. Room: core. Pure.

This is all that waits for a reader: a set of keys, never frames. Among keys of equal weight the
one that has waited longest goes first, so that nobody starves and none waits for more than all
the others. Weights are rounded to powers of two; each class of weight gets its share of what is
sent by (weight × keys waiting), and within the class the oldest goes first.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

WEIGHT_EXPONENT_MAX: Final = 6
"""Weights count from 1/64 to 64: thirteen classes at most."""


def weight_class(weight: float) -> int:
    """The power of two that ``weight`` (above 0) is rounded to, as its exponent."""
    return max(-WEIGHT_EXPONENT_MAX, min(WEIGHT_EXPONENT_MAX, round(math.log2(weight))))


class _Queue:
    """The waiting keys of one class of weight, oldest first, and how far it has been served."""

    __slots__ = ("keys", "served", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.keys: dict[int, None] = {}
        self.served = 0.0


class StaleSet:
    """Keys waiting for one reader; adding one that waits already leaves it in its place."""

    __slots__ = ("_common", "_placed", "_queues", "keys")

    def __init__(self, weights: Mapping[int, float] | None = None) -> None:
        self.keys: dict[int, None]
        """The keys of weight 1; all of them where no weights are given."""
        self._placed: dict[int, _Queue] = {}
        self._queues: list[_Queue] = []
        self._place(weights or {})

    def _place(self, weights: Mapping[int, float]) -> None:
        queues = {0: _Queue(1.0)}
        self._placed = {}
        for key, weight in weights.items():
            exponent = weight_class(weight)
            if exponent:
                self._placed[key] = queues.setdefault(exponent, _Queue(2.0**exponent))
        self._queues = list(queues.values())
        self._common = queues[0]
        self.keys = self._common.keys

    def set_weights(self, weights: Mapping[int, float]) -> None:
        """Replace the weights; what waits goes on waiting."""
        waiting = list(self)
        self._place(weights)
        self.add(dict.fromkeys(waiting))

    def __len__(self) -> int:
        if len(self._queues) == 1:
            return len(self.keys)
        return sum([len(queue.keys) for queue in self._queues])

    def __iter__(self) -> Iterator[int]:
        for queue in self._queues:
            yield from queue.keys

    def __contains__(self, key: int) -> bool:
        return any(key in queue.keys for queue in self._queues)

    def add(self, marks: dict[int, None]) -> None:
        """Let these keys wait. ``marks`` is a dict for its order and speed; it may be shared."""
        self.keys.update(marks)
        if self._placed:
            for key in self._placed.keys() & marks.keys():
                if key in self.keys:
                    del self.keys[key]
                self._placed[key].keys[key] = None

    def discard(self, keys: Iterable[int]) -> None:
        """These wait no longer."""
        common, placed = self.keys, self._placed
        for key in keys:
            common.pop(key, None)
            if placed and key in placed:
                placed[key].keys.pop(key, None)

    def clear(self) -> None:
        for queue in self._queues:
            queue.keys.clear()

    def urgent(self) -> Iterator[int]:
        """The waiting keys, most urgent first. Don't change the set meanwhile; tell :meth:`served`
        which of them went out."""
        busy = [queue for queue in self._queues if queue.keys]
        if len(busy) == 1:
            return iter(busy[0].keys)
        return _interleave(busy)

    def served(self, keys: Collection[int]) -> None:
        """These went out: they wait no longer, and their classes have had that much of their share."""
        if len(self._queues) > 1:
            self._account(keys)
        self.discard(keys)

    def _account(self, keys: Collection[int]) -> None:
        placed, common = self._placed, self._common
        for key in keys:
            queue = placed.get(key, common)
            queue.served += 1.0 / (queue.weight * max(1, len(queue.keys)))
        least = min((queue.served for queue in self._queues if queue.keys), default=0.0)
        for queue in self._queues:
            queue.served = max(0.0, queue.served - least)


def _interleave(queues: list[_Queue]) -> Iterator[int]:
    """The class that is furthest behind its share gives the next key."""
    lanes = []
    for queue in queues:
        step = 1.0 / (queue.weight * len(queue.keys))
        lanes.append([queue.served + step, step, iter(queue.keys)])
    while lanes:
        lane = min(lanes, key=lambda one: one[0])  # type: ignore[arg-type,return-value]
        key = next(lane[2], None)  # type: ignore[call-overload]
        if key is None:
            lanes.remove(lane)
        else:
            lane[0] += lane[1]  # type: ignore[operator]
            yield key
