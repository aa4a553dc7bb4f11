"""Sockets that belong to another network namespace, held by this process."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from tests.patience import HANG_S

CLONE_NEWNET = 0x40000000


def socket_in(namespace: str | None, make: Callable[[], socket.socket]) -> socket.socket:
    """What ``make`` answers in a thread that has moved there (setns(2) is a thread's); None: here. Raises what it raises."""
    if namespace is None:
        return make()
    made: list[socket.socket | BaseException] = []

    def there() -> None:
        try:
            with (Path("/var/run/netns") / namespace).open() as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            made.append(make())
        except BaseException as error:
            made.append(error)

    thread = threading.Thread(target=there)
    thread.start()
    thread.join()
    (answer,) = made
    if isinstance(answer, BaseException):
        raise answer
    return answer


def connected(namespace: str | None, port: int) -> socket.socket:
    """To a port of that namespace's loopback."""
    return socket_in(namespace, lambda: socket.create_connection(("127.0.0.1", port), timeout=HANG_S))


def listening(namespace: str | None) -> socket.socket:
    """On a port of that namespace's loopback."""
    return socket_in(namespace, lambda: socket.create_server(("127.0.0.1", 0)))
