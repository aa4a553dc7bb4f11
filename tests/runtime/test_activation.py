"""Sockets that were opened before: what systemd's socket activation hands on is served, also across a restart."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from gateway.client import Publisher, Subscriber
from gateway.errors import ConfigError
from gateway.limits import ACTIVATED_SOCKETS_MAX
from gateway.runtime.activation import Activated
from tests.runtime.conftest import until

PATIENCE_S = 90.0
LAUNCHER = """
import os, sys
for at, number in enumerate(map(int, sys.argv[1].split(","))):
    os.dup2(number, 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sys.argv[1].split(","))))
os.execv(sys.executable, [sys.executable, "-m", "gateway.cli", "serve", *sys.argv[2:]])
"""
"""What systemd does: descriptors from 3 on, and two variables. Source: sd_listen_fds(3)."""


class Unit:
    """A socket unit and its service: the sockets stay open, whatever the service does."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", reuse_port: bool = False) -> None:
        self.folder = folder
        self.tcp, self.udp = self._bound(host, reuse_port)
        self.port = self.tcp.getsockname()[1]
        self.process: subprocess.Popen[str] | None = None

    def _bound(self, host: str, reuse_port: bool) -> tuple[socket.socket, socket.socket]:
        while True:
            tcp, udp = (
                socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
            )
            if reuse_port:
                for sock in (tcp, udp):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            tcp.bind((host, 0))
            tcp.listen(64)
            try:
                udp.bind((host, tcp.getsockname()[1]))
            except OSError:
                tcp.close()
                udp.close()
                continue
            return tcp, udp

    def start(self, *flags: str, sockets: tuple[socket.socket, ...] = ()) -> None:
        handed = sockets or (self.udp, self.tcp)
        # high ones, so that none is where another is to go
        numbers = [os.dup2(sock.fileno(), 100 + at) for at, sock in enumerate(handed)]
        command = [sys.executable, "-c", LAUNCHER, ",".join(map(str, numbers)), "--json-logs"]
        command += ["--port", str(self.port), "--plain", "", "--store", str(self.folder / "store")]
        command += ["--certs", str(self.folder / "certs"), *flags]
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MVGATEWAY_")}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, pass_fds=numbers, env=ours
            )
        for number in numbers:
            os.close(number)

    def wait_ready(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), (self.folder / "log").read_text()

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        return self.folder / "certs" / "ca.pem"

    def close(self) -> None:
        if self.process is not None:
            self.stop()
        self.tcp.close()
        self.udp.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def unit(stack: ExitStack, folder: Path, **how: object) -> Unit:
    made = Unit(folder, **how)  # type: ignore[arg-type]
    stack.callback(made.close)
    return made


@pytest.mark.parametrize("workers", [1, 2])
async def test_sessions_over_quic_and_tcp_go_on_across_a_restart_and_no_connection_is_refused(
    stack: ExitStack, tmp_path: Path, workers: int
) -> None:
    served = unit(stack, tmp_path, reuse_port=workers > 1)
    served.start("--workers", str(workers))
    served.wait_ready()
    async with (
        Publisher(served.url, "w", ca=served.ca) as publisher,
        Subscriber(served.url, "w", ca=served.ca, transport="webtransport") as quic,
        Subscriber(served.url, "w", ca=served.ca, transport="websocket") as tcp,
    ):
        publisher.send({1: b"before"})
        await until(lambda: quic.records() == tcp.records() == {1: b"before"}, PATIENCE_S)
        await publisher.wait_durable()
        assert await asyncio.to_thread(served.stop) == 0
        waiting = await asyncio.open_connection(
            "127.0.0.1", served.port
        )  # nobody serves, and it is not refused
        served.start("--workers", str(workers))
        await asyncio.to_thread(served.wait_ready)
        publisher.send({1: b"after"})
        await until(lambda: quic.records() == tcp.records() == {1: b"after"}, PATIENCE_S)
        assert quic.epoch == tcp.epoch == 1
        assert quic.error is tcp.error is None
        waiting[1].close()
    async with httpx.AsyncClient(
        base_url=served.url, verify=ssl.create_default_context(cafile=served.ca), timeout=PATIENCE_S
    ) as client:
        for _ in range(8):
            answer = await client.get("/healthz", headers={"connection": "close"})
            assert answer.status_code == 200


def refused(served: Unit, *flags: str, sockets: tuple[socket.socket, ...] = ()) -> str:
    """What it says where it does not start."""
    served.start(*flags, sockets=sockets)
    assert served.process is not None
    assert served.process.wait(PATIENCE_S) == 2
    return (served.folder / "log").read_text()


def test_a_socket_that_listens_wider_than_the_settings_say_is_refused(
    stack: ExitStack, tmp_path: Path
) -> None:
    served = unit(stack, tmp_path, host="0.0.0.0")
    assert "0.0.0.0" in (said := refused(served))
    assert "--host 127.0.0.1" in said


def test_a_udp_socket_that_cannot_be_shared_is_refused_with_workers(stack: ExitStack, tmp_path: Path) -> None:
    assert "ReusePort=yes" in refused(unit(stack, tmp_path), "--workers", "2")


def test_what_is_no_socket_of_ours_is_refused(stack: ExitStack, tmp_path: Path) -> None:
    served = unit(stack, tmp_path)
    local = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    assert "neither UDP nor TCP" in refused(served, sockets=(served.udp, served.tcp, local))


def test_sockets_that_were_handed_to_another_process_are_left_alone(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "from gateway.runtime.activation import Activated; print(Activated.of().claim('tcp', '127.0.0.1', 0))",
        ],
        env={**os.environ, "LISTEN_PID": "1", "LISTEN_FDS": "2"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert ended.stdout.strip() == "None", ended.stderr


def test_more_sockets_than_a_gateway_has_doors_are_refused_with_the_bound() -> None:
    with pytest.raises(ConfigError, match=f"0 to {ACTIVATED_SOCKETS_MAX}"):
        Activated.of({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(ACTIVATED_SOCKETS_MAX + 1)})
    with pytest.raises(ConfigError, match=f"0 to {ACTIVATED_SOCKETS_MAX}"):
        Activated.of({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1" * 5_000})
