"""Servers and load generators in processes of their own, with their CPU time and memory. Room: bench."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
START_S = 15.0

Prefix = Sequence[str]
"""Words before a command, e.g. ``ip netns exec NAME``, or none."""


class BenchError(Exception):
    """A part of the benchmark could not do its work; nothing is reported for the scenario."""


class Server:
    """A server process under measurement. A context manager: gone at the end."""

    def __init__(
        self, argv: Sequence[str], prefix: Prefix = (), *, quiet: bool = False, cpu: int | None = None
    ) -> None:
        out = subprocess.DEVNULL if quiet else subprocess.PIPE
        self._process = subprocess.Popen(
            [*prefix, *argv], stdout=out, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        if cpu is not None:
            os.sched_setaffinity(self._process.pid, {cpu})

    def wait_for_line(self, wanted: str) -> list[str]:
        """Read its output up to the line ``wanted``; answers the lines before. Raises BenchError at its end."""
        assert self._process.stdout is not None
        seen: list[str] = []
        for line in self._process.stdout:
            if line.strip() == wanted:
                return seen
            seen.append(line.rstrip())
        raise BenchError(f"{self._process.args!r} ended before it was ready: {' / '.join(seen[-5:])}")

    def _worker(self) -> psutil.Process:
        """The process itself: `ip netns exec` replaces itself, so it has the same id."""
        return psutil.Process(self._process.pid)

    def cpu_s(self) -> float:
        """CPU seconds that it has used, its children's included."""
        total = 0.0
        for process in [self._worker(), *self._worker().children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def rss_bytes(self) -> int:
        """Its resident memory."""
        return int(self._worker().memory_info().rss)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after five seconds."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_port() -> int:
    """A port that is free for UDP and TCP now."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        port = int(tcp.getsockname()[1])
        udp.bind(("127.0.0.1", port))
    return port


def wait_for_port(host: str, port: int, prefix: Prefix = ()) -> None:
    """Until a TCP connection is taken. Raises BenchError after ``START_S``."""
    probe = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        argv = [*prefix, sys.executable, "-c", probe, host, str(port)]
        if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
            return
    raise BenchError(f"nothing listens on {host}:{port} after {START_S:g} s")


class Worker:
    """A load generator: ``python -m MODULE ROLE JSON``; prints ``ready``, runs on ``go``, ends with one JSON line."""

    def __init__(
        self,
        role: str,
        settings: dict[str, Any],
        prefix: Prefix = (),
        *,
        cpu: int | None = None,
        module: str = "bench.load",
    ) -> None:
        argv = [*prefix, sys.executable, "-m", module, role, json.dumps(settings)]
        self._role = role
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        if cpu is not None:
            os.sched_setaffinity(self._process.pid, {cpu})

    def wait_ready(self) -> None:
        """Until it is connected and waits for ``go``."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != "ready\n":
            self._process.kill()
            raise BenchError(
                f"the load generator {self._role!r} did not start: {line.strip() or 'see above'}"
            )

    def go(self) -> None:
        """Start the load."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def result(self, timeout_s: float) -> dict[str, Any]:
        """Its JSON line, when it is done. Raises BenchError if it dies or takes longer."""
        try:
            out, _ = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as late:
            self._process.kill()
            self._process.communicate()
            raise BenchError(f"the load generator {self._role!r} took longer than {timeout_s:g} s") from late
        if self._process.returncode != 0 or not out.strip():
            raise BenchError(f"the load generator {self._role!r} failed with {self._process.returncode}")
        answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return answer

    def kill(self) -> None:
        """End it now; harmless after its end."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextlib.contextmanager
def workers(*made: Worker) -> Iterator[Sequence[Worker]]:
    """Kills what is still running at the end."""
    try:
        yield made
    finally:
        for worker in made:
            worker.kill()
