"""Whether anybody is there, found out before what talks to them is loaded. Room: recordings. Blocks.

The S3 client takes a second of CPU until it is loaded, several on a busy machine; an address where nobody answers, or which no resolver
knows, is told before that.
"""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from gateway import limits

T = TypeVar("T")


class Silent(Exception):
    """Nothing came of it in its time."""


def within(seconds: float, fn: Callable[[], T]) -> T:
    """What ``fn`` answers or raises; raises :class:`Silent` after so many seconds, and leaves it alone on its thread, which the process
    does not wait for: what resolves names, or waits for an answer, can seldom be called off."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(fn())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise Silent(f"no answer within {seconds:g} s")
    return answers[0]


def nobody_at(endpoint: object, sleep: Callable[[float], None]) -> str:
    """Why nobody can be reached by that URL, after two tries, in plain words; "" where somebody is there, where a proxy stands
    between, or where it is no URL of a host, which others tell."""
    try:
        parts = urlsplit(str(endpoint))
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return ""
    if host is None or parts.scheme in urllib.request.getproxies():
        return ""
    try:
        within(limits.ARCHIVE_CONNECT_S, lambda: _connect(host, port))
    except ConnectionRefusedError:
        sleep(limits.ARCHIVE_PAUSE_S)  # it may just be starting
        try:
            within(limits.ARCHIVE_CONNECT_S, lambda: _connect(host, port))
        except (OSError, UnicodeError, Silent) as error:
            return _said(error, host, port)
    except (OSError, UnicodeError, Silent) as error:
        return _said(error, host, port)
    return ""


def _connect(host: str, port: int) -> None:
    with socket.create_connection((host, port), limits.ARCHIVE_CONNECT_S):
        pass


def _said(error: Exception, host: str, port: int) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens at {host} port {port}"
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return f"no host is known by the name {host}"
    if isinstance(error, (Silent, TimeoutError)):
        return f"{host} port {port} does not answer within {limits.ARCHIVE_CONNECT_S:g} s"
    return f"{host} port {port}: {error.strerror or error}" if isinstance(error, OSError) else str(error)
