"""A real Firefox, driven by its Marionette protocol: lines of ``length:JSON`` over TCP, ``[0, id, command, parameters]`` and
``[1, id, error, result]``."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.browser import Page, program, words_in
from tests.e2e.elsewhere import connected
from tests.patience import FOREIGN_S

SCRIPT_MS_MAX = 1000 * FOREIGN_S
"""What one script may take; 30 s are Marionette's own."""
PREFERENCES = {
    "marionette.port": 0,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
    "app.update.enabled": False,
    "extensions.update.enabled": False,
    "services.settings.server": "data:,",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.manage-offline-status": False,
    "security.remote_settings.crlite_filters.enabled": False,
}
"""It looks for nothing outside this machine."""


def firefox() -> str:
    """Its path, as :func:`program` finds it."""
    return program("Firefox", "firefox-esr", "firefox")


class Firefox:
    """One browser with an empty profile, and one page. ``ca``: an authority that it believes besides its own. An async
    context manager."""

    name = "Firefox"

    def __init__(self, profile: Path, *, ca: Path | None = None, namespace: str | None = None) -> None:
        self._profile = profile
        self._authority = ca.read_text() if ca is not None else None
        self._namespace = namespace
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self._ids = itertools.count(1)

    async def __aenter__(self) -> Self:
        self._profile.mkdir()
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()
        ]
        (self._profile / "user.js").write_text("\n".join(lines))
        self._process = await asyncio.create_subprocess_exec(
            *words_in(self._namespace),
            *(firefox(), "--headless", "--marionette", "--remote-allow-system-access"),
            *("--no-remote", "--profile", str(self._profile)),
            env={**os.environ, "HOME": str(self._profile), "MOZ_CRASHREPORTER_DISABLE": "1"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await self._connect()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _connect(self) -> None:
        assert self._process is not None
        told = self._profile / "MarionetteActivePort"
        end = time.monotonic() + FOREIGN_S
        while not (told.exists() and told.read_text().strip()):
            assert self._process.returncode is None, "Firefox ended before it was there"
            assert time.monotonic() < end, "Firefox did not start in time"
            await asyncio.sleep(0.05)
        sock = connected(self._namespace, int(told.read_text()))
        self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=1 << 26)
        await self._hear()
        await self.command("WebDriver:NewSession", {})
        await self.command("WebDriver:SetTimeouts", {"script": SCRIPT_MS_MAX, "pageLoad": SCRIPT_MS_MAX})
        if self._authority is not None:
            await self._believe(self._authority)

    async def _believe(self, pem: str) -> None:
        """As if the browser came with this authority."""
        digits = "".join(line for line in pem.splitlines() if not line.startswith("-"))
        script = (
            'Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB)'
            ".addCertFromBase64(arguments[0], 'C,C,C');"
        )
        await self.command("Marionette:SetContext", {"value": "chrome"})
        await self.command("WebDriver:ExecuteScript", {"script": script, "args": [digits]})
        await self.command("Marionette:SetContext", {"value": "content"})

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._writer is not None:
            self._writer.close()
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 10)  # then it is killed (its own time)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _hear(self) -> Any:
        assert self._reader is not None
        length = await self._reader.readuntil(b":")
        return json.loads(await self._reader.readexactly(int(length[:-1])))

    async def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """One command and its result; commands do not overlap."""
        assert self._writer is not None
        text = json.dumps([0, next(self._ids), name, parameters]).encode()
        self._writer.write(b"%d:%s" % (len(text), text))
        _, _, error, result = await self._hear()
        if error is not None:
            raise AssertionError(error)
        return result

    async def open(self, url: str) -> Page:
        """The page at ``url``."""
        await self.command("WebDriver:Navigate", {"url": url})
        return FirefoxPage(self)


class FirefoxPage(Page):
    """The one page of a Firefox."""

    def __init__(self, browser: Firefox) -> None:
        self._browser = browser
        self._patience_s = FOREIGN_S

    async def evaluate(self, expression: str) -> Any:
        """As Chromium's, in the page's own scope: Marionette's has no modules. A page whose policy forbids ``eval`` is asked in
        Marionette's."""
        try:
            return await self._evaluate("window.eval(source)", expression)
        except AssertionError as error:
            if "EvalError" not in str(error):
                raise
        return await self._evaluate(
            f"(async () => JSON.stringify((await ({expression})) ?? null))()", expression
        )

    async def _evaluate(self, run: str, expression: str) -> Any:
        script = f"const [source, done] = arguments; {run}.then(made => done({{made}}), error => done({{error: String(error)}}));"
        source = f"(async () => JSON.stringify((await ({expression})) ?? null))()"
        told = await self._browser.command(
            "WebDriver:ExecuteAsyncScript", {"script": script, "args": [source], "newSandbox": False}
        )
        if told["value"] is None:
            return None  # the page went elsewhere meanwhile
        if "error" in told["value"]:
            raise AssertionError(told["value"]["error"])
        return json.loads(told["value"]["made"])
