"""What a peer did against the rules, and why a datagram was not taken. Room: quic. Pure."""

from __future__ import annotations

from enum import Enum

from aioquic.quic.packet import QuicErrorCode, QuicFrameType


class PeerFault(Exception):
    """The peer broke a rule: the connection is closed with this (RFC 9000 sections 11 and 20.1)."""

    def __init__(self, code: int, frame_type: int | None, reason: str) -> None:
        super().__init__(reason)
        self.code, self.frame_type, self.reason = code, frame_type, reason


class Refusal(Enum):
    """Why a datagram was not taken. Nothing of it is queued, and its token is not used."""

    TOO_LARGE = "too large"
    """It does not fit one packet of this connection now: see ``datagram_bytes_max``."""
    BLOCKED = "blocked"
    """The congestion window, or the queue, has no room for it now."""
    UNSUPPORTED = "unsupported"
    """The peer takes no datagrams (RFC 9221 section 3), or this connection none in this form."""
    CLOSED = "closed"
    """The connection is over, or about to be."""


def never_sent(number: int) -> PeerFault:
    """Whoever acknowledges a packet that was never sent guesses (RFC 9000 sections 13.1 and 21.4)."""
    return PeerFault(QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.ACK, f"packet {number} was never sent")
