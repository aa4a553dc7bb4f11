"""Ports for those that must be started on one known beforehand, or come back where they were."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_SPAN = 12_000
_TRIES_MAX = 200


def free_port() -> int:
    """A port at which nobody of this machine listens by TCP or UDP.

    It is none of those that the kernel gives to whoever asks for any port: one of these, free a moment ago, is given to another
    test's connection before it is used.
    """
    given_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(_TRIES_MAX):
        port = random.SystemRandom().randrange(max(1_024, given_from - _SPAN), given_from)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError(f"no port of {_TRIES_MAX} below {given_from} is free")
