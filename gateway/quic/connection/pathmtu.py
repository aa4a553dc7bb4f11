"""How large a packet the path carries: looked for with probes where there is bulk to send. Room: quic. Pure: no clock.

Packets are as small as every path carries (the *base*) until a larger one was acknowledged; streams alone use what was
found, for a datagram of a game is small, and is to be lost alone. A probe is a PING with padding; what became of it says nothing
of congestion. Sizes are tried upwards, one probe at a time, each a few times before the search ends, and again after a while.
Packets that were found to pass and all at once do not are a black hole: back to the base, and the search begins anew after a
pause. Sources: RFC 9000 sections 14.3 and 14.4; RFC 8899 sections 3, 4.3 and 5.
"""

from __future__ import annotations

import math

from gateway import limits


class PathMtu:
    """Sizes are bytes of UDP payload. ``base``: of a packet that needs no looking for. ``confirmed``: the largest size that is known
    to pass. ``probe_number``: of the probe that is out, -1: none is. ``holes``: how often packets of a confirmed size stopped passing."""

    __slots__ = (
        "_allowed",
        "_at",
        "_carried",
        "_is_void",
        "_peer_bytes_max",
        "_probed_at",
        "_probed_bytes",
        "_search_at",
        "_steps",
        "_suspects",
        "_tries",
        "base",
        "confirmed",
        "holes",
        "probe_number",
        "unanswered",
    )

    def __init__(self, base: int) -> None:
        self.base = self.confirmed = base
        self.probe_number = -1
        self.holes = 0
        self.unanswered = 0
        """Packets larger than the base that were given up with no answer to any: the peer may only be slow."""
        self._allowed = self._peer_bytes_max = 0
        self._steps: tuple[int, ...] = ()
        self._at = self._tries = self._suspects = 0
        self._search_at = -math.inf
        self._probed_at, self._probed_bytes = 0.0, 0
        self._carried = -1
        """The newest packet larger than the base that arrived."""
        self._is_void = False
        """Whether the probe that is out went another way than packets go now."""

    # -- what may be tried ----------------------------------------------------------------

    def allow(self, bytes_max: int) -> None:
        """The socket sends up to so many bytes in one piece or not at all: until this is said nothing is tried."""
        self._allowed = bytes_max
        self._find_steps()

    def learn(self, peer_bytes_max: int) -> None:
        """What the peer says that it takes (max_udp_payload_size). RFC 9000 section 18.2."""
        self._peer_bytes_max = peer_bytes_max
        self._find_steps()

    def _find_steps(self) -> None:
        most = min(self._allowed, self._peer_bytes_max)
        self._steps = tuple(size for size in limits.QUIC_PACKET_BYTES_STEPS if self.base < size <= most)
        self.confirmed = min(self.confirmed, max(most, self.base))

    # -- what is asked of it --------------------------------------------------------------

    def packet_bytes(self, window: int) -> int:
        """How large a packet of streams may be, at a congestion window of so many bytes."""
        most = window // limits.QUIC_PACKETS_A_WINDOW_MIN
        if self.confirmed <= most or self.confirmed == self.base:
            return self.confirmed
        return max(
            (size for size in self._steps if size <= most and size < self.confirmed), default=self.base
        )

    def probe_bytes(self, window: int, now: float) -> int:
        """How large a probe may go now, where there is bulk to send; 0: none. RFC 8899 section 5."""
        if self._at >= len(self._steps) or self.probe_number >= 0 or now < self._search_at:
            return 0
        size = self._steps[self._at]
        return size if size * limits.QUIC_PACKETS_A_WINDOW_MIN <= window else 0

    # -- what became of it ----------------------------------------------------------------

    def on_probe_sent(self, number: int, now: float) -> None:
        """A probe of the size that :meth:`probe_bytes` said went out."""
        self.probe_number, self._probed_at, self._probed_bytes = number, now, self._steps[self._at]
        self._is_void = False

    def on_probe_fate(self, acked: bool) -> None:
        """The probe arrived, or was lost."""
        self.probe_number = -1
        # It went another way: what became of it says nothing of this one.
        if self._is_void:
            return
        if acked:
            self.confirmed = self._probed_bytes
            self._at += 1
            self._tries = 0
            return
        self._tries += 1
        if self._tries >= limits.QUIC_MTU_PROBES_MAX:
            self._tries = 0
            self._search_at = self._probed_at + limits.QUIC_MTU_AGAIN_S

    def on_carried(self, number: int) -> None:
        """A packet larger than the base arrived."""
        if number > self._carried:
            self._carried = number
            self._suspects = self.unanswered = 0

    def on_lost(self, number: int, sent_at: float) -> None:
        """A packet larger than the base was lost, which was no probe. A few in a row, with none among them that arrived, are more
        than chance: the path no longer carries that size. RFC 8899 section 4.3."""
        if number <= self._carried or self.confirmed == self.base:
            return
        # A lost packet alone says nothing of its size; a run without one that arrived does (RFC 8899 section 4.3, black holes).
        self._suspects += 1
        if self._suspects >= limits.QUIC_MTU_HOLE_PACKETS:
            # Each hole doubles the pause: a path that loses in bursts would else be probed, trusted and cut off again for ever.
            pause = limits.QUIC_MTU_HOLE_S * (1 << min(self.holes, 16))
            self.holes += 1
            self._begin()
            self._search_at = sent_at + min(pause, limits.QUIC_MTU_AGAIN_S)

    def on_answered(self, now: float) -> None:
        """The peer is not slow: it answered, and none of what was given up is known to have arrived."""
        lost, self.unanswered = self.unanswered, 0
        for _ in range(lost):
            self.on_lost(self._carried + 1, now)

    def begin_anew(self, number: int) -> None:
        """Packets from ``number`` on go another way, of which nothing is known."""
        self._begin()
        # Packets below went the old way; that they are lost must not count as a hole of the new one.
        self._carried = max(self._carried, number - 1)
        self._search_at = -math.inf

    def _begin(self) -> None:
        self.confirmed = self.base
        self._at = self._tries = self._suspects = self.unanswered = 0
        self._is_void = True
