"""Servers and load generators in processes of their own, with their CPU time and memory. Room: bench."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bench.cores import load_cores, server_cores

if TYPE_CHECKING:
    import psutil

ROOT = Path(__file__).resolve().parents[1]
START_S = 15.0
FREE_PORT_TRIES = 50
READY_S = 120.0
"""Four hundred handshakes beside a full core take a minute."""

Prefix = Sequence[str]
"""Words before a command, e.g. ``ip netns exec NAME``, or none."""


class BenchError(Exception):
    """A part of the benchmark could not do its work; nothing is reported for the scenario."""


def _pin(process: subprocess.Popen[str], cores: frozenset[int] | None) -> None:
    """At once after its start, so that every thread that it makes is pinned as well."""
    if cores is not None:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, cores)


def cpu_s_of(pid: int) -> float:
    """CPU seconds of a process's threads, to the nanosecond where the kernel tells it, else to its tick of 10 ms.

    A process that is gone has none. Source: proc(5), ``schedstat``.
    """
    tasks = Path(f"/proc/{pid}/task")
    with contextlib.suppress(OSError, ValueError):
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
    import psutil  # here, for `mvgateway bench` does without where nothing but a gateway is installed

    with contextlib.suppress(psutil.NoSuchProcess):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


class Server:
    """A server process under measurement. A context manager: gone at the end."""

    def __init__(self, argv: Sequence[str], prefix: Prefix = (), *, quiet: bool = False) -> None:
        out = subprocess.DEVNULL if quiet else subprocess.PIPE
        self._process = subprocess.Popen(
            [*prefix, *argv], stdout=out, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        _pin(self._process, server_cores())

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
        import psutil

        return psutil.Process(self._process.pid)

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self._process.pid

    def cpu_s(self) -> float:
        """CPU seconds that its threads have used, its children's included."""
        return sum(cpu_s_of(p.pid) for p in [self._worker(), *self._worker().children(recursive=True)])

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
    """A port that is free for UDP and TCP now. Raises BenchError if there is none to be found."""
    for _ in range(FREE_PORT_TRIES):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:  # another's UDP socket has it
                continue
            return port
    raise BenchError("no port is free for UDP and TCP at once")


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
        self, role: str, settings: dict[str, Any], prefix: Prefix = (), *, module: str = "bench.load"
    ) -> None:
        argv = [*prefix, sys.executable, "-m", module, role, json.dumps(settings)]
        self._role = role
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        _pin(self._process, load_cores())

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


class Station:
    """A load generator's process that stays for many jobs, so that starting it is paid once.

    ``python -m MODULE serve``: a job is a line of JSON; it prints ``ready`` when it is connected, and then
    for each ``go`` one line of JSON. ``spread``: not pinned. A context manager: gone at the end.
    """

    def __init__(self, prefix: Prefix = (), *, module: str = "bench.load", spread: bool = False) -> None:
        self._argv = [*prefix, sys.executable, "-m", module, "serve"]
        self._cores = None if spread else load_cores()
        self._process: subprocess.Popen[str] | None = None
        self._role = ""
        self._start()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self._process = process
        _pin(process, self._cores)
        return process

    def _say(self, line: str) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            raise BenchError(f"the load generator {self._role!r} has ended")
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()

    def _hear(self, timeout_s: float) -> str:
        """Its next line. Lines come one for each request, so none hides in the reader's buffer."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], timeout_s)
        line = process.stdout.readline().strip() if ready else ""
        if not line:
            why = "ended" if ready else f"said nothing for {timeout_s:g} s"
            self.stop()
            raise BenchError(f"the load generator {self._role!r} {why}")
        return line

    def begin(self, role: str, settings: dict[str, Any]) -> None:
        """Give it a job; it connects meanwhile."""
        self._role = role
        if self._process is None or self._process.poll() is not None:
            self._start()
        self._say(json.dumps({"role": role, "settings": settings}))

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Until it is connected and waits for ``go``. Raises BenchError with what it says instead."""
        line = self._hear(timeout_s)
        if line != "ready":
            raise BenchError(f"the load generator {self._role!r} did not start: {line}")

    def go(self) -> None:
        """Start the load, or the next window of it."""
        self._say("go")

    def result(self, timeout_s: float) -> dict[str, Any]:
        """Its answer to one ``go``. Raises BenchError if it fails, dies, or takes longer."""
        answer: dict[str, Any] = json.loads(self._hear(timeout_s))
        if "error" in answer:
            raise BenchError(f"the load generator {self._role!r} failed: {answer['error']}")
        return answer

    def cpu_s(self) -> float:
        """CPU seconds that it has used."""
        assert self._process is not None
        return cpu_s_of(self._process.pid)

    def stop(self) -> None:
        """End it; a later job starts it anew."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Station:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextlib.contextmanager
def workers(*made: Worker) -> Iterator[Sequence[Worker]]:
    """Kills what is still running at the end."""
    try:
        yield made
    finally:
        for worker in made:
            worker.kill()
