"""Where a gateway is: its base URL taken apart. Room: client.

``https://HOST:PORT`` is the gateway's own port (QUIC on UDP, TLS on TCP); ``http://HOST:PORT`` is
its loopback port in clear text, which has no UDP side.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from gateway.errors import ConfigError
from gateway.wire import world_name

DEFAULT_PORT = 4433
DEFAULT_URL = f"https://127.0.0.1:{DEFAULT_PORT}"
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Address:
    """A gateway's base URL: ``scheme`` is ``https`` or ``http``; ``host`` without brackets."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Address:
        """Take ``https://host[:port]`` apart. Raises :class:`ConfigError` for anything else."""
        parts = urlsplit(url if "://" in url else f"https://{url}")
        try:
            port = parts.port
        except ValueError as error:
            raise ConfigError(
                f"the URL {url!r} has no usable port: {error}{_brackets(parts.netloc)}"
            ) from error
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ConfigError(f"{url!r} is not a gateway's URL; write it like {DEFAULT_URL}")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigError(f"{url!r} has a path; give only the gateway's address, like {DEFAULT_URL}")
        return cls(parts.scheme, parts.hostname, port or (DEFAULT_PORT if parts.scheme == "https" else 80))

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def loopback(self) -> bool:
        return self.host in LOOPBACK_HOSTS

    @property
    def authority(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def websocket_url(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}"


def _brackets(netloc: str) -> str:
    """What to do about an IPv6 address as it stands in no URL (RFC 3986 section 3.2.2)."""
    host, _, port = netloc.rpartition(":")
    if netloc.count(":") < 2 or "[" in netloc:
        return ""
    shown = f"[{host}]:{port}" if port.isdecimal() and not host.endswith(":") else f"[{netloc}]"
    return f"; an IPv6 address stands in brackets: {shown}"


def world_path(world: str, *rest: str, **query: object) -> str:
    """``/v1/worlds/{world}/rest?query``. Queries that are None are left out, True is ``1``.
    Raises :class:`gateway.errors.BadName` for a name outside the rule (``docs/FRAMES.md``, Words)."""
    path = "/".join(("/v1/worlds", world_name(world), *(quote(part, safe="") for part in rest)))
    given = ((key, value) for key, value in query.items() if value is not None)
    wanted = {key: int(value) if isinstance(value, bool) else value for key, value in given}
    return f"{path}?{urlencode(wanted)}" if wanted else path
