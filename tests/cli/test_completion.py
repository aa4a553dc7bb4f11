"""Completion in real shells: each script is sourced and asked what may follow."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import verb_names
from gateway.cli.completion import SHELLS, known_words

PATIENCE_S = 60.0
IN_BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_mvgateway
printf '%s\\n' "${COMPREPLY[@]}"
"""
IN_FISH = "source $argv[1]; complete -C $argv[2] | string split -f1 \\t; true"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script of each shell, printed by the verb."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        made = subprocess.run(
            [sys.executable, "-m", "gateway.cli", "completion", shell],
            capture_output=True,
            timeout=PATIENCE_S,
            check=True,
        )
        (folder / shell).write_bytes(made.stdout)
    return folder


def ran(*argv: object) -> list[str]:
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.split()


def by_bash(scripts: Path, *typed: str) -> list[str]:
    return ran("bash", "--norc", "-c", IN_BASH, "bash", scripts / "bash", *typed)


def by_fish(scripts: Path, *typed: str) -> list[str]:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    return ran("fish", "--no-config", "-c", IN_FISH, scripts / "fish", " ".join(typed))


ASKED = [
    (("mvgateway", "pub"), ["publish"]),
    (("mvgateway", "publish", "plaza", "--tak"), ["--takeover"]),
    (("mvgateway", "watch", "--transport", "web"), ["websocket", "webtransport"]),
    (("mvgateway", "worlds", "del"), ["delete"]),
    (("mvgateway", "completion", "fi"), ["fish"]),
]


@pytest.mark.parametrize("by", [by_bash, by_fish])
@pytest.mark.parametrize(("typed", "offered"), ASKED)
def test_a_shell_offers_what_may_follow(
    by: Callable[..., list[str]], typed: tuple[str, ...], offered: list[str], scripts: Path
) -> None:
    assert sorted(by(scripts, *typed)) == offered


@pytest.mark.parametrize("by", [by_bash, by_fish])
def test_every_verb_is_offered(by: Callable[..., list[str]], scripts: Path) -> None:
    assert set(verb_names()) <= set(by(scripts, "mvgateway", ""))


def test_every_flag_of_every_verb_is_offered_in_bash(scripts: Path) -> None:
    for verb, words in known_words().items():
        assert set(words.flags) == set(by_bash(scripts, "mvgateway", verb, "--")), verb


def test_where_any_value_may_stand_bash_is_left_to_complete_file_names(scripts: Path) -> None:
    assert by_bash(scripts, "mvgateway", "publish", "plaza", "--from", "") == []
    assert by_bash(scripts, "mvgateway", "film", "") == []


@pytest.mark.parametrize(
    ("shell", "flags", "before"),
    [
        ("bash", ["--norc", "--noprofile", "-i"], ""),
        ("zsh", ["-f", "-i"], "autoload -Uz compinit; compinit -D -u;"),
    ],
)
def test_a_person_who_presses_tab_gets_the_rest_of_the_word(
    shell: str, flags: list[str], before: str, scripts: Path
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "PS1": "asks> ", "HOME": str(scripts)}
    process = subprocess.Popen([shell, *flags], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    try:
        os.write(ours, f"{before} source {scripts / shell}; echo rea''dy\n".encode())
        until(ours, b"ready\r\n")
        os.write(ours, b"echo mvgateway\x15mvgateway publish plaza --takeo\t")
        until(ours, b"--takeover")
        os.write(ours, b"\x15mvgateway worlds --retention rec\t")
        until(ours, b"record")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def until(fd: int, wanted: bytes) -> None:
    """Read the terminal until this stands in it."""
    seen = b""
    with contextlib.suppress(OSError):
        while wanted not in seen:
            seen += os.read(fd, 4_096)
    assert wanted in seen


def test_a_shell_that_is_unknown_is_told_with_those_that_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "completion", "tcsh"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr
