"""Gateways and a store as children that die by SIGKILL and come back, for entity runs. Room: bench."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.processes import BenchError

START_S = 60.0
ERROR_CHARS_MAX = 2_000
GATEWAY = [sys.executable, "-m", "gateway.cli"]


class Child:
    """One server process. :meth:`start` again after :meth:`kill` runs it anew."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.kills = 0

    async def _spawn(self, *arguments: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *GATEWAY, *arguments, stdout=asyncio.subprocess.PIPE, stderr=self._errors
        )

    async def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_S)
        if not line:
            code = await self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()[-ERROR_CHARS_MAX:]
            raise BenchError(
                f"a server ended with code {code} before it was ready: {said or 'it said nothing'}"
            )
        return line.decode()

    async def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self.kills += 1


class StoreChild(Child):
    """``mvgateway store`` on a folder; comes back on the port it had."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._port = 0
        self._admin = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> StoreChild:
        await self._spawn(
            "store", "--data-plane", f"127.0.0.1:{self._port}", "--admin-api", f"127.0.0.1:{self._admin}",
            "--path", str(self._folder / "pages"), "--auto-create-namespace",
        )  # fmt: skip
        while (line := await self._line()).strip() != "ready":
            ports = re.findall(r"http://127\.0\.0\.1:(\d+)", line)
            if len(ports) == 2:
                self._port, self._admin = map(int, ports)
        return self


class GatewayChild(Child):
    """``mvgateway serve`` over a store: a URL, or a folder of its own."""

    def __init__(self, folder: Path, store: str) -> None:
        super().__init__()
        self._folder = folder
        self._store = store
        self.facts: dict[str, Any] = {}

    async def start(self) -> GatewayChild:
        await self._spawn(
            "serve", "--port", "0", "--plain", "127.0.0.1:0", "--store", self._store,
            "--certs", str(self._folder / "certs"), "--json-logs",
        )  # fmt: skip
        self.facts = json.loads(await self._line())
        while json.loads(await self._line()).get("event") != "ready":
            pass
        return self

    def _url(self, door: str) -> str:
        return str(self.facts[door]).split(" ", 1)[0]

    @property
    def plain(self) -> str:
        return self._url("plain")

    @property
    def https(self) -> str:
        return self._url("https")

    @property
    def certificate_sha256(self) -> str:
        return str(self.facts["certificate_sha256"])
