"""Two gateways over one store behind a proxy, as the sample configurations have it, and sessions that are played through it."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from gateway.client import Publisher, Subscriber
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess, until
from tests.runtime.faults.driver import StoreProcess

OPERATING = Path(__file__).resolve().parents[2] / "docs" / "operating"


class Proxied:
    """``flags``: the gateways'. ``begin`` the proxy next; ``port``: where it is to listen. ``host``: what clients call it."""

    def __init__(self, folder: Path, *flags: str, host: str = "127.0.0.1") -> None:
        self.host = host
        self.store = StoreProcess(folder)
        flags = (*self.store.flags, "--linger-ms", "200", *flags)
        self.gateways = [GatewayProcess(folder, *flags, log=folder / f"{name}.log") for name in "ab"]
        for gateway in self.gateways:
            gateway.wait_ready()
        self.ca = folder / "certs" / "ca.pem"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.proxy: subprocess.Popen[bytes] | None = None

    def here(self, sample: str) -> str:
        """A sample's text with the addresses of this site: where it listens, and its gateways'."""
        text, listens = re.subn(r"0\.0\.0\.0:\d+", f"127.0.0.1:{self.port}", (OPERATING / sample).read_text())
        assert listens == 1
        for at, gateway in enumerate(self.gateways, 1):
            text = text.replace(f"10.0.0.{at}:4433", f"127.0.0.1:{gateway.port('https')}")
        assert "10.0.0." not in text
        return text

    def begin(self, config: Path, text: str, check: list[str], run: list[str]) -> None:
        """Run the proxy with this configuration, once it has said that it is sound."""
        config.write_text(text)
        checked = subprocess.run(check, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        with config.with_suffix(".log").open("w") as log:
            self.proxy = subprocess.Popen(run, stdout=log, stderr=log)

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    def client(self, url: str = "") -> httpx.AsyncClient:
        trusted = ssl.create_default_context(cafile=self.ca)
        return httpx.AsyncClient(base_url=url or self.url, verify=trusted, timeout=HANG_S)

    async def instance(self, url: str = "") -> str | None:
        """Which gateway answers a new connection; None: nobody."""
        try:
            async with self.client(url) as client:
                answer = await client.get("/healthz")
                return str(answer.json()["instance"]) if answer.status_code == 200 else None
        except httpx.HTTPError:
            return None

    async def both_answer(self, url: str = "") -> None:
        seen: set[str] = set()

        async def answered() -> bool:
            instance = await self.instance(url)
            seen.update([instance] if instance else [])
            return len(seen) == 2

        await until(answered)

    async def played(self, after: Callable[[], Awaitable[object]]) -> None:
        """Sessions of both roles go on after ``after``, which takes the gateway away that has them or not."""
        async with (
            Publisher(self.url, "w", ca=self.ca, transport="websocket") as publisher,
            Subscriber(self.url, "w", ca=self.ca, transport="websocket") as reader,
        ):
            publisher.send({1: b"before"})
            await until(lambda: reader.records() == {1: b"before"})
            await after()

            async def is_there() -> bool:
                publisher.send({1: b"after"})
                await asyncio.sleep(0.05)
                return reader.records() == {1: b"after"}

            await until(is_there)
            assert publisher.error is reader.error is None

    def close(self) -> None:
        if self.proxy is not None:
            self.proxy.terminate()
            self.proxy.wait()
        for gateway in self.gateways:
            if gateway.process.poll() is None:
                gateway.kill()
        self.store.kill()


async def told(gateway: GatewayProcess) -> str:
    """Which instance it says it is."""
    async with httpx.AsyncClient(base_url=gateway.base_url, timeout=HANG_S) as client:
        return str((await client.get("/healthz")).json()["instance"])
