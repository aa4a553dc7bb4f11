"""The listening sockets: UDP and TCP on one port number. Room: runtime."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from gateway.config import Settings, split_address
from gateway.errors import ConfigError
from gateway.http.server import bind_tcp, tune
from gateway.limits import PORT_TRIES_MAX
from gateway.runtime.activation import Activated, is_shared


def bind_udp(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound, non-blocking UDP socket; ``shared``: others may be bound there with it. Raises ``OSError``.
    socket(7), udp(7)."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if shared:
            # Before bind(), and on the first socket, too, or the others are refused (socket(7)).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


class Sockets(NamedTuple):
    """All listening sockets, bound before anything else is opened."""

    quic: socket.socket
    tls: socket.socket
    plain: socket.socket | None
    udp: socket.socket | None
    admin: socket.socket | None

    def close(self) -> None:
        """Close those that nobody has taken over."""
        for sock in self:
            if sock is not None:
                sock.close()


def bind_all(settings: Settings, *, shared: bool = False) -> Sockets:
    """Bind what the settings ask for, but for what was handed to this process; ``shared``: the sockets of QUIC, TLS and
    ``--plain`` so that others can be bound with them; those of TCP keep their ports only, unless they were handed on. Raises
    :class:`ConfigError` naming the flag."""
    activated = Activated.of()
    bound: list[socket.socket | None] = []
    try:
        bound += _both(settings, activated, shared=shared)
        for kind, bind, address, flag in (
            ("tcp", keep_tcp if shared else bind_tcp, settings.plain, "--plain"),
            ("udp", bind_udp, settings.udp, "--udp"),
            ("tcp", bind_tcp, settings.admin_api, "--admin-api"),
        ):
            bound.append(_one(activated, kind, bind, address, flag) if address else None)
        activated.done(settings)
    except ConfigError:
        for sock in bound:
            if sock is not None:
                sock.close()
        activated.done(settings)  # what was handed on for another address explains why this one is taken
        raise
    quic, tls, plain, udp, admin_api = bound
    assert quic is not None
    assert tls is not None
    return Sockets(quic, tls, plain, udp, admin_api)


def _one(
    activated: Activated, kind: str, bind: Callable[[str, int], socket.socket], address: str, flag: str
) -> socket.socket:
    host, port = split_address(address, flag)
    return _handed(activated, kind, host, port) or named(bind, host, port, flag)


def _handed(activated: Activated, kind: str, host: str, port: int) -> socket.socket | None:
    sock = activated.claim(kind, host, port)
    if sock is not None and kind == "tcp":
        tune(sock)
    return sock


def _both(settings: Settings, activated: Activated, *, shared: bool) -> tuple[socket.socket, socket.socket]:
    """UDP and TCP on ``--port``: each of them handed on, or bound beside the other."""
    host = settings.host
    tls = _handed(activated, "tcp", host, settings.port)
    port = settings.port if tls is None else int(tls.getsockname()[1])
    quic = _handed(activated, "udp", host, port)
    if quic is not None and shared and not is_shared(quic):
        raise ConfigError(
            f"the UDP socket at {host} port {quic.getsockname()[1]} was handed on (LISTEN_FDS) without SO_REUSEPORT, and "
            "--workers needs several there; write ReusePort=yes into the socket unit"
        )
    if tls is None and quic is None:
        return bind_both(host, settings.port, shared=shared)
    if quic is None:
        quic = named(partial(bind_udp, shared=shared), host, port, "--port")
    if tls is None:
        tls = named(keep_tcp if shared else bind_tcp, host, int(quic.getsockname()[1]), "--port")
    return quic, tls


def keep_tcp(host: str, port: int) -> socket.socket:
    """A TCP port for sockets that share it; whoever else has it is found out first. Raises ``OSError``.
    socket(7), SO_REUSEPORT."""
    # With SO_REUSEPORT a second gateway of the same user could be bound there unnoticed, and take half of the
    # connections.
    with bind_tcp(host, port) as alone:
        port = alone.getsockname()[1]
    return bind_tcp(host, port, shared=True, listens=False)


def bind_both(host: str, port: int, *, shared: bool = False) -> tuple[socket.socket, socket.socket]:
    """(UDP, TCP) on the same port; with port 0 on one that is free for both. Raises :class:`ConfigError`."""
    # The kernel picks a port that is free for TCP: another process may have it for UDP.
    for _ in range(PORT_TRIES_MAX):
        tcp = named(keep_tcp if shared else bind_tcp, host, port, "--port")
        chosen = tcp.getsockname()[1]
        try:
            return named(partial(bind_udp, shared=shared), host, chosen, "--port"), tcp
        except ConfigError:
            tcp.close()
            if port:
                raise
    raise ConfigError(f"--port 0: no port on {host} was free for UDP and TCP alike; name one")


def named(bind: Callable[[str, int], socket.socket], host: str, port: int, flag: str) -> socket.socket:
    """``bind(host, port)``, with the system's refusal as a :class:`ConfigError` that names ``flag``."""
    try:
        sock = bind(host, port)
    except (OSError, OverflowError) as error:
        raise ConfigError(_sentence(error, host, port, flag)) from None
    return sock


def _sentence(error: Exception, host: str, port: int, flag: str) -> str:
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another process; give another with {flag}"
    if code == errno.EACCES:
        return f"port {port} on {host} may not be opened by this user; give one above 1023 with {flag}"
    # gaierror is an OSError with a number of its own (EAI_*), which is none of errno's.
    if code == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{host} is no address of this machine; give another with --host"
    return f"cannot listen on {host} port {port}: {error}; give another with {flag}"
