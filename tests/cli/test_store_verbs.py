"""``sql``, ``export``, ``import`` and ``store`` on a store's folder, and on a server of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from gateway.cli import main
from gateway.store.embedded import EmbeddedStore
from gateway.wire import mvstore
from tests.patience import HANG_S

TABLE = "create table n (id integer primary key, t text, b blob);"
ROWS = "insert into n (t, b) values ('hello', x'00ff'), ('wörld', null)"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    store = EmbeddedStore.open(tmp_path / "pages")
    store.engine.close()
    return str(tmp_path / "pages")


def sql(folder: str, text: str, *flags: str, world: str = "notes") -> int:
    return main(["sql", world, text, "--store", folder, *flags])


@pytest.fixture
def notes(folder: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert sql(folder, TABLE + ROWS, "--write") == 0
    assert "2 rows changed" in capsys.readouterr().out
    return folder


def test_rows_are_shown_as_a_table_as_json_and_as_csv(notes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sql(notes, "select * from n") == 0
    shown = capsys.readouterr().out
    assert "x'00ff'" in shown
    assert "2 rows" in shown
    assert sql(notes, "select * from n", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"id": 1, "t": "hello", "b": "AP8="},
        {"id": 2, "t": "wörld", "b": None},
    ]
    assert sql(notes, "select * from n", "--csv") == 0
    assert capsys.readouterr().out.splitlines() == ["id,t,b", "1,hello,00ff", "2,wörld,"]


def test_nothing_is_changed_without_write(notes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sql(notes, "delete from n") == 1
    assert "--write" in capsys.readouterr().err
    assert sql(notes, "select count(*) as c from n", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"c": 2}]


def test_the_past_is_read_by_version_and_cannot_be_changed(
    notes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = EmbeddedStore.open(notes)
    from gateway.store.base import Namespace

    before = store.engine.stat(Namespace("notes")).version
    store.engine.close()
    assert sql(notes, "delete from n", "--write") == 0
    capsys.readouterr()
    for at in (("--at", before), ()):
        world = "notes" if at else f"notes@{before}"
        assert sql(notes, "select count(*) as c from n", "--json", *at, world=world) == 0
        assert json.loads(capsys.readouterr().out) == [{"c": 2}]
    assert sql(notes, "delete from n", "--write", "--at", before) == 2
    assert sql(notes, "select 1", "--at", before, world=f"notes@{before}") == 2
    assert sql(notes, "select 1", world="notes@12") == 2


def test_what_sqlite_refuses_is_said_in_its_words(notes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sql(notes, "select * from absent") == 1
    assert "no such table: absent" in capsys.readouterr().err
    assert sql(notes, "select 1", world="nobody") == 1
    assert sql("/nonexistent", "select 1") == 2


def test_an_export_is_an_ordinary_file_and_an_import_the_other_way(
    notes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "notes.sqlite"
    assert main(["export", "notes", str(file), "--store", notes]) == 0
    with closing(sqlite3.connect(file)) as plain:
        assert plain.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert plain.execute("select t from n order by id").fetchall() == [("hello",), ("wörld",)]
    assert main(["export", "notes", str(file), "--store", notes]) == 1
    assert "exists" in capsys.readouterr().err
    assert main(["import", "copy", str(file), "--store", notes]) == 0
    assert main(["import", "copy", str(file), "--store", notes]) == 1
    capsys.readouterr()
    assert sql(notes, "select t from n", "--csv", world="copy") == 0
    assert capsys.readouterr().out.splitlines() == ["t", "hello", "wörld"]


def test_an_import_of_no_database_is_refused(folder: str, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("not a database, but long enough to be taken for one" * 100)
    assert main(["import", "new", str(file), "--store", folder]) == 1


def test_a_store_is_checked_and_damage_is_counted(notes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "check", notes]) == 0
    assert " 0 damaged" in capsys.readouterr().out
    with closing(sqlite3.connect(Path(notes) / "store.sqlite")) as plain:
        plain.execute("update blob set data = x'00', enc = 0 where id = (select min(id) from blob)")
        plain.commit()
    assert main(["store", "check", notes, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["damaged"] == len(report["damage"]) >= 1
    assert re.search(r"[0-9a-f]{64}", " ".join(report["damage"]))


def test_a_store_is_described_and_backed_up(
    notes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", "stat", notes, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["namespaces"] == 1
    assert main(["store", "stat", notes]) == 0
    shown = capsys.readouterr().out
    year = datetime.fromtimestamp(facts["oldest_moment"], UTC).year
    assert re.search(rf"^oldest moment +{year}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", shown, flags=re.M)
    assert f"store.sqlite {facts['files']['store.sqlite']:,} bytes" in shown
    copy = tmp_path / "copy"
    assert main(["store", "backup", notes, str(copy)]) == 0
    assert main(["store", "backup", notes, str(copy)]) == 2
    restored = tmp_path / "restored"
    restored.mkdir()
    copy.rename(restored / "store.sqlite")
    assert main(["store", "check", str(restored)]) == 0
    assert main(["store", "check", str(tmp_path / "nothing")]) == 2


@contextlib.contextmanager
def serving(folder: Path, *flags: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The process, its two URLs; what it told is ``process.told``."""
    ports = ["--data-plane", "127.0.0.1:0", "--admin-api", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "store", "--path", str(folder), *ports, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
    )
    assert process.stdout is not None
    told = ""
    while "ready" not in told:
        line = process.stdout.readline()
        assert line, told
        told += line
    process.told = told  # type: ignore[attr-defined]
    data, api = re.findall(r"http://[0-9.:]+", told)
    try:
        yield process, data, api
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    with serving(tmp_path / "pages", "--auto-create-namespace") as started:
        yield started


def test_a_store_of_its_own_serves_both_planes_and_stops_when_asked(
    server: tuple[subprocess.Popen[str], str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    process, data, api = server
    assert main(["sql", "notes", TABLE + ROWS, "--write", "--store", data]) == 0
    capsys.readouterr()
    assert main(["sql", "notes", "select t from n", "--csv", "--store", data]) == 0
    assert capsys.readouterr().out.splitlines() == ["t", "hello", "wörld"]
    assert "notes" in httpx.get(f"{api}/api/list_namespace").text
    process.send_signal(signal.SIGTERM)
    assert process.wait(HANG_S) == 0


def test_a_port_in_use_names_the_flag_that_mends_it(
    server: tuple[subprocess.Popen[str], str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address = server[1].removeprefix("http://")
    assert main(["store", "--data-plane", address, "--path", str(tmp_path / "other")]) == 2
    assert "--data-plane" in capfd.readouterr().err
    assert main(["store", "--data-plane", "nonsense", "--path", str(tmp_path / "other")]) == 2


@pytest.mark.parametrize("flag", ["--data-plane", "--admin-api"])
def test_a_store_refuses_to_listen_beyond_loopback_unless_told_to(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", "--path", str(tmp_path / "pages"), flag, "192.0.2.1:0"]) == 2
    told = capsys.readouterr().err
    assert flag in told
    assert "--insecure-public" in told
    assert not (tmp_path / "pages").exists()


def test_a_flag_that_is_none_is_named_and_not_what_follows_it(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--cluster", "x"], ["--wire-zst", "--clusters=y", "x"], ["check", "--cluster", "x", "y"]):
        with pytest.raises(SystemExit) as ended:
            main(["store", *given])
        assert ended.value.code == 2
        assert "unrecognized arguments: --cluster" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["store", "chekc", "x"])
    assert "did you mean check?" in capsys.readouterr().err


def test_the_prefixes_that_mvstore_wants_are_taken_and_said_to_do_nothing(tmp_path: Path) -> None:
    flags = ("--metadata-prefix", "mvstore", "--raw-data-prefix", "m", "--auto-create-namespace")
    with serving(tmp_path / "pages", *flags) as (process, data, _):
        assert httpx.get(f"{data}/stat", headers={"x-namespace-key": "k"}).status_code == 200
        told = process.told  # type: ignore[attr-defined]
        for flag in ("--metadata-prefix", "--raw-data-prefix"):
            assert f"{flag} does nothing here" in told


def test_a_read_only_store_serves_what_another_process_writes(
    server: tuple[subprocess.Popen[str], str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, data, _ = server
    assert main(["sql", "notes", TABLE + ROWS, "--write", "--store", data]) == 0
    with serving(tmp_path / "pages", "--read-only", "--auto-create-namespace") as (_, copy, api):
        notes = {"x-namespace-key": "notes"}
        stat = httpx.get(f"{copy}/stat", headers=notes).json()
        assert stat["read_only"] is True
        capsys.readouterr()
        assert main(["sql", "notes", "select t from n", "--csv", "--store", copy]) == 0
        assert capsys.readouterr().out.splitlines() == ["t", "hello", "wörld"]
        for path, body in (
            ("/batch/write", mvstore.encode_write(b"x") + mvstore.COMPLETE),
            ("/nslock/acquire", b'{"owner": "me"}'),
        ):
            assert httpx.post(f"{copy}{path}", headers=notes, content=body).status_code == 403
        assert main(["sql", "notes", "delete from n", "--write", "--store", copy]) != 0
        assert httpx.post(f"{api}/api/create_namespace", json={"key": "new"}).status_code == 403
        assert httpx.get(f"{copy}/stat", headers={"x-namespace-key": "new"}).status_code == 404
        assert main(["sql", "notes", "delete from n", "--write", "--store", data]) == 0
        deadline = time.monotonic() + 20
        while httpx.get(f"{copy}/stat", headers=notes).json()["version"] == stat["version"]:
            assert time.monotonic() < deadline


def test_what_is_younger_than_the_minimum_age_is_not_truncated(tmp_path: Path) -> None:
    for flags, env in (
        (("--truncate-min-age-seconds", "3600"), {}),
        ((), {"MVSTORE_TRUNCATE_MIN_AGE_SECONDS": "3600"}),
    ):
        with serving(tmp_path / "pages", "--auto-create-namespace", *flags, **env) as (_, data, api):
            head = httpx.get(f"{data}/stat", headers={"x-namespace-key": "k"}).json()["version"]
            asked = {"key": "k", "before_version": head, "apply": True}
            refused = httpx.post(f"{api}/api/truncate_namespace", json=asked)
            assert refused.status_code == 403
            assert "--truncate-min-age-seconds" in refused.json()["detail"]
    with serving(tmp_path / "pages") as (_, _, api):
        done = httpx.post(f"{api}/api/truncate_namespace", json=asked)
        assert done.text.splitlines()[-1] == "DONE"


def test_a_store_addressed_by_another_name_says_in_its_log_which_flag_lets_it(tmp_path: Path) -> None:
    with serving(tmp_path / "pages", "--auto-create-namespace") as (process, data, _):
        for _ in range(3):
            refused = httpx.get(f"{data}/stat", headers={"x-namespace-key": "k", "host": "store.lan:7000"})
            assert refused.status_code == 421
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "--allow-origin" in line
        assert "store.lan:7000" in line
        assert "database is locked" in line
