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
ZSTD_WINDOW_BYTES_MAX: Final = 8 * MIB
"""What RFC 8878 asks every decoder to take; a larger window would cost memory at a peer's word."""

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
CLIENT_UDP_PATIENCE_S: Final = 1.0
"""UDP that has not answered a handshake by then is taken as blocked, and TCP is tried."""
CLIENT_CONNECT_S_MAX: Final = 5.0
"""A TCP connect with TLS and upgrade takes three round trips; over 5 s the peer is not there."""
CLIENT_BACKOFF_S_MIN: Final = 0.05
"""First wait before connecting again: a restarted gateway is back within some hundred milliseconds."""
CLIENT_BACKOFF_S_MAX: Final = 5.0
"""Longest wait before connecting again: the publisher's linger, so that a short outage costs no epoch."""
CLIENT_TCP_UNSENT_BYTES_MAX: Final = 64 * KIB
"""What a publisher lets wait in its own TCP write buffer; beyond it newest values replace older ones."""
CLIENT_FRAMES_WAITING_MAX: Final = 1_024
"""Frames that an async iterator may leave untaken (17 s at 60 Hz); older ones are dropped and counted."""
CLIENT_TOKENS_MAX: Final = 4_096
"""Datagrams whose fate a publisher still awaits: over a second at 60 Hz and 64 datagrams a frame."""
CLIENT_LATENCIES_MAX: Final = 8_192
"""Latency samples kept for percentiles: the last two minutes at 60 Hz."""
CLIENT_STREAM_BYTES_MIN: Final = 8 * 1_100
"""A frame of more than eight datagrams goes by one stream: fewer packets to lose a part of it."""
CLIENT_WS_PING_S: Final = 5.0
"""Silence on a WebSocket after which a ping asks whether the gateway is still there."""
CLIENT_WS_SILENCE_S_MAX: Final = 15.0
"""Silence on a WebSocket after which the connection is given up: three pings without an answer."""
CLIENT_HTTP_BODY_BYTES_MAX: Final = 256 * MIB
"""A state of a million records of 100 bytes with their heads is 112 MB."""

# --- runtime -----------------------------------------------------------------------------

# --- entities ----------------------------------------------------------------------------
