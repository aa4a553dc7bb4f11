"""Batches of many worlds in one round: shared costs, separate fates; and whose turn a database is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.state import WorldState
from gateway.errors import Conflict, NoNamespace
from gateway.store.base import CommitRequest, Committed, Namespace
from gateway.store.database import Database
from gateway.store.embedded import EmbeddedStore, Engine
from gateway.store.embedded.engine import EmbeddedOptions
from gateway.store.world import WorldDatabase
from gateway.store.world.commits import InGroups
from gateway.store.world.together import append_each
from gateway.store.world.turns import Turn, to_the_end
from gateway.wire.journal import Batch
from tests.patience import HANG_S
from tests.store.conformance.kit import A, B, head, new_namespace, part, put, request
from tests.store.recording import START_US, Recorder


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = Engine(tmp_path / "store", options=EmbeddedOptions(background=False))
    yield opened
    opened.close()


def worlds_in(engine: Engine, count: int) -> list[WorldDatabase]:
    return [
        WorldDatabase.create(engine, f"w{n}", make_state=WorldState, now_us=START_US)[0] for n in range(count)
    ]


def holds(engine: Engine, name: str, recorder: Recorder) -> bool:
    world = WorldDatabase.open(engine, name, make_state=WorldState)
    last = world.last()
    world.close()
    return last is not None and last.records() == recorder.state.snapshot()


def test_a_round_of_worlds_takes_one_sync_and_each_world_has_its_own_frames(engine: Engine) -> None:
    worlds = worlds_in(engine, 20)
    recorders = [Recorder(seed=n) for n in range(20)]
    rounds = list(zip(*[recorder.batches(30, 3) for recorder in recorders], strict=True))
    before = engine.writer.counters["batches"]
    for batches in rounds:
        assert append_each(engine, list(zip(worlds, batches, strict=True))) == [None] * 20
    assert engine.writer.counters["batches"] - before == len(rounds)
    for n, recorder in enumerate(recorders):
        assert holds(engine, f"w{n}", recorder)


def test_a_world_that_somebody_else_wrote_to_conflicts_alone_and_can_be_written_again(engine: Engine) -> None:
    worlds = worlds_in(engine, 3)
    recorders = [Recorder(seed=n) for n in range(3)]
    first = [next(recorder.batches(2, 2)) for recorder in recorders]
    assert append_each(engine, list(zip(worlds, first, strict=True))) == [None] * 3
    other = Database.open(engine, Namespace("w1"))
    other.transact(lambda c: c.execute("CREATE TABLE notes(text)"))
    second = [next(recorder.batches(2, 2)) for recorder in recorders]
    ends = append_each(engine, list(zip(worlds, second, strict=True)))
    assert [type(end) for end in ends] == [type(None), Conflict, type(None)]
    assert worlds[1].database.take_conflicts() == 1
    worlds[1].append(second[1])
    for n, recorder in enumerate(recorders):
        assert holds(engine, f"w{n}", recorder)


def test_a_world_that_is_gone_fails_alone(engine: Engine) -> None:
    worlds = worlds_in(engine, 3)
    recorders = [Recorder(seed=n) for n in range(3)]
    engine.delete_namespace("w1")
    batches = [next(recorder.batches(2, 2)) for recorder in recorders]
    ends = append_each(engine, list(zip(worlds, batches, strict=True)))
    assert [type(end) for end in ends] == [type(None), NoNamespace, type(None)]
    assert holds(engine, "w0", recorders[0])
    assert holds(engine, "w2", recorders[2])


def test_a_batch_that_is_there_already_changes_nothing(engine: Engine) -> None:
    (world,) = worlds_in(engine, 1)
    recorder = Recorder()
    batch = next(recorder.batches(3, 3))
    assert append_each(engine, [(world, batch)]) == [None]
    version = world.version
    assert append_each(engine, [(world, batch)]) == [None]
    assert append_each(engine, [(world, Batch((), (), None, None, 0))]) == [None]
    assert world.version == version
    assert holds(engine, "w0", recorder)


async def test_a_turn_goes_to_those_who_wait_in_their_order_and_past_those_who_gave_up() -> None:
    turn, order = Turn(), list[str]()
    assert turn.take_now()
    assert not turn.take_now()

    async def wait(name: str) -> None:
        async with turn:
            order.append(name)

    tasks = [asyncio.create_task(wait(name)) for name in "abc"]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    turn.give_back()
    assert not turn.take_now()  # it is b's already
    tasks[1].cancel()  # who gives up in the very moment: c has it
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["c"]
    assert turn.take_now()


async def test_who_is_cancelled_again_and_again_still_waits_for_the_thread_that_has_the_database() -> None:
    gate, ended = threading.Event(), list[str]()

    def work() -> None:
        gate.wait(HANG_S)
        ended.append("thread")

    async def call() -> None:
        try:
            await to_the_end(asyncio.get_running_loop().run_in_executor(None, work))
        finally:
            ended.append("caller")

    task = asyncio.create_task(call())
    for _ in range(5):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert ended == []
    gate.set()
    await asyncio.gather(task, return_exceptions=True)
    assert ended == ["thread", "caller"]
    assert task.cancelled()


class Told:
    """A store, and what was committed to it."""

    def __init__(self, inner: EmbeddedStore) -> None:
        self.inner = inner
        self.claims: list[bool] = []

    async def commit(self, request: CommitRequest) -> Committed:
        self.claims.append(request.first_attempt)
        return await self.inner.commit(request)


async def test_what_goes_alone_after_a_refused_group_is_no_first_attempt_any_more(tmp_path: Path) -> None:
    """The group was sent under the first one's key, and may have been served though a later answer was a refusal."""
    store = EmbeddedStore.open(tmp_path / "pages")
    spaces = [await new_namespace(store) for _ in range(2)]
    heads = [await head(store, ns) for ns in spaces]
    await put(store, spaces[1], {0: B})
    requests = [request(part(ns, at, {0: A})) for ns, at in zip(spaces, heads, strict=True)]
    told = Told(store)
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[dict[int, object]] = loop.create_future()
    commits = InGroups(told, loop)  # type: ignore[arg-type]
    commits.commit(requests, lambda answers: answered.set_result(dict(answers)))
    answers = await asyncio.wait_for(answered, HANG_S)
    assert isinstance(answers[0], Committed)
    assert isinstance(answers[1], Conflict)
    assert told.claims == [True, False, False]
    await store.aclose()
