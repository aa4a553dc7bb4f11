"""The sample configuration for haproxy: sessions over TCP, TLS and all, through it to several gateways, and away from one that stops."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.client import Publisher, Subscriber
from tests.runtime.conftest import GatewayProcess, until
from tests.runtime.faults.driver import StoreProcess

PATIENCE_S = 60.0
SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "operating" / "haproxy.cfg"


@pytest.fixture
def haproxy() -> str:
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        assert os.environ.get("CI") != "true", "haproxy is not installed"
        pytest.skip("haproxy is not installed: its sample configuration is not tried here")
    return found


class Proxied:
    """Two gateways over one store, and haproxy in front of them."""

    def __init__(self, folder: Path, haproxy: str) -> None:
        self.store = StoreProcess(folder)
        flags = (*self.store.flags, "--linger-ms", "200", "--lame-duck-ms", "3000")
        self.gateways = [GatewayProcess(folder, *flags, log=folder / f"{name}.log") for name in "ab"]
        for gateway in self.gateways:
            gateway.wait_ready()
        self.ca = folder / "certs" / "ca.pem"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        text = SAMPLE.read_text().replace("0.0.0.0:4433", f"127.0.0.1:{self.port}")
        for at, gateway in enumerate(self.gateways, 1):
            text = text.replace(f"10.0.0.{at}:4433", f"127.0.0.1:{gateway.port('https')}")
        assert len(re.findall(r"127\.0\.0\.1:\d+", text)) == 3
        config = folder / "haproxy.cfg"
        config.write_text(text)
        checked = subprocess.run([haproxy, "-c", "-f", str(config)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        with (folder / "haproxy.log").open("w") as log:
            self.proxy = subprocess.Popen([haproxy, "-db", "-f", str(config)], stdout=log, stderr=log)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def instance(self) -> str | None:
        """Which gateway answers a new connection; None: nobody."""
        trusted = ssl.create_default_context(cafile=self.ca)
        try:
            async with httpx.AsyncClient(base_url=self.url, verify=trusted, timeout=PATIENCE_S) as client:
                answer = await client.get("/healthz")
                return str(answer.json()["instance"]) if answer.status_code == 200 else None
        except httpx.HTTPError:
            return None

    def close(self) -> None:
        self.proxy.kill()
        self.proxy.wait()
        for gateway in self.gateways:
            if gateway.process.poll() is None:
                gateway.terminate()
        self.store.kill()


@pytest.fixture
def proxied(tmp_path: Path, haproxy: str) -> Iterator[Proxied]:
    made = Proxied(tmp_path, haproxy)
    try:
        yield made
    finally:
        made.close()


async def test_new_connections_go_to_every_gateway_and_to_none_that_is_stopping(proxied: Proxied) -> None:
    seen: set[str] = set()

    async def both_answer() -> bool:
        instance = await proxied.instance()
        seen.update([instance] if instance else [])
        return len(seen) == 2

    await until(both_answer, PATIENCE_S)
    first, second = proxied.gateways
    async with (
        Publisher(proxied.url, "w", ca=proxied.ca, transport="websocket") as publisher,
        Subscriber(proxied.url, "w", ca=proxied.ca, transport="websocket") as reader,
    ):
        publisher.send({1: b"before"})
        await until(lambda: reader.records() == {1: b"before"}, PATIENCE_S)
        assert (await asyncio.to_thread(first.terminate))[0] == 0
        (left,) = {await told(second)}
        answered = {await proxied.instance() for _ in range(6)}
        assert answered == {left}

        async def is_there() -> bool:
            publisher.send({1: b"after"})
            await asyncio.sleep(0.05)
            return reader.records() == {1: b"after"}

        await until(is_there, PATIENCE_S)
        assert publisher.error is reader.error is None


async def told(gateway: GatewayProcess) -> str:
    async with httpx.AsyncClient(base_url=gateway.base_url, timeout=PATIENCE_S) as client:
        return str((await client.get("/healthz")).json()["instance"])
