"""One home a world: whoever lost its fence commits nothing, by the store's own rule and whatever it believes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.core.state import WorldState
from gateway.errors import Conflict, WorldHeld
from gateway.store.base import CommitRequest, Committed, Namespace
from gateway.store.database import Database
from gateway.store.embedded import EmbeddedStore, Engine
from gateway.store.embedded.engine import EmbeddedOptions
from gateway.store.world import WorldDatabase, home
from gateway.store.world.home import Fence, Holder, HomeRow, Sign, is_free
from gateway.store.world.lanes import WorldLanes
from gateway.store.world.together import append_each
from gateway.wire import Frame, Record
from gateway.wire.journal import Batch
from tests.patience import HANG_S
from tests.store.recording import START_US, Recorder, batch

LEASE_MS = 3_000
A = Holder("https://a.example:4433", "place-a", "run-a")
B = Holder("https://b.example:4433", "place-b", "run-b")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = Engine(tmp_path / "store", options=EmbeddedOptions(background=False))
    yield opened
    opened.close()


def connect(engine: Engine, name: str = "w") -> WorldDatabase:
    """A writer as a gateway has it: several of them over one store are several gateways."""
    return WorldDatabase.create(engine, name, make_state=WorldState, now_us=START_US)[0]


def seen(world: WorldDatabase) -> Sign:
    world.database.renew()
    return world.read(home.sign)


def ticks(engine: Engine) -> list[int]:
    database = Database.open(engine, Namespace("w"), read_only=True)
    try:
        return database.read(
            lambda c: [tick for (tick,) in c.execute("SELECT tick FROM frames ORDER BY seq")]
        )
    finally:
        database.close()


def test_each_home_raises_the_fence_and_says_where_it_is(engine: Engine) -> None:
    a, b = connect(engine), connect(engine)
    assert a.take_home(A, LEASE_MS, seen(a)).row == HomeRow(1, A.node, "place-a/run-a", "w", LEASE_MS, 0)
    with pytest.raises(WorldHeld, match=r"https://a\.example:4433") as refused:
        b.take_home(B, LEASE_MS, Sign(None, -1, 0))
    assert refused.value.facts == {"world": "w", "url": A.node, "fence": 1}
    taken = b.take_home(B, LEASE_MS, None)
    assert taken.row is not None
    assert (taken.row.fence, taken.row.node) == (2, B.node)


def one_row(recorder: Recorder) -> Batch:
    return batch([recorder.row(Frame(1, recorder.seq + 1, [Record(1, b"x")]))])


def a_keyframe(recorder: Recorder) -> Batch:
    return batch([recorder.row(Frame(1, recorder.seq + 1, [Record(1, b"x")])), recorder.keyframe()])


def over_a_thousand_pages(recorder: Recorder) -> Batch:
    """More than a commit's read set is looked at for, and more than SQLite writes at once."""
    noise = recorder.dice.randbytes
    return batch([recorder.row(Frame(1, recorder.seq + 1, [Record(1, noise(1 << 20))])) for _ in range(9)])


def append(engine: Engine, world: WorldDatabase, what: Batch) -> None:
    world.append(what)


def append_in_a_round(engine: Engine, world: WorldDatabase, what: Batch) -> None:
    """As the pump does: what conflicted in the round is given again, alone."""
    (error,) = append_each(engine, [(world, what)])
    if error is not None:
        world.append(what)


@pytest.mark.parametrize("how", [append, append_in_a_round])
@pytest.mark.parametrize("make", [one_row, a_keyframe, over_a_thousand_pages])
def test_a_home_that_was_taken_over_commits_nothing_more(
    engine: Engine,
    how: Callable[[Engine, WorldDatabase, Batch], None],
    make: Callable[[Recorder], Batch],
) -> None:
    a, b, recorder = connect(engine), connect(engine), Recorder()
    a.take_home(A, LEASE_MS, seen(a))
    for _ in range(3):
        how(engine, a, one_row(recorder))
    b.take_home(B, LEASE_MS, None)
    before = ticks(engine)
    with pytest.raises(WorldHeld, match=r"https://b\.example:4433"):
        how(engine, a, make(recorder))
    with pytest.raises(WorldHeld):  # nor does it when it tries again, having seen what there is
        how(engine, a, make(recorder))
    assert ticks(engine) == before
    newer = Recorder()
    newer.seq = 3
    how(engine, b, make(newer))


@pytest.mark.parametrize("how", [append, append_in_a_round])
@pytest.mark.parametrize("make", [one_row, a_keyframe, over_a_thousand_pages])
def test_a_row_whose_number_another_home_has_used_is_refused_and_never_passed_over(
    engine: Engine,
    how: Callable[[Engine, WorldDatabase, Batch], None],
    make: Callable[[Recorder], Batch],
) -> None:
    """A home that comes back with a batch of before has the right fence: its rows' numbers are another's by then. To pass
    them over as written already would be to call durable what is not there."""
    a, b, recorder = connect(engine), connect(engine), Recorder()
    a.take_home(A, LEASE_MS, seen(a))
    how(engine, a, one_row(recorder))
    stale = make(recorder)
    b.take_home(B, LEASE_MS, None)
    newer = Recorder()
    newer.seq, newer.now_us = 1, START_US + 60_000_000
    for _ in range(3):
        how(engine, b, one_row(newer))
    a.take_home(A, LEASE_MS, None)
    before = ticks(engine)
    for _ in range(2):
        with pytest.raises(WorldHeld):
            how(engine, a, stale)
    assert ticks(engine) == before
    again = one_row(newer)
    for _ in range(2):  # its own rows it may give twice
        how(engine, a, again)
    assert len(ticks(engine)) == 5


def test_what_was_in_flight_when_another_took_over_is_refused_by_the_store(engine: Engine) -> None:
    """Everything is ready to be committed, and the fence was the right one when it was written."""
    a, b, recorder = connect(engine), connect(engine), Recorder()
    a.take_home(A, LEASE_MS, seen(a))
    a.append(one_row(recorder))
    what = one_row(recorder)
    write = a.pack(what)
    from gateway.store.base import CommitRequest
    from gateway.store.world.writing import finish

    finish([write.packed])
    part = a.hold_append(what, write)
    assert part is not None
    b.take_home(B, LEASE_MS, None)
    (answer,) = engine.commit_each([CommitRequest(b"k" * 16, [part], first_attempt=True)])
    a.settle_append(what, answer)
    assert isinstance(answer, Exception)
    assert ticks(engine) == [1]
    with pytest.raises(WorldHeld):
        a.append(what)


@pytest.mark.parametrize(
    "write",
    [
        lambda world: world.begin_epoch(None, START_US),
        lambda world: world.end_epoch(1, START_US),
        lambda world: world.beat_home(),
        lambda world: world.give_home_up(),
    ],
)
def test_a_ghost_begins_no_epoch_and_gives_no_sign_of_life(
    engine: Engine, write: Callable[[WorldDatabase], object]
) -> None:
    a, b = connect(engine), connect(engine)
    a.take_home(A, LEASE_MS, seen(a))
    a.begin_epoch(None, START_US)
    b.take_home(B, LEASE_MS, None)
    before = seen(b)
    with pytest.raises(WorldHeld):
        write(a)
    assert seen(b) == before


def test_another_gateways_commit_to_other_tables_costs_the_home_nothing(engine: Engine) -> None:
    a, b, recorder = connect(engine), connect(engine), Recorder()
    a.take_home(A, LEASE_MS, seen(a))
    for turn in range(5):
        b.transact(lambda c, at=turn: c.execute("REPLACE INTO marks VALUES('m', 1, ?, 0, NULL)", (at,)))  # type: ignore[misc]
        a.append(one_row(recorder))
    assert ticks(engine) == [1, 2, 3, 4, 5]


@contextmanager
def meanwhile(engine: Engine, act: Callable[[], object]) -> Iterator[list[int]]:
    """What another gateway does between the reading of each transaction and its commit. Answers how many conflicts there were."""
    commit, conflicts = engine.commit, [0]

    def after_the_other(request: CommitRequest) -> Committed:
        engine.commit = commit  # type: ignore[method-assign]
        act()
        engine.commit = after_the_other  # type: ignore[method-assign]
        try:
            return commit(request)
        except Conflict:
            conflicts[0] += 1
            raise

    engine.commit = after_the_other  # type: ignore[method-assign]
    try:
        yield conflicts
    finally:
        engine.commit = commit  # type: ignore[method-assign]


def test_a_busy_home_cannot_hold_off_who_takes_it_over(engine: Engine) -> None:
    """Its commits between the other's reading and committing are no conflict for the store; the other's is one for it."""
    a, b, recorder = connect(engine), connect(engine), Recorder()
    a.take_home(A, LEASE_MS, seen(a))
    a.append(one_row(recorder))
    with meanwhile(engine, lambda: [a.append(one_row(recorder)) for _ in range(5)]) as conflicts:
        taken = b.take_home(B, LEASE_MS, None)
    assert conflicts == [0]
    assert taken.row is not None
    assert (taken.row.fence, taken.row.node) == (2, B.node)
    assert ticks(engine) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(WorldHeld):
        a.append(one_row(recorder))


def test_two_that_take_over_at_once_get_two_fences(engine: Engine) -> None:
    a, b, c = connect(engine), connect(engine), connect(engine)
    a.take_home(A, LEASE_MS, seen(a))
    signs: list[Sign] = []
    others = [c]
    with meanwhile(
        engine, lambda: signs.extend(others.pop().take_home(B, LEASE_MS, None) for _ in others[:1])
    ) as conflicts:
        signs.append(b.take_home(B, LEASE_MS, None))
    assert conflicts == [1], "what had read the row before the other changed it reads it again"
    assert [sign.row and sign.row.fence for sign in signs] == [2, 3]


def test_a_home_that_was_given_up_is_free_at_once(engine: Engine) -> None:
    a, b, recorder = connect(engine), connect(engine), Recorder()
    a.take_home(A, LEASE_MS, seen(a))
    a.append(one_row(recorder))
    a.give_home_up()
    row = seen(b).row
    assert row is not None
    assert is_free(row, "w")
    taken = b.take_home(B, LEASE_MS, seen(b))
    assert taken.row is not None
    assert (taken.row.fence, taken.last_seq) == (2, 0)
    with pytest.raises(WorldHeld):
        a.append(one_row(recorder))


def test_one_that_was_taken_for_dead_and_stirs_in_the_last_moment_stays_the_home(engine: Engine) -> None:
    a, b, recorder = connect(engine), connect(engine), Recorder()
    a.take_home(A, LEASE_MS, seen(a))
    for stir in (a.beat_home, lambda: a.append(one_row(recorder))):
        judged = seen(b)
        stir()
        with pytest.raises(WorldHeld):
            b.take_home(B, LEASE_MS, judged)
    a.append(one_row(recorder))


def test_of_two_that_take_a_dead_ones_place_one_gets_it(engine: Engine) -> None:
    a, b, c = connect(engine), connect(engine), connect(engine)
    a.take_home(A, LEASE_MS, seen(a))
    judged = seen(b)
    assert judged == seen(c)
    b.take_home(B, LEASE_MS, judged)
    with pytest.raises(WorldHeld, match=r"https://b\.example:4433"):
        c.take_home(Holder("https://c.example", "c", "c"), LEASE_MS, judged)


def test_everything_that_changes_a_recording_is_a_sign_of_life(engine: Engine) -> None:
    a, b, recorder = connect(engine), connect(engine), Recorder()
    a.take_home(A, LEASE_MS, seen(a))
    signs = [seen(b)]
    for stir in (a.beat_home, lambda: a.append(one_row(recorder)), lambda: a.begin_epoch(None, START_US)):
        stir()
        signs.append(seen(b))
    assert len(set(signs)) == 4


def test_a_row_that_came_with_a_copy_of_another_world_binds_nobody() -> None:
    row = HomeRow(7, A.node, "a/a", "parent", LEASE_MS, 3)
    assert is_free(row, "branch")
    assert not is_free(row, "parent")


def test_a_world_of_before_there_were_homes_gets_its_table_with_the_first_one(engine: Engine) -> None:
    old, recorder = connect(engine), Recorder()
    old.append(one_row(recorder))
    assert seen(old) == Sign(None, 0, 0)
    a = connect(engine)
    a.take_home(A, LEASE_MS, seen(a))
    a.append(one_row(recorder))
    assert ticks(engine) == [1, 2]


def test_a_lost_fence_is_not_found_again_by_a_connection_that_is_made_anew(engine: Engine) -> None:
    a, recorder = connect(engine), Recorder()
    a.take_home(A, LEASE_MS, seen(a))
    again = connect(engine)
    again.fence = a.fence
    again.append(one_row(recorder))
    a.fence.number = 0
    with pytest.raises(WorldHeld):
        again.append(one_row(recorder))
    assert Fence().number is None


async def test_the_writer_of_a_world_keeps_its_fence_over_a_rest(tmp_path: Path) -> None:
    """The lane's thread and its connection end when idle; what is written after that is still fenced."""
    store = EmbeddedStore.open(tmp_path / "store")
    world = await WorldLanes.open(store, "w", make_state=WorldState, now_us=START_US, idle_s=0.0)
    recorder = Recorder()

    async def rests() -> None:
        async with asyncio.timeout(HANG_S):
            while not world.idle:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    await world.take_home(A, LEASE_MS, await world.home_sign())
    await world.append(one_row(recorder))
    await rests()
    await world.append(one_row(recorder))
    other = await WorldLanes.open(store, "w", make_state=WorldState, now_us=START_US)
    await other.take_home(B, LEASE_MS, None)
    await rests()
    with pytest.raises(WorldHeld):
        await world.append(one_row(recorder))
    await world.close()
    await other.close()
    await store.aclose()
