"""Names of worlds where something else was before them or happens meanwhile: given again, taken over, given up and removed later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from gateway.core.state import WorldState
from gateway.errors import UnknownWorld, WorldDeleted, WorldHeld
from gateway.limits import HALF_MADE_S
from gateway.store.base import (
    CommitRequest,
    Committed,
    Namespace,
    NamespaceCommit,
    OverlayBase,
    PageRead,
    PageWrite,
)
from gateway.store.database import Database
from gateway.store.embedded import EmbeddedOptions, Engine
from gateway.store.world import WorldDatabase, catalogue, home, naming, retiring
from gateway.store.world.home import Holder, Sign
from gateway.store.world.rebuilding import rebuild
from gateway.wire import Frame, Record
from gateway.wire.journal import Batch
from tests.store.recording import START_US, Recorder, batch

A = Holder("https://a.example:4433", "place-a", "run-a")
B = Holder("https://b.example:4433", "place-b", "run-b")
LEASE_MS = 3_000
NS = Namespace("w")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = Engine(tmp_path / "store", auto_create=True, options=EmbeddedOptions(background=False))
    yield opened
    opened.close()


def _made(engine: Engine, name: str = "w", now_us: int = START_US) -> WorldDatabase:
    return WorldDatabase.create(engine, name, make_state=WorldState, now_us=now_us)[0]


def _keys(engine: Engine) -> list[str]:
    return sorted(info.key for info in engine.list_namespaces())


def _sign(engine: Engine) -> Sign:
    database = Database.open(engine, NS, read_only=True)
    try:
        return database.read(home.sign)
    finally:
        database.close()


# -- made apart, and given its name --------------------------------------------------------------------


def test_what_is_made_apart_gets_a_name_that_was_deleted_though_what_it_meant_is_still_there(
    engine: Engine,
) -> None:
    _made(engine).close()
    retiring.delete_world(engine, "w", START_US)
    key = naming.half_made_key(START_US)
    engine.create_namespace(key)
    Database.open(engine, Namespace(key)).transact(lambda c: c.execute("CREATE TABLE t(x)"))
    given = naming.give(engine, key, "w", START_US + 1)
    assert (given.generation, naming.resolve(engine, "w").key) == (2, "w~2")
    assert "w" in _keys(engine)


def test_a_store_that_knows_no_later_names_needs_no_catalogue(engine: Engine) -> None:
    _made(engine).close()
    assert rebuild(engine, START_US) == []
    assert catalogue.CATALOGUE_KEY not in _keys(engine)


# -- homes ---------------------------------------------------------------------------------------------


def test_who_was_judged_silent_by_another_reading_than_the_judges_own_view_is_taken_over(
    engine: Engine,
) -> None:
    a, b = _made(engine), _made(engine)
    a.take_home(A, LEASE_MS, _sign(engine))
    b.read(home.sign)
    a.beat_home()
    taken = b.take_home(B, LEASE_MS, _sign(engine))
    assert taken.row is not None
    assert (taken.row.node, taken.row.fence) == (B.node, 2)
    with pytest.raises(WorldHeld):
        a.beat_home()


def test_who_was_the_home_and_lost_it_judges_by_what_there_is_and_not_by_what_it_wrote_last(
    engine: Engine,
) -> None:
    a, b = _made(engine), _made(engine)
    b.take_home(B, LEASE_MS, _sign(engine))
    b.beat_home()
    a.take_home(A, LEASE_MS, None)
    taken = b.take_home(B, LEASE_MS, _sign(engine))
    assert taken.row is not None
    assert (taken.row.node, taken.row.fence) == (B.node, 3)


# -- given up, and removed later -----------------------------------------------------------------------

WAIT_S = 60.0
SECOND_US = 1_000_000


def _retired(engine: Engine) -> list[str]:
    return sorted(old.key for old in catalogue.retired(engine))


def test_a_world_is_deleted_while_its_publisher_commits_all_the_time(engine: Engine) -> None:
    """Also where each of its commits makes the database larger, which changes the page that every transaction reads."""
    world, recorder = _made(engine), Recorder()
    world.append(batch(recorder.step()))
    inner = engine.commit

    def larger() -> Batch:
        noise = recorder.dice.randbytes(20_000)
        return batch([recorder.row(Frame(1, recorder.seq + 1, [Record(1, noise)]))])

    def beside(request: CommitRequest) -> Committed:
        if any(part.namespace.key == catalogue.CATALOGUE_KEY for part in request.namespaces):
            engine.commit = inner  # type: ignore[method-assign]
            world.append(larger())
            engine.commit = beside  # type: ignore[method-assign]
        return inner(request)

    engine.commit = beside  # type: ignore[method-assign]
    assert retiring.delete_world(engine, "w", START_US).key == "w"
    engine.commit = inner  # type: ignore[method-assign]
    with pytest.raises(WorldDeleted):
        world.append(batch(recorder.step()))
    assert _retired(engine) == ["w"]


def test_a_world_that_cannot_be_read_any_more_can_be_deleted_and_that_is_said(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    _made(engine).close()
    head = engine.stat(NS).version
    first = engine.read(NS, [PageRead(0, head)])[0].data
    broken = first[:100] + bytes(len(first) - 100)
    part = NamespaceCommit(NS, head, [PageWrite(0, blake3(broken).digest(), broken)])
    engine.commit(CommitRequest(os.urandom(16), [part], True))
    retiring.delete_world(engine, "w", START_US)
    assert "world w is deleted though it cannot be read" in caplog.text
    with pytest.raises(UnknownWorld):
        naming.resolve(engine, "w")
    assert _retired(engine) == ["w"]


def test_what_was_given_up_is_removed_when_its_time_has_come_and_the_next_ones_is_told(
    engine: Engine,
) -> None:
    for n, name in enumerate(("w", "v")):
        _made(engine, name).close()
        retiring.delete_world(engine, name, START_US + n * 10 * SECOND_US)
    assert retiring.reap(engine, START_US + 25 * SECOND_US // 2, WAIT_S) == pytest.approx(47.5)
    assert retiring.reap(engine, START_US + 59_500_000, WAIT_S) == pytest.approx(0.5)
    assert {"v", "w"} <= set(_keys(engine))
    assert retiring.reap(engine, START_US + 60 * SECOND_US, WAIT_S) == pytest.approx(10.0)
    assert "w" not in _keys(engine)
    assert (_retired(engine), "v" in _keys(engine)) == (["v"], True)
    assert retiring.reap(engine, START_US + 70 * SECOND_US, WAIT_S) is None
    assert (_retired(engine), _keys(engine)) == ([], [catalogue.CATALOGUE_KEY])


def test_what_branches_stand_on_stays_until_they_are_gone(engine: Engine) -> None:
    world = _made(engine)
    world.append(batch(Recorder().step()))
    info = engine.namespace_info("w")
    engine.create_namespace("branch", OverlayBase(info.ns_id, engine.stat(NS).version))
    retiring.delete_world(engine, "w", START_US)
    for _ in range(2):
        assert retiring.reap(engine, START_US, 0.0) is None
        assert (_retired(engine), "w" in _keys(engine)) == (["w"], True)
    engine.delete_namespace("branch")
    retiring.reap(engine, START_US, 0.0)
    assert (_retired(engine), "w" in _keys(engine)) == ([], False)


@pytest.mark.parametrize("others", [False, True])
def test_a_namespace_that_was_taken_away_already_is_none_to_remove_and_another_ones_of_that_key_stays(
    engine: Engine, others: bool
) -> None:
    _made(engine).close()
    retiring.delete_world(engine, "w", START_US)
    engine.delete_namespace("w")
    if others:
        Database.open(engine, NS, create=True).transact(lambda c: c.execute("CREATE TABLE theirs(x)"))
    retiring.reap(engine, START_US, 0.0)
    assert (_retired(engine), "w" in _keys(engine)) == ([], others)


@pytest.mark.parametrize(
    ("age_s", "stays"), [(HALF_MADE_S - 1, True), (HALF_MADE_S, True), (HALF_MADE_S + 1, False)]
)
def test_what_is_half_made_has_an_hour_to_become_whole(engine: Engine, age_s: float, stays: bool) -> None:
    key = naming.half_made_key(START_US - int(age_s) * SECOND_US)
    engine.create_namespace(key)
    retiring.reap_half_made(engine, START_US)
    assert (key in _keys(engine)) == stays


# -- gone behind the catalogue's back --------------------------------------------------------------------


def _is_known(engine: Engine, name: str = "w") -> bool:
    try:
        naming.resolve(engine, name)
    except UnknownWorld:
        return False
    return True


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("left", ["nothing", "an empty namespace", "another database"])
def test_a_name_whose_namespace_was_taken_away_means_nothing_unless_another_has_its_key(
    engine: Engine, generation: int, left: str
) -> None:
    for n in range(generation - 1):
        _made(engine, now_us=START_US + n).close()
        retiring.delete_world(engine, "w", START_US + n)
    identity = _made(engine, now_us=START_US + 9).identity
    engine.delete_namespace(identity.key)
    if left != "nothing":
        other = Database.open(engine, Namespace(identity.key), create=True)
        if left == "another database":
            other.transact(lambda c: c.execute("CREATE TABLE theirs(x)"))
    assert _is_known(engine)
    retiring.settle(engine, identity, START_US + 10)
    assert _is_known(engine) == (left == "another database")
    assert _made(engine, "v").identity.generation == 1, "and no other name is touched"


def test_a_name_that_means_another_world_by_now_is_not_taken_from_it(engine: Engine) -> None:
    old = _made(engine).identity
    retiring.delete_world(engine, "w", START_US)
    _made(engine, now_us=START_US + 1).close()
    for settle in (retiring.settle, retiring.bury):
        settle(engine, old, START_US + 2)
        assert naming.resolve(engine, "w").generation == 2
