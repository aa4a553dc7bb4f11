"""Values with columns in SQL: of a world as it is kept, over any store, and of a film in any SQLite."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.recordings.recording import MAKE_STATE
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import WorldDatabase
from gateway.wire.xrgrid import EntityPacket
from tests.recordings.filming import Filmed, film
from tests.recordings.test_exports import BEGIN_US, GONE, TICK_US, journal
from tests.recordings.test_exports import film as film_of_walkers

DOCUMENT = {
    "name": "firsts",
    "fields": [{"name": "first", "type": "u8", "offset": 0}, {"name": "tick", "type": "u16", "offset": 0}],
}


def sql(
    capsys: pytest.CaptureFixture[str], world: str, store: Path | str, statement: str
) -> list[dict[str, Any]]:
    capsys.readouterr()
    code = main(["sql", world, statement, "--store", str(store), "--json"])
    out = capsys.readouterr()
    assert code == 0, out.err
    rows: list[dict[str, Any]] = json.loads(out.out)
    return rows


def set_layout(folder: Path, layout: object | None) -> None:
    store = EmbeddedStore.open(folder)
    world, _ = WorldDatabase.create(store.blocking(), "w", make_state=MAKE_STATE, now_us=1)
    world.set_layout(None if layout is None else json.dumps(layout))
    world.close()
    store.close()


@pytest.fixture
def made(tmp_path: Path) -> Filmed:
    return film(tmp_path / "store", ticks=80)


def test_a_world_has_its_records_with_the_columns_of_its_layout_of_now(
    made: Filmed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given, changed, taken away: no row is written anew."""
    store, last = tmp_path / "store", made.states[made.last]
    for layout, columns in [(DOCUMENT, ["first", "tick_"]), (None, ["record"])]:
        set_layout(store, layout)
        rows = sql(capsys, "w", store, "select * from state order by key")
        assert [row["key"] for row in rows] == sorted(last)
        assert all([*row] == ["epoch", "tick", "received_at", "key", "gone", *columns] for row in rows)
        if layout is not None:
            assert [row["first"] for row in rows] == [last[key][0] for key in sorted(last)]
            assert [row["tick_"] for row in rows] == [
                int.from_bytes(last[key][:2], "little") if len(last[key]) > 1 else None
                for key in sorted(last)
            ]


def test_a_world_tells_every_record_of_every_frame_and_any_moment(
    made: Filmed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    set_layout(store, DOCUMENT)
    places = sorted(made.states)
    begin, end = places[20], places[100]
    statement = f"select * from records('{begin[0]}:{begin[1]}', '{end[0]}:{end[1]}')"
    told: dict[int, int | None] = {}
    for row in sql(capsys, "w", store, statement):
        place = (row["epoch"], row["tick"])
        assert begin <= place <= end
        assert (row["gone"], row["first"] is None) in [(0, False), (1, True)]
        told[row["key"]] = row["first"]
    assert {key: first for key, first in told.items() if first is not None} == {
        key: data[0] for key, data in made.states[end].items()
    }
    for place in (begin, end):
        rows = sql(capsys, "w", store, f"select key, first from state('{place[0]}:{place[1]}')")
        assert {row["key"]: row["first"] for row in rows} == {
            key: data[0] for key, data in made.states[place].items()
        }


@pytest.mark.parametrize("text", ["goal", "1:2:3", "1:99999999999", "-1"])
def test_what_is_no_moment_is_refused_by_name(
    made: Filmed, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert main(["sql", "w", f"select * from state('{text}')", "--store", str(tmp_path / "store")]) == 1
    told = capsys.readouterr().err
    assert text in told
    assert "EPOCH:TICK" in told


def test_a_table_of_that_name_comes_first(
    made: Filmed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert (
        main(
            [
                "sql",
                "w",
                "create table state(x); insert into state values (7)",
                "--write",
                "--store",
                str(store),
            ]
        )
        == 0
    )
    assert sql(capsys, "w", store, "select * from state") == [{"x": 7}]
    assert sql(capsys, "w", store, "select count(*) as n from records")[0]["n"] > 100


def test_a_film_of_values_is_read_by_any_sqlite(tmp_path: Path) -> None:
    source, out = film_of_walkers(tmp_path / "arena.sqlite"), tmp_path / "goal.sqlite"
    assert main(["clip", str(source), "--values", "--out", str(out)]) == 0
    said = journal(source)
    with sqlite3.connect(f"file:{out}?mode=ro", uri=True) as plain:
        rows = plain.execute(
            "SELECT tick, key, gone, position_0, player, received_at FROM records"
        ).fetchall()
        kinds = dict(plain.execute("SELECT name, type FROM pragma_table_info('records')"))
    plain.close()
    assert [(tick, key) for tick, key, *_ in rows] == list(said)
    for (tick, key, gone, right, player, at), record in zip(rows, said.values(), strict=True):
        assert (gone == 1) == (record is None) == (tick == GONE and key == 3)
        assert at == BEGIN_US + (tick if tick > 1 else 0) * TICK_US
        if record is not None:
            assert right == pytest.approx(EntityPacket.decode(record).as_json()["position_m"][0])  # type: ignore[index]
            assert player == f"avatar-{key - 1}"
    assert (kinds["position_0"], kinds["player"], kinds["id"]) == ("REAL", "TEXT", "INTEGER")
    assert main(["verify", str(out)]) == 0


def test_an_archive_keeps_the_layout_and_comes_back_with_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, place = film_of_walkers(tmp_path / "arena.sqlite"), tmp_path / "archive"
    assert main(["archive", str(source), str(place), "--from", "1"]) == 0
    out, store = tmp_path / "back.sqlite", tmp_path / "store"
    assert main(["restore", str(place), "--out", str(out), "--values"]) == 0
    with sqlite3.connect(out) as plain:
        rows = plain.execute("SELECT tick, key, player FROM records WHERE key = 2 ORDER BY tick").fetchall()
    plain.close()
    assert rows == [(tick, 2, "avatar-1") for tick, key in journal(source) if key == 2]
    store.mkdir()
    assert main(["restore", str(place), "--store", str(store), "--world", "again"]) == 0
    told = sql(capsys, "again", store, "select distinct player from state order by player")
    assert [row["player"] for row in told] == ["avatar-0", "avatar-1", "avatar-2"]


def test_a_recovered_film_keeps_the_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = film_of_walkers(tmp_path / "arena.sqlite"), tmp_path / "last.sqlite"
    assert main(["recover", str(source), "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["recover", str(out), "--decode", "layout", "--json"]) == 0
    decoded = json.loads(capsys.readouterr().out)["decoded"]
    assert decoded["1"]["player"] == "avatar-0"
