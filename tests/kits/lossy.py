"""A real gateway behind a link that loses, which can be killed: where each kit plays the shared scenario."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.link import Direction, Host, Network, unavailable_because
from bench.link import LinkPath as LinkPath
from gateway.client import fetch_last
from gateway.runtime.gateway import Gateway
from tests.client.conftest import settings_in
from tests.ports import free_port

LINK = LinkPath.symmetric(Direction(delay_ms=10.0, loss=0.04))
LOST_MIN = 10
"""Packets that the link must have dropped, or nothing was shown: a third of what it drops, for a busy machine sends fewer."""


def need_link() -> pytest.MarkDecorator:
    """Skips where no link can be made, which CI does not allow."""
    reason = unavailable_because()
    if reason and os.environ.get("CI") == "true":
        raise RuntimeError(f"CI must be able to make the link: {reason}")
    return pytest.mark.skipif(reason is not None, reason=f"no lossy link: {reason}")


class Served:
    """``mvgateway serve`` on one host, which can be killed and started again at the same address."""

    def __init__(self, folder: Path, host: Host, *flags: str) -> None:
        self.folder, self.host, self.port = folder, host, free_port()
        self.url = f"https://{host.address}:{self.port}"
        self.ca = folder / "certs" / "ca.pem"
        self._flags = flags
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns once it is ready."""
        flags = ["--host", self.host.address, "--port", str(self.port), "--no-plain", "--insecure-public"]
        flags += ["--store", str(self.folder / "store"), "--certs", str(self.folder / "certs"), *self._flags]
        argv = [sys.executable, "-m", "gateway.cli", "serve", *flags]
        self._process = self.host.popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[2]
        )
        assert self._process.stdout is not None
        assert any(line.strip() == "ready" for line in self._process.stdout)

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.communicate()
            self._process = None


@contextmanager
def lossy(folder: Path, hosts: int, *flags: str) -> Iterator[tuple[Served, list[Host], Network]]:
    """A gateway, so many hosts beside it, each over a link of its own, and the network."""
    with Network([LINK] * hosts, seed=19) as network:
        home, *others = network.hosts
        served = Served(folder, home, *flags)
        served.start()
        try:
            yield served, others, network
        finally:
            served.kill()


async def assert_stored(folder: Path, states: Mapping[str, Mapping[str, str]]) -> None:
    """What another gateway over the same store says of each world: key → hex."""
    gateway = await Gateway.start(settings_in(folder))
    try:
        ca, url = folder / "certs" / "ca.pem", f"https://127.0.0.1:{gateway.port}"
        for world, state in states.items():
            last = await fetch_last(url, world, ca=ca)
            assert {str(key): data.hex() for key, data in last.records.items()} == state
    finally:
        await gateway.drain(0.5)
