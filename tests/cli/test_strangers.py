"""What a stranger types, and is told: the value, the bound or the way out, and never a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import cli
from gateway.givenfiles import read_given
from gateway.recordings.films import FilmWriter
from gateway.store.embedded import EmbeddedStore
from gateway.wire import Frame, Record, encode_frame
from tests.patience import HANG_S

NOBODY = "https://127.0.0.1:9"
"""The port of "discard": nobody listens there."""


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit code of a command line, and what it told on standard error."""
    capsys.readouterr()
    try:
        code = cli.main(words)
    except SystemExit as ended:  # of argparse
        code = int(ended.code or 0)
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return code, told


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, with nothing of ours in the environment."""
    for name in [name for name in os.environ if name.startswith("MVGATEWAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.sqlite"
    with FilmWriter(path, world="plaza", stride=0, now_us=1) as made:
        made.begin([encode_frame(Frame(1, 7, [Record(1, b"a")], keyframe=True))], received_at_us=1)
    return path


@pytest.fixture
def website() -> Iterator[str]:
    """A web server that is no gateway, and says OK to whatever it is asked."""

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello")

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("publish plaza --hz 0", "--hz 0 is outside 0.001 to 1000"),
        ("publish plaza --hz nan", "--hz nan is outside"),
        ("publish plaza --players 0", "--players 0 is outside 1 to 1000000"),
        ("publish plaza --players 2000 --bones 2000", "--players times --bones 4000000 is outside"),
        ("publish plaza --seconds -1", "--seconds -1 is outside 0 to 31536000"),
        ("publish plaza --epoch 0", "--epoch 0 is outside 1 to"),
        ("publish plaza --from nowhere.frames", "--from nowhere.frames: No such file"),
        ("watch plaza --seconds -1", "--seconds -1 is outside"),
        ("watch plaza --budget-kbps 0", "--budget-kbps 0 is outside 1 to"),
        ("watch plaza --delay-s 0.5", "--delay-s 0.5 is outside 1 to 3600"),
        ("watch plaza --token abc", "--token-file abc: No such file or directory; it takes a file"),
        ("recover", "name a world"),
        ("worlds create", "create needs the world's name"),
        ("worlds set plaza --layout nothing.json", "no built-in layout (avatars"),
        ("sql film.sqlite SELECT", "a world's is asked for"),
        ("export ./plaza out.sqlite", "a world's is asked for"),
        ("export plaza", "name one file to write, and none was given: mvgateway export WORLD FILE"),
        ("export plaza a.sqlite --out b.sqlite", "a.sqlite and --out b.sqlite are two"),
        ("plot plaza picture.png", "what is drawn is SVG"),
        ("archive plaza s3://", "s3:// names no bucket"),
        ("--url https://a.example watch plaza", "a verb's flags stand behind it"),
    ],
)
def test_a_wrong_command_line_is_told_what_is_wrong_and_what_is_right(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, *words.split())
    assert code == 2, text
    assert told in text


def test_a_token_that_was_given_in_the_place_of_its_file_is_not_repeated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, text = said(capsys, "watch", "plaza", "--token", "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl")
    assert code == 2
    assert "MVGATEWAY_TOKEN" in text
    assert "c2lnbmF0dXJl" not in text


@pytest.mark.parametrize("verb", ["worlds", "recover plaza", "watch plaza", "publish plaza", "sql plaza x"])
def test_a_ca_file_that_holds_no_certificate_is_told_before_anybody_is_asked(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.pem").write_text("remember the milk\n")
    code, text = said(capsys, *verb.split(), "--url", NOBODY, "--ca", "notes.pem")
    assert code == 2
    assert "the CA file notes.pem holds no certificate in PEM" in text


def test_what_answers_but_is_no_gateway_is_told_so(website: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "worlds", "--url", website)
    assert code == 1
    assert f"what answers at {website} is no gateway" in text
    assert "<html>hello" in text


@pytest.mark.parametrize("verb", ["worlds", "recover plaza", "recover --list", "top --once"])
def test_every_verb_takes_the_gateway_by_url(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*verb.split(), "--url", NOBODY, "--transport", "websocket"]) == 1
    told = capsys.readouterr()
    assert "127.0.0.1:9" in told.out + told.err


def test_several_urls_may_stand_in_one_flag_or_in_several_or_behind_the_verb(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.main(
        [
            "top",
            "--once",
            "--json",
            NOBODY,
            "--url",
            "http://127.0.0.1:1,http://127.0.0.1:2",
            "--url",
            "http://127.0.0.1:3",
        ]
    )
    told = capsys.readouterr().out
    assert [
        told.count(f'"url": "{url}"') for url in (NOBODY, *(f"http://127.0.0.1:{n}" for n in (1, 2, 3)))
    ] == [1] * 4


@pytest.mark.parametrize(
    "words", [("export", "plazza", "out.sqlite"), ("sql", "plazza", "select * from frames")]
)
def test_a_name_by_which_nothing_is_stored_is_told(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    EmbeddedStore.open(tmp_path / "store", auto_create=True).blocking().close()
    code, text = said(capsys, *words, "--store", "store")
    assert code == 1
    assert "'plazza'" in text
    assert not Path("out.sqlite").exists()


async def test_who_waits_for_a_gateway_is_told_for_which_and_why() -> None:
    words = [
        sys.executable,
        "-m",
        "gateway.cli",
        "publish",
        "plaza",
        "--url",
        NOBODY,
        "--transport",
        "websocket",
    ]
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(HANG_S):
            line = (await process.stderr.readline()).decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert line.startswith(f"waiting for a gateway at {NOBODY}")
    assert line.endswith("; Ctrl-C ends it\n")


def test_recover_lists_the_one_world_that_is_named(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recover", str(film), "--list"]) == 0
    assert capsys.readouterr().out.startswith("plaza ")


def test_a_stretch_that_begins_after_the_end_is_not_taken_for_the_last_tick(
    film: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, "clip", str(film), "--from", "1:99", "--out", "clip.sqlite")
    assert code == 1
    assert "--from 1:99 lies after the end of" in text
    assert not Path("clip.sqlite").exists()


@pytest.mark.parametrize("name", ["out.sqlite", "out.csv", "out.frames", "out.svg"])
def test_what_is_no_file_is_never_replaced_by_one(
    name: str, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).mkdir()
    verb = {"frames": "recover", "svg": "plot"}.get(name.partition(".")[2], "clip")
    code, text = said(capsys, verb, str(film), "--out", name)
    assert code == 2
    assert name in text
    assert (tmp_path / name).is_dir()
    assert not list(tmp_path.glob(".*"))


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-m", "gateway.cli", "variant", "encode", "-", "--out", "pipe"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"1")
        process.stdin.close()
        assert (tmp_path / "pipe").read_bytes()
        assert process.wait(HANG_S) == 0
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_the_version_is_told_without_a_look_at_any_verb() -> None:
    script = "import sys; from gateway import cli; cli.main(['--version']); print(len([m for m in sys.modules if m.startswith('gateway.cli.')]))"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_S, check=True
    )
    version, modules = shown.stdout.splitlines()
    assert version.startswith("mvgateway ")
    assert modules == "1"  # the parser


@pytest.mark.parametrize(
    "words",
    [
        ("worlds", "set", "plaza", "--layout", "/dev/zero", "--url", NOBODY),
        ("watch", "plaza", "--ca", "large", "--url", NOBODY),
        ("serve", "--config", "/dev/zero"),
        ("serve", "--port", "0", "--cert", "/dev/zero", "--key", "/dev/zero"),
        ("token", "sign", "--key", "/dev/zero", "--subject", "me"),
        ("variant", "decode", "/dev/zero"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_file_without_an_end_is_not_read_to_its_end(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with open("large", "wb") as large:
        large.truncate(1 << 30)
    code, told = said(capsys, *words)
    assert code
    assert "/dev/zero" in told or "large" in told
    assert "it holds more than the" in told


def test_a_file_of_just_as_many_bytes_as_are_read_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    assert read_given(tmp_path / "file", 4) == b"1234"
    with pytest.raises(OSError, match="more than the 3 bytes"):
        read_given(tmp_path / "file", 3)
