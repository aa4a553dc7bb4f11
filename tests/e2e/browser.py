"""A real Chromium, driven by the DevTools protocol over a WebSocket."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import websockets

from tests.e2e.elsewhere import connected
from tests.patience import FOREIGN_S

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


def program(what: str, *names: str) -> str:
    """The first of these programs that is there; skips the test where none is, and fails it where CI says that one must be."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        why = f"no {what} here: its side of WebTransport is not tried (tests/system-deps.sh installs it)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found


def chromium() -> str:
    """Its path, as :func:`program` finds it."""
    return program("Chromium", "chromium", "chromium-browser", "google-chrome")


def words_in(namespace: str | None) -> list[str]:
    """What a command begins with there."""
    return [] if namespace is None else ["ip", "netns", "exec", namespace]


class Browser:
    """One browser with an empty profile, in this or another network namespace. An async context manager."""

    name = "Chromium"

    def __init__(self, profile: Path, *flags: str, namespace: str | None = None) -> None:
        self._profile = profile
        self._flags = flags
        self._namespace = namespace
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        self._profile.mkdir()
        self._process = await asyncio.create_subprocess_exec(
            *words_in(self._namespace),
            chromium(),
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
        end = time.monotonic() + FOREIGN_S
        while not (told.exists() and told.read_text().strip()):
            assert process.returncode is None, "Chromium ended before it was there"
            assert time.monotonic() < end, "Chromium did not start in time"
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
        sock = connected(self._namespace, self._port)
        page = Page(await websockets.connect(address, max_size=None, sock=sock, proxy=None))
        await page.command("Page.navigate", url=url)
        return page

    async def _put(self, path: str) -> bytes:
        """The body of the answer. HTTP/1.1 by hand: no client takes a socket of another namespace."""
        reader, writer = await asyncio.open_connection(sock=connected(self._namespace, self._port))
        writer.write(
            f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        writer.close()
        return body


class Page:
    """One page."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command and its result."""
        wanted = next(self._ids)
        await self._socket.send(json.dumps({"id": wanted, "method": method, "params": params}))
        while True:
            answer = json.loads(await self._socket.recv())
            if answer.get("id") == wanted:
                return answer["result"]

    async def evaluate(self, expression: str) -> Any:
        """The JSON value of an expression; a promise is awaited. Raises on a script's exception."""
        result = await self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise AssertionError(result["exceptionDetails"])
        return result["result"].get("value")

    async def until(self, expression: str, seconds: float = FOREIGN_S) -> Any:
        """Wait until an expression is truthy; its value. Fails after a deadline with the page's text."""
        end = time.monotonic() + seconds
        while not (value := await self.evaluate(expression)):
            if time.monotonic() > end:
                said = await self.evaluate("document.body.innerText")
                raise AssertionError(f"{expression} did not come true; the page says: {said}")
            await asyncio.sleep(0.02)
        return value
