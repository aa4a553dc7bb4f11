"""The same link by the kernel's own ``netem`` over a veth pair, where the kernel has it and it was asked for.

Room: bench/link. Differences from the carrier, told in the report: jitter reorders, and the rate is
one for the whole host instead of one an address. Source: tc-netem(8).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from types import TracebackType
from typing import Any

from bench.link.model import Direction, Path
from bench.link.network import SERVER_ADDRESS, Host, ip

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


class NetemNetwork:
    """Host 0 joined to the others by veth pairs with netem at both ends. The face of ``Network``."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        prefix = f"mvgn{os.getpid()}"
        self.hosts = [Host(f"{prefix}-0", [SERVER_ADDRESS])]
        self.hosts += [Host(f"{prefix}-{k}", [f"10.77.{k}.1"]) for k in range(1, len(paths) + 1)]
        self.report: dict[str, Any] = {"by": "netem"}

    def __enter__(self) -> NetemNetwork:
        try:
            for host in self.hosts:
                ip("netns", "add", host.name)
                ip("-n", host.name, "link", "set", "lo", "up")
            ip("-n", self.hosts[0].name, "addr", "add", f"{SERVER_ADDRESS}/32", "dev", "lo")
            for k, path in enumerate(self.paths, 1):
                self._join(k, path)
        except BaseException:
            self._tear_down()
            raise
        return self

    def _join(self, k: int, path: Path) -> None:
        near, far = self.hosts[0], self.hosts[k]
        ip(
            "-n",
            near.name,
            "link",
            "add",
            f"mvg{k}",
            "type",
            "veth",
            "peer",
            "name",
            "mvg0",
            "netns",
            far.name,
        )
        for host, device, other, rule in (
            (near, f"mvg{k}", far.address, path.down),
            (far, "mvg0", SERVER_ADDRESS, path.up),
        ):
            if host is far:
                ip("-n", host.name, "addr", "add", f"{far.address}/32", "dev", device)
            ip("-n", host.name, "link", "set", device, "up")
            ip("-n", host.name, "route", "add", f"{other}/32", "dev", device, "src", host.address)
            argv = ["tc", "-n", host.name, "qdisc", "add", "dev", device, "root", "netem", *words(rule)]
            subprocess.run(argv, check=True, capture_output=True)

    def _tear_down(self) -> None:
        for host in self.hosts:
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True, check=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tear_down()
