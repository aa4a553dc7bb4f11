"""What changed while some readers could not take frames as they came. Room: core. Pure.

A reader that is behind does not look at each message: a busy zone has thousands a second, and a
reader on a budget gets a few. The world writes each message's keys here once, for all of them,
and a reader takes everything since its last turn in one go, as one set of slots.
"""

from __future__ import annotations

from gateway.core.slots import Slots, numbers_of
from gateway.limits import LATE_MESSAGES_MAX, LATE_SETS_MAX


class LateLog:
    """Sets of keys of numbered messages, until every reader that is behind has taken them."""

    __slots__ = ("_asked", "_entries", "_generation", "_keys", "_open", "number", "slots")

    def __init__(self, slots: Slots) -> None:
        self.number = 0
        """How many messages have been through: offered to every reader, and logged if need be."""
        self.slots = slots
        self._generation = slots.generation
        self._keys = slots.keys
        self._open: list[tuple[int, ...]] = []
        """Keys of the messages since somebody last looked."""
        self._entries: list[tuple[int, int]] = []
        """(number of the last message in it, set of slots), oldest first."""
        self._asked: dict[int, int] = {}

    def passed(self, keys: tuple[int, ...]) -> None:
        """One more message has been offered to all, and did not go to everybody."""
        if keys:
            # Keys of single messages are put off until somebody looks: most often nobody does before they are
            # replaced.
            if len(self._open) >= LATE_MESSAGES_MAX:
                self._close()
            self._open.append(keys)
        self.number += 1

    def passed_all(self, count: int) -> None:
        """So many messages went to everybody."""
        self.number += count

    def since(self, number: int) -> int:
        """The slots of all logged messages after ``number``, and perhaps of some before it."""
        if self._open:
            self._close()
        elif self._generation != self.slots.generation:
            self._renumber()
        bits = self._asked.get(number)
        if bits is None:
            bits = 0
            for last, these in reversed(self._entries):
                # Newest first: a reader that had its turn lately looks at one or two sets of perhaps hundreds.
                if last <= number:
                    break
                bits |= these
            self._asked[number] = bits
        return bits

    def forget(self, number: int) -> None:
        """Everybody has taken what is up to ``number``."""
        entries = self._entries
        if entries and entries[0][0] <= number:
            self._entries = [entry for entry in entries if entry[0] > number]
            self._asked.clear()
        if not self._entries and number >= self.number:
            self._open.clear()

    def _close(self) -> None:
        """Make one set of the messages since the last one was made."""
        if self._generation != self.slots.generation:
            self._renumber()
        bits = 0
        for keys in self._open:
            bits |= self.slots.bits(keys)
        self._open.clear()
        self._asked.clear()
        self._entries.append((self.number, bits))
        if len(self._entries) > LATE_SETS_MAX:
            (_, oldest), (last, next_oldest) = self._entries[:2]
            # Merged, not dropped: a reader that was far behind waits for a few records more than it has to, and for
            # none less.
            self._entries[:2] = [(last, oldest | next_oldest)]

    def _renumber(self) -> None:
        old = self._keys
        self._generation, self._keys = self.slots.generation, self.slots.keys
        self._asked.clear()
        self._entries = [
            (last, self.slots.bits(tuple([old[was] for was in numbers_of(bits)])))
            for last, bits in self._entries
        ]

    def __len__(self) -> int:
        return len(self._entries) + bool(self._open)
