"""Every verb that reads a recording, on every kind of store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import retiring
from tests.recordings.once import BEGIN_US, fill, write_once
from tests.recordings.stores import STORES, Flags, copied

SIZE = 300
WORLD = f"once-{SIZE}"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "store"
    fill(folder, (SIZE, 1))
    return folder


@pytest.fixture(scope="module", params=STORES)
def flags(
    request: pytest.FixtureRequest, pages: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flags]:
    """What names the store, which runs for all verbs."""
    here = tmp_path_factory.mktemp("running")
    with STORES[request.param](copied(pages, here / "pages"), here) as named:
        yield named


class Verbs:
    """Runs a verb with the store's flags; answers what it printed."""

    def __init__(self, flags: Flags, capsys: pytest.CaptureFixture[str], out: Path) -> None:
        self._flags = flags
        self._capsys = capsys
        self.out = out

    def run(self, *arguments: object) -> str:
        code = main([str(argument) for argument in (*arguments, *self._flags)])
        told = self._capsys.readouterr()
        assert code == 0, told.err
        return told.out

    def json(self, *arguments: object) -> Any:
        return json.loads(self.run(*arguments, "--json").strip().splitlines()[-1])


@pytest.fixture
def verbs(flags: Flags, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Verbs:
    return Verbs(flags, capsys, tmp_path)


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as plain:
        return int(plain.execute("SELECT count(*) FROM frames WHERE keyframe = 0").fetchone()[0])


def test_recover(verbs: Verbs) -> None:
    assert (last := verbs.json("recover", WORLD))["tick"] == SIZE
    assert last["records"] == SIZE
    assert verbs.json("recover", WORLD, "--tick", "100", "--epoch", "1")["records"] == 100


def test_recover_list(verbs: Verbs) -> None:
    listed = {row["world"]: row for row in verbs.json("recover", "--list")["worlds"]}
    assert listed[WORLD]["rows"] == SIZE
    assert listed["once-1"]["rows"] == 1


def test_replay(verbs: Verbs) -> None:
    facts = verbs.json("replay", WORLD, "--out", verbs.out / "all.frames", "--speed", "max")
    assert (facts["frames"], facts["to"]["tick"]) == (SIZE - 1, SIZE)


def test_clip(verbs: Verbs) -> None:
    film = verbs.out / "film.sqlite"
    assert verbs.json("clip", WORLD, "--from", "10", "--to", "290", "--out", film)["frames"] == 280
    assert count(film) == 280


def test_plot(verbs: Verbs) -> None:
    assert f"{SIZE - 1} frames" in verbs.run("plot", WORLD, verbs.out / "w.svg")


def test_verify(verbs: Verbs) -> None:
    report = verbs.json("verify", WORLD)
    assert (report["rows"], report["damaged"]) == (SIZE, [])


def test_archive(verbs: Verbs) -> None:
    assert verbs.json("archive", WORLD, verbs.out / "archive")["frames"] == SIZE - 1
    assert main(["restore", str(verbs.out / "archive"), "--check"]) == 0


def test_restore(verbs: Verbs) -> None:
    verbs.json("archive", WORLD, verbs.out / "archive")
    verbs.json("restore", verbs.out / "archive", "--world", "restored")
    assert verbs.json("recover", "restored")["records"] == SIZE
    assert verbs.json("recover", "restored", "--tick", "7")["records"] == 7


def test_branch(verbs: Verbs) -> None:
    made = verbs.json("branch", WORLD, "branched", "--tick", "200", "--epoch", "1")
    assert made["parent"]["tick"] == 200
    assert verbs.json("recover", "branched")["records"] == 200
    assert verbs.json("recover", WORLD)["records"] == SIZE


def test_sql(verbs: Verbs) -> None:
    rows = json.loads(verbs.run("sql", WORLD, "SELECT count(*) AS n FROM frames", "--json"))
    assert rows == [{"n": SIZE}]


def test_sql_by_record(verbs: Verbs) -> None:
    query = "SELECT max(tick) AS last, count(DISTINCT tick) AS n FROM records WHERE NOT gone"
    assert json.loads(verbs.run("sql", WORLD, query, "--json")) == [{"last": SIZE, "n": SIZE}]
    now = json.loads(verbs.run("sql", WORLD, "SELECT tick, count(*) AS n FROM state", "--json"))
    assert now == [{"tick": SIZE, "n": verbs.json("recover", WORLD)["records"]}]


def test_export(verbs: Verbs) -> None:
    verbs.run("export", WORLD, verbs.out / "all.sqlite")
    assert count(verbs.out / "all.sqlite") == SIZE


def test_import(verbs: Verbs) -> None:
    verbs.run("export", WORLD, verbs.out / "all.sqlite")
    verbs.run("import", "imported", verbs.out / "all.sqlite")
    assert verbs.json("recover", "imported")["records"] == SIZE


def test_a_world_that_was_deleted_and_made_again_is_the_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under its name lies another namespace by then, for every verb."""
    folder = tmp_path / "store"
    fill(folder, (SIZE,))
    store = EmbeddedStore.open(folder)
    retiring.delete_world(store.engine, WORLD, BEGIN_US)
    write_once(store.engine, WORLD, 7)
    store.close()
    verbs = Verbs(["--store", str(folder)], capsys, tmp_path)
    assert verbs.json("recover", WORLD)["records"] == 7
    assert [row["rows"] for row in verbs.json("recover", "--list")["worlds"]] == [7]
    assert json.loads(verbs.run("sql", WORLD, "SELECT count(*) AS n FROM frames", "--json")) == [{"n": 7}]
    verbs.run("export", WORLD, tmp_path / "all.sqlite")
    assert count(tmp_path / "all.sqlite") == 7
    assert verbs.json("verify", WORLD)["rows"] == 7
    assert verbs.json("branch", WORLD, "b", "--tick", "3", "--epoch", "1")["parent"]["tick"] == 3
    assert verbs.json("recover", "b")["records"] == 3
