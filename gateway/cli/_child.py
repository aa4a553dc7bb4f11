"""A gateway as a child process: started, waited for, killed. Room: cli."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.errors import GatewayError
from gateway.limits import CLI_CHILD_READY_S_MAX

LOOPBACK = "127.0.0.1"
_URL = re.compile(r"https://[^\s,]+")


class ChildFailed(GatewayError):
    """The gateway did not start; its own words are in the message."""

    code = "child_failed"
    title = "The gateway did not start"


class GatewayChild:
    """``mvgateway serve`` on a store and a certificate folder below ``folder``, at ``host``: where that is not
    loopback, it is the address of a network that nobody else is in."""

    def __init__(self, folder: Path, host: str = LOOPBACK, more: Sequence[str] = ()) -> None:
        """``more``: further flags, which come after all others."""
        self.folder = folder
        self._more = tuple(more)
        self.host = host
        self.url = ""
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None
        self._draining: asyncio.Task[None] | None = None

    @property
    def ca(self) -> str:
        """The CA file of the certificates it made."""
        return str(self.folder / "certs" / "ca.pem")

    async def start(self) -> None:
        """Start it, on the port of the last start if there was one; returns when it says ``ready``.
        Raises :class:`ChildFailed` with what it said instead."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway.cli", "serve", "--port", str(self.port), "--no-plain"),
            *("--store", str(self.folder / "store"), "--certs", str(self.folder / "certs")),
            *(() if self.host == LOOPBACK else ("--host", self.host, "--insecure-public")),
            *self._more,
            stdout=asyncio.subprocess.PIPE,
            # A file, not a pipe: a pipe that nobody reads holds the child up once 64 KiB are in it.
            stderr=(self.folder / "gateway.log").open("ab"),
        )
        try:
            async with asyncio.timeout(CLI_CHILD_READY_S_MAX):
                await self._until_ready()
        except TimeoutError:
            await self.kill()
            raise ChildFailed(f"the gateway was not ready within {CLI_CHILD_READY_S_MAX:g} s") from None
        # For the same reason: what it says after "ready" is read, and thrown away.
        self._draining = asyncio.create_task(_discard(self._process.stdout))

    async def kill(self) -> None:
        """SIGKILL: it gets no chance to put anything in order."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        return await self._end(signal.SIGTERM)

    async def _until_ready(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := (await self._process.stdout.readline()).decode().strip():
            found = _URL.search(line)
            if found and not self.url:
                self.url = found[0]
                self.port = int(self.url.rsplit(":", 1)[1])
            if line == "ready":
                return
        log = (self.folder / "gateway.log").read_text().strip()
        raise ChildFailed(f"the gateway did not start: {log.splitlines()[-1] if log else 'no word'}")

    async def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        code = await process.wait()
        if self._draining is not None:
            await self._draining
        return code


async def _discard(stream: asyncio.StreamReader | None) -> None:
    while stream is not None and await stream.read(65_536):
        pass
