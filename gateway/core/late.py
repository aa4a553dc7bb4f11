"""What changed while some readers could not take frames as they came. Room: core. Pure.

A reader that is behind does not look at each message: a busy zone has thousands a second, and a
reader on a budget gets a few. The world writes each message's keys here once, for all of them,
and a reader takes everything since its last turn in one go.
"""

from __future__ import annotations


class LateLog:
    """Marks of numbered messages, since the last :meth:`clear`."""

    __slots__ = ("_entries", "_merged", "_merged_count", "number")

    def __init__(self) -> None:
        self.number = 0
        """How many messages have been through: offered to every reader, and logged if need be."""
        self._entries: list[tuple[int, dict[int, None]]] = []
        self._merged: dict[int, None] = {}
        self._merged_count = 0

    def passed(self, marks: dict[int, None] | None) -> None:
        """One more message has been offered to all; with its keys, if it did not go to everybody."""
        self.number += 1
        if marks:
            self._entries.append((self.number, marks))

    def since(self, number: int) -> dict[int, None]:
        """The keys of all logged messages after ``number``, in order; the dict may be shared."""
        entries = self._entries
        if not entries or entries[-1][0] <= number:
            return {}
        if number < entries[0][0]:
            return self._all()
        found: dict[int, None] = {}
        for at, marks in entries:
            if at > number:
                found.update(marks)
        return found

    def _all(self) -> dict[int, None]:
        if self._merged_count < len(self._entries):
            merged = dict(self._merged)
            for _, marks in self._entries[self._merged_count :]:
                merged.update(marks)
            self._merged, self._merged_count = merged, len(self._entries)
        return self._merged

    def clear(self) -> None:
        """Everybody has had their turn."""
        self._entries.clear()
        self._merged, self._merged_count = {}, 0

    def __len__(self) -> int:
        return len(self._entries)
