"""What leaves for one reader: by datagram or stream, within room and budget, remembered until its fate is known.

Room: core. Pure. :class:`gateway.core.reader.Reader` decides what goes; this is how it goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.core.budget import Budget
from gateway.core.ports import Link, Refusal, Sent
from gateway.core.state import WorldState
from gateway.core.streams import OpenStreams
from gateway.core.window import Keys, SentWindow
from gateway.limits import DATAGRAM_SAFE_BYTES, OUTSTANDING_MAX, READER_DATAGRAMS_MAX

_UNLIMITED: Final = float("inf")
_ANY_NUMBER: Final = 1 << 30


class Outlet:
    """One link, what is on its way over it, and the budget of its reader."""

    __slots__ = (
        *("_given_up", "blocked_since", "budget", "datagrams_max", "link", "lossy", "messages", "streams"),
        *("takes_datagrams", "window"),
    )

    def __init__(
        self,
        state: WorldState,
        link: Link,
        budget: Budget | None,
        given_up: Callable[[Keys], None],
        datagrams_max: int = READER_DATAGRAMS_MAX,
    ) -> None:
        """``datagrams_max``: as many in a row as the queue of the peer's application holds. ``given_up`` is called with the keys of a message that counts as lost because too many are outstanding."""
        self.link = link
        self.budget = budget
        self.window = SentWindow()
        self.streams = OpenStreams(link, state, self.window)
        self.blocked_since: float | None = None
        """Since when (``mono``) nothing at all could be sent though something was there, or None."""
        self.messages = 0
        """Given to the link so far."""
        self.lossy = link.lossy
        self.datagrams_max = datagrams_max if link.lossy else _ANY_NUMBER
        """Messages that may go in a row; 0 where none may go as a datagram."""
        self.takes_datagrams = True
        """False once the link has refused one as such: whatever goes then goes by streams."""
        self._given_up = given_up

    def only_streams(self) -> None:
        """The link takes no datagrams at all."""
        self.takes_datagrams, self.datagrams_max = False, 0

    def let_go(self) -> None:
        """Nobody is told any more of what is given up: then nothing here holds its owner."""
        self._given_up = _nobody

    def allowed(self, mono: float, waiting_bytes: int) -> float:
        """Bytes that may go now by the budget; ``waiting_bytes`` is what there is to send."""
        return _UNLIMITED if self.budget is None else self.budget.allows(mono, waiting_bytes)

    def room(self, waiting_bytes: int) -> int:
        """Bytes that may go now by the link; 0 where it isn't worth a message yet."""
        room = self.link.room_bytes()
        # A sliver of room would go as a sliver of a message, with a header as large as what it carries.
        return room if room >= min(DATAGRAM_SAFE_BYTES, waiting_bytes) else 0

    def send(self, message: bytes, keys: Keys) -> Sent:
        """One message by ``Link.send``."""
        sent = self.link.send(message, self.window.next_token)
        if sent:
            self._sent(keys, len(message))
        return sent

    def send_large(self, message: bytes, keys: Keys, mono: float) -> Sent:
        """One record that is larger than what may go now: overdraw the budget, or use a stream."""
        if len(message) <= self.link.message_bytes_max():
            # The budget may be overdrawn by one message, the congestion window not.
            if len(message) <= self.link.room_bytes():
                return self.send(message, keys)
            if self.lossy:
                return Refusal.BLOCKED
        return self.send_stream([message], keys, len(message), mono) or Refusal.BLOCKED

    def send_stream(
        self,
        messages: list[bytes],
        keys: Keys,
        size_bytes: int,
        mono: float,
        *,
        keyframe: bool = False,
        is_of_frame: bool = False,
    ) -> bool:
        """Messages by a stream. False: another one is on its way, and these are not further ones of the same frame
        (``is_of_frame``)."""
        # One stream at a time: two share the window, and both arrive when the later one would have.
        if self.streams and not (is_of_frame and self.streams.is_of_frame):
            return False
        self.streams.start(messages, keys, mono, keyframe=keyframe)
        self._sent(keys, size_bytes)
        return True

    def remember_all(self, keys: tuple[Keys, ...]) -> None:
        """Messages of the fast path were sent, and carry these keys one by one."""
        self.messages += len(keys)
        if self.lossy and self.window.add_all(keys) > OUTSTANDING_MAX:
            while len(self.window) > OUTSTANDING_MAX:
                self._give_up_oldest()

    def remember(self, keys: Keys) -> None:
        """A message of the fast path was sent and carries ``keys``."""
        self.messages += 1
        if self.lossy:
            self.window.add(keys)
            if len(self.window) > OUTSTANDING_MAX:
                self._give_up_oldest()

    def _sent(self, keys: Keys, size_bytes: int) -> None:
        self.blocked_since = None
        if self.budget is not None:
            self.budget.spend(size_bytes)
        self.remember(keys)

    def _give_up_oldest(self) -> None:
        """The window is full: count its oldest message as lost rather than remember more. A stream
        is still being delivered, and goes on outside the window."""
        oldest = self.window.oldest
        if self.streams.owns(oldest):
            # Not lost: its bytes are on their way and will be sent again by the stream itself.
            self.window.acked(oldest)
        else:
            self._given_up(self.window.lost(oldest))


def _nobody(keys: Keys) -> None:
    """Its reader is gone."""
