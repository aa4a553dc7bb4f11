"""Every kind of store that ``--store`` can name, filled with the same recording and really running."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess
from tests.store.standin import Process

Flags = list[str]


@contextmanager
def folder(pages: Path, here: Path) -> Iterator[Flags]:
    """A folder that nobody has open."""
    yield ["--store", str(pages)]


@contextmanager
def store_h2c(pages: Path, here: Path) -> Iterator[Flags]:
    """``mvgateway store``, by HTTP/2 in clear text."""
    with _store_process(pages) as (plane, admin):
        yield ["--store", plane, "--store-admin", admin]


@contextmanager
def store_h1(pages: Path, here: Path) -> Iterator[Flags]:
    """The same behind something that speaks HTTP/1.1 only."""
    with _store_process(pages) as (plane, admin), OnlyHttp1(plane) as near, OnlyHttp1(admin) as api:
        yield ["--store", near.url, "--store-admin", api.url]


@contextmanager
def gateway(pages: Path, here: Path) -> Iterator[Flags]:
    """A gateway over HTTPS, whose certificate is checked."""
    child = GatewayProcess(here, "--store", str(pages)).wait_ready()
    try:
        yield [
            *("--store", f"https://127.0.0.1:{child.port('https')}"),
            *("--ca", str(here / "certs" / "ca.pem")),
        ]
    finally:
        child.terminate()


@contextmanager
def standin(pages: Path, here: Path) -> Iterator[Flags]:
    """The real mvstore's stand-in."""
    with Process(pages, "--commit-ms", "1:3") as store:
        yield ["--store", store.url, "--store-admin", store.admin_url]


STORES: dict[str, Callable[[Path, Path], contextlib.AbstractContextManager[Flags]]] = {
    "folder": folder,
    "mvgateway store by h2c": store_h2c,
    "mvgateway store by h1": store_h1,
    "gateway by https": gateway,
    "mvstore's stand-in": standin,
}


@contextmanager
def _store_process(pages: Path) -> Iterator[tuple[str, str]]:
    command = [sys.executable, "-m", "gateway.cli", "store", "--path", str(pages)]
    command += ["--data-plane", "127.0.0.1:0", "--admin-api", "127.0.0.1:0"]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        assert child.stdout is not None
        said = "".join(iter(child.stdout.readline, "ready\n"))
        plane, admin = re.findall(r"http://[0-9.:]+", said)
        yield plane, admin
    finally:
        child.terminate()
        child.wait(HANG_S)
        child.stdout.close()


class OnlyHttp1:
    """A relay that hangs up on HTTP/2's preface (RFC 9113, section 3.4)."""

    def __init__(self, url: str) -> None:
        self._to = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> OnlyHttp1:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(near,), daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            first = near.recv(65_536)
            if not first or first.startswith(b"PRI "):
                return
            with socket.create_connection(self._to) as far:
                far.sendall(first)
                back = threading.Thread(target=_pump, args=(far, near), daemon=True)
                back.start()
                _pump(near, far)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def copied(pages: Path, to: Path) -> Path:
    """A folder of one's own."""
    shutil.copytree(pages, to)
    return to


def last_json(text: str) -> object:
    """The object of the last line that is one."""
    return json.loads(text.strip().splitlines()[-1])
