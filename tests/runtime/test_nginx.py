"""The sample configurations for nginx: TLS let through to several gateways, by name or to any of them; and HTTP/1.1 with WebSockets, where TLS ends at nginx."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runtime.conftest import body, frame
from tests.runtime.proxied import Proxied, told

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


@contextmanager
def proxied(folder: Path, nginx: str, sample: str, local: Callable[[str, Path], str]) -> Iterator[Proxied]:
    """nginx in front of two gateways as ``sample`` says, where that was changed by ``local``."""
    made = Proxied(folder, "--peers", "store", host="localhost")
    try:
        text = local(made.here(sample), folder)
        assert "example" not in text
        config = folder / "nginx.conf"
        command = [nginx, "-c", str(config), "-g", "daemon off;"]
        text = f"pid {folder}/nginx.pid;\nerror_log {folder}/errors.log;\n{text}"
        made.begin(config, text, [*command, "-t"], command)
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


async def test_tls_goes_through_to_the_gateway_that_is_named_and_else_to_any(
    tmp_path: Path, nginx: str
) -> None:
    with proxied(tmp_path, nginx, "nginx-stream.conf", by_name) as site:
        first, second = site.gateways
        await site.both_answer(f"https://127.0.0.1:{site.port}")
        assert {await site.instance() for _ in range(4)} == {await told(first)}
        await site.played(lambda: asyncio.sleep(0))
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
        await site.played(lambda: asyncio.to_thread(first.kill))
        left = await told(second)
        assert {await site.instance() for _ in range(4)} == {left}
        log = (site.gateways[0].folder / "mvgateway.log").read_text()
        assert " 101 GET /v1/worlds/w/live " in log
        assert "role=publish" not in log
