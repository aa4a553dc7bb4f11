"""The command line itself: verbs are found, help is there, errors are one clear line."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import cli
from gateway.errors import ConfigError, GatewayError
from tests.patience import HANG_S


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments], capture_output=True, text=True, timeout=HANG_S
    )


@pytest.mark.parametrize("name", cli.verb_names())
def test_every_verb_shows_an_example_in_its_help(name: str) -> None:
    verb = cli.load_verb(name)
    assert name == verb.NAME
    help_text = cli.build_parser(name).parse_args
    with pytest.raises(SystemExit) as ended:
        help_text([name, "--help"])
    assert ended.value.code == 0
    assert verb.EXAMPLE.strip().splitlines()[0].startswith("mvgateway")


def test_help_does_not_load_the_gateway() -> None:
    code = "import sys; from gateway import cli; cli.build_parser(); print([m for m in sys.modules if m in ('aioquic', 'starlette', 'apsw', 'httpx', 'asyncio')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_S)
    assert loaded.stdout.strip() == "[]", loaded.stderr


def test_no_verb_prints_the_help_and_counts_as_wrong_usage() -> None:
    ended = run_cli()
    assert ended.returncode == 2
    assert "serve" in ended.stdout


def test_an_unknown_verb_is_wrong_usage() -> None:
    assert run_cli("sevre").returncode == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError("--port: no"), 2), (GatewayError("it failed"), 1), (KeyboardInterrupt(), 130)],
)
def test_an_error_becomes_one_line_and_an_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise error

    assert cli._guarded(fail, argparse.Namespace(verb="serve")) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (0 if code == 130 else 1)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["recoverr", "plaza"], "recover"),
        (["publsh", "plaza", "--players", "3"], "publish"),
        (["serv", "--port", "0"], "serve"),
        (["publish", "plaza", "--takover"], "--takeover"),
        (["publish", "plaza", "--transport", "websockt"], "websocket"),
        (["worlds", "lst"], "list"),
    ],
)
def test_a_word_that_is_not_known_gets_the_nearest_that_is(words: list[str], meant: str) -> None:
    ended = run_cli(*words)
    assert ended.returncode == 2
    assert ended.stderr.rstrip().endswith(f"did you mean {meant}?")


def test_a_word_like_nothing_else_gets_no_advice() -> None:
    assert "did you mean" not in run_cli("qqqqqqqq").stderr


def test_a_flag_that_a_verb_does_not_know_is_an_error_of_the_verb() -> None:
    assert "usage: mvgateway verify" in run_cli("verify", "plaza", "--qqqqqq").stderr


def test_an_error_is_not_pushed_out_of_sight_by_the_usage_of_a_verb_with_many_flags() -> None:
    said = run_cli("serve", "--plain-port", "0").stderr.splitlines()
    assert said == [
        "usage: mvgateway serve --help lists the flags",
        "mvgateway serve: error: unrecognized arguments: --plain-port 0; did you mean --plain?",
    ]


def test_no_verb_has_its_other_half_in_a_second_file() -> None:
    files = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    assert not {name for name in files if f"_{name}" in files}
