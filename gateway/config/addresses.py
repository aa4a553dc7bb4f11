"""Addresses as settings and URLs have them. Room: config."""

from __future__ import annotations

from gateway.errors import ConfigError


def split_address(text: str, where: str) -> tuple[str, int]:
    """``127.0.0.1:7080``, ``[::1]:7080`` or ``7080`` → (host, port)."""
    host, _, port = text.rpartition(":")
    # A port alone means this machine: nothing is opened to others by what was left out.
    host = host.strip("[]") or "127.0.0.1"
    # len(): int() fails at thousands of digits.
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65_535:
        raise ConfigError(f"{where}: {text!r} is not ADDRESS:PORT")
    return host, int(port)


def in_brackets(host: str) -> str:
    """A host as URLs have it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """True for ``localhost``, ``::1`` and 127.0.0.0/8."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
