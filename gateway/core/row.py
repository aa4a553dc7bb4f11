"""How much goes to every reader as datagrams in a row, however it came. Room: core. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.bundle import Bundle
from gateway.core.outgoing import Outgoing
from gateway.limits import PIECES_MAX, READER_DATAGRAMS_MAX, READER_ROW_S, ROW_DATAGRAM_BYTES


class Row:
    """Counts what was fanned out lately. A frame whose publisher does not tell its parts, and frames that were held up and come
    at once, are more than a reader's queue holds though each message that comes is small. Frames of one datagram do not count: each of them is
    made up for by the next."""

    __slots__ = ("_began_at", "_count", "_datagrams_max", "_of_tick", "_tick")

    def __init__(self, datagrams_max: int = READER_DATAGRAMS_MAX) -> None:
        self._datagrams_max = datagrams_max
        self._began_at = float("-inf")
        self._count = self._of_tick = self._tick = 0

    def bundle(self, outs: Sequence[Outgoing], mono: float) -> Bundle:
        """Messages that go to everybody now. What is too much is not counted: it goes by a stream."""
        if mono - self._began_at >= READER_ROW_S:
            self._began_at, self._count = mono, 0
        count = of_tick = 0
        for out in outs:
            pieces = -(-len(out.message) // ROW_DATAGRAM_BYTES)
            # A frame that is one datagram is made up for by the next one: only what belongs together is lost
            # together.
            count += pieces if pieces > 1 or out.parts != 1 else 0
            if not out.parts:
                if out.tick != self._tick:
                    self._tick, self._of_tick, of_tick = out.tick, 0, 0
                of_tick += pieces
        if self._of_tick + of_tick > PIECES_MAX:
            return Bundle(outs, is_large=True)
        if self._count + count > self._datagrams_max:
            return Bundle(outs, row=(self._count, count))
        self._count += count
        self._of_tick += of_tick
        return Bundle(outs)
