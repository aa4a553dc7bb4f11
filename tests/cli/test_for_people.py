"""What verbs print for people: no dicts, no lists, rates of the whole time, and a sign of life where one waits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import watch, worlds
from gateway.cli._client import waiting
from gateway.client import Subscriber
from gateway.wire.layouts import DOCUMENTS
from tests.patience import HANG_S

WAITS = """
import sys
from gateway.cli._client import waiting
with waiting("the gateway verifies plaza"):
    sys.stdin.readline()
"""


def shown(answer: dict[str, Any], capsys: pytest.CaptureFixture[str], action: str = "show") -> str:
    parser = __import__("argparse").ArgumentParser()
    worlds.add_arguments(parser)
    worlds._show(parser.parse_args([action, "plaza"]), answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_world_is_shown_without_brackets_braces_or_quotes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(
        {
            "world": "plaza",
            "durable": {"epoch": 3, "tick": 648},
            "rates": {"frames_per_s": 60.0, "messages_per_s": 60.0},
            "layout": dict(DOCUMENTS[name]),
            "gateways": ["a", "b"],
            "nothing": {},
            "none": [],
            "publisher": None,
        },
        capsys,
    )
    assert not set("{}[]'=") & set(text), text
    assert "durable     3:648\n" in text
    assert "gateways    a, b\n" in text
    first = DOCUMENTS[name]["fields"][0]["name"]
    assert f"{DOCUMENTS[name].get('name', name)}: {first}" in text or name in text


def test_the_last_line_of_watch_has_the_rates_of_the_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    subscriber = Subscriber("https://127.0.0.1:4433", "plaza")
    meter = watch.Meter(subscriber)
    for tick in range(1, 121):
        subscriber.counts.ticks.see(1, tick)
    subscriber.counts.bytes = 250_000
    now[0] = 102.0
    meter.measure()
    now[0] = 104.0
    meter.measure()
    assert meter.tick_rate == 0.0, "nothing came in the last second"
    meter.measure_all()
    assert meter.tick_rate == 30.0
    assert meter.kbps == 500.0


def test_where_nobody_looks_on_waiting_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting("the gateway verifies plaza"):
        pass
    assert capsys.readouterr() == ("", "")


def test_who_waits_at_a_terminal_sees_for_what(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", WAITS],
        stdin=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):
            while b"the gateway verifies plaza" not in text:
                text += os.read(ours, 4_096)
        process.communicate(b"\n", timeout=HANG_S)
    os.close(ours)
    assert b"the gateway verifies plaza" in text
    assert process.returncode == 0
