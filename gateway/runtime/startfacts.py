"""What a gateway prints when it has started: where it is reached, and what it stands on. Room: runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.config import in_brackets, split_address

if TYPE_CHECKING:
    from gateway.runtime.gateway import Gateway


def start_facts(gateway: Gateway, store: str) -> Mapping[str, object]:
    """Name → what to print, in this order. ``store``: what to say of it."""
    settings, host, dashboard = gateway.settings, in_brackets(gateway.settings.host), ""
    current = gateway.certificates.current
    facts: dict[str, object] = {
        "version": __version__,
        "store": store,
        "https": f"https://{host}:{gateway.port} (HTTP/3 on UDP; HTTP/2, HTTP/1.1, WebSocket on TCP)",
    }
    if gateway.plain_server is not None:
        plain_host = in_brackets(split_address(settings.plain, "--plain")[0])
        dashboard = f"http://{plain_host}:{gateway.plain_server.port}"
        facts["plain"] = f"{dashboard} (HTTP/1.1 and h2c, this machine only)"
    if gateway.admin_server is not None:
        admin_host = in_brackets(split_address(settings.admin_api, "--admin-api")[0])
        facts["admin"] = (
            f"http://{admin_host}:{gateway.admin_server.port} (the store's admin API, this machine only)"
        )
    if gateway.worlds.udp is not None:
        address, port = gateway.worlds.udp.address
        facts["udp"] = f"{in_brackets(address)}:{port} (plain UDP publishers)"
    if settings.node:
        facts["node"] = gateway.worlds.holder.node
    facts["dashboard"] = f"{dashboard or f'https://{host}:{gateway.port}'}/"
    facts["certificate_sha256"] = current.sha256
    facts["certificate_expires"] = f"{current.not_after:%Y-%m-%d %H:%M} UTC"
    if gateway.certificates.ca_path is not None:
        facts["certificate_authority"] = str(gateway.certificates.ca_path)
    return facts
