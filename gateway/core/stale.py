"""The records that one reader still has to get, most urgent first. Room: core. Pure.

This is all that waits for a reader: a set of keys, never frames. Among keys of equal weight the
one that has waited longest goes first, so that nobody starves and none waits for more than all
the others; what was sent and lost goes before those, for it has waited since before they did. Weights
are rounded to powers of two; each class of weight gets its share of what is sent by (weight × keys
waiting), and within the class the oldest goes first.

A key is its slot (:mod:`gateway.core.slots`): four bytes in its queue and one bit in the set of all
that wait. So noting what changed costs by what the reader was *sent* since the last time, not by what
waits. What is noted at once is queued in the order of slots: that in which the world came to know them.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence

from gateway.core.slots import Slots, bits_of, numbers_of
from gateway.limits import STALE_DROPPED_MIN, STALE_MOVED_MAX, WEIGHT_EXPONENT_MAX


def weight_class(weight: float) -> int:
    """The power of two that ``weight`` (above 0) is rounded to, as its exponent."""
    return max(-WEIGHT_EXPONENT_MAX, min(WEIGHT_EXPONENT_MAX, round(math.log2(weight))))


class _Queue:
    """The waiting slots of one class of weight, oldest first, and how far it has been served."""

    __slots__ = ("head", "served", "slots", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.slots = array("I")
        self.head = 0
        """How many at the front were served."""
        self.served = 0.0

    def __len__(self) -> int:
        return len(self.slots) - self.head

    def first(self, count: int) -> array[int]:
        """The oldest, ``count`` at most."""
        return self.slots[self.head : self.head + count]

    def put_first(self, numbers: list[int]) -> None:
        """These go before all others, wherever they were until now."""
        rest = self.slots[self.head :]
        # Moving means making the queue anew; of a long one the lost keys that wait already stay where they are.
        if len(rest) <= STALE_MOVED_MAX:
            moved = set(numbers)
            rest = array("I", [number for number in rest if number not in moved])
            self.slots, self.head = array("I", numbers) + rest, 0
        else:
            waiting = set(rest)
            self.slots.extend([number for number in numbers if number not in waiting])

    def drop(self, count: int) -> array[int]:
        """The oldest ``count`` wait no longer; answers them."""
        dropped = self.first(count)
        self.head += count
        # The served front is cut off when it is half of all: each slot is moved about once, where cutting each time
        # would move all that waits.
        if self.head >= STALE_DROPPED_MIN and self.head * 2 >= len(self.slots):
            del self.slots[: self.head]
            self.head = 0
        return dropped


class StaleSet:
    """Keys waiting for one reader; adding one that waits already leaves it in its place."""

    __slots__ = ("_bits", "_common", "_generation", "_keys", "_placed", "_queues", "_slots")

    def __init__(self, slots: Slots, weights: Mapping[int, float] | None = None) -> None:
        self._slots = slots
        self._generation = slots.generation
        self._keys = slots.keys
        self._bits = 0
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

    @property
    def weights(self) -> dict[int, float]:
        """key → weight, as rounded, of those whose weight is not 1."""
        return {key: queue.weight for key, queue in self._placed.items()}

    def set_weights(self, weights: Mapping[int, float]) -> None:
        """Replace the weights; what waits goes on waiting."""
        waiting = [number for queue in self._queues for number in queue.first(len(queue))]
        self._place(weights)
        self._enter(waiting)

    def __len__(self) -> int:
        if len(self._queues) == 1:
            return len(self._common)
        return sum([len(queue) for queue in self._queues])

    def __iter__(self) -> Iterator[int]:
        keys = self._keys
        for queue in self._queues:
            for number in queue.first(len(queue)):
                yield keys[number]

    def __contains__(self, key: int) -> bool:
        return key in iter(self)

    def __bool__(self) -> bool:
        return self._bits != 0

    def add(self, keys: tuple[int, ...]) -> None:
        """Let these keys wait."""
        self._slots.tidy()
        self.add_bits(self._slots.bits(keys))

    def add_bits(self, bits: int) -> None:
        """Let this set of slots, of the present generation, wait."""
        if self._generation != self._slots.generation:
            self._renumber()
        new = bits & ~self._bits
        if new:
            self._bits |= new
            self._enter(numbers_of(new))

    def add_first(self, keys: tuple[int, ...]) -> None:
        """Let these wait before all others of their weight: they went out and were lost, so they have
        waited since before those began to."""
        self._slots.tidy()
        self._renumber()
        self._bits |= self._slots.bits(keys)
        number, placed, common = self._slots.number, self._placed, self._common
        by_queue: dict[int, list[int]] = {}
        for key in dict.fromkeys(keys):
            by_queue.setdefault(self._queues.index(placed.get(key, common)), []).append(number(key))
        for at, numbers in by_queue.items():
            self._queues[at].put_first(numbers)

    def _enter(self, numbers: list[int]) -> None:
        if not self._placed:
            self._common.slots.extend(numbers)
            return
        keys, placed, common = self._keys, self._placed, self._common
        for number in numbers:
            placed.get(keys[number], common).slots.append(number)

    def _renumber(self) -> None:
        """The slots have begun a new generation: what waits gets its new ones, in its order."""
        if self._generation == self._slots.generation:
            return
        old, number = self._keys, self._slots.number
        self._generation, self._keys = self._slots.generation, self._slots.keys
        self._bits = 0
        for queue in self._queues:
            numbers = [number(old[was]) for was in queue.first(len(queue))]
            queue.slots, queue.head = array("I", numbers), 0
            self._bits |= bits_of(numbers)

    def clear(self) -> None:
        self._bits = 0
        for queue in self._queues:
            queue.slots, queue.head = array("I"), 0

    def urgent(self, count: int) -> Iterator[int]:
        """The waiting keys, most urgent first, up to about ``count`` of them. Don't change the set
        meanwhile; tell :meth:`served` how far they went out."""
        busy = [queue for queue in self._queues if len(queue)]
        lanes = [(queue, map(self._keys.__getitem__, queue.first(count))) for queue in busy]
        return lanes[0][1] if len(lanes) == 1 else _interleave(lanes)

    def served(self, keys: Collection[int]) -> None:
        """These, the first of :meth:`urgent`, went out: they wait no longer, and their classes have had
        that much of their share."""
        gone = self._common.drop(len(keys)) if len(self._queues) == 1 else self._drop_each(keys)
        # XOR: all of them are set, and one operation on long integers takes them out.
        self._bits ^= bits_of(gone)

    def _drop_each(self, keys: Collection[int]) -> array[int]:
        placed, common, gone = self._placed, self._common, array("I")
        for key in keys:
            queue = placed.get(key, common)
            # Its share is by weight times keys that wait: each key of a class then waits as long as the class's
            # weight says, however many there are.
            queue.served += 1.0 / (queue.weight * len(queue))
            gone.extend(queue.drop(1))
        # Where nothing waits any more nobody is owed anything: else who came often would later wait for who came rarely.
        least = min((queue.served for queue in self._queues if len(queue)), default=math.inf)
        for queue in self._queues:
            queue.served = max(0.0, queue.served - least)
        return gone


def _interleave(queues: Sequence[tuple[_Queue, Iterator[int]]]) -> Iterator[int]:
    """The class that is furthest behind its share gives the next key."""
    lanes = []
    for queue, keys in queues:
        step = 1.0 / (queue.weight * len(queue))
        lanes.append([queue.served + step, step, keys])
    while lanes:
        lane = min(lanes, key=lambda one: one[0])  # type: ignore[arg-type,return-value]  # a list: changed in place
        # Ignored: a lane is a list of two numbers and an iterator, told apart by their places.
        key = next(lane[2], None)  # type: ignore[call-overload]
        if key is None:
            lanes.remove(lane)
        else:
            lane[0] += lane[1]  # type: ignore[operator]
            yield key
