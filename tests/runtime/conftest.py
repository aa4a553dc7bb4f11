"""A whole gateway for a test: in this process, or as a child process that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.client import Publisher, Subscriber
from gateway.client.connect import Unanswered
from gateway.config import Settings
from gateway.errors import GatewayError
from gateway.runtime.gateway import Gateway
from gateway.wire import Frame, Record, encode_frame, prefix
from tests.patience import HANG_S

FRAMES = "application/vnd.mvgateway.frames"


def settings_in(folder: Path, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "port": 0,
        "plain": "127.0.0.1:0",
        "store": str(folder / "store"),
        "certs": str(folder / "certs"),
        "drain_ms": 1_000,
    }
    return Settings(**{**values, **changes})


def frame(tick: int, records: dict[int, bytes | None], *, keyframe: bool = False, epoch: int = 0) -> bytes:
    return encode_frame(Frame(epoch, tick, [Record(k, v) for k, v in records.items()], keyframe=keyframe))


def body(*messages: bytes) -> bytes:
    return b"".join(map(prefix, messages))


StartGateway = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def start_gateway(tmp_path: Path, backend: dict[str, str]) -> AsyncIterator[StartGateway]:
    running: list[Gateway] = []

    async def start(**changes: Any) -> Gateway:
        running.append(await Gateway.start(settings_in(tmp_path, **{**backend, **changes})))
        return running[-1]

    yield start
    for gateway in running:
        await gateway.drain(0.5)


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    return await start_gateway()


def client_of(gateway: Gateway) -> httpx.AsyncClient:
    assert gateway.plain_server is not None
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.plain_server.port}", timeout=HANG_S)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(gateway) as http:
        yield http


class GatewayProcess:
    """``mvgateway serve`` as a child: real signals, a real death. ``log``: a file for its standard error, where it
    may say more than a pipe holds that nobody reads."""

    def __init__(
        self, folder: Path, *flags: str, environ: dict[str, str] | None = None, log: Path | None = None
    ) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "gateway.cli", "serve", "--port", "0", "--plain", "127.0.0.1:0"]
        command += ["--store", str(folder / "store"), "--certs", str(folder / "certs"), "--json-logs", *flags]
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MVGATEWAY_")}
        with contextlib.ExitStack() as files:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if log is None else files.enter_context(log.open("w")),
                text=True,
                env={**ours, **(environ or {})},
            )
        self.facts: dict[str, Any] = {}

    def wait_ready(self) -> GatewayProcess:
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first, f"the gateway ended at start: {self.end()}"
        self.facts = json.loads(first)
        assert json.loads(self.process.stdout.readline())["event"] == "ready"
        return self

    def port(self, door: str) -> int:
        match = re.search(r":(\d+)(?: |$)", self.facts[door])
        assert match is not None
        return int(match[1])

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port('plain')}"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def terminate(self, timeout_s: float = HANG_S) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        return self.end(timeout_s)

    def end(self, timeout_s: float = HANG_S) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, errors


StartProcess = Callable[..., GatewayProcess]


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[StartProcess]:
    running: list[GatewayProcess] = []

    def start(*flags: str, **more: Any) -> GatewayProcess:
        running.append(GatewayProcess(tmp_path, *flags, **more))
        return running[-1]

    yield start
    for child in running:
        if child.process.poll() is None:
            child.kill()


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = HANG_S) -> None:
    """Poll ``condition`` until it holds; the test fails where it never does."""
    async with asyncio.timeout(timeout_s):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)


async def what_is_told(end: Publisher | Subscriber, kind: type[GatewayError]) -> GatewayError:
    """The error of a start whose time is over as soon as the gateway has refused it for such a reason."""
    starting = asyncio.ensure_future(end.start())
    await until(lambda: isinstance(end.refusal, kind) and not isinstance(end.refusal, Unanswered), HANG_S)
    end._over.set()  # its own time, which is up here as soon as the refusal is known
    with pytest.raises(kind) as told:
        await starting
    return told.value
