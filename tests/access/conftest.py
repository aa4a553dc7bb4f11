"""Keys and tokens for the tests of access control."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.http.app import Application
from gateway.http.metrics import render
from gateway.runtime.access.signing import SigningKey
from gateway.runtime.gateway import Gateway
from gateway.runtime.logs import JsonFormatter
from tests.runtime.conftest import settings_in

ALL: dict[str, Any] = {verb: ["*"] for verb in ("sub", "pub", "ent", "inv", "store", "admin")}


class Maker:
    """A studio's backend: keys in a folder, tokens from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = SigningKey.generate("EdDSA", "first")
        self.key.write(folder)
        self.secrets: set[str] = set()
        """What nobody may find anywhere: the parts of every token made."""

    def another(self, kid: str, alg: Any = "EdDSA", scope: Any = None) -> SigningKey:
        key = SigningKey.generate(alg, kid, scope)
        key.write(self.folder)
        return key

    def token(self, mv: Any = None, *, for_s: float = 600, key: SigningKey | None = None, **more: Any) -> str:
        claims = {"exp": int(time.time() + for_s), "mv": ALL if mv is None else mv, **more}
        token = (key or self.key).sign({name: value for name, value in claims.items() if value is not None})
        self.secrets.update(token.split(".")[1:])
        return token


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "keys")


StartGated = Callable[..., Awaitable[Gateway]]


class Recorder:
    """What a gateway says: answers, log lines, metrics. Looked through for tokens when the test is over."""

    def __init__(self, maker: Maker, caplog: pytest.LogCaptureFixture) -> None:
        self._maker = maker
        self._caplog = caplog
        self._answers: list[bytes] = []
        caplog.set_level(logging.DEBUG)

    def answer(self, message: Any) -> None:
        self._answers.append(repr(message.get("headers", "")).encode() + message.get("body", b""))

    def check(self, gateways: list[Gateway]) -> None:
        ours = [record for record in self._caplog.records if record.name.startswith(SERVERS_LOGS)]
        formatted = [JsonFormatter().format(record) for record in ours]
        metrics = [render(gateway.metrics.gather()) for gateway in gateways]
        answers = b"".join(self._answers).decode("latin-1")
        for where, text in (
            ("the log", "".join(formatted)),
            ("metrics", "".join(metrics)),
            ("answers", answers),
        ):
            found = [secret for secret in self._maker.secrets if secret in text]
            assert not found, f"{where} hold {found[0]}"


SERVERS_LOGS = ("mvgateway", "gateway", "aioquic", "asyncio", "httpcore", "joserfc")


@pytest.fixture
def recorder(maker: Maker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(maker, caplog)
    serve = Application.__call__

    async def recording(self: Application, scope: Any, receive: Any, send: Any) -> None:
        async def record(message: Any) -> None:
            recorder.answer(message)
            await send(message)

        await serve(self, scope, receive, record)

    monkeypatch.setattr(Application, "__call__", recording)
    return recorder


@pytest.fixture
async def start_gated(tmp_path: Path, maker: Maker, recorder: Recorder) -> AsyncIterator[StartGated]:
    """Start a gateway that asks for tokens of ``maker``."""
    running: list[Gateway] = []

    async def start(**changes: Any) -> Gateway:
        settings = settings_in(
            tmp_path,
            **{
                "auth_keys": str(maker.folder),
                "udp": "127.0.0.1:0",
                "admin_api": "127.0.0.1:0",
                "access_log": True,
                **changes,
            },
        )
        running.append(await Gateway.start(settings))
        return running[-1]

    yield start
    recorder.check(running)
    for gateway in running:
        await gateway.drain(0.5)


@pytest.fixture
async def gated(start_gated: StartGated) -> Gateway:
    return await start_gated()
