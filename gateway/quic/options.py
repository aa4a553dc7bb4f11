"""What a QUIC endpoint is told at start. Room: quic. Values only: no sockets, no clocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway import limits
from gateway.quic.connection.minting import ALONE, Mint


@dataclass(frozen=True, slots=True)
class QuicOptions:
    """Settings of an endpoint, server or client.

    * ``idle_timeout_s``: a connection ends when nothing came for this long.
    * ``max_datagram_size``: bytes of one UDP payload; 1,200 passes everywhere (RFC 9000 section 14).
    * ``retry``: address validation before any state is kept (RFC 9000 section 8.1.2).
    * ``congestion``: ``realtime`` is ours (:mod:`gateway.quic.connection.congestion`), the others are aioquic's.
    * ``early_data_paths``: requests served from 0-RTT whatever their method, because a replay does no harm.
    * ``connections_max``, ``connections_per_address_max``, ``handshakes_per_address_per_s``: a server's bounds.
    * ``reset_key``: 32 bytes that outlive a restart, so that peers of the last run learn at once
      that it is gone (stateless reset, RFC 9000 section 10.3); None: random.
    * ``mint``: makes a server's connection IDs, which name its process where several share a port.
    """

    idle_timeout_s: float = 30.0
    max_datagram_size: int = 1_200
    retry: bool = False
    congestion: Literal["realtime", "cubic", "reno"] = "realtime"
    early_data_paths: frozenset[str] = frozenset({"/stat", "/batch/read", "/time2version"})
    connections_max: int = limits.QUIC_CONNECTIONS_MAX
    connections_per_address_max: int = limits.CONNECTIONS_PER_ADDRESS_MAX
    handshakes_per_address_per_s: int = limits.HANDSHAKES_PER_ADDRESS_PER_S
    reset_key: bytes | None = None
    mint: Mint = ALONE
