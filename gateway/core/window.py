"""What is on its way to one reader: which keys each outstanding datagram carries. Room: core. Pure.

Tokens are consecutive integers, so the window is a deque and costs one pointer per message: the
tuples of keys are shared by all readers of a frame.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

Keys = tuple[int, ...]


class SentWindow:
    """Outstanding messages in sending order, from the oldest whose fate is unknown."""

    __slots__ = ("_acked", "_entries", "_first")

    def __init__(self) -> None:
        self._entries: deque[Keys] = deque()
        self._first = 0
        self._acked: set[int] = set()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def oldest(self) -> int:
        """The token of the oldest entry."""
        return self._first

    @property
    def next_token(self) -> int:
        """The token that the next message has to be sent with."""
        return self._first + len(self._entries)

    def add(self, keys: Keys) -> None:
        """The message with :attr:`next_token` was sent and carries the newest value of ``keys``."""
        self._entries.append(keys)

    def add_all(self, keys: tuple[Keys, ...]) -> int:
        """The same for several messages, under :attr:`next_token` and the tokens after it. Answers how many are outstanding."""
        entries = self._entries
        entries.extend(keys)
        return len(entries)

    def acked(self, token: int, count: int = 1) -> None:
        """It arrived, or so many from it on. Tokens that are unknown or settled already are nothing."""
        if count > 1:
            entries = self._entries
            if token == self._first and count <= len(entries) and not self._acked:
                for _ in range(count):
                    entries.popleft()
                self._first += count
                if entries and not entries[0]:
                    self._advance()
                return
            for one in range(token, token + count):
                self.acked(one)
            return
        at = token - self._first
        if not 0 <= at < len(self._entries):
            return
        # Behind others: noted, and let go when all before it are settled. A deque has no cheap middle.
        if at:
            self._acked.add(token)
            return
        self._entries.popleft()
        self._first += 1
        if self._acked or (self._entries and not self._entries[0]):
            self._advance()

    def lost(self, token: int) -> Keys:
        """It is lost. Answers the keys of which nothing newer is on its way or arrived."""
        at = token - self._first
        if not 0 <= at < len(self._entries) or token in self._acked:
            return ()
        keys = self._entries[at]
        # Empty, not taken out: the places of all behind it are their tokens.
        self._entries[at] = ()
        missing = self._not_carried_after(at, keys) if keys else ()
        self._advance()
        return missing

    def _not_carried_after(self, at: int, keys: Keys) -> Keys:
        later = list(islice(self._entries, at + 1, None))
        # The same tuple is the same keys: nearly always the next frame's, and found without making a set.
        if any(entry is keys for entry in later):
            return ()
        missing = set(keys).difference(*later)
        return tuple(missing) if len(missing) < len(keys) else keys

    def _advance(self) -> None:
        """Let go of settled entries at the old end."""
        entries, acked = self._entries, self._acked
        while entries:
            if entries[0] and self._first not in acked:
                return
            acked.discard(self._first)
            entries.popleft()
            self._first += 1
