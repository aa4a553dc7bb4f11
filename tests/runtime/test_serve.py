"""``mvgateway serve`` as a process: facts, refusals at start, certificates, signals."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from gateway.runtime import certs
from gateway.wire import Control, decode_message
from tests.patience import HANG_S
from tests.runtime.conftest import StartProcess, body, frame


def test_the_facts_come_first_and_ready_last(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway.cli", "serve", "--port", "0", "--no-plain"]
    command += ["--store", str(tmp_path / "s"), "--certs", str(tmp_path / "c")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    while not lines or lines[-1] not in ("ready\n", ""):
        lines.append(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=HANG_S)
    assert lines[-1] == "ready\n"
    assert (process.returncode, rest) == (0, "")
    assert [line.split()[2] for line in errors.splitlines()] == ["INFO"]
    assert "draining  sessions=0" in errors
    shown = {line.rsplit("  ", 1)[0].strip() for line in lines[:-1]}
    assert {"version", "store", "https", "certificate sha256", "certificate expires"} <= shown


async def test_sigterm_says_bye_flushes_and_exits_with_0(start_process: StartProcess) -> None:
    child = start_process().wait_ready()
    url = f"ws://127.0.0.1:{child.port('plain')}/v1/worlds/w/live"
    async with websockets.connect(f"{url}?role=publish") as publisher:
        await publisher.recv()
        for tick in range(1, 31):
            await publisher.send(frame(tick, {1: b"%d" % tick}))
        async with websockets.connect(url) as reader:
            await reader.recv()
            child.process.send_signal(signal.SIGTERM)
            told = []
            with pytest.raises(websockets.ConnectionClosed) as closed:  # noqa: PT012
                while True:
                    message = await reader.recv()
                    assert isinstance(message, bytes)
                    told.append(decode_message(message))
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4_002
    farewell = told[-1]
    assert isinstance(farewell, Control)
    assert farewell.type == "bye"
    assert farewell["reconnect_after_ms"] > 0
    code, log = await asyncio.to_thread(child.end)
    assert code == 0
    assert {json.loads(line)["level"] for line in log.splitlines()} == {"info"}
    again = start_process().wait_ready()
    async with httpx.AsyncClient(base_url=again.base_url) as client:
        last = await client.get("/v1/worlds/w/frames/last")
    assert last.headers["x-tick"] == "30"


def refused(child_start: StartProcess, *flags: str, **more: dict[str, str]) -> str:
    code, errors = child_start(*flags, **more).end()
    assert code == 2, errors
    assert len(errors.splitlines()) == 1, errors
    return errors


def test_a_port_in_use_is_refused_by_its_flag(start_process: StartProcess) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            said = refused(start_process, "--port", str(port))
            assert f"port {port} on 127.0.0.1 is in use" in said
            assert "--port" in said


def test_a_plain_port_in_use_is_refused_by_its_flag(start_process: StartProcess) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        said = refused(start_process, "--plain", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "--plain" in said


def test_a_store_in_use_is_refused_by_its_flag(start_process: StartProcess) -> None:
    start_process().wait_ready()
    assert "--store" in refused(start_process)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write anywhere")
def test_a_store_that_is_no_folder_is_refused_by_its_flag(
    start_process: StartProcess, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert "--store" in refused(start_process, "--store", str(tmp_path / "file"))


def test_certificates_that_cannot_be_written_are_refused_by_their_flag(
    start_process: StartProcess, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert "--certs" in refused(start_process, "--certs", str(tmp_path / "file"))


def test_beyond_loopback_must_be_said_in_so_many_words(start_process: StartProcess) -> None:
    assert "--insecure-public" in refused(start_process, "--host", "0.0.0.0")
    start_process("--host", "0.0.0.0", "--insecure-public").wait_ready()


def test_an_address_of_another_machine_is_refused(start_process: StartProcess) -> None:
    assert "--host" in refused(start_process, "--host", "192.0.2.1", "--insecure-public")


@pytest.fixture
def own_pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of the user's own, expired."""
    folder = tmp_path / "own"
    certs.ensure_own(folder, "127.0.0.1", datetime.now(UTC) - timedelta(days=20))
    return folder / certs.LEAF_CERT, folder / certs.LEAF_KEY


def test_an_expired_certificate_is_refused(start_process: StartProcess, own_pair: tuple[Path, Path]) -> None:
    said = refused(start_process, "--cert", str(own_pair[0]), "--key", str(own_pair[1]))
    assert "expired on" in said
    assert "--cert" in said


def test_a_key_of_another_certificate_is_refused(
    start_process: StartProcess, own_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    certs.ensure_own(tmp_path / "other", "127.0.0.1", datetime.now(UTC))
    said = refused(
        start_process, "--cert", str(tmp_path / "other" / certs.LEAF_CERT), "--key", str(own_pair[1])
    )
    assert "does not belong" in said


async def test_the_served_certificate_is_the_one_that_is_told(start_process: StartProcess) -> None:
    child = start_process().wait_ready()
    verify = ssl.create_default_context(cafile=child.facts["certificate_authority"])
    async with httpx.AsyncClient(verify=verify, http2=True) as client:
        answer = await client.get(f"https://localhost:{child.port('https')}/certificate.sha256")
    assert answer.text.strip() == child.facts["certificate_sha256"]
    assert answer.http_version == "HTTP/2"
    assert answer.headers["alt-svc"] == f'h3=":{child.port("https")}"; ma=86400'


async def test_the_dashboard_and_health_are_there(start_process: StartProcess) -> None:
    child = start_process().wait_ready()
    async with httpx.AsyncClient(base_url=child.base_url) as client:
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "mvgateway" in page.text
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["worlds_open"]) == ("ok", 0)
        await client.post("/v1/worlds/w/frames", content=body(frame(1, {1: b"x"})))
        assert (await client.get("/healthz")).json()["worlds_open"] == 1


def test_addresses_are_shown_as_they_can_be_used(start_process: StartProcess) -> None:
    child = start_process("--host", "::1", "--plain", "[::1]:0").wait_ready()
    for door in ("https", "plain", "dashboard"):
        assert re.match(r"https?://\[::1\]:\d+", child.facts[door])
    assert httpx.get(child.facts["dashboard"]).headers["content-type"].startswith("text/html")


def test_watch_says_what_it_saw_also_when_it_is_interrupted(
    tmp_path: Path, start_process: StartProcess
) -> None:
    child = start_process().wait_ready()
    ca, url = str(tmp_path / "certs" / "ca.pem"), f"https://127.0.0.1:{child.port('https')}"
    httpx.put(f"{child.base_url}/v1/worlds/w").raise_for_status()
    command = [sys.executable, "-m", "gateway.cli", "watch", "w", "--url", url, "--ca", ca]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        while not httpx.get(f"{child.base_url}/v1/worlds/w").json()["readers"]:
            assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        out, _ = watching.communicate(timeout=HANG_S)
    assert watching.returncode == 130
    assert "0 records" in out


def test_who_publishes_anew_leaves_no_avatars_of_the_run_before(
    tmp_path: Path, start_process: StartProcess
) -> None:
    child = start_process().wait_ready()
    ca, url = str(tmp_path / "certs" / "ca.pem"), f"https://127.0.0.1:{child.port('https')}"

    def publish(*flags: str) -> dict[str, Any]:
        words = ("publish", "w", "--seconds", "0.5", "--json", "--url", url, "--ca", ca, *flags)
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", *words], capture_output=True, timeout=HANG_S
        )
        assert done.returncode == 0, done.stderr
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts

    def records() -> int:
        count: int = httpx.get(f"{child.base_url}/v1/worlds/w").json()["records"]
        return count

    publish("--players", "10")
    assert records() == 10
    epoch = publish("--players", "3")["epoch"]
    assert records() == 3
    publish("--players", "2", "--epoch", str(epoch))
    assert records() == 3
