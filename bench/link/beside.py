"""Bulk TCP flows beside what is measured: how much of a link do they keep? Room: bench/link."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any

from bench.link.network import Host, LinkError

ROOT = FilePath(__file__).resolve().parents[2]


def _start(host: Host, *words: object) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "bench.link.probe", *map(str, words)]
    process: subprocess.Popen[str] = host.popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise LinkError(f"the bulk flow {words[0]} did not start in {host.name}")
    return process


class Beside:
    """``flows`` bulk flows to each reader's address, from ``near``, by TCP's congestion control of that name ("": the
    machine's). A context manager; 0 flows: nothing is done."""

    def __init__(self, near: Host, flows: int, algorithm: str = "") -> None:
        self._near, self._flows, self._algorithm = near, flows, algorithm
        self._pouring: subprocess.Popen[str] | None = None
        self._draining: list[list[subprocess.Popen[str]]] = []

    def begin(self, readers: Sequence[tuple[Host, str]], seconds: float) -> None:
        """Flows to these hosts' addresses, for so long."""
        self._draining = [
            [_start(host, "drain", self._near.address, address, seconds) for _ in range(self._flows)]
            for host, address in readers
        ]

    def shares(self) -> list[dict[str, float]]:
        """What the flows of each reader's address got, in kbit/s: the least, and all together."""
        made = []
        for flows in self._draining:
            told: list[dict[str, Any]] = [json.loads(flow.communicate(timeout=30)[0]) for flow in flows]
            rates = [one["bytes"] * 8 / 1000 / one["seconds"] for one in told]
            made.append({"bulk_kbps": sum(rates), "bulk_least_kbps": min(rates)} if rates else {})
        return made

    def __enter__(self) -> Beside:
        if self._flows:
            self._pouring = _start(self._near, "pour", self._algorithm)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [flow for flows in self._draining for flow in flows]:
            process.kill()
            process.communicate()
        if self._pouring is not None:
            self._pouring.kill()
            self._pouring.communicate()
