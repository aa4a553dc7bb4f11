"""The sample configurations for nginx: TLS let through to several gateways, by name or to any of them; and HTTP/1.1 with WebSockets, where TLS ends at nginx."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gateway.client import Publisher, Subscriber
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess, body, frame, until
from tests.runtime.faults.driver import StoreProcess

OPERATING = Path(__file__).resolve().parents[2] / "docs" / "operating"
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@pytest.fixture
def nginx() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None or not STREAM_MODULE.exists():
        assert os.environ.get("CI") != "true", "nginx with its stream module is not installed"
        pytest.skip(
            "nginx with its stream module is not installed: its sample configurations are not tried here"
        )
    return found


class Proxied:
    """Two gateways over one store, and nginx in front of them as ``sample`` says, where that was changed by ``local``."""

    def __init__(self, folder: Path, nginx: str, sample: str, local: Callable[[str, Path], str]) -> None:
        self.store = StoreProcess(folder)
        flags = (*self.store.flags, "--peers", "store", "--linger-ms", "200")
        self.gateways = [GatewayProcess(folder, *flags, log=folder / f"{name}.log") for name in "ab"]
        for gateway in self.gateways:
            gateway.wait_ready()
        self.ca = folder / "certs" / "ca.pem"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        text = local((OPERATING / sample).read_text(), folder)
        text, listens = re.subn(r"listen 0\.0\.0\.0:\d+", f"listen 127.0.0.1:{self.port}", text)
        assert listens == 1
        for at, gateway in enumerate(self.gateways, 1):
            text = text.replace(f"10.0.0.{at}:4433", f"127.0.0.1:{gateway.port('https')}")
        assert "10.0.0." not in text
        assert "example" not in text
        config = folder / "nginx.conf"
        config.write_text(f"pid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n{text}")
        command = [nginx, "-c", str(config), "-g", "daemon off;"]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        self.proxy = subprocess.Popen(command)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

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

    def close(self) -> None:
        self.proxy.terminate()
        self.proxy.wait()
        for gateway in self.gateways:
            if gateway.process.poll() is None:
                gateway.kill()
        self.store.kill()


@contextmanager
def proxied(folder: Path, nginx: str, sample: str, local: Callable[[str, Path], str]) -> Iterator[Proxied]:
    made = Proxied(folder, nginx, sample, local)
    try:
        yield made
    finally:
        made.close()


def by_name(text: str, _: Path) -> str:
    """A name that is asked for here instead of the first one, and another of nobody's."""
    return text.replace("game-1.example", "localhost").replace("game-2.example", "elsewhere")


def ending_tls(text: str, folder: Path) -> str:
    """The sample's folders are this test's."""
    places = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in TEMPORARY)
    text = text.replace("http {\n", "http {\n" + places, 1)
    text = text.replace("/etc/mvgateway/certs", str(folder / "certs")).replace("game.example", "localhost")
    return text.replace("/var/log/nginx", str(folder))


async def played(proxied: Proxied, after: Callable[[], object]) -> None:
    """Sessions of both roles go on after ``after``, which takes the gateway away that has them or not."""
    async with (
        Publisher(proxied.url, "w", ca=proxied.ca, transport="websocket") as publisher,
        Subscriber(proxied.url, "w", ca=proxied.ca, transport="websocket") as reader,
    ):
        publisher.send({1: b"before"})
        await until(lambda: reader.records() == {1: b"before"})
        await asyncio.to_thread(after)

        async def is_there() -> bool:
            publisher.send({1: b"after"})
            await asyncio.sleep(0.05)
            return reader.records() == {1: b"after"}

        await until(is_there)
        assert publisher.error is reader.error is None


async def told(gateway: GatewayProcess) -> str:
    async with httpx.AsyncClient(base_url=gateway.base_url, timeout=HANG_S) as client:
        return str((await client.get("/healthz")).json()["instance"])


async def test_tls_goes_through_to_the_gateway_that_is_named_and_else_to_any(
    tmp_path: Path, nginx: str
) -> None:
    with proxied(tmp_path, nginx, "nginx-stream.conf", by_name) as site:
        first, second = site.gateways
        await site.both_answer(f"https://127.0.0.1:{site.port}")
        assert {await site.instance() for _ in range(4)} == {await told(first)}
        await played(site, lambda: None)
        first.kill()
        assert {await site.instance(f"https://127.0.0.1:{site.port}") for _ in range(4)} == {
            await told(second)
        }


async def test_requests_streams_and_websockets_go_through_where_tls_ends_at_nginx(
    tmp_path: Path, nginx: str
) -> None:
    with proxied(tmp_path, nginx, "nginx-http.conf", ending_tls) as site:
        await site.both_answer()
        async with site.client() as client:
            posted = await client.post("/v1/worlds/v/frames", content=body(frame(1, {1: b"posted"})))
            assert posted.status_code == 202, posted.text
            events = {"accept": "text/event-stream"}
            async with client.stream("GET", "/v1/worlds/v/live", headers=events) as stream:
                assert stream.status_code == 200
                lines = stream.aiter_lines()
                while "data:" not in await anext(lines):  # it comes at once, though the answer has no end
                    pass
        first, second = site.gateways
        await played(site, first.kill)
        left = await told(second)
        assert {await site.instance() for _ in range(4)} == {left}
        log = (site.gateways[0].folder / "mvgateway.log").read_text()
        assert " 101 GET /v1/worlds/w/live " in log
        assert "role=publish" not in log
