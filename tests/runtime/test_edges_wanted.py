"""What is done in the name of a publisher that was refused meanwhile: nothing. It is elsewhere by then, perhaps where it was before, and
whoever still asked that home to let it go would chase it from place to place."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.core.ports import LiveOptions
from gateway.errors import StoreUnavailable
from gateway.runtime.gateway import Gateway
from gateway.runtime.host import WorldHost
from gateway.runtime.local import LocalLink
from gateway.runtime.patiently import Together
from gateway.store.world.home import Sign
from tests.runtime.conftest import StartGateway, frame, until
from tests.runtime.faults.driver import StoreProcess

TAKEOVER = LiveOptions(role="publish", takeover=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreProcess]:
    process = StoreProcess(tmp_path / "remote")
    yield process
    process.kill()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not ask again this moment does not ask again."""
    monkeypatch.setattr("gateway.runtime.patiently.SESSION_COMES_AGAIN_S", 0.0)


@pytest.fixture
async def pair(start_gateway: StartGateway, store: StoreProcess) -> tuple[Gateway, Gateway]:
    url, admin = store.flags[1], store.flags[3]
    a, b = [await start_gateway(store=url, store_admin=admin, peers=("store",)) for _ in range(2)]
    return a, b


async def published(gateway: Gateway) -> LocalLink:
    """A publisher's link at the home of the world, where all that it sent is in the store."""
    link = LocalLink("local")
    publisher = await gateway.worlds.open_session("w", LiveOptions(role="publish"), link)
    publisher.on_message(frame(1, {1: b"a"}), 0.0)
    await until(lambda: gateway.worlds.hosts["w"].world.journal.empty)
    return link


def attempts(gateway: Gateway) -> int:
    """How many have a home to become, or need it to stay."""
    host = gateway.worlds.hosts["w"]
    return host.homing._users


async def comes_and_goes(gateway: Gateway, reached: asyncio.Event) -> None:
    """A publisher comes, and is refused once ``reached``."""
    coming = asyncio.ensure_future(gateway.worlds.open_session("w", TAKEOVER, LocalLink("local")))
    await reached.wait()
    coming.cancel()
    await asyncio.gather(coming, return_exceptions=True)


def stays(home: Gateway, link: LocalLink, other: WorldHost) -> None:
    assert home.worlds.hosts["w"].homing.held
    assert link.closed is None
    assert not other.homing.held


async def over(before: set[asyncio.Task[object]]) -> None:
    """Until whatever was begun since has ended."""
    begun = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    sessions = [task for task in begun if getattr(task.get_coro(), "__name__", "") == "_of"]
    await asyncio.gather(*sessions, return_exceptions=True)


@pytest.mark.usefixtures("at_once")
async def test_the_home_is_not_asked_for_a_publisher_that_was_refused_before(
    pair: tuple[Gateway, Gateway],
) -> None:
    a, b = pair
    link = await published(a)
    host = await b.worlds.host("w")
    home, before = host.homing.home, asyncio.all_tasks()
    look, reached, may_go_on = home.look, asyncio.Event(), asyncio.Event()

    async def slowly() -> Sign:
        reached.set()
        await may_go_on.wait()
        return await look()

    home.look = slowly  # type: ignore[method-assign]
    await comes_and_goes(b, reached)
    may_go_on.set()
    await over(before)
    stays(a, link, host)
    assert b.worlds.peers is not None
    assert b.worlds.peers.counts["asked_to_give_up"] == 0


@pytest.mark.usefixtures("at_once")
async def test_a_home_lets_nobody_go_for_a_gateway_that_waits_no_more(pair: tuple[Gateway, Gateway]) -> None:
    a, b = pair
    link = await published(a)
    at_home, host = a.worlds.hosts["w"], await b.worlds.host("w")
    before = asyncio.all_tasks()
    make_way, reached, ended = at_home.make_way, asyncio.Event(), asyncio.Event()
    asked: list[Callable[[], bool]] = []

    async def noted(options: LiveOptions, url: str, *more: Callable[[], bool]) -> None:
        asked.extend(more)
        reached.set()
        try:
            await make_way(options, url, *more)
        finally:
            ended.set()

    at_home.make_way = noted  # type: ignore[method-assign,assignment]
    async with at_home._attaching:
        await comes_and_goes(b, reached)
        await over(before)
        await until(lambda: not any(still_waits() for still_waits in asked))
    await ended.wait()
    stays(a, link, host)


@pytest.mark.usefixtures("at_once")
async def test_who_was_refused_takes_no_world_over(pair: tuple[Gateway, Gateway]) -> None:
    a, b = pair
    link = await published(a)
    host = await b.worlds.host("w")
    before = asyncio.all_tasks()
    reached = asyncio.Event()

    async with host.homing._changing:  # where another is just looking
        coming = asyncio.ensure_future(
            host.attach_publisher(TAKEOVER, LocalLink("local"), lambda: not reached.is_set())
        )
        await until(lambda: attempts(b) == 1)
        reached.set()
    with pytest.raises(StoreUnavailable):
        await coming
    await over(before)
    stays(a, link, host)


async def test_who_asks_again_finds_what_was_begun_and_the_home_is_asked_once(
    pair: tuple[Gateway, Gateway],
) -> None:
    """Begun anew by each who comes again it would take the longer, the more often it was refused."""
    a, b = pair
    link = await published(a)
    host = await b.worlds.host("w")
    home = host.homing.home
    look, reached, may_go_on = home.look, asyncio.Event(), asyncio.Event()

    async def slowly() -> Sign:
        reached.set()
        await may_go_on.wait()
        return await look()

    home.look = slowly  # type: ignore[method-assign]
    for _ in range(3):
        await comes_and_goes(b, reached)
    coming = asyncio.ensure_future(gateway_session(b))
    await asyncio.sleep(0)
    may_go_on.set()
    await coming
    assert host.homing.held
    assert link.closed is not None
    assert b.worlds.peers is not None
    assert b.worlds.peers.counts["asked_to_give_up"] == 1


async def gateway_session(gateway: Gateway) -> None:
    await gateway.worlds.open_session("w", TAKEOVER, LocalLink("local"))


async def test_who_asks_again_and_again_while_a_store_is_silent_is_held_once() -> None:
    together, may_end, asked = Together(), asyncio.Event(), list[Callable[[], bool]]()

    async def begin(wanted: Callable[[], bool]) -> None:
        asked.append(wanted)
        await may_end.wait()

    gone: list[weakref.ref[Callable[[], bool]]] = []
    for _ in range(20):

        def refused() -> bool:
            return False

        gone.append(weakref.ref(refused))
        waiting = asyncio.ensure_future(together.wait("claim", begin, refused))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    del refused, waiting
    gc.collect()
    assert len(asked) == 1
    assert sum(ref() is not None for ref in gone) <= 1
    may_end.set()
    await together.wait("claim", begin, lambda: True)
    assert len(asked) == 1
