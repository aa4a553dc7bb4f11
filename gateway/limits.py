"""Every bound in the house, each with its reason. Imports nothing; every room may import it.

Units stand last in the name. One section a room: add to your own.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024

# --- names -------------------------------------------------------------------------------
WORLD_NAME_CHARS_MAX: Final = 63
"""One DNS label, and far below mvstore's namespace key bound."""

# --- wire/frames -------------------------------------------------------------------------
DATAGRAM_SAFE_BYTES: Final = 1_100
"""Always fits one QUIC datagram: 1,200 (RFC 9000 section 14) less packet and session overhead."""
STREAM_MESSAGE_BYTES_MAX: Final = 16 * MIB
"""One message on a stream (default of the setting ``max_message_bytes``): a keyframe of 150,000 records of 100 bytes."""
WEBSOCKET_MESSAGE_BYTES_MAX: Final = 65_535
"""Godot's WebSocketPeer takes no larger message by default: keyframes are split below it."""
CONTROL_MESSAGE_BYTES_MAX: Final = 64 * KIB
"""JSON control messages are a few hundred bytes; ``focus`` may name some thousand keys."""
RECORDS_PER_FRAME_MAX: Final = 1_000_000
"""A 16 MiB message of the smallest records (8 bytes head) holds 2 million; no world needs half of it."""

# --- core --------------------------------------------------------------------------------

# --- store -------------------------------------------------------------------------------

# --- wire/mvstore ------------------------------------------------------------------------
STORE_FRAME_BYTES_MAX: Final = 40 * KIB
"""mvstore's bound on one request frame."""
STORE_PAGE_BYTES_MAX: Final = 32_768
"""mvstore's largest page."""
STORE_READ_PAGES_MAX: Final = 200
"""mvstore reads at most this many pages a request; what follows is not read."""
STORE_WRITE_PAGES_MAX: Final = 100
"""mvstore's bound on pages of one write batch."""
STORE_COMMIT_INLINE_PAGES_MAX: Final = 100
"""mvstore's bound on inline pages over one whole commit."""
STORE_COMMIT_PAGES_MAX: Final = 50_000
"""mvstore's bound on pages over one whole commit."""
STORE_COMMIT_NAMESPACES_MAX: Final = 16
"""mvstore's bound on namespaces of one commit."""
STORE_LOCK_OWNER_BYTES_MAX: Final = 256
"""mvstore's bound on a lock owner's name."""

# --- quic --------------------------------------------------------------------------------

# --- http --------------------------------------------------------------------------------

# --- client ------------------------------------------------------------------------------

# --- runtime -----------------------------------------------------------------------------

# --- entities ----------------------------------------------------------------------------
