"""New frames go on at their rate while the path is away, so that the first packet after a fade is already on its way. Room: quic.

A congestion window that is full of packets nobody answers says nothing of a queue: whatever they were, after a probe
time-out they are no longer on the path. By RFC 9002 section 7.5 probes are not held back by the window, but each waits twice
as long as the one before (section 6.2.1): after a fade of half a second the path was back for up to as long again
before anything was sent. Here the packets that are older than a probe time-out do not hold back new ones, which stay as many as
the window admits in that time, for as long as a fade may last; after that probes alone look for the path.

What was lost in it all at once looks like persistent congestion (section 7.6) and takes the window with it. Where no
queue had grown before, the flow starts again as a new one on the same path would, from the initial window, and doubles up to
what a loss would have left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.limits import QUIC_FADE_S_MAX
from gateway.quic.connection.congestion import RealtimeCongestion

if TYPE_CHECKING:
    from gateway.quic.connection.connection import Connection
    from gateway.quic.connection.recovery import Recovery


def excuse_unanswered(quic: Connection, now: float) -> int:
    """Let what is unanswered for a probe time-out not count as in flight, until this is called again: do so while
    ``quic.excused_bytes``. Answers what the window admits then, in bytes."""
    recovery, had = quic.recovery, quic.excused_bytes
    control = recovery.control
    # What was excused the last time counts again first, or it would be taken off twice.
    control.in_flight += had
    found = _unanswered_bytes(recovery, now - recovery.probe_timeout(), now - QUIC_FADE_S_MAX)
    if found and not had:
        quic.window_before_fade = control.window
    elif had and found == 0 and isinstance(control, RealtimeCongestion):
        control.on_fade_over(quic.window_before_fade)
    quic.excused_bytes = found or 0
    control.in_flight -= quic.excused_bytes
    return quic.room_bytes()


def _unanswered_bytes(recovery: Recovery, before: float, after: float) -> int | None:
    """Bytes in flight that were sent before then; None where the oldest of all is older than a fade lasts."""
    size_bytes = 0
    for packet in recovery.sent.values():
        if packet.sent_at >= before:
            break
        if packet.sent_at < after:
            return None
        size_bytes += packet.size
    return size_bytes
