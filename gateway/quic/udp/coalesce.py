"""When to read a busy socket: as soon as something is there, or by the clock. Room: quic.

Many peers that send a packet each wake the loop for each packet, which costs as much as half of what is
done with it. As network cards do (NAPI, interrupt coalescing), a socket that wakes the loop too often is not watched
any more but looked at each millisecond, until it is calm. Not where answers are waited for: a peer that asks
for something would ask for the next thing a millisecond later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.limits import (
    QUIC_BY_CLOCK_PACKETS_MIN,
    QUIC_BY_CLOCK_READS_MIN,
    QUIC_BY_CLOCK_S,
    QUIC_RECEIVE_TURN_MAX,
)

WINDOW_S = 0.02
"""So long is counted before it is decided anew."""
ANSWERED_SHARE = 0.25
"""Of the packets, those that their peer gets an answer to: above it the socket is watched."""

Read = Callable[[], tuple[int, int]]
"""Reads what is there, up to that bound; answers of how many packets, and how many of those their peers get an answer to at once."""


class ReadPace:
    """Counts reads and packets, and decides. Pure: ``now`` in seconds of a monotonic clock."""

    __slots__ = ("_answered", "_began", "_packets", "_reads", "by_clock")

    def __init__(self) -> None:
        self.by_clock = False
        """True while the socket is to be looked at by the clock."""
        self._began = float("-inf")
        self._reads = self._packets = self._answered = 0

    def note(self, packets: int, answered: int, now: float) -> None:
        """A read gave so many packets."""
        self._reads += 1
        self._packets += packets
        self._answered += answered
        passed = now - self._began
        if passed < WINDOW_S:
            return
        count, least = self._reads, QUIC_BY_CLOCK_READS_MIN
        if self.by_clock:
            count, least = self._packets, QUIC_BY_CLOCK_PACKETS_MIN
        self.by_clock = count >= least * passed and self._answered <= ANSWERED_SHARE * self._packets
        self._began = now
        self._reads = self._packets = self._answered = 0


class Watch:
    """Has ``read`` called for a socket (its ``fd``), until :meth:`end`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, read: Read) -> None:
        self._loop = loop
        self._fd = fd
        self._read = read
        self._pace = ReadPace()
        self._handle: asyncio.Handle | None = None
        self._ended = False
        loop.add_reader(fd, self._on_readable)

    def end(self) -> None:
        """Let the socket go, before it is closed. Idempotent."""
        if self._ended:
            return
        self._ended = True
        self._loop.remove_reader(self._fd)
        if self._handle is not None:
            self._handle.cancel()

    def _on_readable(self) -> None:
        packets, answered = self._read()
        self._pace.note(packets, answered, self._loop.time())
        # Each watch that is put back costs an epoll_ctl, so it is taken off for as long as the socket is busy, not
        # for each wait.
        if self._pace.by_clock and not self._ended:
            self._loop.remove_reader(self._fd)
            self._handle = self._loop.call_later(QUIC_BY_CLOCK_S, self._on_clock)

    def _on_clock(self) -> None:
        packets = 0
        try:
            packets, answered = self._read()
            self._pace.note(packets, answered, self._loop.time())
        finally:
            self._go_on(packets)

    def _go_on(self, packets: int) -> None:
        if self._ended:
            return
        if not self._pace.by_clock:
            self._handle = None
            self._loop.add_reader(self._fd, self._on_readable)
        elif packets < QUIC_RECEIVE_TURN_MAX:
            self._handle = self._loop.call_later(QUIC_BY_CLOCK_S, self._on_clock)
        else:
            # There was more than one turn takes: a millisecond of waiting would let the kernel's buffer fill.
            self._handle = self._loop.call_soon(self._on_clock)
