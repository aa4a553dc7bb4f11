"""Network namespaces joined by a carrier. Room: bench/link. Needs root, iproute2 and /dev/net/tun.

Host 0 has 10.77.0.1 (the server's side). Host k (k >= 1) has 10.77.k.1 to 10.77.k.n: every
address is shaped on its own, so a hundred throttled readers need one namespace, not a hundred.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any

from gateway.link.model import LinkPath
from gateway.link.namespaces import open_tun

SERVER_ADDRESS = "10.77.0.1"
MTU_BYTES = 1500
CARRIER_NICE = -10
"""The carrier goes before what it carries for, so that a busy host is not measured as a slow link."""
TX_QUEUE_PACKETS = 5000
"""Packets that a device holds for the carrier: 50 ms of its capacity, so that it never drops by itself."""


def unavailable_because() -> str | None:
    """A sentence why no link can be made here, or None where one can."""
    if os.name != "posix" or not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root: run as root, or use the loopback scenarios"
    if shutil.which("ip") is None:
        return "the command `ip` is missing: install iproute2"
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun is missing: load the tun module"
    probe = subprocess.run(["ip", "netns", "add", _probe_name()], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return f"`ip netns add` is refused here: {probe.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", _probe_name()], check=False)
    return None


class LinkError(Exception):
    """The link could not be made or measured; the message says which command refused."""


def _probe_name() -> str:
    return f"mvg-probe-{os.getpid()}"


def ip(*words: str) -> None:
    """Run ``ip`` with these words. Raises LinkError with what it said."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LinkError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Host:
    """One namespace: its name, and its addresses on the link."""

    def __init__(self, name: str, addresses: Sequence[str]) -> None:
        self.name = name
        self.addresses = tuple(addresses)

    @property
    def address(self) -> str:
        """The first address."""
        return self.addresses[0]

    def command(self, argv: Sequence[str]) -> list[str]:
        """``argv`` wrapped so that it runs inside the namespace."""
        return ["ip", "netns", "exec", self.name, *argv]

    def set_tcp(self, algorithm: str) -> None:
        """TCP's congestion control in this namespace. Raises LinkError if the kernel hasn't got it."""
        argv = ["sh", "-c", f"echo {algorithm} > /proc/sys/net/ipv4/tcp_congestion_control"]
        if self.run(argv, capture_output=True).returncode != 0:
            raise LinkError(f"this kernel has no TCP congestion control {algorithm!r}")

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process inside the namespace."""
        return subprocess.Popen(self.command(argv), **options)

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a process inside the namespace to its end."""
        return subprocess.run(self.command(argv), check=False, **options)


class Network:
    """Host 0 joined to ``len(paths)`` other hosts. A context manager: everything is gone at the end."""

    def __init__(
        self, paths: Sequence[LinkPath], *, addresses: int = 1, seed: int = 1, tcp: str | None = None
    ) -> None:
        self.paths = list(paths)
        self.seed = seed
        self.report: dict[str, Any] = {}
        self._tcp = tcp
        prefix = f"mvg{os.getpid()}"
        self.hosts = [Host(f"{prefix}-0", [SERVER_ADDRESS])]
        for k in range(1, len(paths) + 1):
            self.hosts.append(Host(f"{prefix}-{k}", [f"10.77.{k}.{n}" for n in range(1, addresses + 1)]))
        self._fds: list[int] = []
        self._carrier: subprocess.Popen[str] | None = None

    def __enter__(self) -> Network:
        try:
            for index, host in enumerate(self.hosts):
                self._add_host(index, host)
            self._start_carrier()
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tear_down()

    def _add_host(self, index: int, host: Host) -> None:
        device = f"mvg{index}"
        ip("netns", "add", host.name)
        fd, actual = open_tun("mvgt%d")
        self._fds.append(fd)
        ip("link", "set", actual, "netns", host.name)
        inside = ("-n", host.name)
        ip(*inside, "link", "set", actual, "name", device)
        ip(*inside, "link", "set", "lo", "up")
        ip(*inside, "link", "set", device, "mtu", str(MTU_BYTES), "txqueuelen", str(TX_QUEUE_PACKETS), "up")
        for address in host.addresses:
            ip(*inside, "addr", "add", f"{address}/32", "dev", device)
        ip(*inside, "route", "add", "10.77.0.0/16", "dev", device, "src", host.address)
        if self._tcp is not None:
            host.set_tcp(self._tcp)

    def _start_carrier(self) -> None:
        settings = {"fds": self._fds, "paths": [p.describe() for p in self.paths], "seed": self.seed}
        argv = [sys.executable, "-m", "gateway.link.carrier", json.dumps(settings)]
        root = FilePath(__file__).resolve().parents[2]
        self._carrier = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=self._fds, cwd=root
        )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._carrier.pid, CARRIER_NICE)
        self._hear("carrying")

    def _hear(self, wanted: str = "") -> str:
        """The carrier's next line; it must be ``wanted``, if that is given."""
        assert self._carrier is not None
        assert self._carrier.stdout is not None
        line = self._carrier.stdout.readline()
        if not line or (wanted and line.strip() != wanted):
            raise LinkError(f"the link's carrier ended or said {line.strip()!r}")
        return line

    def _tell(self, line: str) -> None:
        assert self._carrier is not None
        assert self._carrier.stdin is not None
        self._carrier.stdin.write(line + "\n")
        self._carrier.stdin.flush()

    def begin(self, paths: Sequence[LinkPath], seed: int) -> None:
        """Other rules for the same hosts, with chances of their own; the counters begin at zero."""
        if len(paths) != len(self.paths):
            raise ValueError(f"{len(paths)} paths for {len(self.paths)} hosts")
        self.paths, self.seed = list(paths), seed
        self._tell(json.dumps({"paths": [p.describe() for p in paths], "seed": seed}))
        self._hear("carrying")

    def counters(self) -> dict[str, Any]:
        """What the carrier has counted since the rules came."""
        self._tell("report")
        made: dict[str, Any] = json.loads(self._hear())
        return made

    def _tear_down(self) -> None:
        if self._carrier is not None:
            out, _ = self._carrier.communicate()
            self.report = json.loads(out) if out else {}
            self._carrier = None
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        for host in self.hosts:
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True, check=False)
