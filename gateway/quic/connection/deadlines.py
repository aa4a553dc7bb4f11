"""The timeouts of a connection: silence, lost packets, addresses that do not answer. Room: quic. Pure: time is an argument.

Sources: RFC 9000 sections 8.2.4 and 10.1; RFC 9002 section 6.
"""

from __future__ import annotations

from typing import Final

from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gateway.quic.connection.packets import HEAD_BYTES
from gateway.quic.connection.parts import Parts
from gateway.quic.connection.state import OPEN

PROBE_BYTES: Final = HEAD_BYTES + 8 + 1 + 4 * 8 + 9
"""A packet of an ACK and a PATH_CHALLENGE: with less allowed to go to an address, nothing is waited for."""


class Deadlines:
    """Once the handshake is confirmed."""

    __slots__ = ("_parts", "_paths", "_received", "_recovery", "_state")

    def __init__(self, parts: Parts) -> None:
        self._parts, self._state = parts, parts.state
        self._paths, self._received, self._recovery = parts.paths, parts.received, parts.recovery

    def next(self) -> float | None:
        """When to call :meth:`expire`, or ask for packets that wait for their time."""
        deadline = self._state.close_at
        if self._state.phase != OPEN:
            return deadline
        assert deadline is not None
        recovery, path = self._recovery, self._paths.active
        allowed = path.allowed_bytes()
        if allowed is not None:
            if path.give_up_at is not None and path.give_up_at < deadline:
                deadline = path.give_up_at
            # Nothing may be sent there before something comes: a timer would only find that out again (RFC 9002
            # section 6.2.2.1).
            if allowed < PROBE_BYTES:
                return deadline
        ack_at = self._received.ack_at
        if ack_at is not None and ack_at < deadline:
            deadline = ack_at
        if recovery.loss_at is not None:
            if recovery.loss_at < deadline:
                deadline = recovery.loss_at
        elif recovery.packets:
            # Recovery.deadline, in line: asked for each packet that goes out or comes in.
            probe_at = recovery.last_sent_at + recovery.probe_timeout() * (1 << recovery.probes)
            if probe_at < deadline:
                deadline = probe_at
        pacing_at = self._state.pacing_at
        if pacing_at is not None and pacing_at < deadline:
            deadline = pacing_at
        return deadline

    def expire(self, now: float) -> None:
        """The deadline has come. RFC 9002 section 6.2."""
        state = self._state
        if state.close_at is not None and now >= state.close_at and not self._may_be_silent(now):
            self._parts.end(_over(QuicErrorCode.INTERNAL_ERROR, "Idle timeout"))
            return
        if state.phase != OPEN:
            return
        recovery, paths = self._recovery, self._paths
        due_at = recovery.deadline()
        if due_at is not None and now >= due_at:
            state.probe_due = recovery.on_deadline(now) or state.probe_due
            state.doubt = True
        give_up_at = None if paths.active.is_proved else paths.active.give_up_at
        if give_up_at is not None and now >= give_up_at:
            state.doubt = True
            # Another path may be narrower.
            self._parts.mtu.begin_anew(self._parts.sending.number)
            if not paths.give_up_active():
                self._parts.end(_over(QuicErrorCode.NO_VIABLE_PATH, "No validated network path"))

    def _may_be_silent(self, now: float) -> bool:
        """Whether the path has become so long that its silence may last on. Asked for at the end alone: what comes by the thousand
        is read in line, and works no time out anew."""
        state = self._state
        if state.phase != OPEN or not state.prolong(self._recovery.probe_timeout()):
            return False
        assert state.close_at is not None
        return now < state.close_at


def _over(code: int, reason: str) -> ConnectionTerminated:
    return ConnectionTerminated(code, QuicFrameType.PADDING, reason)
