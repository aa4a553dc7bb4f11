"""A world's threads: one call at a time and in turn, held and let go, ended when nobody uses them; and what is passed through."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from gateway.core.state import WorldState
from gateway.errors import BadInput, Conflict, ShuttingDown, UnknownWorld
from gateway.store.base import Namespace
from gateway.store.database import Database
from gateway.store.embedded import EmbeddedOptions, EmbeddedStore
from gateway.store.world import Retention, WorldDatabase
from gateway.store.world.home import Holder, HomeRow
from gateway.store.world.lanes import Lane, WorldLanes
from gateway.store.world.schema import Part
from gateway.store.world.turns import Turn, to_the_end
from tests.patience import HANG_S
from tests.store.recording import SECOND_US, START_US, Recorder, batch


class Opened:
    """What a lane opens, where nothing is asked of it but to be closed."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.closed = threading.Event()

    def close(self) -> None:
        assert threading.current_thread() is self.thread
        self.closed.set()


class Lanes:
    def __init__(self, idle_s: float = 1e6) -> None:
        self.opened: list[Opened] = []
        self.lane = Lane("n", lambda: cast(WorldDatabase, self._open()), idle_s=idle_s)

    def _open(self) -> Opened:
        self.opened.append(Opened())
        return self.opened[-1]


def number(world: WorldDatabase) -> int:
    return threading.get_ident()


async def settled() -> None:
    """Let all that can go on in the loop go on."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- turns -------------------------------------------------------------------------------------------


async def test_a_turn_goes_to_those_who_wait_in_their_order() -> None:
    turn, order = Turn(), list[int]()

    async def waits(name: int) -> None:
        async with turn:
            order.append(name)
            await asyncio.sleep(0)

    assert not turn.locked()
    assert turn.take_now()
    assert turn.locked()
    assert not turn.take_now()
    tasks = [asyncio.create_task(waits(name)) for name in range(3)]
    await settled()
    assert order == []
    turn.give_back()
    assert not turn.take_now(), "it is the next one's, not whoever asks first"
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    assert not turn.locked()
    assert turn.take_now()


@pytest.mark.parametrize("handed_over", [False, True])
async def test_whoever_gives_up_waiting_leaves_the_turn_to_the_next(handed_over: bool) -> None:
    turn, entered = Turn(), list[int]()

    async def waits(name: int) -> None:
        async with turn:
            entered.append(name)

    assert turn.take_now()
    tasks = [asyncio.create_task(waits(name)) for name in range(2)]
    await settled()
    if handed_over:
        turn.give_back()
    tasks[0].cancel()
    if not handed_over:
        turn.give_back()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert entered == [1]
    assert not turn.locked()


async def test_what_a_thread_does_is_waited_for_however_often_who_waits_is_cancelled() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(to_the_end(future))
    for _ in range(3):
        await settled()
        task.cancel()
    await settled()
    assert not task.done()
    future.set_result(5)
    with pytest.raises(asyncio.CancelledError):
        await task


# --- a lane ------------------------------------------------------------------------------------------


async def test_a_lane_begins_with_its_first_call_and_keeps_its_thread() -> None:
    lanes = Lanes()
    assert lanes.lane.idle
    assert lanes.lane.hold() is None, "nothing is open"
    threads = {await lanes.lane.run(number) for _ in range(3)}
    assert threads == {lanes.opened[0].thread.ident} != {threading.get_ident()}
    assert lanes.opened[0].thread.name.startswith("world-n")
    assert not lanes.lane.idle
    assert len(lanes.opened) == 1
    await lanes.lane.close()
    assert lanes.opened[0].closed.is_set()
    assert lanes.lane.idle


async def test_calls_run_one_at_a_time_in_their_order() -> None:
    lanes, order = Lanes(), list[int]()
    gate = threading.Event()

    def first(world: WorldDatabase) -> None:
        gate.wait(HANG_S)
        order.append(0)

    tasks = [asyncio.create_task(lanes.lane.run(first))]
    tasks += [asyncio.create_task(lanes.lane.run(lambda world, n=n: order.append(n))) for n in (1, 2)]
    await settled()
    assert lanes.lane.hold() is None
    lanes.lane.rest()
    assert not lanes.lane.idle, "what is in use does not rest"
    gate.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    await lanes.lane.close()


async def test_what_is_held_is_nobody_elses_until_it_is_let_go() -> None:
    lanes = Lanes()
    await lanes.lane.run(number)
    held = lanes.lane.hold()
    assert held is cast(object, lanes.opened[0])
    assert lanes.lane.hold() is None
    task = asyncio.create_task(lanes.lane.run(number))
    await settled()
    assert not task.done()
    lanes.lane.let_go()
    await task
    async with lanes.lane.exclusive() as world:
        assert world is held
        assert lanes.lane.hold() is None
    assert lanes.lane.hold() is held
    lanes.lane.let_go()
    await lanes.lane.close()
    assert lanes.lane.hold() is None


async def test_after_a_rest_another_thread_begins() -> None:
    lanes = Lanes()
    await lanes.lane.run(number)
    lanes.lane.rest()
    assert lanes.lane.idle
    assert await asyncio.to_thread(lanes.opened[0].closed.wait, HANG_S)
    await lanes.lane.run(number)
    assert len(lanes.opened) == 2
    await lanes.lane.close()
    lanes.lane.rest()


async def test_a_lane_that_nobody_uses_ends_its_thread() -> None:
    lanes = Lanes(idle_s=0.0)
    for count in (1, 2):
        await lanes.lane.run(number)
        assert await asyncio.to_thread(lanes.opened[-1].closed.wait, HANG_S)
        assert len(lanes.opened) == count
    await lanes.lane.close()


async def test_a_closed_lane_takes_no_call_and_says_so() -> None:
    lanes = Lanes()
    gate = threading.Event()
    under_way = asyncio.create_task(lanes.lane.run(lambda world: gate.wait(HANG_S)))
    await settled()
    closing = asyncio.create_task(lanes.lane.close())
    late = asyncio.create_task(lanes.lane.run(number))
    await settled()
    gate.set()
    assert await under_way
    await closing
    with pytest.raises(ShuttingDown, match="world 'n' is being closed"):
        await late
    await lanes.lane.close()
    assert [one.closed.is_set() for one in lanes.opened] == [True]


# --- a world through its lanes -----------------------------------------------------------------------


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore.open(tmp_path / "store", options=EmbeddedOptions(background=False))
    yield store
    await store.aclose()


async def opened(store: EmbeddedStore, **how: object) -> WorldLanes:
    return await WorldLanes.open(store, "w", make_state=WorldState, now_us=START_US, **how)  # type: ignore[arg-type]


async def test_what_is_written_is_read_and_the_world_tells_what_it_is(store: EmbeddedStore) -> None:
    retention = Retention("ring", 1)
    part = Part("x", ["CREATE TABLE x(a)"])
    world = await opened(store, stride=0, retention=retention, parts=(part,))
    assert (world.name, world.identity.key, world.guard.name) == ("w", "w", "w")
    assert (world.opened.created, world.opened.last_seq, world.opened.epoch) == (True, -1, 0)
    assert world.info.retention == retention
    assert await world.begin_epoch(None, START_US) == 1
    assert await world.begin_epoch(1, START_US) == 1
    recorder = Recorder(hz=4)
    for each in recorder.batches(20):
        assert await world.append(each) is not None
    last = await world.history(lambda history: history.last())
    assert last is not None
    assert last.records() == recorder.state.snapshot()
    state = await world.state_at(epoch=1, tick=20)
    assert state.records() == recorder.states[1, 20]
    assert (await world.state_at(at_us=recorder.now_us)).records() == recorder.state.snapshot()
    with pytest.raises(BadInput, match="a moment is a tick"):
        await world.state_at(epoch=1, tick=5, at_us=START_US)
    with pytest.raises(BadInput, match="a moment is a tick"):
        await world.state_at(epoch=1)
    rows = [item async for item in world.frames(epoch=1, from_tick=19)]
    assert [(item.epoch, item.tick) for item in rows if hasattr(item, "tick")] == [(1, 19), (1, 20)]
    assert (await world.summary())["last"] is not None
    await world.set_mark("m", 1, 20, START_US, "{}")
    assert [mark["name"] for mark in await world.history(lambda history: history.marks())] == ["m"]
    assert (await world.set_layout('{"a": 1}')).layout == '{"a": 1}' == world.info.layout
    assert (
        (await world.set_retention(Retention("record"))).retention.mode
        == "record"
        == world.info.retention.mode
    )
    assert await world.prune(recorder.now_us + 100 * SECOND_US) == 0
    await world.set_retention(retention)
    assert await world.prune(recorder.now_us + 100 * SECOND_US) > 0
    assert (await world.look_at_info()).retention == retention
    await world.end_epoch(1, START_US + 9)
    query = "SELECT ended_at FROM epochs"
    assert (
        await world.transact(lambda c: c.execute(query).get)
        == START_US + 9
        == await world.read(lambda c: c.execute(query).get)
    )
    async with world.exclusive() as database:
        assert isinstance(database, Database)
        assert world.hold() is None
    assert world.hold() is not None
    world.let_go()
    await world.close()
    again = await opened(store, parts=(part,))
    assert (again.opened.created, again.opened.last_seq, again.opened.epoch) == (False, recorder.seq - 1, 1)
    await again.close()
    await again.close()


async def test_a_world_that_is_not_there_is_not_made_where_that_is_not_wanted(store: EmbeddedStore) -> None:
    with pytest.raises(UnknownWorld):
        await opened(store, create=False)
    assert await store.list_namespaces("w") == []
    await (await opened(store)).close()
    world = await opened(store, create=False)
    assert not world.opened.created
    await world.close()


async def test_its_threads_rest_one_by_one_and_all_of_them_when_it_is_closed(store: EmbeddedStore) -> None:
    world = await opened(store)
    await world.read(lambda c: None)
    assert not world.idle
    world.rest()
    assert not world.idle, "its writer is open"
    await world.close()
    assert world.idle
    for work in (world.read(lambda c: None), world.prune(0), world.summary(until_us=5)):
        with pytest.raises(ShuttingDown):
            await work


async def test_commits_of_others_are_counted_and_what_was_written_is_told_to_upkeep(
    store: EmbeddedStore,
) -> None:
    world = await opened(store)
    await world.append(batch(Recorder().step()))
    assert world.foreign_commits == 0
    other = Database.open(store.blocking(), Namespace("w"))
    await asyncio.to_thread(other.transact, lambda c: c.execute("CREATE TABLE mine(a)"))
    await world.set_mark("m", 1, 1, START_US)
    assert world.foreign_commits == 1
    await world.set_mark("n", 1, 1, START_US)
    assert world.foreign_commits == 1
    before = (await store.namespace_info("w")).truncated_before
    await world.maintain(1)
    store.blocking().keep_time()
    for now_s in (10**9, 2 * 10**9, 3 * 10**9):
        await world.maintain(now_s)
    assert (await store.namespace_info("w")).truncated_before != before
    await asyncio.to_thread(other.close)
    await world.close()


async def test_a_home_that_was_lost_or_given_up_writes_no_more(store: EmbeddedStore) -> None:
    world = await opened(store)
    holder = Holder("https://a", "place", "run")
    sign = await world.take_home(holder, 1_000, None)
    assert sign.row is not None
    assert (sign.row.fence, (await world.home_sign()).row) == (1, sign.row)
    await world.beat_home()
    row = (await world.home_sign()).row
    assert row is not None
    assert row.beat == 1
    world.lose_home()
    rows = Recorder().step()
    with pytest.raises(Conflict):
        await world.append(batch(rows))
    assert (await world.take_home(holder, 1_000, None)).row == HomeRow(
        2, row.node, row.holder, row.namespace, 1_000, 0
    )
    await world.append(batch(rows))
    await world.give_home_up()
    with pytest.raises(Conflict):
        await world.append(batch(rows))
    row = (await world.home_sign()).row
    assert row is not None
    assert row.lease_ms == 0
    await world.close()
