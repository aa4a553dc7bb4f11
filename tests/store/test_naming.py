"""Which namespace a world's name means: made, deleted, made again, imported, restored, told by the CLI."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from gateway.cli import main
from gateway.core.state import WorldState
from gateway.errors import NameTaken, NotFound, UnknownWorld, Unprocessable, WorldDeleted
from gateway.store.base import Namespace
from gateway.store.database import Database
from gateway.store.embedded import EmbeddedStore
from gateway.store.embedded.engine import Engine
from gateway.store.world import WorldDatabase, catalogue, naming, retiring
from gateway.store.world.catalogue import CATALOGUE_KEY
from gateway.store.world.files import export, import_file
from gateway.store.world.rebuilding import rebuild
from tests.patience import HANG_S
from tests.runtime.faults.driver import StoreProcess
from tests.store.recording import START_US, Recorder, damaged

DAY_US = 86_400_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Engine]:
    opened = EmbeddedStore.open(tmp_path / "store", auto_create=True)
    yield opened.blocking()
    opened.close()


def made(store: Engine, name: str = "w", now_us: int = START_US) -> WorldDatabase:
    return WorldDatabase.create(store, name, make_state=WorldState, now_us=now_us)[0]


def keys(store: Engine) -> list[str]:
    return [info.key for info in store.list_namespaces()]


def played(world: WorldDatabase, ticks: int = 20, seed: int = 1) -> Recorder:
    recorder = Recorder(seed=seed)
    world.begin_epoch(None, START_US)
    for batch in recorder.batches(ticks, 5):
        world.append(batch)
    return recorder


def test_each_life_of_a_name_has_a_namespace_of_its_own_and_the_first_the_plain_one(store: Engine) -> None:
    for generation in range(1, 5):
        world = made(store, now_us=START_US + generation)
        assert world.identity.generation == generation
        assert world.database.namespace.key == ("w" if generation == 1 else f"w~{generation}")
        world.close()
        retiring.delete_world(store, "w", START_US)
        with pytest.raises(UnknownWorld):
            WorldDatabase.open(store, "w", make_state=WorldState)


def test_a_store_where_nothing_was_deleted_has_no_catalogue(store: Engine) -> None:
    made(store).close()
    WorldDatabase.open(store, "w", make_state=WorldState).close()
    with pytest.raises(UnknownWorld):
        WorldDatabase.open(store, "v", make_state=WorldState)
    assert CATALOGUE_KEY not in keys(store)


def test_who_had_it_open_neither_reads_nor_writes_a_deleted_world(store: Engine) -> None:
    world, recorder = made(store), Recorder()
    reader = WorldDatabase.open(store, "w", make_state=WorldState)
    world.append(next(recorder.batches(5, 5)))
    assert reader.last() is not None
    retiring.delete_world(store, "w", START_US)
    again = made(store, now_us=START_US + 1)
    for _ in range(2):
        with pytest.raises(WorldDeleted):
            world.append(next(recorder.batches(5, 5)))
        with pytest.raises(WorldDeleted):
            reader.last()
    assert again.last() is None


def test_nor_once_its_namespace_is_gone_or_is_another_ones(store: Engine) -> None:
    world, recorder = made(store), Recorder()
    reader = WorldDatabase.open(store, "w", make_state=WorldState)
    world.append(next(recorder.batches(5, 5)))
    assert reader.last() is not None
    store.delete_namespace("w")
    made(store, now_us=START_US + 1).close()
    with pytest.raises(WorldDeleted):
        world.append(next(recorder.batches(5, 5)))
    with pytest.raises(WorldDeleted):
        reader.last()


def test_a_head_that_was_trusted_for_long_is_asked_for_before_anything_is_written(store: Engine) -> None:
    world, recorder = made(store), Recorder()
    world.append(next(recorder.batches(5, 5)))
    retiring.delete_world(store, "w", START_US)
    retiring.reap(store, START_US + DAY_US, 0.0)
    # As after a long rest: a database asks the clock of its own process, and nobody else gives it one.
    world.database._monotonic = lambda: 1e9
    with pytest.raises(WorldDeleted):
        world.append(next(recorder.batches(5, 5)))


def test_of_two_that_delete_a_world_one_has_deleted_it(store: Engine) -> None:
    made(store).close()
    identity = naming.resolve(store, "w")
    retiring.delete_world(store, "w", START_US)
    with pytest.raises(UnknownWorld):
        retiring.retire(store, identity, START_US)
    with pytest.raises(UnknownWorld):
        retiring.delete_world(store, "w", START_US)


def test_a_crash_after_the_deletion_leaves_nothing_that_comes_back(store: Engine) -> None:
    made(store).close()
    retiring.delete_world(store, "w", START_US)  # and here the process dies
    assert "w" in keys(store)
    with pytest.raises(UnknownWorld):
        WorldDatabase.open(store, "w", make_state=WorldState)
    again = made(store, now_us=START_US + 1)
    recorder = played(again)
    retiring.reap(store, START_US + DAY_US, 0.0)
    assert "w" not in keys(store)
    assert again.last().records() == recorder.state.snapshot()  # type: ignore[union-attr]


def test_a_crash_while_a_name_is_made_again_leaves_it_to_whoever_comes_next(store: Engine) -> None:
    made(store).close()
    retiring.delete_world(store, "w", START_US)
    claimed = naming.claim(store, "w", START_US)  # and here the process dies
    world = made(store, now_us=START_US + 1)
    assert world.identity.key == claimed.key
    assert naming.holds(store, world.identity)


def test_two_who_make_a_name_again_at_once_make_one_world(store: Engine) -> None:
    made(store).close()
    retiring.delete_world(store, "w", START_US)
    first, second = naming.claim(store, "w", START_US), naming.claim(store, "w", START_US)
    assert first == second
    assert naming.confirm(store, first, START_US)
    assert naming.confirm(store, second, START_US)
    retiring.delete_world(store, made(store).identity.name, START_US)
    assert not naming.confirm(store, first, START_US)


def test_a_live_name_whose_namespace_was_taken_away_gets_the_next_one(store: Engine) -> None:
    for n in range(2):
        made(store, now_us=START_US + n).close()
        retiring.delete_world(store, "w", START_US)
    third = made(store, now_us=START_US + 3)
    store.delete_namespace(third.identity.key)
    assert made(store, now_us=START_US + 4).identity.generation == 4


def test_a_key_that_somebody_else_uses_is_passed_over(store: Engine) -> None:
    for generation in (2, 3):
        other = Database.open(store, Namespace(f"w~{generation}"), create=True)
        other.transact(lambda c: c.execute("CREATE TABLE theirs(x)"))
        other.close()
    made(store).close()
    retiring.delete_world(store, "w", START_US)
    assert naming.vacant(store, "w").generation == 4
    path = store.folder / "plain.sqlite"
    apsw.Connection(str(path)).execute("CREATE TABLE t(x)")
    import_file(store, Namespace("w"), path, new_key=lambda: os.urandom(16))
    assert naming.resolve(store, "w").generation == 4


def test_names_used_once_are_forgotten_after_a_day_and_not_before(store: Engine) -> None:
    for n in range(5):
        made(store, f"match-{n}").close()
        retiring.delete_world(store, f"match-{n}", START_US)
    retiring.reap(store, START_US + DAY_US - 1, 0.0)
    assert len(catalogue.entries(store)) == 5
    made(store, "last").close()
    retiring.delete_world(store, "last", START_US + DAY_US)
    retiring.reap(store, START_US + DAY_US + 1, 0.0)
    assert list(catalogue.entries(store)) == ["last"]
    assert made(store, "match-0").identity.generation == 1


def test_a_name_in_use_again_is_not_forgotten(store: Engine) -> None:
    made(store).close()
    retiring.delete_world(store, "w", START_US)
    made(store, now_us=START_US + 1).close()
    retiring.reap(store, START_US + 2 * DAY_US, 0.0)
    assert naming.resolve(store, "w").generation == 2


def test_a_database_is_imported_again_under_a_name_that_was_deleted(store: Engine, tmp_path: Path) -> None:
    world = made(store)
    recorder = played(world)
    path = tmp_path / "w.sqlite"
    export(Database.open(store, Namespace("w"), read_only=True), path)
    for _ in range(3):
        with pytest.raises(Unprocessable, match="exists"):
            import_file(store, Namespace("w"), path, new_key=lambda: os.urandom(16))
        retiring.delete_world(store, "w", START_US)
        import_file(store, Namespace("w"), path, new_key=lambda: os.urandom(16))
        back = WorldDatabase.open(store, "w", make_state=WorldState)
        assert back.last().records() == recorder.state.snapshot()  # type: ignore[union-attr]
        assert (back.info().world, damaged(back)) == ("w", [])
        back.close()


def test_an_export_of_a_deleted_world_comes_back_alive(store: Engine, tmp_path: Path) -> None:
    recorder = played(made(store))
    retiring.delete_world(store, "w", START_US)
    path = tmp_path / "w.sqlite"
    export(Database.open(store, Namespace("w"), read_only=True), path)
    import_file(store, Namespace("v"), path, new_key=lambda: os.urandom(16))
    back = WorldDatabase.open(store, "v", make_state=WorldState)
    assert back.last().records() == recorder.state.snapshot()  # type: ignore[union-attr]


def test_what_is_made_apart_gets_its_name_whole_or_not_at_all(store: Engine) -> None:
    for name in ("free", "by-use", "taken"):
        key = naming.half_made_key(START_US)
        store.create_namespace(key)
        database = Database.open(store, Namespace(key))
        database.transact(lambda c: c.execute("CREATE TABLE t(x)"))
        database.close()
        if name == "by-use":
            store.stat(Namespace(name))  # which makes an empty one
        if name == "taken":
            made(store, name).close()
            with pytest.raises(NameTaken):
                naming.give(store, key, name, START_US)
        else:
            given = naming.give(store, key, name, START_US)
            assert naming.resolve(store, name).key == given.key
            assert (given.generation == 1) == (name == "free")
        assert key not in keys(store)
    with pytest.raises(UnknownWorld):
        retiring.delete_world(store, "nobody", START_US)


def test_what_a_dead_process_left_half_made_is_removed(store: Engine) -> None:
    for age_s in (10, 7_200):
        store.create_namespace(naming.half_made_key(START_US - age_s * 1_000_000))
    store.create_namespace(f"{naming.HALF_MADE}²~somebody else's")
    retiring.reap_half_made(store, START_US)
    assert len(keys(store)) == 2


def test_a_catalogue_that_was_deleted_is_made_again_from_the_keys(store: Engine) -> None:
    for name in ("w", "v"):
        made(store, name).close()
        retiring.delete_world(store, name, START_US)
        made(store, name, START_US + 1).close()
    retiring.delete_world(store, "v", START_US)
    store.delete_namespace(CATALOGUE_KEY)
    assert rebuild(store, START_US) == ["w"]
    assert naming.resolve(store, "w").generation == 2
    with pytest.raises(UnknownWorld):
        naming.resolve(store, "v")
    assert rebuild(store, START_US) == []


def test_the_admin_api_does_not_delete_or_rename_the_catalogue(tmp_path: Path) -> None:
    process = StoreProcess(tmp_path / "served")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{process.admin_port}", timeout=HANG_S) as admin:
            admin.post("/api/create_namespace", json={"key": CATALOGUE_KEY}).raise_for_status()
            assert admin.post("/api/delete_namespace", json={"key": CATALOGUE_KEY}).status_code == 409
            renamed = {"old_key": CATALOGUE_KEY, "new_key": "x"}
            assert admin.post("/api/rename_namespace", json=renamed).status_code == 409
            stat = admin.post("/api/stat_namespace", json={"key": CATALOGUE_KEY})
            assert stat.status_code == 200
        with httpx.Client(base_url=process.url, timeout=HANG_S) as data:
            headers = {"x-namespace-key": "mvgateway~other"}
            assert data.get("/stat", headers=headers).status_code == 404, "not made by use"
    finally:
        process.kill()


# --- the verbs ----------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main([str(each) for each in arguments])
    return code, capsys.readouterr().out


def test_every_verb_finds_the_newest_world_of_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "store"
    opened = EmbeddedStore.open(folder)
    engine = opened.blocking()
    played(made(engine), 10, seed=1)
    retiring.delete_world(engine, "w", START_US)
    newest = played(made(engine, now_us=START_US + 1), 30, seed=2)
    opened.close()
    where = ("--store", str(folder))
    code, out = run(capsys, "recover", "w", *where, "--json")
    assert (code, json.loads(out)["tick"]) == (0, 30)
    code, out = run(capsys, "recover", "--list", *where, "--json")
    assert [row["world"] for row in json.loads(out)["worlds"]] == ["w"]
    code, out = run(capsys, "verify", "w", *where, "--json")
    assert (code, json.loads(out)["damaged"]) == (0, [])
    rows: list[dict[str, Any]] = json.loads(
        run(capsys, "sql", "w", "SELECT max(tick) AS tick FROM frames", *where, "--json")[1]
    )
    assert rows == [{"tick": 30}]
    assert run(capsys, "export", "w", str(tmp_path / "w.sqlite"), *where)[0] == 0
    exported = apsw.Connection(str(tmp_path / "w.sqlite"))
    assert exported.execute("SELECT count(*) FROM frames").get == newest.seq
    exported.close()
    assert run(capsys, "sql", "w~2", "SELECT 1", *where)[0] == 0, "by its key, too"
    first = json.loads(run(capsys, "sql", "w~1", "SELECT max(tick) AS tick FROM frames", *where, "--json")[1])
    assert first == [{"tick": 10}]
    assert run(capsys, "branch", "w", "b", *where)[0] == 0
    assert run(capsys, "archive", "w", str(tmp_path / "archive"), *where)[0] == 0
    opened = EmbeddedStore.open(folder)
    retiring.delete_world(opened.blocking(), "w", START_US)
    opened.close()
    assert run(capsys, "recover", "w", *where)[0] != 0
    assert run(capsys, "sql", "w", "SELECT 1", *where)[0] != 0
    assert run(capsys, "restore", str(tmp_path / "archive"), *where)[0] == 0
    assert json.loads(run(capsys, "recover", "w", *where, "--json")[1])["tick"] == 30
    opened = EmbeddedStore.open(folder)
    retiring.delete_world(opened.blocking(), "w", START_US)
    opened.close()
    code, out = run(capsys, "import", "w", str(tmp_path / "w.sqlite"), *where)
    assert (code, "w~4" in out) == (0, True)
    assert json.loads(run(capsys, "recover", "w", *where, "--json")[1])["tick"] == 30
    made_by_sql = run(capsys, "sql", "notes", "CREATE TABLE n(x)", "--write", *where)
    assert made_by_sql[0] == 0
    opened = EmbeddedStore.open(folder)
    with pytest.raises((Unprocessable, NotFound)):
        retiring.delete_world(opened.blocking(), "notes", START_US)
    opened.close()
