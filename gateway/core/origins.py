"""Which web pages may use the gateway. Room: core. Pure: text in, a refusal or nothing out.

A browser lets any page that is visited send requests to this machine, and says with ``Origin``
whose page it is; game servers and tools send none. So a request that carries one is served only
if the page is the gateway's own, a page of this machine while the gateway is for this machine
only, or listed. Against pages that let their own name point here (DNS rebinding), a door for
this machine answers only to names that are its own.

A browser names no origin for an image or a script that a page shows, but says that the page is of
another site (``Sec-Fetch-Site``): that is refused, too, for a GET may be costly.

Sources: RFC 6454 section 7 (``Origin``), RFC 9110 sections 7.2 and 15.5.20 (421), the Fetch standard,
Fetch Metadata Request Headers (W3C).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from gateway.errors import ConfigError, Forbidden, GatewayError
from gateway.limits import HOSTS_CACHED_MAX, ORIGIN_SHOWN_CHARS_MAX

ANY = "*"
FLAG = "--allow-origin"

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_AUTHORITY = re.compile(r"([a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::[0-9]{0,5})?")
_PORTS = {"http": "80", "https": "443"}
_HTTP = {"ws": "http", "wss": "https"}


class OriginRefused(Forbidden):
    """A page of an origin that is neither the gateway's own, nor of this machine, nor listed."""

    code = "origin_refused"
    title = "Origin refused"


class Misdirected(GatewayError):
    """Addressed by a name that is not the gateway's: what a page does whose name points here."""

    code = "misdirected"
    status = 421
    title = "Misdirected request"


class Origins:
    """The rule for every door.

    ``allowed`` are origins (``https://game.example``), or ``*`` for all; ``loopback`` says that the
    TLS doors listen on loopback only (clear text does unless ``clear_loopback`` is False);
    ``names`` answers the hosts that are the gateway's besides loopback's own. Raises :class:`ConfigError`.
    """

    def __init__(
        self,
        allowed: Iterable[str] = (),
        *,
        loopback: bool = True,
        clear_loopback: bool = True,
        names: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        listed = {text if text == ANY else _listed(text) for text in allowed}
        self._any = ANY in listed
        self._allowed = listed - {ANY}
        self._hosts = {_host_of(origin) for origin in self._allowed}
        self._loopback = {"https": loopback, "http": clear_loopback}
        self._names = names

    def check(self, scheme: str, authority: str, origin: str | None) -> None:
        """Raises :class:`Misdirected` or :class:`OriginRefused`, or lets the request pass.

        ``authority`` is the ``Host`` or ``:authority`` (empty where an old client sent none),
        ``origin`` the ``Origin`` header if there is one.
        """
        scheme = _HTTP.get(scheme, scheme)
        loopback = self._loopback.get(scheme, False)
        # Only for doors on loopback: elsewhere a name that points here is what the operator set up (DNS rebinding
        # is about names that anybody can point at 127.0.0.1).
        if loopback and authority and not self._any:
            self._check_name(authority)
        if origin is not None and not self._is_served(scheme, authority, origin, loopback):
            shown = origin[:ORIGIN_SHOWN_CHARS_MAX]
            raise OriginRefused(
                f"pages of {shown} may not use this gateway; start it with {FLAG} {shown} to let them"
                if normal(origin)
                else f"a page without an origin of its own ({shown}) may not use this gateway; "
                f"serve the page from an origin and start the gateway with {FLAG} ORIGIN",
                origin=shown,
            )

    def check_fetch(self, fetch: Mapping[str, str], origin: str | None, *, page: bool) -> None:
        """Raises :class:`OriginRefused` for what a page of another site has its visitor's browser ask without
        saying whose page it is: an image, a script, a frame. ``fetch`` are the ``sec-fetch-*`` headers there are;
        ``page``: a page of the gateway's own is asked for, which any other may link to. Call after :meth:`check`.
        """
        # Clients that send none of this (game servers, curl) are let pass: it is a browser's visitor who is to be
        # protected.
        if origin is not None or self._any or "cross-site" not in fetch.get("sec-fetch-site", ""):
            return
        follows_link = fetch.get("sec-fetch-mode") == "navigate" and fetch.get("sec-fetch-dest") == "document"
        if page and follows_link:
            return
        raise OriginRefused(
            "a page of another site may not have its visitors' browsers ask this of the gateway "
            f"(Sec-Fetch-Site: cross-site, and no Origin); let the page fetch it with CORS, and start the gateway "
            f"with {FLAG} and the page's origin"
        )

    def _is_served(self, scheme: str, authority: str, origin: str, loopback: bool) -> bool:
        if self._any:
            return True
        page = normal(origin)
        if page is None:
            return False
        # Its own: the page came from the very host and port that it asks.
        if page in self._allowed or page == normal(f"{scheme}://{authority}"):
            return True
        # file:// and other schemes have no host that could be of this machine.
        return loopback and page.startswith(("http://", "https://")) and is_loopback(_host_of(page))

    def _check_name(self, authority: str) -> None:
        host = _host_named(authority)
        if host and (is_loopback(host) or host in self._hosts):
            return
        if host and any(_names(name, host) for name in self._names()):
            return
        shown = authority[:ORIGIN_SHOWN_CHARS_MAX]
        raise Misdirected(
            f"{shown} is no name of this gateway, which is for this machine only; address it as 127.0.0.1 or "
            f"localhost, or start it with {FLAG} https://{shown} if that is its name",
            authority=shown,
        )


@lru_cache(HOSTS_CACHED_MAX)
def _host_named(authority: str) -> str:
    """Empty where it names none."""
    match = _AUTHORITY.fullmatch(authority.lower())
    return _plain(match[1]) if match else ""


def normal(origin: str) -> str | None:
    """``HTTPS://Game.Example:443`` → ``https://game.example``; None for ``null`` and what is no origin."""
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    # `game.example.` is the same host, said in full (RFC 3986 section 3.2.2).
    host = host.removesuffix(".")
    return f"{scheme}://{host}" if port in (None, _PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


@lru_cache(HOSTS_CACHED_MAX)
def is_loopback(host: str) -> bool:
    """True for ``localhost``, 127.0.0.0/8 and ``::1`` (without brackets)."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _listed(text: str) -> str:
    origin = normal(text.strip().removesuffix("/"))
    if origin is None:
        raise ConfigError(
            f"{FLAG} {text!r} is no origin; give SCHEME://HOST[:PORT] without a path, such as "
            f"https://game.example, or {ANY} for every page"
        )
    return origin


def _host_of(origin: str) -> str:
    match = _ORIGIN.fullmatch(origin)
    assert match is not None
    return _plain(match[2])


def _plain(host: str) -> str:
    return _same(host.strip("[]").removesuffix("."))


def _same(host: str) -> str:
    """An IPv6 address in its one shortest form."""
    try:
        # An address may be written in many ways, and compares as text.
        return str(IPv6Address(host)) if ":" in host else host
    except ValueError:
        return host


def _names(name: str, host: str) -> bool:
    """Whether a certificate's name covers ``host`` (RFC 6125 section 6.4.3: ``*`` is one whole label)."""
    name = _same(name.lower())
    if name.startswith("*."):
        # One label: ``*.game.example`` is no ``a.b.game.example``.
        label, dot, rest = host.partition(".")
        return bool(label and dot) and rest == name[2:]
    return name == host
