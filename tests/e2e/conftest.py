"""What the tests with a browser share: the web client, served where a browser trusts it."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import gateway as package
from gateway.runtime.gateway import Gateway
from tests.e2e.elsewhere import listening
from tests.foreign import allow
from tests.runtime.conftest import settings_in


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    allow(items, Path(__file__).parent)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving_pages(namespace: str | None = None) -> Iterator[str]:
    """The folder of the web client, served on loopback: a secure context for the browser."""
    handler = functools.partial(_Quiet, directory=str(Path(package.__file__).parent / "clients" / "web"))
    sock = listening(namespace)
    server = http.server.ThreadingHTTPServer(sock.getsockname(), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = sock
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def pages() -> Iterator[str]:
    """As :func:`serving_pages`, here."""
    with serving_pages() as address:
        yield address


class GatewayForPages:
    """A gateway, and what a page says to reach it."""

    def __init__(self, gateway: Gateway, ca: Path) -> None:
        assert gateway.plain_server is not None
        self.gateway = gateway
        self.ca = ca
        self.url = f"https://127.0.0.1:{gateway.port}"
        self.plain = f"http://127.0.0.1:{gateway.plain_server.port}"
        self.pinned = json.dumps({"certificateHash": gateway.certificates.current.sha256})
        """The web kit's options, as a page writes them."""

    def at(self, transport: str) -> str:
        return self.url if transport == "webtransport" else self.plain

    def options(self, transport: str) -> dict[str, Any]:
        return {"certificateHash": self.gateway.certificates.current.sha256, "transport": transport}


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[GatewayForPages]:
    gateway = await Gateway.start(settings_in(tmp_path))
    yield GatewayForPages(gateway, tmp_path / "certs" / "ca.pem")
    await gateway.drain(2.0)
