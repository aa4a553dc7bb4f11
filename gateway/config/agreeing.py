"""What settings must be beside each other: pairs, clear text on loopback, nobody reached unchecked. Room: config."""

from __future__ import annotations

import re

from gateway import limits
from gateway.config.addresses import is_loopback, split_address
from gateway.config.flags import flag_of
from gateway.config.settings import Settings
from gateway.errors import ConfigError

PEERS_OF_THE_STORE = "store"
"""In ``--peers``: every gateway that a world's row names."""


def check_together(settings: Settings) -> None:
    """Raises :class:`ConfigError` naming the flag that mends it."""
    if bool(settings.cert) != bool(settings.key):
        raise ConfigError(
            "--cert and --key belong together: give both, or neither to have the gateway make its own"
        )
    for name in ("plain", "udp", "admin_api"):
        text = getattr(settings, name)
        if text and not is_loopback(split_address(text, flag_of(name))[0]):
            raise ConfigError(
                f"{flag_of(name)} {text}: clear text is served on loopback only; use 127.0.0.1:PORT"
            )
    check_node(settings.node)
    check_peers(settings)
    if settings.server_id and not re.fullmatch(r"(?:[0-9a-fA-F]{2}){1,2}", settings.server_id):
        raise ConfigError(
            f"--server-id {settings.server_id[:20]}: 2 or 4 hexadecimal digits name a gateway (00 to ffff); every gateway behind "
            "the same balancer has another, and all have as many digits"
        )
    for name in ("auth_audience", "auth_ca"):
        if getattr(settings, name) and not settings.auth_keys:
            raise ConfigError(f"{flag_of(name)} is of use with --auth-keys only; give that, too, or neither")
    has_access_control = bool(settings.auth_keys or settings.client_ca)
    if not is_loopback(settings.host) and not settings.insecure_public and not has_access_control:
        raise ConfigError(
            f"--host {settings.host} is reachable by others and nothing checks who connects; "
            "give --auth-keys (mvgateway token keygen makes some), say --insecure-public if that is what you want, "
            "or listen on 127.0.0.1"
        )


def check_peers(settings: Settings) -> None:
    """Raises :class:`ConfigError` for one that cannot be followed."""
    if len(settings.peers) > limits.EDGE_PEERS_MAX:
        raise ConfigError(
            f"--peers names {len(settings.peers)} gateways; the bound is {limits.EDGE_PEERS_MAX}"
        )
    for flag, urls in (("--peers", settings.peers), ("--upstream", (settings.upstream,))):
        for url in urls:
            if flag == "--peers" and url == PEERS_OF_THE_STORE:
                continue
            check_node(url, flag)
            if url and not url.startswith("https://"):
                raise ConfigError(
                    f"{flag} {url!r:.128}: gateways follow each other over QUIC; write https://"
                )
    for name in ("peer_ca", "peer_token_file"):
        if getattr(settings, name) and not (settings.node or settings.peers or settings.upstream):
            raise ConfigError(f"{flag_of(name)} is of use with --node, --peers or --upstream only")


def check_node(url: str, flag: str = "--node") -> None:
    """``--node`` is an origin: readers are sent there, and add the path themselves."""
    from urllib.parse import urlsplit

    if not url:
        return
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    # "@" apart: urlsplit takes what stands before it for a user, and the host that readers are sent to is
    # behind it.
    if not sound or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(
            f"{flag} {url!r:.128} is not a gateway's address; write it like https://game-1.example:4433"
        )
    if len(url) > limits.NODE_CHARS_MAX:
        raise ConfigError(f"{flag} has {len(url)} characters; the bound is {limits.NODE_CHARS_MAX}")
