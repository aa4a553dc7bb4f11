"""The stand-in as a process of its own, which a test may kill, stop and start again."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.patience import HANG_S

ROOT = Path(__file__).parents[3]


class Process:
    """``with Process(folder, "--commit-ms", "3:12") as store``: ``url`` and ``admin_url`` as ``--store``
    and ``--store-admin`` take them. Started again it has the same ports and the same pages."""

    def __init__(self, folder: Path | str, *flags: str) -> None:
        self.folder = Path(folder)
        self._flags = flags
        self._ports: list[str] = []
        self.url = self.admin_url = ""
        self.running: subprocess.Popen[str] | None = None

    def start(self) -> Process:
        """Returns once it listens."""
        ports = [flag for port in self._ports for flag in ("--port", port)]
        command = [
            sys.executable,
            "-m",
            "tests.store.standin",
            "--path",
            str(self.folder),
            *ports,
            *self._flags,
        ]
        self.running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.running.stdout is not None
        said = [self.running.stdout.readline().split() for _ in range(3)]
        if said[2] != ["ready"]:
            raise RuntimeError(f"the stand-in did not start: {said}")
        self.url, self.admin_url = said[0][1], said[1][1]
        self._ports = [url.rpartition(":")[2] for url in f"{self.url},{self.admin_url}".split(",")]
        return self

    def kill(self) -> None:
        """``kill -9``."""
        self._end(lambda running: running.kill())

    def stop(self) -> None:
        """SIGTERM, and its end. Nothing where it is not running."""
        self._end(lambda running: running.terminate())

    def _end(self, how: Any) -> None:
        running, self.running = self.running, None
        if running is None:
            return
        how(running)
        running.wait(HANG_S)
        assert running.stdout is not None
        running.stdout.close()

    def signal(self, number: int) -> None:
        """``SIGSTOP`` and ``SIGCONT``, for instance."""
        assert self.running is not None
        self.running.send_signal(number)

    def advance(self, seconds: float) -> None:
        """Its clock is moved on. Blocks: not for the loop that serves somebody."""
        self._own({"advance_s": seconds})

    def counts(self) -> dict[str, int]:
        """What was asked of it, and what it cost (:class:`tests.store.standin.rules.Counts`)."""
        counted: dict[str, int] = self._own(None)
        return counted

    def _own(self, value: Any) -> Any:
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(f"{self.admin_url.split(',')[0]}/standin", data=body)
        with urllib.request.urlopen(request, timeout=HANG_S) as answer:
            return json.loads(answer.read())

    def __enter__(self) -> Process:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self.running is not None:
            self.running.send_signal(18)  # SIGCONT, where a test stopped it
        self.stop()
