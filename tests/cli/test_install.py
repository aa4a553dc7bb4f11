"""What a first `make` shows while it installs: how far it is, where somebody looks on; and whether it went well."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.patience import HANG_S

SCRIPT = Path(__file__).parents[2] / ".ci" / "install.sh"
INSTALLER = """#!/bin/sh
echo "Collecting one==1 (from -r two.lock (line 1))"
echo "Collecting two==2 (from -r two.lock (line 2))"
echo "Installing collected packages: one, two"
exit $CODE
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The script's command line, with an installer of two packages in Python's place."""
    python, lock = tmp_path / "python", tmp_path / "two.lock"
    python.write_text(INSTALLER)
    python.chmod(0o755)
    lock.write_text("one==1 \\\n    --hash=sha256:1\ntwo==2 \\\n    --hash=sha256:2\n")
    return ["sh", str(SCRIPT), str(python), str(lock)]


@pytest.mark.parametrize("code", [0, 1])
def test_who_looks_on_sees_each_package_and_the_end_is_pips(words: list[str], code: int) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(words, stdout=theirs, env={**os.environ, "CODE": str(code)}) as process:
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # so a terminal ends whose other side is closed
            while piece := os.read(ours, 4_096):
                text += piece
        assert process.wait(HANG_S) == code
    os.close(ours)
    assert b"1 of 2: one==1" in text
    assert b"2 of 2: two==2" in text
    assert b"2 fetched" in text


@pytest.mark.parametrize("code", [0, 1])
def test_where_nobody_looks_on_pip_speaks_for_itself(words: list[str], code: int) -> None:
    shown = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env={**os.environ, "CODE": str(code)},
        timeout=HANG_S,
        check=False,
    )
    assert shown.returncode == code
    assert " of 2" not in shown.stdout
