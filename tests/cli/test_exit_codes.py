"""One rule for what a verb is given to read: not there is wrong usage (2), there and not what it should be is work that failed (1)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.store.embedded import EmbeddedStore

NOWHERE = ("--url", "http://127.0.0.1:9")
"""A gateway that nobody has to ask: the file comes first."""
FILES: Mapping[str, Sequence[str]] = {
    "archive": ("FILE", "kept"),
    "clip": ("FILE", "--out", "goal.sqlite"),
    "film": ("FILE",),
    "import": ("w", "FILE", "--store", "store"),
    "plot": ("FILE", "arena.svg"),
    "recover": ("FILE",),
    "replay": ("FILE", "--to-world", "w", *NOWHERE),
    "restore": ("FILE", "--check"),
    "verify": ("FILE",),
}
"""The verbs that read a file (or, of an archive, a folder), and how they are told which."""
NOT_THERE: Mapping[str, Sequence[str]] = {
    "export": ("w", "copy.sqlite", "--store", "FILE"),
    "sql": ("w", "select 1", "--store", "FILE"),
    "store": ("check", "FILE"),
    "variant": ("decode", "FILE"),
    "watch": ("w", "--token-file", "FILE", *NOWHERE),
    "worlds": ("set", "w", "--layout", "FILE", *NOWHERE),
}
"""Those to which a file that is there and is none of theirs is wrong usage as well: a flag's value, or a store's folder."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    EmbeddedStore.open(tmp_path / "store").blocking().close()
    (tmp_path / "text.sqlite").write_text("no film at all")
    (tmp_path / "empty.sqlite").write_bytes(b"")
    (tmp_path / "folder.sqlite").mkdir()
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as other:
        other.execute("CREATE TABLE t(a)")
        other.commit()
    return tmp_path


def code_of(verb: str, words: Sequence[str], file: str) -> int:
    try:
        return main([verb, *[file if word == "FILE" else word for word in words]])
    except SystemExit as ended:
        return int(str(ended.code))


@pytest.mark.parametrize("verb", [*FILES, *NOT_THERE])
def test_what_is_named_to_be_read_and_is_not_there_is_wrong_usage(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(verb, {**FILES, **NOT_THERE}[verb], "gone.sqlite") == 2
    said = capsys.readouterr().err
    assert "gone.sqlite" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("verb", sorted(FILES.keys() - {"restore"}))
def test_a_folder_in_the_place_of_a_file_is_wrong_usage(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(verb, FILES[verb], "folder.sqlite") == 2
    assert "folder.sqlite is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["text.sqlite", "empty.sqlite", "other.sqlite"])
@pytest.mark.parametrize("verb", sorted(FILES.keys() - {"restore"}))
def test_what_is_there_and_not_what_it_should_be_is_work_that_failed(
    verb: str, file: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if (verb, file) == ("import", "other.sqlite"):
        assert code_of(verb, FILES[verb], file) == 0, "any SQLite file can be a world's database"
        return
    assert code_of(verb, FILES[verb], file) == 1
    assert f"mvgateway {verb}: " in capsys.readouterr().err
    assert not (here / "goal.sqlite").exists()
