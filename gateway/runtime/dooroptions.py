"""What the settings say of the doors: TCP, QUIC, and which web pages may come. Room: runtime."""

from __future__ import annotations

from pathlib import Path

from gateway.config import Settings, is_loopback
from gateway.core.origins import Origins
from gateway.http.app import Application
from gateway.http.server import TcpOptions
from gateway.quic import QuicOptions
from gateway.quic.connection.minting import ALONE, IdLayout, Mint
from gateway.runtime.access.clientcerts import grant_of
from gateway.runtime.certs import Certificates
from gateway.runtime.resetkey import reset_key
from gateway.runtime.workers.group import Worker


def tcp_options(settings: Settings, app: Application, port: int) -> TcpOptions:
    """``port``: that of UDP, where browsers are told to come next time (RFC 7838, section 3)."""
    return TcpOptions(
        alt_svc=f'h3=":{port}"; ma=86400',
        message_bytes_max=settings.max_message_bytes,
        connections_max=settings.tcp_connections_max,
        connections_per_address_max=settings.connections_per_address_max,
        handshakes_per_address_per_s=settings.handshakes_per_address_per_s,
        unfinished=app.unfinished,
        grant_of=grant_of if settings.client_ca else None,
    )


def quic_options(settings: Settings, worker: Worker | None) -> QuicOptions:
    """Workers share the key of stateless resets: any of them may be asked about a connection that was another's."""
    is_wary = settings.retry == "auto" and not is_loopback(settings.host)
    return QuicOptions(
        idle_timeout_s=float(settings.idle_timeout_s),
        retry=settings.retry == "on" or is_wary,
        reset_key=reset_key(Path(settings.certs)) if worker is None else worker.group.reset_key,
        mint=_mint(settings, worker),
        connections_max=settings.quic_connections_max,
        connections_per_address_max=settings.connections_per_address_max,
        handshakes_per_address_per_s=settings.handshakes_per_address_per_s,
    )


def _mint(settings: Settings, worker: Worker | None) -> Mint:
    if worker is not None:
        return worker.mint
    layout = IdLayout.of(settings.server_id, settings.server_id_rotation)
    return Mint(layout=layout) if layout.server_id else ALONE


def origins_of(settings: Settings, certificates: Certificates) -> Origins:
    """Which web pages are served, and by which names. Raises :class:`ConfigError`."""
    return Origins(
        settings.allow_origins,
        loopback=is_loopback(settings.host),
        names=lambda: (settings.host, *certificates.current.names),
    )
