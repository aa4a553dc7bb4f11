"""Listening sockets that whoever started this process has opened already: systemd's socket activation. Room: runtime.

They are taken by the addresses that the settings name, and only so: who listens wider than the settings say would get round
what is checked of them. Source: sd_listen_fds(3).
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import MutableMapping
from typing import Final

from gateway.config import Settings, flag_of
from gateway.errors import ConfigError
from gateway.limits import ACTIVATED_SOCKETS_MAX

FIRST: Final = 3
"""The number of the first descriptor."""
VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

Key = tuple[str, str, int]
"""``udp`` or ``tcp``, address, port."""


class Activated:
    """The sockets that were handed on, each of which is taken once."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._free = {_key(sock): sock for sock in sockets}

    @classmethod
    def of(cls, environ: MutableMapping[str, str] | None = None) -> Activated:
        """Those that were handed to this process: children are told of none. Raises :class:`ConfigError`. sd_listen_fds(3)."""
        environ = os.environ if environ is None else environ
        # Taken out whether they are ours or not, as sd_listen_fds() does when it is told to: a child would take
        # descriptors that it has not.
        pid, count, _ = (environ.pop(name, "") for name in VARIABLES)
        # LISTEN_PID of another process: a shell in between has passed on the variables without the sockets.
        if pid != str(os.getpid()) or not count:
            return cls([])
        # isdigit() alone takes digits of other scripts as well, and superscripts, at which int() fails; it fails at
        # thousands of digits, too.
        if not (count.isascii() and count.isdigit()) or len(count) > 4 or int(count) > ACTIVATED_SOCKETS_MAX:
            raise ConfigError(
                f"LISTEN_FDS={count[:20]}: sockets that are handed on are 0 to {ACTIVATED_SOCKETS_MAX}"
            )
        return cls([_taken(number) for number in range(FIRST, FIRST + int(count))])

    def claim(self, kind: str, host: str, port: int) -> socket.socket | None:
        """The one that listens at this address; with port 0 the only one of the kind there. None: nobody opened it."""
        address = _address(host)
        fits = [key for key in self._free if key[:2] == (kind, address) and port in (0, key[2])]
        # Of two that fit none is the one that was meant.
        if not fits or (port == 0 and len(fits) > 1):
            return None
        return self._free.pop(fits[0])

    def done(self, settings: Settings) -> None:
        """Nobody takes any more. Raises :class:`ConfigError` for one that is left: it would never be served."""
        left = list(self._free)
        for sock in self._free.values():
            sock.close()
        self._free = {}
        if left:
            kind, host, port = left[0]
            raise ConfigError(
                f"a {kind} socket at {host} port {port} was handed on (LISTEN_FDS), and no setting names that address: --host "
                f"{settings.host} --port {settings.port}{_others(settings)}; write the same into the socket unit and the settings"
            )


def _others(settings: Settings) -> str:
    named = [(name, getattr(settings, name)) for name in ("plain", "udp", "admin_api")]
    return "".join(f" {flag_of(name)} {address}" for name, address in named if address)


def is_shared(sock: socket.socket) -> bool:
    """Whether others may be bound there with it (``ReusePort=yes``). socket(7)."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def is_listening(sock: socket.socket) -> bool:
    """Whether connections wait in its backlog already. socket(7)."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _taken(number: int) -> socket.socket:
    # They come without close-on-exec: or else every child would keep the port open.
    os.set_inheritable(number, False)
    try:
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise ConfigError(f"descriptor {number} of LISTEN_FDS is no socket: {error.strerror}") from None
    sock.setblocking(False)
    return sock


def _key(sock: socket.socket) -> Key:
    kinds = {socket.SOCK_DGRAM: "udp", socket.SOCK_STREAM: "tcp"}
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type not in kinds:
        raise ConfigError(
            f"descriptor {sock.fileno()} of LISTEN_FDS is neither UDP nor TCP: the socket unit has ListenDatagram= and ListenStream= "
            "with addresses and ports"
        )
    if sock.type == socket.SOCK_STREAM and not is_listening(sock):
        raise ConfigError(
            f"descriptor {sock.fileno()} of LISTEN_FDS does not listen: Accept=no belongs into the socket unit"
        )
    host, port = sock.getsockname()[:2]
    return kinds[sock.type], _address(host), int(port)


def _address(host: str) -> str:
    """In one form; a name is what it stands for."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        family, *_, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except OSError:
        return host
    return str(ipaddress.ip_address(address[0])) if family in (socket.AF_INET, socket.AF_INET6) else host
