"""When packets may leave, so that a window does not go out at once. Room: quic. Pure. Source: RFC 9002 section 7.7."""

from __future__ import annotations

BURST_PACKETS = 10
"""As much goes out at once as an initial window holds."""
TURN_S = 0.002
"""A fast flow's burst: what its rate is in two turns of a timer that is fine to 1 ms, or the timer would be the limit."""
PACKET_S_MIN, PACKET_S_MAX = 1e-6, 1.0


class Pacer:
    """A bucket of time that fills as time passes and that each packet takes from. Its rate is worked out only when it
    matters: after a round trip without sending the bucket is full whatever the rate, so the next packets of a burst
    just go. ``window`` and ``rtt_s`` are set from outside, with ``rate_due``; ``burst_left``: so many more packets may go
    without asking :meth:`admit`; take one off for each. RFC 9002 section 7.7."""

    __slots__ = (
        "_burst",
        "_packet_bytes",
        "bucket_max",
        "bucket_s",
        "burst_left",
        "packet_s",
        "rate_due",
        "rtt_s",
        "seen_at",
        "window",
    )

    def __init__(self, packet_bytes: int) -> None:
        self._packet_bytes = packet_bytes
        self.window = BURST_PACKETS * packet_bytes
        self.rtt_s = 0.0
        self.rate_due = False
        self.burst_left = 0
        self._burst = 0
        self.bucket_max = self.bucket_s = 0.0
        self.packet_s: float | None = None
        self.seen_at = 0.0

    def settle(self) -> None:
        """Work out the rate, and what the burst since the last time took from the bucket."""
        if self.rate_due:
            self.rate_due = False
            window, size = self.window, self._packet_bytes
            rate = window / max(self.rtt_s, PACKET_S_MIN)
            # N of 1 in the formula of RFC 9002 section 7.7, where 1.25 is the example: what the slack would give is in the bucket,
            # which holds a whole burst.
            self.packet_s = max(PACKET_S_MIN, min(size / rate, PACKET_S_MAX))
            turn = int(rate * TURN_S)
            # With 16 packets a turn alone a fast path was held up by its timer: ten bodies took 5.2 s over 50 ms,
            # and 1.16 s since (docs/PERFORMANCE.md).
            burst = max(BURST_PACKETS * size, min(window // 4, max(16 * size, turn)))
            self.bucket_max = min(burst, window) / rate
        # What the packets that went without asking have cost is worked out now, in one step.
        if self._burst and self.packet_s is not None:
            used = self._burst - self.burst_left
            self.bucket_s = max(0.0, self.bucket_max - used * self.packet_s)
        self.burst_left = self._burst = 0
        if self.bucket_s > self.bucket_max:
            self.bucket_s = self.bucket_max

    def _fill(self, now: float) -> None:
        if now > self.seen_at:
            self.bucket_s = min(self.bucket_s + (now - self.seen_at), self.bucket_max)
            self.seen_at = now

    def forget_old(self, now: float) -> None:
        """What is left of a burst a round trip ago is none: the next begins with a full bucket, and the rest of the old
        one must not come on top."""
        if now - self.seen_at >= self.rtt_s:
            self.burst_left = 0

    def admit_burst(self, packets: int, now: float) -> bool:
        """Whether so many packets may go now, all of them; then they are counted."""
        # A round trip without sending: whatever the rate, that fills the bucket. So the rate need not be worked out, which for a
        # reader of one burst a tick is never.
        if now - self.seen_at >= self.rtt_s:
            allowed = min(BURST_PACKETS, self.window // self._packet_bytes or 1)
            if packets > allowed:
                return False
            self.seen_at = now
            self._burst = allowed
            self.burst_left = allowed - packets
            return True
        if packets <= self.burst_left:
            self.burst_left -= packets
            return True
        self.settle()
        if self.packet_s is None:
            return True
        self._fill(now)
        if self.bucket_s < packets * self.packet_s:
            return False
        self.bucket_s -= packets * self.packet_s
        return True

    def admit(self, now: float, size: int = 0) -> float | None:
        """None: one packet may go now, and is counted, as several where its ``size`` in bytes is theirs. Else: when to ask again."""
        count = -(-size // self._packet_bytes) if size > self._packet_bytes else 1
        if now - self.seen_at >= self.rtt_s:
            self.seen_at = now
            packets = self.window // self._packet_bytes
            self._burst = BURST_PACKETS if packets > BURST_PACKETS else packets or 1
            self._burst = max(self._burst, count)
            self.burst_left = self._burst - count
            return None
        if self.burst_left >= count:
            self.burst_left -= count
            return None
        self.settle()
        if self.packet_s is None:
            return None
        self._fill(now)
        if self.bucket_s <= 0:
            # A packet's worth beyond empty, so that the timer does not come once for each fraction of one.
            return now + self.packet_s - self.bucket_s
        if count > 1:
            self.bucket_s -= count * self.packet_s
        else:
            self.bucket_s = 0.0 if self.bucket_s < self.packet_s else self.bucket_s - self.packet_s
        return None
