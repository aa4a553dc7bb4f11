"""A real Chromium, driven by the DevTools protocol over a WebSocket. Room: bench.

Source: Chrome DevTools Protocol, https://chromedevtools.github.io/devtools-protocol/ (domains Page, Runtime, HeapProfiler).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import websockets

from bench.processes import cpu_s_of

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
STARTED_S = 60.0
"""Until a browser listens, and until a page says what it was to say: a machine may be busy."""
LOOK_S = 0.02
EVENTS_MAX = 1_000


class PageError(AssertionError):
    """A page raised, or did not come to what was waited for."""


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=STARTED_S)


class Browser:
    """One Chromium with an empty profile, a folder that is not there yet. An async context manager.

    ``words`` stand before the command; ``connected(port)`` answers a socket to that port of the browser's loopback.
    """

    name = "Chromium"

    def __init__(
        self,
        profile: Path,
        *flags: str,
        words: Sequence[str] = (),
        connected: Callable[[int], socket.socket] = _connected,
        patience_s: float = STARTED_S,
    ) -> None:
        self._profile = profile
        self._flags = flags
        self._words = words
        self._connected = connected
        self._patience_s = patience_s
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    def program(self) -> str:
        """Its path. Raises :class:`FileNotFoundError` where none is installed."""
        found = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if found is None:
            raise FileNotFoundError("there is no Chromium here; tests/system-deps.sh installs one")
        return found

    async def __aenter__(self) -> Self:
        program = self.program()
        self._profile.mkdir()
        self._process = await asyncio.create_subprocess_exec(
            *self._words,
            program,
            *FLAGS,
            *self._flags,
            f"--user-data-dir={self._profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            self._port = await self._told(self._process)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _told(self, process: asyncio.subprocess.Process) -> int:
        """The port, once it is there."""
        told = self._profile / "DevToolsActivePort"
        end = time.monotonic() + self._patience_s
        while not (told.exists() and told.read_text().strip()):
            if process.returncode is not None:
                raise PageError("Chromium ended before it was there")
            if time.monotonic() > end:
                raise PageError("Chromium did not start in time")
            await asyncio.sleep(0.05)
        return int(told.read_text().split()[0])

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 10)  # then it is killed (its own time)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def open(self, url: str) -> Page:
        """A new page at ``url``."""
        target = json.loads(await self._put("/json/new?about:blank"))
        address = target["webSocketDebuggerUrl"]
        sock = self._connected(self._port)
        page = Page(
            await websockets.connect(address, max_size=None, sock=sock, proxy=None),
            patience_s=self._patience_s,
        )
        await page.command("Page.navigate", url=url)
        return page

    def cpu_s(self) -> float:
        """CPU seconds that it has used, all its processes together."""
        import psutil

        assert self._process is not None
        root = psutil.Process(self._process.pid)
        return sum(cpu_s_of(process.pid) for process in [root, *root.children(recursive=True)])

    async def _put(self, path: str) -> bytes:
        """The body of the answer. HTTP/1.1 by hand: no client takes a socket of another namespace."""
        reader, writer = await asyncio.open_connection(sock=self._connected(self._port))
        writer.write(
            f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        writer.close()
        return body


class Page:
    """One page. Commands do not overlap; ``events`` keeps what was told between them, as far as it was asked for."""

    def __init__(self, socket: websockets.ClientConnection, *, patience_s: float = STARTED_S) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._patience_s = patience_s
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENTS_MAX)

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command and its result."""
        wanted = next(self._ids)
        await self._socket.send(json.dumps({"id": wanted, "method": method, "params": params}))
        while True:
            answer = json.loads(await self._socket.recv())
            if answer.get("id") != wanted:
                self.events.append(answer)
                continue
            if "error" in answer:
                raise PageError(f"{method}: {answer['error']['message']}")
            result: dict[str, Any] = answer["result"]
            return result

    async def evaluate(self, expression: str) -> Any:
        """The JSON value of an expression; a promise is awaited. Raises :class:`PageError` on a script's exception."""
        result = await self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise PageError(result["exceptionDetails"])
        return result["result"].get("value")

    async def until(self, expression: str, seconds: float | None = None) -> Any:
        """Wait until an expression is truthy; its value. Raises :class:`PageError` after a deadline, with the page's text."""
        end = time.monotonic() + (self._patience_s if seconds is None else seconds)
        while not (value := await self.evaluate(expression)):
            if time.monotonic() > end:
                said = await self.evaluate("document.body.innerText")
                raise PageError(f"{expression} did not come true; the page says: {said}")
            await asyncio.sleep(LOOK_S)
        return value

    async def heap_bytes(self) -> int:
        """What scripts hold once what nobody holds is gone."""
        await self.command("HeapProfiler.collectGarbage")
        used = await self.command("Runtime.getHeapUsage")
        return int(used["usedSize"] + used.get("backingStorageSize", 0))
