"""The demo as a person sees it: in terminals of 80 and 120 columns, over either link, and ended half way."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from pathlib import Path

import pytest

DEMO = (sys.executable, "-m", "gateway.cli", "demo")
PATIENCE_S = 120.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
STEPS = (
    "starting a gateway",
    "connecting the readers",
    "the link",
    "publishing at 60 Hz",
    "killed it (SIGKILL)",
    "starting it again",
    "recovered",
    "waiting until every reader has the last frame",
)


def environment(home: Path, **more: str) -> dict[str, str]:
    strange = ("COLUMNS", "XDG_CACHE_HOME", "NO_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in strange}
    return {**kept, "HOME": str(home), "TERM": "xterm-256color", **more}


async def in_a_terminal(columns: int, home: Path, *words: str) -> tuple[int, list[str]]:
    """The exit code, and each line that was drawn, the live ones every time."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *DEMO, *words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(home)
    )
    os.close(theirs)
    try:
        async with asyncio.timeout(PATIENCE_S):
            shown = await asyncio.to_thread(everything, ours)
            code = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        os.close(ours)
    return code, [ESCAPES.sub("", line).strip("\r") for line in re.split(r"\r?\n|\r", shown)]


def everything(fd: int) -> str:
    """What is written to a terminal until nobody has it open."""
    found = bytearray()
    with contextlib.suppress(OSError):  # EIO: the last one has closed it
        while data := os.read(fd, 65_536):
            found += data
    return found.decode(errors="replace")


@pytest.mark.timeout(PATIENCE_S + 60)
async def test_the_demo_says_the_same_in_80_and_in_120_columns_and_fits_both(tmp_path: Path) -> None:
    widths = (80, 120)
    runs = await asyncio.gather(
        *(in_a_terminal(width, tmp_path / str(width), "--seconds", "3") for width in widths)
    )
    told = []
    for width, (code, lines) in zip(widths, runs, strict=True):
        text = "\n".join(lines)
        assert code == 0, text
        assert not [line for line in lines if len(line) > width]
        at = [text.find(f"\n{step}" if n else step) for n, step in enumerate(STEPS)]
        assert at == sorted(at), text
        assert at[0] >= 0, text
        live = [line[:3] for line in lines if re.match(r"(UDP|TCP)  .* readers   age ", line)]
        assert live.count("UDP") > 3, text
        assert live.count("TCP") > 3, text
        assert "byte for byte equal to what was sent" in text
        end = text[text.index("What you saw:") :]
        assert re.search(r"publish plaza\n", end)
        assert "/.cache/mvgateway/demo.sqlite --port 7099" in end
        assert "http://127.0.0.1:7099/film#demo" in end
        assert (tmp_path / str(width) / ".cache/mvgateway/demo.sqlite").is_file()
        told.append(re.sub(r"[\d.]+|ticks?", "#", " ".join(end.split())).split("What they showed")[0])
    assert told[0] == told[1]


@pytest.mark.timeout(PATIENCE_S + 60)
async def test_where_no_namespace_can_be_made_a_relay_stands_in(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*DEMO, "--seconds", "2", "--link", "relay", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env=environment(tmp_path),
    )
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    results = json.loads(out)
    assert process.returncode == 0
    assert results["crash"]["recovered_equal"] is True
    assert all(results["delivered"].values())


def heeds_ctrl_c() -> None:
    """Also where the tests run behind a shell, which then ignores it for all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.timeout(PATIENCE_S + 60)
async def test_ended_half_way_it_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    process = await asyncio.create_subprocess_exec(
        *DEMO,
        stderr=asyncio.subprocess.PIPE,
        env=environment(tmp_path, TMPDIR=str(tmp_path / "tmp")),
        preexec_fn=heeds_ctrl_c,
    )
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        while not (await process.stderr.readline()).startswith(b"publishing"):
            pass
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        await process.stderr.read()  # whoever was started by it has it open no more
    assert not list((tmp_path / "tmp").glob("mvgateway-demo-*"))


async def test_a_link_that_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*DEMO, "--link", "netem"), stderr=asyncio.subprocess.PIPE, env=environment(tmp_path)
    )
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 2
    assert b"netem" in said
    assert b"namespace" in said
