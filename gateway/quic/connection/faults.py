"""What a peer did against the rules. Room: quic. Pure."""

from __future__ import annotations

from aioquic.quic.packet import QuicErrorCode, QuicFrameType


class PeerFault(Exception):
    """The peer broke a rule: the connection is closed with this (RFC 9000 sections 11 and 20.1)."""

    def __init__(self, code: int, frame_type: int | None, reason: str) -> None:
        super().__init__(reason)
        self.code, self.frame_type, self.reason = code, frame_type, reason


def never_sent(number: int) -> PeerFault:
    """Whoever acknowledges a packet that was never sent guesses (RFC 9000 sections 13.1 and 21.4)."""
    return PeerFault(QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.ACK, f"packet {number} was never sent")
