"""What answers hold until their peers acknowledge them: bounded for a connection, and for all together. Room: quic.

A peer opens its windows as it likes, and keeps what it asked for in this process for as long as it likes. Small
answers are handed to their streams whole, so before another one is made it is looked at what is there already.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from gateway import limits
from gateway.errors import Overloaded, TooMany
from gateway.limits import H3_UNSENT_FEW_STREAMS
from gateway.quic.h3.codes import ErrorCode

if TYPE_CHECKING:
    from gateway.quic.peer import Peer


def send_buffer_bytes(window_bytes: float, writers: int) -> int:
    """How many unacknowledged bytes of one stream its writer need not wait for, when so many writers wait: two congestion
    windows between them, so that the window can double in the next round trip."""
    wanted = min(2 * int(window_bytes), limits.H3_SEND_BUFFER_BYTES_MAX)
    return max(wanted // max(writers, 1), limits.H3_SEND_BUFFER_BYTES_MIN)


class Unsent:
    """Counts roughly with every answer, and exactly when the rough count reaches the bound."""

    def __init__(self) -> None:
        self._at_most = 0
        self._progress: WeakKeyDictionary[Peer, tuple[int, float]] = WeakKeyDictionary()
        """Of peers that held much: what they had acknowledged, and since when it was no more."""

    def add(self, size: int) -> None:
        """An answer was handed to its stream."""
        self._at_most += size

    def check(self, peer: Peer, peers: Iterable[Peer], now: float) -> None:
        """``peer`` asks for something. Raises :class:`TooMany` where it holds too much itself, :class:`Overloaded`
        where it holds some and all together hold too much."""
        quic = peer.quic
        own = quic.streams.unsent_total() if len(quic.streams.by_number) > H3_UNSENT_FEW_STREAMS else 0
        if own > limits.H3_UNSENT_BYTES_MAX:
            raise TooMany(
                f"{own} bytes of answers on this connection are not acknowledged, and the bound is "
                f"{limits.H3_UNSENT_BYTES_MAX}; take them first",
                bound="answers_unsent",
                limit=limits.H3_UNSENT_BYTES_MAX,
            )
        # The rough count only grows, so it is too large rather than too small; walking all peers for each request
        # would be a step a peer.
        if self._at_most > limits.H3_UNSENT_ALL_BYTES_MAX:
            self._at_most = self._recount(peers, now)
            held = quic.streams.unsent_total()
            if self._at_most > limits.H3_UNSENT_ALL_BYTES_MAX and held > limits.ANSWER_PIECE_BYTES:
                raise Overloaded(
                    f"{self._at_most} bytes of answers are not acknowledged by those who asked for them, {held} of them on "
                    f"this connection, and the bound for all together is {limits.H3_UNSENT_ALL_BYTES_MAX}; take those first",
                    bound="answers_unsent",
                    limit=limits.H3_UNSENT_ALL_BYTES_MAX,
                )

    def _recount(self, peers: Iterable[Peer], now: float) -> int:
        """What is there now. A connection without a session that holds much and takes nothing is closed."""
        total, before, self._progress = 0, self._progress, WeakKeyDictionary()
        for peer in list(peers):
            held = peer.quic.streams.unsent_total()
            total += held
            if held <= limits.ANSWER_PIECE_BYTES or peer.sessions:
                continue
            acked = peer.quic.streams.acked_total()
            seen, since = before.get(peer, (acked, now))
            if seen != acked:
                since = now
            elif now - since > limits.ANSWER_STALL_S_MAX:
                peer.hub.counters["answers_stalled"] += 1
                peer.close(ErrorCode.H3_EXCESSIVE_LOAD, "answers_unsent")
                continue
            self._progress[peer] = (acked, since)
        return total
