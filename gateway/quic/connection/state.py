"""How far a connection has come, the silence that ends it, and what is due to be sent. Room: quic. Pure: no clock.

It is one object because nearly every packet touches all of it. Source: RFC 9000 section 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aioquic.quic.events import ConnectionTerminated, QuicEvent

HANDSHAKE, OPEN, ASKED, CLOSING, DRAINING, ENDED = range(6)
"""States (RFC 9000 section 10.2): the handshake is aioquic's; open; we are to close; we closed; the peer closed; over."""
CLOSING_PTOS: Final = 3


@dataclass
class PeerCloses(QuicEvent):
    """The peer has closed the connection, which is drained now: ``ConnectionTerminated`` follows three probe timeouts later.
    RFC 9000 section 10.2.2."""

    reason: str


class State:
    """``phase``: one of the above. ``close_at``: when silence ends the connection, or its closing is over. ``close_event``: why it ends. ``idle_s``: the
    time-out in force, noted so that a packet need not work it out. ``eliciting_sent``: something that asks for an answer
    went out since the last packet came (section 10.1). ``is_complete``: the handshake is.

    ``doubt``: something happened, so that it is to be looked over whether anything is due. ``control_due``, ``stream_due``:
    frames of control, or stream data, are. ``flush_due``: packets are to be asked for anyhow. ``pings``: numbers of the
    application's. ``pacing_at``: when what waits for the pacer may go; None: nothing does."""

    __slots__ = (
        "_own_idle_s",
        "close_at",
        "close_event",
        "control_due",
        "doubt",
        "eliciting_sent",
        "flush_due",
        "handshake_done_due",
        "idle_s",
        "is_complete",
        "pacing_at",
        "peer_idle_s",
        "phase",
        "pings",
        "probe_due",
        "stream_due",
    )

    def __init__(self, idle_timeout_s: float) -> None:
        self._own_idle_s = self.idle_s = idle_timeout_s
        self.phase = HANDSHAKE
        self.close_at: float | None = None
        self.close_event: ConnectionTerminated | None = None
        self.eliciting_sent = self.is_complete = False
        self.peer_idle_s: float | None = None
        self.control_due = self.doubt = self.stream_due = self.flush_due = False
        self.handshake_done_due = self.probe_due = False
        self.pings: list[int] = []
        self.pacing_at: float | None = None

    @property
    def is_ended(self) -> bool:
        """Whether nothing may be asked of the connection any more."""
        if self.phase == HANDSHAKE:
            return self.close_event is not None
        return self.phase >= CLOSING

    @property
    def is_closing(self) -> bool:
        """Whether it is over, or about to be."""
        return self.is_ended or self.phase == ASKED

    def idle_timeout_s(self, pto_s: float) -> float:
        """The smaller of what both ends said (section 10.1); ``pto_s``: the probe timeout."""
        idle_s = self._own_idle_s
        if self.peer_idle_s is not None:
            idle_s = min(idle_s, self.peer_idle_s)
        # Three probe timeouts at least, or a slow path would end between two of them (RFC 9000 section 10.1).
        return max(idle_s, 3 * pto_s)

    def silent_s(self, now: float) -> float:
        """For how long nothing came, nor went out that asks for an answer. RFC 9000 section 10.1."""
        return 0.0 if self.close_at is None else now + self.idle_s - self.close_at

    def begin(self, now: float, pto_s: float) -> None:
        """The handshake is confirmed."""
        self.phase = OPEN
        self.idle_s = self.idle_timeout_s(pto_s)
        self.close_at = now + self.idle_s

    def on_eliciting_sent(self, now: float) -> None:
        """A packet that asks for an answer goes out: the first since the last that came begins the silence anew.
        RFC 9000 section 10.1."""
        if not self.eliciting_sent:
            self.close_at = now + self.idle_s
            self.eliciting_sent = True

    def prolong(self, pto_s: float) -> bool:
        """The silence is over its time: whether it may last longer than when that was worked out. RFC 9000 section 10.1."""
        idle_s, before_s = self.idle_timeout_s(pto_s), self.idle_s
        if self.close_at is None or idle_s <= before_s:
            return False
        self.idle_s = idle_s
        self.close_at += idle_s - before_s
        return True

    def ask(self, event: ConnectionTerminated) -> bool:
        """Why we are to close. False: it is being closed already."""
        if self.close_event is not None or self.phase >= ASKED:
            return False
        self.close_event = event
        if self.phase == OPEN:
            self.phase = ASKED
        return True

    def begin_end(self, phase: int, now: float, pto_s: float) -> None:
        """Closing or draining: three probe timeouts of silence. RFC 9000 section 10.2."""
        self.phase = phase
        self.close_at = now + CLOSING_PTOS * pto_s
        self.control_due = self.doubt = self.stream_due = False

    def end(self, event: ConnectionTerminated | None = None) -> bool:
        """It is over, for this reason where there was none yet. False: it was before."""
        if self.phase == ENDED:
            return False
        self.close_event = self.close_event or event
        self.phase, self.close_at = ENDED, None
        return True

    def on_handshake_done_fate(self, acked: bool) -> None:
        """HANDSHAKE_DONE was acknowledged, or lost. RFC 9000 section 19.20."""
        self.handshake_done_due = self.handshake_done_due or not acked
