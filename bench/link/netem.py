"""The same link by the kernel's own ``netem`` over a veth pair, where the kernel has it and it was asked for.

Room: bench/link. Differences from the carrier, told in the report: jitter reorders, and the rate is
one for the whole host instead of one an address. Source: tc-netem(8).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from bench.link.network import SERVER_ADDRESS, Host, LinkError, ip
from gateway.link.model import Direction, LinkPath

QUEUE_PACKETS = 100_000
"""netem's own limit counts packets on their delay line too: large, so that only loss and rate drop."""


def unavailable_because() -> str | None:
    """A sentence why netem can't be used here, or None."""
    if shutil.which("tc") is None:
        return "the command `tc` is missing: install iproute2"
    name = f"mvg-netem-{os.getpid()}"
    ip("netns", "add", name)
    try:
        argv = ["tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
        probe = subprocess.run(argv, capture_output=True, text=True, check=False)
    finally:
        ip("netns", "del", name)
    return None if probe.returncode == 0 else f"this kernel has no netem: {probe.stderr.strip()}"


def words(rule: Direction) -> list[str]:
    """The ``netem`` arguments of one direction."""
    made = ["delay", f"{rule.delay_ms}ms", f"{rule.jitter_ms}ms", "limit", str(QUEUE_PACKETS)]
    if rule.burst is not None:
        enter, leave = rule.burst.enter, rule.burst.leave
        made += ["loss", "gemodel", f"{enter:.6%}", f"{leave:.6%}", f"{rule.burst.bad_loss:.6%}", "0%"]
    elif rule.loss:
        made += ["loss", "random", f"{rule.loss:.6%}"]
    if rule.reorder:
        made += ["reorder", f"{1 - rule.reorder:.6%}"]
    if rule.rate_kbps:
        made += ["rate", f"{rule.rate_kbps:.0f}kbit"]
    return made


def _tc(host: Host, verb: str, device: str, rule: Direction | None = None) -> None:
    argv = ["tc", "-n", host.name, "qdisc", verb, "dev", device, "root"]
    argv += ["netem", *words(rule)] if rule is not None else []
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LinkError(f"{' '.join(argv)}: {done.stderr.strip()}")


def _sent_bytes(host: Host, device: str) -> int:
    done = host.run(["cat", f"/sys/class/net/{device}/statistics/tx_bytes"], capture_output=True, text=True)
    return int(done.stdout or 0)


class NetemNetwork:
    """Host 0 joined to the others by veth pairs with netem at both ends. The face of ``Network``."""

    def __init__(self, paths: list[LinkPath], *, addresses: int = 1, tcp: str | None = None) -> None:
        self.paths = paths
        self._tcp = tcp
        prefix = f"mvgn{os.getpid()}"
        self.hosts = [Host(f"{prefix}-0", [SERVER_ADDRESS])]
        self.hosts += [
            Host(f"{prefix}-{k}", [f"10.77.{k}.{n}" for n in range(1, addresses + 1)])
            for k in range(1, len(paths) + 1)
        ]
        self.report: dict[str, Any] = {"by": "netem"}
        self._before: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> NetemNetwork:
        try:
            for host in self.hosts:
                ip("netns", "add", host.name)
                ip("-n", host.name, "link", "set", "lo", "up")
            ip("-n", self.hosts[0].name, "addr", "add", f"{SERVER_ADDRESS}/32", "dev", "lo")
            for k, path in enumerate(self.paths, 1):
                self._join(k, path)
            if self._tcp is not None:
                for host in self.hosts:
                    host.set_tcp(self._tcp)
            self._before = self._read()
        except BaseException:
            self._tear_down()
            raise
        return self

    def _join(self, k: int, path: LinkPath) -> None:
        near, far = self.hosts[0], self.hosts[k]
        device = f"mvg{k}"
        words_ = ("link", "add", device, "type", "veth", "peer", "name", "mvg0", "netns", far.name)
        ip("-n", near.name, *words_)
        for address in far.addresses:
            ip("-n", far.name, "addr", "add", f"{address}/32", "dev", "mvg0")
        ip("-n", near.name, "link", "set", device, "up")
        ip("-n", far.name, "link", "set", "mvg0", "up")
        ip("-n", near.name, "route", "add", f"10.77.{k}.0/24", "dev", device, "src", near.address)
        ip("-n", far.name, "route", "add", f"{SERVER_ADDRESS}/32", "dev", "mvg0", "src", far.address)
        for host, end, rule in self._ends(k, path):
            _tc(host, "add", end, rule)

    def _ends(self, k: int, path: LinkPath) -> list[tuple[Host, str, Direction]]:
        return [(self.hosts[0], f"mvg{k}", path.down), (self.hosts[k], "mvg0", path.up)]

    def begin(self, paths: Sequence[LinkPath], seed: int) -> None:
        """Other rules for the same hosts. netem takes no seed here: its chances are its own."""
        self.paths = list(paths)
        for k, path in enumerate(paths, 1):
            for host, end, rule in self._ends(k, path):
                _tc(host, "del", end)
                _tc(host, "add", end, rule)
        self._before = self._read()

    def counters(self) -> dict[str, Any]:
        """IP bytes to and from each host since the rules came, by the devices' own counters."""
        now = self._read()
        down = {a: now[a][0] - self._before[a][0] for a in now}
        up = {a: now[a][1] - self._before[a][1] for a in now}
        return {"by": "netem", "bytes_down": down, "bytes_up": up}

    def _read(self) -> dict[str, tuple[int, int]]:
        """First address -> bytes (down, up) at the host's device, before loss."""
        made = {}
        for k, host in enumerate(self.hosts[1:], 1):
            down = _sent_bytes(self.hosts[0], f"mvg{k}")
            made[host.address] = (down, _sent_bytes(host, "mvg0"))
        return made

    def _tear_down(self) -> None:
        for host in self.hosts:
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True, check=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tear_down()
