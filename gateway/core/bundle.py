"""What came in together and goes out together: the messages of one moment for every reader. Room: core. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.outgoing import Outgoing, Piece
from gateway.limits import BURST_SIZES_CACHED_MAX, PIECES_MAX
from gateway.wire.parity import encode_parity


class Burst:
    """Messages that go to a reader in one call, each in a datagram. All readers share it.

    ``messages`` and ``keys`` belong together one by one; ``largest`` is the longest message's size in bytes.
    """

    __slots__ = ("_parity", "count", "framings", "keys", "largest", "messages", "size_bytes")

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.messages = tuple([message for message, _ in pieces])
        self.keys = tuple([keys for _, keys in pieces])
        self.count = len(pieces)
        self.largest = max(map(len, self.messages))
        self.size_bytes = sum(map(len, self.messages))
        self._parity: Burst | bool = False
        self.framings: dict[bytes, object] = {}
        """What a transport made of the messages for one reader, for the next one: by what it depends on."""

    def parity(self) -> Burst | None:
        """The parity of its messages, as a burst of one that carries no keys; None where they are not one whole frame."""
        if self._parity is False:
            message = encode_parity(self.messages)
            self._parity = True if message is None else Burst([(message, ())])
        return None if isinstance(self._parity, bool) else self._parity


class Bundle:
    """The messages of one moment, oldest first, and the bursts that readers get of them."""

    __slots__ = ("_cut", "_whole", "is_large", "outs", "row")

    def __init__(
        self, outs: Sequence[Outgoing], *, is_large: bool = False, row: tuple[int, int] | None = None
    ) -> None:
        self.outs = outs
        # Parts are what the publisher says of its frame, whether or not they all came in one turn; several small
        # frames of different ticks are no large one.
        self.is_large = (
            is_large
            or outs[0].parts > PIECES_MAX
            or (
                len(outs) > PIECES_MAX
                and (outs[0].tick == outs[-1].tick or max(o.parts for o in outs) > PIECES_MAX)
            )
        )
        """Whether it belongs to a frame that came as more datagrams than a frame should go out as."""
        self.row = row
        """How many datagrams went right before it, and how many it is, where it is too much after them; else None."""
        self._whole: list[Burst | None] = [None, None]
        self._cut: dict[tuple[bool, int], Burst | None] = {}

    def whole(self, zstd: bool) -> Burst:
        """The messages as they came, compressed or not."""
        burst = self._whole[zstd]
        if burst is None:
            burst = self._whole[zstd] = Burst(
                [(out.packed if zstd else out.message, out.keys) for out in self.outs]
            )
        return burst

    def cut(self, zstd: bool, message_bytes_max: int) -> Burst | None:
        """The same in messages of at most so many bytes; None where a stream is the better way for one of them."""
        wanted = (zstd, message_bytes_max)
        if wanted not in self._cut:
            if len(self._cut) >= BURST_SIZES_CACHED_MAX:
                # Readers ask for few sizes: those of their paths' datagrams. Whoever makes up many has them cut
                # anew.
                self._cut.clear()
            self._cut[wanted] = self._make(zstd, message_bytes_max)
        return self._cut[wanted]

    def _make(self, zstd: bool, message_bytes_max: int) -> Burst | None:
        pieces: list[Piece] = []
        for out in self.outs:
            message = out.packed if zstd else out.message
            if len(message) <= message_bytes_max:
                pieces.append((message, out.keys))
                continue
            some = out.datagrams(message_bytes_max)
            if some is None:
                return None
            pieces += some
        return Burst(pieces)


def newest_of(outs: Sequence[Outgoing]) -> Sequence[Outgoing]:
    """Without those that a newer one replaces key for key: where several ticks came together, because
    whoever reads them was late, nobody needs the earlier ones. ``outs``: at least one, oldest first."""
    if outs[0].tick == outs[-1].tick:
        return outs
    # A dict keeps the place of the first of its keys and the value of the last: the newest, in the order in which
    # keys were first named.
    return list({out.keys: out for out in outs}.values())
