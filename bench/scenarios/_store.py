"""What the store scenarios share: a store, a gateway in front of it, Caddy beside it, and a client behind a link."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from bench.gateway import Gateway
from bench.link import Direction, Host, Path, open_network
from bench.load import BUSY_SHARE
from bench.peers import servers
from bench.processes import BenchError, Server, Worker, free_port, wait_for_port, workers
from bench.scenarios import Measured, Settings

WAYS: Mapping[str, tuple[str, str]] = {
    "gateway HTTP/3": ("gateway", "h3"),
    "gateway HTTP/2": ("gateway", "h2"),
    "gateway HTTP/1.1": ("gateway", "h1"),
    "store HTTP/2": ("store", "h2"),
    "store HTTP/1.1": ("store", "h1"),
    "Caddy HTTP/3": ("caddy", "h3"),
}
"""Way -> (who answers, transport). ``store`` is what a client has without us: TCP straight to the store."""
RUN_SLACK_S = 120.0


@dataclass(frozen=True, slots=True)
class Site:
    """Where the ways lead, and where the client is."""

    urls: Mapping[str, str]
    ca: str
    client: Host
    servers: Mapping[str, Server]

    def load(self, role: str, way: str, fields: Mapping[str, Any]) -> Worker:
        """A load generator of :mod:`bench.store_load` in the client's namespace."""
        who, transport = WAYS[way]
        ca = "" if who == "store" else self.ca
        settings = {**fields, "url": self.urls[who], "transport": transport, "ca": ca}
        return Worker(role, settings, self.client.command([]), module="bench.store_load")


@contextlib.contextmanager
def site(case: Mapping[str, Any], settings: Settings, *, with_caddy: bool) -> Iterator[Site]:
    """Host 0 runs the servers, host 1 is the client, the case's loss and round trip are between them."""
    rule = Direction(delay_ms=case["rtt_ms"] / 2, loss=case["loss_percent"] / 100)
    with contextlib.ExitStack() as stack:
        folder = FilePath(stack.enter_context(tempfile.TemporaryDirectory()))
        network = stack.enter_context(
            open_network([Path.symmetric(rule)], settings.seed, netem=settings.netem)
        )
        near, host = network.hosts[0].command([]), network.hosts[0].address
        store_port = free_port()
        store = stack.enter_context(_store(folder, host, store_port, near))
        upstream = f"http://{host}:{store_port}"
        gateway = stack.enter_context(Gateway(folder, host, prefix=near, extra=("--store", upstream)))
        urls = {"store": upstream, "gateway": gateway.url}
        running = {"store": store, "gateway": gateway.server}
        if with_caddy and servers.available("caddy") is None:
            port = free_port()
            leaf = gateway.ca.parent
            caddy = servers.caddy(
                host, port, f"{host}:{store_port}", leaf / "leaf.pem", leaf / "leaf.key", folder, near
            )
            running["caddy"] = stack.enter_context(caddy)
            urls["caddy"] = f"https://{host}:{port}"
        yield Site(urls, str(gateway.ca), network.hosts[1], running)


def _store(folder: FilePath, host: str, port: int, prefix: Sequence[str]) -> Server:
    argv = [
        sys.executable,
        "-m",
        "gateway.cli",
        "store",
        "--data-plane",
        f"{host}:{port}",
        "--admin-api",
        f"{host}:{free_port()}",
    ]
    server = Server(
        [*argv, "--path", str(folder / "pages"), "--auto-create-namespace", "--insecure-public"],
        prefix,
        quiet=True,
    )
    wait_for_port(host, port, prefix)
    return server


def run(worker: Worker, seconds: float) -> dict[str, Any]:
    """Start one load generator and wait for its answer."""
    with workers(worker):
        worker.wait_ready()
        worker.go()
        return worker.result(seconds + RUN_SLACK_S)


def measured_way(worker: Worker, params: Mapping[str, Any], seconds: float) -> Measured:
    """One way's row; a way that fails has an empty row that says so, and the others go on."""
    try:
        result = run(worker, seconds)
    except BenchError:
        return Measured(params, {}, ("failed",))
    busy = result.pop("cpu_share") > BUSY_SHARE
    return Measured(params, result, ("generator_bound",) if busy else ())


def prepare(place: Site, pages: int, page_bytes: int) -> None:
    """Fill the namespace that readers open, straight at the store."""
    worker = place.load("prepare", "store HTTP/1.1", {"pages": pages, "page_bytes": page_bytes})
    with workers(worker):
        worker.result(RUN_SLACK_S)
