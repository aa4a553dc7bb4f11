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
from bench.link import Direction, Link, LinkPath, open_network
from bench.load import BUSY_SHARE
from bench.peers import servers
from bench.processes import BenchError, Server, Station, free_port, wait_for_port
from bench.scenarios import Measured, Settings, link_marks

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
    """Where the ways lead, and the client's process behind the link."""

    urls: Mapping[str, str]
    ca: str
    client: Station
    servers: Mapping[str, Server]
    network: Link
    path: LinkPath

    def ways(self) -> list[str]:
        """Those whose server is here."""
        return [way for way, (who, _) in WAYS.items() if who in self.urls]

    def straight(self) -> dict[str, Any]:
        """The fields of a load that goes straight to the store."""
        return {"url": self.urls["store"], "transport": "h1", "ca": ""}

    def run(self, role: str, way: str, fields: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """One load of :mod:`bench.store_load` by one way; adds the CPU seconds of the servers on the way."""
        who, transport = WAYS[way]
        ca = "" if who == "store" else self.ca
        settings = {**fields, "url": self.urls[who], "transport": transport, "ca": ca}
        self.client.begin(role, settings)
        self.client.wait_ready()
        before_s = self._cpu_s(who)
        self.client.go()
        answer = self.client.result(seconds + RUN_SLACK_S)
        answer["server_cpu_s"] = self._cpu_s(who) - before_s
        return answer

    def _cpu_s(self, who: str) -> float:
        return sum(self.servers[name].cpu_s() for name in dict.fromkeys((who, "store")))

    def measured(
        self, role: str, way: str, case: Mapping[str, Any], fields: Mapping[str, Any], settings: Settings
    ) -> Measured:
        """One way's row; a way that fails has an empty row that says so, and the others go on."""
        params = {**case, "way": way}
        self.network.begin([self.path], settings.seed)
        try:
            answer = self.run(role, way, {"seconds": settings.seconds, **fields}, settings.seconds)
        except BenchError:
            return Measured(params, {}, ("failed",))
        share = answer.pop("cpu_share")
        marks = link_marks(self.network.counters(), settings)
        marks = (*marks, "generator_bound") if share > BUSY_SHARE else marks
        return Measured(params, {**answer, "generator_cpu_percent": 100 * share}, marks)


@contextlib.contextmanager
def site(case: Mapping[str, Any], settings: Settings, *, with_caddy: bool) -> Iterator[Site]:
    """Host 0 runs the servers, host 1 is the client, the case's loss and round trip are between them."""
    path = LinkPath.symmetric(Direction(delay_ms=case["rtt_ms"] / 2, loss=case["loss_percent"] / 100))
    with contextlib.ExitStack() as stack:
        folder = FilePath(stack.enter_context(tempfile.TemporaryDirectory()))
        network = stack.enter_context(
            open_network([path], settings.seed, netem=settings.netem, tcp=settings.tcp)
        )
        near, host = network.hosts[0].command([]), network.hosts[0].address
        client = stack.enter_context(Station(network.hosts[1].command([]), module="bench.store_load"))
        store_port = free_port()
        store = stack.enter_context(start_store(folder, host, store_port, near))
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
        yield Site(urls, str(gateway.ca), client, running, network, path)


def start_store(folder: FilePath, host: str, port: int, prefix: Sequence[str]) -> Server:
    """``mvgateway store`` at this address."""
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
